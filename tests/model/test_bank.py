"""The adapter bank: what is in memory, what goes, and what is read again."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from idiolect.errors import AdapterNotFound, BaseMismatch, FileFormatError, InputError, MismatchError
from idiolect.model.bank import Bank
from idiolect.model.files import to_record

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
