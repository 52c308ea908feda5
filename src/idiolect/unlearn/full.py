"""Unlearning in all weights instead of an adapter: the same methods, rows and steps.

    terms of a step ─▶ chunks of rows ─▶ forward, loss, backward ─▶ a gradient per term ─▶ their sum ─▶ AdamW ─▶ … ─▶ θ
    frozen model: hidden states of the rows it is asked about, computed before the first step, and one copy of the head

The base's own modules are what is trained (weights.py), so no second model is in memory; the steps' own cost is 16 bytes a
parameter beside its 4: gradient, their sum, two moments. The result is a base of its own. What is cut off begins again: a
checkpoint would be three times the model.

Source: Liu et al. 2024 (SKU), arXiv:2402.10058, whose largest changes are of all weights; methods.py has those of the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from idiolect.data.batch import Row, pack
from idiolect.data.pairs import Pair
from idiolect.errors import ConfigError
from idiolect.model.base import Base
from idiolect.train.loss import CHUNK, answer_loss
from idiolect.train.memory import is_out_of_memory, keep_freed_memory
from idiolect.train.schedule import learning_rates
from idiolect.train.slots import BETA_1, BETA_2, EPS
from idiolect.train.trainer import chunks
from idiolect.types import Rendered
from idiolect.unlearn.acquire import Step, Told, targets_of
from idiolect.unlearn.config import Unlearning
from idiolect.unlearn.desk import RESULT, Order, Target, Unlearned, check, entries_of, note_of, rendered, write_result
from idiolect.unlearn.loss import npo_slope, simnpo_slope
from idiolect.unlearn.material import Material
from idiolect.unlearn.methods import BETA, Schedule, Term
from idiolect.unlearn.weights import Weights, opened

Gradient = list[Tensor]
"""Of every parameter, in the order of `Weights.each`."""


@dataclass
class Trained:
    """What a run came to, while the base's modules hold it.

    Attributes:
        weights: θ; `write` makes a base of it.
        stopped_at: the step whose loss was not finite; θ is what it was before that step. None: all steps were made.
        log: one entry per step.
    """

    weights: Weights
    steps: int = 0
    stopped_at: int | None = None
    log: list[Step] = field(default_factory=list)


def unlearn_weights(
    base: Base,
    forget: Sequence[Pair],
    retain: Sequence[Pair],
    config: Unlearning,
    folder: Path,
    out: Path,
    on_step: Callable[[Told], None] | None = None,
) -> Unlearned:
    """Unlearn in all weights: a new base in `folder`, in Hugging Face's format, and what was done in `out`.

    Args:
        base: bare, and loaded with lean=False. It comes back as it was.

    Raises:
        EmptyHistory, InputError: nothing to forget, a retain set that is needed, or sets that overlap.
        ConfigError: the first step is not finite, or settings that are an adapter's alone.
        MismatchError: the base's files and its modules do not have the same weights.
        FileFormatError: `out` holds a result already, or `folder` is there.
    """
    order = Order(forget, retain, [config], merge=folder)
    check(order, out)
    left_out: list[str] = []
    rows = [rendered(base, pairs, config, left_out) for pairs in (forget, retain)]
    material = Material(entries_of(forget, rows[0]), entries_of(retain, rows[1]))
    target = Target(base)
    with trained(base, material, config, on_step) as done:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        done.weights.write(config.weight, folder)
        result = Unlearned(config, target.name, done.steps, done.stopped_at, left_out=left_out)
    note = note_of(target, order, result, material) | {"weights": True, "log": [asdict(step) for step in done.log]}
    write_result(out / RESULT, note)
    return result


@contextmanager
def trained(
    base: Base, material: Material, config: Unlearning, on_step: Callable[[Told], None] | None = None
) -> Iterator[Trained]:
    """All of a run's steps in the base's own modules; when the block is left, the base is what it was.

    Raises:
        ConfigError: the first step is not finite, nothing is learnt, or nothing fits into memory.
    """
    if config.targets is not None:
        raise ConfigError("targets are an adapter's; where all weights are changed, leave them out")
    if base.device.type == "cpu":
        keep_freed_memory()
    schedule = Schedule(config, material, min(config.max_tokens, base.context))
    if not schedule.terms(0):
        raise ConfigError(f"every term of {config.method!r} weighs nothing, so there is nothing to learn; give one a weight")
    with opened(base) as weights:
        loop = Loop(weights, schedule)
        loop.run(on_step)
        yield loop.done


class Loop:
    """One run."""

    def __init__(self, weights: Weights, schedule: Schedule) -> None:
        self.weights, self.schedule, self.config = weights, schedule, schedule.config
        self.model, self.budget = weights.model, schedule.config.token_budget
        self.done = Trained(weights)
        self._shared = self.config.training(targets_of(weights.base, self.config))
        self._optimiser = torch.optim.AdamW(
            weights.each, lr=0.0, betas=(BETA_1, BETA_2), eps=EPS, weight_decay=self.config.weight_decay
        )
        self._head: Tensor | None = None
        self._hidden: dict[Rendered, Tensor] = {}
        self._nll: dict[Rendered, float] = {}
        self._look_ahead()

    def run(self, on_step: Callable[[Told], None] | None = None) -> None:
        """Every step, exactly; one that is not finite is not made, and ends the run.

        Raises:
            ConfigError: the first step is not finite.
        """
        n_steps = self.schedule.n_steps
        for step in range(n_steps):
            at, gradient = self.graded(step)
            if not all(map(math.isfinite, (*at.losses.values(), *at.norms.values()))):
                if step == 0:
                    raise ConfigError(
                        f"the first loss of {self.config.method!r} is not finite; is the base sound? try --dtype float32"
                    )
                self.done.stopped_at = step
                return
            self._update(step, gradient)
            self.done.log.append(at)
            self.done.steps = step + 1
            if on_step is not None:
                on_step(Told(step + 1, n_steps, at.losses))

    def _update(self, step: int, gradient: Gradient) -> None:
        """One AdamW step, with the clipping and the schedule of the fused trainer."""
        for parameter, part in zip(self.weights.each, gradient, strict=True):
            parameter.grad = part
        if self.config.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.weights.each, self.config.clip)
        rate = float(learning_rates(torch.tensor([step]), torch.tensor([self.config.steps]), self._shared))
        self._optimiser.param_groups[0]["lr"] = rate
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)

    # -- the frozen model ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _look_ahead(self) -> None:
        """What the frozen model says of every row that a later step will compare with it; no step has been made yet."""
        compared: dict[Rendered, None] = {}
        whole: dict[Rendered, None] = {}
        for step in range(self.schedule.n_steps):
            for term in self.schedule.terms(step):
                asked = {"away": compared, "stay": compared, "npo": whole}.get(term.kind, {})
                asked |= dict.fromkeys(term.rows)
        if compared:
            self._head = self.weights.head().detach().clone()
        for part in self._parts(list(compared)):
            hidden = self._forward(part)
            sizes = [row.example.n_answer for row in part]
            self._hidden |= {row.example: one.clone() for row, one in zip(part, hidden.split(sizes), strict=True)}
        for part in self._parts(list(whole)):
            nll, _ = self._costs(self._forward(part), part)
            self._nll |= {row.example: value for row, value in zip(part, nll.tolist(), strict=True)}

    def _parts(self, examples: Sequence[Rendered], weights: Sequence[float] | None = None) -> Iterator[list[Row]]:
        rows = [Row(0, 0, weight, one) for one, weight in zip(examples, weights or [1.0] * len(examples), strict=True)]
        return chunks(rows, self.budget)

    def _forward(self, rows: Sequence[Row]) -> Tensor:
        return self.model.hidden(self.model.plan(pack(rows)))

    # -- one step --------------------------------------------------------------------------------------------------

    def graded(self, step: int) -> tuple[Step, Gradient]:
        """What a step is, and the gradient of all its terms together. Nothing is changed."""
        terms = self.schedule.terms(step)
        # The last term first: then its product with the first one needs no third gradient in memory.
        order = [terms[-1], *terms[:-1]]
        losses: dict[str, float] = {}
        norms: dict[str, float] = {}
        total: Gradient | None = None
        cosine = None
        for term in order:
            losses[term.name] = self._within_memory(term)
            mine = self._taken()
            norms[term.name] = math.sqrt(_dot(mine, mine))
            if total is None:
                total = mine
                continue
            if term is terms[0]:
                cosine = _dot(total, mine) / max(norms[term.name] * norms[terms[-1].name], 1e-30)
            for one, other in zip(total, mine, strict=True):
                one.add_(other)
        assert total is not None
        names = [term.name for term in terms]
        return Step(step, {n: losses[n] for n in names}, {n: norms[n] for n in names}, cosine), total

    def _taken(self) -> Gradient:
        """The gradient, taken off the parameters; zeros where a term does not reach."""
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.weights.each]
        self._optimiser.zero_grad(set_to_none=True)
        return found

    def _within_memory(self, term: Term) -> float:
        """A term's loss, its gradient on the parameters; where memory runs out, again with half as many tokens a pass."""
        while True:
            try:
                parts = self._parts(term.rows, term.token_weights(self.config.reduction))
                return sum(self._chunk(part, term) for part in parts) / term.weight
            except (RuntimeError, MemoryError) as error:
                self._optimiser.zero_grad(set_to_none=True)
                if not is_out_of_memory(error):
                    raise
                longest = max(len(row.ids) for row in term.rows)
                if self.budget <= longest:
                    raise ConfigError(
                        f"an example of {longest} tokens does not fit into memory beside all weights; choose a smaller "
                        "--max-tokens, or an adapter instead of --full"
                    ) from None
                self.budget = max(longest, self.budget // 2)

    def _chunk(self, rows: list[Row], term: Term) -> float:
        """Forward and backward of some rows; their weighted loss."""
        hidden = self._forward(rows)
        wide = torch.promote_types(hidden.dtype, torch.float32)
        batch = pack(rows)
        targets = torch.from_numpy(batch.targets).to(hidden.device)
        if term.kind in ("away", "stay"):
            weights = torch.from_numpy(batch.weights).to(hidden.device, wide)
            frozen = torch.cat([self._hidden[row.example] for row in rows])
            loss, gradient = self._divergence(hidden.detach(), frozen, weights, away=term.kind == "away")
        elif term.kind == "nll":
            weights = torch.from_numpy(batch.weights).to(hidden.device, wide)
            loss, gradient = self._cross_entropy(hidden.detach(), targets, weights)
        else:
            loss, slope = self._whole_answers(hidden.detach(), rows, term)
            _, gradient = self._cross_entropy(hidden.detach(), targets, slope.to(wide))
        hidden.backward(gradient)
        return loss

    # -- losses: their gradient goes to the head, and what is left of it to hidden ---------------------------------

    def _logits(self, hidden: Tensor, head: Tensor) -> Tensor:
        logits = (hidden @ head.t()).to(torch.promote_types(hidden.dtype, torch.float32))
        cap = self.model.softcap
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def _cross_entropy(self, hidden: Tensor, targets: Tensor, weights: Tensor) -> tuple[float, Tensor]:
        """Σ weights · -log p(target), and its gradient with respect to hidden, (M, D)."""

        def loss(part: slice, mine: Tensor) -> tuple[Tensor, Tensor]:
            losses = torch.nn.functional.cross_entropy(self._logits(mine, self.weights.head()), targets[part], reduction="none")
            total = (losses * weights[part]).sum()
            return total, total.detach()

        return _by_chunks(hidden, loss)

    def _divergence(self, hidden: Tensor, frozen: Tensor, weights: Tensor, *, away: bool) -> tuple[float, Tensor]:
        """Σ weights · KL(P ‖ Q), and the gradient of the term (see loss.divergence) with respect to hidden, (M, D)."""
        assert self._head is not None
        old = self._head
        # The reference code has no cap.
        cap = self.config.pd_cap if away and not self.config.reference_bugs else math.inf

        def loss(part: slice, mine: Tensor) -> tuple[Tensor, Tensor]:
            p = self._logits(frozen[part], old).log_softmax(-1)
            q = self._logits(mine, self.weights.head()).log_softmax(-1)
            kl = (p.exp() * (p - q)).sum(-1)
            told = (kl.detach() * weights[part]).sum()
            return (((-kl.clamp(max=cap)) if away else kl) * weights[part]).sum(), told

        return _by_chunks(hidden, loss)

    @torch.no_grad()
    def _costs(self, hidden: Tensor, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Every row's summed negative log-likelihood, (B,), float64, and the row of every position, (M,)."""
        targets = torch.from_numpy(pack(rows).targets).to(hidden.device)
        nothing = torch.zeros(len(targets), dtype=torch.float64, device=hidden.device)
        losses, _ = answer_loss(hidden, self.weights.head().detach(), targets, nothing, self.model.softcap)
        lengths = torch.tensor([row.example.n_answer for row in rows], device=hidden.device)
        which = torch.repeat_interleave(torch.arange(len(rows), device=hidden.device), lengths)
        return nothing.new_zeros(len(rows)).index_add_(0, which, losses.double()), which

    def _whole_answers(self, hidden: Tensor, rows: Sequence[Row], term: Term) -> tuple[float, Tensor]:
        """NPO and SimNPO: the weighted loss, and its slope in every token's negative log-likelihood, (M,)."""
        nll, which = self._costs(hidden, rows)
        beta = self.config.beta or BETA[self.config.method]
        if term.kind == "npo":
            value, slope = npo_slope(nll, nll.new_tensor([self._nll[row.example] for row in rows]), beta)
        else:
            lengths = nll.new_tensor([row.example.n_answer for row in rows])
            value, slope = simnpo_slope(nll, lengths, beta, self.config.delta)
        share = term.weight / len(term.rows)
        return float(value.sum()) * share, (slope * share)[which]


def _by_chunks(hidden: Tensor, loss: Callable[[slice, Tensor], tuple[Tensor, Tensor]]) -> tuple[float, Tensor]:
    """Forward and backward of a loss of (differentiated, told) for a chunk of positions at a time: no more logits exist."""
    gradient, told = torch.empty_like(hidden), 0.0
    for start in range(0, len(hidden), CHUNK):
        part = slice(start, start + CHUNK)
        mine = hidden[part].detach().requires_grad_()
        total, value = loss(part, mine)
        total.backward()
        assert mine.grad is not None
        gradient[part] = mine.grad
        told += float(value)
    return told, gradient


def _dot(one: Gradient, other: Gradient) -> float:
    return float(sum(torch.dot(a.flatten(), b.flatten()).double() for a, b in zip(one, other, strict=True)))
