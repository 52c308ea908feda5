"""What an assembled adapter is made of, and what a pool costs.

    ratio(N) = N · own / (pool + N · record)        bytes of everybody's own adapter, over those of the pool and of N records

The ratio depends on how many people there are, so there is no one figure: below pool / (own - record) people, a pool costs
more than it saves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from idiolect.errors import InputError
from idiolect.model.adapter import Site
from idiolect.model.files import to_record
from idiolect.model.pieces import Entries, Pool, Record, read_assembled
from idiolect.pieces.assemble import Settings
from idiolect.store.records import PoolRow
from idiolect.store.store import Store
from idiolect.types import AdapterManifest

PEOPLE = (10, 100, 1000, 10000)
"""For how many people a pool's cost is told."""


@dataclass(frozen=True)
class AdapterView:
    """An assembled adapter.

    Attributes:
        entries: for each module, the pieces it cites and their weights, the heaviest first.
        stale: the pool has changed since; what is cited is all still there.
        n_history: items that were read.
    """

    digest: str
    manifest: AdapterManifest
    is_head: bool
    size_bytes: int
    entries: Entries
    n_history: int
    stale: bool


@dataclass(frozen=True)
class PoolView:
    """A pool and what it costs.

    Attributes:
        per_module: pieces of each module.
        n_adapters: adapters that were assembled from it.
        record_bytes: of one of those, mean; of one with 3 pieces per module where there is none.
        own_bytes: of one of the sharers' own adapters, mean; of one of their shape where there is none.
    """

    row: PoolRow
    per_module: Mapping[str, int]
    n_adapters: int
    record_bytes: float
    own_bytes: float

    @property
    def ratios(self) -> dict[int, float]:
        """By number of people: bytes of everybody's own adapter over those of pool and records."""
        return {n: n * self.own_bytes / (self.row.size_bytes + n * self.record_bytes) for n in PEOPLE}

    @property
    def break_even(self) -> float:
        """People from whom on the pool saves anything; infinite where it never does."""
        gain = self.own_bytes - self.record_bytes
        return self.row.size_bytes / gain if gain > 0 else float("inf")


def adapter_view(store: Store, digest: str, sites: Sequence[Site]) -> AdapterView:
    """One assembled adapter.

    Raises:
        InputError: the adapter was trained.
    """
    manifest = store.manifest(digest)
    if manifest.kind != "assembled":
        raise InputError(f"adapter {digest[:12]} was trained, not assembled; see it with: idiolect adapters show {digest[:12]}")
    row = next(row for row in store.adapters(manifest.user_id, "assembled") if row.digest == digest)
    record, _ = read_assembled(store.record(digest), sites)
    stale = store.pool_version(manifest.settings["pool"]) != manifest.settings["pool_version"]
    return AdapterView(digest, manifest, row.is_head, row.size_bytes, record.entries, record.n_history, stale)


def pool_view(store: Store, row: PoolRow, pool: Pool) -> PoolView:
    """One pool, measured in real bytes."""
    assembled = store.adapters(kind="assembled", task=pool.key.task, base=pool.key.base)
    records = [a.size_bytes for a in assembled if store.manifest(a.digest).settings["pool"] == row.digest]
    own = [
        a.size_bytes
        for a in store.adapters(kind="user", task=pool.key.task, base=pool.key.base)
        if _fits(store, a.digest, pool)
    ]
    names = [site.name for group in pool.layout.groups for site in group.sites]
    per_module = {name: len(pool.modules[name].ids) if name in pool.modules else 0 for name in names}
    record_bytes = fmean(records) if records else _record_bytes(pool)
    return PoolView(row, per_module, len(records), record_bytes, fmean(own) if own else _own_bytes(pool))


def _fits(store: Store, digest: str, pool: Pool) -> bool:
    m, key = store.manifest(digest), pool.key
    return (m.task_adapter, m.rank, m.targets) == (key.task_adapter, key.rank, key.targets)


def _record_bytes(pool: Pool) -> int:
    k = Settings().k
    entries = {name: tuple((piece, 1 / k) for piece in shelf.ids[:k]) for name, shelf in pool.modules.items()}
    return len(Record(pool.key, pool.version, k, 1.0, entries).to_bytes("0" * 64))


def _own_bytes(pool: Pool) -> int:
    return len(to_record(pool.layout, torch.zeros(pool.layout.size), {"base": pool.key.base, "tokenizer": "0" * 64}))
