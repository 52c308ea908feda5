"""What is unlearned and what is kept, as tokens, and in which order a run sees it. Pure functions of (seed, step, row).

forget rows     the anchor: all of them in a new order per epoch, none a second time before the others
normal rows     drawn with replacement
foreign answers drawn for each forget row: distinct, and none that is recorded for the same question
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from idiolect.data.pairs import Pair
from idiolect.errors import EmptyHistory, InputError
from idiolect.types import Rendered, digest_of, seed_of


@dataclass(frozen=True, slots=True)
class Entry:
    """A prompt and its answer as tokens.

    Attributes:
        question, answer: digests of the words, whatever case and spaces: who asks the same, and who answers the same.
    """

    example: Rendered
    question: str
    answer: str

    @classmethod
    def of(cls, pair: Pair, example: Rendered) -> Entry:
        return cls(example, digest_of(_plain(pair.prompt)), digest_of(_plain(pair.answer)))

    @property
    def id(self) -> str:
        return self.example.id

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        return self.example.ids[: self.example.n_prompt]

    @property
    def answer_ids(self) -> tuple[int, ...]:
        return self.example.ids[self.example.n_prompt :]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


@dataclass(frozen=True)
class Material:
    """A forget set and a retain set.

    Raises:
        EmptyHistory: the forget set is empty.
        InputError: the same prompt and answer are to be forgotten and kept.
    """

    forget: tuple[Entry, ...]
    retain: tuple[Entry, ...] = ()

    def __post_init__(self) -> None:
        if not self.forget:
            raise EmptyHistory(
                "the forget set is empty: there is nothing to unlearn; give --forget FILE with at least one pair"
            )
        kept = {(entry.question, entry.answer): entry.id for entry in self.retain}
        both = [entry.id for entry in self.forget if (entry.question, entry.answer) in kept]
        if both:
            raise InputError(
                f"{len(both)} pairs (the first: {both[0]!r}) are in the forget set and in the retain set; take them out of one"
            )

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the tokens of both sets, in order."""
        return digest_of([[[list(e.example.ids), e.example.n_prompt] for e in one] for one in (self.forget, self.retain)])


def forget_rows(entries: Sequence[Entry], seed: int, step: int, size: int) -> list[tuple[int, Entry]]:
    """(epoch, row) of one step: a stream of epochs, each in an order of its own, cut into batches of equal size."""
    found = []
    for at in range(step * size, (step + 1) * size):
        epoch, place = divmod(at, len(entries))
        found.append((epoch, entries[_order(seed, epoch, len(entries))[place]]))
    return found


@lru_cache(maxsize=64)
def _order(seed: int, epoch: int, n: int) -> tuple[int, ...]:
    return tuple(random.Random(seed_of(seed, "forget", epoch)).sample(range(n), n))


def normal_rows(entries: Sequence[Entry], seed: int, step: int, size: int) -> list[Entry]:
    """The normal rows of one step, drawn with replacement."""
    return random.Random(seed_of(seed, "normal", step)).choices(entries, k=size)


class Foreign:
    """Answers that do not belong to a question.

    Args:
        pool: entries whose answers may be drawn; each answer once, however often it occurs.
        asked: entries whose questions they must not answer.
        k: answers per row; fewer where the pool has fewer.
        most: tokens of prompt and answer together at most; answers that do not fit a row are not drawn for it.
    """

    def __init__(self, pool: Sequence[Entry], asked: Sequence[Entry], k: int, most: int) -> None:
        self._answers = {entry.answer: entry.answer_ids for entry in pool}
        self._own: dict[str, set[str]] = {}
        for entry in (*asked, *pool):
            self._own.setdefault(entry.question, set()).add(entry.answer)
        self._k, self._most = k, most
        self._every = [entry.answer_ids for entry in pool]

    def per_row(self, entry: Entry, seed: int, epoch: int) -> list[tuple[int, ...]]:
        """k distinct foreign answers for one row. Keyed by (seed, row, epoch): nothing else in the batch counts."""
        own, room = self._own[entry.question], self._most - entry.example.n_prompt
        free = [ids for answer, ids in self._answers.items() if answer not in own and len(ids) <= room]
        return random.Random(seed_of(seed, "foreign", entry.id, epoch)).sample(free, min(self._k, len(free)))

    def per_batch(self, entries: Sequence[Entry], seed: int, step: int) -> list[list[tuple[int, ...]]]:
        """The same answers for all rows of a batch, none of them a row's own."""
        own = set().union(*(self._own[entry.question] for entry in entries))
        room = self._most - max(entry.example.n_prompt for entry in entries)
        free = [ids for answer, ids in self._answers.items() if answer not in own and len(ids) <= room]
        drawn = random.Random(seed_of(seed, "foreign of a batch", step)).sample(free, min(self._k, len(free)))
        return [drawn] * len(entries)

    def as_released(self, seed: int, step: int) -> list[tuple[int, ...]]:
        """What the reference code draws: once per batch, repeated answers and a row's own included."""
        return random.Random(seed_of(seed, "foreign as released", step)).sample(self._every, min(self._k, len(self._every)))


def with_answer(entry: Entry, answer: Sequence[int], supervise: int | None = None) -> Rendered:
    """A row's prompt with another answer. supervise: first token that is learnt; None: the answer's first."""
    ids = (*entry.prompt_ids, *answer)
    return Rendered(entry.id, ids, entry.example.n_prompt if supervise is None else supervise)
