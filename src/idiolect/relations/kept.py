"""A trained model as a folder: model.json and arrays in safetensors; tier 4 as a PEFT folder inside. Never a pickle.

Files of the folder:
    model.json          arm, labels, temperature, what it was trained on, its figures, what it fits
    head.safetensors    tiers 1 and 2
    adapter/            tier 4, as PEFT reads it
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idiolect.errors import BaseMismatch, FileFormatError, MismatchError
from idiolect.game.vocabulary import vocabulary
from idiolect.relations.classifier import ARMS, Features, HeadModel, RelationModel, joined
from idiolect.relations.floor import floor
from idiolect.relations.head import Head

if TYPE_CHECKING:
    from idiolect.model.base import Base

MODEL, ARRAYS, ADAPTER = "model.json", "head.safetensors", "adapter"
FORMAT = 1


@dataclass(frozen=True)
class Kept:
    """A model that was read, with what its folder says of it."""

    model: RelationModel
    facts: Mapping[str, Any]


def features_of(arm: str, base: Base | None) -> Features:
    """The features of tier 1 or 2."""
    if arm == "floor":
        return floor()
    from idiolect.relations.encoder import Encoder

    assert base is not None
    return Encoder(base) if arm == "encoder" else joined([floor(), Encoder(base)])


def needs_base(arm: str) -> bool:
    """Whether the arm computes with a base."""
    return arm != "floor"


def write_model(model: RelationModel, folder: Path, facts: Mapping[str, Any], base: Base | None = None) -> None:
    """Write a model, whole or not at all.

    Args:
        folder: must not exist yet, or be empty.
        facts: what it was trained on, and its figures; JSON.
        base: that of tier 2.

    Raises:
        FileFormatError: there is something in the folder already, or it cannot be written.
    """
    from safetensors.numpy import save_file

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            part = Path(temporary) / "model"
            part.mkdir()
            if isinstance(model, HeadModel):
                said = {"arm": model.arm, "temperature": model.head.temperature}
                save_file({name: array.copy() for name, array in model.head.arrays().items()}, part / ARRAYS)
            else:
                from idiolect.model.files import write_peft
                from idiolect.relations.adapter import AdapterModel

                assert isinstance(model, AdapterModel)
                base = model.base
                said = {"arm": model.arm, "temperature": model.temperature, "seed": model.seed, "listed": model.listed}
                write_peft(part / ADAPTER, model.layout, model.row, base.name)
            note = {
                "format": FORMAT, **said, "labels": list(model.labels), "vocabulary": vocabulary().version,
                "origin": base.origin if base is not None else {}, **facts,
            }  # fmt: skip
            (part / MODEL).write_text(json.dumps(note, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            os.replace(part, folder)
    except OSError as error:
        raise FileFormatError(
            f"{str(folder)!r} cannot be written ({error.strerror or type(error).__name__}); choose another --out"
        ) from None


def read_facts(folder: Path) -> dict[str, Any]:
    """What a folder says of its model, without reading the model.

    Raises:
        FileFormatError: it is no such folder, or of a later version.
    """
    try:
        note = json.loads((folder / MODEL).read_text(encoding="utf-8"))
        if note["format"] != FORMAT or note["arm"] not in ARMS or not all(isinstance(label, str) for label in note["labels"]):
            raise ValueError
        float(note["temperature"])
    except (OSError, ValueError, KeyError, TypeError):
        raise FileFormatError(
            f"{str(folder)!r} holds no relation model of this version; give a folder that idiolect relations train wrote"
        ) from None
    return note


def read_model(folder: Path, base: Base | None = None) -> Kept:
    """Read a model.

    Args:
        base: for every arm but the floor.

    Raises:
        FileFormatError: a file is missing or damaged.
        MismatchError: it was trained with another vocabulary.
        BaseMismatch: it was trained on another base, or none is given.
    """
    note = read_facts(folder)
    arm = note["arm"]
    if arm in ("floor", "both") and note["vocabulary"] != vocabulary().version:
        raise MismatchError(
            f"{folder.name} was trained with vocabulary {note['vocabulary']!r}, and this is {vocabulary().version!r}; "
            "train it again"
        )
    if needs_base(arm):
        if base is None:
            raise BaseMismatch(f"{folder.name} needs base {note['origin'].get('base_name', '?')!r}; give it with --base")
        base.accept_origin(note["origin"], folder.name)
    if arm == "adapter":
        return Kept(_read_adapter(folder, note, base), note)
    head = Head.of_arrays(_arrays(folder), float(note["temperature"]))
    model = HeadModel(arm, tuple(note["labels"]), features_of(arm, base), head)
    if head.biases[-1].shape[0] != len(model.labels) or len(head.mean) != model.features([("a", "b")]).shape[1]:
        raise FileFormatError(f"{folder.name}: the arrays do not fit labels or features; train it again")
    return Kept(model, note)


def _read_adapter(folder: Path, note: Mapping[str, Any], base: Base | None) -> RelationModel:
    from idiolect.model.files import read_peft
    from idiolect.relations.adapter import AdapterModel

    assert base is not None
    layout, row = read_peft(folder / ADAPTER, base.model.sites())
    labels, temperature = tuple(note["labels"]), float(note["temperature"])
    return AdapterModel(labels, base, layout, row, temperature, int(note["seed"]), bool(note["listed"]))


def _arrays(folder: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(folder / ARRAYS)
    except (OSError, SafetensorError) as error:
        raise FileFormatError(f"{folder.name}: {ARRAYS} cannot be read ({type(error).__name__}); train it again") from None
