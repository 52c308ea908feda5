"""Who is asked to share: people whose histories stand for the others'.

    history → documents ─ encoder ─▶ one vector per person ─ centre ─▶ k-means ─▶ one person of each cluster

Mean-pooled hidden states of any language model all point nearly the same way; what tells people apart is what is left when the
mean over people is taken off, so vectors are centred before they are compared.

Source: Tan et al. 2024 (Per-Pcs), arXiv:2406.10471, stage 1.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch

from idiolect.config import Settings
from idiolect.data.batch import Batch
from idiolect.data.tasks import Task
from idiolect.errors import ConfigError, DependencyMissing, EmptyHistory
from idiolect.model.base import Base
from idiolect.types import Person, seed_of

Encoder = Callable[[Sequence[str]], np.ndarray]
"""Texts to vectors, (n, E). Any sentence encoder will do."""

Strategy = Literal["cluster_most_active", "cluster_medoid", "cluster_random", "most_active", "random"]


class Selection(Settings):
    """How sharers are chosen.

    Attributes:
        n: sharers wanted; clusters without anybody of `min_items` make it fewer.
        min_items: nobody with a shorter history shares.
        max_items: newest items of each person that the encoder reads.
    """

    n: int = 50
    strategy: Strategy = "cluster_most_active"
    min_items: int = 11
    max_items: int = 100
    seed: int = 0


@dataclass(frozen=True)
class Sharers:
    """Who was chosen, and how many there were to choose from."""

    ids: tuple[str, ...]
    n_candidates: int
    n_clusters: int | None = None


def base_encoder(base: Base, max_tokens: int = 128, token_budget: int = 8192) -> Encoder:
    """The base itself as an encoder: the mean of its last hidden states over a text's first `max_tokens` tokens.

    Needs no network and no second model; a sentence encoder tells people apart better.
    """

    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> np.ndarray:
        ids = [base.tokenizer.encode(text)[: min(max_tokens, base.context)] or [base.tokenizer.eos_id] for text in texts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        found = np.zeros((len(ids), base.model.head.shape[1]))
        for part in _parts(order, ids, token_budget):
            lengths = np.array([len(ids[i]) for i in part])
            hidden = base.model.hidden(base.model.plan(_everywhere([ids[i] for i in part]))).double().cpu().numpy()
            sums = np.add.reduceat(hidden, np.cumsum(lengths) - lengths, axis=0)
            found[part] = sums / lengths[:, None]
        return found

    return encode


def _everywhere(rows: Sequence[Sequence[int]]) -> Batch:
    """A batch in which every position is asked for."""
    lengths = np.array([len(ids) for ids in rows], dtype=np.int64)
    ids = np.concatenate([np.array(row, dtype=np.int64) for row in rows])
    nothing, n = np.zeros(len(rows), dtype=np.int64), np.arange(len(ids))
    return Batch(ids, lengths, np.arange(len(rows)), nothing, n, np.zeros_like(n), np.ones(len(n)), nothing)


def _parts(order: Sequence[int], ids: Sequence[Sequence[int]], budget: int) -> Iterable[list[int]]:
    part: list[int] = []
    for i in order:
        if part and (len(part) + 1) * len(ids[i]) > budget:
            yield part
            part = []
        part.append(i)
    if part:
        yield part


def embed(people: Iterable[Person], task: Task, encode: Encoder, max_items: int = 100) -> dict[str, np.ndarray]:
    """One vector per person: the mean over their newest items, (E,). People without items are left out."""
    found = {}
    for person in people:
        if person.history:
            found[person.id] = encode([task.document(item) for item in person.history[-max_items:]]).mean(0)
    return found


def centred(vectors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The vectors less their mean, each of length one: their products are cosines of what tells people apart."""
    names = list(vectors)
    rows = np.stack([vectors[name] for name in names])
    rows = rows - rows.mean(0)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return dict(zip(names, rows / np.where(lengths > 0, lengths, 1), strict=True))


def choose_sharers(
    candidates: Sequence[Person],
    task: Task,
    selection: Selection,
    encode: Encoder | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Sharers:
    """Choose who is to share. Ties go to the first id; the order of candidates does not matter.

    Args:
        encode: needed by the strategies that cluster.

    Raises:
        EmptyHistory: nobody has `min_items` items.
        ConfigError: a strategy that is not known, or one that clusters without an encoder.
    """
    if selection.strategy not in get_args(Strategy):
        raise ConfigError(f"strategy {selection.strategy!r} is not known; choose one of: {', '.join(get_args(Strategy))}")
    people = sorted(candidates, key=lambda person: person.id)
    able = [person for person in people if len(person.history) >= selection.min_items]
    if not able:
        raise EmptyHistory(
            f"none of {len(people)} candidates has {selection.min_items} items; share from longer histories, "
            "or lower --min-items"
        )
    if selection.strategy == "most_active":
        ranked = sorted(able, key=lambda person: (-len(person.history), person.id))
        return Sharers(tuple(p.id for p in ranked[: selection.n]), len(people))
    if selection.strategy == "random":
        drawn = random.Random(seed_of("sharers", selection.seed)).sample(able, min(selection.n, len(able)))
        return Sharers(tuple(sorted(p.id for p in drawn)), len(people))
    if encode is None:
        raise ConfigError(f"strategy {selection.strategy!r} needs an encoder")
    return _one_per_cluster(people, able, task, selection, encode, on_progress)


def _one_per_cluster(
    people: Sequence[Person],
    able: Sequence[Person],
    task: Task,
    selection: Selection,
    encode: Encoder,
    on_progress: Callable[[int], None] | None,
) -> Sharers:
    vectors: dict[str, np.ndarray] = {}
    for person in people:
        vectors |= embed([person], task, encode, selection.max_items)
        if on_progress is not None:
            on_progress(len(vectors))
    space = centred(vectors)
    names = list(space)
    rows = np.stack([space[name] for name in names])
    labels, centres = _cluster(rows, min(selection.n, len(names)), selection.seed)
    members: dict[int, list[Person]] = {}
    by_id = dict(zip(names, labels.tolist(), strict=True))
    for person in able:
        members.setdefault(by_id[person.id], []).append(person)
    pick = {"cluster_most_active": _most_active, "cluster_medoid": _medoid, "cluster_random": _any}[selection.strategy]
    chosen = [pick(mine, space, centres[label], selection.seed) for label, mine in sorted(members.items())]
    return Sharers(tuple(sorted(chosen)), len(people), len(centres))


def _cluster(rows: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.cluster import KMeans
    except ImportError:
        raise DependencyMissing("choosing sharers needs scikit-learn; install it: pip install 'idiolect[local]'") from None
    settings: dict[str, Any] = {"n_init": 10, "max_iter": 3000, "random_state": seed % 2**32}
    found = KMeans(n, **settings).fit(rows)
    return np.asarray(found.labels_), np.asarray(found.cluster_centers_)


def _most_active(members: Sequence[Person], space: Mapping[str, np.ndarray], centre: np.ndarray, seed: int) -> str:
    return min(members, key=lambda person: (-len(person.history), person.id)).id


def _medoid(members: Sequence[Person], space: Mapping[str, np.ndarray], centre: np.ndarray, seed: int) -> str:
    return min(members, key=lambda person: (float(np.linalg.norm(space[person.id] - centre)), person.id)).id


def _any(members: Sequence[Person], space: Mapping[str, np.ndarray], centre: np.ndarray, seed: int) -> str:
    return min(members, key=lambda person: seed_of("sharer", seed, person.id)).id


def nearest(newcomer: np.ndarray, sharers: Mapping[str, np.ndarray], mean: np.ndarray) -> str:
    """The sharer whose centred vector has the greatest cosine with the newcomer's: whose adapter PEFT retrieval takes.

    Args:
        newcomer: (E,), not centred.
        sharers: not centred.
        mean: what both are centred by.
    """

    def cosine(name: str) -> float:
        a, b = newcomer - mean, sharers[name] - mean
        return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))

    return max(sorted(sharers), key=cosine)
