"""A game that has been played for a year: players, rounds, answers and pairs, as the desks would have left them.

Words that come first in the vocabulary were played most, some players played far more than others, and answers to a base word
are as Zipf has it: its seeds first, by how common they are, then words that have nothing to do with it.
"""

from __future__ import annotations

import itertools
import math
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from idiolect.game.desk import Game
from idiolect.game.replaying import Play, Replay
from idiolect.game.rules import DAY_S
from idiolect.game.trust import VALIDATED
from idiolect.game.vocabulary import BaseWord, Vocabulary
from idiolect.store.game.books import GameBooks
from idiolect.types import seed_of

PAST_S = 365 * DAY_S
MEAN_ANSWERS = 5.9
_N_ANSWERS = (2, 3, 4, 5, 5, 6, 6, 7, 7, 8, 9, 11)
_SEEDS, _OTHERS = 100, 30
"""Words of a base word's own, and strange ones, that are ever given."""
_HEAD = 20
_MOST = 0.6
_WORDS_AT_A_TIME = 25


@dataclass(frozen=True)
class Filled:
    """What is in the store now."""

    players: int
    words: int
    rounds: int
    answers: int
    pairs: int


def fill(
    game: Game, n_answers: int, n_players: int, n_words: int, seed: int, say: Callable[[str], None] | None = None
) -> Filled:
    """Fill an empty store.

    Args:
        n_answers: about so many.
        n_words: base words of each relation, the first ones.
    """
    game.prepare()
    rng, now = Random(seed_of("play-store", seed)), game.clock()
    strangers = _common(game.words)
    with game.books.write() as books:
        prompts = [p for p in books.prompts() if p.place < n_words]
        players = books.fill_players([_account(number, now, rng) for number in range(n_players)])
    shares = [(p.place + _HEAD) ** -0.5 for p in prompts]
    n_rounds = [max(1, round(n_answers / MEAN_ANSWERS * share / math.fsum(shares))) for share in shares]
    weights = list(itertools.accumulate((number + 10) ** -0.4 for number in range(n_players)))
    validated: Counter[int] = Counter()
    last: dict[int, float] = {}
    n: Counter[str] = Counter()
    for start in range(0, len(prompts), _WORDS_AT_A_TIME):
        with game.books.write() as books:
            for prompt, wanted in list(zip(prompts, n_rounds, strict=True))[start : start + _WORDS_AT_A_TIME]:
                who = _distinct(players, weights, min(wanted, max(1, int(_MOST * n_players))), rng)
                replay = _played(game.words, game.words.words[prompt.prompt], who, strangers, now, rng)
                rows = [({**r.values, "prompt": prompt.key, "round": _name(rng)}, r.answers) for r in replay.rounds]
                n["answers"] += books.fill_rounds(rows)
                n["rounds"] += len(rows)
                n["pairs"] += books.fill_pairs(prompt.key, replay.pairs())
                books.change_prompt(prompt.key, **replay.prompt())
                validated.update(replay.validated)
                for made in replay.rounds:
                    player, at = made.values["player"], made.values["closed_at"]
                    last[player] = max(last.get(player, at), at)
        if say:
            say(f"{min(start + _WORDS_AT_A_TIME, len(prompts)):5d} of {len(prompts)} base words, {n['answers']:8d} answers")
    with game.books.write() as books:
        changes = {player: {"trust_a": 4 + VALIDATED.a * validated[player], "last_played": at} for player, at in last.items()}
        books.fill_changes("players", changes)
    with game.books.write() as books:
        books.analyse()
    return Filled(len(players), len(prompts), n["rounds"], n["answers"], n["pairs"])


def found(books: GameBooks) -> Filled | None:
    """What a store was filled with; None where nobody has played yet."""
    with books.read() as opened:
        n = opened.sizes()
    return Filled(**n) if n["rounds"] else None


def _played(words: Vocabulary, word: BaseWord, who: Sequence[int], strangers: Sequence[str], now: float, rng: Random) -> Replay:
    replay = Replay(word, words, real=True)
    pool = _pool(words, word, strangers, rng)
    weights = list(itertools.accumulate(1 / (rank + 1) for rank in range(len(pool))))
    for player, at in zip(who, sorted(now - DAY_S - PAST_S * rng.random() for _ in who), strict=True):
        n = rng.choice(_N_ANSWERS)
        texts = list(dict.fromkeys(rng.choices(pool, cum_weights=weights, k=2 * n)))[:n]
        replay.play(Play(player, at, [(1200 * (i + 1), text) for i, text in enumerate(texts)]))
    return replay


def _pool(words: Vocabulary, word: BaseWord, strangers: Sequence[str], rng: Random) -> list[str]:
    """What is given for a base word, the commonest first."""
    tags, seeds = words.lexicon.tags, words.seeds[word.id]
    own = sorted(seeds, key=lambda key: (seeds[key] - 1.3 * math.log1p(tags.get(key, 0)), key))[:_SEEDS]
    return [*own, *rng.sample(strangers, _OTHERS)]


def _common(words: Vocabulary) -> list[str]:
    lexicon = words.lexicon
    return sorted(key for key, tags in lexicon.tags.items() if tags >= 3 and key.isalpha() and key not in lexicon.severity)


def _distinct(players: Sequence[int], weights: Sequence[float], n: int, rng: Random) -> list[int]:
    """So many different players, some of them likelier than others."""
    found: dict[int, None] = {}
    while len(found) < n:
        found |= dict.fromkeys(rng.choices(players, cum_weights=weights, k=n))
    return list(found)[:n]


def _account(number: int, now: float, rng: Random) -> dict[str, Any]:
    """An account that nobody can log in to."""
    return {
        "player": f"{rng.getrandbits(128):032x}", "kind": "account", "created": now - PAST_S - 2 * DAY_S,
        "handle": f"player {number}", "handle_key": f"player {number}", "password": "-", "listed": rng.random() < 0.5,
        "consent_aggregate": now - PAST_S,
    }  # fmt: skip


def _name(rng: Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
