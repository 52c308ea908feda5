"""Trained together equals trained alone, and equals PyTorch with PEFT."""

from __future__ import annotations

import hashlib
from functools import cache, partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idiolect.config import TrainConfig
from idiolect.errors import ConfigError, EmptyHistory, TargetMismatch
from idiolect.model import lora
from idiolect.model.adapter import Layout
from idiolect.model.files import to_record
from idiolect.train import trainer
from idiolect.train.memory import is_out_of_memory
from idiolect.train.schedule import epoch_order, learning_rates, total_steps
from idiolect.train.slots import Slots, Subject, choose_slots
from idiolect.train.stages import by_any
from idiolect.train.trainer import Job, chunks, train
from idiolect.types import Rendered

QV = ("q_proj", "v_proj")
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SETTINGS = TrainConfig.build(
    rank=3, alpha=6, epochs=2, learning_rate=1e-2, batch_size=4, warm_up=0.2, clip=0.5, slots=4, start="own"
)


def examples(n, seed, low=4, high=30):
    draw = np.random.default_rng(seed)
    found = []
    for i in range(n):
        prompt, answer = int(draw.integers(low, high)), int(draw.integers(1, 5))
        ids = tuple(draw.integers(5, 320, prompt + answer).tolist())
        found.append(Rendered(f"e{i}", (*ids, 4), prompt))
    return found


def people(**counts):
    return {name: examples(n, seed=sum(map(ord, name))) for name, n in counts.items()}


MIXTURE = people(ana=3, ben=1, cleo=13, dora=6, emil=5)


def run(base, who, config, names=None, done=None):
    """Each person's row, all trained in one run."""
    rows = {}
    train(base, [Job(name, who[name]) for name in names or who], config, lambda f: rows.update({f.person: f.row}), done)
    return rows


def alone(base, who, config):
    return {name: run(base, {name: mine}, config)[name] for name, mine in who.items()}


def gap(base, config, mine, theirs, person):
    """‖mine − theirs‖ ÷ ‖theirs − start‖: the difference in what was learnt."""
    start = base.layout(config.rank, config.alpha, config.targets).init_row(config.seed, person, mine.dtype)
    return ((mine - theirs).norm() / (theirs - start).norm()).item()


@pytest.fixture(scope="module")
def exact(load):
    return load("llama", dtype="float64")


# ---------------------------------------------------------------------------------------------- together equals alone


@pytest.fixture(scope="module")
def by_oneself(exact):
    """Everybody's row, trained alone."""
    return cache(lambda config: alone(exact, MIXTURE, config))


@pytest.mark.parametrize("changes", [{}, {"dropout": 0.2, "targets": ALL}], ids=["plain", "dropout, every module"])
@pytest.mark.parametrize("long", [0, 48, 10**9], ids=["one by one", "as it comes", "stacked"])
def test_together_equals_alone_in_float64(exact, by_oneself, monkeypatch, changes, long):
    config = SETTINGS.but(**changes)
    expected = by_oneself(config)
    monkeypatch.setattr(lora, "LONG", long)
    for slots, budget, names in [(2, 60, "emil dora cleo ben ana"), (5, 200, "cleo ana dora emil ben"), (1, 8192, "ana ben")]:
        found = run(exact, MIXTURE, config.but(slots=slots, token_budget=budget), names.split())
        assert set(found) == set(names.split())
        for name, row in found.items():
            assert gap(exact, config, row, expected[name], name) <= 1e-12


def test_both_ways_of_adding_updates_are_taken(exact, monkeypatch):
    """The two settings above force what they say."""
    taken = []
    for name in ("_one_by_one", "_stacked"):
        original = getattr(lora, name)
        monkeypatch.setattr(lora, name, lambda *a, original=original, name=name: taken.append(name) or original(*a))
    for long, expected in ((0, {"_one_by_one"}), (10**9, {"_stacked"})):
        monkeypatch.setattr(lora, "LONG", long)
        taken.clear()
        run(exact, MIXTURE, SETTINGS.but(epochs=1))
        assert set(taken) == expected


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt-neox", "gemma2"])
def test_together_equals_alone_in_float32(load, family):
    base = load(family)
    targets = ("query_key_value", "dense") if family == "gpt-neox" else QV
    config = SETTINGS.but(targets=targets, dropout=0.1)
    expected = alone(base, MIXTURE, config)
    found = run(base, MIXTURE, config.but(slots=3, token_budget=150), ["dora", "cleo", "ben", "ana", "emil"])
    for name, row in found.items():
        assert gap(base, config, row, expected[name], name) <= 1e-4


@settings(max_examples=8)
@given(
    counts=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    slots=st.integers(1, 5),
    budget=st.sampled_from([16, 40, 100, 8192]),
    batch=st.sampled_from([1, 2, 4]),
    dropout=st.sampled_from([0.0, 0.3]),
    data=st.data(),
)
def test_whatever_the_company(exact, counts, slots, budget, batch, dropout, data):
    who = {f"p{i}": examples(n, seed=100 * i + n, low=2, high=12) for i, n in enumerate(counts)}
    config = SETTINGS.but(epochs=1, warm_up=0.0, batch_size=batch, dropout=dropout, slots=slots, token_budget=budget)
    order = data.draw(st.permutations(list(who)))
    found = run(exact, who, config, order)
    for name, row in found.items():
        assert gap(exact, config, row, run(exact, {name: who[name]}, config)[name], name) <= 1e-12


def test_every_token_of_a_step_has_a_place_of_its_own_in_dropout(exact, monkeypatch):
    packed, pack = [], trainer.pack
    monkeypatch.setattr(trainer, "pack", lambda rows: packed.append(rows) or pack(rows))
    run(exact, MIXTURE, SETTINGS.but(epochs=1))
    for rows in packed:
        places = {}
        for row in rows:
            places.setdefault(row.owner, []).extend(range(row.offset, row.offset + len(row.example.ids)))
        assert all(mine == list(range(len(mine))) for mine in places.values())


def test_dropout_keeps_its_share_and_repeats_nothing():
    mask = lora.keep_mask(torch.arange(500), 64, 0.3)
    assert mask.float().mean().item() == pytest.approx(0.7, abs=0.02)
    assert len({tuple(row) for row in mask.tolist()}) == 500
    assert torch.equal(lora.keep_mask(torch.arange(500), 64, 0.3)[7:9], lora.keep_mask(torch.tensor([7, 8]), 64, 0.3))


def test_people_differ_and_so_do_seeds(exact):
    same = examples(4, 0)
    rows = run(exact, {"ana": same, "ben": same}, SETTINGS)
    assert not torch.allclose(rows["ana"], rows["ben"])
    assert not torch.allclose(rows["ana"], run(exact, {"ana": same}, SETTINGS.but(seed=1))["ana"])
    assert not torch.allclose(rows["ana"], run(exact, {"ana": same}, SETTINGS.but(dropout=0.2))["ana"])


def test_the_same_seed_gives_the_same_bytes(load):
    base = load("llama")
    layout = base.layout(3, 6, QV)
    first, again = (run(base, MIXTURE, SETTINGS.but(dropout=0.1)) for _ in range(2))
    assert {n: to_record(layout, r) for n, r in first.items()} == {n: to_record(layout, r) for n, r in again.items()}


def weights_hash(base):
    state = hashlib.sha256()
    for layer in base.model.layers:
        for name in ("norm_1", "qkv", "o", "norm_2", "gate_up", "down"):
            state.update(getattr(layer, name).numpy().tobytes())
    for tensor in (base.model.embedding, base.model.head, base.model.norm, base.model.cos):
        state.update(tensor.numpy().tobytes())
    return state.hexdigest()


def test_training_leaves_the_base_alone(load):
    base = load("llama-untied")
    before = weights_hash(base)
    run(base, MIXTURE, SETTINGS)
    assert weights_hash(base) == before


def test_first_numbers_say_nothing_of_whose_they_are(exact):
    """A trained A stays near what it began with: drawn by name, it would be found by trying names."""
    layout = exact.layout(SETTINGS.rank, SETTINGS.alpha, SETTINGS.targets)

    def likeness(row, first):
        pairs = zip(layout.matrices(row).values(), layout.matrices(first).values(), strict=True)
        return np.mean([torch.cosine_similarity(a.flatten(), b.flatten(), dim=0).item() for (a, _), (b, _) in pairs])

    for start, mine, found in (("own", 0.8, True), ("shared", 0.0, False)):
        rows = run(exact, MIXTURE, SETTINGS.but(start=start, learning_rate=2e-3))
        guesses = {
            name: {other: likeness(row, layout.init_row(0, other, row.dtype)) for other in MIXTURE}
            for name, row in rows.items()
        }
        right = [max(guess, key=guess.__getitem__) == name and guess[name] > mine for name, guess in guesses.items()]
        assert all(right) == found
    common = layout.init_row(SETTINGS.seed, dtype=torch.float64)
    assert min(likeness(row, common) for row in rows.values()) > 0.8
    assert len({row.numpy().tobytes() for row in rows.values()}) == len(rows)


# --------------------------------------------------------------------------------------------------- PyTorch and PEFT


def by_peft(model, base, person, rendered, config):
    """One person, as PyTorch and PEFT train them, step by step."""
    from peft import LoraConfig, get_peft_model
    from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

    layout = base.layout(config.rank, config.alpha, config.targets)
    start = layout.matrices(layout.init_row(config.seed, person))
    peft = LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=list(config.targets), task_type="CAUSAL_LM")
    adapted = get_peft_model(model, peft).train()
    modules = dict(adapted.get_base_model().named_modules())
    for name, (a, b) in start.items():
        modules[name].lora_A["default"].weight.data = a.T.clone()
        modules[name].lora_B["default"].weight.data = b.T.clone()
    trained = [p for p in adapted.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
    total = total_steps(len(rendered), config)
    plan = get_linear_schedule_with_warmup if config.schedule == "linear" else get_cosine_schedule_with_warmup
    schedule = plan(optimiser, int(np.ceil(config.warm_up * total)), total)
    for epoch in range(config.epochs):
        order = epoch_order(config.seed, person, epoch, len(rendered))
        for at in range(0, len(order), config.batch_size):
            batch = [rendered[i] for i in order[at : at + config.batch_size]]
            width = max(len(r.ids) for r in batch)
            ids = torch.tensor([[*r.ids, *[0] * (width - len(r.ids))] for r in batch])
            mask = torch.tensor([[1] * len(r.ids) + [0] * (width - len(r.ids)) for r in batch])
            labels = torch.tensor(
                [[-100] * r.n_prompt + list(r.ids[r.n_prompt :]) + [-100] * (width - len(r.ids)) for r in batch]
            )
            adapted(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, config.clip)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
    found = {n: (modules[n].lora_A["default"].weight.data.T, modules[n].lora_B["default"].weight.data.T) for n in start}
    adapted.unload()
    return layout.row_of(found)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {}),
        ("qwen2", {"schedule": "cosine", "targets": ALL}),
        ("qwen3", {"clip": 0.01}),
        ("gemma2", {}),
        ("phi", {"targets": ("q_proj", "fc2")}),
        ("granite", {}),
    ],
)
def test_the_result_is_that_of_pytorch_and_peft(load, reference, family, changes):
    base, config = load(family), SETTINGS.but(**changes)
    who = {name: MIXTURE[name] for name in ("ana", "ben", "emil")}
    found = run(base, who, config)
    model = reference(family)
    for name, rendered in who.items():
        assert gap(base, config, found[name], by_peft(model, base, name, rendered, config), name) <= 1e-4


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("total", [2, 7, 10, 30, 100])
def test_learning_rates_are_those_of_transformers(schedule, total):
    from transformers import get_scheduler

    for warm_up in (0.0, 0.1, 0.3):
        config = SETTINGS.but(schedule=schedule, warm_up=warm_up)
        weight = torch.nn.Parameter(torch.zeros(1))
        optimiser = torch.optim.SGD([weight], lr=config.learning_rate)
        name = "constant_with_warmup" if schedule == "constant" else schedule
        theirs = get_scheduler(name, optimiser, int(np.ceil(total * warm_up)), total)
        expected = []
        for _ in range(total):
            expected.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            theirs.step()
        mine = learning_rates(torch.arange(total), torch.full((total,), total), config)
        assert mine.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-18)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_a_single_step_has_no_warm_up(exact, schedule):
    """transformers' rate would be 0 there, and the person's adapter would stay as it was drawn."""
    config = SETTINGS.but(schedule=schedule, warm_up=0.1, epochs=1, batch_size=4)
    rates = learning_rates(torch.tensor([0, 0]), torch.tensor([1, 2]), config)
    assert rates.tolist() == [config.learning_rate, 0]
    row = run(exact, {"ana": examples(3, seed=1)}, config)["ana"]
    layout = exact.layout(config.rank, config.alpha, config.targets)
    assert not torch.equal(row, layout.init_row(config.seed, "ana", row.dtype))


# ------------------------------------------------------------------------------------------------------------- slots


def test_a_slot_that_is_not_active_stays_as_it_is(exact):
    layout = exact.layout(2, 4.0, QV)
    slots = Slots(Subject(layout), SETTINGS.but(weight_decay=0.1), 3, exact.device, torch.float32)
    for s in range(3):
        slots.admit(s, layout.init_row(0, str(s)), 5)
    slots.gradient.normal_(generator=torch.Generator().manual_seed(0))
    slots.update()
    slots.retire(1)
    before = [slots.weights[1].clone(), slots.weights[0].clone()]
    slots.gradient.normal_(generator=torch.Generator().manual_seed(1))
    slots.gradient[1] = 0
    slots.update()
    assert torch.equal(slots.weights[1], before[0])
    assert not torch.equal(slots.weights[0], before[1])
    assert slots.step.tolist() == [2, 1, 2]


def test_a_new_person_inherits_nothing_from_the_slot(exact):
    layout = exact.layout(2, 4.0, QV)
    slots = Slots(Subject(layout), SETTINGS, 2, exact.device, torch.float64)
    for s in range(2):
        slots.admit(s, layout.init_row(0, "x", torch.float64), 5)
    slots.gradient.fill_(1e9)
    slots.update()
    slots.retire(0)
    slots.admit(0, layout.init_row(0, "ana", torch.float64), 3)
    assert torch.equal(slots.weights[0], layout.init_row(0, "ana", torch.float64))
    assert not any(t[0].any() for t in (slots.gradient, slots.moment_1, slots.moment_2, slots.step))
    assert slots.total.tolist() == [3, 5]
    gates = Slots(Subject(layout, gates=True), SETTINGS, 1, exact.device, torch.float64)
    for frozen in (torch.ones(layout.size), None):
        gates.admit(0, torch.zeros(gates.weights.shape[1]), 3, frozen)
    assert not gates.frozen.any()


def test_one_person_who_diverges_harms_nobody(exact, monkeypatch):
    config = SETTINGS.but(clip=1.0)
    expected = run(exact, {"ben": MIXTURE["dora"]}, config)["ben"]
    rows = {}
    first = Layout.init_row

    def broken_for_ana(self, seed, person, dtype=torch.float32):
        row = first(self, seed, person, dtype)
        return row.fill_(float("nan")) if person == "ana" else row

    monkeypatch.setattr(Layout, "init_row", broken_for_ana)
    jobs = [Job("ana", MIXTURE["ana"]), Job("ben", MIXTURE["dora"]), Job("cleo", MIXTURE["ben"])]
    train(exact, jobs, config.but(slots=2), lambda f: rows.update({f.person: f.row}))
    assert rows["ana"].isnan().all()
    assert gap(exact, config, rows["ben"], expected, "ben") <= 1e-12
    assert not rows["cleo"].isnan().any()


def test_how_many_slots():
    class Small:
        size, size_frozen = 1000, 0

    cpu = torch.device("cpu")
    assert choose_slots(Small, SETTINGS, cpu, 10) == 4
    free = SETTINGS.model_copy(update={"slots": None})
    assert choose_slots(Small, free, cpu, 4 * 16_000 * 3) == 3
    assert choose_slots(Small, free, cpu, 10**12) == 64
    assert choose_slots(Small, free.but(token_budget=256), cpu, 10**12) == 2
    with pytest.raises(ConfigError, match="does not fit into memory"):
        choose_slots(Small, free, cpu, 1000)


# ------------------------------------------------------------------------------------------------------ out of memory


@pytest.mark.parametrize(
    "error",
    [partial(torch.OutOfMemoryError, "CUDA out of memory"), MemoryError, partial(RuntimeError, "not enough memory: 1 GB")],
    ids=["cuda", "python", "cpu"],
)
def test_out_of_memory_changes_no_result(exact, monkeypatch, error):
    config = SETTINGS.but(dropout=0.1, token_budget=1000)
    expected = run(exact, MIXTURE, config)
    sizes, hidden = [], type(exact.model).hidden

    def tight(self, plan, *rest):
        sizes.append(len(plan.ids))
        if len(plan.ids) > 130:
            raise error()
        return hidden(self, plan, *rest)

    monkeypatch.setattr(type(exact.model), "hidden", tight)
    found = run(exact, MIXTURE, config)
    assert max(sizes) > 130
    for name, row in found.items():
        assert gap(exact, config, row, expected[name], name) <= 1e-12


def test_too_little_memory_for_one_example_is_said(exact, monkeypatch):
    def never(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(exact.model), "hidden", never)
    with pytest.raises(ConfigError, match="does not fit into memory"):
        run(exact, MIXTURE, SETTINGS)


def test_other_errors_are_not_taken_for_lack_of_memory(exact, monkeypatch):
    def broken(*_):
        raise RuntimeError("shapes disagree")

    monkeypatch.setattr(type(exact.model), "hidden", broken)
    with pytest.raises(RuntimeError, match="shapes disagree"):
        run(exact, MIXTURE, SETTINGS)


def test_slots_that_do_not_fit_are_halved(exact, monkeypatch):
    made = []

    class Tight(Slots):
        def __init__(self, layout, config, slots, device, dtype):
            made.append(slots)
            if slots > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            super().__init__(layout, config, slots, device, dtype)

    monkeypatch.setattr(trainer, "Slots", Tight)
    assert set(run(exact, MIXTURE, SETTINGS.but(epochs=1, slots=8))) == set(MIXTURE)
    assert made == [8, 4, 2]


# ---------------------------------------------------------------------------------------------------- input and output


def test_a_person_without_examples(exact):
    with pytest.raises(EmptyHistory, match="'ben' has nothing to train on"):
        run(exact, {"ana": MIXTURE["ana"], "ben": []}, SETTINGS)


def test_targets_that_match_nothing(exact):
    with pytest.raises(TargetMismatch, match="out_proj"):
        run(exact, MIXTURE, SETTINGS.but(targets=("q_proj", "out_proj")))


def test_a_stream_of_jobs_does_not_know_how_many_steps_there_are(exact):
    seen = []
    jobs = (Job(name, mine) for name, mine in MIXTURE.items())
    train(exact, jobs, SETTINGS, lambda done: None, seen.append)
    assert {(p.steps_total, p.left_s) for p in seen} == {(None, None)}


def test_nobody_to_train(exact):
    assert run(exact, {}, SETTINGS) == {}


def test_progress_adds_up(exact):
    seen, finished = [], []
    config = SETTINGS.but(slots=2)
    train(exact, [Job(n, e) for n, e in MIXTURE.items()], config, finished.append, seen.append)
    tokens = {name: config.epochs * sum(len(e.ids) for e in mine) for name, mine in MIXTURE.items()}
    steps = {name: total_steps(len(mine), config) for name, mine in MIXTURE.items()}
    assert {f.person: f.tokens for f in finished} == tokens
    assert {f.person: f.steps for f in finished} == steps
    last = seen[-1]
    assert (last.done, last.active, last.tokens, last.steps_done) == (5, 0, sum(tokens.values()), sum(steps.values()))
    assert {p.steps_total for p in seen} == {sum(steps.values())}
    assert seen[0].left_s == pytest.approx(seen[0].seconds * (sum(steps.values()) - seen[0].steps_done) / seen[0].steps_done)
    assert last.left_s == 0
    assert [p.tokens for p in seen] == sorted(p.tokens for p in seen)
    assert all(p.active <= 2 for p in seen)
    assert sum(f.seconds for f in finished) <= last.seconds
    assert last.tokens_per_s == pytest.approx(last.tokens / last.seconds)
    assert all(0 < f.loss < 20 for f in finished)


def test_the_loss_falls_and_is_the_mean_of_answer_tokens(exact):
    losses = {}
    for epochs in (1, 12):
        config = SETTINGS.but(epochs=epochs, learning_rate=1e-1, warm_up=0.0, batch_size=32)
        train(exact, [Job("ana", MIXTURE["dora"])], config, lambda f, e=epochs: losses.update({e: f.loss}))
    assert losses[12] < 0.7 * losses[1]
    model = exact.model
    from idiolect.data.batch import Row, pack

    batch = pack([Row(0, 0, 1.0, e) for e in MIXTURE["dora"]])
    log_p = (model.hidden(model.plan(batch)) @ model.head.T).log_softmax(-1)
    total, n = -log_p[torch.arange(len(batch.targets)), torch.from_numpy(batch.targets)].sum().item(), len(batch.targets)
    assert losses[1] == pytest.approx(total / n, rel=1e-9)  # the first epoch has one step, taken on the bare base


def test_jobs_are_read_as_slots_fall_free(exact):
    read, done = [], []

    def jobs():
        for name, mine in MIXTURE.items():
            read.append(name)
            assert len(read) - len(done) <= 2
            yield Job(name, mine)

    train(exact, jobs(), SETTINGS.but(slots=2, epochs=1), done.append)
    assert len(done) == len(read) == 5


def test_what_was_handed_over_stays_when_the_run_is_stopped(exact):
    got = []

    def stop(finished):
        got.append(finished.person)
        if len(got) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(exact, [Job(n, e) for n, e in MIXTURE.items()], SETTINGS.but(slots=1), stop)
    assert got == ["ana", "ben"]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 100))
def test_chunks_keep_the_order_and_the_budget(lengths, budget):
    from idiolect.data.batch import Row

    rows = [Row(i, 0, 1.0, Rendered(str(i), tuple(range(n)), 0)) for i, n in enumerate(lengths)]
    parts = list(chunks(rows, budget))
    assert [row for part in parts for row in part] == rows
    for part in parts:
        assert len(part) == 1 or sum(len(row.example.ids) for row in part) <= budget


def test_a_real_lack_of_memory_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_a_byline_that_names_a_target_is_left_out_of_stage_1():
    assert by_any("Ana Ruiz", {"Ana Ruiz"})
    assert by_any("Bo Li and Ana Ruiz", {"Ana Ruiz"})
    assert not by_any("Bo Li", {"Ana Ruiz"})
