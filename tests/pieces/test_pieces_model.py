"""Gates, pools, assembly and records on random two-layer bases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from idiolect.config import TrainConfig
from idiolect.data.batch import Row, pack, pack_prompts
from idiolect.errors import BaseMismatch, ConfigError, FileFormatError, PieceNotFound, ShapeError
from idiolect.model.adapter import GateLayout, GateStack, Stack
from idiolect.model.lora import Adapters, Gates, Segments, adapted_linear
from idiolect.model.pieces import Cited, Pool, PoolKey, Record, cut, normalised
from idiolect.pieces import gates as gates_module
from idiolect.pieces.assemble import Newcomer, Settings, assemble, best, random_gates
from idiolect.pieces.gates import train_gates
from idiolect.train.slots import Slots, Subject
from idiolect.train.trainer import Job, train
from idiolect.types import Rendered

QVO = ("q_proj", "v_proj", "o_proj")
RANK, ALPHA = 3, 6.0


def examples(n, seed, low=4, high=30):
    draw = np.random.default_rng(seed)
    found = []
    for i in range(n):
        prompt, answer = int(draw.integers(low, high)), int(draw.integers(1, 5))
        ids = tuple(draw.integers(5, 320, prompt + answer).tolist())
        found.append(Rendered(f"e{i}", (*ids, 4), prompt))
    return found


@pytest.fixture(scope="module")
def exact(load):
    return load("llama", dtype="float64")


@pytest.fixture(scope="module", params=["lean", "general"])
def either(load, request):
    return load("llama", dtype="float64", lean=request.param == "lean")


def key_of(base):
    return PoolKey("LaMP-2N", base.fingerprint, base.task_adapter, RANK, ALPHA, QVO)


def sharers(base, random_row, n):
    """n adapters with gates: (row, gates) each."""
    layout = base.layout(RANK, ALPHA, QVO)
    draw = torch.Generator().manual_seed(1)
    return [(random_row(layout, seed), torch.randn(GateLayout(layout).size, generator=draw)) for seed in range(n)]


def pool_of(base, found):
    layout = base.layout(RANK, ALPHA, QVO)
    bodies, piece = [], 100
    for row, gates in found:
        for module, body in cut(layout, row, gates).items():
            bodies.append((piece, module, body))
            piece += 1
    return Pool(key_of(base), base.model.sites(), bodies)


def close(mine, theirs):
    """Equal as far as records go: weights are rounded to float32 once by one way, and not by the other."""
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def logits(base, adapters, rows):
    batch = pack([Row(i, 0, 1.0, row) for i, row in enumerate(rows)])
    with torch.inference_mode():
        return base.model.hidden(base.model.plan(batch), adapters)


def plain(base, layout, rows):
    """Adapters of these rows as a forward pass takes them."""
    return Adapters(Stack(layout, torch.stack(rows).double()), torch.full((len(rows),), layout.scale, dtype=torch.float64))


# -------------------------------------------------------------------------------------------------------------- gates


def gated(base, layout, row, gates):
    places = GateLayout(layout)
    stack = GateStack(places, gates.double().unsqueeze(0))
    grads = GateStack(places, torch.zeros_like(stack.rows))
    one = plain(base, layout, [row])
    anchor = torch.zeros(0, requires_grad=True)
    return Adapters(one.stack, one.scale, gates=Gates(stack, grads), anchor=anchor), grads


@pytest.mark.parametrize("counts", [(5, 5), (60, 60), (3, 9)], ids=["stacked", "one by one", "padded"])
def test_gate_function_is_the_formula_and_its_gradient(exact, random_row, counts):
    layout = exact.layout(RANK, ALPHA, QVO)
    group = layout.groups[0]
    n, people = sum(counts), len(counts)
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(n, group.d_in, dtype=torch.float64, generator=draw, requires_grad=True)
    w = torch.randn(group.d_in, 64, dtype=torch.float64, generator=draw)
    rows = torch.stack([random_row(layout, seed) for seed in range(people)]).double()
    places = GateLayout(layout)
    gates = torch.randn(people, places.size, dtype=torch.float64, generator=draw)
    stack, grads = GateStack(places, gates), GateStack(places, torch.zeros_like(gates))
    adapters = Adapters(
        Stack(layout, rows),
        torch.full((people,), layout.scale, dtype=torch.float64),
        gates=Gates(stack, grads),
        anchor=torch.zeros(0, requires_grad=True),
    )
    owner = np.repeat(np.arange(people), counts)
    segments = Segments.of(owner, np.arange(n), torch.device("cpu"))
    y = adapted_linear(x, w, None, group.name, adapters, segments)
    upstream = torch.randn(y.shape, dtype=torch.float64, generator=draw)
    y.backward(upstream)

    free = x.detach().clone().requires_grad_()
    mine = gates.clone().requires_grad_()
    expected = free @ w
    update = torch.zeros_like(expected)
    for u in range(people):
        tokens = torch.from_numpy(np.flatnonzero(owner == u))
        vectors, matrices = places.vectors(mine[u]), layout.matrices(rows[u])
        for site in group.sites:
            a, b = matrices[site.name]
            p = torch.sigmoid(free[tokens] @ vectors[site.name]).unsqueeze(1)
            piece = torch.zeros_like(expected)
            columns = slice(site.column, site.column + site.d_out)
            part = torch.zeros(n, site.d_out, dtype=torch.float64).index_copy(
                0, tokens, layout.scale * (p * free[tokens]) @ a @ b
            )
            piece[:, columns] = part
            update = update + piece
    expected = expected + update
    expected.backward(upstream)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(x.grad, free.grad)
    torch.testing.assert_close(grads.rows, mine.grad)


def test_a_gate_of_zero_halves_the_update_and_still_learns(either, random_row):
    layout = either.layout(RANK, ALPHA, QVO)
    row = random_row(layout, 5)
    rows = examples(4, 2)
    zero = torch.zeros(GateLayout(layout).size)
    adapters, grads = gated(either, layout, row, zero)
    half = row.clone()
    for _, b in layout.matrices(half).values():
        b *= 0.5
    batch = pack([Row(0, 0, 1.0, r) for r in rows])
    hidden = either.model.hidden(either.model.plan(batch), adapters)
    expected = either.model.hidden(either.model.plan(batch), plain(either, layout, [half]))
    torch.testing.assert_close(hidden, expected)
    hidden.square().sum().backward()
    assert all(bool(view.abs().sum() > 0) for view in GateLayout(layout).vectors(grads.rows[0]).values())


def test_gates_together_equal_gates_alone(exact, random_row):
    layout = exact.layout(RANK, ALPHA, QVO)
    config = TrainConfig.build(
        learning_rate=1e-2, steps=7, batch_size=3, weight_decay=0.0, schedule="cosine", warm_up=0.0, slots=2
    )
    jobs = [Job(name, examples(n, n), start=random_row(layout, n)) for name, n in (("ana", 2), ("ben", 9), ("cleo", 5))]
    together = train_gates(exact, layout, jobs, config)
    for job in jobs:
        alone = train_gates(exact, layout, [job], config)[job.person]
        assert ((together[job.person] - alone).norm() / alone.norm()).item() <= 1e-12
        assert alone.abs().sum() > 0


def test_gate_training_leaves_the_adapter_alone_and_lowers_the_loss(exact, random_row, monkeypatch):
    layout = exact.layout(RANK, ALPHA, QVO)
    row, mine = random_row(layout, 8), examples(6, 3)
    before = row.clone()
    weights = [exact.model.head, exact.model.embedding, *(w for one in exact.model.layers for w in (one.qkv, one.o, one.down))]
    untrained = [w.clone() for w in weights]
    losses, frozen, retire = [], [], Slots.retire
    monkeypatch.setattr(Slots, "retire", lambda self, slot: (frozen.append(self.frozen[slot].clone()), retire(self, slot))[1])
    config = gates_module.GATES.but(steps=60, batch_size=6, schedule="constant", learning_rate=5e-2)
    train_gates(exact, layout, [Job("ana", mine, start=row)], config, on_progress=lambda p: losses.append(p.loss))
    assert torch.equal(row, before)
    assert torch.equal(frozen[0], before.double())  # what was trained over is what was given, to the last bit
    assert all(torch.equal(now, then) and now.grad is None for now, then in zip(weights, untrained, strict=True))
    assert losses[-1] < losses[0]


def test_part_of_an_adapter_trains_and_the_rest_stays_bit_for_bit(exact, random_row):
    layout = exact.layout(RANK, ALPHA, QVO)
    start = random_row(layout, 4)
    part = torch.zeros(layout.size)
    for a, b in layout.matrices(part).values():
        a[:, -1:], b[-1:] = 1, 1
    config = TrainConfig.build(
        rank=RANK, alpha=ALPHA, targets=QVO, learning_rate=1e-2, epochs=3, batch_size=2, weight_decay=0.1
    )
    rows = {}
    job = Job("ana", examples(4, 1), start=start)
    train(exact, [job], config, lambda f: rows.update({f.person: f.row}), subject=Subject(layout, part=part))
    moved = rows["ana"].float() != start
    assert torch.equal(moved, moved & part.bool())
    assert moved.any()


# ------------------------------------------------------------------------------------------------------ scores, choice


@given(st.integers(0, 10**6), st.sampled_from([1e-30, 1e-4, 1.0, 1e6]))
def test_normalised_is_pearson_whatever_the_size(seed, size):
    draw = torch.Generator().manual_seed(seed)
    x, g = torch.randn(64, generator=draw), torch.randn(64, generator=draw)
    score = float(normalised(x) @ normalised(g * size)) / 8
    assert score == pytest.approx(8 * np.corrcoef(x.numpy(), g.numpy())[0, 1], abs=1e-4)


@pytest.mark.parametrize("value", [3.0, 0.1, 1 / 3, -7.7, 0.0, 1e-30])
def test_a_gate_without_direction_scores_zero(value):
    for width in (8, 64, 576, 4096):  # the mean of many equal numbers is that number only up to rounding
        assert not normalised(torch.full((2, width), value)).any()


def test_best():
    chosen = best([7, 8, 9], [1.0, 1.0, 0.0], 2, 0.5)
    assert chosen == ((7, 0.5), (8, 0.5))
    assert best([7, 8], [0.0, 5.0], 5, 1e-3) == ((8, 1.0), (7, 0.0))
    assert best([7, 8], [0.0, 5.0], 5, 1.0, barred={8}) == ((7, 1.0),)
    (_, heavy), (_, light) = best([1, 2], [2.0, 1.0], 2, 2.0)
    assert heavy / light == pytest.approx(math.exp(0.5))


# ----------------------------------------------------------------------------------------------------------- assembly


def test_one_sharer_gives_the_sharers_adapter(either, random_row):
    found = sharers(either, random_row, 1)
    pool = pool_of(either, found)
    record = assemble(either, pool, [Newcomer("n", examples(3, 1))], Settings(k=3))["n"]
    layout, row = pool.adapter(record.entries)
    assert layout.rank == RANK
    assert torch.equal(row, found[0][0].float())
    assert all([weight for _, weight in cited] == [1.0] for cited in record.entries.values())


def test_scores_are_those_of_the_formula_through_assembled_layers(exact, random_row):
    """Against a plain computation that reads the history once per module, on the base with all earlier pieces merged in."""
    found = sharers(exact, random_row, 4)
    pool, rows = pool_of(exact, found), examples(5, 6)
    record = assemble(exact, pool, [Newcomer("n", rows)], Settings(k=2, temperature=0.7))["n"]
    done = {}
    for group in pool.layout.groups:
        layout, row = pool.adapter(done) if done else (pool.layout, torch.zeros(pool.layout.size))
        seen = {}

        class Watch:
            def __init__(self, inner):
                self.inner = inner

            def has(self, name, group=group):
                return name == group.name or self.inner.has(name)

            def add(self, y, x, name, segments, group=group, seen=seen):
                if name == group.name:
                    seen["x"] = x.clone()
                if self.inner.has(name):
                    self.inner.add(y, x, name, segments)

        batch = pack([Row(0, 0, 1.0, r) for r in rows])
        plan = exact.model.plan(batch)
        with torch.inference_mode():
            exact.model.hidden(plan, Watch(plain(exact, layout, [row])))
        x = seen["x"] if len(seen["x"]) == len(batch.predict) else seen["x"][batch.predict]
        per_token = torch.from_numpy(np.repeat([1 / r.n_answer for r in rows], [r.n_answer for r in rows])) / len(rows)
        for site in group.sites:
            shelf = pool.modules[site.name]
            scores = {}
            for piece, gate in zip(shelf.ids, shelf.gates.double(), strict=True):
                z = (x - x.mean(-1, keepdim=True)) / x.std(-1, correction=0, keepdim=True)
                g = (gate - gate.mean()) / gate.std(correction=0)
                scores[piece] = float((z @ g) @ per_token) / math.sqrt(site.d_in)
            ranked = sorted(scores, key=scores.__getitem__, reverse=True)[:2]
            total = sum(math.exp(scores[p] / 0.7) for p in ranked)
            assert [p for p, _ in record.entries[site.name]] == ranked
            for piece, weight in record.entries[site.name]:
                assert weight == pytest.approx(math.exp(scores[piece] / 0.7) / total, abs=1e-6)
        done |= {site.name: record.entries[site.name] for site in group.sites}


def test_choice_depends_on_nothing_but_the_history(either, random_row):
    pool = pool_of(either, sharers(either, random_row, 5))
    mine, other = examples(6, 1), examples(9, 2)
    alone = assemble(either, pool, [Newcomer("n", mine)])["n"]
    company = assemble(either, pool, [Newcomer("m", other), Newcomer("n", mine[::-1]), Newcomer("o", other[:2])])
    tight = assemble(either, pool, [Newcomer("m", other), Newcomer("n", mine)], Settings(token_budget=8))
    scaled = assemble(either, pool.with_gates({m: s.gates * 1e-5 for m, s in pool.modules.items()}), [Newcomer("n", mine)])
    shuffled = assemble(either, Pool(pool.key, either.model.sites(), pool.bodies()[::-1]), [Newcomer("n", mine)])
    for record in (company["n"], tight["n"], scaled["n"], shuffled["n"]):
        for module, cited in alone.entries.items():
            assert [p for p, _ in record.entries[module]] == [p for p, _ in cited]
            np.testing.assert_allclose([w for _, w in record.entries[module]], [w for _, w in cited], atol=1e-6)


@given(st.integers(0, 10**6), st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6)), min_size=1, max_size=4))
def test_a_shared_prefix_is_computed_once_and_nothing_changes(exact, random_row, seed, people):
    """people: (tokens that all prompts begin with, rows) of each."""
    draw = np.random.default_rng(seed)
    rows, layout = [], exact.layout(RANK, ALPHA, QVO)
    for owner, (shared, n) in enumerate(people):
        common = tuple(draw.integers(5, 320, shared).tolist())
        for r in examples(n, seed + owner, low=1, high=9):
            rows.append(Row(owner, 0, 1.0, Rendered(r.id, common + r.ids, r.n_prompt + shared)))
    batch, model = pack(rows), exact.model
    adapters = plain(exact, layout, [random_row(layout, i) for i in range(len(people))])
    with torch.inference_mode():
        once = model.plan(batch, prefix_once=True)
        whole = model.hidden(model.plan(batch), adapters)
        torch.testing.assert_close(model.hidden(once, adapters), whole)
    saved = sum(int(batch.prefix[batch.owner == u].sum() - batch.prefix[batch.owner == u][0]) for u in range(len(people)))
    assert len(once.ids) == batch.n_tokens - saved
    with pytest.raises(AssertionError, match="shared prefix"):
        model.plan(batch, prefix_once=True)


def test_a_changed_piece_changes_later_modules_only(exact, random_row):
    found = sharers(exact, random_row, 4)
    pool, mine = pool_of(exact, found), [Newcomer("n", examples(5, 3))]
    before = assemble(exact, pool, mine, Settings(temperature=0.5))["n"].entries
    order = [site.name for group in pool.layout.groups for site in group.sites]
    changed = order.index("model.layers.0.self_attn.o_proj")
    victim = before[order[changed]][0][0]
    bodies = [
        (piece, module, np.frombuffer(body, "<f4").__mul__(4).astype("<f4").tobytes() if piece == victim else body)
        for piece, module, body in pool.bodies()
    ]
    after = assemble(exact, Pool(pool.key, exact.model.sites(), bodies), mine, Settings(temperature=0.5))["n"].entries
    assert all(after[name] == before[name] for name in order[: changed + 1])
    assert any(after[name] != before[name] for name in order[changed + 1 :])


def test_all_pieces_hot_is_the_uniform_merge_and_cold_is_the_best(exact, random_row):
    pool = pool_of(exact, sharers(exact, random_row, 3))
    mine = [Newcomer("n", examples(4, 3))]
    hot = assemble(exact, pool, mine, Settings(k=3, temperature=1e9))["n"]
    uniform = assemble(exact, pool, mine, Settings(choice="uniform"))["n"]
    for module, cited in hot.entries.items():
        assert {p for p, _ in cited} == {p for p, _ in uniform.entries[module]}
        assert [w for _, w in cited] == pytest.approx([1 / 3] * 3)
    cold = assemble(exact, pool, mine, Settings(k=3, temperature=1e-6))["n"]
    assert all(cited[0][1] == 1.0 for cited in cold.entries.values())


def test_a_strength_is_what_the_weights_add_up_to(either, random_row):
    pool = pool_of(either, sharers(either, random_row, 4))
    mine = [Newcomer("n", examples(4, 3)), Newcomer("none", [])]
    for choice in ("gates", "random", "uniform"):
        for strength in (0.3, 1.0, 2.5):
            found = assemble(either, pool, mine, Settings(choice=choice, strength=strength))
            for cited in found["n"].entries.values():
                weights = [weight for _, weight in cited]
                assert sum(weights) == pytest.approx(strength, rel=1e-6)
                assert all(weight == float(np.float32(weight)) for weight in weights)
            assert not any(found["none"].entries.values())


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=6), st.integers(1, 6), st.floats(0.01, 10), st.floats(0.01, 4))
def test_a_strength_leaves_choice_and_proportions(scores, k, temperature, strength):
    ids = range(len(scores))
    full, weak = best(ids, scores, k, temperature), best(ids, scores, k, temperature, strength=strength)
    assert [p for p, _ in weak] == [p for p, _ in full]
    np.testing.assert_allclose([w for _, w in weak], [strength * w for _, w in full], rtol=1e-6, atol=1e-30)
    heavy = [math.exp((max(scores) - score) / -temperature) for score in sorted(scores, reverse=True)[:k]]
    assert [w for _, w in full] == [float(np.float32(h / sum(heavy))) for h in heavy]  # as without a strength, bit for bit


def test_all_pieces_hot_and_weak_are_so_much_of_the_uniform_merge(exact, random_row):
    pool = pool_of(exact, sharers(exact, random_row, 3))
    mine = [Newcomer("n", examples(4, 3))]
    layout, weak = pool.adapter(assemble(exact, pool, mine, Settings(k=3, temperature=1e9, strength=0.5))["n"].entries)
    _, uniform = pool.adapter(assemble(exact, pool, mine, Settings(choice="uniform"))["n"].entries)
    for module, (a, b) in layout.matrices(uniform).items():
        wa, wb = layout.matrices(weak)[module]
        torch.testing.assert_close(wa.double() @ wb.double(), 0.5 * (a.double() @ b.double()), rtol=1e-5, atol=1e-6)


def test_later_modules_see_the_weakened_update(exact, random_row):
    """Half of every adapter is each sharer's at half the strength: the same pieces, chosen by the same inputs."""
    found, mine = sharers(exact, random_row, 4), [Newcomer("n", examples(5, 3))]
    pool = pool_of(exact, found)
    weak = assemble(exact, pool, mine, Settings(k=2, temperature=0.5, strength=0.5))["n"].entries
    full = assemble(exact, pool, mine, Settings(k=2, temperature=0.5))["n"].entries
    layout, halved = exact.layout(RANK, ALPHA, QVO), []
    for row, gates in found:
        row = row.clone()
        for _, b in layout.matrices(row).values():
            b.mul_(0.5)
        halved.append((row, gates))
    same = assemble(exact, pool_of(exact, halved), mine, Settings(k=2, temperature=0.5))["n"].entries
    first = [site.name for site in pool.layout.groups[0].sites]
    for module, cited in weak.items():
        assert [p for p, _ in cited] == [p for p, _ in same[module]]
        assert [w for _, w in cited] == pytest.approx([0.5 * w for _, w in same[module]], rel=1e-5)
    doubled = {module: [(p, pytest.approx(2 * w, rel=1e-5)) for p, w in cited] for module, cited in weak.items()}
    assert all(list(full[module]) == doubled[module] for module in first)
    assert any(list(full[module]) != doubled[module] for module in full if module not in first)


def test_a_weak_record_gives_back_the_adapter_bit_for_bit(exact, random_row):
    pool = pool_of(exact, sharers(exact, random_row, 4))
    record = assemble(exact, pool, [Newcomer("n", examples(4, 2))], Settings(strength=0.3))["n"]
    again = Record.from_bytes(record.to_bytes(), exact.model.sites())
    assert again == record
    assert torch.equal(pool.adapter(again.entries)[1], pool.adapter(record.entries)[1])


def test_a_strength_that_cannot_be_is_refused():
    for wrong in (0.0, -1.0, 4.1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="the strength is"):
            Settings(strength=wrong)
    with pytest.raises(ConfigError, match="combine by 'delta'"):
        Settings(combine="factor", strength=0.5)
    assert Settings(combine="factor").strength == 1


def test_planted_clusters_are_found_and_random_gates_do_not(exact):
    """Sharers of three kinds whose gates point to three directions of the input; a newcomer's inputs lean to one."""
    layout = exact.layout(RANK, ALPHA, QVO)
    places = GateLayout(layout)
    zero = torch.zeros(layout.size)
    kinds = [examples(60, 100 + kind, low=4, high=5) for kind in range(3)]
    for kind, rows in enumerate(kinds):  # each kind has words of its own
        kinds[kind] = [Rendered(r.id, (*(5 + kind * 100 + i % 8 for i in r.ids[:-1]), 4), r.n_prompt) for r in rows]
    inputs = []
    probe = pool_of(exact, [(zero, torch.ones(places.size))])
    for rows in kinds:
        seen = {}
        batch = pack([Row(0, 0, 1.0, r) for r in rows[:30]])
        plan = exact.model.plan(batch)

        class Watch:
            def has(self, name):
                return any(g.name == name for g in layout.groups)

            def add(self, y, x, name, segments, seen=seen, batch=batch, plan=plan):
                seen[name] = normalised(x[plan.predict] if len(x) > len(batch.predict) else x).mean(0)

        with torch.inference_mode():
            exact.model.hidden(plan, Watch())
        inputs.append(dict(seen))
    mean = {name: sum(i[name] for i in inputs) / 3 for name in inputs[0]}
    bodies, owner, piece = [], {}, 0
    for kind in range(3):
        for s in range(4):
            gates = torch.zeros(places.size)
            for group in layout.groups:
                for site in group.sites:
                    noise = torch.randn(site.d_in, generator=torch.Generator().manual_seed(kind * 10 + s)) * 0.05
                    # What all kinds have in common would favour one gate with all of them.
                    common = normalised(mean[group.name].float())
                    own = (inputs[kind][group.name] - mean[group.name]).float()
                    own = own - common * (own @ common) / (common @ common)
                    places.vectors(gates)[site.name].copy_(own + noise)
            for module, body in cut(layout, zero, gates).items():
                bodies.append((piece, module, body))
                owner[piece], piece = kind, piece + 1
    pool = Pool(probe.key, exact.model.sites(), bodies)
    newcomers = [Newcomer(str(kind), rows[30:]) for kind, rows in enumerate(kinds)]

    def hits(pool):
        found = assemble(exact, pool, newcomers)
        return np.mean([owner[p] == int(r) for r, record in found.items() for c in record.entries.values() for p, _ in c])

    assert hits(pool) >= 0.9
    assert np.mean([hits(random_gates(pool, seed)) for seed in range(12)]) == pytest.approx(1 / 3, abs=0.1)


def test_without_an_answer_or_a_history_the_base_answers(exact, random_row):
    pool = pool_of(exact, sharers(exact, random_row, 2))
    silent = [Rendered("e", (5, 6, 7), 3)]
    found = assemble(exact, pool, [Newcomer("none", []), Newcomer("silent", silent), Newcomer("n", examples(2, 1))])
    assert not any(found["none"].entries.values())
    assert not any(found["silent"].entries.values())
    mixed = assemble(exact, pool, [Newcomer("n", [*silent, *examples(2, 1)])])["n"]
    assert mixed.entries == found["n"].entries
    rows = examples(2, 9)
    torch.testing.assert_close(
        logits(exact, Cited.of(pool, [found["none"].entries, None], torch.float64), rows), logits(exact, None, rows)
    )


def test_fewer_pieces_than_k(exact, random_row):
    pool = pool_of(exact, sharers(exact, random_row, 2))
    module = next(iter(pool.modules))
    pool = pool.only(piece for name, shelf in pool.modules.items() for piece in shelf.ids[: 1 if name == module else 2])
    record = assemble(exact, pool, [Newcomer("n", examples(3, 1))], Settings(k=9))["n"]
    assert len(record.entries[module]) == 1
    assert all(sum(w for _, w in cited) == pytest.approx(1, abs=1e-6) for cited in record.entries.values())


def test_refusals(exact, load, random_row):
    pool = pool_of(exact, sharers(exact, random_row, 1))
    with pytest.raises(ConfigError, match="is empty"):
        assemble(exact, pool.only([]), [])
    with pytest.raises(BaseMismatch, match="another base"):
        assemble(load("llama", seed=5), pool, [])
    with pytest.raises(ConfigError, match="k is 0"):
        Settings(k=0)
    with pytest.raises(ConfigError, match="above 0"):
        Settings(temperature=float("nan"))
    _, module, body = pool.bodies()[0]
    broken = np.frombuffer(body, "<f4").copy()
    broken[3] = np.nan
    with pytest.raises(ShapeError, match="not finite"):
        Pool(pool.key, exact.model.sites(), [(1, module, broken.tobytes())])
    with pytest.raises(ShapeError, match="bytes"):
        Pool(pool.key, exact.model.sites(), [(1, module, body[:-4])])
    with pytest.raises(ShapeError, match="does not have"):
        Pool(pool.key, exact.model.sites(), [(1, "model.layers.9.self_attn.q_proj", body)])
    with pytest.raises(ShapeError, match="twice"):
        Pool(pool.key, exact.model.sites(), [(1, module, body), (1, module, body)])


# ------------------------------------------------------------------------------------------------ combination, records


def test_delta_is_the_weighted_sum_and_factor_is_not(exact, random_row):
    found = sharers(exact, random_row, 3)
    pool = pool_of(exact, found)
    record = assemble(exact, pool, [Newcomer("n", examples(4, 2))], Settings(k=3, temperature=2.0))["n"]
    layout, row = pool.adapter(record.entries)
    _, product = pool.adapter(record.entries, "factor")
    for module, cited in record.entries.items():
        shelf = pool.modules[module]
        a, b = layout.matrices(row)[module]
        expected = sum(w * shelf.a[shelf.place[p]].double() @ shelf.b[shelf.place[p]].double() for p, w in cited)
        mine = layout.scale * a.double() @ b.double()
        assert float((mine - pool.layout.scale * expected).norm() / (pool.layout.scale * expected).norm()) <= 1e-5
        fa, fb = pool.layout.matrices(product)[module]
        assert float((fa.double() @ fb.double() - expected).norm() / expected.norm()) > 0.1


def test_factor_equals_delta_where_every_a_is_the_same(exact, random_row):
    layout = exact.layout(RANK, ALPHA, QVO)
    one = random_row(layout, 0)
    rows = []
    for seed in range(3):
        row = one.clone()
        for (_, b), (_, other) in zip(
            layout.matrices(row).values(), layout.matrices(random_row(layout, seed)).values(), strict=True
        ):
            b.copy_(other)
        rows.append((row, torch.randn(GateLayout(layout).size, generator=torch.Generator().manual_seed(seed))))
    pool = pool_of(exact, rows)
    record = assemble(exact, pool, [Newcomer("n", examples(4, 2))])["n"]
    whole, delta = pool.adapter(record.entries)
    small, factor = pool.adapter(record.entries, "factor")
    for module in record.entries:
        a, b = whole.matrices(delta)[module]
        fa, fb = small.matrices(factor)[module]
        torch.testing.assert_close(a @ b * whole.scale, fa @ fb * small.scale, rtol=1e-5, atol=1e-6)


def test_served_from_the_pool_equals_the_plain_adapter(either, random_row):
    pool = pool_of(either, sharers(either, random_row, 4))
    found = assemble(either, pool, [Newcomer(n, examples(4, i)) for i, n in enumerate("abc")])
    layout = pool.adapter(found["a"].entries)[0]
    rows = examples(4, 9)
    stacked = [pool.adapter(found[n].entries)[1] for n in "abc"] + [torch.zeros(layout.size)]
    cited = Cited.of(pool, [*(found[n].entries for n in "abc"), None], torch.float64)
    close(logits(either, cited, rows), logits(either, plain(either, layout, stacked), rows))
    prompts = pack_prompts([row.ids for row in rows])
    with torch.inference_mode():
        mine, state = either.model.begin(prompts, cited, 4)
        theirs, other = either.model.begin(prompts, plain(either, layout, stacked), 4)
        close(mine, theirs)
        tokens = torch.tensor([7, 8, 9, 10])
        close(either.model.advance(state, tokens), either.model.advance(other, tokens))
        keep = torch.tensor([1, 3])
        either.model.drop(state, keep)
        either.model.drop(other, keep)
        close(either.model.advance(state, tokens[keep]), either.model.advance(other, tokens[keep]))


def test_a_record_gives_back_the_adapter_bit_for_bit(exact, random_row):
    pool = pool_of(exact, sharers(exact, random_row, 4))
    record = assemble(exact, pool, [Newcomer("n", examples(4, 2))])["n"]
    data = record.to_bytes()
    again = Record.from_bytes(data, exact.model.sites())
    assert again == record
    assert torch.equal(pool.adapter(again.entries)[1], pool.adapter(record.entries)[1])
    assert len(data) < 3 * 1024
    gone = record.pieces[0]
    with pytest.raises(PieceNotFound, match=str(gone)):
        pool.only(set(range(1000)) - {gone}).adapter(record.entries)
    with pytest.raises(PieceNotFound, match=str(gone)):
        Cited.of(pool.only(set(range(1000)) - {gone}), [record.entries], torch.float64)


def test_records_of_others_are_refused(exact, load, random_row):
    pool = pool_of(exact, sharers(exact, random_row, 1))
    data = assemble(exact, pool, [Newcomer("n", examples(2, 2))])["n"].to_bytes()
    with pytest.raises(ShapeError, match="another base"):
        Record.from_bytes(data, [s for s in exact.model.sites() if ".1." not in s.name])
    for broken in (b"", data[:20], b"x" * 200):
        with pytest.raises(FileFormatError, match="not an assembly record"):
            Record.from_bytes(broken, exact.model.sites())
