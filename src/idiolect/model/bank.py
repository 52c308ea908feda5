"""The adapter bank: adapters of the people being served, side by side in memory, the least recently used making room.

    digest ──find──▶ record file ──one read──▶ a row of the bank ──index──▶ the batch
                              └── assembled ──▶ ids and weights of pieces, which all stay in one pool

A row is one flat tensor, so loading is one read and one copy, whatever the number of people or of modules. Of an adapter
that was assembled from pieces only the record is kept, a few kilobytes; its numbers are the pool's own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from idiolect.errors import AdapterNotFound, InputError, ShapeError
from idiolect.model.adapter import Layout, Site, Stack
from idiolect.model.files import header_of, layout_of, read_record
from idiolect.model.lora import Adapters, Rows
from idiolect.model.pieces import Cited, Entries, Pool, PoolKey, read_assembled

if TYPE_CHECKING:
    from idiolect.model.base import Base

Pools = Callable[[PoolKey], Pool]
"""Where the pool of a key is found; called for every batch, so it must be quick."""


@dataclass
class _Shelf:
    """Rows of one layout. `slots` is in order of use, the least recent first."""

    layout: Layout
    rows: Tensor
    slots: OrderedDict[str, int] = field(default_factory=OrderedDict)

    def touch(self, key: str) -> None:
        self.slots.move_to_end(key)

    def drop(self, key: str) -> None:
        self.rows[self.slots.pop(key)].zero_()


@dataclass
class _Records:
    """What is kept of adapters that cite one pool; in order of use, the least recent first."""

    pool: PoolKey
    entries: OrderedDict[str, Entries] = field(default_factory=OrderedDict)

    def touch(self, key: str) -> None:
        self.entries.move_to_end(key)

    def drop(self, key: str) -> None:
        del self.entries[key]


class Bank:
    """Adapters in memory, by key (a stored adapter's digest, or any name given to `put`).

    Args:
        sites: the base's.
        device: where the rows live.
        dtype: float32, or float64 on a float64 base.
        find: the record of a key that is not in memory, as a file or as bytes; None: only what was `put` is known.
        capacity: adapters per layout, and per pool, that are kept in memory.
        accept: called with a record's origin and its key when it is loaded; raises where it does not belong.
        pools: where assembled adapters find their pieces; None: there are no assembled adapters.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        find: Callable[[str], Path | bytes] | None = None,
        capacity: int = 256,
        accept: Callable[[Mapping[str, str], str], None] | None = None,
        pools: Pools | None = None,
    ) -> None:
        if capacity < 1:
            raise InputError(f"a bank needs room for at least one adapter, not {capacity}")
        self._sites, self._device, self._find, self.capacity = list(sites), device, find, capacity
        self._accept, self._pools = accept, pools
        self._dtype = torch.float64 if dtype == torch.float64 else torch.float32
        self._shelves: dict[str, _Shelf] = {}
        self._records: dict[str, _Records] = {}
        self._where: dict[str, str] = {}
        self._products: dict[str, set[str]] = {}
        self.hits, self.misses = 0, 0

    @classmethod
    def on(cls, base: Base, find: Callable[[str], Path | bytes], capacity: int = 256, pools: Pools | None = None) -> Bank:
        """A bank of stored adapters that were made on this base, its tokenizer and its task adapter; others are refused."""
        return cls(base.model.sites(), base.device, base.dtype, find, capacity, base.accept_origin, pools)

    def __contains__(self, key: str) -> bool:
        return key in self._where

    def __len__(self) -> int:
        return len(self._where)

    def put(self, key: str, layout: Layout, row: Tensor) -> None:
        """Keep a row under a key; the least recently used row of a full shelf goes."""
        if row.shape != (layout.size,):
            raise ShapeError(f"adapter {key[:12]!r}: a row of {tuple(row.shape)} does not fit {layout.size} numbers")
        if self._where.get(key, layout.key) != layout.key:
            self.drop(key)
        shelf = self._shelves.setdefault(layout.key, _Shelf(layout, self._empty(0, layout)))
        slot = shelf.slots.pop(key, None)
        if slot is None:
            slot = self._free_slot(shelf)
        shelf.rows[slot].copy_(row)
        shelf.slots[key], self._where[key] = slot, layout.key

    def cite(self, key: str, pool: PoolKey, entries: Entries) -> None:
        """Keep which pieces an assembled adapter cites; the least recently used of the pool goes where it is full."""
        self.drop(key)
        place = f"pool {pool.digest}"  # no layout's key, which is JSON
        kept = self._records.setdefault(place, _Records(pool))
        if len(kept.entries) >= self.capacity:
            self.drop(next(iter(kept.entries)))
        kept.entries[key], self._where[key] = entries, place

    def drop(self, key: str) -> None:
        """Forget a key, and wipe its row."""
        if (place := self._where.pop(key, None)) is not None:
            self._kept(place).drop(key)

    def drop_pool(self, digest: str) -> None:
        """Forget every adapter that was assembled from this pool, because the pool has changed."""
        cited = self._records.pop(f"pool {digest}", None)
        for key in cited.entries if cited else ():
            del self._where[key]
        for key in self._products.pop(digest, set()):
            self.drop(key)

    def layout_key(self, key: str) -> str:
        """Which layout a key's adapter has, or which pool it cites, loading it if it is not in memory."""
        if key in self._where:
            self.hits += 1
        else:
            self.misses += 1
            self._load(key)
        self._kept(self._where[key]).touch(key)
        return self._where[key]

    def stack(self, keys: Sequence[str | None]) -> Rows | None:
        """Everybody's adapter in the order of the keys, nothing for None; all of one layout, or of one pool.

        None where no key is given at all.

        Raises:
            PieceNotFound: an assembled adapter cites a piece that was withdrawn.
        """
        known = [key for key in keys if key is not None]
        if not known:
            return None
        distinct = dict.fromkeys(known)
        if len(distinct) > self.capacity:
            raise InputError(f"{len(distinct)} different adapters do not fit into a bank of {self.capacity}; ask in parts")
        places = {self.layout_key(key) for key in distinct}
        if len(places) > 1:
            raise InputError("adapters of different rank, targets or pool cannot share a batch; group them by layout_key")
        place = places.pop()
        return self._stacked(self._shelves[place], keys) if place in self._shelves else self._cited(self._records[place], keys)

    def _stacked(self, shelf: _Shelf, keys: Sequence[str | None]) -> Adapters:
        rows = self._empty(len(keys), shelf.layout)
        for i, key in enumerate(keys):
            if key is not None:
                rows[i] = shelf.rows[shelf.slots[key]]
        scale = torch.full((len(keys),), shelf.layout.scale, dtype=self._dtype, device=self._device)
        return Adapters(Stack(shelf.layout, rows), scale)

    def _cited(self, kept: _Records, keys: Sequence[str | None]) -> Cited:
        return Cited.of(self._pool(kept.pool), [kept.entries[key] if key is not None else None for key in keys], self._dtype)

    def _kept(self, place: str) -> _Shelf | _Records:
        return self._shelves[place] if place in self._shelves else self._records[place]

    def _pool(self, key: PoolKey) -> Pool:
        if self._pools is None:
            raise AdapterNotFound("the adapter was assembled from pieces, and this bank has no pools to find them in")
        return self._pools(key)

    def _load(self, key: str) -> None:
        if self._find is None:
            raise AdapterNotFound(f"adapter {key[:12]!r} is not in the bank, and the bank has no store to load it from")
        found = self._find(key)
        if "pool" in header_of(found):
            return self._load_assembled(key, found)
        record = read_record(found)
        if self._accept is not None:
            self._accept(record.origin, key)
        self.put(key, layout_of(record.layout, self._sites), record.row)

    def _load_assembled(self, key: str, found: Path | bytes) -> None:
        record, origin = read_assembled(found, self._sites)
        if self._accept is not None:
            self._accept(origin, key)
        pool = self._pool(record.key)
        pool.require(record.entries)
        if record.combine == "delta":
            return self.cite(key, record.key, record.entries)
        # A product of sums is no sum of the pool's products: it needs a row of its own.
        self.put(key, *pool.adapter(record.entries, record.combine))
        self._products.setdefault(record.key.digest, set()).add(key)

    def _free_slot(self, shelf: _Shelf) -> int:
        if len(shelf.slots) >= self.capacity:
            oldest, slot = shelf.slots.popitem(last=False)
            del self._where[oldest]
            return slot
        taken = set(shelf.slots.values())
        slot = next(i for i in range(len(taken) + 1) if i not in taken)
        if slot >= len(shelf.rows):
            grown = self._empty(min(self.capacity, max(8, 2 * len(shelf.rows))), shelf.layout)
            grown[: len(shelf.rows)] = shelf.rows
            shelf.rows = grown
        return slot

    def _empty(self, n: int, layout: Layout) -> Tensor:
        return torch.zeros(n, layout.size, dtype=self._dtype, device=self._device)
