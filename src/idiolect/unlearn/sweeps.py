"""Methods beside each other: what each is tried with, and the best of its tries, by pairs that nothing was trained on.

    tries ─▶ acquired side by side ─▶ λ swept ─ pairs to choose on ─▶ the best try and λ of each method
                                             └─ pairs to tell      ─▶ its curve, and what it is worth

Sources of what is taken away or changed in SKU: Liu et al. 2024, arXiv:2402.10058, and what others made of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from idiolect.data.pairs import Pair
from idiolect.evals.plan import OnStage
from idiolect.model.base import Base
from idiolect.types import Rendered
from idiolect.unlearn.acquire import Acquired, Told, acquire
from idiolect.unlearn.config import Unlearning, unlearning
from idiolect.unlearn.material import Entry, Material
from idiolect.unlearn.select import Choice, Selection, at_equal_forgetting, chosen_of, curves, strengths_of
from idiolect.unlearn.variants import Variant

ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "sku, faithful": {},
    "sku, preserving": {"pd_mode": "preserve"},
    "sku - PD": {"pd_mode": "off"},
    "sku - RD": {"rd_weight": 0.0},
    "sku - GD": {"gd_weight": 0.0},
    "sku, retain answers": {"rd_pool": "retain"},
    "sku, k = 1": {"rd_k": 1},
    "sku, k = 10": {"rd_k": 10},
    "sku, one draw a batch": {"rd_scope": "per_batch"},
    "sku, questions learnt": {"rd_on": "all"},
    "sku as released": {"reference_bugs": True, "pd_positions": "all"},
}
"""What is changed in each, from SKU as the paper has it."""

SWEEPS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "sku": (
        {},
        {"rd_weight": 0.25, "pd_mode": "preserve", "pd_weight": 2.5, "learning_rate": 3e-3},
        {"rd_weight": 1.0, "pd_mode": "preserve", "pd_weight": 5.0, "learning_rate": 3e-3},
    ),
    "task-vector": ({"learning_rate": 1e-3}, {"learning_rate": 3e-3}),
    "finetune": ({"learning_rate": 1e-3}, {"learning_rate": 3e-3}),
    "ga": ({"learning_rate": 1e-4}, {"learning_rate": 3e-4}, {"learning_rate": 1e-3}),
    "ga-mismatch": ({"learning_rate": 3e-4}, {"learning_rate": 1e-3}),
    "grad-diff": ({"learning_rate": 5e-4}, {"learning_rate": 1e-3}),
    "npo": ({"learning_rate": 3e-4}, {"learning_rate": 5e-4}, {"learning_rate": 1e-3}),
    "simnpo": ({"learning_rate": 5e-4}, {"learning_rate": 1e-3}),
}
"""What each method is tried with; SKU as the paper has it first. Nobody gets more tries than another by more than one."""


@dataclass(frozen=True)
class Best:
    """A method's best try. choice: its curve on pairs to tell, with the λ that was chosen on others."""

    name: str
    base: Base
    done: Acquired
    choice: Choice
    worth: float

    @property
    def variant(self) -> Variant:
        """The try with its λ on the base."""
        strength = self.choice.chosen.strength
        weight = -strength if self.done.config.negated else strength
        return Variant(self.name, self.base, self.done.layout, self.done.row, weight)


def tries(methods: Sequence[str], ablations: bool, seed: int, steps: int | None) -> list[tuple[str, Unlearning]]:
    """(name, settings) of every run: the methods with all that they are tried with, then SKU as the paper has it, and without
    each of its parts.
    """
    given = {"seed": seed, "steps": steps}
    runs = [(name, unlearning(name, **{**given, **changes})) for name in methods for changes in SWEEPS[name]]
    if ablations:
        runs += [(name, unlearning("sku", **{**given, **changes})) for name, changes in ABLATIONS.items()]
    return runs


def taken_of(name: str, taken: Sequence[Unlearning]) -> str:
    """What a method was taken with, seed by seed: `sku: pd_mode=preserve … (2 of 3), as it is (1 of 3)`."""
    found = Counter(_said(name, config) for config in taken)
    return f"{name}: " + ", ".join(f"{said} ({n} of {len(taken)})" for said, n in found.most_common())


def _said(name: str, config: Unlearning) -> str:
    """The settings that a try differs by from the method's own."""
    own = unlearning(name, seed=config.seed, steps=config.steps).model_dump()
    return " ".join(f"{key}={value}" for key, value in config.model_dump().items() if value != own[key]) or "as it is"


def entries_of(pairs: Sequence[Pair], rows: Sequence[Rendered]) -> tuple[Entry, ...]:
    """Pairs with their tokens."""
    return tuple(Entry.of(pair, row) for pair, row in zip(pairs, rows, strict=True))


def best_of(
    base: Base,
    material: Material,
    runs: Sequence[tuple[str, Unlearning]],
    rows: Mapping[str, Sequence[Rendered]],
    selection: Selection,
    aim: float,
    title: str,
    on_stage: OnStage,
) -> dict[str, Best]:
    """Every name's best run, with its λ.

    Args:
        rows: "forget"; "judged", to choose on; "told", to tell what came of it.
        aim: forget probability of a model that never learnt it.
    """
    once = list(dict.fromkeys(config for _, config in runs))  # a method's first try may be an ablation's too
    done = _acquired(base, material, once, title, on_stage)
    step = on_stage(f"{title}λ", len(done))
    swept: dict[Unlearning, tuple[Acquired, float, Choice]] = {}
    for i, one in enumerate(done, 1):
        swept[one.config] = one, *_swept(base, one, rows, selection, aim)
        step(i, one.config.method, None)
    best: dict[str, Best] = {}
    for name, config in runs:
        one, worth, choice = swept[config]
        if name not in best or worth > best[name].worth:
            best[name] = Best(name, base, one, choice, worth)
    return best


def _swept(
    base: Base, done: Acquired, rows: Mapping[str, Sequence[Rendered]], selection: Selection, aim: float
) -> tuple[float, Choice]:
    """(what the run is worth by pairs to choose on, its curve on pairs to tell, with the λ that was chosen by the former)."""
    judged, told = curves(base, done, rows["forget"], [rows["judged"], rows["told"]], strengths_of(selection))
    equal = at_equal_forgetting(judged, aim)
    chosen = chosen_of(judged, selection.floor, aim)
    # A run that never gets to the aim is worth less than any that does, and the more the nearer it gets.
    worth = equal.utility if equal is not None else -chosen.distance
    shown = next(point for point in told if point.strength == chosen.chosen.strength)
    return worth, Choice(tuple(told), shown, aim, selection.floor)


def _acquired(base: Base, material: Material, runs: Sequence[Unlearning], title: str, on_stage: OnStage) -> list[Acquired]:
    """All runs; those whose optimisers agree side by side."""
    total = sum(steps for _, steps in dict.fromkeys((run.learning_rate, run.steps) for run in runs))
    step = on_stage(f"{title}unlearning, {len(runs)} runs", total)
    made = 0

    def shown(told: Told) -> None:
        nonlocal made
        made += 1
        step(min(made, total), " · ".join(f"{name} {loss:.2f}" for name, loss in told.losses.items()), None)

    return acquire(base, material, runs, on_step=shown)
