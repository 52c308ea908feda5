"""A crowd of minds that play: rounds and judgements of simulated players, and of accounts that have a taste of their own."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from idiolect.game.minds import Mind
from idiolect.game.normalise import RELATIONS, normalise
from idiolect.game.vocabulary import BaseWord
from idiolect.store.game.records import PlayerRow

_spec = importlib.util.spec_from_file_location("reading_making", Path(__file__).parents[1] / "game" / "reading_making.py")
assert _spec is not None
assert _spec.loader is not None
_making: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_making)
Crowd, WORDS, DAY, NOON = _making.Crowd, _making.WORDS, _making.DAY, _making.NOON


def prompts(n: int) -> list[BaseWord]:
    """The first n base words of each relation, relations in turn."""
    return [word for group in zip(*(WORDS.of(relation)[:n] for relation in RELATIONS), strict=True) for word in group]


def keys_of(mind: Mind, word: BaseWord, visit: int = 0) -> list[str]:
    keys: list[str] = []
    for _, text in mind.answers(word, 15, visit):
        reading = normalise(text, word, WORDS.lexicon, earlier=keys)
        if reading.status == "accepted":
            keys.append(reading.key)
    return keys


def play(crowd: Any, player: PlayerRow, mind: Mind, asked: Sequence[BaseWord], judged: Sequence[BaseWord]) -> None:
    """One round on each base word, and one of Nym or Not on each that is judged, in the same order for everybody."""
    for word in asked:
        if keys := keys_of(mind, word):
            crowd.round(player, word.id, keys)
        if word in judged:
            rng = random.Random(word.id)
            pairs = rng.sample(sorted(WORDS.seeds[word.id]), min(4, len(WORDS.seeds[word.id])))
            wrong = rng.sample(sorted(WORDS.seeds[rng.choice(WORDS.of(word.relation)).id])[:40] * 4, 4)
            items = dict.fromkeys([*pairs, *wrong])
            crowd.judge(player, word.id, [(key, mind.verdict(word.relation, word.key, key)[0]) for key in items])
