"""Studies of portraits: simulated players play by a clock of their own, are drawn, and leave a report of figures only."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from idiolect.config import preset
from idiolect.errors import IdiolectError, InputError
from idiolect.game.histories import Histories, n_counted
from idiolect.game.retest import Retest
from idiolect.game.rules import RETEST_S
from idiolect.model.base import load_base
from idiolect.portraits import drawing, measuring
from idiolect.portraits.drawing import Settings
from idiolect.portraits.study import Found, Plan, Season, run, words_of
from idiolect.portraits.study_report import markdown, summarize, write
from idiolect.portraits.teachers import half, teachers
from idiolect.store.store import Store

TINY = Plan(teachers=1, subjects=2, rounds=20, judge_rounds=1, seeds=(2,), kinds=("honest", "stylised"), words=8)
QUICK = Settings(k=1, max_examples=16, user=preset("default", "user").but(epochs=1))
ABOUT: dict[str, Any] = {
    "base": "random", "command": "idiolect game study", "hardware": {"cpu": "some"}, "versions": {"python": "3"}, "settings": {}
}  # fmt: skip


def silent(title: str, total: int) -> Any:
    return lambda done, remark, left_s: None


@pytest.fixture(scope="module")
def season(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Season]:
    """One that was played."""
    with Store.open(tmp_path_factory.mktemp("season") / "store") as store:
        season = Season(store, TINY, 2)
        season.play(lambda done, remark, left_s: None)
        yield season


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study") / "stores"


@pytest.fixture(scope="module")
def found(stores: Path, base_folder: Any) -> Found:
    """A whole study, with so few items that its limits are lowered."""
    base = load_base(base_folder("llama"), device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "NEEDED", 10)
        patch.setattr(measuring, "MIN_TRAIN", 4)
        patch.setattr(measuring, "MIN_TEST", 1)
        return run(base, TINY, stores, silent, QUICK)


def subject(number: int, after: float, *, kind: str = "stylised", task: str = "NYM-3", offered: bool = False) -> dict[str, Any]:
    scores = {"population": 0.2, "before": 0.1, "after": after}
    one = {"n_train": 40, "n_test": 10, "scores": scores, "chance": 0.0, "offered": offered, "trained": True}
    return {
        "seed": 0, "subject": number, "kind": kind, "n_items": 50, "n_rounds": 50, "trained": True, "offered": offered,
        "personal": after, "population": 0.2, "n_teachers": 5, "tasks": {task: one}, "seconds": 1.0,
    }  # fmt: skip


# -- play ----------------------------------------------------------------------------------------------------------


def test_everybody_plays_all_rounds_in_the_open(season: Season) -> None:
    for seat in season.seats:
        with season.game.books.read() as books:
            played = [row.round for row in books.played_rounds(seat.key)]
        assert len(played) == TINY.rounds
        assert Counter(row.relation for row in played) == dict.fromkeys(("syn", "ant", "hypo", "mero"), 5)
        assert all(row.close_reason == "finished" for row in played)
        assert all((row.started_at or 0) < (row.closed_at or 0) <= (row.deadline_at or 0) for row in played)
        assert Counter(e["task"] for e in season.game.histories.events(seat.key))["NYM-1"] > 3


def test_subjects_are_taught_by_the_other_half(season: Season) -> None:
    teacher, subject, _ = season.seats
    assert half(teacher.player) != half(subject.player)
    chosen = teachers(season.game.books, season.game.histories, subject.player, season.now)
    assert chosen.simulated
    assert [person.id for person in chosen.people] == [f"sim-{teacher.player}"]
    assert len(chosen.people[0].history) == len(season.game.histories.events(teacher.key))  # nothing is too new to teach


def test_the_same_seed_plays_the_same(season: Season, found: Found, stores: Path) -> None:
    with Store.open(stores / "seed-2") as store:
        again = Histories(store.game, words_of(TINY.words))
        for seat in season.seats:
            assert again.events(seat.key) == season.game.histories.events(seat.key)
            assert n_counted(again.events(seat.key)) >= 20


def test_words_come_back_after_a_week_and_are_told_by_kind(season: Season) -> None:
    retests = season.retests()
    seats = {seat.player: seat for seat in season.seats}
    assert retests
    for kind, one in retests:
        seat = seats[one.player]
        assert seat.mind.kind == kind
        with season.game.books.read() as books:
            at = [row.round.closed_at or 0 for row in books.played_rounds(seat.key) if row.prompt == one.prompt]
        assert max(at) - min(at) >= RETEST_S


def test_only_the_first_words_are_in_the_game() -> None:
    words = words_of(8)
    assert [len(words.of(relation)) for relation in ("syn", "ant", "hypo", "mero")] == [8] * 4
    assert set(words.seeds) == set(words.words)


# -- drawn ---------------------------------------------------------------------------------------------------------


def test_portraits_are_figures_without_words(season: Season, found: Found) -> None:
    one, other = found.subjects
    assert (one["seed"], one["subject"], one["kind"], one["n_teachers"]) == (2, 1, "honest", 1)
    assert (other["subject"], other["kind"]) == (2, "stylised")
    assert one["n_items"] == n_counted(season.game.histories.events(season.seats[1].key))
    lists = one["tasks"]["NYM-3"]
    assert lists["trained"]
    assert set(lists["scores"]) == {"population", "before", "after"}
    assert lists["offered"] is (lists["over_population"]["delta"] > 0 and lists["over_before"]["delta"] > 0)
    text = json.dumps(found.subjects)
    assert all(seat.player not in text for seat in season.seats)
    given = {key for e in season.game.histories.events(season.seats[1].key) if e["task"] == "NYM-3" for key in e["output"]}
    assert not [key for key in given if f'"{key}"' in text]


def test_a_report_is_left_whole(found: Found, tmp_path: Path) -> None:
    results = write(found, TINY, tmp_path / "out", ABOUT)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.md", "results.json"]
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
    assert (results["n_subjects"], results["n_trained"]) == (2, 2)
    assert results["tasks"]["NYM-3"]["n_test"] == sum(one["tasks"]["NYM-3"]["n_test"] for one in found.subjects) > 0
    assert results["retest"]["honest"]["n_pairs"] == len(found.retests)
    assert results["settings"]["seeds"] == results["seeds"] == [2]
    assert (tmp_path / "out" / "report.md").read_text().startswith(f"# {results['verdict']}\n")


# -- figures -------------------------------------------------------------------------------------------------------


def test_differences_are_paired_over_subjects() -> None:
    found = Found((subject(1, 0.3), subject(2, 0.2), subject(3, 0.4)), (), 1.0)
    task = summarize(found, TINY, ABOUT)["tasks"]["NYM-3"]
    assert task["scores"]["after"] == {"mean": 0.3, "sd": 0.1, "least": 0.2, "greatest": 0.4}
    assert (task["over_population"]["delta"], task["over_before"]["delta"]) == (0.1, 0.2)
    assert task["over_population"]["low"] == 0.0  # every subject drawn is the second one
    assert task["over_population"]["high"] == 0.2
    assert task["over_before"]["p"] == 0.25  # of eight sign patterns, two are as far out
    assert (task["n_subjects"], task["n_test"], task["n_train"]) == (3, 30, 120)


def test_the_verdict_says_what_was_offered() -> None:
    none = summarize(Found((subject(1, 0.1), subject(2, 0.1)), (), 1.0), TINY, ABOUT)
    assert none["verdict"].startswith("No adapter was offered: for none of 2")
    lucky = [subject(1, 0.1), subject(2, 0.3, offered=True), subject(3, 0.1, kind="honest")]
    some = summarize(Found(tuple(lucky), (), 1.0), TINY, ABOUT)
    assert some["verdict"].startswith("An adapter was offered to 1 of 3 simulated players (NYM-3 1 of 3); on average")
    assert some["verdict"].endswith("in no task")
    assert some["kinds"] == {
        "stylised": {"n_subjects": 2, "n_trained": 2, "n_offered": 1},
        "honest": {"n_subjects": 1, "n_trained": 1, "n_offered": 0},
    }
    clear = summarize(Found((subject(1, 0.3, offered=True), subject(2, 0.4, offered=True)), (), 1.0), TINY, ABOUT)
    assert clear["verdict"].endswith("the shared adapter in NYM-3")
    untrained = {**subject(1, 0.3), "trained": False, "tasks": {}}
    assert summarize(Found((untrained,), (), 1.0), TINY, ABOUT)["verdict"].startswith("No adapter was trained")


def test_the_report_shows_every_subject_and_each_kind() -> None:
    untrained = subject(2, 0.1, kind="honest", task="NYM-1")
    untrained["tasks"]["NYM-1"] = {"scores": {"population": 0.5, "before": 0.4}, "trained": False, "offered": False}
    retests = [("honest", Retest(f"p{n}", "mero:bicycle", "classic", 0.5, 0.2 + n / 10)) for n in range(2)]
    text = markdown(summarize(Found((subject(1, 0.3, offered=True), untrained), tuple(retests), 1.0), TINY, ABOUT))
    assert "| 0/1 | stylised | 50 | – | – | 0.20 / 0.10 / 0.30 * | yes | 1 |" in text
    assert "| 0/2 | honest | 50 | 0.50 / 0.40 / – | – | – | no | 1 |" in text
    assert "| honest | 2 | 2 | 0.500 | 0.250 | +0.250 [+0.200, +0.300] | yes |" in text
    assert "idiolect game study" in text


# -- asking for it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kinds": ("stylised", "saint")}, "'saint' is not known"),
        ({"kinds": ()}, "no kind is given"),
        ({"subjects": 0}, "subjects 0 is too few; give 1"),
        ({"teachers": 0}, "teachers 0 is too few"),
        ({"rounds": 19}, "rounds 19 is too few; give 20"),
        ({"judge_rounds": -1}, "judge-rounds -1 is too few"),
        ({"words": 14}, "words 14 is too few for 60 rounds of each; give 15"),
        ({"seeds": (1, 1)}, "seeds must be given, each once"),
    ],
)
def test_a_plan_that_cannot_be_played_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    base: Any = None
    with pytest.raises(InputError, match=said):
        run(base, Plan(**changes), tmp_path / "stores", silent)
    assert not (tmp_path / "stores").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kinds", "saint"], "kind 'saint' is not known"),
        (["--subjects", "0"], "subjects 0 is too few"),
        (["--seeds", "one"], "seeds 'one' are not numbers"),
        (["--out", "taken"], "'taken' exists"),
        (["--out", "file/report"], "'file' is a file"),
        (["--store", "taken"], "choose another --store"),
        (["--store", "postgresql://somewhere/idiolect"], "not a database"),
    ],
)
def test_the_command_says_what_is_wrong_before_any_work(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from idiolect.cli.portraits_study import study

    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "file").write_text("")
    app = typer.Typer()
    app.command()(study)
    given = arguments if "--out" in arguments else ["--out", "new", *arguments]
    result = CliRunner().invoke(app, given)
    assert isinstance(result.exception, IdiolectError)
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "new").exists()
