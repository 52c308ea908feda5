"""How good the tiers are: every arm on every benchmark and split, in its own labels and in the shared ones, over several seeds.

    native   a benchmark's own labels, its words as written: what published figures are of
    shared   oriented to (base, answer), hyper and holo among the choices: what the game asks

The published split is drawn once, so seeds vary the model alone there; on the lexical split they vary the words too.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from idiolect.config import Settings
from idiolect.errors import InputError
from idiolect.relations.classifier import SHARED, Arm, RelationModel, fit_head
from idiolect.relations.kept import features_of
from idiolect.relations.links import Link
from idiolect.relations.metrics import direction_accuracy, figures
from idiolect.relations.readers import Benchmark
from idiolect.relations.splits import Split, SplitName, as_published, split
from idiolect.types import seed_of

if TYPE_CHECKING:
    from idiolect.model.base import Base
    from idiolect.relations.classifier import Features

Labelling = Literal["native", "shared"]
OnStage = Callable[[str, int], Callable[[int, str, float | None], None]]

PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "LexNET 2016": {"BLESS": 0.893, "EVALution": 0.600, "ROOT09": 0.813, "K&H+N": 0.985},
    "SphereRE 2019": {"BLESS": 0.938, "EVALution": 0.620, "ROOT09": 0.861, "K&H+N": 0.990},
    "KEML 2021": {"BLESS": 0.944, "EVALution": 0.660, "ROOT09": 0.878, "K&H+N": 0.993},
    "RelBERT 2021": {"BLESS": 0.921, "EVALution": 0.701, "ROOT09": 0.910, "K&H+N": 0.949},
    "RoBERTa-large, T1 (2023)": {"BLESS": 0.954, "EVALution": 0.764, "ROOT09": 0.936, "K&H+N": 0.989},
    "RoBERTa-large, T3 (2023)": {"BLESS": 0.956, "EVALution": 0.771, "ROOT09": 0.937, "K&H+N": 0.989},
}
"""Weighted F1 in native labels on the published split, as their papers give it (Shwartz & Dagan; Wang et al.; Ushio et al.;
Pitarch et al., ACL 2023)."""


class StudySettings(Settings):
    """What is run.

    `adapter_links`: tier 4 learns from at most so many links, drawn by seed; `adapter_on`: the benchmarks it is run on.
    """

    arms: tuple[Arm, ...] = ("floor", "encoder", "both", "adapter")
    splits: tuple[SplitName, ...] = ("published", "lexical")
    labellings: tuple[Labelling, ...] = ("native", "shared")
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    adapter_seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    adapter_links: int = Field(default=3_000, ge=1)
    adapter_on: tuple[str, ...] = ("EVALution",)
    gain_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    gain_arms: tuple[Literal["floor", "both"], ...] = ("floor", "both")
    gain_links: int = Field(default=2_500, ge=1)


@dataclass(frozen=True)
class Trial:
    """One cell of the study: what is trained and asked, for every seed."""

    benchmark: str
    split: SplitName
    labelling: Labelling
    arm: Arm

    @property
    def name(self) -> str:
        return f"{self.benchmark} · {self.split} · {self.labelling} · {self.arm}"


class Workshop:
    """The base, and features that are computed once for the whole study."""

    def __init__(self, base: Base | None) -> None:
        self.base = base
        self._features: dict[str, Features] = {}

    def fit(self, arm: Arm, train: Sequence[Link], val: Sequence[Link], labels: Sequence[str], seed: int) -> RelationModel:
        """Train one arm."""
        if arm == "adapter":
            from idiolect.relations.adapter import fit_adapter

            assert self.base is not None
            return fit_adapter(self.base, train, val, labels, seed)
        return fit_head(arm, self.features(arm), train, val, labels, seed)

    def features(self, arm: Arm) -> Features:
        """Of tier 1 or 2. `both` reads words by the same encoder as `encoder`."""
        if arm == "both":
            from idiolect.relations.classifier import joined

            return joined([self.features("floor"), self.features("encoder")])
        if arm not in self._features:
            self._features[arm] = features_of(arm, self.base)
        return self._features[arm]


def trials(benchmarks: Mapping[str, Benchmark], settings: StudySettings) -> list[Trial]:
    """Every cell, in the order it is run."""
    return [
        Trial(name, cut, labelling, arm)
        for name in benchmarks
        for cut in settings.splits
        for labelling in settings.labellings
        for arm in settings.arms
        if arm != "adapter" or name in settings.adapter_on
    ]


def run_trials(
    benchmarks: Mapping[str, Benchmark], workshop: Workshop, settings: StudySettings, on_stage: OnStage
) -> list[dict[str, Any]]:
    """Every cell with its figures.

    Raises:
        InputError: no benchmark, or a split that leaves nothing.
    """
    if not benchmarks:
        raise InputError("a study needs a benchmark; give one with --data NAME=FOLDER")
    found = []
    for trial in trials(benchmarks, settings):
        seeds = settings.adapter_seeds if trial.arm == "adapter" else settings.seeds
        step = on_stage(trial.name, len(seeds))
        runs = []
        for number, seed in enumerate(seeds, 1):
            runs.append(_run(trial, benchmarks[trial.benchmark], workshop, settings, seed))
            step(number, f"weighted F1 {runs[-1]['weighted_f1']:.3f}", None)
        found.append({**vars(trial), "seeds": list(seeds), "mean": mean_of(runs), "runs": runs})
    return found


def _run(trial: Trial, benchmark: Benchmark, workshop: Workshop, settings: StudySettings, seed: int) -> dict[str, Any]:
    began = time.perf_counter()
    parts = parts_of(benchmark, trial.split, trial.labelling, seed)
    labels = benchmark.natives if trial.labelling == "native" else SHARED
    train = drawn(parts.train, settings.adapter_links, seed) if trial.arm == "adapter" else parts.train
    model = workshop.fit(trial.arm, train, parts.val, labels, seed)
    return {
        **measured(model, parts.test),
        "n_train": len(train),
        "n_val": len(parts.val),
        "dropped": parts.dropped,
        "seconds": time.perf_counter() - began,
    }


def parts_of(benchmark: Benchmark, cut: SplitName, labelling: Labelling, seed: int) -> Split:
    """The parts of a trial. Published figures are of the parts just as they are; the shared labels are asked of clean ones."""
    return as_published(benchmark) if (cut, labelling) == ("published", "native") else split(benchmark, cut, seed)


def measured(model: RelationModel, links: Sequence[Link]) -> dict[str, Any]:
    """Figures of a model; in the shared labels with direction, which a pair and its mirror agree about."""
    if model.labels != SHARED:
        return figures([link.native for link in links], model.probabilities([link.written for link in links]), model.labels)
    said = model.probabilities([link.words for link in links])
    made = figures([link.label for link in links], said, SHARED)
    return {**made, "direction": direction_accuracy(links, said, SHARED)}


def drawn(links: Sequence[Link], n: int, seed: int) -> list[Link]:
    """At most n of the links, by lot, in their order."""
    if len(links) <= n:
        return list(links)
    chosen = sorted(random.Random(seed_of(seed, "relations", "drawn", n)).sample(range(len(links)), n))
    return [links[i] for i in chosen]


def mean_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and spread over seeds of every figure of the runs."""
    names = ("accuracy", "weighted_f1", "macro_f1", "macro_f1_real", "ece")
    made: dict[str, Any] = {name: _mean([run[name] for run in runs]) for name in names}
    labels = dict.fromkeys(label for run in runs for label in run["f1"])
    made["f1"] = {label: _mean([run["f1"][label] for run in runs if label in run["f1"]]) for label in labels}
    directions = [run["direction"]["accuracy"] for run in runs if run.get("direction", {}).get("accuracy") is not None]
    return made | ({"direction": _mean(directions)} if directions else {})


def _mean(values: Sequence[float]) -> dict[str, float]:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "sd": spread, "min": min(values), "max": max(values)}
