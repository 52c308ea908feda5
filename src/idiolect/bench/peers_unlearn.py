"""The peer that acquiring is measured against: PEFT's LoRA on one model, and a second, frozen copy of it beside it.

The way of the paper's code (Liu et al. 2024, arXiv:2402.10058): P comes from a model of its own. Mended, in the peer's favour:
the rows are the ones given, so that both sides learn from the same; divergence is capped, and taken at answers only; softmax
is computed where there is a loss, and every term's graph is freed before the next is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from idiolect.bench.bases import State
from idiolect.bench.peers import IGNORED, collate, lora_config, set_state, state_of, warm_up_steps
from idiolect.config import TrainConfig
from idiolect.unlearn.methods import Term


def acquire_with_two_copies(
    model: Any, frozen: Any, plan: Sequence[Sequence[Term]], config: TrainConfig, cap: float, state: State
) -> tuple[State, list[dict[str, float]]]:
    """Train one adapter on `model` by the terms of each step; the adapter, and every step's losses, nats.

    Args:
        model: the base, on which PEFT puts an adapter; it is taken off again.
        frozen: the same base once more.
        plan: every step's terms.
        cap: nats of divergence beyond which more is not rewarded.
        state: the adapter's first numbers.
    """
    from peft import get_peft_model
    from transformers import get_scheduler

    adapted: Any = get_peft_model(model, lora_config(config))
    try:
        set_state(adapted, state)
        weights = [w for w in adapted.parameters() if w.requires_grad]
        optimiser = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=config.weight_decay)
        schedule = get_scheduler(config.schedule, optimiser, warm_up_steps(config, len(plan)), len(plan))
        log = []
        for terms in plan:
            log.append({term.name: _backward(adapted, frozen, term, cap) for term in terms})
            if config.clip:
                torch.nn.utils.clip_grad_norm_(weights, config.clip)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
        return state_of(adapted), log
    finally:
        adapted.unload()


def _backward(adapted: Any, frozen: Any, term: Term, cap: float) -> float:
    """One term's gradient; its loss without its weight, of "pd" the divergence itself."""
    batch = collate(term.rows)
    labels = batch["labels"][:, 1:]
    asked = labels.ne(IGNORED)
    weights = torch.tensor([1 / (len(term.rows) * row.n_answer) for row in term.rows]).unsqueeze(1).expand_as(labels)[asked]
    logits = _logits(adapted, batch, asked)
    if term.kind == "nll":
        losses = torch.nn.functional.cross_entropy(logits, labels[asked], reduction="none")
        (term.weight * losses * weights).sum().backward()
    else:
        with torch.no_grad():
            p = _logits(frozen, batch, asked).log_softmax(-1)
        losses = (p.exp() * (p - logits.log_softmax(-1))).sum(-1)
        signed = -losses.clamp(max=cap) if term.kind == "away" else losses
        (term.weight * signed * weights).sum().backward()
    return float((losses.detach() * weights).sum())


def _logits(model: Any, batch: dict[str, Tensor], asked: Tensor) -> Tensor:
    out = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
    return out.logits[:, :-1][asked]
