"""The low-rank update of each token by its own person's adapter, for many people in one product.

    y[n] = x[n] W + scale · x[n] A[u] B[u],   where u is the owner of token n

Source: Hu et al. 2021, arXiv:2106.09685, eq. 3, per token instead of per model. Tokens are one flat stream in which each
person's tokens stand together; they are cut into segments of at most the mean length, so that segments stack to (G, L, ·)
with at most as many empty places as there are tokens, whatever the mixture of people with few and with many.

The frozen product and all updates of one group of modules are one autograd function: W gets no gradient, x gets one only
where something below wants it, and the gradients of A and B are added straight to the stack of gradients, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from idiolect.model.adapter import GateStack, Stack
from idiolect.types import seed_of

LONG = 48
"""Tokens per person from which a CPU is faster going person by person than gathering everybody into a stack."""

_MIX_1, _MIX_2, _GOLDEN = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15, -0x61C8864680B583EB


@dataclass(frozen=True)
class Segments:
    """A flat stream of N tokens as G stacked segments of L places, each owned by one slot.

    Attributes:
        owner: slot of each segment, (G,).
        gather: token at each place, (G·L,); empty places repeat token 0. None: the stream already has this shape.
        scatter: place of each token, (N,). None where gather is.
        place: index of each token within its person's step, (N,), for dropout.
        empty: the empty places.
    """

    owner: Tensor
    length: int
    gather: Tensor | None
    scatter: Tensor | None
    place: Tensor
    empty: Tensor | None = None
    identity: bool = False
    """Segment g belongs to slot g, for every slot of the stack: nothing needs to be selected."""
    spans: tuple[tuple[int, int, int], ...] = ()
    """(slot, first token, end) of each person, where going one by one is faster than stacking."""

    @classmethod
    def rows(cls, owner: Tensor, length: int, identity: bool) -> Segments:
        """Every row a segment of its own, `length` tokens each. owner: (B,)."""
        place = torch.arange(length, device=owner.device).repeat(len(owner))
        return cls(owner, length, None, None, place, identity=identity)

    @classmethod
    def of(cls, owner: np.ndarray, place: np.ndarray, device: torch.device) -> Segments:
        """The segments of a stream. owner: slot of every token, (N,), ascending; place: (N,)."""
        slots, counts = np.unique(owner, return_counts=True)
        place_t = torch.from_numpy(np.ascontiguousarray(place)).to(device)
        if device.type == "cpu" and len(owner) >= LONG * len(slots):
            ends = np.cumsum(counts)
            spans = tuple(zip(slots.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True))
            token_owner = torch.from_numpy(owner)
            return cls(token_owner, 1, None, None, place_t, spans=spans)
        if counts.min() == counts.max():
            return cls(torch.from_numpy(slots).to(device), int(counts[0]), None, None, place_t)
        length = max(1, -(-len(owner) // len(slots)))
        pieces = -(-counts // length)
        first_piece = np.cumsum(pieces) - pieces
        within = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        scatter = (np.repeat(first_piece, counts) + within // length) * length + within % length
        gather = np.zeros(int(pieces.sum()) * length, dtype=np.int64)
        gather[scatter] = np.arange(len(owner))
        empty = np.setdiff1d(np.arange(len(gather)), scatter, assume_unique=True)
        arrays = (np.repeat(slots, pieces), gather, scatter, empty)
        owners, gather_t, scatter_t, empty_t = (torch.from_numpy(array).to(device) for array in arrays)
        return cls(owners, length, gather_t, scatter_t, place_t, empty_t)

    def scale_of(self, scale: Tensor) -> Tensor:
        """Each token's own scale, (N, 1)."""
        return scale.index_select(0, self.owner).unsqueeze(1)

    def own(self, stacked: Tensor) -> Tensor:
        """What belongs to each segment, (S, …) → (G, …)."""
        return stacked if self.identity else stacked.index_select(0, self.owner)

    def spread(self, x: Tensor, *, zero: bool = False) -> Tensor:
        """(N, D) → (G, L, D). `zero` empties the empty places; else they hold numbers that must not be used."""
        if self.gather is None or self.scatter is None:
            return x.reshape(len(self.owner), self.length, -1)
        out = x.index_select(0, self.gather)
        if zero and self.empty is not None:
            out.index_fill_(0, self.empty, 0)
        return out.view(len(self.owner), self.length, -1)

    def flatten(self, x: Tensor) -> Tensor:
        """(G, L, D) → (N, D)."""
        flat = x.reshape(-1, x.shape[-1])
        return flat if self.scatter is None else flat.index_select(0, self.scatter)

    @cached_property
    def of_tokens(self) -> Tensor:
        """Slot of every token, (N,)."""
        owner = self.owner if self.length == 1 else self.owner.repeat_interleave(self.length)
        return owner if self.scatter is None else owner.index_select(0, self.scatter)

    def times(self, x: Tensor, stacked: Tensor) -> Tensor:
        """Every token times its own slot's matrix: x (N, D), stacked (S, D, K) → (N, K)."""
        if not self.spans:
            return self.flatten(torch.bmm(self.spread(x), self.own(stacked)))
        out = x.new_empty(len(x), stacked.shape[-1])
        for slot, start, end in self.spans:
            torch.mm(x[start:end], stacked[slot], out=out[start:end])
        return out

    def add_outer(self, to: Tensor, x: Tensor, g: Tensor) -> None:
        """to[s] += Σ over the tokens of slot s of x gᵀ. to: (S, D, K); x: (N, D); g: (N, K)."""
        if not self.spans:
            to.index_add_(0, self.owner, torch.bmm(self.spread(x).transpose(1, 2), self.spread(g, zero=True)))
            return
        for slot, start, end in self.spans:
            to[slot].addmm_(x[start:end].t(), g[start:end])


@lru_cache(maxsize=4096)
def _salt(group: str) -> int:
    return seed_of("dropout", group)


def keep_mask(keys: Tensor, width: int, p: float) -> Tensor:
    """Which of (n, width) values dropout keeps, as bool: a hash of (key, column), so that a mask depends on nothing else.

    keys: (n,) int64, one per token. The hash is splitmix64's finaliser (Steele et al. 2014) in wrapping int64 arithmetic.
    """
    x = keys.unsqueeze(1) + torch.arange(1, width + 1, device=keys.device) * _GOLDEN
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _MIX_1
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _MIX_2
    x = x ^ ((x >> 31) & 0x1FFFFFFFF)
    return (x & 0xFFFFFF) >= int(p * 0x1000000)


@dataclass(frozen=True)
class Dropout:
    """LoRA dropout of one step: probability, and one key per slot that already holds (seed, person, epoch, step)."""

    p: float
    keys: Tensor

    def mask(self, segments: Segments, group: str, width: int) -> Tensor:
        """(N, width) factors, 0 or 1 / (1 - p)."""
        keys = (self.keys[segments.of_tokens] ^ _salt(group)) + segments.place * _MIX_2
        return keep_mask(keys, width, self.p).to(torch.float32).mul_(1 / (1 - self.p))


class Applied(Protocol):
    """What a forward pass without gradients needs of adapters, however they are kept."""

    def has(self, name: str) -> bool:
        """Whether a group of modules is adapted at all."""
        ...

    def add(self, y: Tensor, x: Tensor, name: str, segments: Segments) -> None:
        """Add everybody's update of one group to y, (N, O), in place. x: the group's input, (N, D)."""
        ...


class Rows(Applied, Protocol):
    """Adapters of a batch of rows, which may leave one by one."""

    def select(self, rows: Tensor) -> Rows:
        """The same for these rows only."""
        ...


@dataclass(frozen=True)
class Gates:
    """Gates in training over frozen adapters: one vector per slot and module, and where their gradients go.

    Source: Muqeeth et al. 2024 (PHATGOOSE), arXiv:2402.05859, §3.1; Tan et al. 2024 (Per-Pcs), arXiv:2406.10471.
    """

    stack: GateStack
    gradients: GateStack


@dataclass(frozen=True)
class Adapters:
    """What a forward pass knows of the adapters: the stack, where gradients go, and dropout.

    `gradients` is a stack of the same layout that backward adds to; None while nothing is trained. `anchor` requires a
    gradient, so that autograd visits functions none of whose inputs do. With `gates`, it is they who are trained, and the
    adapters are frozen.
    """

    stack: Stack
    scale: Tensor
    gradients: Stack | None = None
    dropout: Dropout | None = None
    anchor: Tensor | None = None
    gates: Gates | None = None

    def has(self, name: str) -> bool:
        return self.stack.views(name) is not None

    def add(self, y: Tensor, x: Tensor, name: str, segments: Segments) -> None:
        if self.gates is None:
            _add_updates(y, x, name, self, segments)
        else:
            _add_gated(y, x, name, self, segments)

    def select(self, rows: Tensor) -> Adapters:
        """The same for these rows of the stack."""
        return Adapters(Stack(self.stack.layout, self.stack.rows.index_select(0, rows)), self.scale.index_select(0, rows))

    def views(self, name: str) -> tuple[Tensor, tuple[Tensor, ...]]:
        """A (S, D, m·R) and the B (S, R, O) of a group that is known to be a target."""
        found = self.stack.views(name)
        assert found is not None
        return found

    def gradient_views(self, name: str) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The same of the gradients."""
        found = self.gradients.views(name) if self.gradients is not None else None
        assert found is not None
        return found


def _add_updates(y: Tensor, x: Tensor, name: str, adapters: Adapters, segments: Segments) -> tuple[Tensor | None, ...]:
    """Add every person's update of one group to y (N, O) in place. Returns what backward needs: input, h, dropout mask."""
    mask = adapters.dropout.mask(segments, name, x.shape[1]).to(x.dtype) if adapters.dropout else None
    dropped = x if mask is None else x * mask
    own = _one_by_one if segments.spans else _stacked
    return *own(y, dropped, name, adapters, segments), mask


def _one_by_one(y: Tensor, x: Tensor, name: str, adapters: Adapters, segments: Segments) -> tuple[Tensor, Tensor]:
    """Person by person on slices of the stream, nothing copied: the faster way where each has many tokens, on a CPU."""
    (a, bs), rank = adapters.views(name), adapters.stack.layout.rank
    x = x.to(a.dtype)
    h = x.new_empty(len(x), a.shape[-1])
    sites = adapters.stack.sites(name)
    straight = y.dtype == a.dtype
    for slot, start, end in segments.spans:
        torch.mm(x[start:end], a[slot], out=h[start:end])
    h *= segments.scale_of(adapters.scale)
    for j, (site, b) in enumerate(zip(sites, bs, strict=True)):
        out = y[:, site.column : site.column + site.d_out]
        for slot, start, end in segments.spans:
            mine = h[start:end, j * rank : (j + 1) * rank]
            if straight:
                out[start:end].addmm_(mine, b[slot])
            else:
                out[start:end] += torch.mm(mine, b[slot]).to(y.dtype)
    return x, h


def _stacked(y: Tensor, x: Tensor, name: str, adapters: Adapters, segments: Segments) -> tuple[Tensor, Tensor]:
    """All people in one product: the faster way on an accelerator, and where each has few tokens."""
    (a, bs), rank = adapters.views(name), adapters.stack.layout.rank
    spread = segments.spread(x.to(a.dtype))
    h = torch.bmm(spread, segments.own(a))
    h *= segments.own(adapters.scale).view(-1, 1, 1)
    for j, (site, b) in enumerate(zip(adapters.stack.sites(name), bs, strict=True)):
        update = torch.bmm(h[:, :, j * rank : (j + 1) * rank], segments.own(b))
        y[:, site.column : site.column + site.d_out] += segments.flatten(update).to(y.dtype)
    return spread, h


def _updates_backward(ctx: Any, gy: Tensor, x: Tensor, h: Tensor, mask: Tensor | None) -> Tensor | None:
    """Add the gradients of A and B to the stack of gradients; returns what flows to x, (N, D), where that is wanted."""
    own = _one_by_one_backward if ctx.segments.spans else _stacked_backward
    through = own(ctx, gy, x, h)
    if through is None:
        return None
    through = through.to(gy.dtype)
    return through if mask is None else through.mul_(mask)


def _one_by_one_backward(ctx: Any, gy: Tensor, x: Tensor, h: Tensor) -> Tensor | None:
    adapters, segments, name = ctx.adapters, ctx.segments, ctx.name
    (a, bs), (ga, gbs) = adapters.views(name), adapters.gradient_views(name)
    rank, sites = adapters.stack.layout.rank, adapters.stack.sites(name)
    dh = torch.empty_like(h)
    for j, (site, b, gb) in enumerate(zip(sites, bs, gbs, strict=True)):
        mine = slice(j * rank, (j + 1) * rank)
        g = gy[:, site.column : site.column + site.d_out].to(h.dtype)
        for slot, start, end in segments.spans:
            gb[slot].addmm_(h[start:end, mine].t(), g[start:end])
            torch.mm(g[start:end], b[slot].t(), out=dh[start:end, mine])
    dh *= segments.scale_of(adapters.scale)
    dx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
    for slot, start, end in segments.spans:
        ga[slot].addmm_(x[start:end].t(), dh[start:end])
        if dx is not None:
            torch.mm(dh[start:end], a[slot].t(), out=dx[start:end])
    return dx


def _stacked_backward(ctx: Any, gy: Tensor, spread: Tensor, h: Tensor) -> Tensor | None:
    adapters, segments, name = ctx.adapters, ctx.segments, ctx.name
    (a, bs), (ga, gbs) = adapters.views(name), adapters.gradient_views(name)
    owner, rank = segments.owner, adapters.stack.layout.rank
    dh = torch.empty_like(h)
    for j, (site, b, gb) in enumerate(zip(adapters.stack.sites(name), bs, gbs, strict=True)):
        mine = slice(j * rank, (j + 1) * rank)
        g = segments.spread(gy[:, site.column : site.column + site.d_out].to(h.dtype), zero=True)
        gb.index_add_(0, owner, torch.bmm(h[:, :, mine].transpose(1, 2), g))
        dh[:, :, mine] = torch.bmm(g, segments.own(b).transpose(1, 2))
    dh *= segments.own(adapters.scale).view(-1, 1, 1)
    ga.index_add_(0, owner, torch.bmm(spread.transpose(1, 2), dh))
    if not ctx.needs_input_grad[0]:
        return None
    return segments.flatten(torch.bmm(dh, segments.own(a).transpose(1, 2)))


def asked_for(x: Tensor, predict: Tensor) -> Tensor:
    """A module's input at the asked-for positions, (M, D). In the last layer some modules are given no others.

    The two cannot be mixed up: a stream always holds a prompt's tokens beside those that are asked for.
    """
    return x if len(x) == len(predict) else x.index_select(0, predict)


def _product(x: Tensor, w: Tensor, added: Tensor | None) -> Tensor:
    """x W (+ what is added), in memory of its own."""
    return torch.mm(x, w) if added is None else torch.addmm(added, x, w)


class _AdaptedLinear(Function):
    """x W (+ what is added) + the updates of one group of modules, with gradients for x and for the stack only."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w: Tensor,
        added: Tensor | None,
        anchor: Tensor | None,
        name: str,
        adapters: Adapters,
        segments: Segments,
    ) -> Tensor:
        y = _product(x, w, added)
        kept = _add_updates(y, x, name, adapters, segments)
        ctx.save_for_backward(w, *kept)
        ctx.name, ctx.adapters, ctx.segments = name, adapters, segments
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        w, *kept = ctx.saved_tensors
        dx = _updates_backward(ctx, grads[0], *kept)
        if dx is not None:
            dx.addmm_(grads[0], w.t())
        return dx, None, grads[0] if ctx.needs_input_grad[2] else None, None, None, None, None


class _FrozenLinear(Function):
    """x W (+ what is added), where W never gets a gradient and x itself need not be kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, added: Tensor | None) -> Tensor:
        ctx.save_for_backward(w)
        return _product(x, w, added)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (w,) = ctx.saved_tensors
        dx = torch.mm(grads[0], w.t()) if ctx.needs_input_grad[0] else None
        return dx, None, grads[0] if ctx.needs_input_grad[2] else None


class _UpdateOnly(Function):
    """The updates alone, for modules whose frozen product somebody else computes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor | None, name: str, adapters: Adapters, segments: Segments) -> Tensor:
        y = x.new_zeros(x.shape[0], sum(site.d_out for site in adapters.stack.sites(name)))
        ctx.save_for_backward(*_add_updates(y, x, name, adapters, segments))
        ctx.name, ctx.adapters, ctx.segments = name, adapters, segments
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _updates_backward(ctx, grads[0], *ctx.saved_tensors), None, None, None, None


def _add_gated(y: Tensor, x: Tensor, name: str, adapters: Adapters, segments: Segments) -> tuple[Tensor, Tensor]:
    """y += p · scale · x A B per module, with p = sigmoid(x · gate). Returns h = scale · x A, (N, m·R), and p, (N, m)."""
    (a, bs), rank = adapters.views(name), adapters.stack.layout.rank
    assert adapters.gates is not None
    x = x.to(a.dtype)
    h = segments.times(x, a)
    h *= adapters.scale[segments.of_tokens].unsqueeze(1)
    p = segments.times(x, adapters.gates.stack.views(name)).sigmoid_()
    for j, (site, b) in enumerate(zip(adapters.stack.sites(name), bs, strict=True)):
        update = segments.times(h[:, j * rank : (j + 1) * rank] * p[:, j : j + 1], b)
        y[:, site.column : site.column + site.d_out] += update.to(y.dtype)
    return h, p


class _GatedLinear(Function):
    """x W (+ what is added) + gated updates of one group, with gradients for x and for the gates only.

    With s = x · g and p = σ(s):  dp = Σ_r h_r (dy Bᵀ)_r,  ds = dp p (1 - p),  dg = Σ x ds.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w: Tensor | None,
        added: Tensor | None,
        anchor: Tensor | None,
        name: str,
        adapters: Adapters,
        segments: Segments,
    ) -> Tensor:
        width = sum(site.d_out for site in adapters.stack.sites(name))
        y = x.new_zeros(len(x), width) if w is None else _product(x, w, added)
        ctx.save_for_backward(x, w, *_add_gated(y, x, name, adapters, segments))
        ctx.name, ctx.adapters, ctx.segments = name, adapters, segments
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (x, w, h, p), gy = ctx.saved_tensors, grads[0]
        adapters, segments = ctx.adapters, ctx.segments
        (a, bs), rank = adapters.views(ctx.name), adapters.stack.layout.rank
        back = [
            segments.times(gy[:, site.column : site.column + site.d_out].to(h.dtype), b.transpose(1, 2))
            for site, b in zip(adapters.stack.sites(ctx.name), bs, strict=True)
        ]
        through = torch.cat(back, 1).view(len(x), -1, rank)
        ds = (through * h.view_as(through)).sum(-1) * p * (1 - p)
        segments.add_outer(adapters.gates.gradients.views(ctx.name), x.to(h.dtype), ds)
        if not ctx.needs_input_grad[0]:
            return None, None, gy if ctx.needs_input_grad[2] else None, None, None, None, None
        dh = (through * p.unsqueeze(-1)).view_as(h) * adapters.scale[segments.of_tokens].unsqueeze(1)
        gates = adapters.gates.stack.views(ctx.name)
        dx = (segments.times(dh, a.transpose(1, 2)) + segments.times(ds, gates.transpose(1, 2))).to(gy.dtype)
        if w is not None:
            dx.addmm_(gy, w.t())
        return dx, None, gy if ctx.needs_input_grad[2] else None, None, None, None, None


def adapted_linear(
    x: Tensor, w: Tensor, added: Tensor | None, name: str, adapters: Applied | None, segments: Segments | None
) -> Tensor:
    """x W + added + each person's update, (N, D) → (N, O).

    Args:
        x: activations, (N, D).
        w: frozen weight, (D, O): the transpose of torch's nn.Linear layout, faster in small decode batches on a CPU.
        added: a bias (O,) or a residual (N, O), or None.
        name: the group of modules, which the adapters' layout may or may not target.
        adapters: None for the base alone.
        segments: whose tokens they are; needed with adapters.
    """
    if adapters is None or segments is None or not adapters.has(name):
        if not torch.is_grad_enabled():
            return _product(x, w, added)
        return _FrozenLinear.apply(x, w, added)  # type: ignore[no-any-return]
    if not torch.is_grad_enabled():  # decoding: an autograd function costs more than a small product
        y = _product(x, w, added)
        adapters.add(y, x, name, segments)
        return y
    assert isinstance(adapters, Adapters)
    linear = _AdaptedLinear if adapters.gates is None else _GatedLinear
    return linear.apply(x, w, added, adapters.anchor, name, adapters, segments)  # type: ignore[no-any-return]


def update_only(x: Tensor, name: str, adapters: Applied, segments: Segments, d_out: int) -> Tensor:
    """Each person's update alone, (N, D) → (N, d_out), for a group of one module."""
    if not torch.is_grad_enabled():
        y = x.new_zeros(len(x), d_out)
        adapters.add(y, x, name, segments)
        return y
    assert isinstance(adapters, Adapters)
    if adapters.gates is not None:
        return _GatedLinear.apply(x, None, None, adapters.anchor, name, adapters, segments)  # type: ignore[no-any-return]
    return _UpdateOnly.apply(x, adapters.anchor, name, adapters, segments)  # type: ignore[no-any-return]
