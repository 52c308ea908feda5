"""The loss of the asked-for tokens, without ever holding all their logits.

    loss = Σ_m weight[m] · -log softmax(hidden[m] headᵀ)[target[m]]

With weight 1 / (answer tokens of that person's step), this is the sum of each person's own mean, so that a person's
gradient is what it would be alone. Logits exist for a chunk of positions at a time, and are turned into their own gradient
where they stand.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 1024


def answer_loss(
    hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, softcap: float | None = None
) -> tuple[Tensor, Tensor]:
    """Every token's loss, (M,), and the gradient of the weighted total with respect to hidden, (M, D).

    Give the gradient to `hidden.backward(gradient)`.

    Args:
        hidden: (M, D).
        head: the frozen output embedding, (V, D).
        targets: (M,).
        weights: what each token counts, (M,).
        softcap: Gemma's cap: logits become softcap · tanh(logits / softcap).
    """
    with torch.no_grad():
        wide = torch.promote_types(hidden.dtype, torch.float32)
        losses = torch.empty(len(hidden), dtype=wide, device=hidden.device)
        gradient = torch.empty_like(hidden)
        for start in range(0, len(hidden), CHUNK):
            part = slice(start, start + CHUNK)
            losses[part], gradient[part] = _chunk(hidden[part], head, targets[part], weights[part], softcap, wide)
    return losses, gradient


def _chunk(
    hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, softcap: float | None, wide: torch.dtype
) -> tuple[Tensor, Tensor]:
    index = torch.arange(len(targets), device=hidden.device)
    logits = torch.mm(hidden, head.t()).to(wide)
    slope = None
    if softcap is not None:
        logits.div_(softcap).tanh_()
        slope = 1 - logits.square()
        logits.mul_(softcap)
    normaliser = logits.logsumexp(-1, keepdim=True)
    losses = normaliser.squeeze(-1) - logits[index, targets]
    d_logits = logits.sub_(normaliser).exp_()
    d_logits[index, targets] -= 1
    d_logits.mul_(weights.unsqueeze(-1).to(wide))
    if slope is not None:
        d_logits.mul_(slope)
    return losses, torch.mm(d_logits.to(hidden.dtype), head)
