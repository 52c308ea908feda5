"""The k most relevant EARLIER items of one person.

Training asks for what item i could have known: items before i only. BM25's statistics (document frequencies, mean length)
must then be those of the items before i as well, or later words would leak into the ranking. Libraries (`bm25s`,
`rank_bm25`) index a fixed corpus and would need one index per item, which is quadratic. Here each word keeps its postings
in time order, so that "as of position i" is a prefix of every list, and one index serves a person's whole history.
"""

from __future__ import annotations

import math
import random
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from idiolect.data.tasks import Task
from idiolect.errors import ConfigError
from idiolect.types import Example, Item, Person, Query, Retriever, date_key, seed_of

K1, B = 1.5, 0.75


def words(text: str) -> list[str]:
    """Lower-cased runs of letters, digits and underscores."""
    return re.findall(r"\w+", text.lower())


class PrefixBM25:
    """BM25 over a growing list of documents, answered as of any position.

        score(d, q) = Σ_{t in q} log(1 + (N − df_t + ½) / (df_t + ½)) · tf / (tf + k1 · (1 − b + b · |d| / mean))

    with N, df and mean taken over the documents before the position, and a word asked twice counted twice.

    Sources: Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework", eq. 3.15; the idf with 1 + inside is
    Lucene's. OPPU's `rank_bm25.BM25Okapi` has log((N − df + ½) / (df + ½)), with negative values replaced by ε · mean idf,
    and a constant factor k1 + 1. There an idf may be zero or negative, and a person with two items gets ties only.
    """

    def __init__(self, documents: Iterable[Sequence[str]] = (), k1: float = K1, b: float = B):
        self.k1, self.b = k1, b
        self._docs: dict[str, list[int]] = {}
        self._counts: dict[str, list[int]] = {}
        self._lengths: list[int] = []
        self._ends: list[int] = [0]
        self._arrays: dict[str | None, tuple[np.ndarray, np.ndarray]] = {}
        for document in documents:
            self.add(document)

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, document: Sequence[str]) -> None:
        """Append a document, given as words."""
        number = len(self._lengths)
        self._arrays.clear()
        for word, count in Counter(document).items():
            self._docs.setdefault(word, []).append(number)
            self._counts.setdefault(word, []).append(count)
        self._lengths.append(len(document))
        self._ends.append(self._ends[-1] + len(document))

    def scores(self, query: Sequence[str], before: int | None = None) -> np.ndarray:
        """Scores of the documents before position `before` (default: all), (before,), float64."""
        n = len(self) if before is None else min(before, len(self))
        total = np.zeros(n)
        if not n or not self._ends[n]:
            return total
        lengths, _ = self._array(None, self._lengths, [])
        norm = self.k1 * (1 - self.b + self.b * lengths[:n] / (self._ends[n] / n))
        for word, times in Counter(query).items():
            docs = self._docs.get(word, [])
            df = bisect_left(docs, n)
            if df:
                rows, tf = (part[:df] for part in self._array(word, docs, self._counts[word]))
                idf = math.log(1 + (n - df + 0.5) / (df + 0.5))
                total[rows] += times * idf * tf / (tf + norm[rows])
        return total

    def _array(self, key: str | None, first: list[int], second: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Two lists as arrays; kept until a document is added, because a history asks for them at every position."""
        if key not in self._arrays:
            self._arrays[key] = np.array(first), np.array(second)
        return self._arrays[key]


class History:
    """One person's items in time order, ready to be asked for the most relevant earlier ones.

    Items are ordered by date, then by arrival; items of the same day count as earlier if they arrived earlier. Items of other
    tasks are left out.
    """

    def __init__(self, items: Iterable[Item], task: Task, person_id: str = ""):
        self.items: tuple[Item, ...] = tuple(sorted(task.own(items), key=lambda item: date_key(item.date)))
        self.task = task
        self.person_id = person_id
        self._index: PrefixBM25 | None = None

    def retrieve(
        self,
        text: str,
        k: int,
        retriever: Retriever,
        *,
        before: int | None = None,
        not_id: str | None = None,
        seed: Sequence[str | int] = (),
    ) -> tuple[Item, ...]:
        """At most k items, most relevant first.

        Args:
            text: what to look for (`Task.retrieval_query`); only "bm25" reads it.
            k: how many.
            retriever: "bm25" (ties: most recent first), "recency" (newest first), "random" (without replacement), "none".
            before: only items before this position in time order; None: all.
            not_id: never an item of this id, wherever it stands.
            seed: what the "random" choice depends on, and nothing else does.

        Raises:
            ConfigError: if the retriever is not known.
        """
        n = len(self.items) if before is None else max(0, min(before, len(self.items)))
        ranked = (self.items[i] for i in self._ranked(text, retriever, n, seed))
        others = (item for item in ranked if item.id != not_id)
        return tuple(item for item, _ in zip(others, range(k), strict=False))

    def for_item(self, position: int, k: int, retriever: Retriever, seed: int = 0) -> tuple[Item, ...]:
        """What the item at this position may see: earlier items only, never itself."""
        item = self.items[position]
        if not k or retriever == "none" or not self.task.paired:
            return ()
        key = (seed, self.person_id, item.id)
        text = self.task.retrieval_query(item)
        return self.retrieve(text, k, retriever, before=position, not_id=item.id, seed=key)

    def for_query(self, query: Query, k: int, retriever: Retriever, seed: int = 0) -> tuple[Item, ...]:
        """What a query may see: the whole history, all of which is earlier."""
        if not k or retriever == "none":
            return ()
        key = (seed, self.person_id, query.id)
        return self.retrieve(self.task.retrieval_query(query), k, retriever, not_id=query.id, seed=key)

    def _ranked(self, text: str, retriever: Retriever, n: int, seed: Sequence[str | int]) -> Iterable[int]:
        """Positions below n, most relevant first."""
        match retriever:
            case "none":
                return ()
            case "recency":
                return range(n - 1, -1, -1)
            case "random":
                return random.Random(seed_of(*seed)).sample(range(n), n)
            case "bm25":
                newest_first = np.argsort(-self._bm25.scores(words(text), n)[::-1], kind="stable")
                return (n - 1 - int(i) for i in newest_first)
            case _:
                raise ConfigError(f"retriever {retriever!r} is not known; choose one of: none, bm25, recency, random")

    @property
    def _bm25(self) -> PrefixBM25:
        if self._index is None:
            self._index = PrefixBM25(words(self.task.retrieval_text(item)) for item in self.items)
        return self._index


def history_examples(
    person: Person, task: Task, *, retriever: Retriever = "none", k: int = 0, profile: str | None = None, seed: int = 0
) -> Iterator[Example]:
    """Stage 2's examples: one per item of the task, oldest first, each with what was retrieved from before it.

    Raises:
        TaskFieldError, LabelError: as `Task.example_from_item`.
    """
    history = History(person.history, task, person.id)
    for position, item in enumerate(history.items):
        yield task.example_from_item(item, history.for_item(position, k, retriever, seed), profile)


def query_examples(
    person: Person, task: Task, *, retriever: Retriever = "none", k: int = 0, profile: str | None = None, seed: int = 0
) -> Iterator[Example]:
    """The examples of a person's queries: stage 1 trains on those of base users, evaluation asks those of targets.

    Raises:
        InputError, LabelError: as `Task.example_from_query`.
    """
    history = History(person.history, task, person.id)
    for query in person.queries:
        yield task.example_from_query(query, history.for_query(query, k, retriever, seed), profile)
