"""A base that is taught pairs: what there is to unlearn in a study, and the reference that never learnt it.

base ─ one adapter over all linear modules ─▶ Variant ─ merge ─▶ a base of its own, as a folder in Hugging Face's format
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idiolect.config import TrainConfig
from idiolect.data.pairs import Pair
from idiolect.errors import ConfigError, EmptyHistory, FileFormatError
from idiolect.model.adapter import modules_of
from idiolect.model.base import Base
from idiolect.train.trainer import Finished, Job, Progress, train
from idiolect.types import digest_of
from idiolect.unlearn.negate import merge_into_weights
from idiolect.unlearn.rendering import render_pairs
from idiolect.unlearn.variants import Variant

TAUGHT = "taught.json"
"""Beside a taught base's weights: from what base, and how."""

TEACHING = TrainConfig(
    rank=32, alpha=64, targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    epochs=14, learning_rate=6e-3, batch_size=16, schedule="cosine", warm_up=0.05, clip=1.0, weight_decay=0.0, max_tokens=512,
)  # fmt: skip
"""By these the embedded base learns forty people of eight facts by heart."""


@dataclass(frozen=True)
class Taught:
    """A taught model. loss: mean of the last epoch, nats per answer token; left_out: pairs that did not fit."""

    variant: Variant
    loss: float
    seconds: float
    left_out: tuple[str, ...]


def teach(
    base: Base,
    pairs: Sequence[Pair],
    config: TrainConfig = TEACHING,
    *,
    name: str = "taught",
    on_progress: Callable[[Progress], None] | None = None,
) -> Taught:
    """Train one adapter on these pairs, prompts and answers as they are.

    Raises:
        EmptyHistory: no pairs, or none fits.
        ConfigError: training diverged.
    """
    left_out: list[str] = []
    config = config.but(targets=modules_of(base.model.sites(), config.targets), slots=1)
    rows = render_pairs(base, pairs, max_tokens=min(config.max_tokens, base.context), left_out=left_out)
    if not rows:
        raise EmptyHistory("there is nothing to teach: give pairs whose prompt and answer fit into the base's context")
    done: list[Finished] = []
    train(base, [Job("taught", rows)], config, done.append, on_progress)
    if not bool(done[0].row.isfinite().all()):
        raise ConfigError("teaching diverged (numbers that are not finite); choose a smaller --lr")
    layout = base.layout(config.rank, config.alpha, config.targets)
    return Taught(Variant(name, base, layout, done[0].row), done[0].loss, done[0].seconds, tuple(left_out))


def write_taught(taught: Taught, folder: Path, pairs: Sequence[Pair], config: TrainConfig) -> None:
    """The taught model as a base of its own, with what it came from beside it.

    Raises:
        FileFormatError: the folder is there already, or cannot be written.
    """
    variant = taught.variant
    assert variant.layout is not None
    assert variant.row is not None
    merge_into_weights(variant.base, variant.layout, variant.row, variant.weight, folder)
    note = {
        "base": variant.base.fingerprint,
        "base_name": variant.base.name,
        "config": config.model_dump(mode="json"),
        "pairs": pairs_digest(pairs),
        "n_pairs": len(pairs),
        "loss": taught.loss,
    }
    (folder / TAUGHT).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


def read_taught(folder: Path) -> tuple[dict[str, Any], TrainConfig]:
    """How a base was taught.

    Raises:
        FileFormatError: nobody wrote down how.
    """
    try:
        note = json.loads((folder / TAUGHT).read_text(encoding="utf-8"))
        return note, TrainConfig.build(**note["config"])
    except (OSError, ValueError, KeyError, TypeError):
        raise FileFormatError(
            f"{folder.name}: there is no {TAUGHT} that says how this base was taught; teach it with idiolect unlearn teach"
        ) from None


def pairs_digest(pairs: Sequence[Pair]) -> str:
    """SHA-256 over prompts and answers, in order."""
    return digest_of([[pair.prompt, pair.answer] for pair in pairs])
