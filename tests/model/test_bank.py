"""The adapter bank: what is in memory, what goes, and what is read again."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from idiolect.engine.local import Engine, Request
from idiolect.errors import AdapterNotFound, BaseMismatch, FileFormatError, InputError, MismatchError, PieceNotFound
from idiolect.model.adapter import GateLayout
from idiolect.model.bank import Bank
from idiolect.model.files import to_record
from idiolect.model.pieces import Cited, Pool, PoolKey, cut, read_assembled
from idiolect.pieces.assemble import Newcomer, Settings, assemble
from idiolect.types import Rendered

QV = ("q_proj", "v_proj")


@pytest.fixture
def base(load):
    return load("llama")


@pytest.fixture
def layout(base):
    return base.layout(2, 4.0, QV)


@pytest.fixture
def shelf(base, layout, random_row, tmp_path):
    """(make a bank, rows by key, keys asked for so far): six adapters on disk."""
    rows = {f"p{i}": random_row(layout, i) for i in range(6)}
    for key, row in rows.items():
        (tmp_path / key).write_bytes(to_record(layout, row))
    asked = []

    def find(key):
        asked.append(key)
        return tmp_path / key

    return lambda capacity: Bank(base.model.sites(), base.device, find=find, capacity=capacity), rows, asked


def stacked(bank, *keys):
    return bank.stack(keys).stack.rows


def test_rows_come_in_the_order_asked(shelf):
    make, rows, asked = shelf
    bank = make(4)
    found = stacked(bank, "p1", None, "p0", "p1")
    assert torch.equal(found, torch.stack([rows["p1"], torch.zeros_like(rows["p0"]), rows["p0"], rows["p1"]]))
    assert asked == ["p1", "p0"]
    assert (bank.hits, bank.misses) == (0, 2)
    assert bank.stack([None, None]) is None
    scale = bank.stack(["p0"]).scale
    assert scale.tolist() == [2.0]


def test_the_least_recently_used_goes_and_is_read_again(shelf):
    make, rows, asked = shelf
    bank = make(2)
    for key in ("p0", "p1", "p0", "p2"):
        assert torch.equal(stacked(bank, key)[0], rows[key])
    assert ("p0" in bank, "p1" in bank, "p2" in bank) == (True, False, True)
    assert len(bank) == 2
    assert torch.equal(stacked(bank, "p1")[0], rows["p1"])
    assert asked == ["p0", "p1", "p2", "p1"]
    assert "p0" not in bank


def test_many_more_people_than_room(shelf):
    make, rows, _ = shelf
    bank = make(3)
    order = [f"p{(7 * i) % 6}" for i in range(40)]
    for a, b in pairwise(order):
        assert torch.equal(stacked(bank, a, b), torch.stack([rows[a], rows[b]]))
        assert len(bank) <= 3


def test_more_people_in_one_batch_than_room_is_an_error(shelf):
    bank = shelf[0](2)
    with pytest.raises(InputError, match="3 different adapters"):
        bank.stack(["p0", "p1", "p2"])


def test_mixed_ranks_are_refused(base, random_row):
    bank = Bank(base.model.sites(), base.device)
    for rank in (2, 3):
        layout = base.layout(rank, 4.0, QV)
        bank.put(f"r{rank}", layout, random_row(layout))
    with pytest.raises(InputError, match="cannot share a batch"):
        bank.stack(["r2", "r3"])
    assert bank.layout_key("r2") != bank.layout_key("r3")


def test_a_dropped_row_is_wiped(base, layout, random_row):
    bank = Bank(base.model.sites(), base.device)
    bank.put("ana", layout, random_row(layout, 1))
    bank.put("ben", layout, random_row(layout, 2))
    bank.drop("ana")
    bank.drop("nobody")
    assert "ana" not in bank
    kept = bank._shelves[layout.key].rows
    assert not (kept == random_row(layout, 1)).all(1).any()
    assert (kept == random_row(layout, 2)).all(1).any()
    with pytest.raises(AdapterNotFound, match="no store"):
        bank.stack(["ana"])
    bank.put("cleo", layout, random_row(layout, 3))
    assert torch.equal(stacked(bank, "cleo", "ben"), torch.stack([random_row(layout, 3), random_row(layout, 2)]))


def test_a_key_put_again_is_replaced_even_with_another_rank(base, layout, random_row):
    bank = Bank(base.model.sites(), base.device, capacity=1)
    wide = base.layout(5, 4.0, QV)
    bank.put("ana", layout, random_row(layout, 1))
    bank.put("ana", layout, random_row(layout, 2))
    assert torch.equal(stacked(bank, "ana")[0], random_row(layout, 2))
    bank.put("ana", wide, random_row(wide, 3))
    assert not bank._shelves[layout.key].rows.any()
    bank.put("ben", layout, random_row(layout, 4))
    assert torch.equal(stacked(bank, "ana")[0], random_row(wide, 3))
    bank.drop("ana")
    assert len(bank) == 1


def test_wrong_records_leave_the_bank_as_it_was(base, layout, tmp_path):
    from safetensors.torch import save_file

    bank = Bank(base.model.sites(), base.device, find=tmp_path.joinpath)
    (tmp_path / "broken").write_bytes(b"broken")
    with pytest.raises(FileFormatError):
        bank.stack(["broken"])
    for size in (1, layout.size - 1):
        save_file({"row": torch.ones(size)}, tmp_path / "short", metadata={"layout": layout.key})
        with pytest.raises(MismatchError):
            bank.stack(["short"])
    assert len(bank) == 0
    with pytest.raises(InputError, match="at least one"):
        Bank(base.model.sites(), base.device, capacity=0)


def test_records_that_were_made_on_something_else_are_refused(base, load, layout, random_row, tmp_path):
    bank = Bank.on(base, tmp_path.joinpath)
    other = load("llama", seed=1)
    on_task = base.with_task("a" * 64, layout, torch.zeros(layout.size))
    for key, origin in {"own": base.origin, "older": None, "other": other.origin, "on-task": on_task.origin}.items():
        (tmp_path / key).write_bytes(to_record(layout, random_row(layout), origin))
    assert bank.stack(["own", "older"]) is not None
    for key in ("other", "on-task"):
        with pytest.raises(BaseMismatch, match=key):
            bank.stack([key])
        assert key not in bank
    assert Bank.on(on_task, tmp_path.joinpath).stack(["on-task"]) is not None


def test_rows_are_float64_on_a_float64_base(base, layout, random_row):
    bank = Bank(base.model.sites(), base.device, torch.float64)
    bank.put("ana", layout, random_row(layout))
    assert stacked(bank, "ana").dtype == torch.float64
    assert Bank(base.model.sites(), base.device, torch.bfloat16)._dtype == torch.float32


# ---------------------------------------------------------------------------------------------------------- assembled


@pytest.fixture
def pieces(base, random_row, tmp_path):
    """(a bank on disk and pool, the pool, records by key): people assembled from a pool of four, and plain ones beside them."""
    small = base.layout(2, 4.0, QV)
    key = PoolKey("LaMP-3", base.fingerprint, None, 2, 4.0, QV)
    draw = torch.Generator().manual_seed(0)
    bodies, piece = [], 10
    for seed in range(4):
        for module, body in cut(small, random_row(small, seed), torch.randn(GateLayout(small).size, generator=draw)).items():
            bodies.append((piece, module, body))
            piece += 1
    pools = {key.digest: Pool(key, base.model.sites(), bodies)}
    pool = pools[key.digest]
    newcomers = [Newcomer(f"n{i}", [Rendered("e", tuple(range(5 + i, 30 + i)), 20)]) for i in range(3)]
    for combine in ("delta", "factor"):
        for name, record in assemble(base, pool, newcomers, Settings(k=2, combine=combine)).items():
            (tmp_path / f"{name}-{combine}").write_bytes(record.to_bytes(base.tokenizer.digest))
    records = {name: read_assembled(tmp_path / name, base.model.sites())[0] for name in ("n0-delta", "n1-delta", "n0-factor")}
    for i in range(2):
        (tmp_path / f"p{i}").write_bytes(to_record(small, random_row(small, 20 + i), base.origin))
    return Bank.on(base, tmp_path.joinpath, pools=lambda key: pools[key.digest]), pools, records


def test_assembled_people_and_plain_ones_in_one_batch_answer_as_exported(base, pieces):
    bank, pools, records = pieces
    (pool,) = pools.values()
    prompts = [tuple(range(5 + i, 25 + 2 * i)) for i in range(7)]
    keys = ["n0-delta", "p0", "n1-delta", None, "n0-factor", "p1", "n0-delta"]
    requests = [Request(str(i), ids, key, max_new_tokens=5) for i, (ids, key) in enumerate(zip(prompts, keys, strict=True))]
    mixed = Engine(base, bank).generate(requests, ignore_eos=True)
    plain = Bank.on(base, bank._find)
    for name, record in records.items():
        plain.put(name, *pool.adapter(record.entries, record.combine))
    alone = [Engine(base, plain).generate([request], ignore_eos=True)[0] for request in requests]
    assert [c.ids for c in mixed] == [c.ids for c in alone]
    labels = [[5, 6, 4], [7, 4]]
    scores = Engine(base, bank).choose(requests, ["a", "b"], labels)
    expected = [Engine(base, plain).choose([request], ["a", "b"], labels)[0] for request in requests]
    for mine, theirs in zip(scores, expected, strict=True):
        assert mine.scores == pytest.approx(theirs.scores, abs=1e-4)


def test_of_an_assembled_adapter_only_the_record_is_kept(pieces):
    bank, pools, records = pieces
    (key,) = pools
    assert bank.layout_key("n0-delta") == bank.layout_key("n1-delta") != bank.layout_key("p0")
    assert not any("delta" in name for shelf in bank._shelves.values() for name in shelf.slots)
    assert bank._records[f"pool {key}"].entries["n0-delta"] == records["n0-delta"].entries
    assert isinstance(bank.stack(["n0-delta", None]), Cited)


def test_a_bank_that_is_full_of_records(base, pieces):
    bank, pools, _ = pieces
    small = Bank.on(base, bank._find, capacity=2, pools=lambda key: pools[key.digest])
    for name in ("n0-delta", "n1-delta", "n0-delta", "n2-delta"):
        small.stack([name])
    assert ("n0-delta" in small, "n1-delta" in small, len(small)) == (True, False, 2)
    small.drop("n0-delta")
    small.drop("n0-delta")
    assert len(small) == 1


def test_a_changed_pool_takes_its_adapters_out_of_memory(pieces):
    bank, pools, records = pieces
    ((digest, pool),) = pools.items()
    bank.stack(["p0"])
    bank.stack(["n0-delta"])
    bank.stack(["n0-factor"])
    gone = records["n0-delta"].pieces[0]
    pools[digest] = pool.only(piece for piece, _, _ in pool.bodies() if piece != gone)
    with pytest.raises(PieceNotFound, match=str(gone)):
        bank.stack(["n0-delta"])
    bank.drop_pool(digest)
    bank.drop_pool("unknown")
    assert ("p0" in bank, "n0-delta" in bank, "n0-factor" in bank) == (True, False, False)
    for name in ("n0-delta", "n0-factor"):
        with pytest.raises(PieceNotFound, match=str(gone)):
            bank.stack([name])


def test_records_need_their_pool_base_and_tokenizer(base, load, pieces, tmp_path):
    bank, pools, records = pieces
    with pytest.raises(AdapterNotFound, match="no pools"):
        Bank.on(base, tmp_path.joinpath).stack(["n0-delta"])
    with pytest.raises(BaseMismatch):
        Bank.on(load("llama", seed=1), tmp_path.joinpath, pools=lambda key: pools[key.digest]).stack(["n0-delta"])
    (tmp_path / "other").write_bytes(records["n0-delta"].to_bytes("a" * 64))
    with pytest.raises(BaseMismatch, match="another tokenizer"):
        bank.stack(["other"])
    (tmp_path / "unchecked").write_bytes(records["n0-delta"].to_bytes())
    assert bank.stack(["unchecked"]) is not None
    with pytest.raises(InputError, match="cannot share a batch"):
        bank.stack(["n0-delta", "p0"])


def test_equal_records_are_equal_bytes(base, layout, random_row, pieces):
    assert len({to_record(layout, random_row(layout), base.origin) for _ in range(8)}) == 1
    assert len({pieces[2]["n0-delta"].to_bytes("a" * 64) for _ in range(8)}) == 1
