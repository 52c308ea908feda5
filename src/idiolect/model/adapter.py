"""One person's adapter as one flat row of numbers, and many people's as a stack of rows.

Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685, eq. 3): y = x W + (alpha / rank) x A B with W frozen. A `Layout`
says where the A and B of every target module stand in the row. Modules that read the same input form a `Group`, and their
A matrices stand side by side, so that one product serves them all:

    row (P,)  =  [ A of group 0: (D, m·R) ][ B of its module 0: (R, O) ] … [ A of group 1 ] …

The same row is trained, stored, loaded and served; nothing is converted on the way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from idiolect.errors import ShapeError, TargetMismatch
from idiolect.types import canonical_json, seed_of


@dataclass(frozen=True, slots=True)
class Site:
    """A linear module that can be adapted.

    Attributes:
        name: its full name in Hugging Face's model, e.g. "model.layers.0.self_attn.q_proj".
        group: modules of equal `group` read the same input.
        d_in: width of its input, D.
        d_out: width of its output, O.
        column: where its output starts in the group's fused output.
    """

    name: str
    group: str
    d_in: int
    d_out: int
    column: int = 0

    @property
    def kind(self) -> str:
        return self.name.rsplit(".", 1)[-1]


@dataclass(frozen=True, slots=True)
class Group:
    """The target modules that read one input, and their places in a row."""

    name: str
    sites: tuple[Site, ...]
    a_start: int
    b_starts: tuple[int, ...]

    @property
    def d_in(self) -> int:
        return self.sites[0].d_in


@dataclass(frozen=True)
class Layout:
    """Where everything stands in an adapter's row.

    Attributes:
        rank: R, the same for all target modules.
        alpha: the update is scaled by alpha / rank.
        targets: last names of the target modules.
        groups: in the base's order.
        size: P, numbers in a row.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]
    groups: tuple[Group, ...]
    size: int

    @classmethod
    def of(cls, sites: Sequence[Site], rank: int, alpha: float, targets: Sequence[str]) -> Layout:
        """The layout of a base's sites.

        Raises:
            TargetMismatch: a target names no module of this base. (Silently training fewer modules than asked for is a
                defect of the reference code: its fourth target matches nothing in a Llama.)
        """
        known = {site.kind for site in sites}
        missing = [t for t in targets if t not in known]
        if missing:
            has = ", ".join(sorted(known)) or "no linear modules"
            raise TargetMismatch(f"target module {', '.join(map(repr, missing))} is not in this base; it has: {has}")
        wanted: dict[str, list[Site]] = {}
        for site in sites:
            if site.kind in targets:
                wanted.setdefault(site.group, []).append(site)
        groups, start = [], 0
        for name, members in wanted.items():
            a_start, start = start, start + members[0].d_in * rank * len(members)
            b_starts = []
            for site in members:
                b_starts.append(start)
                start += rank * site.d_out
            groups.append(Group(name, tuple(members), a_start, tuple(b_starts)))
        return cls(rank, float(alpha), tuple(targets), tuple(groups), start)

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    @property
    def key(self) -> str:
        """Equal for layouts whose rows mean the same: the text kept with a stored row."""
        return canonical_json(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        sites = [[s.name, s.d_in, s.d_out] for g in self.groups for s in g.sites]
        return {"rank": self.rank, "alpha": self.alpha, "targets": list(self.targets), "sites": sites}

    def init_row(self, seed: int, whose: str = "", dtype: torch.dtype = torch.float32) -> Tensor:
        """A new adapter's row, (P,): A Kaiming-uniform with a = √5 (as PEFT: U(±1/√D)), B zero, so the update is zero.

        Keyed by (seed, whose) and the module's name, so that it does not depend on slot, order, company or on how the
        base is computed.
        """
        row = torch.zeros(self.size, dtype=dtype)
        for name, (a, _) in self.matrices(row).items():
            generator = torch.Generator().manual_seed(seed_of(seed, whose, "init", name))
            bound = 1 / math.sqrt(a.shape[0])
            a.copy_(torch.empty(a.shape, dtype=dtype).uniform_(-bound, bound, generator=generator))
        return row

    def matrices(self, row: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """{module name: (A (D, R), B (R, O))}, views into the row.

        Raises:
            ShapeError: the row's length is not this layout's.
        """
        if row.shape != (self.size,):
            raise ShapeError(f"an adapter row of {tuple(row.shape)} does not fit a layout of {self.size} numbers")
        stack = Stack(self, row.unsqueeze(0))
        found = {}
        for group in self.groups:
            a, bs = stack.group(group)
            for j, (site, b) in enumerate(zip(group.sites, bs, strict=True)):
                found[site.name] = (a[0, :, j * self.rank : (j + 1) * self.rank], b[0])
        return found

    def row_of(self, matrices: dict[str, tuple[Tensor, Tensor]], dtype: torch.dtype = torch.float32) -> Tensor:
        """The row that holds these matrices: the inverse of `matrices`."""
        row = torch.zeros(self.size, dtype=dtype)
        for name, (a, b) in self.matrices(row).items():
            given_a, given_b = matrices[name]
            if given_a.shape != a.shape or given_b.shape != b.shape:
                raise ShapeError(
                    f"module {name}: A {tuple(given_a.shape)} and B {tuple(given_b.shape)} do not fit "
                    f"{tuple(a.shape)} and {tuple(b.shape)}"
                )
            a.copy_(given_a)
            b.copy_(given_b)
        return row


@dataclass(frozen=True)
class Stack:
    """Rows of many adapters, (S, P), seen as stacked matrices."""

    layout: Layout
    rows: Tensor

    @cached_property
    def _views(self) -> dict[str, tuple[Tensor, tuple[Tensor, ...]]]:
        return {group.name: self.group(group) for group in self.layout.groups}

    def group(self, group: Group) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(A (S, D, m·R), one B (S, R, O) per module), views into the rows."""
        rank, slots = self.layout.rank, len(self.rows)
        width = rank * len(group.sites)
        a = self.rows[:, group.a_start : group.a_start + group.d_in * width].view(slots, group.d_in, width)
        bs = tuple(
            self.rows[:, start : start + rank * site.d_out].view(slots, rank, site.d_out)
            for start, site in zip(group.b_starts, group.sites, strict=True)
        )
        return a, bs

    def views(self, name: str) -> tuple[Tensor, tuple[Tensor, ...]] | None:
        """The same by group name; None where the group is no target."""
        return self._views.get(name)

    def sites(self, name: str) -> tuple[Site, ...]:
        return next(g.sites for g in self.layout.groups if g.name == name)


_QKV = ("q_proj", "k_proj", "v_proj")
_FUSED = ("query_key_value", "qkv_proj", "Wqkv", "c_attn")
"""What families call the module that computes q, k and v in one (GPT-NeoX, Falcon, Phi-3, MPT …)."""


def modules_of(sites: Sequence[Site], wanted: Sequence[str]) -> tuple[str, ...]:
    """Those of the wanted target modules that this base has, its fused attention in place of a q, k or v that it has not.

    All that are wanted, where it has none of them: then somebody has to choose.
    """
    known = {site.kind for site in sites}
    here = [name for name in wanted if name in known]
    if any(name in _QKV and name not in known for name in wanted):
        here += [name for name in _FUSED if name in known]
    return tuple(here or wanted)


@dataclass(frozen=True)
class GateLayout:
    """Where one person's gates stand in a row: one vector per target module, of the width of the module's input.

    row (P,)  =  [ gates of group 0, side by side: (D, m) ] [ of group 1 ] …
    """

    layout: Layout

    @cached_property
    def starts(self) -> dict[str, int]:
        found, start = {}, 0
        for group in self.layout.groups:
            found[group.name] = start
            start += group.d_in * len(group.sites)
        return found

    @cached_property
    def size(self) -> int:
        return sum(group.d_in * len(group.sites) for group in self.layout.groups)

    def vectors(self, row: Tensor) -> dict[str, Tensor]:
        """{module name: its gate (D,)}, views into the row."""
        stack = GateStack(self, row.unsqueeze(0))
        return {
            site.name: stack.views(group.name)[0, :, j] for group in self.layout.groups for j, site in enumerate(group.sites)
        }


@dataclass(frozen=True)
class GateStack:
    """Rows of many people's gates, (S, P), seen as matrices."""

    layout: GateLayout
    rows: Tensor

    @cached_property
    def _views(self) -> dict[str, Tensor]:
        found = {}
        for group in self.layout.layout.groups:
            start, width = self.layout.starts[group.name], len(group.sites)
            found[group.name] = self.rows[:, start : start + group.d_in * width].view(len(self.rows), group.d_in, width)
        return found

    def views(self, name: str) -> Tensor:
        """One group's gates, (S, D, m)."""
        return self._views[name]


def fused_sites(prefix: str, members: Iterable[tuple[str, int, int]], group: str) -> list[Site]:
    """Sites that share an input, their outputs side by side. members: (name, D, O)."""
    sites, column = [], 0
    for name, d_in, d_out in members:
        sites.append(Site(f"{prefix}.{name}", group, d_in, d_out, column))
        column += d_out
    return sites
