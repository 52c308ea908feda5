"""From what was acquired to a result: an adapter, or merged weights.

    θ_u(λ) = θ_o - λ · (alpha / rank) A B

As an adapter that is the same A with every B times -λ: no second model, reversible, and λ can be changed without training. In
weights, the sum is computed in float64 and rounded once. The base is never changed.

Whoever holds an open base and the result of a negation can add it back and has the model that learnt what was to be forgotten.
Where the target is itself an adapter, the two are written as one whose factors are mixed (`compact`), so that without the
target they cannot be told apart; against an open base nothing helps but not to publish.

Source: Liu et al. 2024 (SKU), arXiv:2402.10058, knowledge negation; Ilharco et al. 2022, arXiv:2212.04089.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from idiolect.errors import FileFormatError, MismatchError, ShapeError
from idiolect.model.adapter import Layout, Site
from idiolect.model.algebra import concat
from idiolect.model.base import Base
from idiolect.types import canonical_json

WARNING = (
    "the acquired vector holds what was to be forgotten: whoever has it and the base can restore it. Keep it secret, and "
    "do not publish the result of a negation beside an open base."
)

_COPIED = ("config.json", "generation_config.json", "*.model", "*.jinja", "*.txt", "merges.txt", "vocab.json", "tokenizer*")
"""Files of a base that say what it is, beside its weights."""


def weighted(layout: Layout, row: Tensor, weight: float) -> Tensor:
    """The row whose update is weight · ΔW: every B times the weight. -1 negates; twice is the identity."""
    out = row.clone()
    for _, b in layout.matrices(out).values():
        b.mul_(weight)
    return out


def compact(sites: list[Site], layout: Layout, row: Tensor) -> tuple[Layout, Tensor]:
    """The same update with its factors mixed, (layout of scale 1, row): A B = Q R B = Q' (R' …), by singular values.

    Of equal rank, and exact but for rounding. What had been put side by side can no longer be taken apart.

    Raises:
        ShapeError: the row is not this layout's.
    """
    whole = Layout.of(sites, layout.rank, float(layout.rank), layout.targets)
    out = torch.zeros(whole.size, dtype=row.dtype)
    mine = whole.matrices(out)
    for name, (a, b) in layout.matrices(row).items():
        left, r = torch.linalg.qr(a.double())
        u, s, vh = torch.linalg.svd(r @ b.double() * layout.scale, full_matrices=False)
        n = len(s)  # of a module narrower than the rank there are fewer
        mine[name][0][:, :n] = (left @ u) * s.sqrt()
        mine[name][1][:n] = s.sqrt().unsqueeze(1) * vh
    return whole, out


def together(
    sites: list[Site], under: tuple[Layout, Tensor], layout: Layout, row: Tensor, weight: float
) -> tuple[Layout, Tensor]:
    """One adapter for a target adapter and what was unlearned on top of it; ranks add up, factors are mixed."""
    return compact(sites, *concat(sites, [(*under, 1.0), (layout, row, weight)]))


def merge_into_weights(base: Base, layout: Layout, row: Tensor, weight: float, folder: Path) -> None:
    """Write the base with weight · ΔW added as a folder in Hugging Face's format: a base of its own, whole or not at all.

    One weight file is in memory at a time. Every module must be found, once, with its shape.

    Raises:
        FileFormatError: the folder is there already, or cannot be written.
        MismatchError: a module's weight is missing in the base's files, or has another shape.
    """
    updates = {f"{name}.weight": (a, b) for name, (a, b) in layout.matrices(row).items()}

    def change(key: str, tensor: Tensor) -> Tensor:
        return changed(key, tensor, *updates.pop(key), layout.scale * weight) if key in updates else tensor

    with new_base(base, folder) as staged:
        for file in sorted(base.path.glob("*.safetensors")):
            write_changed(file, staged / file.name, change)
        if updates:
            raise MismatchError(
                f"{len(updates)} modules of the adapter are not in the base's files (the first: {next(iter(updates))!r}); "
                "is it this base's adapter?"
            )


@contextmanager
def new_base(base: Base, folder: Path) -> Iterator[Path]:
    """Where to put the weights of a base that is described as this one is; `folder` in the end, whole or not at all.

    Raises:
        FileFormatError: the folder is there already, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileFormatError(f"{str(folder)!r} is there already; choose another folder for the merged weights")
    staged = folder.with_name(folder.name + ".part")
    shutil.rmtree(staged, ignore_errors=True)
    try:
        staged.mkdir(mode=0o700, parents=True)
        yield staged
        for pattern in (*_COPIED, "*.safetensors.index.json"):
            for file in base.path.glob(pattern):
                shutil.copyfile(file, staged / file.name)
        if folder.exists():
            folder.rmdir()
        staged.rename(folder)
    except OSError as error:
        raise FileFormatError(f"{str(folder)!r} cannot be written ({error.strerror}); nothing stays there") from None
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def write_changed(source: Path, target: Path, change: Callable[[str, Tensor], Tensor]) -> None:
    """One weight file with every tensor changed, given its name; what comes back unchanged is written as it was."""
    try:
        with safe_open(source, framework="pt") as held:
            tensors = {key: held.get_tensor(key) for key in held.keys()}  # noqa: SIM118
            meta = held.metadata()
    except SafetensorError as error:
        raise FileFormatError(f"base weights {source.name} cannot be read: {str(error)[:120]}") from None
    for key in tensors:
        tensors[key] = change(key, tensors[key])
    save_file(tensors, target, metadata=meta)


def changed(key: str, weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """W + scale · (A B)ᵀ, (O, D), in W's dtype: summed in float64, rounded once.

    Raises:
        ShapeError: A B is of another shape; MismatchError: W is not made of floating-point numbers.
    """
    if not weight.is_floating_point():
        raise MismatchError(
            f"{key}: {str(weight.dtype).removeprefix('torch.')} weights cannot be added to; unquantise them first"
        )
    if (b.shape[1], a.shape[0]) != tuple(weight.shape):
        raise ShapeError(f"{key}: the adapter's update is {b.shape[1]}×{a.shape[0]}, the weight {tuple(weight.shape)}")
    return (weight.double() + scale * (a.double() @ b.double()).t()).to(weight.dtype).contiguous()


def write_note(folder: Path, note: Mapping[str, object]) -> None:
    """What a merged base came from, beside its weights."""
    (folder / "unlearning.json").write_text(
        json.dumps(json.loads(canonical_json(dict(note))), indent=1) + "\n", encoding="utf-8"
    )
