"""Losses beyond cross-entropy: how far a distribution has moved, and what a whole answer's likelihood is worth.

All of them end in weights per token for `train/loss.answer_loss`, or in a gradient with respect to hidden states, so that
nothing ever holds the logits of a whole batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from idiolect.train.loss import CHUNK


def divergence(
    hidden: Tensor,
    frozen: Tensor,
    head: Tensor,
    weights: Tensor,
    *,
    away: bool,
    cap: float = math.inf,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """KL(P ‖ Q) of every token, (M,), and the gradient of the weighted term with respect to hidden, (M, D).

        KL = Σ_v P_v (log P_v - log Q_v),   P from `frozen`, Q from `hidden`, in float32 at least
        away:  Σ weight · -min(KL, cap)     stays: Σ weight · KL

    No epsilon and no division by Q: both come from log-softmax. Beyond the cap the gradient is zero. At hidden = frozen it is
    zero too: nothing moves until something else has.

    Args:
        hidden, frozen: last hidden states with and without the adapter, (M, D).
        head: the frozen output embedding, (V, D).
        weights: what each token counts, (M,).

    Source: Liu et al. 2024 (SKU), arXiv:2402.10058, preservation divergence; the cap is ours.
    """
    with torch.no_grad():
        wide = torch.promote_types(hidden.dtype, torch.float32)
        found = torch.empty(len(hidden), dtype=wide, device=hidden.device)
        gradient = torch.empty_like(hidden)
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            q, slope = _log_softmax(hidden[part], head, softcap, wide)
            p, _ = _log_softmax(frozen[part], head, softcap, wide)
            found[part] = (p.exp() * (p - q)).sum(-1)
            d_logits = q.exp_() - p.exp()
            share = weights[part].to(wide) * (torch.where(found[part] < cap, -1.0, 0.0) if away else 1.0)
            d_logits.mul_(share.unsqueeze(-1))
            if slope is not None:
                d_logits.mul_(slope)
            gradient[part] = torch.mm(d_logits.to(hidden.dtype), head)
    return found, gradient


def _log_softmax(hidden: Tensor, head: Tensor, softcap: float | None, wide: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """(log-probabilities, d logits / d uncapped logits or None where nothing is capped)."""
    logits = torch.mm(hidden, head.t()).to(wide)
    if softcap is None:
        return logits.log_softmax(-1), None
    bent = logits.div_(softcap).tanh_()
    return (bent * softcap).log_softmax(-1), 1 - bent.square()


def npo_slope(nll: Tensor, frozen: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """NPO's loss of whole answers, (B,), and its slope in their summed negative log-likelihood, (B,).

        L = -(2 / β) log σ(-β (log p - log p_frozen)) = -(2 / β) log σ(β (nll - frozen))

    Source: Zhang et al. 2024 (NPO), arXiv:2404.05868, eq. 3.
    """
    x = beta * (nll - frozen)
    return -(2 / beta) * torch.nn.functional.logsigmoid(x), -2 * torch.sigmoid(-x)


def simnpo_slope(nll: Tensor, lengths: Tensor, beta: float, delta: float) -> tuple[Tensor, Tensor]:
    """SimNPO's loss of whole answers, (B,), and its slope in their summed negative log-likelihood, (B,).

        L = -(2 / β) log σ(β (nll / length - δ))

    Source: Fan et al. 2024 (SimNPO), arXiv:2410.07163, as the reference framework of the field computes it.
    """
    x = beta * (nll / lengths - delta)
    return -(2 / beta) * torch.nn.functional.logsigmoid(x), -2 * torch.sigmoid(-x) / lengths
