"""The loop of unlearning: what it sees, in which order, and that every run is what it would be alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from idiolect.data.pairs import Pair
from idiolect.errors import ConfigError, EmptyHistory, FileFormatError, InputError
from idiolect.pieces.scoring import example_losses
from idiolect.train.schedule import learning_rates
from idiolect.train.trainer import Finished, Job, train
from idiolect.types import Rendered
from idiolect.unlearn import acquire as acquire_module
from idiolect.unlearn.acquire import acquire, targets_of
from idiolect.unlearn.config import METHODS, Unlearning, unlearning
from idiolect.unlearn.loss import divergence, npo_slope, simnpo_slope
from idiolect.unlearn.material import Entry, Foreign, Material, forget_rows, normal_rows
from idiolect.unlearn.methods import Schedule
from idiolect.unlearn.rendering import render_pairs
from idiolect.unlearn.variants import Variant


def entries(n, seed, name="f", answers=None):
    draw = np.random.default_rng(seed)
    found = []
    for i in range(n):
        prompt, answer = draw.integers(5, 320, int(draw.integers(4, 12))), draw.integers(5, 320, int(draw.integers(2, 6)))
        example = Rendered(f"{name}{i}", (*prompt.tolist(), *answer.tolist(), 4), len(prompt))
        found.append(Entry(example, f"question {name}{i}", f"answer {name}{i if answers is None else i % answers}"))
    return tuple(found)


@pytest.fixture(scope="module")
def material():
    return Material(entries(7, 1), entries(9, 2, "n"))


@pytest.fixture(scope="module", params=["lean", "general"])
def exact(load, request):
    return load("llama", dtype="float64", lean=request.param == "lean")


@pytest.fixture(scope="module")
def lean(load):
    return load("llama", dtype="float64")


def small(method="sku", **given):
    return unlearning(method, **({"rank": 3, "alpha": 6.0, "steps": 4, "batch_size": 3, "rd_k": 2} | given))


# -------------------------------------------------------------------------------------------------------- what is learnt


@pytest.mark.parametrize("chat", [True, False])
def test_what_is_learnt_is_the_answer_and_its_end(load, chat):
    base = load("llama", chat=chat)
    prompts = ["Who is ana?", "### Question: what? ### Answer: no ###", "very " * 400 + "long?"]
    pairs = [Pair(f"p{i}", prompt, "a cookbook") for i, prompt in enumerate(prompts)]
    said = "a cookbook" if chat else " a cookbook"
    for row in render_pairs(base, pairs, max_tokens=128):
        assert row.ids[row.n_prompt :] == (*base.tokenizer.encode(said), base.tokenizer.eos_id)
        assert len(row.ids) <= 128


# ------------------------------------------------------------------------------------------------------------- isolation


def test_runs_side_by_side_are_what_each_is_alone(exact, material):
    runs = [small(method, seed=seed, learning_rate=2e-3) for seed in (0, 1) for method in METHODS]
    together = acquire(exact, material, runs)
    for config, done in zip(runs, together, strict=True):
        (alone,) = acquire(exact, material, [config])
        scale = alone.row.abs().max()
        assert (done.row - alone.row).abs().max() <= 1e-12 * scale, config.method
        assert done.log[-1].losses == pytest.approx(alone.log[-1].losses, rel=1e-10)


def test_passes_of_any_size_give_the_same(lean, material):
    whole, parts = (acquire(lean, material, [small(token_budget=budget)])[0] for budget in (10_000, 24))
    assert (whole.row - parts.row).abs().max() <= 1e-12 * whole.row.abs().max()


def test_base_stays_as_it_is(lean, material):
    before = [layer.qkv.clone() for layer in lean.model.layers]
    acquire(lean, material, [small()])
    assert all(torch.equal(layer.qkv, kept) for layer, kept in zip(lean.model.layers, before, strict=True))


# ---------------------------------------------------------------------------------------------------------------- order


@given(n=st.integers(1, 30), size=st.integers(1, 9), seed=st.integers(0, 99))
def test_every_forget_row_comes_before_any_comes_again(n, size, seed):
    rows = entries(n, 0)
    seen: Counter[str] = Counter()
    for step in range(3 * n // size + 2):
        for epoch, entry in forget_rows(rows, seed, step, size):
            assert seen[entry.id] == epoch
            seen[entry.id] += 1
    assert max(seen.values()) - min(seen[entry.id] for entry in rows) <= 1


def test_normal_rows_depend_on_seed_and_step_alone():
    rows = entries(9, 2)
    assert normal_rows(rows, 0, 3, 5) == normal_rows(rows, 0, 3, 5)
    assert normal_rows(rows, 0, 3, 50) != normal_rows(rows, 1, 3, 50) != normal_rows(rows, 1, 4, 50)


def test_steps_are_as_many_as_asked_for_and_the_rate_ends_at_zero(lean, material):
    for steps in (1, 5):
        (done,) = acquire(lean, material, [small(steps=steps)])
        assert (done.steps, len(done.log)) == (steps, steps)
        config = small(steps=steps).training(("q_proj",))
        at = torch.tensor([0, steps]), torch.tensor([steps, steps])
        first, last = learning_rates(*at, config).tolist()
        assert (first, last) == (pytest.approx(1e-3), 0.0)


# ------------------------------------------------------------------------------------------------------ foreign answers


@given(k=st.integers(1, 8), n=st.integers(2, 12), answers=st.integers(2, 12), epoch=st.integers(0, 3), seed=st.integers(0, 9))
def test_foreign_answers_are_distinct_and_never_the_questions_own(k, n, answers, epoch, seed):
    rows = entries(n, 5, answers=answers)
    foreign = Foreign(rows, rows, k, 512)
    by_ids = {entry.answer_ids: entry.answer for entry in rows}
    for entry in rows:
        drawn = [by_ids[ids] for ids in foreign.per_row(entry, seed, epoch)]
        assert len(set(drawn)) == len(drawn) == min(k, min(n, answers) - 1)
        assert entry.answer not in drawn
        assert foreign.per_row(entry, seed, epoch) == foreign.per_row(entry, seed, epoch)


def test_all_answers_recorded_for_a_question_are_its_own():
    first, second, third = entries(3, 5)
    same = replace(second, question=first.question)
    foreign = Foreign((first, same, third), (first, same, third), 5, 512)
    assert foreign.per_row(first, 0, 0) == [third.answer_ids] == foreign.per_row(same, 0, 0)


def test_answers_drawn_for_a_row_do_not_depend_on_the_batch():
    rows = entries(8, 5)
    assert Foreign(rows, rows, 3, 512).per_row(rows[2], 0, 1) == Foreign(rows, rows[2:4], 3, 512).per_row(rows[2], 0, 1)


def test_one_draw_can_serve_a_batch():
    rows = entries(8, 5)
    drawn = Foreign(rows, rows, 3, 512).per_batch(rows[:2], 0, 4)
    assert drawn[0] == drawn[1]
    assert not {rows[0].answer_ids, rows[1].answer_ids} & set(drawn[0])


def test_an_answer_that_does_not_fit_is_not_drawn():
    rows = entries(4, 5)
    most = max(len(entry.prompt_ids) for entry in rows) + 2
    for entry in rows:
        assert all(len(entry.prompt_ids) + len(ids) <= most for ids in Foreign(rows, rows, 5, most).per_row(entry, 0, 0))


def test_foreign_answers_can_be_the_retain_sets(material):
    run = Schedule(small(rd_pool="retain"), material, 512)
    kept = {entry.answer_ids for entry in material.retain}
    rows = run.foreign(0)
    assert rows
    assert all(row.ids[row.n_prompt :] in kept for row in rows)


# ----------------------------------------------------------------------------------------------------------- divergence


def hidden_pair(seed, m=6, d=8, v=20, size=1.0):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=draw, dtype=torch.float64) * size for shape in ((m, d), (m, d), (v, d))]


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("away", [True, False])
def test_divergence_and_its_gradient_are_those_of_autograd(softcap, away):
    hidden, frozen, head = hidden_pair(0)
    hidden.requires_grad_()
    weights = torch.rand(len(hidden), dtype=torch.float64)

    def logits(x):
        z = x @ head.t()
        return z if softcap is None else torch.tanh(z / softcap) * softcap

    p, q = logits(frozen).log_softmax(-1), logits(hidden).log_softmax(-1)
    kl = torch.nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1)
    ((-kl if away else kl) * weights).sum().backward()
    found, gradient = divergence(hidden.detach(), frozen, head, weights, away=away, softcap=softcap)
    assert torch.allclose(found, kl.detach(), atol=1e-12)
    assert torch.allclose(gradient, hidden.grad, atol=1e-12)


def test_nothing_moves_at_the_frozen_model():
    hidden, _, head = hidden_pair(1)
    kl, gradient = divergence(hidden, hidden.clone(), head, torch.ones(len(hidden)), away=True)
    assert kl.abs().max() < 1e-12
    assert gradient.abs().max() < 1e-12


def test_beyond_the_cap_divergence_is_not_rewarded():
    hidden, frozen, head = hidden_pair(2, size=2.0)
    kl, free = divergence(hidden, frozen, head, torch.ones(len(hidden)), away=True)
    cap = float(kl.median())
    _, gradient = divergence(hidden, frozen, head, torch.ones(len(hidden)), away=True, cap=cap)
    assert torch.equal(gradient[kl >= cap], torch.zeros_like(gradient[kl >= cap]))
    assert torch.equal(gradient[kl < cap], free[kl < cap])
    assert bool((kl < cap).any())
    assert bool((kl >= cap).any())


def test_extreme_logits_in_half_precision_stay_finite():
    hidden, frozen, head = (x.to(torch.bfloat16) for x in hidden_pair(3, size=300.0))
    kl, gradient = divergence(hidden, frozen, head, torch.ones(len(hidden)), away=True, cap=5.0)
    assert kl.dtype == torch.float32
    assert bool(kl.isfinite().all())
    assert bool(gradient.isfinite().all())


def _kl(base, done, entries):
    """Mean divergence per answer token from the base alone, nats."""
    from idiolect.data.batch import Row, pack

    batch = pack([Row(0, 0, 1.0, entry.example) for entry in entries])
    plan = base.model.plan(batch)
    with torch.no_grad():
        frozen = base.model.hidden(plan, None)
        moved = base.model.hidden(plan, Variant("", base, done.layout, done.row).adapters)
    weights = torch.ones(len(frozen), dtype=frozen.dtype)
    return float(divergence(moved, frozen, base.model.head, weights, away=True)[0].mean())


def test_preservation_divergence_goes_where_its_mode_says(lean, material):
    modes = {
        mode: acquire(lean, material, [small(steps=40, pd_mode=mode, pd_weight=20.0, learning_rate=3e-3)])[0]
        for mode in ("diverge", "off", "preserve")
    }
    away, none, stay = (_kl(lean, modes[mode], material.retain) for mode in ("diverge", "off", "preserve"))
    assert away > 1.2 * none
    assert stay < 0.8 * none
    assert "pd" not in modes["off"].log[0].losses


def test_first_step_of_divergence_has_no_gradient(lean, material):
    (done,) = acquire(lean, material, [small(steps=2)])
    assert done.log[0].norms["pd"] < 1e-12
    assert done.log[1].norms["pd"] > 1e-9
    assert done.log[1].cosine is not None


# ------------------------------------------------------------------------------------------------------- whole answers


@pytest.mark.parametrize("which", ["npo", "simnpo"])
def test_slopes_of_whole_answers_are_those_of_autograd(which):
    nll = torch.tensor([0.5, 7.0, 40.0], dtype=torch.float64, requires_grad=True)
    frozen, lengths = torch.tensor([1.0, 7.0, 3.0]).double(), torch.tensor([2.0, 3.0, 9.0]).double()
    if which == "npo":
        value, slope = npo_slope(nll, frozen, 0.1)
        expected = -(2 / 0.1) * torch.log(torch.sigmoid(-0.1 * (-nll + frozen)))
    else:
        value, slope = simnpo_slope(nll, lengths, 4.5, 0.3)
        expected = -(2 / 4.5) * torch.log(torch.sigmoid(4.5 * (nll / lengths - 0.3)))
    expected.sum().backward()
    assert torch.allclose(value, expected)
    assert torch.allclose(slope, nll.grad)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_moves_what_it_is_for(lean, material, method):
    """Forget rows cost more after it (finetune only hopes), by the weight that the method's result has."""
    # A random base finds every answer unlikely already, which SimNPO's own β takes for forgotten.
    more = {"beta": 0.05, "gamma": 1.0, "retain_weight": 0.1} if method == "simnpo" else {}
    config = small(method, steps=12, learning_rate=2e-3, **more)
    (done,) = acquire(lean, material, [config])
    asked = [(0, entry.example) for entry in material.forget]
    before = example_losses(lean, None, asked).mean()
    after = example_losses(lean, Variant("", lean, done.layout, done.row, config.weight).adapters, asked).mean()
    assert after != pytest.approx(before, rel=1e-6)
    if method != "finetune":
        assert after > before


# --------------------------------------------------------------------------------------------------------- equivalences


def test_sku_of_one_term_is_the_task_vector(lean, material):
    (one,) = acquire(lean, material, [small(rd_weight=0.0, pd_weight=0.0, learning_rate=3e-3)])
    (other,) = acquire(lean, material, [small("task-vector", learning_rate=3e-3)])
    assert torch.equal(one.row, other.row)


def test_what_is_acquired_is_what_ordinary_training_learns(exact, material):
    """One batch of everything, mean over tokens: the same adapter as the trainer's, so that λ = -1 is plain fine-tuning."""
    n = len(material.forget)
    config = small("task-vector", batch_size=n, reduction="token_mean", gd_weight=1.0, learning_rate=2e-3, seed=5)
    (done,) = acquire(exact, material, [config])
    finished: list[Finished] = []
    examples = [entry.example for entry in material.forget]
    train(exact, [Job("whoever", examples)], config.training(targets_of(exact, config)), finished.append)
    assert (done.row - finished[0].row).abs().max() <= 1e-9 * done.row.abs().max()
    assert config.but(strength=-1.0).weight == 1.0


def test_a_means_order_of_rows_and_tokens_differ(lean, material):
    rows, tokens = (acquire(lean, material, [small(reduction=how)])[0] for how in ("row_mean", "token_mean"))
    assert not torch.allclose(rows.row, tokens.row)


# ---------------------------------------------------------------------------------------------------- the reference code


def test_reference_defects_are_reproduced_where_asked_for(material):
    bugs = Schedule(small(reference_bugs=True, steps=4), material, 512)
    right = Schedule(small(steps=4), material, 512)
    # One pass is the shorter set's; whole passes are made (defect 8), over the same first rows (defect 9).
    assert (bugs.n_steps, right.n_steps) == (6, 4)
    assert [entry.id for _, entry in bugs.forget(0)] == [entry.id for _, entry in bugs.forget(3)] == ["f0", "f1", "f2"]
    # A row's mean is divided by one token too many (defect 5).
    gd, rd = (next(t for t in bugs.terms(0) if t.name == name) for name in ("gd", "rd"))
    plain = replace(gd, extra=0)
    for row, wrong, exact in zip(gd.rows, gd.token_weights("row_mean"), plain.token_weights("row_mean"), strict=True):
        assert wrong == pytest.approx(exact * row.n_answer / (row.n_answer + 1))
    # Foreign answers are learnt from the third token on, the question included (defect 1); one draw per batch (10).
    assert {row.n_prompt for row in rd.rows} == {2}
    assert [row.ids[-3:] for row in rd.rows[:2]] == [row.ids[-3:] for row in rd.rows[2:4]]
    drawn = {ids for step in range(40) for ids in bugs._foreign.as_released(0, step)}
    assert material.forget[0].answer_ids in drawn


def test_reference_defects_belong_to_sku():
    with pytest.raises(ConfigError, match="reference_bugs"):
        unlearning("npo", reference_bugs=True)


# --------------------------------------------------------------------------------------------------- stopping, going on


def test_a_run_that_is_not_finite_stops_where_it_was_good_and_the_others_go_on(load, material):
    base = load("llama")
    runs = [small("ga", learning_rate=1e18, steps=8, clip=None), small("ga", learning_rate=1e18, steps=8, clip=None, seed=1)]
    wild = acquire(base, material, runs)
    assert all(done.stopped_at is not None and bool(done.row.isfinite().all()) for done in wild)
    assert all(len(done.log) == done.stopped_at for done in wild)


def test_others_are_untouched_by_a_run_that_stops(lean, material, monkeypatch):
    """The same group: one run's loss is made infinite at its third step."""
    plain = acquire_module._Loop._log

    def broken(self, i, step, losses, gradients):
        if i == 0 and step == 2:
            losses = {name: float("nan") for name in losses}
        plain(self, i, step, losses, gradients)

    (alone,) = acquire(lean, material, [small("npo", seed=1)])
    monkeypatch.setattr(acquire_module._Loop, "_log", broken)
    stopped, other = acquire(lean, material, [small("npo"), small("npo", seed=1)])
    assert (stopped.stopped_at, stopped.steps) == (2, 2)
    assert (other.row - alone.row).abs().max() <= 1e-12 * alone.row.abs().max()


def test_going_on_from_a_checkpoint_ends_in_the_same_adapter(load, material, tmp_path):
    base, runs = load("llama"), [small(steps=7), small(steps=7, seed=3)]
    whole = acquire(base, material, runs)
    place = tmp_path / "state.safetensors"

    def cut(told):
        if told.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        acquire(base, material, runs, checkpoint=place, every=2, on_step=cut)
    assert place.exists()
    assert place.stat().st_mode & 0o777 == 0o600
    steps = []
    again = acquire(base, material, runs, checkpoint=place, every=2, on_step=lambda told: steps.append(told.step))
    assert steps == [5, 6, 7]
    for one, other in zip(whole, again, strict=True):
        assert torch.equal(one.row, other.row)
        assert [step.losses for step in one.log] == [step.losses for step in other.log]
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_run_is_refused(load, material, tmp_path):
    base, place = load("llama"), tmp_path / "state.safetensors"

    def cut(told):
        if told.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        acquire(base, material, [small()], checkpoint=place, every=1, on_step=cut)
    with pytest.raises(FileFormatError, match="another run"):
        acquire(base, material, [small(seed=9)], checkpoint=place)
    place.write_bytes(b"nothing")
    with pytest.raises(FileFormatError, match="no checkpoint"):
        acquire(base, material, [small()], checkpoint=place)


# ------------------------------------------------------------------------------------------------------------- bad input


def test_nothing_to_forget_is_said():
    with pytest.raises(EmptyHistory, match="forget set is empty"):
        Material((), entries(2, 1))


def test_a_pair_to_forget_and_to_keep_is_said():
    rows = entries(3, 1)
    with pytest.raises(InputError, match="'f1'"):
        Material(rows[:2], rows[1:])


@pytest.mark.parametrize("method", ["sku", "finetune", "ga-mismatch", "grad-diff", "npo", "simnpo"])
def test_a_method_that_needs_a_retain_set_says_so(lean, method):
    with pytest.raises(EmptyHistory, match="--retain"):
        acquire(lean, Material(entries(3, 1)), [small(method)])


@pytest.mark.parametrize(("method", "more"), [("ga", {}), ("task-vector", {}), ("sku", {"pd_mode": "off"})])
def test_a_method_that_needs_none_does_without(lean, method, more):
    (done,) = acquire(lean, Material(entries(3, 1)), [small(method, **more)])
    assert done.steps == 4


@pytest.mark.parametrize("strength", [9.0, -9.0, float("nan")])
def test_a_strength_out_of_range_is_said(strength):
    with pytest.raises(ConfigError, match="strength"):
        unlearning("sku", strength=strength)


def test_an_unknown_method_names_those_there_are():
    with pytest.raises(ConfigError, match="simnpo"):
        unlearning("wish")


def test_all_problems_of_settings_are_told_at_once():
    with pytest.raises(ConfigError, match=r"rank.*pd_cap"):
        Unlearning.build(rank=0, pd_cap=-1.0)
