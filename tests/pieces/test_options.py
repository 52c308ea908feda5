"""Beyond the paper: searched weights, a residual on top, a pool in a subspace; and attacks on what is shared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from test_pieces_model import ALPHA, QVO, RANK, examples, pool_of, sharers

from idiolect.config import TrainConfig
from idiolect.errors import ConfigError, InputError
from idiolect.model.adapter import GateLayout
from idiolect.model.pieces import Cited, directions
from idiolect.pieces.assemble import Newcomer, assemble
from idiolect.pieces.privacy import attack, auc, probe
from idiolect.pieces.residual import Residual, added, residual_bytes, residuals, widened
from idiolect.pieces.scoring import example_losses
from idiolect.pieces.search import Search, moved, search
from idiolect.pieces.subspace import compress
from idiolect.train.loss import answer_loss

SEARCH = Search(budget=9, max_examples=3)


@pytest.fixture(scope="module")
def exact(load):
    return load("llama", dtype="float64")


@pytest.fixture(scope="module")
def pool(exact, random_row):
    return pool_of(exact, sharers(exact, random_row, 5))


@pytest.fixture(scope="module")
def histories():
    return {"ana": examples(7, 1), "ben": examples(4, 2), "none": []}


@pytest.fixture(scope="module")
def records(exact, pool, histories):
    return assemble(exact, pool, [Newcomer(user, mine) for user, mine in histories.items()])


def losses_of(base, pool, record, examples):
    return example_losses(base, Cited.of(pool, [record.entries], torch.float64), [(0, e) for e in examples]).mean()


def test_example_losses_are_the_trainers(exact, histories):
    mine = histories["ana"]
    found = example_losses(exact, None, [(0, e) for e in mine])
    small = example_losses(exact, None, [(0, e) for e in mine], token_budget=8)
    np.testing.assert_allclose(found, small, rtol=1e-10)
    from idiolect.data.batch import Row, pack

    batch = pack([Row(0, 0, 1.0, mine[2])])
    with torch.inference_mode():
        hidden = exact.model.hidden(exact.model.plan(batch))
        losses, _ = answer_loss(hidden, exact.model.head, torch.from_numpy(batch.targets), torch.from_numpy(batch.weights))
    assert found[2] == pytest.approx(float(losses.mean()))


# ------------------------------------------------------------------------------------------------------------- search


def test_zero_is_where_the_gates_put_it(records):
    entries = records["ana"].entries
    for module, cited in moved(entries, [0.0] * 6).items():
        assert [p for p, _ in cited] == [p for p, _ in entries[module]]
        np.testing.assert_allclose([w for _, w in cited], [w for _, w in entries[module]], rtol=1e-6)


@given(st.lists(st.floats(-2, 2), min_size=6, max_size=6))
def test_weights_anywhere_are_float32_and_not_below_zero(records, at):
    for cited in moved(records["ana"].entries, at).values():
        weights = [weight for _, weight in cited]
        assert all(weight == float(np.float32(weight)) and weight >= 0 for weight in weights)
        assert weights == sorted(weights, reverse=True)


def test_search_is_never_worse_where_it_was_judged(exact, pool, records, histories):
    for seed in range(3):
        chosen = SEARCH.but(seed=seed)
        found = search(exact, pool, records, histories, chosen)
        for user in ("ana", "ben"):
            judged = chosen.judged_on(histories[user])
            assert losses_of(exact, pool, found[user], judged) <= losses_of(exact, pool, records[user], judged) + 1e-12
            assert found[user].pieces == records[user].pieces
        assert found["none"] == records["none"]
    assert found["ana"] != records["ana"]


def test_search_depends_on_nobody_else(exact, pool, records, histories):
    before = np.random.get_state()[1].copy()
    together = search(exact, pool, records, histories, SEARCH)
    alone = search(exact, pool, {"ben": records["ben"]}, histories, SEARCH)
    assert together["ben"] == alone["ben"]
    assert search(exact, pool, records, histories, SEARCH) == together
    assert search(exact, pool, records, histories, SEARCH.but(seed=5)) != together
    assert (np.random.get_state()[1] == before).all()


def test_what_is_judged_on_is_the_newest():
    mine = examples(20, 3)
    assert Search(held_out=0.2).judged_on(mine) == mine[-4:]
    assert Search(held_out=0.01).judged_on(mine) == mine[-1:]
    assert Search(held_out=1.0, max_examples=5).judged_on(mine) == mine[-5:]
    assert Search().judged_on([]) == []


# ----------------------------------------------------------------------------------------------------------- residual


def test_a_residual_leaves_what_was_assembled_bit_for_bit(exact, pool, records, histories):
    config = TrainConfig(learning_rate=1e-2, epochs=2, batch_size=2, weight_decay=0.1)
    found = residuals(exact, pool, records, histories, config, Residual(rank=2, min_items=5))
    assert set(found) == {"ana"}  # ben has too few, and whoever has none has no adapter
    layout, row = found["ana"]
    given, start = pool.adapter(records["ana"].entries)
    assert layout.rank == given.rank + 2
    assert layout.scale == given.scale
    for name, (a, b) in layout.matrices(row).items():
        first = given.matrices(start)[name]
        assert torch.equal(a[:, : given.rank].float(), first[0])
        assert torch.equal(b[: given.rank].float(), first[1])
        assert b[given.rank :].abs().sum() > 0
    assert residual_bytes(layout, 2) == 4 * int(added(layout, 2).sum())


def test_a_fresh_residual_changes_nothing(exact, pool, records):
    layout, row = pool.adapter(records["ana"].entries)
    wide, whole = widened(exact, layout, row, 1, 0, "ana")
    for name, (a, b) in wide.matrices(whole).items():
        first = layout.matrices(row)[name]
        torch.testing.assert_close(wide.scale * a @ b, layout.scale * first[0] @ first[1])


# ----------------------------------------------------------------------------------------------------------- subspace


@settings(max_examples=10)
@given(st.integers(1, 40))
def test_more_directions_are_nearer_and_all_are_exact(exact, pool, directions):
    few, more = (compress(pool, exact.model.sites(), n) for n in (directions, directions + 1))
    assert more.error <= few.error + 1e-12
    assert 0 <= few.error < 1
    assert few.bytes_before == pool.size_bytes
    assert few.bytes_after < more.bytes_after or directions >= 15
    if directions >= 32:
        assert few.error < 1e-12
        for name, shelf in pool.modules.items():
            torch.testing.assert_close(few.pool.modules[name].a @ few.pool.modules[name].b, shelf.a @ shelf.b)


def test_a_subspace_keeps_ids_gates_and_choices(exact, pool, histories, records):
    small = compress(pool, exact.model.sites(), 32)
    assert small.pool.version == pool.version
    again = assemble(exact, small.pool, [Newcomer("ana", histories["ana"])])["ana"]
    for module, cited in records["ana"].entries.items():
        assert [p for p, _ in again.entries[module]] == [p for p, _ in cited]
    with pytest.raises(ConfigError, match="at least 1"):
        compress(pool, exact.model.sites(), 0)


def test_pieces_alike_need_few_directions(exact, random_row):
    layout = exact.layout(RANK, ALPHA, QVO)
    row = random_row(layout, 0)
    scaled = [(row * size, torch.zeros(GateLayout(layout).size)) for size in (1.0, -0.5, 2.0)]
    assert compress(pool_of(exact, scaled), exact.model.sites(), RANK).error < 1e-6


# ------------------------------------------------------------------------------------------------------------- attacks


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=60))
def test_auc_is_scikit_learns(pairs):
    scores, member = np.array([float(s) for s, _ in pairs]), np.array([m for _, m in pairs])
    if member.all() or not member.any():
        with pytest.raises(InputError, match="members and others"):
            auc(scores, member)
    else:
        assert auc(scores, member) == pytest.approx(roc_auc_score(member, scores))


def test_the_interval_resamples_people():
    draw = np.random.default_rng(0)
    owner = np.repeat(np.arange(30), 20)
    member = np.tile(np.arange(20) < 10, 30)
    scores = draw.normal(size=600) + member * 0.5
    found = attack(scores, member, owner, seed=1, n_resamples=400)
    assert found.auc == pytest.approx(roc_auc_score(member, scores))
    assert found.low < found.auc < found.high
    assert 0.02 < found.high - found.low < 0.15
    assert attack(scores, member, owner, seed=1, n_resamples=400) == found
    nothing = attack(draw.normal(size=600), member, owner, seed=1, n_resamples=400)
    assert nothing.low < 0.5 < nothing.high
    with pytest.raises(InputError, match="not finite"):
        auc(np.array([np.nan, 1.0]), np.array([True, False]))


def test_a_gate_made_of_its_owners_inputs_betrays_them_and_a_random_one_does_not(exact):
    """Gates that lean towards their owner's texts, as the extreme of what training could do."""
    layout = exact.layout(RANK, ALPHA, QVO)
    places, people = GateLayout(layout), 12
    texts = [(u, e) for u in range(people) for e in examples(12, 50 + u)]
    member = np.tile(np.arange(12) < 6, people)
    owner = np.array([u for u, _ in texts])
    gates = torch.zeros(people, places.size, dtype=torch.float64)

    # A unit gate per coordinate reads the input itself: the probe is linear in the gate.
    inputs = torch.stack(
        [
            torch.from_numpy(probe(exact, layout, unit.expand(people, -1), texts, raw=True))
            for unit in torch.eye(places.size, dtype=torch.float64)
        ],
        1,
    )
    for u in range(people):
        mine, others = inputs[(owner == u) & member], inputs[(owner == u) & ~member]
        gates[u] = mine.mean(0) - others.mean(0)
    assert auc(probe(exact, layout, gates, texts, raw=True), member) > 0.8
    assert auc(probe(exact, layout, directions(layout, gates), texts, raw=False), member) > 0.6
    draw = torch.Generator().manual_seed(3)
    noise = [torch.randn(gates.shape, generator=draw).double() for _ in range(12)]
    chance = np.mean([auc(probe(exact, layout, each, texts, raw=False), member) for each in noise])
    assert chance == pytest.approx(0.5, abs=0.05)


def test_a_direction_has_no_length_and_probes_the_same(exact):
    layout = exact.layout(RANK, ALPHA, QVO)
    gates = torch.randn(2, GateLayout(layout).size, generator=torch.Generator().manual_seed(0))
    turned = directions(layout, gates)
    for row in turned:
        for vector in GateLayout(layout).vectors(row).values():
            assert float(vector.std(correction=0)) == pytest.approx(1, abs=1e-5)
            assert float(vector.mean()) == pytest.approx(0, abs=1e-6)
    texts = [(i, e) for i in range(2) for e in examples(3, i)]
    plain, published = (probe(exact, layout, g, texts, raw=False) for g in (gates, turned))
    np.testing.assert_allclose(plain, published, atol=1e-6)
    assert torch.equal(directions(layout, torch.zeros_like(gates)), torch.zeros_like(gates))


def test_assembling_does_not_see_the_length_of_gates(exact, pool, histories, records):
    turned = pool.with_gates({m: s.unit / s.site.d_in**0.5 for m, s in pool.modules.items()})
    again = assemble(exact, turned, [Newcomer("ana", histories["ana"])])["ana"]
    expected = replace(records["ana"], version=again.version)
    for module, cited in expected.entries.items():
        assert [p for p, _ in again.entries[module]] == [p for p, _ in cited]
        np.testing.assert_allclose([w for _, w in again.entries[module]], [w for _, w in cited], atol=1e-6)
