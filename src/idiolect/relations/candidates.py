"""Answers that a model offers for players to judge (Nym or Not), never to score players by.

They are shown only once the model is good enough on EVALution, and only words that may be shown to anybody: from the lexicon,
frequent enough to be known, of the right part of speech, and not on the list of offensive words at any severity.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from idiolect.errors import ConfigError
from idiolect.game.lexicon import COMMON_NOUN, Lexicon
from idiolect.game.normalise import is_echo
from idiolect.game.vocabulary import BaseWord, Vocabulary, vocabulary
from idiolect.relations.classifier import RelationModel
from idiolect.types import seed_of

GATE = 0.70
"""Macro-F1 on EVALution, in the shared labels on the published split, from which on candidates may be shown."""

LEAST_P, MOST_P = 0.3, 0.9
"""Less is nonsense, more is what everybody knows."""

LEAST_TAGS = 3
"""Times that a word was tagged in running text, so that players know it."""

_POOL = 400
"""Words that the model is asked about for one base word."""


@dataclass(frozen=True)
class Candidate:
    """An answer that may be shown, and how likely the model takes it to be."""

    answer: str
    p: float


def gate(facts: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether a model's candidates may be shown, and why: by the figures that its folder keeps (`kept.read_facts`)."""
    figures = facts.get("figures")
    value = figures.get("EVALution", {}).get("macro_f1") if isinstance(figures, Mapping) else None
    if not isinstance(value, int | float):
        return False, f"it was not measured on EVALution; macro-F1 of {GATE:.2f} there opens the gate"
    passed = value >= GATE
    return passed, f"macro-F1 on EVALution is {value:.3f}, {'not ' if not passed else ''}at least {GATE:.2f}"


def candidates(
    model: RelationModel,
    facts: Mapping[str, Any],
    word: BaseWord,
    n: int,
    *,
    words: Vocabulary | None = None,
    seed: int = 0,
) -> list[Candidate]:
    """At most n answers with p in [LEAST_P, MOST_P], the likeliest first; the words asked about are drawn by lot.

    Raises:
        ConfigError: the gate is shut.
    """
    passed, why = gate(facts)
    if not passed:
        raise ConfigError(f"candidates of this model are not to be shown: {why}; train a better one")
    words = words or vocabulary()
    pool = showable(word, words)
    asked = random.Random(seed_of(seed, "relations", "candidates", word.id)).sample(pool, min(_POOL, len(pool)))
    column = model.labels.index(word.relation)
    p = model.probabilities([(word.key, answer) for answer in asked])[:, column].tolist() if asked else []
    found = [Candidate(answer, value) for answer, value in zip(asked, p, strict=True) if LEAST_P <= value <= MOST_P]
    return sorted(found, key=lambda one: (-one.p, one.answer))[:n]


def showable(word: BaseWord, words: Vocabulary) -> list[str]:
    """Words that could answer and may be seen by anybody, by alphabet."""
    lexicon = words.lexicon
    return sorted(
        key
        for key, tags in lexicon.tags.items()
        if tags >= LEAST_TAGS
        and _fits(lexicon.marks.get(key, ""), word)
        and not offensive(key, lexicon)
        and not is_echo(key, word, lexicon)
        and not words.is_seed(word, key)
    )


def _fits(marks: str, word: BaseWord) -> bool:
    return COMMON_NOUN in marks if word.of_nouns else word.pos in marks


def offensive(key: str, lexicon: Lexicon) -> bool:
    """Whether the key, its singular, or a word in it is on the list, whatever its severity: candidates can be spared."""
    parts: Sequence[str] = (key, lexicon.singular(key), *key.split())
    return any(part in lexicon.severity for part in parts)
