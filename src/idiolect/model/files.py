"""Adapters as files: the flat record that the store keeps, and PEFT's folder in and out. Safetensors only."""

from __future__ import annotations

import io
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor

from idiolect.errors import FileFormatError, ShapeError
from idiolect.model.adapter import Layout, Site
from idiolect.types import canonical_json

EXPORTED = "idiolect.json"
"""What an export says of itself, beside PEFT's files."""

_HEADER = 10**8
"""Bytes that safetensors allows a header."""

_PREFIX = "base_model.model."
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Ways to draw an adapter that leave the base as it is; PiSSA, OLoRA and their like take from the base what they begin with."""


@dataclass(frozen=True)
class Record:
    """What a record file holds.

    Attributes:
        layout: as a dict; `layout_of` makes it a layout of a base.
        row: (P,).
        origin: what it was made on, `Base.origin` then; empty in records that were written without.
    """

    layout: Mapping[str, Any]
    row: Tensor
    origin: Mapping[str, str]


def to_record(layout: Layout, row: Tensor, origin: Mapping[str, str] | None = None) -> bytes:
    """One flat tensor with its layout in the header: loads ten times faster than one tensor per matrix.

    Args:
        origin: what it was made on (`Base.origin`), so that whoever loads it can see whether it belongs there.
    """
    meta = {"layout": layout.key} | ({"origin": canonical_json(dict(origin))} if origin else {})
    return _in_order(save({"row": row.detach().to("cpu", torch.float32).contiguous()}, metadata=meta))


def _in_order(data: bytes) -> bytes:
    """The same file with its header sorted: safetensors writes metadata in an order that changes from call to call, and equal
    adapters must be equal bytes, in every store.
    """
    size = int.from_bytes(data[:8], "little")
    header = canonical_json(json.loads(data[8 : 8 + size])).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def read_record(source: Path | bytes) -> Record:
    """What a record holds: a file, or its bytes where it was encrypted.

    Raises:
        FileFormatError: it is not such a record.
    """
    try:
        if isinstance(source, bytes):
            meta, row = header_of(source), load(source)["row"]
            return Record(json.loads(meta["layout"]), row, json.loads(meta.get("origin", "{}")))
        with safe_open(source, framework="pt") as tensors:
            meta = tensors.metadata() or {}
            return Record(json.loads(meta["layout"]), tensors.get_tensor("row"), json.loads(meta.get("origin", "{}")))
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        name = "an encrypted file" if isinstance(source, bytes) else source.name
        raise FileFormatError(f"{name}: not an adapter record ({type(error).__name__}); train the adapter again") from None


def header_of(source: Path | bytes) -> dict[str, str]:
    """What a safetensors file, or its bytes, says of itself; empty where it says nothing, or is no such file."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as handle:
            size = int.from_bytes(handle.read(8), "little")
            return dict(json.loads(handle.read(min(size, _HEADER)))["__metadata__"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def from_record(source: Path | bytes) -> tuple[Mapping[str, Any], Tensor]:
    """(layout as a dict, row (P,)) of a record. Raises FileFormatError."""
    record = read_record(source)
    return record.layout, record.row


def layout_of(record: Mapping[str, Any], sites: Sequence[Site]) -> Layout:
    """The layout on this base of a record made on it.

    Raises:
        ShapeError: the record's modules are not this base's.
    """
    layout = Layout.of(sites, record["rank"], record["alpha"], record["targets"])
    if layout.to_dict() != dict(record):
        raise ShapeError("the adapter's modules have other names or widths than this base's; it was made for another base")
    return layout


def write_peft(folder: Path, layout: Layout, row: Tensor, base_name: str, extra: Mapping[str, Any] | None = None) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors` as PEFT reads them. Whole or not at all.

    Args:
        folder: must not exist yet, or be empty.
        extra: written beside them as EXPORTED (the manifest).

    Raises:
        FileFormatError: there is something in the folder already, or it cannot be written.
    """
    tensors = {}
    for name, (a, b) in layout.matrices(row.detach().to("cpu", torch.float32)).items():
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = a.t().contiguous()
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = b.t().contiguous()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": layout.rank,
        "lora_alpha": layout.alpha,
        "lora_dropout": 0.0,
        "target_modules": list(layout.targets),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            part = Path(temporary) / "adapter"
            part.mkdir()
            save_file(tensors, part / "adapter_model.safetensors", metadata={"format": "pt"})
            (part / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            if extra is not None:
                (part / EXPORTED).write_text(json.dumps(extra, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            _put(part, folder)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise FileFormatError(f"{folder} cannot be written ({why}); choose another --out") from None


def _put(part: Path, folder: Path) -> None:
    try:
        os.replace(part, folder)
    except OSError:
        raise FileFormatError(f"{folder} exists and is not an empty folder; choose another --out") from None


def read_peft(folder: Path, sites: Sequence[Site]) -> tuple[Layout, Tensor]:
    """The layout and row of a PEFT LoRA folder, on a base with these sites.

    Raises:
        FileFormatError: a file is missing, pickled or unreadable, or the adapter is of a kind not read here.
        TargetMismatch, ShapeError: modules or widths that this base does not have.
    """
    _check_files(folder)
    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "adapter_model.safetensors")
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except KeyError as error:
        raise FileFormatError(f"{folder.name}: adapter_config.json: {error.args[0]} is missing") from None
    except (OSError, ValueError, TypeError, OverflowError, SafetensorError) as error:
        raise FileFormatError(f"{folder.name}: not a PEFT folder with safetensors ({type(error).__name__})") from None
    if rank < 1 or not math.isfinite(alpha):
        raise FileFormatError(f"{folder.name}: adapter_config.json: r is {rank} and lora_alpha {alpha:g}, which no adapter has")
    for key, plain in {"peft_type": "LORA", "bias": "none", "use_dora": False, "fan_in_fan_out": False}.items():
        if config.get(key, plain) != plain:
            raise FileFormatError(f"{folder.name}: adapter_config.json: {key} is {config[key]!r}; only {plain!r} is read")
    if config.get("rank_pattern") or config.get("alpha_pattern") or config.get("modules_to_save"):
        raise FileFormatError(f"{folder.name}: adapter_config.json: per-module ranks or saved modules are not read")
    if config.get("alora_invocation_tokens") or config.get("init_lora_weights") not in _PLAIN_STARTS:
        raise FileFormatError(f"{folder.name}: adapter_config.json: activated LoRA and changed bases are not read; convert it")
    found = {k.removeprefix(_PREFIX).rsplit(".lora_", 1)[0] for k in tensors}
    targets = tuple(sorted({name.rsplit(".", 1)[-1] for name in found}))
    # Rank-stabilised LoRA scales by alpha / sqrt(r): the same update with another alpha.
    layout = Layout.of(sites, rank, alpha * (rank**0.5 if config.get("use_rslora") else 1), targets)
    expected = {site.name for group in layout.groups for site in group.sites}
    if found != expected:
        raise FileFormatError(f"{folder.name}: its modules are not this base's: {len(found ^ expected)} differ")
    halves = {f"{_PREFIX}{name}.lora_{half}.weight" for name in found for half in "AB"}
    if tensors.keys() != halves:
        raise FileFormatError(f"{folder.name}: {len(tensors.keys() ^ halves)} tensors are missing or of another kind")
    if not tensors or any(tensor.ndim != 2 for tensor in tensors.values()):
        raise FileFormatError(f"{folder.name}: adapter_model.safetensors holds something else than pairs of matrices")
    if n := sum(rank not in tensor.shape for tensor in tensors.values()):  # before a row is made that large
        raise ShapeError(f"{folder.name}: adapter_config.json: r is {rank}, and {n} of its matrices do not fit that")
    pairs = {n: (tensors[f"{_PREFIX}{n}.lora_A.weight"].t(), tensors[f"{_PREFIX}{n}.lora_B.weight"].t()) for n in found}
    row = layout.row_of(pairs)
    if not bool(row.isfinite().all()):
        raise FileFormatError(f"{folder.name}: holds numbers that are not finite; its training diverged, so train it again")
    return layout, row


def _check_files(folder: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            pickled = (folder / "adapter_model.bin").exists() and name != "adapter_config.json"
            why = "adapter_model.bin is a pickle, and never loaded; save it as safetensors" if pickled else f"{name} is missing"
            raise FileFormatError(f"{folder.name}: not a PEFT folder with safetensors: {why}")
