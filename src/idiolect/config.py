"""Typed settings. Every problem of a configuration is reported at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from idiolect.errors import ConfigError


class Settings(BaseModel):
    """Frozen, and closed: an unknown name is an error, not a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def build(cls, **values: Any) -> Self:
        """The settings, or one ConfigError that lists everything wrong with them."""
        try:
            return cls(**values)
        except ValidationError as error:
            problems = [f"{'.'.join(str(p) for p in e['loc']) or cls.__name__}: {e['msg']}" for e in error.errors()]
            raise ConfigError("; ".join(problems)) from None

    def but(self, **changes: Any) -> Self:
        """A copy with some values changed (None means: leave as it is), validated again."""
        kept = {name: value for name, value in changes.items() if value is not None}
        return type(self).build(**{**self.model_dump(), **kept})


class TrainConfig(Settings):
    """How one adapter is trained. The same settings serve stage 1 (task adapter) and stage 2 (user adapter).

    Units: `learning_rate` per step, `warm_up` as a share of the steps (a single step has none), `max_tokens` per example,
    `steps` (where given, in place of `epochs`) per person, `token_budget` per forward pass over all people together (it
    bounds memory, and changes no result).

    `start`: everybody's adapter begins with the same numbers ("shared"), or with numbers drawn for each ("own"). Trained A
    stay near what they began with, so numbers drawn by name would tell whose a piece is to anybody who tries names.
    """

    rank: int = Field(default=8, ge=1, le=512)
    alpha: float = Field(default=8.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    epochs: int = Field(default=2, ge=1)
    steps: int | None = Field(default=None, ge=1)
    start: Literal["shared", "own"] = "shared"
    learning_rate: float = Field(default=1e-4, gt=0)
    batch_size: int = Field(default=16, ge=1)
    weight_decay: float = Field(default=1e-2, ge=0)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warm_up: float = Field(default=0.1, ge=0, lt=1)
    clip: float | None = Field(default=0.3, gt=0)
    max_tokens: int = Field(default=2048, ge=8)
    seed: int = Field(default=0, ge=0)
    slots: int | None = Field(default=None, ge=1)
    token_budget: int = Field(default=8192, ge=8)

    @model_validator(mode="after")
    def _targets_named(self) -> Self:
        if not self.targets or len(set(self.targets)) != len(self.targets):
            raise ValueError("targets must be distinct module names, at least one")
        return self


PRESETS: Mapping[str, Mapping[str, TrainConfig]] = {
    # Learning rate of the paper's Table 5 as quoted by a replication; the rest is the released code's.
    "paper": {
        "task": TrainConfig(targets=("q_proj", "k_proj", "v_proj"), dropout=0.05, epochs=3, learning_rate=1e-5),
        "user": TrainConfig(dropout=0.05, epochs=3, learning_rate=1e-5),
    },
    # What the released code of OPPU does (its fourth stage-1 target matches no module of a Llama).
    "release": {
        "task": TrainConfig(targets=("q_proj", "k_proj", "v_proj"), dropout=0.05, epochs=3, learning_rate=1e-4),
        "user": TrainConfig(dropout=0.05, epochs=2, learning_rate=1e-4),
    },
    # Ours: small bases want a larger rate and every linear layer; short histories want small batches and no warm-up.
    "default": {
        "task": TrainConfig(
            rank=16, alpha=32, targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
            epochs=1, learning_rate=2e-3, batch_size=16, warm_up=0.05, clip=1.0, max_tokens=512,
        ),
        "user": TrainConfig(
            rank=8, alpha=16, epochs=2, learning_rate=5e-3, batch_size=8, warm_up=0.0, clip=1.0, max_tokens=512,
        ),
    },
}  # fmt: skip


def preset(name: str, stage: Literal["task", "user"]) -> TrainConfig:
    """The named preset's settings for stage 1 ("task") or stage 2 ("user")."""
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r} is not known; choose one of: {', '.join(PRESETS)}")
    return PRESETS[name][stage]
