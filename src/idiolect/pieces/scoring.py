"""What adapters make of given examples: the loss of each, without gradients.

The same loss that is trained on (train/loss.py), read example by example. Search and privacy look at nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from idiolect.data.batch import Row, pack
from idiolect.model.base import Base
from idiolect.model.lora import Applied
from idiolect.train.loss import answer_loss
from idiolect.train.trainer import chunks
from idiolect.types import Rendered


@torch.inference_mode()
def example_losses(
    base: Base,
    adapters: Applied | None,
    examples: Sequence[tuple[int, Rendered]],
    token_budget: int = 8192,
) -> np.ndarray:
    """Mean loss per answer token of each example, nats, (n,), float64.

    Args:
        adapters: None for the base alone.
        examples: (row of the adapters, example), rows ascending; every example with an answer.
        token_budget: tokens per forward pass; changes no result but by rounding.
    """
    rows = [Row(owner, 0, 1.0, example) for owner, example in examples]
    found = [_losses(base, adapters, part) for part in chunks(rows, token_budget)]
    return np.concatenate(found) if found else np.zeros(0)


def _losses(base: Base, adapters: Applied | None, rows: Sequence[Row]) -> np.ndarray:
    batch = pack(rows)
    model, device = base.model, base.device
    hidden = model.hidden(model.plan(batch), adapters)
    targets, weights = (torch.from_numpy(array).to(device) for array in (batch.targets, batch.weights))
    losses, _ = answer_loss(hidden, model.head, targets, weights, model.softcap)
    answers = np.array([row.example.n_answer for row in rows])
    return np.add.reduceat(losses.double().cpu().numpy(), np.cumsum(answers) - answers) / answers
