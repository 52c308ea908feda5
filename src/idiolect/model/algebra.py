"""Arithmetic on adapters. The update of an adapter is ΔW = (alpha / rank) · A B; every function here is exact in ΔW."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from idiolect.errors import ShapeError
from idiolect.model.adapter import Layout, Site


def concat(sites: Sequence[Site], parts: Sequence[tuple[Layout, Tensor, float]]) -> tuple[Layout, Tensor]:
    """One adapter whose update is Σ weight · ΔW of the parts: ranks add up, A side by side, B one on the other.

    A part that leaves a module alone gives it zeros. Adding and then negating is the identity (weights 1 and -1).

    Args:
        sites: the base's.
        parts: (layout, row, weight) of each.

    Raises:
        ShapeError: no parts.
    """
    if not parts:
        raise ShapeError("nothing to concatenate: give at least one adapter")
    targets = tuple(sorted({t for layout, _, _ in parts for t in layout.targets}))
    rank = sum(layout.rank for layout, _, _ in parts)
    whole = Layout.of(sites, rank, float(rank), targets)  # scale 1: each part's own scale goes into its B
    row = torch.zeros(whole.size)
    start = 0
    mine = whole.matrices(row)
    for layout, part, weight in parts:
        for name, (a, b) in layout.matrices(part).items():
            mine[name][0][:, start : start + layout.rank] = a
            mine[name][1][start : start + layout.rank] = b * (layout.scale * weight)
        start += layout.rank
    return whole, row


def negate(layout: Layout, row: Tensor) -> Tensor:
    """The row whose update is -ΔW: every B changes its sign."""
    out = row.clone()
    for _, b in layout.matrices(out).values():
        b.neg_()
    return out
