"""Does what was forgotten come back? A fresh adapter is trained on part of the forget set, and the whole set is asked again.

    variant ──merged──▶ base ── n steps on the part that is taught ──▶ memorisation of that part, and of the others

Others that come back with it were never gone: a model that was retrained without the forget set cannot know them. So the curve
is read beside the retrained reference's, which is given the same pairs, order and steps (Hu et al. 2024, arXiv:2406.13356).
The rate is constant and every random stream is keyed by the step, so 20 steps begin with the 5 of the shorter run.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from idiolect.config import TrainConfig
from idiolect.data.pairs import Pair
from idiolect.model.adapter import modules_of
from idiolect.model.base import Base
from idiolect.train.trainer import Finished, Job, train
from idiolect.types import Rendered, seed_of
from idiolect.unlearn.measuring import exact_memorisation, extraction_strength, probability, token_scores
from idiolect.unlearn.variants import Variant

MEASURES = {"memorisation": exact_memorisation, "extraction": extraction_strength, "probability": probability}


@dataclass(frozen=True)
class Curve:
    """One model through relearning.

    Attributes:
        steps: 0 first.
        taught: which pairs were trained on.
        items: {measure: {pair id: value after each count of steps}}.
    """

    steps: tuple[int, ...]
    taught: frozenset[str]
    items: Mapping[str, Mapping[str, Sequence[float]]]

    def values(self, measure: str, *, taught: bool) -> np.ndarray:
        """(pairs, steps) of the pairs that were taught, or of the others; pairs by id."""
        found = [values for key, values in sorted(self.items[measure].items()) if (key in self.taught) == taught]
        return np.array(found, dtype=float).reshape(len(found), len(self.steps))

    def mean(self, measure: str, *, taught: bool) -> list[float] | None:
        """Mean over pairs after each count of steps; None where there are no such pairs."""
        values = self.values(measure, taught=taught)
        return values.mean(0).tolist() if len(values) else None


@dataclass(frozen=True)
class Excess:
    """How far one model stands above the reference, as a share of the original's lead over it.

    Attributes:
        share: mean over pairs.
        error: its standard error.
        steps: after how many steps; 0 where nothing was relearnt.
        others: whether on the pairs that were not taught.
    """

    share: float
    error: float
    steps: int = 0
    others: bool = True

    def clear(self, tolerance: float) -> bool:
        """Whether it is more than is tolerated, and than chance: twice its standard error."""
        return self.share > tolerance and self.share > 2 * self.error


def taught_part(pairs: Sequence[Pair], share: float, seed: int) -> frozenset[str]:
    """Ids of the pairs to relearn, drawn by (seed, group): at least one pair, never all. A lone group is drawn pair by pair."""
    groups = {pair.id: pair.group or f"\0{pair.id}" for pair in pairs}
    if len(set(groups.values())) < 2:
        groups = {pair.id: pair.id for pair in pairs}
    names = sorted(set(groups.values()))
    n = min(len(names) - 1, max(1, round(share * len(names))))
    chosen = set(random.Random(seed_of("relearn", seed)).sample(names, n))
    return frozenset(key for key, group in groups.items() if group in chosen)


def taught(base: Base, rows: Sequence[Rendered], config: TrainConfig, steps: int) -> Variant:
    """This base with a fresh adapter after so many steps on the rows; with none of either, the base."""
    if steps == 0 or not rows:
        return Variant("relearnt", base)
    config = config.but(
        steps=steps, schedule="constant", warm_up=0.0, slots=1, targets=modules_of(base.model.sites(), config.targets)
    )
    done: list[Finished] = []
    train(base, [Job("relearn", rows)], config, done.append)
    return Variant("relearnt", base, base.layout(config.rank, config.alpha, config.targets), done[0].row)


def relearn(
    base: Base,
    teach: Sequence[Rendered],
    forget: Sequence[Rendered],
    config: TrainConfig,
    steps: Sequence[int],
    token_budget: int = 8192,
) -> Curve:
    """Teach a base and ask it again after each count of steps.

    Args:
        base: a variant's, merged.
        teach: what it is trained on: part of the forget set, or something unrelated.
        forget: the whole forget set, right answers.
    """
    counts = (0, *steps)
    items: dict[str, dict[str, list[float]]] = {measure: {row.id: [] for row in forget} for measure in MEASURES}
    for n in counts:
        scores = token_scores(taught(base, teach, config, n), forget, token_budget)
        for row, one in zip(forget, scores, strict=True):
            for measure, value in MEASURES.items():
                items[measure][row.id].append(value(one))
    return Curve(counts, frozenset(row.id for row in teach), items)


def excess(mine: np.ndarray, reference: np.ndarray, lead: float, steps: int = 0, *, others: bool = True) -> Excess:
    """Mean difference of paired values, (n,) each, as a share of the original's lead; 0 where there is no lead."""
    if lead <= 0:
        return Excess(0.0, 0.0, steps, others)
    difference = (mine - reference) / lead
    error = float(difference.std(ddof=1) / len(difference) ** 0.5) if len(difference) > 1 else 0.0
    return Excess(float(difference.mean()), error, steps, others)


def ahead(curve: Curve, reference: Curve, lead: float, tolerance: float, measure: str = "memorisation") -> Excess:
    """Where relearning puts a model furthest above the reference, after at least one step, on either part of the pairs.

    Places where it is clearly ahead come first; among those, and among the others, the greatest difference.
    """
    found = []
    for part in (True, False):
        mine, theirs = curve.values(measure, taught=part), reference.values(measure, taught=part)
        if len(mine):
            found += [excess(mine[:, i], theirs[:, i], lead, n, others=not part) for i, n in enumerate(curve.steps) if n > 0]
    return max(found, key=lambda one: (one.clear(tolerance), one.share))


def half_way(curve: Curve, reference: float, original: float, measure: str = "memorisation") -> int | None:
    """The first count of steps after which a model is half way from the untaught reference to the original; None: none is.

    Over all pairs of the forget set, taught or not.
    """
    middle = (reference + original) / 2
    means = np.array([curve.items[measure][key] for key in sorted(curve.items[measure])], dtype=float).mean(0)
    return next((n for n, mean in zip(curve.steps, means, strict=True) if mean >= middle), None)
