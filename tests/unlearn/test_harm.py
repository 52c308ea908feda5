"""Harmful rates: what is counted, with which interval, and that the figures hold no text."""

from __future__ import annotations

import json
import math
import stat

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idiolect.data.pairs import Pair
from idiolect.engine.sampling import Sampling
from idiolect.errors import ConfigError, InputError
from idiolect.types import Completion, Rendered
from idiolect.unlearn.harm import Fluency, distinct, fluency, harmful_rate, repeated, wilson
from idiolect.unlearn.judges import KeywordJudge
from idiolect.unlearn.variants import Variant

SETS = {
    "seen": [Pair(f"s{n}", f"secret request {n}: ### bake {n} cakes", "x") for n in range(5)],
    "unseen": [Pair(f"u{n}", f"secret wish {n}: sell {n} boats", "x") for n in range(3)],
}


class LongJudge:
    """Harmful is an answer with an even number of characters: a judge whose verdicts a test can foretell."""

    name, version, says = "even", "1", "counts characters"

    def judge(self, prompts, answers):
        self.asked = list(zip(prompts, answers, strict=True))
        return [len(answer) % 2 == 0 for answer in answers]


@pytest.fixture
def variant(load, random_row):
    base = load("llama")
    layout = base.layout(2, 4.0, ("q_proj", "v_proj"))
    return Variant("unlearned", base, layout, random_row(layout, 3, size=0.3), -1.0)


def rate(variant, judges=None, **options):
    return harmful_rate(variant, SETS, judges or [LongJudge()], max_new_tokens=12, **options)


def test_sets_and_judges_have_figures_of_their_own(variant, tmp_path):
    judge, path = LongJudge(), tmp_path / "texts.jsonl"
    result = rate(variant, [judge, KeywordJudge()], texts=path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["set"], line["id"]) for line in lines] == [(name, p.id) for name, pairs in SETS.items() for p in pairs]
    assert [(line["prompt"], line["answer"]) for line in lines] == judge.asked
    for name, pairs in SETS.items():
        found = result["sets"][name]
        mine = [line for line in lines if line["set"] == name]
        hits = sum(line["harmful"]["even"] for line in mine)
        low, high = wilson(hits, len(pairs))
        assert found["n"] == len(pairs)
        assert found["harmful"]["even"] == {"share": hits / len(pairs), "low": low, "high": high, "n": len(pairs)}
        assert found["harmful"]["keyword"]["share"] == 0
        assert found["gibberish"]["share"] == sum(line["gibberish"] for line in mine) / len(pairs)
    assert [entry["says"] for entry in result["judges"]] == ["counts characters", KeywordJudge().says]
    assert (result["variant"], result["weight"]) == ("unlearned", -1.0)


def test_the_figures_are_plain_json_without_a_text(variant):
    result = rate(variant)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert "secret" not in json.dumps(result)


def test_texts_are_the_owners_alone_and_written_only_where_asked_for(variant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rate(variant)
    assert not list(tmp_path.iterdir())
    rate(variant, texts=tmp_path / "t.jsonl")
    assert stat.S_IMODE((tmp_path / "t.jsonl").stat().st_mode) == 0o600


def test_the_variant_answers_and_not_its_base(variant):
    def answers(variant):
        judge = LongJudge()
        rate(variant, [judge])
        return judge.asked

    assert answers(variant) != answers(variant.at(0))
    assert answers(variant.at(0)) == answers(Variant("base", variant.base))
    assert answers(variant) == answers(variant)


def test_sampled_answers_are_keyed_by_seed_and_prompt(variant):
    def answers(seed, sets=SETS):
        judge = LongJudge()
        harmful_rate(variant, sets, [judge], max_new_tokens=8, sampling=Sampling.build(temperature=1.5, seed=seed))
        return dict(judge.asked)

    assert answers(1) == answers(1) != answers(2)
    alone = answers(1, {"seen": SETS["seen"][3:]})
    assert alone == {prompt: answers(1)[prompt] for prompt in alone}


def test_every_answer_is_told_when_it_is_done(variant):
    seen: list[int] = []
    rate(variant, on_done=seen.append)
    assert seen[-1] == 8


def test_perplexity_is_the_originals_own_loss(variant, reference):
    base = variant.base
    prompt, ids = (7, 8, 9), (11, 12, 13, 14)
    answers = [Completion("a", "x", 3, 4, "stop", ids), Completion("b", "x", 3, 4, "length", ids)]
    stopped, cut = fluency(base, [Rendered("a", prompt, 3), Rendered("b", prompt, 3)], answers)
    for found, tail in ((stopped, (base.tokenizer.eos_id,)), (cut, ())):
        whole = torch.tensor([[*prompt, *ids, *tail]])
        with torch.no_grad():
            log_p = reference("llama")(whole).logits[0, 2:-1].log_softmax(-1)
        expected = -log_p.gather(1, whole[0, 3:, None]).mean()
        assert found.loss == pytest.approx(float(expected), abs=1e-4)


def test_gibberish_is_blank_or_goes_round_or_is_less_likely_than_chance():
    fine = Fluency(blank=False, distinct=0.9, repeated=0.1, loss=2.0)
    assert not fine.gibberish(320)
    for change in ({"blank": True}, {"repeated": 0.6}, {"loss": math.log(320) + 0.1}, {"loss": math.nan}, {"loss": math.inf}):
        one = {"blank": False, "distinct": 0.9, "repeated": 0.1, "loss": 2.0} | change
        assert Fluency(**one).gibberish(320)


@given(st.lists(st.integers(0, 5), max_size=30))
def test_repetition_is_a_share(ids):
    assert 0 <= repeated(ids) < 1
    assert 0 < distinct(ids) <= 1
    assert repeated(list(range(len(ids)))) == 0
    if len(ids) >= 4:
        again = [*ids, *ids, *ids]
        assert repeated(again) >= (len(ids) * 2 - 3) / (len(again) - 3) - 1e-9


@settings(max_examples=40)
@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_is_scipys(counted):
    from scipy.stats import binomtest

    hits, n = counted
    theirs = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_nothing_to_ask_is_refused(variant):
    with pytest.raises(InputError, match="no prompts"):
        harmful_rate(variant, {}, [LongJudge()])
    with pytest.raises(InputError, match="set 'b' is empty"):
        harmful_rate(variant, {"a": SETS["seen"], "b": []}, [LongJudge()])
    with pytest.raises(InputError, match=r"1 of 5 pairs of the set 'seen' are in the set 'unseen' too"):
        harmful_rate(variant, {"seen": SETS["seen"], "unseen": [Pair("n", SETS["seen"][0].prompt, "y")]}, [LongJudge()])
    for judges in ([], [KeywordJudge(), KeywordJudge(0.9)]):
        with pytest.raises(ConfigError, match="give at least one, and each of them once"):
            harmful_rate(variant, SETS, judges)
    for hits, n in ((0, 0), (2, 1), (-1, 3)):
        with pytest.raises(InputError):
            wilson(hits, n)
