"""Pieces: adapters cut up by module, pooled, and applied from the pool.

    adapter + gates ──cut──▶ pieces (A, B, gate of one module) ──▶ Pool
    Record {module: [(piece, weight) …]} + Pool ──▶ Cited (a batch's updates, computed from the pool's own tensors)
                                             └────▶ a plain adapter's row, for export

A person's adapter from pieces is ΔW = (alpha / rank) Σ_s w_s A_s B_s at each module. That is one low-rank product over the
pieces that a batch cites, with the weights in between, so no row of numbers is ever made for a person who is served:

    y += scale · ((x [A_1 … A_n]) ∘ w[owner]) [B_1; …; B_n]

Source: Tan et al. 2024 (Per-Pcs), arXiv:2406.10471, with the sum of products in place of the product of sums.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from idiolect.errors import FileFormatError, PieceNotFound, ShapeError
from idiolect.model.adapter import GateLayout, Layout, Site
from idiolect.model.files import header_of
from idiolect.model.lora import Segments
from idiolect.types import canonical_json, digest_of

Combine = Literal["delta", "factor"]
"""How pieces add up: Σ w A B ("delta"), or (Σ w A)(Σ w B) ("factor", as the reference code of Per-Pcs has it)."""

Entries = Mapping[str, Sequence[tuple[int, float]]]
"""For each module, the pieces cited and their weights, the heaviest first."""


@dataclass(frozen=True)
class PoolKey:
    """What all pieces of one pool have in common, so that any of them fits any other's place."""

    task: str
    base: str
    task_adapter: str | None
    rank: int
    alpha: float
    targets: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "base": self.base,
            "task_adapter": self.task_adapter,
            "rank": self.rank,
            "alpha": self.alpha,
            "targets": list(self.targets),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(**{**data, "targets": tuple(data["targets"])})

    @cached_property
    def digest(self) -> str:
        return digest_of(self.to_dict())


def cut(layout: Layout, row: Tensor, gates: Tensor) -> dict[str, bytes]:
    """One adapter's pieces: for each module, its body.

    Args:
        row: the adapter's, (P,).
        gates: of the same layout's GateLayout.
    """
    vectors = GateLayout(layout).vectors(gates)
    return {name: packed(a, b, vectors[name]) for name, (a, b) in layout.matrices(row).items()}


def packed(*tensors: Tensor) -> bytes:
    """A piece's body: A (D, R), B (R, O) and gate (D,) as float32, one after the other."""
    return b"".join(t.detach().cpu().contiguous().numpy().astype("<f4").tobytes() for t in tensors)


@dataclass(frozen=True)
class _Shelf:
    """All pieces of one module, in order of their ids. a: (n, D, R); b: (n, R, O); gates, unit: (n, D)."""

    site: Site
    ids: tuple[int, ...]
    a: Tensor
    b: Tensor
    gates: Tensor

    @cached_property
    def unit(self) -> Tensor:
        return normalised(self.gates)

    @cached_property
    def place(self) -> dict[int, int]:
        return {piece: i for i, piece in enumerate(self.ids)}


def normalised(x: Tensor) -> Tensor:
    """(x - mean) / standard deviation over the last axis, exactly: no epsilon, which would make small vectors smaller.

    A constant vector has no direction, and becomes zeros. In float32 at least.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    rounding = 8 * torch.finfo(x.dtype).eps * x.abs().amax(-1, keepdim=True)
    x = x - x.mean(-1, keepdim=True)
    # By the largest first: squares of very small numbers are zero in float32. What rounding leaves of a constant is nothing.
    top = x.abs().amax(-1, keepdim=True)
    x = torch.where(top > rounding, x / torch.where(top > 0, top, 1), 0)
    deviation = x.square().mean(-1, keepdim=True).sqrt()
    return x / torch.where(deviation > 0, deviation, 1)


def directions(layout: Layout, gates: Tensor) -> Tensor:
    """Gates of which only the direction is published, (…, P): each module's with mean 0 and standard deviation 1."""
    rows = gates.reshape(-1, gates.shape[-1]).clone()
    for row in rows:
        for vector in GateLayout(layout).vectors(row).values():
            vector.copy_(normalised(vector))
    return rows.view_as(gates)


class Pool:
    """The pieces of one key as tensors. Immutable.

    Args:
        sites: the base's.
        pieces: (id, module, body) in any order; a body is what `cut` made.

    Raises:
        ShapeError: a body that is not of its module's size, or holds a number that is not finite; a module that the key does
            not target; an id that occurs twice.
    """

    def __init__(
        self,
        key: PoolKey,
        sites: Sequence[Site],
        pieces: Iterable[tuple[int, str, bytes]],
        device: torch.device | None = None,
    ) -> None:
        self.key = key
        self.layout = Layout.of(sites, key.rank, key.alpha, key.targets)
        self.device = device or torch.device("cpu")
        self._sites = list(sites)
        places = {site.name: site for group in self.layout.groups for site in group.sites}
        found: dict[str, list[tuple[int, bytes]]] = {name: [] for name in places}
        for piece, module, body in sorted(pieces):
            if module not in places:
                raise ShapeError(f"piece {piece} is of module {module!r}, which this pool does not have")
            found[module].append((piece, body))
        self.modules = {name: _shelf(places[name], key.rank, mine, self.device) for name, mine in found.items() if mine}
        owners = [piece for shelf in self.modules.values() for piece in shelf.ids]
        if len(set(owners)) != len(owners):
            raise ShapeError("a piece's id occurs twice in this pool")

    def __len__(self) -> int:
        return sum(len(shelf.ids) for shelf in self.modules.values())

    def __contains__(self, piece: int) -> bool:
        return any(piece in shelf.place for shelf in self.modules.values())

    @cached_property
    def version(self) -> str:
        """Changes whenever a piece comes or goes: a digest of the ids."""
        return digest_of([self.key.to_dict(), {name: list(shelf.ids) for name, shelf in self.modules.items()}])

    @cached_property
    def size_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(t.numel() * 4 for shelf in self.modules.values() for t in (shelf.a, shelf.b, shelf.gates))

    def bodies(self) -> list[tuple[int, str, bytes]]:
        """(id, module, body) of every piece: what this pool can be made from again."""
        return [
            (piece, name, packed(shelf.a[i], shelf.b[i], shelf.gates[i]))
            for name, shelf in self.modules.items()
            for i, piece in enumerate(shelf.ids)
        ]

    def only(self, pieces: Iterable[int]) -> Pool:
        """The pool of these pieces alone."""
        kept = set(pieces)
        return Pool(self.key, self._sites, [body for body in self.bodies() if body[0] in kept], self.device)

    def with_gates(self, gates: Mapping[str, Tensor]) -> Pool:
        """The same pieces with other gates, (n, D) per module, e.g. random ones as a control."""
        twin = Pool(self.key, self._sites, [], self.device)
        twin.modules = {
            name: _Shelf(shelf.site, shelf.ids, shelf.a, shelf.b, gates[name].to(shelf.gates))
            for name, shelf in self.modules.items()
        }
        return twin

    def require(self, entries: Entries) -> None:
        """Raises PieceNotFound if any piece cited is gone."""
        for module, cited in entries.items():
            shelf = self.modules.get(module)
            for piece, _ in cited:
                if shelf is None or piece not in shelf.place:
                    raise PieceNotFound(
                        f"piece {piece} is no longer in the pool; assemble the adapter again: idiolect pieces assemble"
                    )

    def adapter(self, entries: Entries, combine: Combine = "delta") -> tuple[Layout, Tensor]:
        """The cited pieces as one plain adapter, (layout, row).

        "delta": rank k·R, A side by side, B with their weights one on the other: ΔW is exactly Σ w ΔW_s. "factor": rank R.

        Raises:
            PieceNotFound: a cited piece is gone.
        """
        self.require(entries)
        rank, k = self.key.rank, max((len(cited) for cited in entries.values()), default=0) or 1
        if combine == "factor":
            k = 1
        # The same alpha / rank as the pieces: with weight 1, a piece's numbers stay as they are.
        layout = Layout.of(self._sites, k * rank, k * self.key.alpha, self.key.targets)
        row = torch.zeros(layout.size)
        matrices = layout.matrices(row)
        for module, cited in entries.items():
            shelf, (a, b) = self.modules.get(module), matrices[module]
            for i, (piece, weight) in enumerate(cited):
                assert shelf is not None
                at = shelf.place[piece]
                if combine == "factor":
                    a += weight * shelf.a[at].cpu()
                    b += weight * shelf.b[at].cpu()
                else:
                    a[:, i * rank : (i + 1) * rank] = shelf.a[at]
                    b[i * rank : (i + 1) * rank] = weight * shelf.b[at]
        return layout, row


def _shelf(site: Site, rank: int, pieces: Sequence[tuple[int, bytes]], device: torch.device) -> _Shelf:
    sizes = (site.d_in * rank, rank * site.d_out, site.d_in)
    for piece, body in pieces:
        if len(body) != 4 * sum(sizes):
            raise ShapeError(
                f"piece {piece} holds {len(body)} bytes; a piece of {site.name} at rank {rank} has {4 * sum(sizes)}"
            )
    numbers = torch.from_numpy(np.frombuffer(b"".join(body for _, body in pieces), dtype="<f4").astype(np.float32))
    numbers = numbers.view(len(pieces), sum(sizes))
    if not bool(numbers.isfinite().all()):
        bad = next(piece for (piece, _), row in zip(pieces, numbers, strict=True) if not bool(row.isfinite().all()))
        raise ShapeError(f"piece {bad} of {site.name} holds numbers that are not finite")
    a, b, gates = (part.to(device) for part in numbers.split(sizes, 1))
    ids = tuple(piece for piece, _ in pieces)
    return _Shelf(site, ids, a.reshape(-1, site.d_in, rank), b.reshape(-1, rank, site.d_out), gates.contiguous())


# ------------------------------------------------------------------------------------------------------------ applied


@dataclass(frozen=True)
class Part:
    """One module's cited pieces and each row's weights. a: (D, n·R); b: (n·R, O), scaled; weights: (rows, n)."""

    site: Site
    a: Tensor
    b: Tensor
    weights: Tensor

    @classmethod
    def of(cls, shelf: _Shelf, scale: float, cited: Sequence[Sequence[tuple[int, float]]], dtype: torch.dtype) -> Part:
        """cited: each row's pieces and weights at this module."""
        union = sorted({piece for entries in cited for piece, _ in entries})
        column = {piece: i for i, piece in enumerate(union)}
        weights = torch.zeros(len(cited), len(union), dtype=dtype)
        for i, entries in enumerate(cited):
            for piece, weight in entries:
                weights[i, column[piece]] = weight
        at = torch.tensor([shelf.place[piece] for piece in union], dtype=torch.long, device=shelf.a.device)
        a = shelf.a.index_select(0, at).permute(1, 0, 2).reshape(shelf.site.d_in, -1).to(dtype)
        b = shelf.b.index_select(0, at).reshape(-1, shelf.site.d_out).to(dtype) * scale
        return cls(shelf.site, a, b, weights.to(shelf.a.device))

    def add(self, y: Tensor, x: Tensor, owner: Tensor) -> None:
        """Add this module's update to its columns of y, (N, O). owner: row of each token, (N,)."""
        h = torch.mm(x.to(self.a.dtype), self.a)
        n = self.weights.shape[1]
        h.view(len(x), n, -1).mul_(self.weights.index_select(0, owner).unsqueeze(-1))
        columns = y[:, self.site.column : self.site.column + self.site.d_out]
        columns += torch.mm(h, self.b).to(y.dtype)


@dataclass(frozen=True)
class Cited:
    """A batch's adapters, each a list of cited pieces, computed from the pool (`Rows` of model/lora.py)."""

    parts: Mapping[str, tuple[Part, ...]]

    @classmethod
    def of(cls, pool: Pool, rows: Sequence[Entries | None], dtype: torch.dtype) -> Cited:
        """One row per entry, in their order; None adds nothing.

        Raises:
            PieceNotFound: a cited piece is gone.
        """
        for entries in rows:
            pool.require(entries or {})
        parts: dict[str, tuple[Part, ...]] = {}
        for group in pool.layout.groups:
            found = []
            for site in group.sites:
                cited = [(entries or {}).get(site.name, ()) for entries in rows]
                if any(cited):
                    found.append(Part.of(pool.modules[site.name], pool.layout.scale, cited, dtype))
            if found:
                parts[group.name] = tuple(found)
        return cls(parts)

    def has(self, name: str) -> bool:
        return name in self.parts

    def add(self, y: Tensor, x: Tensor, name: str, segments: Segments) -> None:
        for part in self.parts[name]:
            part.add(y, x, segments.of_tokens)

    def select(self, rows: Tensor) -> Cited:
        return Cited(
            {
                name: tuple(Part(p.site, p.a, p.b, p.weights.index_select(0, rows)) for p in parts)
                for name, parts in self.parts.items()
            }
        )


# ------------------------------------------------------------------------------------------------------------ records


@dataclass(frozen=True)
class Record:
    """What is kept of an assembled adapter: which pieces, and how much of each.

    Attributes:
        key: of the pool.
        version: of the pool then.
        entries: every module of the pool's layout, in its order.
        n_history: examples that were read.
    """

    key: PoolKey
    version: str
    k: int
    temperature: float
    entries: Entries = field(repr=False)
    combine: Combine = "delta"
    n_history: int = 0

    @property
    def pieces(self) -> tuple[int, ...]:
        """Every piece cited, once."""
        return tuple(sorted({piece for cited in self.entries.values() for piece, _ in cited}))

    def to_bytes(self, tokenizer: str = "") -> bytes:
        """As a safetensors file of 12 bytes per cited piece and a short header.

        Args:
            tokenizer: digest of the one that the history was read with, so that another is noticed; "": not checked.
        """
        modules = list(self.entries)
        wide = max((len(cited) for cited in self.entries.values()), default=0)
        ids = torch.zeros(len(modules), wide, dtype=torch.int64)
        weights = torch.full((len(modules), wide), float("nan"))
        for i, module in enumerate(modules):
            for j, (piece, weight) in enumerate(self.entries[module]):
                ids[i, j], weights[i, j] = piece, weight
        about = {
            "key": self.key.to_dict(),
            "version": self.version,
            "modules": hashlib.sha256("\n".join(modules).encode()).hexdigest()[:16],
            "settings": [self.k, self.temperature, self.combine, self.n_history],
            "tokenizer": tokenizer,
        }
        # One entry: several would stand in an order that changes from one process to the next.
        return save({"pieces": ids, "weights": weights}, metadata={"pool": canonical_json(about)})

    @classmethod
    def from_bytes(cls, data: bytes, sites: Sequence[Site]) -> Record:
        """The record again.

        Raises:
            FileFormatError: the bytes are not a record.
            ShapeError: the record is of another base.
        """
        try:
            tensors = load(data)
            about = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["pool"])
            key = PoolKey.from_dict(about["key"])
            k, temperature, combine, n_history = about["settings"]
            ids, weights = tensors["pieces"], tensors["weights"]
            version, digest = about["version"], about["modules"]
        except (SafetensorError, KeyError, ValueError, TypeError, IndexError) as error:
            raise FileFormatError(f"not an assembly record ({type(error).__name__}); assemble the adapter again") from None
        layout = Layout.of(sites, key.rank, key.alpha, key.targets)
        modules = [site.name for group in layout.groups for site in group.sites]
        if hashlib.sha256("\n".join(modules).encode()).hexdigest()[:16] != digest or len(modules) != len(ids):
            raise ShapeError("the record's modules are not this base's; it was assembled for another base")
        entries = {
            module: tuple((piece, weight) for piece, weight in zip(row, heavy, strict=True) if weight == weight)
            for module, row, heavy in zip(modules, ids.tolist(), weights.tolist(), strict=True)
        }
        return cls(key, version, k, temperature, entries, combine, n_history)


def read_assembled(source: Path | bytes, sites: Sequence[Site]) -> tuple[Record, dict[str, str]]:
    """A record's file, or its bytes: the record, and what it was made on, as `Base.accept_origin` takes it.

    Raises:
        FileFormatError: the file is not a record.
        ShapeError: the record is of another base.
    """
    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        name = "an encrypted file" if isinstance(source, bytes) else source.name
        raise FileFormatError(f"{name}: not an assembly record ({type(error).__name__}); assemble it again") from None
    record = Record.from_bytes(data, sites)
    origin = {"base": record.key.base, "task_adapter": record.key.task_adapter or ""}
    tokenizer = json.loads(header_of(data)["pool"])["tokenizer"]
    return record, origin | ({"tokenizer": tokenizer} if tokenizer else {})
