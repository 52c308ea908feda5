"""Synthetic histories: token counts are what decides speed, so seeded random ids stand in for text."""

from __future__ import annotations

import random
from dataclasses import dataclass

from idiolect.types import Rendered, seed_of

_RESERVED = 16  # low ids are special tokens in most vocabularies


@dataclass(frozen=True, slots=True)
class Workload:
    """How much each person brings.

    Attributes:
        items: examples per person.
        own: least and greatest number of an example's own tokens, answer included.
        answer: answer tokens, the only ones with a loss.
        shared: tokens of an instruction that all examples begin with; they come on top of `own`.
    """

    name: str
    people: int
    items: int
    own: tuple[int, int]
    answer: int
    shared: int = 0
    epochs: int = 2
    batch_size: int = 16


WORKLOADS = {
    w.name: w
    for w in (
        Workload("w0", people=16, items=32, own=(32, 64), answer=12),
        Workload("short", people=16, items=6, own=(16, 32), answer=6),  # a quarter is answer, as in w0
        Workload("template", people=8, items=32, own=(30, 70), answer=3, shared=75),
    )
}


def make(workload: Workload, vocab: int, seed: int = 0, people: int | None = None) -> dict[str, list[Rendered]]:
    """Each person's examples; a person's ids depend on the seed and their name, not on how many people there are."""
    names = [f"person-{number:04d}" for number in range(people or workload.people)]
    return {name: examples_of(workload, name, vocab, seed) for name in names}


def count_tokens(data: dict[str, list[Rendered]], epochs: int) -> tuple[int, int]:
    """(tokens, answer tokens) that training sees over all people and epochs."""
    rows = [row for rows in data.values() for row in rows]
    return epochs * sum(len(row.ids) for row in rows), epochs * sum(row.n_answer for row in rows)


def examples_of(workload: Workload, person: str, vocab: int, seed: int) -> list[Rendered]:
    """One person's examples."""
    shared = _ids(random.Random(seed_of(seed, workload.name, "shared")), workload.shared, vocab)
    rng = random.Random(seed_of(seed, workload.name, person))
    rows = []
    for number in range(workload.items):
        ids = shared + _ids(rng, rng.randint(*workload.own), vocab)
        rows.append(Rendered(f"{person}-{number}", ids, len(ids) - workload.answer))
    return rows


def _ids(rng: random.Random, n: int, vocab: int) -> tuple[int, ...]:
    return tuple(rng.randrange(_RESERVED, vocab) for _ in range(n))
