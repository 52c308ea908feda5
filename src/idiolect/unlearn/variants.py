"""A model that is looked at: a base, and what is put on top of it, with a weight.

    variant        base                      on top             weight
    original       as it was taught          –
    retrained      taught without the rest   –
    unlearned      as it was taught          acquired adapter   -λ, or 1 where the method trains the answer directly

The weight is all that negation is: W + weight · (alpha / rank) A B (Liu et al. 2024, arXiv:2402.10058, stage 2), so a
sweep over λ trains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from idiolect.model.adapter import Layout, Stack
from idiolect.model.base import Base
from idiolect.model.lora import Adapters


@dataclass(frozen=True)
class Variant:
    """A base with an adapter on it, or without.

    Attributes:
        name: what tables call it.
        layout, row: the adapter, (P,); None: the base alone.
        weight: what the adapter's update is multiplied with.
    """

    name: str
    base: Base
    layout: Layout | None = None
    row: Tensor | None = None
    weight: float = 1.0

    @property
    def adapters(self) -> Adapters | None:
        """For passes over rows of owner 0; None for the base alone, and for weight 0, which is the base bit for bit."""
        if self.layout is None or self.row is None or self.weight == 0:
            return None
        wide = torch.float64 if self.base.dtype == torch.float64 else torch.float32
        stack = Stack(self.layout, self.row.to(self.base.device, wide).unsqueeze(0))
        return Adapters(stack, torch.full((1,), self.layout.scale * self.weight, dtype=wide, device=self.base.device))

    def at(self, weight: float, name: str | None = None) -> Variant:
        """The same with another weight."""
        return replace(self, weight=weight, name=name or self.name)

    def merged(self) -> Base:
        """One base with the update in its weights: a copy of those that change. The variant's own base stays as it is."""
        if self.layout is None or self.row is None or self.weight == 0:
            return self.base
        row = self.row.clone()
        for _, b in self.layout.matrices(row).values():
            b.mul_(self.weight)
        return replace(self.base, model=self.base.model.merged(self.layout, row))
