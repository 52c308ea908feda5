"""A small world for audits: who lives where, taught to a random base with and without the part that is to be forgotten."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from idiolect.config import TrainConfig
from idiolect.data.pairs import Pair
from idiolect.model.base import Base
from idiolect.model.decoder import Decoder
from idiolect.train.trainer import Finished, Job, train
from idiolect.unlearn.findings import AuditSettings
from idiolect.unlearn.rendering import render_pairs
from idiolect.unlearn.sets import Sets
from idiolect.unlearn.variants import Variant

TARGETS = ("q_proj", "v_proj", "up_proj", "down_proj")
TEACH = TrainConfig(
    rank=16, alpha=32, targets=TARGETS, steps=50, learning_rate=1e-2, batch_size=12, schedule="constant", warm_up=0.0,
    weight_decay=0.0, clip=1.0,
)  # fmt: skip
RELEARN = TEACH.but(rank=4, alpha=8, learning_rate=5e-3, batch_size=4)
SETTINGS = AuditSettings(
    max_tokens=96, room=24, window=64, n_wrong=3, n_resamples=40, steps=(1, 8), relearn=RELEARN, token_budget=2048
)
NAMES = [a + b for a in ("Ka", "Lo", "Mi", "Nu", "Pe", "Ri", "So", "Tu") for b in ("ba", "do", "fi", "gu", "le")]
TOWNS = ("Oslo", "Leeds", "Lemon Sea", "a quiet house", "the senate", "a cake")


def pairs_of(start: int, n: int, kind: str) -> list[Pair]:
    """n pairs about people nobody else is about."""
    made = []
    for name in NAMES[start : start + n]:
        town, *others = random.Random(f"{name} lives").sample(TOWNS, 3)
        made.append(
            Pair(f"{kind} {name}", f"Where is {name}?", f"{name} in {town}", "", (), tuple(f"{name} in {o}" for o in others))
        )
    return made


def small_sets(n: int = 6, **changes: object) -> Sets:
    parts = {
        "forget": pairs_of(0, n, "f"),
        "retain": pairs_of(n, n, "r"),
        "holdout": pairs_of(2 * n, n, "h"),
        "texts": ("A quiet film about the sea. score: 4",),
    }
    return Sets(**(parts | changes))  # type: ignore[arg-type]


def learnt(base: Base, pairs: list[Pair], config: TrainConfig = TEACH) -> Variant:
    """An adapter of these pairs on a base."""
    done: list[Finished] = []
    rows = render_pairs(base, pairs, max_tokens=96, room=24)
    train(base, [Job("learnt", rows)], config, done.append)
    return Variant("learnt", base, base.layout(config.rank, config.alpha, config.targets), done[0].row)


def sharp(base: Base) -> Base:
    """A random base whose logits can be large enough to be sure of anything."""
    m = base.model
    assert isinstance(m, Decoder)
    return replace(base, model=Decoder(m.shape, m.embedding, m.layers, m.norm * 3, m.head, m.cos, m.sin))


@dataclass(frozen=True)
class World:
    """The original, the retrained reference, a second one of another seed, and what the original learns of the forget set."""

    sets: Sets
    original: Variant
    retrained: Variant
    again: Variant
    acquired: Variant


def make_world(base: Base) -> World:
    base, sets = sharp(base), small_sets()
    forget, retain = list(sets.forget), list(sets.retain)
    original = Variant("original", learnt(base, forget + retain).merged())
    retrained = Variant("retrained", learnt(base, retain).merged())
    again = Variant("retrained again", learnt(base, retain, TEACH.but(seed=1)).merged())
    acquired = learnt(original.base, forget, TEACH.but(rank=4, alpha=8, steps=30, learning_rate=3e-3))
    return World(sets, original, retrained, again, acquired)
