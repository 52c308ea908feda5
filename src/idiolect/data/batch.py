"""Rows of many people as one flat stream of tokens.

A batch has no padding: row i holds `ids[starts[i] : starts[i] + lengths[i]]`, and rows of one person stand together. The
arrays are numpy's, so that this room needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from idiolect.types import Rendered

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Batch:
    """`N` tokens in `B` rows, of which `M` positions are asked for what comes next.

    Attributes:
        ids: token ids, (N,).
        lengths: tokens of each row, (B,).
        owner: slot of each row's person, (B,), ascending.
        offset: tokens of the same person's step that stand before each row, (B,). With it, a token's place in its
            person's step is known whatever else is in the batch.
        predict: positions in the stream whose next token is part of an answer, (M,), ascending.
        targets: that next token, (M,).
        weights: what each of those counts in the loss, (M,).
        prefix: tokens that all rows of the same person share from the start, (B,).
    """

    ids: Ints
    lengths: Ints
    owner: Ints
    offset: Ints
    predict: Ints
    targets: Ints
    weights: Floats
    prefix: Ints

    @property
    def n_tokens(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Row:
    """One example in a person's step: who owns it, where it stands in the step, and what its answer tokens weigh."""

    owner: int
    offset: int
    weight: float
    example: Rendered


def pack(rows: Sequence[Row]) -> Batch:
    """The batch of these rows. Rows must come sorted by owner."""
    lengths = np.array([len(row.example.ids) for row in rows], dtype=np.int64)
    ids = np.concatenate([np.array(row.example.ids, dtype=np.int64) for row in rows])
    starts = np.cumsum(lengths) - lengths
    owner = np.array([row.owner for row in rows], dtype=np.int64)
    prompts = np.array([row.example.n_prompt for row in rows], dtype=np.int64)
    answers = lengths - prompts
    # The token before the answer predicts its first token; the last token (end of sequence) predicts nothing.
    within = np.arange(answers.sum()) - np.repeat(np.cumsum(answers) - answers, answers)
    predict = np.repeat(starts + prompts - 1, answers) + within
    return Batch(
        ids=ids,
        lengths=lengths,
        owner=owner,
        offset=np.array([row.offset for row in rows], dtype=np.int64),
        predict=predict,
        targets=ids[predict + 1],
        weights=np.repeat(np.array([row.weight for row in rows]), answers),
        prefix=shared_prefix([row.example for row in rows], owner),
    )


def shared_prefix(examples: Sequence[Rendered], owner: Ints) -> Ints:
    """Length of the longest prompt prefix that all rows of one owner have in common, for each row, (B,)."""
    shared: dict[int, tuple[int, ...]] = {}
    for example, u in zip(examples, owner.tolist(), strict=True):
        prompt = example.ids[: example.n_prompt]
        known = shared.get(u)
        shared[u] = prompt if known is None else common(known, prompt)
    return np.array([len(shared[u]) for u in owner.tolist()], dtype=np.int64)


def common(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The longest common prefix of two token sequences."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return a[:n]
    return a[: next(i for i in range(n) if a[i] != b[i])]


def pack_prompts(prompts: Sequence[Sequence[int]]) -> Batch:
    """Whole prompts to be answered: every row is its own owner, and its last token is asked for what comes next."""
    lengths = np.array([len(ids) for ids in prompts], dtype=np.int64)
    rows = np.arange(len(prompts), dtype=np.int64)
    last = np.cumsum(lengths) - 1
    ids = np.concatenate([np.array(p, dtype=np.int64) for p in prompts])
    nothing = np.zeros(len(prompts), dtype=np.int64)
    return Batch(ids, lengths, rows, nothing, last, nothing, np.ones(len(prompts)), nothing)
