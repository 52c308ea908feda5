"""The arms of pieces: what each of them makes for every target, and what is kept of it.

Shared + newcomers ─▶ Made: a bank with everybody's adapter in it, and its key for everybody
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from idiolect.config import TrainConfig
from idiolect.evals.arms import BY_LOT
from idiolect.evals.pooling import PiecePlan, Shared, Workshop, newcomers, noisy
from idiolect.model.bank import Bank
from idiolect.model.base import Base
from idiolect.model.pieces import Pool, Record
from idiolect.pieces.assemble import Newcomer, Settings, assemble, random_gates
from idiolect.pieces.residual import residual_bytes, residuals
from idiolect.pieces.search import search
from idiolect.pieces.select import nearest
from idiolect.pieces.subspace import compress
from idiolect.train.stages import Recipe, newest
from idiolect.types import Person, Rendered

DIGEST_BYTES = 32
"""What is kept of a target who uses a whole adapter of somebody else's: its name."""


@dataclass(frozen=True)
class Made:
    """One arm's adapters, with one seed.

    Attributes:
        keys: of each target in the bank.
        seconds: of making them, over all targets.
        bytes_per_person: what is kept of each, the pool not counted.
        about: what the report says of it.
    """

    bank: Bank
    keys: Mapping[str, str]
    seconds: float
    bytes_per_person: float
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Kitchen:
    """Makes the arms of one task adapter. What several arms need is made once.

    Args:
        base: with the task adapter merged in.
        recipe: the targets'.
        config: how a residual is trained.

    Attributes:
        heard: the targets as every arm hears of them: with the plan's noise in their histories.
    """

    workshop: Workshop
    base: Base
    recipe: Recipe
    plan: PiecePlan
    shared: Shared
    people: Sequence[Person]
    config: TrainConfig

    def __post_init__(self) -> None:
        self.heard = noisy(self.people, self.plan.noise, self.plan.consent.seed)
        found = newcomers(self.base, self.recipe, self.heard)
        self.newcomers: list[Newcomer] = found[0]
        self.examples: dict[str, list[Rendered]] = found[1]
        self.rendering_s = found[2]
        self._assembled: tuple[dict[str, Record], float] | None = None

    def make(self, variant: str) -> list[Made]:
        """An arm's adapters: once, or once with each seed where they hang on a lot."""
        pool, settings = self.shared.pool, self.plan.assembly
        makers: Mapping[str, Callable[[int], Made]] = {
            "pieces": lambda seed: self._cited(pool, *self.assembled()),
            "nearest": lambda seed: self._nearest(),
            "uniform": lambda seed: self._uniform(),
            "random-pieces": lambda seed: self._chosen(pool, replace(settings, choice="random", seed=seed)),
            "random-gates": lambda seed: self._chosen(random_gates(pool, seed), settings),
            "search": lambda seed: self._searched(),
            "residual": lambda seed: self._residual(),
            "subspace": lambda seed: self._subspace(),
        }
        seeds = self.plan.seeds if variant in BY_LOT else self.plan.seeds[:1]
        return [makers[variant](seed) for seed in seeds]

    def assembled(self) -> tuple[dict[str, Record], float]:
        """Everybody's record by the gates, and the seconds of it."""
        if self._assembled is None:
            began = time.monotonic()
            records = assemble(self.base, self.shared.pool, self.newcomers, self.plan.assembly)
            self._assembled = records, time.monotonic() - began + self.rendering_s
        return self._assembled

    # ------------------------------------------------------------------------------------------------------ one by one

    def _chosen(self, pool: Pool, settings: Settings) -> Made:
        began = time.monotonic()
        records = assemble(self.base, pool, self.newcomers, settings)
        return self._cited(pool, records, time.monotonic() - began + self.rendering_s)

    def _cited(self, pool: Pool, records: Mapping[str, Record], seconds: float, about: Mapping[str, Any] | None = None) -> Made:
        """Adapters that stay records: answered from the pool."""
        bank = self._bank(pool)
        for user, record in records.items():
            if record.combine == "delta":
                bank.cite(user, pool.key, record.entries)
            else:
                bank.put(user, *pool.adapter(record.entries, record.combine))
        kept = sum(len(record.to_bytes(self.base.tokenizer.digest)) for record in records.values()) / len(self.people)
        return Made(bank, {user: user for user in records}, seconds, kept, about or {})

    def _uniform(self) -> Made:
        """Everybody gets the same: all pieces with equal weights."""
        began = time.monotonic()
        bank, pool = self._bank(self.shared.pool), self.shared.pool
        each = self.plan.assembly.strength
        entries = {name: tuple((piece, each / len(shelf.ids)) for piece in shelf.ids) for name, shelf in pool.modules.items()}
        bank.cite("uniform", pool.key, entries)
        return Made(bank, {person.id: "uniform" for person in self.people}, time.monotonic() - began, 0.0)

    def _nearest(self) -> Made:
        """The whole adapter of the sharer whose history is the most like the target's."""
        began = time.monotonic()
        task, most = self.recipe.task, self.plan.selection.max_items
        kept = [Person(p.id, newest(p, self.recipe.max_history)) for p in self.heard]
        store = self.workshop.store
        sharers = self.workshop.vectors(task, [store.person(user) for user in sorted(self.shared.adapters)], most)
        mean = np.mean(list(sharers.values()), axis=0)
        found = {user: nearest(vector, sharers, mean) for user, vector in self.workshop.vectors(task, kept, most).items()}
        keys = {user: self.shared.adapters[sharer] for user, sharer in found.items()}
        return Made(self._bank(self.shared.pool), keys, time.monotonic() - began, DIGEST_BYTES)

    def _searched(self) -> Made:
        records, seconds = self.assembled()
        began = time.monotonic()
        found = search(self.base, self.shared.pool, records, self.examples, self.plan.search)
        about = {"search": self.plan.search.model_dump(mode="json")}
        return self._cited(self.shared.pool, found, seconds + time.monotonic() - began, about)

    def _residual(self) -> Made:
        records, seconds = self.assembled()
        began, settings = time.monotonic(), self.plan.residual
        rows = residuals(self.base, self.shared.pool, records, self.examples, self.config, settings)
        made = self._cited(self.shared.pool, records, seconds + time.monotonic() - began)
        for user, (layout, row) in rows.items():
            made.bank.put(user, layout, row)
        more = sum(residual_bytes(layout, settings.rank) for layout, _ in rows.values()) / len(self.people)
        about = {"residual": settings.model_dump(mode="json") | {"people": len(rows)}}
        return replace(made, bytes_per_person=made.bytes_per_person + more, about=about)

    def _subspace(self) -> Made:
        began = time.monotonic()
        small = compress(self.shared.pool, self.base.model.sites(), self.plan.directions)
        made = self._chosen(small.pool, self.plan.assembly)
        about = {
            "directions": self.plan.directions,
            "bytes_before": small.bytes_before,
            "bytes_after": small.bytes_after,
            "relative_error": small.error,
            "seconds": round(time.monotonic() - began - made.seconds, 3),
        }
        return replace(made, about={"subspace": about})

    def _bank(self, pool: Pool) -> Bank:
        return Bank.on(self.base, self.workshop.store.record, max(256, len(self.people)), lambda key: pool)
