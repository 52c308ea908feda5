"""The local engine: one batch for different people, equal to each of them alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from idiolect.config import ConfigError
from idiolect.data.tasks import get_task
from idiolect.engine.answers import Question, answer, median_label
from idiolect.engine.local import Engine, Request
from idiolect.engine.sampling import Sampler, Sampling
from idiolect.errors import AdapterNotFound, InputError
from idiolect.model.bank import Bank
from idiolect.model.files import to_record
from idiolect.types import Query

QV = ("q_proj", "v_proj")
TARGETS = {"gpt-neox": ("query_key_value", "dense")}
WARM = Sampling.build(temperature=1.0, top_k=50, top_p=0.95, seed=3)


def prompts(lengths, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.integers(5, 320, n).tolist() for n in lengths]


@pytest.fixture
def engine_with(load, random_row):
    """An engine whose bank holds ana, ben and cleo, of rank 2, and dora, of rank 3."""

    def make(family="llama", **options):
        base = load(family)
        bank = Bank(base.model.sites(), base.device)
        for seed, (name, rank) in enumerate({"ana": 2, "ben": 2, "cleo": 2, "dora": 3}.items()):
            layout = base.layout(rank, 2.0 * rank, TARGETS.get(family, QV))
            bank.put(name, layout, random_row(layout, seed, size=0.3))
        return Engine(base, bank, **options)

    return make


@pytest.mark.parametrize("family", ["llama", "llama-rope3", "mistral", "qwen2", "qwen3", "gemma2", "gpt-neox", "phi"])
def test_greedy_is_transformers_generate(load, reference, family):
    base, model = load(family), reference(family)
    given_prompts = prompts([5, 17, 9])
    done = Engine(base).generate([Request(str(i), ids, None, 12) for i, ids in enumerate(given_prompts)])
    for ids, completion in zip(given_prompts, done, strict=True):
        theirs = model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=12, do_sample=False, eos_token_id=4, pad_token_id=0,
        )[0, len(ids) :].tolist()  # fmt: skip
        stopped = 4 in theirs
        assert list(completion.ids) == (theirs[: theirs.index(4)] if stopped else theirs)
        assert completion.finish == ("stop" if stopped else "length")
        assert (completion.n_prompt, completion.n_answer) == (len(ids), len(completion.ids))


def test_greedy_stops_at_the_end_of_sequence(load, stories):
    from transformers import AutoModelForCausalLM

    from idiolect.model.base import load_base

    base = load_base(stories, device="cpu")
    model = AutoModelForCausalLM.from_pretrained(stories, dtype=torch.float32)
    ids = [base.tokenizer.bos_id, *base.tokenizer.encode("Once upon a time, Lily")]
    (done,) = Engine(base).generate([Request("q", ids, None, 60)])
    theirs = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=60, do_sample=False)
    assert list(done.ids) == theirs[0, len(ids) :].tolist()[: done.n_answer]
    assert done.n_answer >= 20
    assert "Lily" in done.text or "She" in done.text or "she" in done.text


@pytest.mark.parametrize("family", ["llama", "gpt-neox"])
@pytest.mark.parametrize("sampling", [None, WARM], ids=["greedy", "sampled"])
def test_a_mixed_batch_is_everybody_alone(engine_with, family, sampling):
    engine = engine_with(family)
    who = ["ana", None, "ben", "ana", "dora", "cleo", None, "dora"]
    options = {"sampling": sampling} if sampling else {}
    requests = [
        Request(f"r{i}", ids, name, 6 + i, **options)
        for i, (ids, name) in enumerate(zip(prompts([9, 9, 9, 20, 9, 5, 31, 12]), who, strict=True))
    ]
    requests[3] = Request("r3", requests[0].ids, "ana", 9, **options)
    together = engine.generate(requests)
    assert [c.id for c in together] == [r.id for r in requests]
    assert together == [engine.generate([r])[0] for r in requests]
    assert together == engine_with(family, max_rows=3, max_tokens=40).generate(requests)
    assert len({c.ids for c in together}) >= 7


def test_the_adapter_matters(engine_with):
    engine = engine_with()
    ids = prompts([12])[0]
    done = engine.generate([Request(str(n), ids, n, 12) for n in ("ana", "ben", "dora", None)])
    assert len({c.ids for c in done}) == 4


def test_another_person_before_leaves_nothing_behind(engine_with, load):
    ids = prompts([12])[0]
    used, fresh = engine_with(), engine_with()
    for name in ("ana", "dora", "ben"):
        used.generate([Request("q", ids, name, 12)])
    assert used.generate([Request("q", ids, "cleo", 12)]) == fresh.generate([Request("q", ids, "cleo", 12)])
    used.bank.drop("cleo")
    bare = Engine(load("llama")).generate([Request("q", ids, None, 12)])
    assert used.generate([Request("q", ids, None, 12)]) == bare
    with pytest.raises(AdapterNotFound):
        used.generate([Request("q", ids, "cleo", 12)])


def test_more_people_than_the_bank_holds(load, random_row, tmp_path):
    base = load("llama")
    layout = base.layout(2, 4.0, QV)
    for i in range(7):
        (tmp_path / f"p{i}").write_bytes(to_record(layout, random_row(layout, i, 0.3)))
    ids = prompts([9] * 14)
    requests = [Request(f"r{i}", ids[i], f"p{i % 7}", 5) for i in range(14)] + [Request("none", ids[0], None, 5)]
    small, large = (Engine(base, Bank(base.model.sites(), base.device, find=tmp_path.joinpath, capacity=n)) for n in (2, 20))
    assert small.generate(requests) == large.generate(requests)
    assert len(small.bank) == 2


# ----------------------------------------------------------------------------------------------------------- sampling


def test_sampling_follows_its_seed(engine_with):
    engine, ids = engine_with(), prompts([12])[0]

    def ask(seed, key="q"):
        return engine.generate([Request(key, ids, "ana", 20, WARM.but(seed=seed))])[0].ids

    assert ask(1) == ask(1)
    assert len({ask(1), ask(2), ask(3), ask(1, "other")}) == 4


def test_sampling_keeps_to_top_k_and_top_p():
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.04, 0.01]))
    cases = {
        (0, 1.0): {0, 1, 2, 3, 4},
        (2, 1.0): {0, 1},
        (0, 0.79): {0, 1},
        (0, 0.81): {0, 1, 2},
        (0, 0.1): {0},
        (9, 0.9): {0, 1, 2},
    }
    for (k, p), allowed in cases.items():
        sampler = Sampler(Sampling.build(temperature=1.0, top_k=k, top_p=p), "q")
        assert {sampler.choose(logits) for _ in range(600)} == allowed
    sampler = Sampler(Sampling.build(temperature=1.0), "q")
    drawn = np.bincount([sampler.choose(logits) for _ in range(2000)], minlength=5) / 2000
    assert np.abs(drawn - [0.5, 0.3, 0.15, 0.04, 0.01]).max() < 0.05


def test_settings_that_cannot_be():
    with pytest.raises(ConfigError, match=r"temperature.*top_p"):
        Sampling.build(temperature=-1, top_p=0)


# ------------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt-neox"])
def test_label_scores_are_those_of_a_plain_forward_pass(engine_with, load, reference, family):
    engine, model = engine_with(family), reference(family)
    labels, ids = ["1", "1 of 5", "sea"], [[40, 4], [40, 41, 42, 4], [77, 78, 4]]
    asked = prompts([7, 19, 12])
    done = engine.choose([Request(str(i), p) for i, p in enumerate(asked)], labels, ids)
    for prompt, completion in zip(asked, done, strict=True):
        for label, score in zip(ids, completion.scores, strict=True):
            with torch.no_grad():
                log_p = model(torch.tensor([prompt + label])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            expected = log_p[torch.arange(len(label)), torch.tensor(label)].sum().item()
            assert score == pytest.approx(expected, abs=2e-4)
        best = max(range(3), key=completion.scores.__getitem__)
        assert (completion.text, completion.finish) == (labels[best], "stop")


@pytest.mark.parametrize("family", ["llama", "gpt-neox"])
def test_choosing_in_a_mixed_batch_is_choosing_alone(engine_with, family):
    engine = engine_with(family)
    labels, ids = ["a", "b", "c"], [[40, 4], [40, 41, 4], [99, 98, 97, 4]]
    names = ["ana", None, "ben", "dora", "ana"]
    requests = [Request(f"r{i}", p, n) for i, (p, n) in enumerate(zip(prompts([9, 30, 9, 4, 16]), names, strict=True))]
    together = engine.choose(requests, labels, ids)
    for request, completion in zip(requests, together, strict=True):
        (one,) = engine.choose([request], labels, ids)
        assert completion.text == one.text
        assert completion.scores == pytest.approx(one.scores, abs=1e-4)
    plain = Engine(engine.base).choose([Request("p", requests[0].ids)], labels, ids)[0]
    assert plain.scores != pytest.approx(together[0].scores, abs=1e-2)


def test_labels_of_one_token(engine_with):
    done = engine_with().choose([Request("q", [7, 8, 9], "ana")], ["x", "y"], [[40], [50]])
    assert len(done[0].scores) == 2


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda w: sum(w) > 0.01))
def test_the_median_has_the_least_expected_error(weights):
    log_p = [math.log(w) if w > 0 else -math.inf for w in weights]
    cost = [sum(w * abs(i - j) for j, w in enumerate(weights)) for i in range(len(weights))]
    assert cost[median_label(log_p)] == pytest.approx(min(cost), abs=1e-9)


def test_ratings_are_answered_with_the_median(load, monkeypatch):
    task = get_task("LaMP-3")
    scores = [math.log(p) for p in (0.4, 0.05, 0.1, 0.15, 0.3)]
    base = load("llama")
    monkeypatch.setattr(type(base.model), "score", lambda self, state, first, forest: torch.tensor([scores]))
    example = task.example_from_query(Query("q", task.query_input("a quiet film")))
    assert answer(Engine(base), task, [Question("q", example)], 300)["q"].text == "3"


@pytest.mark.parametrize("name", ["LaMP-2N", "LaMP-3", "LaMP-4"])
def test_answers_of_every_kind_of_task(load, name):
    task, base = get_task(name), load("llama", chat=True)
    asked = [Question(f"q{i}", task.example_from_query(Query("q", task.query_input(f"the sea {i}")))) for i in range(3)]
    seen = []
    done = answer(Engine(base, max_rows=2), task, asked, 400, on_done=seen.append)
    assert list(done) == ["q0", "q1", "q2"]
    assert seen == [2, 3]
    if task.labels:
        assert {c.text for c in done.values()} <= set(task.labels)
        free = answer(Engine(base), task, asked, 400, free=True, max_new_tokens=5)
        assert all(c.n_answer <= 5 and not c.scores for c in free.values())
    else:
        assert all(c.n_answer <= task.max_new_tokens for c in done.values())


# ------------------------------------------------------------------------------------------------------------- limits


def test_what_does_not_fit_into_the_context_is_refused(engine_with):
    engine = engine_with()
    assert engine.generate([Request("q", [7] * 500, "ana", 12)], ignore_eos=True)[0].n_answer == 12
    with pytest.raises(InputError, match=r"'q': 500 prompt tokens and 13 new ones exceed the 512"):
        engine.generate([Request("q", [7] * 500, "ana", 13)])
    with pytest.raises(InputError, match="exceed the 512"):
        engine.choose([Request("q", [7] * 510)], ["a"], [[40, 41, 4]])
    with pytest.raises(InputError, match="empty prompt"):
        engine.generate([Request("q", [])])


def test_nothing_asked_and_nothing_wanted(engine_with):
    engine = engine_with()
    assert engine.generate([]) == []
    assert engine.choose([], ["a"], [[40, 4]]) == []
    (done,) = engine.generate([Request("q", [7, 8], None, 0)])
    assert (done.ids, done.finish) == ((), "length")


def test_every_request_has_its_own_limit(engine_with):
    limits = [1, 40, 3, 3, 12, 2, 1, 7]
    done = engine_with().generate(
        [Request(str(i), p, "ana", n) for i, (p, n) in enumerate(zip(prompts([9] * 8), limits, strict=True))], ignore_eos=True
    )
    assert [c.n_answer for c in done] == limits
