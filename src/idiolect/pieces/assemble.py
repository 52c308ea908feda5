"""A newcomer's adapter, assembled from the pool by reading their history once. Nothing is trained.

    history → examples ─ one forward pass of the base ─▶ at every module, before its update is computed:
        feature   mean over the newcomer's examples of the mean over answer positions of LN(input)
        score     feature · LN(gate) / √D             of every piece of this module
        choose    the k best, strength · softmax(score / T) over them
        go on     through the module with these pieces in it, so that later modules see what they did

    ─▶ Record {module: [(piece, weight) …]}

A piece's score is linear in the normalised input, so averaging inputs first gives the mean of the scores, exactly, whatever the
number of pieces. Averages are taken in float64: batch, order and company change a score by rounding only. Many newcomers are
read in one batch, each with pieces of their own.

Source: Tan et al. 2024 (Per-Pcs), arXiv:2406.10471, stage 5; normalisation without epsilon, averaged over the whole history and
layer by layer, where the reference code averages whole adapters over batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from idiolect.data.batch import Row, pack
from idiolect.errors import BaseMismatch, ConfigError
from idiolect.model.base import Base
from idiolect.model.lora import Segments, asked_for
from idiolect.model.pieces import Combine, Entries, Part, Pool, Record, normalised
from idiolect.types import Rendered, seed_of

Choice = Literal["gates", "random", "uniform"]
"""By what pieces are chosen: their gates; at random, with equal weights (a control); or all of them, with equal weights."""

MAX_STRENGTH = 4.0
"""Far beyond any use: a guard against a slip."""


@dataclass(frozen=True)
class Settings:
    """How an adapter is assembled.

    Attributes:
        k: pieces per module; fewer where the pool has fewer.
        temperature: of the softmax over the chosen pieces' scores.
        max_examples: newest examples that are read.
        token_budget: tokens per forward pass over all newcomers together; changes no result.
        seed: of random pieces.
        strength: what a module's weights add up to: 1 as in the paper, less for a weaker adapter. Sums of products alone can be
            scaled so; a product of sums would change by its square.
    """

    k: int = 3
    temperature: float = 1.0
    combine: Combine = "delta"
    choice: Choice = "gates"
    max_examples: int | None = 100
    token_budget: int = 16384
    seed: int = 0
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"k is {self.k}; at least 1 piece per module is needed")
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"the temperature is {self.temperature}; it must be above 0, and a number")
        if self.max_examples is not None and self.max_examples < 1:
            raise ConfigError(f"max examples is {self.max_examples}; it must be at least 1")
        if not 0 < self.strength <= MAX_STRENGTH:
            raise ConfigError(f"the strength is {self.strength}; it must be above 0, and {MAX_STRENGTH:g} at most")
        if self.combine == "factor" and self.strength != 1:
            raise ConfigError(
                f"the strength is {self.strength}, and pieces combined by 'factor' change with its square; combine by 'delta'"
            )


@dataclass(frozen=True)
class Newcomer:
    """Whose adapter is to be assembled, and from what.

    Attributes:
        examples: oldest first. Those without an answer are passed over; without any, nothing is chosen and the base answers.
        barred: pieces that must not be chosen, e.g. the newcomer's own.
    """

    person: str
    examples: Sequence[Rendered]
    barred: Collection[int] = ()


def assemble(
    base: Base,
    pool: Pool,
    newcomers: Iterable[Newcomer],
    settings: Settings | None = None,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, Record]:
    """Choose every newcomer's pieces; a record each.

    Args:
        base: with the task adapter merged in that the pool's pieces were trained on.
        newcomers: read lazily.
        on_progress: called with the number of newcomers done.

    Raises:
        BaseMismatch: the pool is of another base or task adapter.
        ConfigError: the pool is empty.
    """
    settings = settings or Settings()
    check_pool(base, pool)
    records: dict[str, Record] = {}
    for party in _parties(newcomers, settings):
        chosen = _Assembler(pool, party, settings, base.dtype)
        rows = [row for i, newcomer in enumerate(party) for row in _rows(i, newcomer.examples)]
        if rows:
            chosen.read(base, rows)
        for i, newcomer in enumerate(party):
            made = (settings.k, settings.temperature, chosen.entries(i), settings.combine, len(newcomer.examples))
            records[newcomer.person] = Record(pool.key, pool.version, *made)
        if on_progress is not None:
            on_progress(len(records))
    return records


def check_pool(base: Base, pool: Pool) -> None:
    """Raises BaseMismatch where the pool is of another base or task adapter than this base's, ConfigError if it is empty."""
    if (pool.key.base, pool.key.task_adapter) != (base.fingerprint, base.task_adapter):
        what = "base" if pool.key.base != base.fingerprint else "task adapter"
        raise BaseMismatch(
            f"the pool {pool.key.digest[:12]} was made on another {what} than {base.name!r}; its pieces cannot be used here"
        )
    if not len(pool):
        raise ConfigError(f"the pool {pool.key.digest[:12]} is empty; let somebody share first: idiolect pieces share USER")


def _parties(newcomers: Iterable[Newcomer], settings: Settings) -> Iterator[list[Newcomer]]:
    """Newcomers who are read together: as many as the token budget holds, and at least one."""
    party: list[Newcomer] = []
    tokens = 0
    for newcomer in newcomers:
        kept = [example for example in newcomer.examples if example.n_answer > 0]
        newcomer = Newcomer(newcomer.person, kept[-settings.max_examples :] if settings.max_examples else kept, newcomer.barred)
        n = sum(len(example.ids) for example in newcomer.examples)
        if party and tokens + n > settings.token_budget:
            yield party
            party, tokens = [], 0
        party.append(newcomer)
        tokens += n
    if party:
        yield party


def _rows(owner: int, examples: Sequence[Rendered]) -> Iterator[Row]:
    offset = 0
    for example in examples:
        yield Row(owner, offset, 1.0, example)
        offset += len(example.ids)


class _Assembler:
    """Chooses pieces while a party's histories are read: an `Applied` whose updates come to be at their first use."""

    def __init__(self, pool: Pool, party: Sequence[Newcomer], settings: Settings, dtype: torch.dtype) -> None:
        self.pool, self.party, self.settings = pool, party, settings
        self.dtype = torch.float64 if dtype == torch.float64 else torch.float32
        self.groups = {group.name: [site for site in group.sites if site.name in pool.modules] for group in pool.layout.groups}
        self.chosen: dict[str, list[tuple[tuple[int, float], ...]]] = {}

    @torch.inference_mode()
    def read(self, base: Base, rows: Sequence[Row]) -> None:
        """One pass over everybody's examples."""
        batch = pack(rows)
        answers = np.array([row.example.n_answer for row in rows])
        owner = np.array([row.owner for row in rows])
        examples = np.bincount(owner, minlength=len(self.party))
        # Each answer position counts 1 / (positions of its example · examples of its person).
        share = np.repeat(1 / (answers * examples[owner]), answers)
        device = base.device
        self._share = torch.from_numpy(share).to(device)
        self._whose = torch.from_numpy(np.repeat(owner, answers)).to(device)
        plan = base.model.plan(batch, prefix_once=True)
        self._predict = plan.predict
        base.model.hidden(plan, self)

    def entries(self, i: int) -> Entries:
        """What newcomer i got, every module in the layout's order."""
        names = (site.name for group in self.pool.layout.groups for site in group.sites)
        return {name: self.chosen[name][i] if name in self.chosen else () for name in names}

    def has(self, name: str) -> bool:
        return bool(self.groups.get(name))

    def add(self, y: Tensor, x: Tensor, name: str, segments: Segments) -> None:
        """Choose this group's pieces by its input, then add their updates."""
        features = self._features(x)
        for site in self.groups[name]:
            cited = self._choose(site.name, features)
            self.chosen[site.name] = cited
            if any(cited):
                self._part(site.name, cited).add(y, x, segments.of_tokens)

    def _part(self, module: str, cited: Sequence[Sequence[tuple[int, float]]]) -> Part:
        return Part.of(self.pool.modules[module], self.pool.layout.scale, cited, self.dtype)

    def _features(self, x: Tensor) -> Tensor:
        """Everybody's mean normalised input at answer positions, (U, D), float64. In the last layer x holds no others."""
        seen = asked_for(x, self._predict)
        features = torch.zeros(len(self.party), x.shape[1], dtype=torch.float64, device=x.device)
        return features.index_add_(0, self._whose, normalised(seen).double() * self._share.unsqueeze(1))

    def _choose(self, module: str, features: Tensor) -> list[tuple[tuple[int, float], ...]]:
        shelf, settings = self.pool.modules[module], self.settings
        if settings.choice == "uniform":
            return [self._equal(newcomer, self._free(newcomer, shelf.ids)) for newcomer in self.party]
        if settings.choice == "random":
            return [self._equal(newcomer, self._drawn(newcomer, module, shelf.ids)) for newcomer in self.party]
        scores = features @ shelf.unit.double().t() / math.sqrt(shelf.site.d_in)
        k, temperature, strength = settings.k, settings.temperature, settings.strength
        return [
            best(shelf.ids, row, k, temperature, newcomer.barred, strength) if newcomer.examples else ()
            for newcomer, row in zip(self.party, scores.tolist(), strict=True)
        ]

    def _free(self, newcomer: Newcomer, ids: Sequence[int]) -> list[int]:
        return [piece for piece in ids if piece not in newcomer.barred]

    def _drawn(self, newcomer: Newcomer, module: str, ids: Sequence[int]) -> list[int]:
        """k pieces by a hash of (seed, person, module, piece): the same whatever else is in the pool."""
        order = sorted(self._free(newcomer, ids), key=lambda i: seed_of(self.settings.seed, newcomer.person, module, i))
        return order[: self.settings.k]

    def _equal(self, newcomer: Newcomer, ids: Sequence[int]) -> tuple[tuple[int, float], ...]:
        return tuple((piece, _single(self.settings.strength / len(ids))) for piece in ids) if newcomer.examples else ()


def best(
    ids: Sequence[int],
    scores: Sequence[float],
    k: int,
    temperature: float,
    barred: Collection[int] = (),
    strength: float = 1.0,
) -> tuple[tuple[int, float], ...]:
    """The k pieces of the highest scores (ties by id) and strength times the softmax of theirs, as float32 can hold it."""
    ranked = sorted((-score, piece) for piece, score in zip(ids, scores, strict=True) if piece not in barred)[:k]
    if not ranked:
        return ()
    top = ranked[0][0]
    heavy = [math.exp((top - score) / temperature) for score, _ in ranked]
    total = sum(heavy)
    return tuple((piece, _single(strength * weight / total)) for (_, piece), weight in zip(ranked, heavy, strict=True))


def _single(value: float) -> float:
    """Rounded to float32: records keep four bytes of it, and must give back the very same adapter."""
    return float(np.float32(value))


def random_gates(pool: Pool, seed: int) -> Pool:
    """The same pool with gates that know nothing: a control. Keyed by (seed, module, piece)."""
    gates: Mapping[str, Tensor] = {
        name: torch.stack(
            [
                torch.randn(shelf.site.d_in, generator=torch.Generator().manual_seed(seed_of(seed, "gate", name, piece)))
                for piece in shelf.ids
            ]
        )
        for name, shelf in pool.modules.items()
    }
    return pool.with_gates(gates)
