"""A newcomer's weights, searched without gradients from where the gates put them.

    w'[m, j] = e^(λ + δ[band of m]) · softmax_j(e^τ · log w[m, j]) · Σ w[m]

Which pieces are used stays as the gates chose them. λ scales all of the adapter, τ makes its weights sharper or flatter, and
δ has one number for each quarter of the layers: six numbers, whatever the size of the base, because a budget of 10 to 30 looks
cannot learn more. At zero the weights are the gates' own. The objective is the loss on the newest part of the newcomer's own
history; CMA-ES proposes, and the best of everything looked at, the start included, is kept. Newcomers are looked at together.

Source: Huang et al. 2023 (LoRAHub), arXiv:2307.13269; Kim et al. 2025 (PriME), arXiv:2503.18008; Hansen, arXiv:1604.00772.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from idiolect.config import Settings
from idiolect.errors import ConfigError, DependencyMissing
from idiolect.model.base import Base
from idiolect.model.pieces import Cited, Entries, Pool, Record
from idiolect.pieces.consent import layer_of
from idiolect.pieces.scoring import example_losses
from idiolect.types import Rendered, seed_of

BANDS = 4
_DIMENSIONS = 2 + BANDS


class Search(Settings):
    """How weights are searched.

    Attributes:
        budget: candidates that each newcomer's history is read with; the start is one more.
        held_out: share of a history, the newest of it, that candidates are judged on; one example at least.
        max_examples: of those, the newest.
        sigma: how far the first candidates stray, in nats of weight.
    """

    budget: int = 24
    held_out: float = 0.2
    max_examples: int = 20
    sigma: float = 0.3
    population: int = 6
    seed: int = 0

    def judged_on(self, examples: Sequence[Rendered]) -> Sequence[Rendered]:
        """The newest part of a history, which candidates are judged on."""
        answered = [example for example in examples if example.n_answer > 0]
        n = min(self.max_examples, max(1, round(self.held_out * len(answered))))
        return answered[-n:]


def search(
    base: Base,
    pool: Pool,
    records: Mapping[str, Record],
    examples: Mapping[str, Sequence[Rendered]],
    settings: Search | None = None,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, Record]:
    """Every newcomer's record with the best weights found, float32. Depends on nothing but their own history and the seed.

    Args:
        records: as assembled.
        examples: their histories, oldest first. Whoever has none keeps their record.
        on_progress: called with the number of candidates looked at, of `settings.budget`.

    Raises:
        ConfigError: a record that combines in another way than "delta".
        DependencyMissing: cma is not installed.
        PieceNotFound: a cited piece is gone.
    """
    settings = settings or Search()
    if any(record.combine != "delta" for record in records.values()):
        raise ConfigError("weights are searched where products of pieces are summed; assemble with combine 'delta'")
    looks = {user: settings.judged_on(examples[user]) for user in records}
    able = [user for user, mine in looks.items() if mine and records[user].pieces]
    starts = {user: records[user].entries for user in able}
    best = {user: (loss, starts[user]) for user, loss in zip(able, _judge(base, pool, starts, looks), strict=True)}
    strategies = {user: _strategy(settings, user) for user in able}
    done = 0
    while able and done < settings.budget:
        asked = {user: strategies[user].ask() for user in able}
        losses = {user: [] for user in able}
        for i in range(settings.population):
            tried = {user: moved(starts[user], asked[user][i]) for user in able}
            for user, loss in zip(able, _judge(base, pool, tried, looks), strict=True):
                losses[user].append(loss)
                if loss < best[user][0] and done + i < settings.budget:
                    best[user] = loss, tried[user]
        for user in able:
            strategies[user].tell(asked[user], losses[user])
        done += settings.population
        if on_progress is not None:
            on_progress(min(done, settings.budget))
    return {user: replace(record, entries=best[user][1]) if user in best else record for user, record in records.items()}


def moved(entries: Entries, at: Sequence[float]) -> dict[str, tuple[tuple[int, float], ...]]:
    """The weights at one point of the search, rounded to float32; at zero, the same but for rounding."""
    scale, sharper, *bands = (float(value) for value in at)
    deepest = max(layer_of(module) for module in entries) + 1
    found = {}
    for module, cited in entries.items():
        band = bands[BANDS * layer_of(module) // deepest]
        weights = np.array([weight for _, weight in cited], dtype=np.float64)
        # A weight that is zero stays zero: its logarithm is minus infinity.
        with np.errstate(divide="ignore"):
            heavy = np.exp(np.exp(sharper) * (np.log(weights) - np.log(weights.max(initial=1e-300))))
        heavy = (heavy / max(heavy.sum(), 1e-300) * weights.sum() * np.exp(scale + band)).astype(np.float32)
        found[module] = tuple((piece, float(weight)) for (piece, _), weight in zip(cited, heavy, strict=True))
    return found


def _judge(base: Base, pool: Pool, entries: Mapping[str, Entries], looks: Mapping[str, Sequence[Rendered]]) -> list[float]:
    """Everybody's mean loss with these weights."""
    if not entries:
        return []
    asked = [(i, example) for i, user in enumerate(entries) for example in looks[user]]
    dtype = torch.promote_types(base.dtype, torch.float32)
    losses = example_losses(base, Cited.of(pool, list(entries.values()), dtype), asked)
    owner = np.array([i for i, _ in asked])
    return (np.bincount(owner, weights=losses) / np.bincount(owner)).tolist()


def _strategy(settings: Search, user: str) -> Any:
    try:
        from cma import CMAEvolutionStrategy
    except ImportError:
        raise DependencyMissing("searching weights needs cma; install it: pip install 'idiolect[local]'") from None
    # A generator of its own: by default cma draws from numpy's global one, and seeds it.
    draw = np.random.default_rng(seed_of("search", settings.seed, user)).standard_normal
    options = {"randn": lambda *shape: draw(shape), "seed": float("nan"), "popsize": settings.population}
    options |= {"verbose": -9, "verb_log": 0, "verb_disp": 0}
    return CMAEvolutionStrategy([0.0] * _DIMENSIONS, settings.sigma, options)
