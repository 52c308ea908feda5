"""What happens when: epoch order, steps, learning rate. Pure functions of (seed, person, epoch, step)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from idiolect.config import TrainConfig
from idiolect.types import seed_of


def epoch_order(seed: int, person: str, epoch: int, n: int) -> list[int]:
    """The order in which a person's n examples are seen in one epoch."""
    return np.random.default_rng(seed_of(seed, person, "order", epoch)).permutation(n).tolist()


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Optimiser steps of one epoch; the last batch may be smaller."""
    return -(-n // batch_size)


def total_steps(n: int, config: TrainConfig) -> int:
    """Optimiser steps of a person with n examples."""
    return config.steps if config.steps is not None else steps_per_epoch(n, config.batch_size) * config.epochs


def learning_rates(step: Tensor, total: Tensor, config: TrainConfig) -> Tensor:
    """The rate of every slot's next step, (S,), float64.

    `step` counts from 0. Warm-up and decay are transformers' `get_linear_schedule_with_warmup` and its cosine sister to
    the letter, so that a person trained here follows the same path as one trained by its Trainer. One exception: a person
    with a single step gets the full rate. Rounded up, their warm-up would be that step, of rate 0, and they learn nothing.
    """
    step, total = step.double(), total.double()
    warm = torch.ceil(total * config.warm_up) * (total > 1)
    rising = step / warm.clamp(min=1)
    progress = (step - warm) / (total - warm).clamp(min=1)
    if config.schedule == "linear":
        falling = 1 - progress
    elif config.schedule == "cosine":
        falling = 0.5 * (1 + torch.cos(math.pi * progress))
    else:
        falling = torch.ones_like(progress)
    return config.learning_rate * torch.where(step < warm, rising, falling.clamp(min=0))
