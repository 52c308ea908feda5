"""The loop of unlearning: one base in memory, adapters on it for what changes, off for what is compared with.

    run (method, seed …) ─ a slot each ─▶ every step, term by term: rows of all runs → chunks → forward, loss, backward
                                          KL: the same rows without adapters first, on the same weights
                                       ─▶ one AdamW step for all ─▶ … ─▶ Acquired (row, log)

Runs whose optimisers agree are trained side by side, and each is what it would be alone: terms are sums of each run's own
means, and every stream is keyed by (seed, row, epoch). Two models are never in memory.

A run whose loss or gradient is not finite stops where it was last good; the others go on. With a checkpoint, what was cut off
goes on from there and ends in the same adapter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from idiolect.config import TrainConfig
from idiolect.data.batch import Batch, Row, pack
from idiolect.data.files import replace_file
from idiolect.errors import ConfigError, FileFormatError
from idiolect.model.adapter import Layout
from idiolect.model.base import Base
from idiolect.train.loss import answer_loss
from idiolect.train.memory import is_out_of_memory, keep_freed_memory
from idiolect.train.slots import Slots, Subject
from idiolect.train.trainer import chunks
from idiolect.types import canonical_json, digest_of
from idiolect.unlearn.config import Unlearning
from idiolect.unlearn.loss import divergence, npo_slope, simnpo_slope
from idiolect.unlearn.material import Material
from idiolect.unlearn.methods import BETA, Schedule, Term


@dataclass(frozen=True)
class Step:
    """What one run's step was.

    Attributes:
        losses: of each term, nats, without its weight; of "pd" the divergence itself, whether it is raised or lowered.
        norms: of each term's gradient, its weight included.
        cosine: between the gradients of the first and the last term (sku: of what is acquired and of the divergence).
    """

    step: int
    losses: dict[str, float]
    norms: dict[str, float]
    cosine: float | None


@dataclass
class Acquired:
    """What a run came to.

    Attributes:
        row: (P,), on the CPU: the trained update, before it is subtracted or added (see Unlearning.weight).
        stopped_at: the step whose loss was not finite; the row is the one before it. None: all steps were made.
        log: one entry per step.
    """

    config: Unlearning
    layout: Layout
    row: Tensor
    steps: int
    stopped_at: int | None = None
    log: list[Step] = field(default_factory=list)


class Told(NamedTuple):
    """How far a run of runs is."""

    step: int
    steps: int
    losses: dict[str, float]


def targets_of(base: Base, config: Unlearning) -> tuple[str, ...]:
    """The modules that are trained: those asked for, or every linear module of the base."""
    if config.targets is not None:
        return config.targets
    return tuple(dict.fromkeys(site.kind for site in base.model.sites()))


def acquire(
    base: Base,
    material: Material,
    runs: Sequence[Unlearning],
    *,
    checkpoint: Path | None = None,
    every: int = 20,
    on_step: Callable[[Told], None] | None = None,
    merged: str = "",
) -> list[Acquired]:
    """Train every run's adapter on the frozen base; in the order of the runs.

    Args:
        base: with everything merged in that is not to be changed by itself.
        checkpoint: a file that is written every `every` steps, gone on from where it fits, and removed in the end; where runs
            are trained in several groups, one for each, numbered. It holds what is to be forgotten, as numbers: its owner's
            only.
        on_step: called after every step of a group of runs.
        merged: what was merged into the base that neither its fingerprint nor its task adapter tells, for checkpoints.

    Raises:
        EmptyHistory: a method needs a retain set, and there is none.
        ConfigError: the first step of a run is not finite already, or nothing fits into memory.
        FileFormatError: the checkpoint is of other runs, or damaged.
    """
    if base.device.type == "cpu":
        keep_freed_memory()
    groups: dict[tuple[TrainConfig, int], list[int]] = {}
    schedules = [Schedule(config, material, min(config.max_tokens, base.context)) for config in runs]
    for i, config in enumerate(runs):
        shared = config.training(targets_of(base, config)).but(seed=0)
        groups.setdefault((shared, schedules[i].n_steps), []).append(i)
    found: dict[int, Acquired] = {}
    places = _places(checkpoint, len(groups))
    for ((shared, n_steps), members), place in zip(groups.items(), places, strict=True):
        loop = _Loop(base, [schedules[i] for i in members], shared, material, merged)
        loop.run(n_steps, place, every, on_step)
        found |= dict(zip(members, loop.finished(), strict=True))
    for place in places:
        if place is not None:
            place.unlink(missing_ok=True)
    return [found[i] for i in range(len(runs))]


def _places(checkpoint: Path | None, n: int) -> list[Path | None]:
    """A checkpoint's file for each of n groups."""
    if checkpoint is None or n == 1:
        return [checkpoint] * n
    return [checkpoint.with_name(f"{checkpoint.stem}-{i}{checkpoint.suffix}") for i in range(n)]


class _Loop:
    """Runs of one group, a slot each."""

    def __init__(self, base: Base, schedules: Sequence[Schedule], shared: TrainConfig, material: Material, merged: str) -> None:
        self.base, self.schedules, self.shared, self.material, self.merged = base, schedules, shared, material, merged
        self.budget = shared.token_budget
        self.layout = base.layout(shared.rank, shared.alpha, shared.targets)
        self.slots = Slots(Subject(self.layout), shared, len(schedules), base.device, base.dtype)
        for slot, schedule in enumerate(schedules):
            row = self.layout.init_row(schedule.config.seed, "", self.slots.weights.dtype)
            self.slots.admit(slot, row, schedule.config.steps)
        self.logs: list[list[Step]] = [[] for _ in schedules]
        self.stopped: list[int | None] = [None] * len(schedules)
        self._frozen: dict[tuple[int, ...], float] = {}

    def run(self, n_steps: int, checkpoint: Path | None, every: int, on_step: Callable[[Told], None] | None) -> None:
        first = self._resume(checkpoint) if checkpoint is not None else 0
        for step in range(first, n_steps):
            losses = self._step(step)
            if checkpoint is not None and ((step + 1) % every == 0 or step + 1 == n_steps):
                self._save(checkpoint, step + 1)
            if on_step is not None:
                on_step(Told(step + 1, n_steps, losses))

    def finished(self) -> list[Acquired]:
        return [
            Acquired(s.config, self.layout, self.slots.retire(i).cpu(), int(self.slots.step[i]), self.stopped[i], self.logs[i])
            for i, s in enumerate(self.schedules)
        ]

    # -- one step --------------------------------------------------------------------------------------------------

    def _step(self, step: int) -> dict[str, float]:
        """All terms of all runs, then one AdamW step. The mean loss of each term."""
        going = [i for i, at in enumerate(self.stopped) if at is None]
        plans = {i: self.schedules[i].terms(step) for i in going}
        parts: dict[str, Tensor] = {}
        losses: dict[int, dict[str, float]] = {i: {} for i in going}
        for name in dict.fromkeys(term.name for terms in plans.values() for term in terms):
            mine = {i: term for i in going for term in plans[i] if term.name == name}
            for i, loss in self._within_memory(mine).items():
                losses[i][name] = loss
            parts[name] = self.slots.gradient.clone()
        self.slots.forget_gradient()
        for gradient in parts.values():
            self.slots.gradient.add_(gradient)
        for i in going:
            self._log(i, step, losses[i], {term.name: parts[term.name][i] for term in plans[i]})
        self.slots.update()
        return _means(losses)

    def _log(self, i: int, step: int, losses: dict[str, float], gradients: dict[str, Tensor]) -> None:
        """Note a run's step; one that is not finite is stopped before anything of it is changed."""
        norms = {name: float(gradient.norm()) for name, gradient in gradients.items()}
        if not all(np.isfinite([*losses.values(), *norms.values()])):
            self._stop(i, step)
            return
        first, *others = gradients.values()
        cosine = _cosine(first, others[-1]) if others else None
        self.logs[i].append(Step(step, losses, norms, cosine))

    def _stop(self, i: int, step: int) -> None:
        if step == 0:
            raise ConfigError(
                f"the first loss of {self.schedules[i].config.method!r} is not finite; is the base sound? try --dtype float32"
            )
        self.stopped[i] = step
        self.slots.active[i] = False
        self.slots.gradient[i] = 0

    def _within_memory(self, terms: dict[int, Term]) -> dict[int, float]:
        """A term from zero gradients; where memory runs out, again with half as many tokens per pass."""
        while True:
            self.slots.forget_gradient()
            try:
                return self._term(terms)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                longest = max(len(row.ids) for term in terms.values() for row in term.rows)
                if self.budget <= longest:
                    raise ConfigError(
                        f"an example of {longest} tokens does not fit into memory; choose a smaller --max-tokens"
                    ) from None
                self.budget = max(longest, self.budget // 2)

    def _term(self, terms: dict[int, Term]) -> dict[int, float]:
        """One term's loss of every run, its gradient added to the slots'."""
        rows, reductions = [], {}
        for i, term in terms.items():
            offset = 0
            for example, weight in zip(term.rows, term.token_weights(self.schedules[i].config.reduction), strict=True):
                rows.append(Row(i, offset, weight, example))
                offset += len(example.ids)
            reductions[i] = term.weight
        sums = dict.fromkeys(terms, 0.0)
        for part in chunks(rows, self.budget):
            for i, loss in self._chunk(part, terms).items():
                sums[i] += loss
        return {i: total / reductions[i] for i, total in sums.items()}

    def _chunk(self, rows: list[Row], terms: dict[int, Term]) -> dict[int, float]:
        """Forward and backward of some rows; the weighted loss of every run among them."""
        base, batch = self.base, pack(rows)
        plan = base.model.plan(batch)
        kinds = {term.kind for term in terms.values()}
        frozen = None
        if kinds & {"away", "stay"}:
            with torch.no_grad():
                frozen = base.model.hidden(plan, None)
        hidden = base.model.hidden(plan, self.slots.adapters([0] * len(self.slots)))
        owner = np.repeat(batch.owner, [row.example.n_answer for row in rows])
        losses, gradient = self._graded(hidden.detach(), frozen, batch, rows, owner, terms)
        hidden.backward(gradient)
        found = np.zeros(len(self.slots))
        np.add.at(found, owner, losses)
        return {i: float(found[i]) for i in set(batch.owner.tolist())}

    def _graded(
        self,
        hidden: Tensor,
        frozen: Tensor | None,
        batch: Batch,
        rows: Sequence[Row],
        owner: np.ndarray,
        terms: dict[int, Term],
    ) -> tuple[np.ndarray, Tensor]:
        """Every token's share of its run's loss, (M,), and the gradient with respect to hidden, (M, D)."""
        losses, gradient = np.zeros(len(owner)), torch.zeros_like(hidden)
        for i, term in terms.items():
            mine = np.flatnonzero(owner == i)
            if not len(mine):
                continue
            at = torch.from_numpy(mine).to(hidden.device)
            weights = torch.from_numpy(batch.weights[mine]).to(hidden.device)
            targets = torch.from_numpy(batch.targets[mine]).to(hidden.device)
            taken = None if frozen is None else frozen.index_select(0, at)
            own = [row for row in rows if row.owner == i]
            loss, d = self._kind(term, self.schedules[i].config, hidden.index_select(0, at), taken, targets, weights, own)
            losses[mine] = loss.double().cpu().numpy()
            gradient.index_copy_(0, at, d)
        return losses, gradient

    def _kind(
        self,
        term: Term,
        config: Unlearning,
        hidden: Tensor,
        frozen: Tensor | None,
        targets: Tensor,
        weights: Tensor,
        rows: Sequence[Row],
    ) -> tuple[Tensor, Tensor]:
        """One run's weighted losses per token, (m,), and gradient, (m, D)."""
        head, softcap = self.base.model.head, self.base.model.softcap
        if term.kind == "nll":
            losses, gradient = answer_loss(hidden, head, targets, weights, softcap)
            return losses * weights, gradient
        if term.kind in ("away", "stay"):
            assert frozen is not None
            away = term.kind == "away"
            # The reference code has no cap.
            cap = config.pd_cap if away and not config.reference_bugs else float("inf")
            kl, gradient = divergence(hidden, frozen, head, weights, away=away, cap=cap, softcap=softcap)
            return kl * weights, gradient
        return self._whole_answers(term, config, hidden, targets, rows)

    def _whole_answers(
        self, term: Term, config: Unlearning, hidden: Tensor, targets: Tensor, rows: Sequence[Row]
    ) -> tuple[Tensor, Tensor]:
        """NPO and SimNPO: the slope of a row's loss in its likelihood is what each of its tokens weighs."""
        head, softcap = self.base.model.head, self.base.model.softcap
        losses, _ = answer_loss(hidden, head, targets, torch.zeros_like(targets, dtype=torch.float64), softcap)
        lengths = torch.tensor([row.example.n_answer for row in rows], device=hidden.device)
        which = torch.repeat_interleave(torch.arange(len(rows), device=hidden.device), lengths)
        nll = torch.zeros(len(rows), dtype=torch.float64, device=hidden.device).index_add_(0, which, losses.double())
        beta = config.beta or BETA[config.method]
        if term.kind == "npo":
            before = torch.tensor([self._nll_before(row) for row in rows], dtype=torch.float64, device=hidden.device)
            value, slope = npo_slope(nll, before, beta)
        else:
            value, slope = simnpo_slope(nll, lengths.double(), beta, config.delta)
        share = term.weight / len(term.rows)
        _, gradient = answer_loss(hidden, head, targets, (slope * share)[which], softcap)
        return (value * share / lengths)[which], gradient

    @torch.no_grad()
    def _nll_before(self, row: Row) -> float:
        """What a forget row's answer cost on the frozen base, nats; computed once."""
        if row.example.ids not in self._frozen:
            batch = pack([Row(0, 0, 1.0, row.example)])
            hidden = self.base.model.hidden(self.base.model.plan(batch), None)
            targets = torch.from_numpy(batch.targets).to(hidden.device)
            losses, _ = answer_loss(
                hidden, self.base.model.head, targets, torch.ones(len(targets)).to(hidden), self.base.model.softcap
            )
            self._frozen[row.example.ids] = float(losses.double().sum())
        return self._frozen[row.example.ids]

    # -- checkpoints -----------------------------------------------------------------------------------------------

    @property
    def _identity(self) -> str:
        """What a checkpoint must be of."""
        configs = [schedule.config.model_dump(mode="json") for schedule in self.schedules]
        under = [self.base.fingerprint, self.base.task_adapter, self.merged]
        return digest_of([configs, self.material.digest, *under, self.layout.key])

    def _save(self, path: Path, step: int) -> None:
        """Whole or not at all, for the owner's eyes only."""
        s = self.slots
        tensors = {"weights": s.weights, "moment_1": s.moment_1, "moment_2": s.moment_2, "step": s.step, "active": s.active}
        stopped = ",".join("" if at is None else str(at) for at in self.stopped)
        log = canonical_json([[asdict(one) for one in log] for log in self.logs])
        meta = {"identity": self._identity, "step": str(step), "stopped": stopped, "log": log}
        kept = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        replace_file(path, [save(kept, metadata=meta)])

    def _resume(self, path: Path) -> int:
        """Go on from a checkpoint; the step to begin with."""
        if not path.exists():
            return 0
        try:
            with safe_open(path, framework="pt") as held:
                meta = held.metadata() or {}
                if meta.get("identity") != self._identity:
                    raise FileFormatError(
                        f"{path.name} is the checkpoint of another run (settings, sets or base differ); remove it, "
                        "or give another --out"
                    )
                for name in ("weights", "moment_1", "moment_2", "step", "active"):
                    getattr(self.slots, name).copy_(held.get_tensor(name))
        except (SafetensorError, OSError, KeyError) as error:
            raise FileFormatError(f"{path.name} is no checkpoint ({type(error).__name__}); remove it and begin again") from None
        self.stopped = [int(at) if at else None for at in meta["stopped"].split(",")]
        self.logs = [[Step(**one) for one in log] for log in json.loads(meta["log"])]
        return int(meta["step"])


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a, b) / (a.norm() * b.norm()).clamp(min=1e-30))


def _means(losses: dict[int, dict[str, float]]) -> dict[str, float]:
    """The mean over runs of every term."""
    names = dict.fromkeys(name for one in losses.values() for name in one)
    return {name: float(np.mean([one[name] for one in losses.values() if name in one])) for name in names}
