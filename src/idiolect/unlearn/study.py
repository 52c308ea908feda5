"""Planted knowledge: a base is taught made-up people, a tenth of them is unlearned by every method, and all are audited.

    for each seed
        people ─▶ taught base (all), retrained reference (all but the tenth)
        every method with two or three settings, and SKU's ablations ─▶ acquired ─▶ λ swept
        settings and λ chosen on pairs that were not trained on, utility told on others of them
        methods ─▶ audit beside the reference
    ─▶ report: verdicts, table, curves; methods at equal forgetting; ablations at equal forgetting

Methods are compared where their curves forget equally much: as much as the retrained reference never knew.

Sources: Maini et al. 2024 (TOFU), arXiv:2401.06121, whose shape this has; Liu et al. 2024 (SKU), arXiv:2402.10058.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from idiolect.config import Settings, TrainConfig
from idiolect.data.fictitious import planted
from idiolect.data.pairs import Pair, split
from idiolect.evals.folder import pipe_table, publish, seconds_text, write_results, write_text
from idiolect.evals.plan import OnStage, silent
from idiolect.model.base import Base
from idiolect.train.trainer import Progress
from idiolect.types import Rendered
from idiolect.unlearn.acquire import Acquired, acquire
from idiolect.unlearn.audit import audit
from idiolect.unlearn.config import METHODS, MethodName, Unlearning, unlearning
from idiolect.unlearn.curves import save_curves
from idiolect.unlearn.findings import Audit, AuditSettings
from idiolect.unlearn.material import Entry, Material
from idiolect.unlearn.picture import save_relearning, save_tradeoff
from idiolect.unlearn.rendering import render_pairs
from idiolect.unlearn.report import markdown, to_results
from idiolect.unlearn.select import (
    Choice,
    Point,
    Selection,
    at_equal_forgetting,
    chosen_of,
    curves,
    mean_probability,
    strengths_of,
)
from idiolect.unlearn.sets import Sets
from idiolect.unlearn.teaching import TEACHING, teach
from idiolect.unlearn.variants import Variant

CONTROL = "retrained again"
"""A model that never saw the forget set, taught in another order: what an audit must let pass."""

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


class Planting(Settings):
    """How the study is made. `steps`: of unlearning. `control`: audit a second retrained model too, which has to pass."""

    people: int = Field(default=30, ge=4)
    facts: int = Field(default=8, ge=1)
    forget_share: float = Field(default=0.1, gt=0, le=0.5)
    seeds: tuple[int, ...] = (0, 1, 2)
    methods: tuple[MethodName, ...] = METHODS
    ablations: bool = True
    control: bool = True
    steps: int = Field(default=24, ge=1)
    teaching: TrainConfig = TEACHING
    selection: Selection = Selection(strengths=(0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0), floor=0.9, held_out=0.3)
    auditing: AuditSettings = AuditSettings()


@dataclass
class Seed:
    """One seed's outcome."""

    seed: int
    audit: Audit
    choices: dict[str, Choice]
    settings: dict[str, Unlearning]
    stopped: dict[str, int] = field(default_factory=dict)


def study(base: Base, planting: Planting, on_stage: OnStage = silent) -> list[Seed]:
    """Every seed, one after the other.

    Raises:
        ConfigError: settings by which there is nobody to forget, or teaching diverged.
    """
    return [_seed(base, planting, seed, on_stage) for seed in planting.seeds]


def _seed(base: Base, planting: Planting, seed: int, on_stage: OnStage) -> Seed:
    people = planted(seed, planting.people, planting.facts, planting.forget_share)
    original = Variant("original", _taught(base, people.taught, planting, seed, f"seed {seed} · teaching all", on_stage))
    retrained = Variant("retrained", _taught(base, people.kept, planting, seed, f"seed {seed} · teaching the others", on_stage))
    taught, half = original.base, planting.selection.held_out / 2
    kept, judged, told = split(people.kept, (1 - 2 * half, half, half), seed)
    sets = {"forget": people.forget, "kept": kept, "judged": judged, "told": told, "holdout": people.holdout}
    rows = {name: render_pairs(taught, pairs) for name, pairs in sets.items()}
    material = Material(_entries(people.forget, rows["forget"]), _entries(kept, rows["kept"]))
    runs = _runs(planting, seed)
    done = _acquired(taught, material, [config for _, config in runs], seed, on_stage)
    aim = mean_probability(retrained, rows["forget"])
    step = on_stage(f"seed {seed} · λ", len(done))
    best: dict[str, tuple[float, Acquired, Choice]] = {}
    for i, ((name, _), one) in enumerate(zip(runs, done, strict=True), 1):
        worth, choice = _swept(taught, one, rows, planting.selection, aim)
        if name not in best or worth > best[name][0]:
            best[name] = worth, one, choice
        step(i, name, None)
    candidates = [_candidate(taught, best[name][1], best[name][2], name) for name in planting.methods]
    if planting.control:
        title = f"seed {seed} · teaching the others again"
        candidates.append(Variant(CONTROL, _taught(base, people.kept, planting, seed + 1_000_000, title, on_stage)))
    # Utility is of pairs that no method was trained to keep, and that nothing was chosen by.
    asked = Sets(people.forget, told, people.holdout, people.neighbours, people.world)
    found = audit(original, retrained, candidates, asked, planting.auditing.but(seed=seed), on_stage)
    stopped = {name: one.stopped_at for name, (_, one, _) in best.items() if one.stopped_at is not None}
    taken = {name: one.config for name, (_, one, _) in best.items()}
    choices = {name: choice for name, (_, _, choice) in best.items()}
    return Seed(seed, found, choices, taken, stopped)


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


def _taught(base: Base, pairs: Sequence[Pair], planting: Planting, seed: int, title: str, on_stage: OnStage) -> Base:
    step = on_stage(title, 1)

    def shown(progress: Progress) -> None:
        step(progress.done, f"loss {progress.loss:.3f}", progress.left_s)

    return teach(base, pairs, planting.teaching.but(seed=seed), on_progress=shown).variant.merged()


def _runs(planting: Planting, seed: int) -> list[tuple[str, Unlearning]]:
    """(name, settings) of every run: the methods with all that they are tried with, then SKU as the paper has it, and without
    each of its parts.
    """
    given = {"seed": seed, "steps": planting.steps}
    runs = [(name, unlearning(name, **{**given, **changes})) for name in planting.methods for changes in SWEEPS[name]]
    if planting.ablations:
        runs += [(name, unlearning("sku", **{**given, **changes})) for name, changes in ABLATIONS.items()]
    return runs


def _entries(pairs: Sequence[Pair], rows: Sequence[Rendered]) -> tuple[Entry, ...]:
    return tuple(Entry.of(pair, row) for pair, row in zip(pairs, rows, strict=True))


def _acquired(base: Base, material: Material, runs: Sequence[Unlearning], seed: int, on_stage: OnStage) -> list[Acquired]:
    """All runs; those whose optimisers agree side by side."""
    groups: dict[tuple[Any, ...], None] = {}
    for run in runs:
        groups[run.learning_rate, run.steps] = None
    total = sum(steps for _, steps in groups)
    step = on_stage(f"seed {seed} · unlearning, {len(runs)} runs", total)
    made = 0

    def shown(told: Any) -> None:
        nonlocal made
        made += 1
        step(min(made, total), " · ".join(f"{name} {loss:.2f}" for name, loss in told.losses.items()), None)

    return acquire(base, material, runs, on_step=shown)


def _candidate(base: Base, done: Acquired, choice: Choice, name: str) -> Variant:
    strength = choice.chosen.strength
    return Variant(name, base, done.layout, done.row, -strength if done.config.negated else strength)


# --------------------------------------------------------------------------------------------------------------- report


def write(seeds: Sequence[Seed], planting: Planting, folder: Path, about: Mapping[str, Any], seconds: float) -> None:
    """results.json, report.md and pictures.

    Raises:
        ConfigError: a figure is missing without which no forget score is told.
        StoreError: the folder cannot be written.
    """
    audits = [seed.audit for seed in seeds]
    names = [*planting.methods, *(ABLATIONS if planting.ablations else ())]
    drawn = {name: [seed.choices[name] for seed in seeds] for name in names}
    equal = {name: matched(seeds, name) for name in names}
    results = to_results(audits, about) | {
        "planting": planting.model_dump(mode="json"),
        "curves": {name: [choice.to_dict() for choice in choices] for name, choices in drawn.items()},
        "equal_forgetting": equal,
        "chosen": [{name: config.model_dump(mode="json") for name, config in seed.settings.items()} for seed in seeds],
        "stopped": [seed.stopped for seed in seeds],
        "seconds": round(seconds, 1),
    }
    text = _report(seeds, planting, equal, markdown(audits, about), seconds)

    def fill(staged: Path) -> None:
        write_text(staged / "report.md", [text])
        save_tradeoff(audits, staged / "tradeoff.png")
        save_relearning(audits, staged / "relearning.png")
        save_curves({name: drawn[name] for name in planting.methods}, staged / "curves.png")
        write_results(staged, results)

    publish(folder, fill)


def matched(seeds: Sequence[Seed], name: str) -> dict[str, Any]:
    """A run's utility and λ where its curve forgets as much as was never known; None for a seed where it never gets there."""
    found: list[Point | None] = []
    for seed in seeds:
        choice = seed.choices[name]
        found.append(at_equal_forgetting(choice.points, choice.aim or 0.0))
    known = [point for point in found if point is not None]
    utility = [point.utility for point in known]
    return {
        "utility": [None if point is None else point.utility for point in found],
        "strength": [None if point is None else point.strength for point in found],
        "mean": float(np.mean(utility)) if utility else None,
        "min": min(utility, default=None),
        "max": max(utility, default=None),
        "n": len(known),
    }


def findings(equal: Mapping[str, Mapping[str, Any]], n_seeds: int) -> list[str]:
    """What there is to say of SKU beside the others at equal forgetting, in plain words."""
    if "sku" not in equal:
        return []
    mine = equal["sku"]
    said = []
    for other in ("ga", "npo", "task-vector"):
        if other in equal:
            said.append(_against(mine, equal[other], other, n_seeds))
    return said


def _against(mine: Mapping[str, Any], theirs: Mapping[str, Any], other: str, n_seeds: int) -> str:
    pairs = [(a, b) for a, b in zip(mine["utility"], theirs["utility"], strict=True) if a is not None and b is not None]
    if not pairs:
        who = "SKU" if not mine["n"] else other
        return f"SKU and {other} cannot be compared at equal forgetting: {who} never gets there."
    better = sum(a > b for a, b in pairs)
    difference = float(np.mean([a - b for a, b in pairs]))
    word = "beats" if better == len(pairs) else "does not beat" if better == 0 else "beats, in some seeds only,"
    return (
        f"SKU {word} {other} in utility at equal forgetting: {difference:+.3f} on average, better in {better} of {len(pairs)} "
        f"seeds" + ("" if len(pairs) == n_seeds else f" ({n_seeds - len(pairs)} more do not get that far)") + "."
    )


def _report(
    seeds: Sequence[Seed],
    planting: Planting,
    equal: Mapping[str, Mapping[str, Any]],
    audited: str,
    seconds: float,
) -> str:
    n = len(seeds)
    aims = [seed.choices[planting.methods[0]].aim or 0.0 for seed in seeds]
    title, rest = audited.split("\n\n", 1)
    said, reading = rest.split(_READING, 1)
    parts = [
        title,
        "\n".join(f"* {line}" for line in findings(equal, n)),
        said.rstrip(),
        "## At equal forgetting",
        "Utility (probability of kept answers that no method was trained on, as a share of the original's) where a run's curve "
        f"comes down to the probability that the retrained reference gives the forget set ({_span(aims)}). λ is what that "
        f"takes. Means over {n} seeds, least and most behind them; a seed in which a run does not get there is left out.",
        pipe_table(["run", "utility ↑", "λ", "seeds"], [_row(name, one, n) for name, one in equal.items()]),
        "![What is forgotten and kept, as λ rises](curves.png)",
        *_stops(seeds),
        _READING + reading.rstrip(),
        f"In all {seconds_text(seconds)}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_READING = "## How to read it"
"""Where the audit's own report goes on to explain itself."""


def _row(name: str, one: Mapping[str, Any], n: int) -> list[str]:
    if one["mean"] is None:
        return [name, "never gets there", "–", f"0 of {n}"]
    strengths = [value for value in one["strength"] if value is not None]
    spread = f"{one['mean']:.3f} ({one['min']:.3f}–{one['max']:.3f})"
    return [name, spread, _span(strengths), f"{one['n']} of {n}"]


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f}–{high:.2f}"


def _stops(seeds: Sequence[Seed]) -> list[str]:
    found = [f"{name} at step {at} of seed {seed.seed}" for seed in seeds for name, at in seed.stopped.items()]
    return [f"Stopped where the loss was no longer finite: {', '.join(found)}."] if found else []


def timed(base: Base, planting: Planting, folder: Path, about: Mapping[str, Any], on_stage: OnStage = silent) -> float:
    """The study and its report; seconds."""
    began = time.monotonic()
    seeds = study(base, planting, on_stage)
    seconds = time.monotonic() - began
    write(seeds, planting, folder, about, seconds)
    return seconds
