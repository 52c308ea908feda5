"""The peers run with the installed versions of their libraries, and agree with each other."""

from __future__ import annotations

import math
from contextlib import contextmanager

import pytest
import torch

pytest.importorskip("peft", reason="the benchmark peers need the extra: pip install 'idiolect[bench]'")
pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own deprecations are not ours to mend

from idiolect.bench import bases, ours, peers, peers_serve, workloads  # noqa: E402
from idiolect.config import TrainConfig  # noqa: E402

TINY = bases.SHAPES["tiny"]
TARGETS = ("q_proj", "v_proj")
CONFIG = TrainConfig.build(rank=4, alpha=8, epochs=2, learning_rate=1e-2, batch_size=4, targets=TARGETS, start="own")
WORKLOAD = workloads.Workload("tiny", people=2, items=6, own=(8, 16), answer=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return bases.random_llama(tmp_path_factory.mktemp("base"), TINY, seed=1)


@pytest.fixture
def model(folder):
    return peers.load_resident(folder)


@pytest.fixture
def jobs():
    return workloads.make(WORKLOAD, TINY.vocab)


@pytest.fixture
def order(jobs):
    return {person: [[0, 3, 1, 5], [4, 2], [5, 4, 3, 2], [1, 0]] for person in jobs}


def fresh(seed):
    state = bases.random_adapter(TINY, CONFIG.rank, TARGETS, seed)
    return {module: (a, b * 0) for module, (a, b) in state.items()}


def test_trainer_and_bare_loop_learn_the_same(model, jobs, order, tmp_path):
    init = {person: fresh(seed) for seed, person in enumerate(jobs)}
    by_trainer = peers.train_with_trainer(model, jobs, CONFIG, order, tmp_path / "trainer", init)
    by_loop = peers.train_with_bare_loop(model, jobs, CONFIG, order, tmp_path / "loop", init)
    for person in jobs:
        assert bases.relative_difference(by_trainer[person], by_loop[person], init[person]) < 1e-5
        assert bases.relative_difference(by_trainer[person], init[person], init[person]) > 0
        assert (tmp_path / "trainer" / person / "adapter_model.safetensors").exists()
    first, second = by_trainer.values()
    assert bases.relative_difference(first, second) > 0.1


def test_in_float64_the_fused_trainer_learns_what_peft_does(folder, jobs, tmp_path, monkeypatch):
    """Every difference in float32 is rounding: in float64, without transformers' own casts to float32, none is left."""
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    from idiolect.model.base import load_base
    from idiolect.train.trainer import Job, train

    def norm(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon) * self.weight

    narrow = torch.Tensor.float
    monkeypatch.setattr(LlamaRMSNorm, "forward", norm)
    monkeypatch.setattr(torch.Tensor, "float", lambda x, *a, **k: x if x.dtype == torch.float64 else narrow(x, *a, **k))
    base = load_base(folder, device="cpu", dtype="float64")
    layout = base.layout(CONFIG.rank, CONFIG.alpha, CONFIG.targets)
    rows = {person: layout.init_row(0, person, torch.float64) for person in jobs}
    init = {person: ours.copy(layout.matrices(row)) for person, row in rows.items()}
    fused = {}
    runs = [Job(person, tuple(examples)) for person, examples in jobs.items()]
    train(base, runs, CONFIG, lambda done: fused.update({done.person: ours.copy(layout.matrices(done.row))}))
    monkeypatch.setattr(peers, "_fresh_adapter", widened(peers._fresh_adapter))
    model = peers.load_resident(folder).double()
    theirs = peers.train_with_bare_loop(model, jobs, CONFIG, ours.order_of(jobs, CONFIG), tmp_path, init)
    assert all(bases.relative_difference(fused[p], theirs[p], init[p]) < 1e-12 for p in jobs)


def widened(fresh_adapter):
    """PEFT makes adapters in float32, whatever the base is in."""

    @contextmanager
    def fresh(model, config, state):
        with fresh_adapter(model, config, state) as adapted:
            yield adapted.double()

    return fresh


def test_the_order_given_is_the_order_used(model, jobs, order, tmp_path):
    init = {person: fresh(0) for person in jobs}
    turned = {person: [batches[-1], *batches[:-1]] for person, batches in order.items()}
    given = peers.train_with_trainer(model, jobs, CONFIG, order, tmp_path / "a", init)
    other = peers.train_with_trainer(model, jobs, CONFIG, turned, tmp_path / "b", init)
    assert all(bases.relative_difference(given[p], other[p], init[p]) > 1e-3 for p in jobs)


def test_the_base_comes_back_untouched(model, jobs, order, tmp_path):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    peers.train_with_bare_loop(model, jobs, CONFIG, order, tmp_path)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)


def test_switching_and_mixing_answer_alike(model, tmp_path):
    people = [f"person-{n}" for n in range(3)]
    states = {p: bases.random_adapter(TINY, 4, TARGETS, seed, std=0.5) for seed, p in enumerate(people)}
    prompts = {p: list(range(16, 24 + n)) for n, p in enumerate(people)}
    adapted = peers_serve.attach(model, states, CONFIG)
    one_by_one = peers_serve.serve_set_adapter(adapted, prompts, n_new=8)
    assert peers_serve.serve_mixed(adapted, prompts, n_new=8) == one_by_one
    assert all(len(answer) == 8 for answer in one_by_one.values())
    same = peers_serve.serve_set_adapter(adapted, dict.fromkeys(people, prompts[people[0]]), n_new=8)
    assert len({tuple(answer) for answer in same.values()}) > 1


def test_saved_adapters_load_by_name(model, tmp_path):
    state = bases.random_adapter(TINY, 4, TARGETS, seed=3)
    peers_serve.save_adapter(model, state, CONFIG, tmp_path / "ana")
    adapted = peers_serve.attach(model, {"bo": fresh(0)}, CONFIG)
    peers_serve.load_one(adapted, tmp_path / "ana", "ana")
    assert bases.relative_difference(peers.state_of(adapted, "ana"), state) < 1e-7


def test_collate_pads_right_and_masks_the_prompt(jobs):
    rows = next(iter(jobs.values()))[:3]
    batch = peers.collate(rows)
    assert batch["labels"].ne(peers.IGNORED).sum() == sum(row.n_answer for row in rows)
    assert batch["attention_mask"].sum(1).tolist() == [len(row.ids) for row in rows]


def test_warm_up_is_rounded_up():
    assert peers.warm_up_steps(CONFIG, 4) == math.ceil(0.4)


@pytest.mark.parametrize("mode", ["diverge", "preserve"])
def test_two_copies_acquire_what_one_base_does(folder, mode):
    from idiolect.bench.peers_unlearn import acquire_with_two_copies
    from idiolect.bench.unlearn import first_numbers, material_of
    from idiolect.unlearn.acquire import acquire
    from idiolect.unlearn.config import unlearning
    from idiolect.unlearn.methods import Schedule

    # Some tokens diverge beyond the cap, and the term weighs twice what is learnt.
    given = {"pd_mode": mode, "pd_cap": 0.008, "pd_weight": 5.0, "learning_rate": 0.1, "targets": ("q_proj", "down_proj")}
    config = unlearning("sku", steps=6, batch_size=2, **given)
    material = material_of(TINY.vocab, 0)
    plan = [Schedule(config, material, 512).terms(step) for step in range(config.steps)]
    training = config.training(config.targets)
    start = first_numbers(TINY, training)
    model, frozen = peers.load_resident(folder), peers.load_resident(folder)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    theirs, log = acquire_with_two_copies(model, frozen, plan, training, config.pd_cap, start)
    (mine,) = acquire(ours.load(folder), material, [config])
    assert bases.relative_difference(ours.copy(mine.layout.matrices(mine.row)), theirs, start) < 1e-2
    for step, losses in zip(mine.log, log, strict=True):
        assert step.losses == pytest.approx(losses, rel=1e-3, abs=1e-5)
    assert log[-1]["pd"] > 5e-3
    assert all(model.state_dict()[name].equal(weight) for name, weight in before.items())
