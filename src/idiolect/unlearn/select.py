"""How much to subtract: λ is swept over what was acquired once, and chosen on pairs that nothing was trained on.

    for λ in 0, ¼ … 2:   forget probability (aim: what the model gives pairs it never saw; else: as low as can be)
                         utility: probability of retained answers, as a share of the original's
    chosen: nearest to the aim among those with utility ≥ 1 - δ

The whole curve is kept, not a point. Going beyond the aim counts against a λ: a model that finds the right answer less likely
than one that never met it gives away that something was there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from pydantic import Field

from idiolect.config import Settings
from idiolect.model.base import Base
from idiolect.types import Rendered
from idiolect.unlearn.acquire import Acquired
from idiolect.unlearn.measuring import probability, token_scores
from idiolect.unlearn.variants import Variant

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)


class Selection(Settings):
    """How λ is chosen.

    Attributes:
        strengths: what is looked at; 0, which changes nothing, always is.
        floor: the utility that must be left, as a share of the original's: 1 - δ.
        held_out: share of the retain set's groups that is kept from training and judged on.
    """

    strengths: tuple[float, ...] = STRENGTHS
    floor: float = Field(default=0.95, gt=0, le=1)
    held_out: float = Field(default=0.2, gt=0, lt=1)


@dataclass(frozen=True)
class Point:
    """One λ. forget, retain: mean answer probability, (Π p)^(1/T); utility: retain as a share of the original's."""

    strength: float
    forget: float
    retain: float
    utility: float


@dataclass(frozen=True)
class Choice:
    """What was chosen for one run.

    Attributes:
        aim: the forget probability that is aimed at; None: as low as can be.
        points: the whole curve, by rising λ.
        chosen: its point. Of λ = 0 where no other keeps the floor: then nothing is forgotten.
    """

    points: tuple[Point, ...]
    chosen: Point
    aim: float | None
    floor: float

    @property
    def distance(self) -> float:
        """How far from the aim, or from zero."""
        return _distance(self.chosen, self.aim)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def strengths_of(selection: Selection) -> tuple[float, ...]:
    """What is looked at, in rising order, zero included."""
    return tuple(sorted({0.0, *selection.strengths}))


def mean_probability(variant: Variant, rows: Sequence[Rendered]) -> float:
    """Mean over rows of an answer's probability, (Π p)^(1/T)."""
    return float(np.mean([probability(one) for one in token_scores(variant, rows)]))


def choose(
    base: Base,
    done: Acquired,
    forget: Sequence[Rendered],
    retain: Sequence[Rendered],
    selection: Selection,
    *,
    aim: float | None = None,
) -> Choice:
    """Sweep λ over one run's result.

    Args:
        forget: what is to be forgotten.
        retain: held-out pairs that are to be kept.
        aim: mean forget probability of a model that never saw the forget set, or the original's on pairs like it.
    """
    (points,) = curves(base, done, forget, [retain], strengths_of(selection))
    return chosen_of(points, selection.floor, aim)


def curves(
    base: Base, done: Acquired, forget: Sequence[Rendered], retains: Sequence[Sequence[Rendered]], strengths: Sequence[float]
) -> list[list[Point]]:
    """A point per λ, for each of several sets that are to be kept."""
    original = [mean_probability(Variant("original", base), rows) for rows in retains]
    sign = -1.0 if done.config.negated else 1.0
    found: list[list[Point]] = [[] for _ in retains]
    for strength in strengths:
        variant = Variant("", base, done.layout, done.row, sign * strength)
        gone = mean_probability(variant, forget)
        for points, rows, before in zip(found, retains, original, strict=True):
            kept = mean_probability(variant, rows)
            points.append(Point(strength, gone, kept, kept / max(before, 1e-30)))
    return found


def chosen_of(points: Sequence[Point], floor: float, aim: float | None) -> Choice:
    """The point nearest to the aim (None: the lowest) among those above the floor; ties go to the smaller λ.

    λ = 0 is above every floor.
    """
    able = [point for point in points if point.strength == 0 or point.utility >= floor]
    best = min(able, key=lambda point: (_distance(point, aim), point.strength))
    return Choice(tuple(points), best, aim, floor)


def _distance(point: Point, aim: float | None) -> float:
    return point.forget if aim is None else abs(point.forget - aim)


def at_equal_forgetting(points: Sequence[Point], forget: float) -> Point | None:
    """Where a curve first comes down to a forget probability, between the two points around it; None: it never does.

    By this, methods are compared at matched forgetting.
    """
    for before, after in pairwise(points):
        if before.forget >= forget >= after.forget and before.forget > after.forget:
            share = (before.forget - forget) / (before.forget - after.forget)
            mixed = {name: (1 - share) * getattr(before, name) + share * getattr(after, name) for name in _FIGURES}
            return Point(**mixed)
    return None


_FIGURES = ("strength", "forget", "retain", "utility")
