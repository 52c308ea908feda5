"""Every method as the terms of its loss, step by step.

    method        terms                                                      result
    sku           ε1 CE(forget) + ε2 CE(forget, foreign answers) ∓ ε3 KL     subtracted
    task-vector   ε1 CE(forget): sku with ε2 = ε3 = 0                        subtracted
    finetune      CE(retain), and hope                                       added
    ga            -CE(forget)                                                added
    ga-mismatch   -½ CE(forget) + CE(forget, retain answers) + KL(retain)    added
    grad-diff     -γ CE(forget) + α R                                        added
    npo, simnpo   γ NPO(forget) + α R                                        added      R: CE or KL on the retain set

Sources: Liu et al. 2024 (SKU), arXiv:2402.10058; Yao et al. 2023 (LLMU), arXiv:2310.10683; Ilharco et al. 2022 (task vectors),
arXiv:2212.04089; Maini et al. 2024 (TOFU), arXiv:2401.06121; Zhang et al. 2024 (NPO), arXiv:2404.05868; Fan et al. 2024
(SimNPO), arXiv:2410.07163. RMU (arXiv:2403.03218) steers the activations of a layer in the middle, which the lean decoder does
not hand out: it is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from idiolect.errors import EmptyHistory
from idiolect.types import Rendered
from idiolect.unlearn.config import MethodName, Unlearning
from idiolect.unlearn.material import Entry, Foreign, Material, forget_rows, normal_rows, with_answer

Kind = Literal["nll", "away", "stay", "npo", "simnpo"]
"""Cross-entropy; KL from the frozen model, raised or lowered; likelihoods of whole answers."""

_MISTAKEN_START = 2
"""Where the reference code begins to learn a foreign answer's row: the number of a tokenizer's outputs, not a length."""


@dataclass(frozen=True)
class Term:
    """One term of a step's loss.

    Attributes:
        name: what logs call it.
        weight: what it counts; below 0: ascent.
        rows: examples; what is learnt of each is what its `n_prompt` leaves.
        extra: tokens without a target that a row's mean is divided by as well (a defect of the reference code).
    """

    name: str
    kind: Kind
    weight: float
    rows: tuple[Rendered, ...]
    extra: int = 0

    def token_weights(self, reduction: Literal["row_mean", "token_mean"]) -> list[float]:
        """What each token of each row counts in the step's loss."""
        if reduction == "token_mean":
            return [self.weight / sum(row.n_answer + self.extra for row in self.rows)] * len(self.rows)
        return [self.weight / (len(self.rows) * (row.n_answer + self.extra)) for row in self.rows]


class Schedule:
    """What one run does at each step.

    Args:
        most: tokens of prompt and answer together at most.

    Raises:
        EmptyHistory: the method needs a retain set, or foreign answers, and there are none.
    """

    def __init__(self, config: Unlearning, material: Material, most: int) -> None:
        self.config, self.material = config, material
        pool = material.retain if config.rd_pool == "retain" or config.method == "ga-mismatch" else material.forget
        self._foreign = Foreign(pool, (*material.forget, *material.retain), config.rd_k, most)
        if not material.retain and self._needs_retain():
            raise EmptyHistory(f"the method {config.method!r} needs a retain set; give --retain FILE, or another --method")

    def _needs_retain(self) -> bool:
        c = self.config
        if c.method == "sku":
            return (c.pd_mode != "off" and c.pd_weight > 0) or (c.rd_pool == "retain" and c.rd_weight > 0)
        return c.method in ("finetune", "ga-mismatch") or (c.method in ("grad-diff", "npo", "simnpo") and c.retain_weight > 0)

    @property
    def n_steps(self) -> int:
        """Optimiser steps: exactly those asked for; in the reference code as many passes as hold them."""
        if not self.config.reference_bugs:
            return self.config.steps
        return -(-self.config.steps // self._pass) * self._pass

    @property
    def _pass(self) -> int:
        """Batches until the shorter set of the two is read once."""
        size, material = self.config.batch_size, self.material
        return min(-(-len(one) // size) for one in (material.forget, material.retain or material.forget))

    def terms(self, step: int) -> list[Term]:
        """The loss of a step; terms that weigh nothing are left out."""
        return [term for term in _TERMS[self.config.method](self, step) if term.weight and term.rows]

    # -- rows ------------------------------------------------------------------------------------------------------

    def forget(self, step: int) -> list[tuple[int, Entry]]:
        size, entries = self.config.batch_size, self.material.forget
        if not self.config.reference_bugs:
            return forget_rows(entries, self.config.seed, step, size)
        start = step % self._pass * size
        return [(step // self._pass, entry) for entry in entries[start : start + size]]

    def normal(self, step: int) -> list[Entry]:
        retain = self.material.retain
        return normal_rows(retain, self.config.seed, step, self.config.batch_size) if retain else []

    def foreign(self, step: int) -> list[Rendered]:
        """The forget rows of a step with answers that are not theirs."""
        rows, c = self.forget(step), self.config
        if c.reference_bugs:
            return self._foreign_as_released(rows, step)
        entries = [entry for _, entry in rows]
        if c.rd_scope == "per_batch":
            drawn = self._foreign.per_batch(entries, c.seed, step)
        else:
            drawn = [self._foreign.per_row(entry, c.seed, epoch) for epoch, entry in rows]
        start = 1 if c.rd_on == "all" else None
        return [with_answer(entry, answer, start) for (_, entry), mine in zip(rows, drawn, strict=True) for answer in mine]

    def _foreign_as_released(self, rows: Sequence[tuple[int, Entry]], step: int) -> list[Rendered]:
        drawn = self._foreign.as_released(self.config.seed, step)
        made = [with_answer(entry, answer) for _, entry in rows for answer in drawn]
        return [replace(one, n_prompt=min(_MISTAKEN_START, one.n_prompt)) for one in made]


def _of(entries: Sequence[Entry]) -> tuple[Rendered, ...]:
    return tuple(entry.example for entry in entries)


def _forgotten(run: Schedule, step: int, name: str, kind: Kind, weight: float) -> Term:
    rows = _of([entry for _, entry in run.forget(step)])
    return Term(name, kind, weight, rows, int(run.config.reference_bugs))


def _kept(run: Schedule, step: int) -> Term:
    """R: what keeps the retain set."""
    kind: Kind = "stay" if run.config.retain_loss == "kl" else "nll"
    return Term("retain", kind, run.config.retain_weight, _of(run.normal(step)))


def _divergence(run: Schedule, step: int) -> Term:
    c, rows = run.config, _of(run.normal(step))
    if c.pd_positions == "all":
        rows = tuple(replace(row, n_prompt=1) for row in rows)
    return Term("pd", "away" if c.pd_mode == "diverge" else "stay", 0.0 if c.pd_mode == "off" else c.pd_weight, rows)


def _sku(run: Schedule, step: int) -> list[Term]:
    c = run.config
    bugs = int(c.reference_bugs)
    return [
        _forgotten(run, step, "gd", "nll", c.gd_weight),
        Term("rd", "nll", c.rd_weight, tuple(run.foreign(step)) if c.rd_weight else (), bugs),
        _divergence(run, step),
    ]


def _task_vector(run: Schedule, step: int) -> list[Term]:
    return [_forgotten(run, step, "gd", "nll", run.config.gd_weight)]


def _finetune(run: Schedule, step: int) -> list[Term]:
    return [Term("retain", "nll", run.config.retain_weight, _of(run.normal(step)))]


def _ga(run: Schedule, step: int) -> list[Term]:
    return [_forgotten(run, step, "ga", "nll", -1.0)]


def _ga_mismatch(run: Schedule, step: int) -> list[Term]:
    return [
        _forgotten(run, step, "ga", "nll", -0.5),
        Term("mismatch", "nll", 1.0, tuple(run.foreign(step))),
        Term("pd", "stay", run.config.pd_weight, _of(run.normal(step))),
    ]


def _grad_diff(run: Schedule, step: int) -> list[Term]:
    return [_forgotten(run, step, "ga", "nll", -(run.config.gamma or 1.0)), _kept(run, step)]


def _npo(run: Schedule, step: int) -> list[Term]:
    return [_forgotten(run, step, "npo", "npo", run.config.gamma or 1.0), _kept(run, step)]


def _simnpo(run: Schedule, step: int) -> list[Term]:
    return [_forgotten(run, step, "simnpo", "simnpo", run.config.gamma or 0.125), _kept(run, step)]


_TERMS: Mapping[MethodName, Callable[[Schedule, int], list[Term]]] = {
    "sku": _sku,
    "task-vector": _task_vector,
    "finetune": _finetune,
    "ga": _ga,
    "ga-mismatch": _ga_mismatch,
    "grad-diff": _grad_diff,
    "npo": _npo,
    "simnpo": _simnpo,
}

BETA: Mapping[str, float] = {"npo": 0.1, "simnpo": 4.5}
"""Where the settings name none: the reference framework's."""
