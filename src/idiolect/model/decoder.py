"""The lean decoder: Llama, Mistral, Qwen 2/3 and SmolLM without a framework's overhead, for training and serving alike.

A forward pass takes a flat stream of tokens (data/batch.py). Matrix products see no padding; rows are padded only inside
attention, in a few bins of similar length. The last layer goes on past its attention with the asked-for positions only.

    ids (N,) → embedding (N, D) → layers → (N, D) | last layer → (M, D) → norm → (M, D)

Checked against transformers to 1e-5. Sources: Touvron et al. 2023, arXiv:2302.13971 (Llama); Su et al. 2021,
arXiv:2104.09864 (rotary embedding); Shazeer 2020, arXiv:2002.05202 (SwiGLU); Zhang & Sennrich 2019 (RMSNorm).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from idiolect.data.batch import Batch
from idiolect.model.adapter import Layout, Site, fused_sites
from idiolect.model.lora import Applied, Rows, Segments, adapted_linear

SMALL_STEP = 10**9
"""FLOP of a decode step up to which one thread is faster than several that sleep while they wait."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama-like decoder."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head: int
    inner: int
    eps: float

    @property
    def q_width(self) -> int:
        return self.heads * self.head

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head


@dataclass(frozen=True)
class Layer:
    """One layer's frozen weights. Products are x W, so weights are (D, O); q, k, v and gate, up are fused along O."""

    norm_1: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    o: Tensor
    norm_2: Tensor
    gate_up: Tensor
    down: Tensor
    q_norm: Tensor | None = None
    k_norm: Tensor | None = None


class _RMSNorm(Function):
    """x · w / sqrt(mean(x²) + eps), the weight frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, eps: float) -> Tensor:
        # bf16 sums of squares lose too much: statistics are taken in float32 at least.
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        r = torch.rsqrt(torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps))
        ctx.save_for_backward(x, w, r)
        return (wide * r).to(x.dtype).mul_(w)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, w, r = ctx.saved_tensors
        g = (grads[0] * w).to(r.dtype)
        wide = x.to(r.dtype)
        along = torch.linalg.vecdot(g, wide).unsqueeze_(-1).mul_(r.pow(3)).div_(x.shape[-1])
        return g.mul_(r).addcmul_(wide, along, value=-1).to(x.dtype), None, None


class _SwiGLU(Function):
    """silu(gate) · up of a fused (N, 2·I) input; on a CPU by blocks of rows, so that what is between stays in its cache."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        out = gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)
        for rows in _blocks(gate_up):
            gate, up = gate_up[rows].chunk(2, -1)
            torch.ops.aten.silu.out(gate, out=out[rows]).mul_(up)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (gate_up,) = ctx.saved_tensors
        out = torch.empty_like(gate_up)
        for rows in _blocks(gate_up):
            (gate, up), (d_gate, d_up) = gate_up[rows].chunk(2, -1), out[rows].chunk(2, -1)
            g = grads[0][rows]
            torch.mul(g, F.silu(gate), out=d_up)
            torch.ops.aten.silu_backward.grad_input(g * up, gate, grad_input=d_gate)
        return out


def _blocks(x: Tensor) -> Iterator[slice]:
    """All rows at once; on a CPU 512 at a time, about what two cores' caches hold of an MLP's inside."""
    step = 512 if x.device.type == "cpu" else max(1, len(x))
    for start in range(0, len(x), step):
        yield slice(start, start + step)


class _ToHeads(Function):
    """The fused (N, F) projections as padded, rotated heads: q (b, t, H, d), k and v (b, t, K, d) for each bin in turn.

    Both ways are plain gathers: a padded place past a row's end repeats a token, and takes no gradient back.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, plan: Plan, shape: Shape, cos: Tensor, sin: Tensor) -> Any:
        ctx.plan, ctx.shape = plan, shape
        ctx.save_for_backward(cos, sin)
        stream = qkv if plan.there is None else qkv.index_select(0, plan.there)
        return tuple(_each_bin(stream, plan, shape, cos, sin))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        cos, sin = ctx.saved_tensors
        plan, s = ctx.plan, ctx.shape
        out = grads[0].new_empty(sum(b.rows * b.length for b in plan.bins), s.q_width + 2 * s.kv_width)
        start = 0
        for part, (gq, gk, gv) in zip(plan.bins, zip(*[iter(grads)] * 3, strict=True), strict=True):
            size = part.rows * part.length
            heads = out[start : start + size].view(part.rows, part.length, -1, s.head)
            c, n = cos[: part.length].unsqueeze(1), -sin[: part.length].unsqueeze(1)
            rotate(gq, c, n, out=heads[:, :, : s.heads])
            rotate(gk, c, n, out=heads[:, :, s.heads : s.heads + s.kv_heads])
            heads[:, :, s.heads + s.kv_heads :] = gv
            start += size
        return out if plan.back is None else out.index_select(0, plan.back), None, None, None, None


def _each_bin(stream: Tensor, plan: Plan, s: Shape, cos: Tensor, sin: Tensor) -> Iterator[Tensor]:
    """q, k, v of every bin, rotated where they stand."""
    start = 0
    for part in plan.bins:
        size = part.rows * part.length
        heads = stream[start : start + size].view(part.rows, part.length, -1, s.head)
        qk = rotate(heads[:, :, : s.heads + s.kv_heads], cos[: part.length].unsqueeze(1), sin[: part.length].unsqueeze(1))
        v = heads[:, :, s.heads + s.kv_heads :]
        # An output of an autograd function must not be a view of its input.
        yield from (qk[:, :, : s.heads], qk[:, :, s.heads :], v.contiguous() if plan.there is None else v)
        start += size


class _FromHeads(Function):
    """Attention's padded outputs, one (b·t, W) per bin, back to the stream, (N, W)."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, *outs: Tensor) -> Tensor:
        ctx.plan = plan
        assert plan.back is not None
        return (outs[0] if len(outs) == 1 else torch.cat(outs)).index_select(0, plan.back)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        plan = ctx.plan
        spread = grads[0].index_select(0, plan.there)
        # A place past a row's end repeats a token that already has its gradient.
        spread.index_fill_(0, plan.empty, 0)
        return None, *spread.split([b.rows * b.length for b in plan.bins])


def rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor | None = None) -> Tensor:
    """Rotary embedding in Hugging Face's half-split layout. x: (…, head); cos, sin: broadcastable, (…, head / 2)."""
    left, right = x.chunk(2, -1)
    out = torch.empty_like(x, memory_format=torch.contiguous_format) if out is None else out
    out_left, out_right = out.chunk(2, -1)
    torch.mul(left, cos, out=out_left)
    out_left.addcmul_(right, sin, value=-1)
    torch.mul(right, cos, out=out_right)
    out_right.addcmul_(left, sin)
    return out


@dataclass(frozen=True)
class Bin:
    """Rows of similar length, padded to (b, t) inside attention only."""

    rows: int
    length: int


@dataclass(frozen=True)
class Plan:
    """How one batch's stream is laid out for attention and for the adapters.

    Attributes:
        ids: (N,).
        bins: shapes of the padded rows.
        there: stream position of each padded place, bins one after another; None: the stream is full bins as it
            stands.
        back: padded place of each stream position, (N,).
        empty: padded places past the ends of rows.
        segments: of the whole stream.
        answers: of the asked-for positions only.
        predict: (M,).
    """

    ids: Tensor
    bins: tuple[Bin, ...]
    there: Tensor | None
    back: Tensor | None
    empty: Tensor
    segments: Segments
    answers: Segments
    predict: Tensor

    @classmethod
    def of(cls, batch: Batch, device: torch.device, *, one_bin: bool = False, prefix_once: bool = False) -> Plan:
        """The plan of a batch.

        Args:
            one_bin: keep the rows together and in their order, as a cache needs them.
            prefix_once: a prefix that a person's rows share stands in the stream once. Exact, and forward only: outside
                attention it saves its share of all work.
        """
        assert not (prefix_once and torch.is_grad_enabled()), "backward would count a shared prefix for one row only"
        lengths = batch.lengths
        starts = np.cumsum(lengths) - lengths
        within = np.arange(batch.n_tokens) - np.repeat(starts, lengths)
        at = first_places(batch, within) if prefix_once else np.arange(batch.n_tokens)
        n = int(at.max()) + 1
        ids, owner, place = (np.zeros(n, dtype=np.int64) for _ in range(3))
        ids[at], owner[at] = batch.ids, np.repeat(batch.owner, lengths)
        place[at] = np.repeat(batch.offset, lengths) + within
        predict = at[batch.predict]
        order = np.arange(len(lengths)) if one_bin else np.argsort(lengths, kind="stable")
        bins, there, back = [], [], np.zeros(n, dtype=np.int64)
        total = 0
        for members in [slice(None)] if one_bin else cut_bins(lengths[order]):
            rows = order[members]
            longest = int(lengths[rows].max())
            columns = np.arange(longest)
            # Places past a row's end repeat its last token; causality keeps them from mattering, backward skips them.
            positions = starts[rows, None] + np.minimum(columns[None], lengths[rows, None] - 1)
            real = columns[None] < lengths[rows, None]
            back[at[positions[real]]] = total + np.flatnonzero(real)
            there.append(at[positions.ravel()])
            bins.append(Bin(len(rows), longest))
            total += positions.size
        stream = np.concatenate(there)
        straight = len(stream) == n and bool((stream == np.arange(n)).all())
        to = lambda a: torch.from_numpy(np.ascontiguousarray(a)).to(device)  # noqa: E731
        return cls(
            ids=to(ids),
            bins=tuple(bins),
            there=None if straight else to(stream),
            back=None if straight else to(back),
            empty=to(np.setdiff1d(np.arange(total), back, assume_unique=True)),
            segments=Segments.of(owner, place, device),
            answers=Segments.of(owner[predict], place[predict], device),
            predict=to(predict),
        )


def first_places(batch: Batch, within: np.ndarray) -> np.ndarray:
    """Where each token of a batch stands when a prefix that a person's rows share is kept for their first row only, (N,).

    Args:
        within: each token's place in its row, (N,).
    """
    first = np.searchsorted(batch.owner, batch.owner)  # the first row of each row's person
    skipped = np.where(first == np.arange(len(first)), 0, batch.prefix)
    kept = batch.lengths - skipped
    starts = np.cumsum(kept) - kept
    own, common = (np.repeat(a, batch.lengths) for a in (starts - skipped, starts[first]))
    return np.where(within < np.repeat(skipped, batch.lengths), common, own) + within


def cut_bins(sorted_lengths: np.ndarray, waste: float = 0.15) -> list[slice]:
    """Cut ascending lengths into bins whose padding stays below `waste` of the tokens."""
    bins, start, tokens = [], 0, 0
    for i, length in enumerate(sorted_lengths.tolist()):
        tokens += length
        if i > start and (i + 1 - start) * length > (1 + waste) * tokens and i - start >= 4:
            bins.append(slice(start, i))
            start, tokens = i, length
    bins.append(slice(start, len(sorted_lengths)))
    return bins


@dataclass(frozen=True)
class Forest:
    """The tokens of all labels of a task, laid side by side, except each label's last token (it predicts nothing).

    Attributes:
        first: first token of each label, (C,).
        ids: tokens, (F,).
        next: the token that follows each, (F,).
        label: which label each belongs to, (F,).
        depth: place within its label, (F,).
        sees: which tokens each may look at, (F, F): itself and the earlier ones of its label.
    """

    first: Tensor
    ids: Tensor
    next: Tensor
    label: Tensor
    depth: Tensor
    sees: Tensor

    @classmethod
    def of(cls, labels: Sequence[Sequence[int]], device: torch.device) -> Forest:
        flat = [(i, d, tokens[d], tokens[d + 1]) for i, tokens in enumerate(labels) for d in range(len(tokens) - 1)]
        columns = torch.tensor(flat, dtype=torch.long, device=device).view(-1, 4)
        label, depth = columns[:, 0], columns[:, 1]
        sees = (label.unsqueeze(1) == label) & (depth.unsqueeze(1) >= depth)
        first = torch.tensor([tokens[0] for tokens in labels], device=device)
        return cls(first, columns[:, 2], columns[:, 3], label, depth, sees)


class Cache:
    """Keys and values of B rows: (layers, B, kv_heads, slots, head). Prompts on the left, new tokens after the longest."""

    def __init__(self, shape: Shape, rows: int, slots: int, dtype: torch.dtype, device: torch.device) -> None:
        size = (shape.layers, rows, shape.kv_heads, slots, shape.head)
        self.k = torch.zeros(size, dtype=dtype, device=device)
        self.v = torch.zeros(size, dtype=dtype, device=device)

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but these."""
        self.k, self.v = self.k.index_select(1, rows), self.v.index_select(1, rows)


@dataclass
class State:
    """A batch of rows in the middle of being answered.

    Attributes:
        cache: keys and values so far.
        lengths: tokens of each prompt, (B,).
        longest: cache slots the prompts take.
        done: new tokens so far.
        adapters: one adapter per row, rows in order; None for the base alone.
    """

    cache: Cache
    lengths: Tensor
    longest: int
    done: int
    adapters: Rows | None

    @property
    def segments(self) -> Segments:
        return Segments.rows(torch.arange(len(self.lengths), device=self.lengths.device), 1, identity=True)


class Decoder:
    """A frozen Llama-like model. Immutable: `merged` returns another that shares every untouched tensor."""

    softcap: float | None = None

    def __init__(
        self, shape: Shape, embedding: Tensor, layers: tuple[Layer, ...], norm: Tensor, head: Tensor, cos: Tensor, sin: Tensor
    ) -> None:
        self.shape, self.embedding, self.layers, self.norm = shape, embedding, layers, norm
        self.head, self.cos, self.sin = head, cos, sin
        matrices = (w for layer in layers for w in (layer.qkv, layer.o, layer.gate_up, layer.down))
        self._weights = head.numel() + sum(w.numel() for w in matrices)

    # -- what can be adapted ---------------------------------------------------------------------------------------

    def sites(self) -> list[Site]:
        """Every linear module of every layer, in order."""
        s, found = self.shape, []
        for i in range(s.layers):
            attention, mlp = f"model.layers.{i}.self_attn", f"model.layers.{i}.mlp"
            qkv = [("q_proj", s.width, s.q_width), ("k_proj", s.width, s.kv_width), ("v_proj", s.width, s.kv_width)]
            found += fused_sites(attention, qkv, f"{i}.qkv")
            found += fused_sites(attention, [("o_proj", s.q_width, s.width)], f"{i}.o")
            found += fused_sites(mlp, [("gate_proj", s.width, s.inner), ("up_proj", s.width, s.inner)], f"{i}.gate_up")
            found += fused_sites(mlp, [("down_proj", s.inner, s.width)], f"{i}.down")
        return found

    def merged(self, layout: Layout, row: Tensor) -> Decoder:
        """This model with one adapter added into its weights: W + (alpha / rank) A B."""
        matrices = layout.matrices(row.to(self.embedding.device))
        fused = {"qkv": "qkv", "o": "o", "gate_up": "gate_up", "down": "down"}
        changed: dict[int, dict[str, Tensor]] = {}
        for group in layout.groups:
            index, name = group.name.split(".")
            field = fused[name]
            weight = getattr(self.layers[int(index)], field).clone()
            for site in group.sites:
                a, b = matrices[site.name]
                update = (a.double() @ b.double()) * layout.scale
                columns = slice(site.column, site.column + site.d_out)
                weight[:, columns] = (weight[:, columns].double() + update).to(weight.dtype)
            changed.setdefault(int(index), {})[field] = weight
        layers = tuple(replace(layer, **changed.get(i, {})) for i, layer in enumerate(self.layers))
        return Decoder(self.shape, self.embedding, layers, self.norm, self.head, self.cos, self.sin)

    # -- a whole stream --------------------------------------------------------------------------------------------

    def hidden(self, plan: Plan, adapters: Applied | None = None, cache: Cache | None = None) -> Tensor:
        """The normed last hidden state at the asked-for positions, (M, D).

        With a cache (serving), keys and values are kept; then the plan has one bin, rows in their own order.
        """
        x = F.embedding(plan.ids, self.embedding)
        for i, layer in enumerate(self.layers):
            mixed = self._attend(i, layer, x, plan, adapters, cache)
            segments = plan.segments
            if i == len(self.layers) - 1:
                x, mixed, segments = x.index_select(0, plan.predict), mixed.index_select(0, plan.predict), plan.answers
            x = adapted_linear(mixed, layer.o, x, f"{i}.o", adapters, segments)
            h = _norm(x, layer.norm_2, self.shape.eps)
            gated = _SwiGLU.apply(adapted_linear(h, layer.gate_up, None, f"{i}.gate_up", adapters, segments))
            x = adapted_linear(gated, layer.down, x, f"{i}.down", adapters, segments)
        return _norm(x, self.norm, self.shape.eps)

    def _attend(self, i: int, layer: Layer, x: Tensor, plan: Plan, adapters: Applied | None, cache: Cache | None) -> Tensor:
        """Causal attention within each row, (N, D) → (N, q_width), before the output projection."""
        h = _norm(x, layer.norm_1, self.shape.eps)
        qkv = adapted_linear(h, layer.qkv, layer.qkv_bias, f"{i}.qkv", adapters, plan.segments)
        heads = self._split(layer, qkv, plan)
        bins = zip(heads[::3], heads[1::3], heads[2::3], strict=True)
        outs = [self._attend_bin(i, q, k, v, cache) for q, k, v in bins]
        if plan.back is None:
            return outs[0] if len(outs) == 1 else torch.cat(outs)
        return _FromHeads.apply(plan, *outs)  # type: ignore

    def _split(self, layer: Layer, qkv: Tensor, plan: Plan) -> Sequence[Tensor]:
        """q, k, v of every bin, rotated. Qwen3 norms its heads before rotating them, in the flat stream."""
        s = self.shape
        if layer.q_norm is not None and layer.k_norm is not None:
            q, k, v = qkv.view(len(qkv), -1, s.head).split([s.heads, s.kv_heads, s.kv_heads], 1)
            normed = (_norm(q, layer.q_norm, s.eps), _norm(k, layer.k_norm, s.eps), v)
            qkv = torch.cat(normed, 1).view(len(qkv), -1)
        return _ToHeads.apply(qkv, plan, s, self.cos, self.sin)  # type: ignore[return-value]

    def _attend_bin(self, i: int, q: Tensor, k: Tensor, v: Tensor, cache: Cache | None) -> Tensor:
        """q (b, t, H, d), k and v (b, t, K, d) → (b·t, q_width)."""
        s, (rows, length, _, _) = self.shape, q.shape
        if cache is not None:
            cache.k[i, :, :, :length] = k.transpose(1, 2)
            cache.v[i, :, :, :length] = v.transpose(1, 2)
        grouped = s.heads > s.kv_heads
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        return out.transpose(1, 2).reshape(rows * length, s.q_width)

    def plan(self, batch: Batch, *, prefix_once: bool = False) -> Plan:
        """What `hidden` needs to know of a batch. `prefix_once`: for a pass without gradients, see `Plan.of`."""
        return Plan.of(batch, self.embedding.device, prefix_once=prefix_once)

    def to_logits(self, hidden: Tensor) -> Tensor:
        """(…, D) → (…, V)."""
        return F.linear(hidden, self.head)

    # -- token by token --------------------------------------------------------------------------------------------

    def begin(self, batch: Batch, adapters: Rows | None, room: int) -> tuple[Tensor, State]:
        """Read prompts and make room for new tokens. Row i's adapter is row i of the stack.

        Args:
            batch: whole prompts; the asked-for positions are their last tokens.
            adapters: one row of the stack per row of the batch.
            room: new tokens at most.

        Returns:
            logits of each row's first new token, (B, V), and the state to go on from.
        """
        device = self.embedding.device
        longest = int(batch.lengths.max())
        cache = Cache(self.shape, len(batch.lengths), longest + room, self.embedding.dtype, device)
        hidden = self.hidden(Plan.of(batch, device, one_bin=True), adapters, cache)
        return self.to_logits(hidden), State(cache, torch.from_numpy(batch.lengths).to(device), longest, 0, adapters)

    def advance(self, state: State, tokens: Tensor) -> Tensor:
        """One new token for every row, (B,) → logits of the next one, (B, V)."""
        slot = state.longest + state.done
        place = torch.arange(slot + 1, device=tokens.device)
        seen = (place < state.lengths.unsqueeze(1)) | (place >= state.longest)
        mask = torch.zeros(seen.shape, dtype=self.embedding.dtype, device=tokens.device).masked_fill_(~seen, float("-inf"))
        # A row that is done stays for a while, and its place may run past what the base can see: nobody reads it any more.
        positions = (state.lengths + state.done).clamp_(max=len(self.cos) - 1).unsqueeze(1)
        ids, mask = tokens.unsqueeze(1), mask.unsqueeze(1)
        with _threads_for(2 * self._weights * len(tokens), tokens.device):
            hidden = self.step(ids, positions, slot, mask, state.cache, state.adapters, state.segments)
            logits = self.to_logits(hidden[:, 0])
        state.done += 1
        return logits

    def drop(self, state: State, keep: Tensor) -> None:
        """Go on with these rows only. keep: row indices."""
        state.cache.keep(keep)
        state.lengths = state.lengths.index_select(0, keep)
        if state.adapters is not None:
            state.adapters = state.adapters.select(keep)

    def score(self, state: State, first: Tensor, forest: Forest) -> Tensor:
        """Log-probability of every label (all its tokens) after every prompt, (B, C).

        All labels are read at once: their tokens are one row of `forest`, in which each sees the prompt and its own label's
        earlier tokens.
        """
        rows, t = len(state.lengths), len(forest.ids)
        device = first.device
        total = first.float().log_softmax(-1)[:, forest.first]
        if t == 0:
            return total
        place = torch.arange(state.longest, device=device)
        prompt = (place < state.lengths.unsqueeze(1)).unsqueeze(1).expand(rows, t, -1)
        seen = torch.cat((prompt, forest.sees.expand(rows, t, t)), -1)
        mask = torch.zeros(seen.shape, dtype=self.embedding.dtype, device=device).masked_fill_(~seen, float("-inf"))
        ids = forest.ids.expand(rows, t)
        positions = state.lengths.unsqueeze(1) + forest.depth
        segments = Segments.rows(torch.arange(rows, device=device), t, identity=True)
        hidden = self.step(ids, positions, state.longest, mask, state.cache, state.adapters, segments)
        # A few rows at a time: all labels' logits over a large vocabulary would be the largest tensor of all.
        few = max(1, 2**25 // (t * len(self.head)))
        parts = []
        for part in hidden.split(few):
            logits = self.to_logits(part).float()
            parts.append(logits.gather(-1, forest.next.expand(len(part), t).unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1))
        return total.index_add(1, forest.label, torch.cat(parts))

    def step(
        self,
        ids: Tensor,
        positions: Tensor,
        slot: int,
        mask: Tensor,
        cache: Cache,
        adapters: Applied | None,
        segments: Segments | None,
    ) -> Tensor:
        """Hidden states of new tokens that see the cache, (B, t) → (B, t, D). Keys and values go to `slot` and after it.

        Args:
            ids: (B, t).
            positions: place of each new token in its row, (B, t).
            mask: added to the scores, (B, t, slot + t): 0 where a token may look, else -inf.
        """
        s, (rows, t) = self.shape, ids.shape
        x = F.embedding(ids.reshape(-1), self.embedding)
        cos, sin = self.cos[positions].unsqueeze(2), self.sin[positions].unsqueeze(2)
        for i, layer in enumerate(self.layers):
            h = _norm(x, layer.norm_1, s.eps)
            qkv = adapted_linear(h, layer.qkv, layer.qkv_bias, f"{i}.qkv", adapters, segments).view(rows, t, -1)
            q, k, v = self._heads(layer, qkv, cos, sin)
            cache.k[i, :, :, slot : slot + t] = k.transpose(1, 2)
            cache.v[i, :, :, slot : slot + t] = v.transpose(1, 2)
            mixed = self._look_back(q, cache.k[i, :, :, : slot + t], cache.v[i, :, :, : slot + t], mask)
            x = adapted_linear(mixed, layer.o, x, f"{i}.o", adapters, segments)
            h = _norm(x, layer.norm_2, s.eps)
            gate, up = adapted_linear(h, layer.gate_up, None, f"{i}.gate_up", adapters, segments).chunk(2, -1)
            x = adapted_linear(F.silu(gate) * up, layer.down, x, f"{i}.down", adapters, segments)
        return _norm(x, self.norm, s.eps).view(rows, t, -1)

    def _heads(self, layer: Layer, qkv: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, t, fused) → rotated q (B, t, H, d), rotated k and v (B, t, K, d)."""
        s = self.shape
        qk, v = qkv.view(*qkv.shape[:2], -1, s.head).split([s.heads + s.kv_heads, s.kv_heads], 2)
        if layer.q_norm is not None and layer.k_norm is not None:
            q, k = qk.split([s.heads, s.kv_heads], 2)
            return rotate(_norm(q, layer.q_norm, s.eps), cos, sin), rotate(_norm(k, layer.k_norm, s.eps), cos, sin), v
        q, k = rotate(qk, cos, sin).split([s.heads, s.kv_heads], 2)
        return q, k, v

    def _look_back(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """Attention of (B, t, H, head) over (B, K, T, head), query heads grouped by their key head; (B·t, q_width)."""
        s, (rows, t, _, _) = self.shape, q.shape
        group = s.heads // s.kv_heads
        q = q.reshape(rows, t, s.kv_heads, group, s.head).permute(0, 2, 3, 1, 4).reshape(rows, s.kv_heads, group * t, s.head)
        scores = torch.matmul(q, k.transpose(-1, -2)).mul_(s.head**-0.5).view(rows, s.kv_heads, group, t, -1)
        scores += mask.view(rows, 1, 1, t, -1)
        weights = torch.softmax(scores, -1).view(rows, s.kv_heads, group * t, -1)
        out = torch.matmul(weights, v).view(rows, s.kv_heads, group, t, s.head)
        return out.permute(0, 3, 1, 2, 4).reshape(rows * t, s.q_width)


class _SmallSteps:
    """The small steps under way, in whichever thread, and torch's number of threads outside them.

    Each thread has a number of its own, but a new one takes the number that anybody set last. So whoever finds 1 while
    others are inside takes the number from before the first of them, and sets it on leaving, as everybody does.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._outside = threading.Lock(), 0, 1

    def enter(self) -> int:
        """Go on with one thread; the number to leave with, 1 where there is nothing to do."""
        with self._lock:
            threads = torch.get_num_threads()
            if threads == 1 and self._inside:
                threads = self._outside
            if threads > 1:
                self._outside = self._outside if self._inside else threads
                self._inside += 1
                torch.set_num_threads(1)
            return threads

    def leave(self, threads: int) -> None:
        with self._lock:
            self._inside -= 1
            torch.set_num_threads(threads)


_SMALL_STEPS = _SmallSteps()


@contextmanager
def _threads_for(flop: int, device: torch.device) -> Iterator[None]:
    """One thread for a small step on a CPU: waking a sleeping thread takes 0.1 ms, and a step has a hundred products."""
    small = device.type == "cpu" and flop <= SMALL_STEP
    threads = _SMALL_STEPS.enter() if small else 1
    try:
        yield
    finally:
        if threads > 1:
            _SMALL_STEPS.leave(threads)


def _norm(x: Tensor, w: Tensor, eps: float) -> Tensor:
    if not torch.is_grad_enabled():  # an autograd function costs several times what there is to compute in a decode step
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        r = torch.linalg.vecdot(wide, wide).div_(x.shape[-1]).add_(eps).rsqrt_().unsqueeze_(-1)
        return (wide * r).to(x.dtype).mul_(w)
    return _RMSNorm.apply(x, w, eps)  # type: ignore[return-value]
