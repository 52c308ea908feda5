"""What an audit is made with, and what it finds: settings, one audit's results, and figures over several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from idiolect.config import Settings, TrainConfig
from idiolect.errors import ConfigError, MismatchError
from idiolect.unlearn.membership import AttackName
from idiolect.unlearn.verdict import Rules

RELEARN = TrainConfig(
    rank=8, alpha=16, learning_rate=2e-3, batch_size=8, schedule="constant", warm_up=0.0, weight_decay=0.0, clip=1.0,
    targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
)  # fmt: skip

SUMMARY = (
    "lead", "memorisation", "extraction", "probability", "rouge", "rouge_f", "truth_ratio", "forget_quality", "distance",
    "excess", "excess_error", "utility", "utility_kept", "reference_utility", "divergence", "perplexity", "perplexity_kept",
    "reference_perplexity", "auc", "privleak", "privleak_low", "privleak_high", "relearn_half_way", "relearn_excess",
    "relearn_error", "relearn_steps", "relearn_others", "unrelated_excess", "unrelated_error", "unrelated_steps",
    "unrelated_others", "quantised_memorisation", "quantised_quality", "quantised_excess", "quantised_error",
)  # fmt: skip
"""What is said of every model. `…_kept` and `reference_…` (the retrained reference's own) are shares of the original's.

None: texts or unrelated pairs were not given, no half way by the last step, or no interval.
"""

UTILITY = {"probability": "probability", "rouge": "ROUGE-L", "truth": "truth ratio"}
"""The parts of utility, and what reports call them."""


class AuditSettings(Settings):
    """How an audit is made.

    Units: `max_tokens`, `room` (for an answer, and generated at most), `window` (plain texts) and `token_budget` in tokens;
    `min_k` and `relearn_share` are shares; `steps` are optimiser steps of relearning.

    `attack`: the one that the headline's PrivLeak is of. `n_wrong`: answers of other pairs that stand in where a pair has no
    wrong answers.
    """

    max_tokens: int = Field(default=512, ge=8)
    room: int = Field(default=64, ge=2)
    window: int = Field(default=512, ge=2)
    token_budget: int = Field(default=8192, ge=8)
    n_wrong: int = Field(default=5, ge=1)
    min_k: float = Field(default=0.4, gt=0, le=1)
    attack: AttackName = "min_k"
    n_resamples: int = Field(default=1000, ge=20)
    steps: tuple[int, ...] = (1, 5, 20, 100)
    relearn: TrainConfig = RELEARN
    relearn_share: float = Field(default=0.5, gt=0, lt=1)
    rules: Rules = Rules()
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _steps_rise(self) -> Self:
        if not self.steps or self.steps[0] < 1 or list(self.steps) != sorted(set(self.steps)):
            raise ValueError("steps must be counts of 1 or more that rise, at least one")
        return self


@dataclass(frozen=True)
class Audit:
    """One audit. `results` is plain JSON: settings, sets, and for every model its summary and every pair's values."""

    results: dict[str, Any]

    @property
    def original(self) -> str:
        return self.results["original"]

    @property
    def retrained(self) -> str:
        return self.results["retrained"]

    @property
    def candidates(self) -> list[str]:
        return list(self.results["candidates"])

    def model(self, name: str) -> dict[str, Any]:
        """Everything about one model."""
        return self.results["models"][name]

    def summary(self, name: str) -> dict[str, Any]:
        """The figures of SUMMARY."""
        return self.results["models"][name]["summary"]

    def verdict(self, name: str) -> dict[str, Any]:
        """A candidate's {"words", "reasons"}."""
        return self.results["verdicts"][name]


def combine(audits: Sequence[Audit]) -> dict[str, dict[str, dict[str, Any]]]:
    """{model: {figure: {"mean", "min", "max", "n", "values"}}} over audits of the same models, e.g. one for each seed.

    A figure that is None in any of them has no mean.

    Raises:
        ConfigError: no audit.
        MismatchError: audits of different models.
    """
    if not audits:
        raise ConfigError("there is no audit to report; make one for each seed")
    names = [(a.original, a.retrained, a.candidates) for a in audits]
    if any(other != names[0] for other in names):
        raise MismatchError("audits of different models have no mean; give one audit of the same models for each seed")
    return {
        name: {key: _over([a.summary(name).get(key) for a in audits]) for key in audits[0].summary(name)}
        for name in audits[0].results["models"]
    }


def _over(values: Sequence[Any]) -> dict[str, Any]:
    known = [float(value) for value in values if value is not None]
    whole = len(known) == len(values)
    mean, low, high = (float(np.mean(known)), min(known), max(known)) if whole else (None, None, None)
    return {"mean": mean, "min": low, "max": high, "n": len(values), "values": list(values)}
