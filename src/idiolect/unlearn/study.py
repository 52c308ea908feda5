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
from collections.abc import Iterator, Mapping, Sequence
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
from idiolect.unlearn.audit import audit
from idiolect.unlearn.config import METHODS, MethodName, Unlearning
from idiolect.unlearn.curves import save_curves
from idiolect.unlearn.findings import Audit, AuditSettings
from idiolect.unlearn.material import Material
from idiolect.unlearn.picture import save_relearning, save_tradeoff
from idiolect.unlearn.rendering import render_pairs
from idiolect.unlearn.report import markdown, to_results
from idiolect.unlearn.select import (
    Choice,
    Point,
    Selection,
    at_equal_forgetting,
    mean_probability,
)
from idiolect.unlearn.sets import Sets
from idiolect.unlearn.sweeps import ABLATIONS, best_of, entries_of, taken_of, tries
from idiolect.unlearn.teaching import TEACHING, teach
from idiolect.unlearn.variants import Variant

CONTROL = "retrained again"
"""A model that never saw the forget set, taught in another order: what an audit must let pass."""


class Planting(Settings):
    """How the study is made. `steps`: of unlearning. `asked`: most kept pairs that λ is chosen on, and as
    many that utility is told on. `control`: audit a second retrained model too, which has to pass.
    """

    people: int = Field(default=30, ge=4)
    facts: int = Field(default=8, ge=1)
    forget_share: float = Field(default=0.1, gt=0, le=0.5)
    seeds: tuple[int, ...] = (0, 1, 2)
    methods: tuple[MethodName, ...] = METHODS
    ablations: bool = True
    control: bool = True
    steps: int = Field(default=16, ge=1)
    asked: int = Field(default=40, ge=2)
    teaching: TrainConfig = TEACHING
    selection: Selection = Selection(strengths=(0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0), floor=0.9, held_out=0.3)
    auditing: AuditSettings = AuditSettings()


@dataclass
class Seed:
    """One seed's outcome."""

    seed: int
    audit: Audit
    choices: dict[str, Choice]
    settings: dict[str, Unlearning]
    stopped: dict[str, int] = field(default_factory=dict)


def study(base: Base, planting: Planting, on_stage: OnStage = silent) -> Iterator[Seed]:
    """Every seed, one after the other.

    Raises:
        ConfigError: settings by which there is nobody to forget, or teaching diverged.
        InputError: a reference that can tell the forget set from the holdout by chance, so that PrivLeak has no meaning.
    """
    for seed in planting.seeds:
        yield _seed(base, planting, seed, on_stage)


def _seed(base: Base, planting: Planting, seed: int, on_stage: OnStage) -> Seed:
    people = planted(seed, planting.people, planting.facts, planting.forget_share)
    original = Variant("original", _taught(base, people.taught, planting, seed, f"seed {seed} · teaching all", on_stage))
    retrained = Variant("retrained", _taught(base, people.kept, planting, seed, f"seed {seed} · teaching the others", on_stage))
    taught, half = original.base, planting.selection.held_out / 2
    kept, judged, told = split(people.kept, (1 - 2 * half, half, half), seed)
    judged, told = judged[: planting.asked], told[: planting.asked]
    sets = {"forget": people.forget, "kept": kept, "judged": judged, "told": told, "holdout": people.holdout}
    rows = {name: render_pairs(taught, pairs) for name, pairs in sets.items()}
    material = Material(entries_of(people.forget, rows["forget"]), entries_of(kept, rows["kept"]))
    runs = tries(planting.methods, planting.ablations, seed, planting.steps)
    aim = mean_probability(retrained, rows["forget"])
    best = best_of(taught, material, runs, rows, planting.selection, aim, f"seed {seed} · ", on_stage)
    candidates = [best[name].variant for name in planting.methods]
    if planting.control:
        title = f"seed {seed} · teaching the others again"
        candidates.append(Variant(CONTROL, _taught(base, people.kept, planting, seed + 1_000_000, title, on_stage)))
    # Utility is of pairs that no method was trained to keep, and that nothing was chosen by.
    asked = Sets(people.forget, told, people.holdout, people.neighbours, people.world)
    found = audit(original, retrained, candidates, asked, planting.auditing.but(seed=seed), on_stage)
    stopped = {name: one.done.stopped_at for name, one in best.items() if one.done.stopped_at is not None}
    taken = {name: one.done.config for name, one in best.items()}
    choices = {name: one.choice for name, one in best.items()}
    return Seed(seed, found, choices, taken, stopped)


def _taught(base: Base, pairs: Sequence[Pair], planting: Planting, seed: int, title: str, on_stage: OnStage) -> Base:
    step = on_stage(title, 1)

    def shown(progress: Progress) -> None:
        step(progress.done, f"loss {progress.loss:.3f}", progress.left_s)

    return teach(base, pairs, planting.teaching.but(seed=seed), on_progress=shown).variant.merged()


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
        never = [name for name, one in (("SKU", mine), (other, theirs)) if not one["n"]]
        why = f"{' and '.join(never)} never {'get' if len(never) > 1 else 'gets'} there" if never else "no seed has both there"
        return f"SKU and {other} cannot be compared at equal forgetting: {why}."
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
    methods = planting.methods
    aims = [seed.choices[methods[0]].aim or 0.0 for seed in seeds]
    _, rest = audited.split("\n\n", 1)
    said, reading = rest.split(_READING, 1)
    parts = [
        _title(seeds, planting),
        "\n".join(f"* {line}" for line in findings(equal, n)),
        said.rstrip(),
        "## At equal forgetting",
        "Utility (probability of kept answers that no method was trained on, as a share of the original's) where a run's curve "
        f"comes down to the probability that the retrained reference gives the forget set ({_span(aims)}). λ is what that "
        f"takes. Means over {n} seeds, least and most behind them; a seed in which a run does not get there is left out.",
        pipe_table(["run", "utility ↑", "λ", "seeds"], [_row(name, one, n) for name, one in equal.items()]),
        "Taken of what each was tried with: "
        + "; ".join(taken_of(name, [s.settings[name] for s in seeds]) for name in methods)
        + ".",
        "![What is forgotten and kept, as λ rises](curves.png)",
        *_stops(seeds),
        _READING + reading.rstrip(),
        f"In all {seconds_text(seconds)}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _title(seeds: Sequence[Seed], planting: Planting) -> str:
    """The verdict on the methods; the second retrained model is no method."""
    audits = [seed.audit for seed in seeds]
    passed = [name for name in planting.methods if _passed(audits, name)]
    who = ", ".join(passed) if passed else f"none of {len(planting.methods)} methods"
    passes = "passes" if _passed(audits, CONTROL) else "would not pass either"
    control = f"; a second retrained model {passes}" if planting.control else ""
    some = "" if len(seeds) == len(planting.seeds) else f" ({len(seeds)} of {len(planting.seeds)} seeds)"
    return f"# Verdict: forgotten by {who}, in every seed{control}{some}"


def _passed(audits: Sequence[Audit], name: str) -> bool:
    return all(audit.verdict(name)["words"] == ["forgotten"] for audit in audits if name in audit.candidates)


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
    seeds: list[Seed] = []
    try:
        for seed in study(base, planting, on_stage):
            seeds.append(seed)
    finally:  # hours of work: what is finished is reported, whatever ended the rest
        seconds = time.monotonic() - began
        if seeds:
            write(seeds, planting, folder, about, seconds)
    return seconds
