"""Settings of unlearning: which method, and everything that its losses weigh."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

from pydantic import Field, model_validator

from idiolect.config import Settings, TrainConfig
from idiolect.errors import ConfigError

MethodName = Literal["sku", "task-vector", "finetune", "ga", "ga-mismatch", "grad-diff", "npo", "simnpo"]

METHODS: tuple[MethodName, ...] = get_args(MethodName)

NEGATED: frozenset[str] = frozenset({"sku", "task-vector"})
"""Methods that learn what is to be forgotten, and then subtract it. The others train the answer directly."""

MOST_STRENGTH = 8.0
"""λ beyond this is a slip of the pen: twice what a sweep looks at, four times over."""


class Unlearning(Settings):
    """How one thing is unlearned.

    Attributes:
        method: see methods.py.
        strength: λ: what the acquired update is subtracted with, or what a directly trained one is added with.
        rank, alpha, targets: of the adapter that is trained; targets None: every linear module of the base.
        steps: optimiser steps, exactly. The learning rate is zero after the last.
        batch_size: forget rows per step, and as many normal rows.
        gd_weight, rd_weight, pd_weight: SKU's ε1, ε2, ε3.
        pd_mode: "diverge" (faithful) moves away from the frozen model on normal prompts, "preserve" stays by it, "off".
        pd_cap: nats per token beyond which divergence is not rewarded any more: it has no bound of its own.
        pd_positions: "answer", or "all" (prompts too, as the reference code).
        rd_k: foreign answers per forget prompt.
        rd_scope: drawn for each row, or once for a whole batch, as the reference code.
        rd_pool: answers of the forget set (SKU), or of the retain set (as LLMU).
        rd_on: what is learnt of a foreign answer's row: the "answer", or "all" of it.
        reduction: mean over each row's tokens, then over rows; or over all tokens.
        beta, delta, gamma: of NPO and SimNPO; None: the method's own.
        retain_weight, retain_loss: the term that keeps the retain set, where the method has one.
        reference_bugs: as the reference code computes it, defects and all. For comparisons only.
    """

    method: MethodName = "sku"
    strength: float = Field(default=1.0, ge=-MOST_STRENGTH, le=MOST_STRENGTH)
    rank: int = Field(default=16, ge=1, le=512)
    alpha: float = Field(default=32.0, gt=0)
    targets: tuple[str, ...] | None = None
    steps: int = Field(default=40, ge=1)
    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warm_up: float = Field(default=0.0, ge=0, lt=1)
    clip: float | None = Field(default=1.0, gt=0)
    # Decay would shrink what is acquired towards zero, and negation would then inflate the base.
    weight_decay: float = Field(default=0.0, ge=0)
    max_tokens: int = Field(default=512, ge=8)
    token_budget: int = Field(default=8192, ge=8)
    seed: int = Field(default=0, ge=0)

    gd_weight: float = Field(default=2.5, ge=0)
    rd_weight: float = Field(default=2.5, ge=0)
    pd_weight: float = Field(default=1.0, ge=0)
    pd_mode: Literal["diverge", "preserve", "off"] = "diverge"
    pd_cap: float = Field(default=5.0, gt=0)
    pd_positions: Literal["answer", "all"] = "answer"
    rd_k: int = Field(default=5, ge=1)
    rd_scope: Literal["per_row", "per_batch"] = "per_row"
    rd_pool: Literal["forget", "retain"] = "forget"
    rd_on: Literal["answer", "all"] = "answer"
    reduction: Literal["row_mean", "token_mean"] = "row_mean"

    beta: float | None = Field(default=None, gt=0)
    delta: float = 0.0
    gamma: float | None = Field(default=None, gt=0)
    retain_weight: float = Field(default=1.0, ge=0)
    retain_loss: Literal["nll", "kl"] = "nll"
    reference_bugs: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.targets is not None and (not self.targets or len(set(self.targets)) != len(self.targets)):
            raise ValueError("targets must be distinct module names, at least one")
        if self.reference_bugs and self.method != "sku":
            raise ValueError(f"reference_bugs are those of SKU's code; the method is {self.method!r}")
        return self

    @property
    def negated(self) -> bool:
        return self.method in NEGATED

    @property
    def weight(self) -> float:
        """What the trained update is multiplied with in the result: -λ where it is negated, λ where it is not."""
        return -self.strength if self.negated else self.strength

    def training(self, targets: tuple[str, ...]) -> TrainConfig:
        """What the optimiser needs to know, in the trainer's own words."""
        return TrainConfig(
            rank=self.rank, alpha=self.alpha, targets=targets, steps=self.steps, learning_rate=self.learning_rate,
            batch_size=self.batch_size, weight_decay=self.weight_decay, schedule=self.schedule, warm_up=self.warm_up,
            clip=self.clip, max_tokens=self.max_tokens, seed=self.seed, token_budget=self.token_budget,
        )  # fmt: skip


DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "task-vector": {"learning_rate": 3e-3},
    # Ascent has no floor: at the rate that suits descent it destroys the base within a few steps.
    "ga": {"learning_rate": 3e-4},
    "ga-mismatch": {"learning_rate": 3e-4},
    "grad-diff": {"learning_rate": 5e-4},
    "npo": {"learning_rate": 5e-4},
    "simnpo": {"learning_rate": 5e-4},
}
"""Where a method wants other settings than SKU."""


def unlearning(method: str = "sku", **given: Any) -> Unlearning:
    """A method's settings: its own defaults, and what is given (None: not given).

    Raises:
        ConfigError: an unknown method, or values that cannot be; all problems at once.
    """
    if method not in METHODS:
        raise ConfigError(f"method {method!r} is not known; choose one of: {', '.join(METHODS)}")
    chosen = {name: value for name, value in given.items() if value is not None}
    return Unlearning.build(method=method, **{**DEFAULTS.get(method, {}), **chosen})
