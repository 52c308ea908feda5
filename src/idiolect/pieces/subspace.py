"""A pool in fewer numbers: the pieces of one module share two bases, and each keeps its coordinates.

    ΔW_s = A_s B_s  ≈  U (Uᵀ A_s) (B_s V) Vᵀ        U (D, p), V (O, p) shared;  Uᵀ A_s (p, R) and B_s V (R, p) each piece's own

U and V hold the directions that the module's updates use most: the first left singular vectors of [ΔW_1 … ΔW_n] side by side,
and the first right ones of the same one on the other. They come from the A's and B's stacked, weighed by what they are
multiplied with, because a first A is drawn at random and says nothing until its B does. Gates are kept as they are.

Source: Kaushik et al. 2025 (EigenLoRAx), arXiv:2502.04700, with one basis for each side of the update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import save
from torch import Tensor

from idiolect.errors import ConfigError
from idiolect.model.adapter import Site
from idiolect.model.pieces import Pool, packed


@dataclass(frozen=True)
class Compressed:
    """A pool in a shared subspace.

    Attributes:
        pool: its pieces as they come out of it, under their own ids.
        bytes_before: of the pool's tensors.
        bytes_after: of a safetensors file with bases, coordinates and gates.
        error: ‖ΔW − ΔW'‖ / ‖ΔW‖ over all pieces.
    """

    pool: Pool
    bytes_before: int
    bytes_after: int
    error: float


def compress(pool: Pool, sites: Sequence[Site], directions: int) -> Compressed:
    """The pool with at most `directions` shared directions on each side of each module.

    Args:
        sites: the base's.

    Raises:
        ConfigError: no direction at all.
    """
    if directions < 1:
        raise ConfigError(f"a subspace of {directions} directions is none; give at least 1")
    tensors: dict[str, Tensor] = {}
    bodies: list[tuple[int, str, bytes]] = []
    gap = whole = 0.0
    for name, shelf in pool.modules.items():
        a, b = shelf.a.double(), shelf.b.double()
        left, right = bases(a, b, directions)
        inner_a, inner_b = left.t() @ a, b @ right
        new_a, new_b = left @ inner_a, inner_b @ right.t()
        gap += float((a @ b - new_a @ new_b).square().sum())
        whole += float((a @ b).square().sum())
        stored = {"u": left, "v": right, "a": inner_a, "b": inner_b, "gates": shelf.gates}
        tensors |= {f"{name}.{part}": t.to("cpu", torch.float32).contiguous() for part, t in stored.items()}
        bodies += [(piece, name, packed(new_a[i], new_b[i], shelf.gates[i])) for i, piece in enumerate(shelf.ids)]
    error = (gap / whole) ** 0.5 if whole else 0.0
    return Compressed(Pool(pool.key, sites, bodies, pool.device), pool.size_bytes, len(save(tensors)), error)


def bases(a: Tensor, b: Tensor, directions: int) -> tuple[Tensor, Tensor]:
    """U (D, p) and V (O, p) of one module's pieces, a (n, D, R) and b (n, R, O), both orthonormal."""
    # B_sᵀ = Q_s R_s with Q_s orthonormal: A_s B_s = (A_s R_sᵀ) Q_sᵀ has the left singular vectors of A_s R_sᵀ, of R columns.
    _, r_b = torch.linalg.qr(b.transpose(1, 2))
    _, r_a = torch.linalg.qr(a)
    left = (a @ r_b.transpose(1, 2)).permute(1, 0, 2).flatten(1)
    right = (b.transpose(1, 2) @ r_a.transpose(1, 2)).permute(1, 0, 2).flatten(1)
    return _leading(left, directions), _leading(right, directions)


def _leading(x: Tensor, directions: int) -> Tensor:
    return torch.linalg.svd(x, full_matrices=False)[0][:, :directions]
