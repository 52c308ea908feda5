"""Evidence for and against players, and what is odd about rounds."""

from __future__ import annotations

import pytest

from idiolect.game.trust import GOLD_RIGHT, GOLD_WRONG, START, answering_patterns, judging_patterns, of_gold
from idiolect.store.game.records import AnswerRow


def test_trust_begins_at_four_fifths():
    assert START.trust == 0.8


def test_a_wrong_verdict_on_gold_weighs_twice_and_unsure_nothing():
    earned = of_gold([("yes", "yes"), ("no", "no"), ("no", "yes"), ("unsure", "yes"), ("unsure", "no")])
    assert earned == GOLD_RIGHT * 2 + GOLD_WRONG
    assert (earned.a, earned.b) == (2, 2)
    assert (START + of_gold([("yes", "no")])).trust == pytest.approx(4 / 7)
    assert (START + of_gold([("yes", "no")] * 2)).trust == pytest.approx(4 / 9)


# -------------------------------------------------------------------------------------------------------------- patterns


@pytest.mark.parametrize(
    ("judged", "expected"),
    [
        ([("yes", 700)] * 10, ["constant"]), ([("yes", 700)] * 9, []), ([("no", 100)] * 10, ["constant", "fast"]),
        ([("yes", 700)] * 9 + [("no", 700)], []), ([("unsure", None)] * 10, ["constant"]),
        ([("yes", 299), ("no", 299)] * 3, ["fast"]), ([("yes", 300), ("no", 300)] * 3, []),
        ([("yes", 10), ("no", 10)] * 2, []), ([("yes", 10), ("no", 900), ("yes", 10), ("no", 900), ("no", 900)], []),
        ([("yes", None), ("no", None)] * 9, []), ([], []),
    ],
)  # fmt: skip
def test_patterns_of_judging(judged, expected):
    assert judging_patterns(judged) == expected


def answers(*keys: str, step_ms: int | None = 2000, **values) -> list[AnswerRow]:
    given = {"status": "accepted", "oov": False, "pasted": False, **values}
    return [
        AnswerRow(
            n, n, 2.0 * n, None if step_ms is None else step_ms * (n + 1), key, key, key, given["status"], given["oov"], False,
            given["pasted"], 0, 0, 0, 0,
        )
        for n, key in enumerate(keys)
    ]  # fmt: skip


MIXED = ("wheel", "axle", "seat", "bell", "tire", "cord")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answers(*MIXED), []), (answers(), []),
        (answers(*sorted(MIXED)), ["alphabetical"]), (answers(*sorted(MIXED)[:5]), []),
        (answers(*MIXED, step_ms=800), ["fast"]), (answers(*MIXED, step_ms=834), []), (answers(*MIXED[:4], step_ms=100), []),
        (answers(*MIXED, step_ms=800, pasted=True), ["pasted"]),
        (answers(*MIXED, step_ms=None), []),
        (answers(*MIXED[:4], oov=True), ["oov"]), (answers(*MIXED[:3], oov=True), []),
        (answers(*MIXED[:2], oov=True) + answers(*MIXED[2:4]), []),
        (answers(*MIXED[:3], oov=True) + answers(*MIXED[3:5]), ["oov"]),
        (answers(*sorted(MIXED), status="echo"), []),
    ],
)  # fmt: skip
def test_patterns_of_answering(given, expected):
    assert answering_patterns(given) == expected


def test_a_page_without_javascript_sends_everything_at_once_and_is_not_fast():
    at_once = [AnswerRow(n, n, 5.0, None, k, k, k, "accepted", False, False, False, 0, 0, 0, 0) for n, k in enumerate(MIXED)]
    assert answering_patterns(at_once) == []


def test_the_same_list_as_somebody_elses_is_marked():
    assert answering_patterns(answers(*MIXED), [("wheel",), MIXED]) == ["identical"]
    assert answering_patterns(answers(*MIXED), [tuple(sorted(MIXED)), MIXED[:5]]) == [], "the order is part of it"
    assert answering_patterns(answers(*MIXED[:5]), [MIXED[:5]]) == [], "short ones are alike by chance"
