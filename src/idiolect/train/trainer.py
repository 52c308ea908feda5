"""The fused trainer: many people's adapters over one frozen base, in one loop.

    jobs ──admit──▶ slots ──▶ cycle ──▶ retire ──▶ on_done(Finished)
                      ▲         │ every active person's next batch → chunks of at most `token_budget` tokens
                      │         │ each chunk: forward, loss, backward into the stack of gradients
                      └─────────┘ one AdamW step for everybody

The loss is the sum of each person's own mean and every random stream is keyed by (seed, person, epoch, step, layer), so a
person's adapter is what it would be alone: nothing depends on batch mates, slot, order or worker. Jobs are read one at a
time as slots fall free, so memory does not grow with their number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from idiolect.config import TrainConfig
from idiolect.data.batch import Row, pack
from idiolect.errors import ConfigError, EmptyHistory
from idiolect.model.base import Base
from idiolect.train.loss import answer_loss
from idiolect.train.memory import free_bytes, is_out_of_memory, keep_freed_memory
from idiolect.train.schedule import epoch_order, steps_per_epoch, total_steps
from idiolect.train.slots import Slots, Subject, choose_slots
from idiolect.types import Rendered, seed_of


@dataclass(frozen=True)
class Job:
    """One person to train: who, and on what.

    Attributes:
        start: the adapter to go on from, (P,), or, where gates are trained, the frozen one under them; None: a new one.
    """

    person: str
    examples: Sequence[Rendered]
    start: Tensor | None = None


@dataclass(frozen=True)
class Finished:
    """One person's adapter, done.

    Attributes:
        row: (P,), on the CPU.
        loss: mean loss per answer token over the last epoch, nats.
        tokens: tokens this person was trained on, over all epochs.
        seconds: their share of the run, by tokens.
    """

    person: str
    row: Tensor
    steps: int
    tokens: int
    loss: float
    seconds: float


@dataclass(frozen=True)
class Progress:
    """How far the run is.

    Attributes:
        steps_done: optimiser steps made, over all people.
        steps_total: those of the whole run, as far as is known by now; None: not known.
    """

    done: int
    active: int
    tokens: int
    seconds: float
    loss: float
    steps_done: int
    steps_total: int | None = None

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / max(self.seconds, 1e-9)

    @property
    def left_s(self) -> float | None:
        """Seconds to go, at the speed so far; None where nobody can tell."""
        if self.steps_total is None or not 0 < self.steps_done <= self.steps_total:
            return None
        return self.seconds * (self.steps_total - self.steps_done) / self.steps_done


@dataclass
class _Seat:
    """Who sits in a slot, and where they are in their epochs."""

    job: Job
    total: int
    step: int = 0
    order: list[int] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    epoch_loss: float = 0.0
    epoch_tokens: int = 0

    def next_batch(self, config: TrainConfig) -> list[Rendered]:
        """The examples of the next step. A new epoch draws a new order."""
        examples = self.job.examples
        epoch, at = divmod(self.step, steps_per_epoch(len(examples), config.batch_size))
        if at == 0:
            self.order = epoch_order(config.seed, self.job.person, epoch, len(examples))
            self.epoch_loss, self.epoch_tokens = 0.0, 0
        chosen = self.order[at * config.batch_size : (at + 1) * config.batch_size]
        return [examples[i] for i in chosen]

    def dropout_key(self, config: TrainConfig) -> int:
        if config.dropout == 0:
            return 0
        epoch = self.step // steps_per_epoch(len(self.job.examples), config.batch_size)
        return seed_of(config.seed, self.job.person, "dropout", epoch, self.step)


def train(
    base: Base,
    jobs: Iterable[Job],
    config: TrainConfig,
    on_done: Callable[[Finished], None],
    on_progress: Callable[[Progress], None] | None = None,
    subject: Subject | None = None,
) -> None:
    """Train an adapter for every job; `on_done` gets each as soon as it is finished.

    Args:
        jobs: read lazily, one at a time.
        subject: what is trained; None: whole adapters, of the rank and targets that the settings name.
        on_done: called in this thread; what it raises ends the run, and what was handed over before stays.
        on_progress: called after every cycle.

    Raises:
        EmptyHistory: a job without examples.
        TargetMismatch: a target module that the base does not have.
        ConfigError: not even one example fits into memory.
    """
    if base.device.type == "cpu":
        keep_freed_memory()
    subject = subject or Subject(base.layout(config.rank, config.alpha, config.targets))
    run = _Run(base, subject, config, on_done, on_progress)
    if isinstance(jobs, Sequence):
        run.total = sum(total_steps(len(job.examples), config) for job in jobs)
    run.all(iter(jobs))


class _Run:
    """One run of the trainer."""

    def __init__(
        self,
        base: Base,
        subject: Subject,
        config: TrainConfig,
        on_done: Callable[[Finished], None],
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.base, self.subject, self.config = base, subject, config
        self.on_done, self.on_progress = on_done, on_progress
        self.budget = config.token_budget
        self.total: int | None = None
        self.slots = self._make_slots()
        self.seats: list[_Seat | None] = [None] * len(self.slots)
        self.done, self.tokens, self.steps, self.loss = 0, 0, 0, float("nan")
        self.started = time.monotonic()

    def _make_slots(self) -> Slots:
        """As many slots as fit; half as many whenever the memory says no."""
        count = choose_slots(self.subject, self.config, self.base.device, free_bytes(self.base.device))
        while True:
            try:
                return Slots(self.subject, self.config, count, self.base.device, self.base.dtype)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or count == 1:
                    raise
                count //= 2

    def all(self, jobs: Iterator[Job]) -> None:
        self._admit(jobs)
        while any(self.seats):
            self._cycle()
            self._retire()
            self._admit(jobs)
            self._report()

    def _admit(self, jobs: Iterator[Job]) -> None:
        for slot, seat in enumerate(self.seats):
            if seat is not None:
                continue
            job = next(jobs, None)
            if job is None:
                return
            if not job.examples:
                raise EmptyHistory(
                    f"user {job.person!r} has nothing to train on; import a history first: idiolect history import"
                )
            total = total_steps(len(job.examples), self.config)
            row = self.subject.first_row(self.config, job.person, job.start, self.slots.weights.dtype)
            self.slots.admit(slot, row, total, job.start if self.subject.gates else None)
            self.seats[slot] = _Seat(job, total)

    def _cycle(self) -> None:
        """One optimiser step of every person in a slot."""
        began = time.monotonic()
        rows = self._rows()
        keys = [seat.dropout_key(self.config) if seat else 0 for seat in self.seats]
        while True:
            try:
                sums = self._forward_backward(rows, keys)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink(max(len(row.example.ids) for row in rows))
        self.slots.update()
        self._account(rows, sums, time.monotonic() - began)

    def _rows(self) -> list[Row]:
        """The next batch of every seated person, people in slot order."""
        rows: list[Row] = []
        for slot, seat in enumerate(self.seats):
            if seat is None:
                continue
            batch = seat.next_batch(self.config)
            weight = 1 / sum(example.n_answer for example in batch)
            offset = 0
            for example in batch:
                rows.append(Row(slot, offset, weight, example))
                offset += len(example.ids)
        return rows

    def _forward_backward(self, rows: list[Row], keys: list[int]) -> Tensor:
        """Gradients of all rows, chunk by chunk; the summed loss of every slot, (S,)."""
        self.slots.forget_gradient()
        adapters = self.slots.adapters(keys)
        device = self.base.device
        sums = torch.zeros(len(self.slots), dtype=torch.float64, device=device)
        for part in chunks(rows, self.budget):
            batch = pack(part)
            plan = self.base.model.plan(batch)
            hidden = self.base.model.hidden(plan, adapters)
            targets = torch.from_numpy(batch.targets).to(device)
            weights = torch.from_numpy(batch.weights).to(device)
            losses, gradient = answer_loss(hidden.detach(), self.base.model.head, targets, weights, self.base.model.softcap)
            hidden.backward(gradient)
            answers = torch.tensor([row.example.n_answer for row in part])
            owner = torch.repeat_interleave(torch.from_numpy(batch.owner), answers).to(device)
            sums.index_add_(0, owner, losses.double())
        return sums

    def _shrink(self, longest: int) -> None:
        """Memory ran out: go on with half as many tokens per pass. No result changes."""
        if self.budget <= longest:
            raise ConfigError(
                f"an example of {longest} tokens does not fit into memory; choose a smaller --max-tokens or another --device"
            )
        self.budget = max(longest, self.budget // 2)
        if self.base.device.type == "cuda":
            torch.cuda.empty_cache()

    def _account(self, rows: list[Row], sums: Tensor, seconds: float) -> None:
        losses = sums.tolist()
        tokens, answers = [0] * len(self.seats), [0] * len(self.seats)
        for row in rows:
            tokens[row.owner] += len(row.example.ids)
            answers[row.owner] += row.example.n_answer
        total = sum(tokens)
        for slot, seat in enumerate(self.seats):
            if seat is None:
                continue
            seat.step += 1
            seat.tokens += tokens[slot]
            seat.seconds += seconds * tokens[slot] / total
            seat.epoch_loss += losses[slot]
            seat.epoch_tokens += answers[slot]
            self.steps += 1
        self.tokens += total
        self.loss = sum(losses) / max(1, sum(answers))

    def _retire(self) -> None:
        for slot, seat in enumerate(self.seats):
            if seat is None or seat.step < seat.total:
                continue
            row = self.slots.retire(slot).cpu()
            loss = seat.epoch_loss / max(1, seat.epoch_tokens)
            self.seats[slot] = None
            self.done += 1
            self.on_done(Finished(seat.job.person, row, seat.step, seat.tokens, loss, seat.seconds))

    def _report(self) -> None:
        if self.on_progress is not None:
            active = sum(seat is not None for seat in self.seats)
            seconds = time.monotonic() - self.started
            self.on_progress(Progress(self.done, active, self.tokens, seconds, self.loss, self.steps, self.total))


def chunks(rows: Sequence[Row], budget: int) -> Iterator[list[Row]]:
    """Consecutive rows of at most `budget` tokens together; a longer row stands alone."""
    part: list[Row] = []
    tokens = 0
    for row in rows:
        n = len(row.example.ids)
        if part and tokens + n > budget:
            yield part
            part, tokens = [], 0
        part.append(row)
        tokens += n
    if part:
        yield part
