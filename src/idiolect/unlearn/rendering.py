"""Pairs as tokens: each prompt with its right answer, the right answer in other words, and wrong ones.

One prompt, whatever answer follows: all of a pair's rows leave the same room, so they are cut at the same place, and a pass
without gradients computes what they share once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from idiolect.data.pairs import Pair, example_of
from idiolect.data.prompts import render_many
from idiolect.errors import ConfigError, InputError
from idiolect.model.base import Base
from idiolect.types import Rendered, seed_of


@dataclass(frozen=True)
class Asked:
    """One pair as tokens; every row begins with the same prompt."""

    pair: Pair
    right: Rendered
    paraphrases: tuple[Rendered, ...]
    wrong: tuple[Rendered, ...]

    @property
    def rows(self) -> tuple[Rendered, ...]:
        """All rows: the right answer, its paraphrases, wrong answers."""
        return (self.right, *self.paraphrases, *self.wrong)

    @property
    def prompt(self) -> tuple[int, ...]:
        return self.right.ids[: self.right.n_prompt]


def own_answer(pair: Pair) -> str:
    """The answer that a pair came with."""
    return pair.answer


def render_pairs(
    base: Base,
    pairs: Sequence[Pair],
    *,
    max_tokens: int | None = None,
    room: int | None = None,
    answer: Callable[[Pair], str] = own_answer,
    left_out: list[str] | None = None,
) -> list[Rendered]:
    """Each pair as tokens, in order: the prompt and an answer.

    Args:
        max_tokens: bound of prompt and answer together; None: 512, or what the base can see.
        room: tokens kept for the answer whatever it is, so that another answer changes nothing of the prompt; None: 64, or
            half of the bound.
        answer: which answer; the pair's own, unless said otherwise.
        left_out: ids of pairs that cannot fit are appended to it; None: they raise.

    Raises:
        AnswerTooLongError: an answer that cannot fit, where `left_out` is not given.
        ConfigError: more tokens than the base can see.
    """
    max_tokens = min(512, base.context) if max_tokens is None else max_tokens
    room = min(64, max_tokens // 2) if room is None else room
    _check_room(base, max_tokens, room)
    examples = [example_of(pair, answer(pair)) for pair in pairs]
    return list(render_many(examples, base.tokenizer, max_tokens, reserve=room, dropped=left_out))


def ask(
    base: Base, pairs: Sequence[Pair], *, max_tokens: int = 512, room: int = 64, left_out: list[str] | None = None
) -> list[Asked]:
    """Each pair with all its answers.

    A pair one of whose answers takes more than the room is left out: its prompt would be cut elsewhere, and answers could
    not be compared. Ids of such pairs are appended to `left_out`.

    Raises:
        ConfigError: more tokens than the base can see.
        InputError: no pair fits.
    """
    _check_room(base, max_tokens, room)
    found = []
    for pair in pairs:
        answers = (pair.answer, *pair.paraphrases, *pair.wrong)
        examples = [example_of(pair, text) for text in answers]
        misfits: list[str] = []
        rows = tuple(render_many(examples, base.tokenizer, max_tokens, reserve=room, dropped=misfits))
        if misfits or any(row.n_answer > room for row in rows):
            if left_out is not None:
                left_out.append(pair.id)
            continue
        n = 1 + len(pair.paraphrases)
        found.append(Asked(pair, rows[0], rows[1:n], rows[n:]))
    if pairs and not found:
        raise InputError(f"none of {len(pairs)} pairs has answers of at most {room} tokens; raise the room for answers")
    return found


def with_wrong(pairs: Sequence[Pair], n: int, seed: int) -> tuple[list[Pair], int]:
    """The pairs, and wrong answers for those that have none: up to `n` answers of other pairs of the set; how many needed it.

    They are drawn by (seed, pair), from other groups, and never equal the right answer or a paraphrase.

    Raises:
        InputError: there is no other answer to draw.
    """
    found, drawn = [], 0
    for pair in pairs:
        if not pair.wrong:
            drawn += 1
            pair = replace(pair, wrong=_drawn(pair, pairs, n, seed))
        found.append(pair)
    return found, drawn


def _drawn(pair: Pair, pairs: Sequence[Pair], n: int, seed: int) -> tuple[str, ...]:
    right = {_plain(text) for text in (pair.answer, *pair.paraphrases)}
    others = {
        _plain(other.answer): other.answer
        for other in pairs
        if other.id != pair.id and (not pair.group or other.group != pair.group)
    }
    # A set of one person's pairs is one group, and then its other answers have to serve.
    others = others or {_plain(other.answer): other.answer for other in pairs}
    left = [others[key] for key in sorted(others.keys() - right)]
    if not left:
        raise InputError(f"pair {pair.id!r} has no wrong answers, and no other pair of its set has another answer; add some")
    return tuple(random.Random(seed_of("wrong answers", seed, pair.id)).sample(left, min(n, len(left))))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _check_room(base: Base, max_tokens: int, room: int) -> None:
    if max_tokens > base.context:
        raise ConfigError(f"max_tokens {max_tokens} is more than the {base.context} that {base.name} can see; lower it")
    if not 2 <= room <= max_tokens // 2:
        raise ConfigError(f"the room for answers is {room} tokens; it must be between 2 and half of max_tokens {max_tokens}")
