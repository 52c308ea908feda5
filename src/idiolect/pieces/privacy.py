"""Membership inference: can somebody who holds shared pieces tell which items they were trained on?

    score of a candidate text, higher where it looks trained on ─▶ AUC of members against items that were held out

The losses of an attack are those of example_losses, with the base's taken off where the attacker calibrates: a text that is
easy for everybody is no member for that. A gate is probed by what it is trained to be, a direction of its owner's inputs:

    raw          Σ over modules of the mean over answer positions of x · g
    direction    the same of x and g without mean and length, so that what the length of g tells is gone

Intervals resample people with all their items, because items of one person are not independent.

Sources: Shokri et al. 2017; Carlini et al. 2022, arXiv:2112.03570 (calibration); Kim et al. 2025 (PriME), arXiv:2503.18008.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from idiolect.data.batch import Row, pack
from idiolect.errors import InputError
from idiolect.model.adapter import GateLayout, Layout
from idiolect.model.base import Base
from idiolect.model.lora import Segments, asked_for
from idiolect.model.pieces import normalised
from idiolect.train.trainer import chunks
from idiolect.types import Rendered


@dataclass(frozen=True)
class Attack:
    """How well one score tells members from others. `auc` is 0.5 where it cannot; `low` and `high`: 95 % over people."""

    auc: float
    low: float
    high: float
    n_members: int
    n_others: int
    n_people: int


def auc(scores: np.ndarray, member: np.ndarray) -> float:
    """The probability that a member has a higher score than another, ties half: the area under the ROC curve.

    Args:
        scores: (n,); member: (n,) bool, with both kinds.

    Raises:
        InputError: only one kind, or a score that is not finite.
    """
    return float(_weighted(_ranked(scores, member), np.ones((1, len(scores))))[0])


def attack(scores: np.ndarray, member: np.ndarray, owner: np.ndarray, seed: int = 0, n_resamples: int = 1000) -> Attack:
    """The AUC with its 95 % bootstrap interval, people drawn together with all their items.

    Args:
        owner: whose item each is, (n,), any labels.
    """
    ranked = _ranked(scores, member)
    people, place = np.unique(owner, return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=n_resamples).astype(float)
    resampled = _weighted(ranked, drawn[:, place])
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    found = float(_weighted(ranked, np.ones((1, len(scores))))[0])
    return Attack(found, float(low), float(high), int(member.sum()), int((~member).sum()), len(people))


def _ranked(scores: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(order by score, group of equal scores in that order, membership in that order)."""
    if not np.isfinite(scores).all():
        raise InputError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite numbers")
    if member.all() or not member.any():
        raise InputError("an attack needs members and others; hold out part of each history")
    order = np.argsort(scores, kind="stable")
    ties = np.concatenate([[0], np.cumsum(np.diff(scores[order]) > 0)])
    return order, ties, member[order]


def _weighted(ranked: tuple[np.ndarray, np.ndarray, np.ndarray], weights: np.ndarray) -> np.ndarray:
    """The AUC under each row of weights, (n_rows,); nan where a row leaves one kind out. weights: (n_rows, n)."""
    order, ties, member = ranked
    starts = np.flatnonzero(np.diff(ties, prepend=-1))
    w = weights[:, order]
    inside, outside = (np.add.reduceat(w * kind, starts, axis=1) for kind in (member, ~member))
    below = np.cumsum(outside, axis=1) - outside
    wins = (inside * (below + outside / 2)).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return wins / (inside.sum(1) * outside.sum(1))


# -------------------------------------------------------------------------------------------------------------- probes


def probe(
    base: Base,
    layout: Layout,
    gates: Tensor,
    examples: Sequence[tuple[int, Rendered]],
    *,
    raw: bool,
    token_budget: int = 8192,
) -> np.ndarray:
    """How well each text fits its candidate owner's gates, (n,). Reads the base alone, so neither A nor B is needed.

    Args:
        gates: of everybody, (U, P) in the layout's GateLayout.
        examples: (whose gates, text), rows ascending; every text with an answer.
        raw: as the gates are; else by direction alone.
    """
    vectors = [GateLayout(layout).vectors(row) for row in gates]
    stacked = {name: torch.stack([mine[name] for mine in vectors]).to(base.device) for name in vectors[0]}
    if not raw:
        stacked = {name: normalised(g) / g.shape[-1] ** 0.5 for name, g in stacked.items()}
    rows = [Row(owner, 0, 1.0, example) for owner, example in examples]
    return np.concatenate([_probed(base, layout, stacked, part, raw) for part in chunks(rows, token_budget)])


@torch.inference_mode()
def _probed(base: Base, layout: Layout, gates: Mapping[str, Tensor], rows: Sequence[Row], raw: bool) -> np.ndarray:
    batch = pack(rows)
    plan = base.model.plan(batch)
    answers = torch.tensor([row.example.n_answer for row in rows], device=base.device)
    which = torch.arange(len(rows), device=base.device).repeat_interleave(answers)
    owner = torch.from_numpy(batch.owner).to(base.device)[which]
    watch = _Watch(layout, gates, raw, plan.predict, owner, which, 1 / answers[which].double())
    base.model.hidden(plan, watch)
    return watch.scores.cpu().numpy()


class _Watch:
    """Sees every module's input and changes nothing: an `Applied` that scores. scores: (B,)."""

    def __init__(
        self,
        layout: Layout,
        gates: Mapping[str, Tensor],
        raw: bool,
        predict: Tensor,
        owner: Tensor,
        which: Tensor,
        share: Tensor,
    ) -> None:
        self._groups = {group.name: [site.name for site in group.sites] for group in layout.groups}
        self._gates, self._raw = gates, raw
        self._predict, self._owner, self._which, self._share = predict, owner, which, share
        self.scores = torch.zeros(int(which.max()) + 1, dtype=torch.float64, device=which.device)

    def has(self, name: str) -> bool:
        return name in self._groups

    def add(self, y: Tensor, x: Tensor, name: str, segments: Segments) -> None:
        seen = asked_for(x, self._predict)
        seen = seen if self._raw else normalised(seen) / seen.shape[-1] ** 0.5
        for module in self._groups[name]:
            fits = (seen.double() * self._gates[module].double().index_select(0, self._owner)).sum(-1)
            self.scores.index_add_(0, self._which, fits * self._share)
