"""Slots: the adapters in training, side by side, with everything that one person's optimiser remembers.

(Or their gates, with the adapters frozen beside them.) One row of each tensor is one person: weights, gradient, AdamW's two
moments, and scalars for step, number of steps and dropout key. One vectorised step serves all; nothing of one row is ever
read for another.

AdamW: Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2, as torch.optim.AdamW computes it (betas 0.9 and 0.999,
eps 1e-8). Clipping: by each person's own gradient norm, as torch.nn.utils.clip_grad_norm_.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from idiolect.config import TrainConfig
from idiolect.errors import ConfigError
from idiolect.model.adapter import GateLayout, GateStack, Layout, Stack
from idiolect.model.lora import Adapters, Dropout, Gates
from idiolect.train.schedule import learning_rates

BETA_1, BETA_2, EPS = 0.9, 0.999, 1e-8
BYTES_PER_NUMBER = 4 * 4
"""Weights, gradient and two moments, float32."""


@dataclass(frozen=True)
class Subject:
    """What is trained.

    Attributes:
        layout: of the adapters.
        gates: the adapters are frozen, and it is their gates that are trained (model/lora.py), from zero.
        part: which of an adapter's numbers may change, (P,), 1 or 0; None: all.
    """

    layout: Layout
    gates: bool = False
    part: Tensor | None = None

    @property
    def size(self) -> int:
        """Numbers in a trained row."""
        return GateLayout(self.layout).size if self.gates else self.layout.size

    @property
    def size_frozen(self) -> int:
        """Numbers that each slot keeps beside it."""
        return self.layout.size if self.gates else 0

    def first_row(self, config: TrainConfig, person: str, start: Tensor | None, dtype: torch.dtype) -> Tensor:
        """What a person begins with, (size,)."""
        if self.gates:
            return torch.zeros(self.size, dtype=dtype)
        whose = person if config.start == "own" else ""
        return self.layout.init_row(config.seed, whose, dtype) if start is None else start


class Slots:
    """`S` rows in training on one device."""

    def __init__(self, subject: Subject, config: TrainConfig, slots: int, device: torch.device, dtype: torch.dtype) -> None:
        self.config = config
        # Adapters are trained in float32 at least, whatever the base computes in.
        kind = torch.float64 if dtype == torch.float64 else torch.float32
        size, layout = (slots, subject.size), subject.layout
        self.weights = torch.zeros(size, dtype=kind, device=device)
        self.gradient = torch.zeros(size, dtype=kind, device=device)
        self.moment_1 = torch.zeros(size, dtype=kind, device=device)
        self.moment_2 = torch.zeros(size, dtype=kind, device=device)
        self.step = torch.zeros(slots, dtype=torch.int64, device=device)
        self.total = torch.ones(slots, dtype=torch.int64, device=device)
        self.active = torch.zeros(slots, dtype=torch.bool, device=device)
        self.scale = torch.full((slots,), layout.scale, dtype=kind, device=device)
        self.keys = torch.zeros(slots, dtype=torch.int64, device=device)
        self._anchor = torch.zeros(0, device=device, requires_grad=True)
        self.frozen = torch.zeros(slots, subject.size_frozen, dtype=kind, device=device)
        self._part = None if subject.part is None else subject.part.to(self.weights)
        if subject.gates:
            places = GateLayout(layout)
            self._gates = Gates(GateStack(places, self.weights), GateStack(places, self.gradient))
            self._stack, self._gradients = Stack(layout, self.frozen), None
        else:
            self._gates = None
            self._stack, self._gradients = Stack(layout, self.weights), Stack(layout, self.gradient)

    def __len__(self) -> int:
        return len(self.step)

    def admit(self, slot: int, row: Tensor, total: int, frozen: Tensor | None = None) -> None:
        """A new person takes the slot."""
        self.weights[slot] = row.to(self.weights)
        self.frozen[slot] = 0 if frozen is None else frozen.to(self.frozen)
        self.gradient[slot], self.moment_1[slot], self.moment_2[slot] = 0, 0, 0
        self.step[slot], self.total[slot], self.active[slot] = 0, total, True

    def retire(self, slot: int) -> Tensor:
        """The person in the slot is done: a copy of their row, (P,)."""
        self.active[slot] = False
        return self.weights[slot].clone()

    def adapters(self, keys: list[int]) -> Adapters:
        """What a forward pass needs. keys: one per slot, holding (seed, person, epoch, step)."""
        dropout = None
        if self.config.dropout > 0:
            dropout = Dropout(self.config.dropout, torch.tensor(keys, dtype=torch.int64, device=self.weights.device))
        return Adapters(self._stack, self.scale, self._gradients, dropout, self._anchor, self._gates)

    def forget_gradient(self) -> None:
        self.gradient.zero_()

    def update(self) -> None:
        """One AdamW step of every active slot; the others stay bit for bit as they are."""
        c, g = self.config, self.gradient
        rate = torch.where(self.active, learning_rates(self.step, self.total, c).to(g), 0.0).unsqueeze(1)
        self.step += self.active
        if self._part is not None:
            g.mul_(self._part)
            rate = rate * self._part
        if c.clip is not None:
            norm = torch.linalg.vector_norm(g, dim=1, keepdim=True)
            g.mul_((c.clip / (norm + 1e-6)).clamp_(max=1.0))
        t = self.step.clamp(min=1).to(g).unsqueeze(1)
        self.weights.mul_(1 - rate * c.weight_decay)
        self.moment_1.lerp_(g, 1 - BETA_1)
        self.moment_2.mul_(BETA_2).addcmul_(g, g, value=1 - BETA_2)
        divisor = (self.moment_2.sqrt() / (1 - BETA_2**t).sqrt()).add_(EPS)
        self.weights.addcdiv_(self.moment_1 * (-rate / (1 - BETA_1**t)), divisor)
        g.zero_()


def choose_slots(subject: Subject, config: TrainConfig, device: torch.device, free_bytes: int) -> int:
    """How many people to train at once: what was asked for, or what fits.

    At most 64, at most a quarter of the free memory for the slots, and no more than fill one forward pass of
    `token_budget` tokens with batches of 32-token examples: beyond that, more people only wait.
    """
    if config.slots is not None:
        return config.slots
    by_memory = free_bytes // 4 // (subject.size * BYTES_PER_NUMBER + subject.size_frozen * 4)
    if by_memory < 1:
        raise ConfigError(
            f"one adapter of {subject.size} numbers does not fit into memory; choose a smaller --rank or fewer targets"
        )
    by_budget = max(1, config.token_budget // (32 * config.batch_size))
    return int(min(64, by_memory, by_budget))
