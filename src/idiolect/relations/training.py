"""A model to keep: from benchmarks, the game's own seeds and players' pairs, measured on what it did not learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from idiolect.errors import ConfigError
from idiolect.game.vocabulary import Vocabulary, vocabulary
from idiolect.relations.classifier import SHARED, Arm, RelationModel
from idiolect.relations.links import Link, ends
from idiolect.relations.readers import Benchmark
from idiolect.relations.sampling import negatives
from idiolect.relations.splits import Split, published
from idiolect.relations.study import Workshop, drawn, measured
from idiolect.types import seed_of

if TYPE_CHECKING:
    from idiolect.model.base import Base

VAL = 0.1
"""Share of the base words of seeds and players' pairs that set the temperature and are learnt from by nothing."""


@dataclass(frozen=True)
class Trained:
    """A model, and what its folder is to say of it."""

    model: RelationModel
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class _Material:
    """What is learnt from, what sets the temperature, and how many pairs came from players and from seeds."""

    train: list[Link]
    val: list[Link]
    n_players: int
    n_seeds: int


def train_model(
    arm: Arm,
    benchmarks: Mapping[str, Benchmark],
    game: Sequence[Link],
    *,
    base: Base | None = None,
    seed: int = 0,
    seeds_of_game: int = 0,
    most: int | None = None,
) -> Trained:
    """Train a model of the shared labels on everything given, with negatives of what is no benchmark's.

    No tier learns a benchmark's test rows, nor pairs of players or WordNet that stand in them, in either order.

    Args:
        seeds_of_game: pairs taken from the shipped seeds, by lot; 0: none.
        most: links that are learnt from at most, drawn by seed; None: all.

    Raises:
        ConfigError: nothing to learn from, or the floor was to learn seeds from seeds.
    """
    if arm in ("floor", "both") and seeds_of_game:
        raise ConfigError(f"tier {arm!r} reads WordNet's seeds as features, so it cannot learn from them too; leave them out")
    parts = {name: published(benchmark) for name, benchmark in benchmarks.items()}
    given = _material(parts, game, seed_links(seeds_of_game, seed), seed)
    train = drawn(given.train, most or len(given.train), seed)
    if not train:
        raise ConfigError("there is nothing to learn from; give --data NAME=FOLDER or --game FILE")
    model = Workshop(base).fit(arm, train, given.val, SHARED, seed)
    facts = {
        "seed": seed, "n_train": len(train), "n_val": len(given.val), "n_players": given.n_players, "n_seeds": given.n_seeds,
        "benchmarks": {name: len(part.train) for name, part in parts.items()},
        "figures": {name: measured(model, part.test) for name, part in parts.items()},
    }  # fmt: skip
    return Trained(model, facts)


def _material(parts: Mapping[str, Split], game: Sequence[Link], seeds: Sequence[Link], seed: int) -> _Material:
    asked = ends(link for part in parts.values() for link in part.test)
    players, seeds = ([link for link in links if frozenset(link.words) not in asked] for links in (game, seeds))
    own = [*players, *seeds]
    mine = [link for link in own if not _held(link)]
    known = [link for part in parts.values() for link in (*part.train, *part.val, *part.test)]
    more = negatives([link for link in mine if link.label != "none"], seed, [*known, *own])
    train = [*(link for part in parts.values() for link in part.train), *mine, *more]
    val = [*(link for part in parts.values() for link in part.val), *(link for link in own if _held(link))]
    return _Material(train, val, len(players), len(seeds))


def seed_links(n: int, seed: int, words: Vocabulary | None = None) -> list[Link]:
    """At most n of the shipped seeds, nearest ones only: depth 1 is what WordNet says outright."""
    words = words or vocabulary()
    found = [
        Link(word.key, key, word.relation)
        for word in words.words.values()
        for key, depth in sorted(words.seeds.get(word.id, {}).items())
        if depth == 1
    ]
    return drawn(found, n, seed) if n else []


def _held(link: Link) -> bool:
    return seed_of("relations", "temperature", link.base) / 2**63 < VAL
