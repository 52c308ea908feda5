"""Sharers for an evaluation: who they are, their adapters and gates, and the pool of their pieces.

    everybody but the targets ─ choose ─▶ sharers ─ stage 2 ─▶ adapters ─ gates ─▶ pieces, as far as they are shared ─▶ Pool

Sharers are kept out of stage 1: in Per-Pcs the people of the task adapter, the sharers and the targets are three disjoint sets.
Adapters stay in the evaluation's store. Gates lie beside it in files named by what they were trained from, and vectors of
people are kept in memory, so that neither a second run nor the next condition of a study pays for them again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from idiolect.config import TrainConfig
from idiolect.data.tasks import Task
from idiolect.errors import EmptyHistory
from idiolect.model.adapter import GateLayout
from idiolect.model.base import Base
from idiolect.model.files import read_record
from idiolect.model.pieces import Pool, PoolKey, cut
from idiolect.pieces.assemble import Newcomer, Settings
from idiolect.pieces.consent import Consent
from idiolect.pieces.gates import GATES, train_gates
from idiolect.pieces.residual import Residual
from idiolect.pieces.search import Search
from idiolect.pieces.select import Encoder, Selection, Sharers, base_encoder, choose_sharers, embed
from idiolect.store.store import Store
from idiolect.train.stages import OnProgress, Recipe, newest, rendered_items, stage_two
from idiolect.train.trainer import Job
from idiolect.types import Item, Person, Rendered, digest_of, seed_of

SELECTION = Selection(min_items=50, max_items=50)
"""Per-Pcs asks for more than 10 items; a sharer of an evaluation has enough to be a good one."""


@dataclass(frozen=True)
class PiecePlan:
    """What the arms of pieces are made from.

    Attributes:
        selection: who shares.
        consent: which of their pieces.
        max_history: newest items of each sharer that are trained on; None: all.
        apart: further people whom stage 1 must not see, e.g. the sharers of a study's other conditions.
        noise: share of each newcomer's history that is replaced by other targets' items.
        seeds: of the arms that hang on a lot, which are run once with each.
        directions: of the shared subspace, in the arm that has one.
    """

    selection: Selection = SELECTION
    consent: Consent = field(default_factory=Consent)
    gates: TrainConfig = GATES
    assembly: Settings = field(default_factory=Settings)
    max_history: int | None = None
    apart: tuple[str, ...] = ()
    noise: float = 0.0
    seeds: tuple[int, ...] = (0, 1, 2)
    search: Search = field(default_factory=Search)
    residual: Residual = field(default_factory=Residual)
    directions: int = 64


@dataclass(frozen=True)
class Shared:
    """A pool and what it was made from.

    Attributes:
        adapters: digest of each sharer's whole adapter.
        owners: sharer of each piece.
        seconds: of training, by their own records: adapters, and the gates that were trained now.
    """

    pool: Pool
    adapters: Mapping[str, str]
    owners: Mapping[int, str]
    seconds: Mapping[str, float]


@dataclass
class Workshop:
    """Chooses sharers and makes pools, each thing once. Serves several evaluations on one store.

    Args:
        base: bare.

    Attributes:
        bases: with a task adapter merged in, by what that was trained from.
    """

    base: Base
    store: Store
    bases: dict[str, Base] = field(default_factory=dict)
    _chosen: dict[str, Sharers] = field(default_factory=dict)
    _vectors: dict[str, np.ndarray] = field(default_factory=dict)
    _gates: dict[str, Tensor] = field(default_factory=dict)

    # ------------------------------------------------------------------------------------------------------- sharers

    def choose(
        self, task: Task, targets: Sequence[str], selection: Selection, on_done: Callable[[int], None] | None = None
    ) -> Sharers:
        """Sharers from among everybody but the targets.

        Raises:
            EmptyHistory: nobody has items enough.
        """
        kept = set(targets)
        key = digest_of([task.name, sorted(kept), selection.model_dump(mode="json")])
        if key not in self._chosen:
            others = list(self.store.iter_people([s.id for s in self.store.people() if s.id not in kept]))
            self._chosen[key] = choose_sharers(others, task, selection, self.encoder, on_done)
        return self._chosen[key]

    @property
    def encoder(self) -> Encoder:
        """The base as an encoder that remembers: the mean vector of texts it has read before, (1, E)."""
        encode = base_encoder(self.base)

        def remembered(texts: Sequence[str]) -> np.ndarray:
            key = digest_of(list(texts))
            if key not in self._vectors:
                self._vectors[key] = encode(texts).mean(0, keepdims=True)
            return self._vectors[key]

        return remembered

    def vectors(self, task: Task, people: Sequence[Person], max_items: int) -> dict[str, np.ndarray]:
        """One vector per person, (E,), of their newest items."""
        return embed(people, task, self.encoder, max_items)

    # ---------------------------------------------------------------------------------------------------------- pool

    def pool(
        self,
        base: Base,
        recipe: Recipe,
        plan: PiecePlan,
        sharers: Sequence[str],
        on_progress: OnProgress | None = None,
        on_gates: OnProgress | None = None,
    ) -> Shared:
        """The pool of these sharers' pieces on a base with its task adapter merged in.

        Args:
            recipe: as for the targets' own adapters.

        Raises:
            EmptyHistory: no sharer can be trained.
        """
        recipe = replace(recipe, max_history=plan.max_history)
        adapters = stage_two(base, self.store, recipe, sharers, on_progress=on_progress).adapters
        if not adapters:
            raise EmptyHistory(f"none of {len(sharers)} sharers can be trained; choose others: --min-items, --max-tokens")
        layout = base.layout(recipe.config.rank, recipe.config.alpha, recipe.config.targets)
        rows = {user: read_record(self.store.record(digest)).row for user, digest in adapters.items()}
        began = time.monotonic()
        gates = self._trained(base, recipe, plan.gates, adapters, rows, on_gates)
        seconds = {"gates": round(time.monotonic() - began, 2), "adapters": round(self._seconds(adapters.values()), 2)}
        bodies, owners = [], {}
        for user in sorted(adapters):
            shared = plan.consent.chosen(user, GateLayout(layout).vectors(gates[user]))
            whole = cut(layout, rows[user], gates[user])
            for module in shared:
                piece = seed_of("piece", plan.consent.seed, user, module)
                owners[piece] = user
                bodies.append((piece, module, whole[module]))
        key = PoolKey(recipe.task.name, base.fingerprint, base.task_adapter, layout.rank, layout.alpha, layout.targets)
        return Shared(Pool(key, base.model.sites(), bodies, base.device), adapters, owners, seconds)

    def _seconds(self, digests: Any) -> float:
        wanted = set(digests)
        return sum(row.stats.get("seconds", 0.0) for row in self.store.adapters() if row.digest in wanted)

    def _trained(
        self,
        base: Base,
        recipe: Recipe,
        config: TrainConfig,
        adapters: Mapping[str, str],
        rows: Mapping[str, Tensor],
        on_progress: OnProgress | None,
    ) -> dict[str, Tensor]:
        """Everybody's gates: from memory, from the files beside the store, or trained now, all together."""
        names = {user: _gate_name(digest, config, base) for user, digest in adapters.items()}
        for name in names.values():
            if name not in self._gates and (found := self._read(name)) is not None:
                self._gates[name] = found
        layout = base.layout(recipe.config.rank, recipe.config.alpha, recipe.config.targets)
        jobs = []
        for user in sorted(user for user, name in names.items() if name not in self._gates):
            person = self.store.person(user)
            jobs.append(Job(user, rendered_items(base, recipe, person, newest(person, recipe.max_history)), rows[user]))

        def keep(user: str, row: Tensor) -> None:
            self._gates[names[user]] = row
            self._write(names[user], row)

        train_gates(base, layout, jobs, config, on_done=lambda done: keep(done.person, done.row), on_progress=on_progress)
        return {user: self._gates[name] for user, name in names.items()}

    @property
    def _folder(self) -> Path | None:
        """Where gates lie; None for a store that is no folder."""
        return None if "://" in str(self.store.place) else Path(self.store.place) / "gates"

    def _read(self, name: str) -> Tensor | None:
        try:
            return None if self._folder is None else load_file(self._folder / f"{name}.safetensors")["gates"]
        except (OSError, SafetensorError, KeyError):
            return None

    def _write(self, name: str, row: Tensor) -> None:
        if self._folder is None:
            return
        self._folder.mkdir(mode=0o700, exist_ok=True)
        part = self._folder / f".{name}"
        save_file({"gates": row.contiguous()}, part)
        part.chmod(0o600)
        part.replace(self._folder / f"{name}.safetensors")


def _gate_name(adapter: str, config: TrainConfig, base: Base) -> str:
    # An adapter's digest says what it was trained from, and its gates are trained from the same.
    how = {k: v for k, v in config.model_dump(mode="json").items() if k not in ("slots", "token_budget")}
    return digest_of([adapter, how, str(base.dtype).removeprefix("torch.")])


# ---------------------------------------------------------------------------------------------------------- newcomers


def newcomers(base: Base, recipe: Recipe, people: Sequence[Person]) -> tuple[list[Newcomer], dict[str, list[Rendered]], float]:
    """(who wants an adapter from pieces, their examples, seconds of rendering)."""
    began = time.monotonic()
    examples = {p.id: rendered_items(base, recipe, p, newest(p, recipe.max_history)) for p in people}
    return [Newcomer(user, mine) for user, mine in examples.items()], examples, time.monotonic() - began


def noisy(people: Sequence[Person], share: float, seed: int) -> list[Person]:
    """The same people with a share of each history replaced by other people's items, at the same places and dates.

    Which places, and whose items, is drawn by (seed, person); a greater share replaces what a smaller one does, and more.
    """
    if not share:
        return list(people)
    found = []
    for person in people:
        others = [item for other in sorted(people, key=lambda p: p.id) if other.id != person.id for item in other.history]
        rng = random.Random(seed_of("noise", seed, person.id))
        places = rng.sample(range(len(person.history)), len(person.history))
        strangers = [rng.randrange(len(others)) for _ in places] if others else []
        history = list(person.history)
        for place, stranger in list(zip(places, strangers, strict=False))[: round(share * len(places))]:
            history[place] = Item(history[place].id, others[stranger].fields, history[place].date)
        found.append(Person(person.id, tuple(history), person.queries))
    return found


def pool_settings(shared: Shared, sharers: Sharers, plan: PiecePlan) -> dict[str, Any]:
    """What a report says of a pool. Names nobody."""
    pool = shared.pool
    return {
        "sharers_wanted": plan.selection.n,
        "sharers": len(shared.adapters),
        "candidates": sharers.n_candidates,
        "clusters": sharers.n_clusters,
        "strategy": plan.selection.strategy,
        "min_items": plan.selection.min_items,
        "sharer_history": plan.max_history,
        "share_ratio": plan.consent.ratio,
        "pieces": len(pool),
        "pool_bytes": pool.size_bytes,
        "pool_mib": round(pool.size_bytes / 2**20, 2),
        "k": plan.assembly.k,
        "temperature": plan.assembly.temperature,
        "strength": plan.assembly.strength,
        "combine": plan.assembly.combine,
        "max_examples": plan.assembly.max_examples,
        "noise": plan.noise,
        "seeds": list(plan.seeds),
        "gates": plan.gates.model_dump(mode="json", include={"steps", "learning_rate", "batch_size", "schedule", "seed"}),
        "seconds": dict(shared.seconds),
    }
