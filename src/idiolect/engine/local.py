"""The local engine: prompts of different people in one batch, each answered with its own adapter, or with none.

    requests → groups of one layout, by length → begin (whole prompts, no padding in the products)
             → choose a token for each row → advance → … rows that are done leave → completions in the order asked

Label tasks score the whole label set instead: every label's probability, end of sequence included, so no answer is invalid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from idiolect.data.batch import pack_prompts
from idiolect.engine.sampling import GREEDY, Sampler, Sampling
from idiolect.errors import InputError
from idiolect.model.bank import Bank
from idiolect.model.base import Base
from idiolect.model.decoder import Forest
from idiolect.types import Completion


@dataclass(frozen=True)
class Request:
    """One prompt to answer.

    Attributes:
        ids: the prompt's tokens.
        adapter: key of the adapter in the bank; None: the base alone.
        max_new_tokens: where to stop at the latest.
    """

    id: str
    ids: Sequence[int]
    adapter: str | None = None
    max_new_tokens: int = 64
    sampling: Sampling = GREEDY


@dataclass
class _Live:
    """One request being answered."""

    request: Request
    sampler: Sampler | None
    tokens: list[int] = field(default_factory=list)
    stopped: bool = False

    @property
    def done(self) -> bool:
        return self.stopped or len(self.tokens) >= self.request.max_new_tokens


class Engine:
    """Answers requests on one base.

    Args:
        base: with its task adapter merged in, if there is one.
        bank: where the requests' adapters are; None: a bank of its own, for `put`.
        max_rows: requests computed together at most.
        max_tokens: prompt tokens computed together at most; a longer prompt is computed alone.
    """

    def __init__(self, base: Base, bank: Bank | None = None, *, max_rows: int = 64, max_tokens: int = 8192) -> None:
        self.base = base
        self.bank = bank if bank is not None else Bank(base.model.sites(), base.device, base.dtype)
        self._max_rows, self._max_tokens = max_rows, max_tokens

    def generate(
        self, requests: Sequence[Request], *, ignore_eos: bool = False, on_done: Callable[[int], None] | None = None
    ) -> list[Completion]:
        """Answer every request freely, token by token.

        Args:
            requests: of any mixture of people.
            ignore_eos: go on to max_new_tokens whatever comes (for benchmarks).
            on_done: called with the number of requests answered so far.

        Raises:
            InputError: a prompt and its answer do not fit into the base's context.
            AdapterNotFound: an adapter that is neither in the bank nor in its store.
        """
        self._check([(r, r.max_new_tokens) for r in requests])
        answers: list[Completion | None] = [None] * len(requests)
        done = 0
        for part in self._batches(requests):
            for i, completion in zip(part, self._answer([requests[i] for i in part], ignore_eos), strict=True):
                answers[i] = completion
            done += len(part)
            if on_done is not None:
                on_done(done)
        return [answer for answer in answers if answer is not None]

    def choose(
        self,
        requests: Sequence[Request],
        labels: Sequence[str],
        label_ids: Sequence[Sequence[int]],
        *,
        decide: Callable[[Sequence[float]], int] | None = None,
        on_done: Callable[[int], None] | None = None,
    ) -> list[Completion]:
        """Answer every request with one of the labels.

        Args:
            labels: their text.
            label_ids: their tokens, end of sequence included.
            decide: from log-probabilities to the index of the answer; None: the most probable.

        Raises:
            InputError: as `generate`.
        """
        longest = max(len(ids) for ids in label_ids)
        self._check([(r, longest) for r in requests])
        forest = Forest.of(label_ids, self.base.device)
        answers: list[Completion | None] = [None] * len(requests)
        done = 0
        for part in self._batches(requests):
            scores = self._score([requests[i] for i in part], forest)
            for i, row in zip(part, scores.tolist(), strict=True):
                best = decide(row) if decide else max(range(len(row)), key=row.__getitem__)
                n = len(requests[i].ids)
                answers[i] = Completion(requests[i].id, labels[best], n, len(label_ids[best]), "stop", (), tuple(row))
            done += len(part)
            if on_done is not None:
                on_done(done)
        return [answer for answer in answers if answer is not None]

    @torch.inference_mode()
    def _score(self, requests: Sequence[Request], forest: Forest) -> Tensor:
        logits, state = self._begin(requests, len(forest.ids))
        return self.base.model.score(state, logits, forest)

    @torch.inference_mode()
    def _answer(self, requests: Sequence[Request], ignore_eos: bool) -> list[Completion]:
        lives = [_Live(r, Sampler(r.sampling, r.id) if r.sampling.temperature > 0 else None) for r in requests]
        logits, state = self._begin(requests, max(r.max_new_tokens for r in requests))
        rows = list(lives)
        while True:
            tokens = self._next_tokens(rows, logits, ignore_eos)
            left = [i for i, live in enumerate(rows) if not live.done]
            if not left:
                return [self._completion(live) for live in lives]
            # Throwing rows out copies the cache, so it waits until a quarter of them are done.
            if len(left) <= 0.75 * len(rows):
                keep = torch.tensor(left, device=self.base.device)
                self.base.model.drop(state, keep)
                rows, tokens = [rows[i] for i in left], tokens[keep]
            logits = self.base.model.advance(state, tokens)

    def _begin(self, requests: Sequence[Request], room: int) -> tuple[Tensor, object]:
        adapters = self.bank.stack([request.adapter for request in requests])
        return self.base.model.begin(pack_prompts([request.ids for request in requests]), adapters, room)

    def _next_tokens(self, rows: list[_Live], logits: Tensor, ignore_eos: bool) -> Tensor:
        """Choose one token for each row and note it, (B,)."""
        best = logits.argmax(-1).tolist()
        for i, live in enumerate(rows):
            if live.done:
                continue
            if live.sampler is not None:
                best[i] = live.sampler.choose(logits[i])
            if best[i] == self.base.tokenizer.eos_id and not ignore_eos:
                live.stopped = True
            else:
                live.tokens.append(best[i])
        return torch.tensor(best, device=self.base.device)

    def _completion(self, live: _Live) -> Completion:
        request = live.request
        text = self.base.tokenizer.decode(live.tokens)
        finish = "stop" if live.stopped else "length"
        return Completion(request.id, text, len(request.ids), len(live.tokens), finish, tuple(live.tokens))

    def _check(self, wanted: Sequence[tuple[Request, int]]) -> None:
        for request, room in wanted:
            if not request.ids:
                raise InputError(f"request {request.id!r} has an empty prompt")
            if len(request.ids) + room > self.base.context:
                raise InputError(
                    f"request {request.id!r}: {len(request.ids)} prompt tokens and {room} new ones exceed the "
                    f"{self.base.context} that {self.base.name} can see; shorten the prompt or ask for fewer tokens"
                )

    def _batches(self, requests: Sequence[Request]) -> Iterator[list[int]]:
        """Indices of requests that are computed together: one layout, similar lengths."""
        order: dict[str, list[int]] = {}
        plain: list[int] = []
        for i, request in enumerate(requests):
            if request.adapter is None:
                plain.append(i)
            else:
                order.setdefault(self.bank.layout_key(request.adapter), []).append(i)
        if not order:
            order[""] = []
        # Requests without an adapter join the first group: a row of zeros adds nothing.
        next(iter(order.values())).extend(plain)
        for indices in order.values():
            yield from self._cut(sorted(indices, key=lambda i: len(requests[i].ids)), requests)

    def _cut(self, indices: list[int], requests: Sequence[Request]) -> Iterator[list[int]]:
        part: list[int] = []
        people: set[str | None] = set()
        for i in indices:
            n, adapter = len(requests[i].ids), requests[i].adapter
            # No more different adapters than the bank holds, or loading one would push out another of the same batch.
            crowded = adapter not in people and len(people) >= self.bank.capacity
            if part and (len(part) >= self._max_rows or (len(part) + 1) * n > self._max_tokens or crowded):
                yield part
                part, people = [], set()
            part.append(i)
            people.add(adapter)
        if part:
            yield part
