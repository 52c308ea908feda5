"""`idiolect doctor`: whether this machine, store and base are fit to work, and what to do where they are not."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import typer
from rich.table import Table
from rich.text import Text

from idiolect.cli.options import (
    DEFAULT_BASE,
    BaseOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    StoreOption,
    given,
    wants_json,
)
from idiolect.cli.output import count, emit, one_line, out, size
from idiolect.errors import IdiolectError

Verdict = Literal["ok", "warn", "fail"]

_STYLES: dict[Verdict, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}
_EXTRAS = {
    "local": ("matplotlib", "rouge_score", "safetensors", "scipy", "tokenizers", "torch", "transformers"),
    "serve": ("argon2", "fastapi", "httpx", "jinja2", "multipart", "uvicorn"),
    "postgres": ("psycopg",),
    "bench": ("accelerate", "peft", "psutil"),
}
_LITTLE_MEMORY = 2**30


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Place:
    """What is to be looked at."""

    store: str | None
    base: str
    device: str | None
    dtype: str | None


def doctor(
    ctx: typer.Context,
    store: StoreOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Look at machine, libraries, store and base; exit 1 if something does not work."""
    first = given(ctx)
    place = Place(store or first.store, base or first.base or DEFAULT_BASE, device or first.device, dtype or first.dtype)
    checks = list(examine(place))
    if wants_json(ctx, json):
        emit([asdict(check) for check in checks])
    else:
        out().print(_report(checks))
    if any(check.verdict == "fail" for check in checks):
        raise typer.Exit(1)


def examine(place: Place) -> Iterator[Check]:
    """Every check, in order; one that breaks is a failed check, not the end of the examination."""
    examinations: tuple[Callable[[Place], Check], ...] = (
        _python, _torch, _device, _memory, _base, _store_folder, _store, _extra("local"), _extra("postgres"), _extra("bench"),
    )  # fmt: skip
    for examination in examinations:
        try:
            yield examination(place)
        except IdiolectError as error:
            name = examination.__name__.strip("_").replace("_", " ")
            yield Check(name, "fail", f"{type(error).__name__}: {one_line(str(error))}")


def _report(checks: list[Check]) -> Table:
    made = Table.grid(padding=(0, 2))
    made.add_column(no_wrap=True)
    made.add_column(no_wrap=True)
    made.add_column()
    for check in checks:
        found = Text(check.found)
        if check.advice:
            found.append(f"\n→ {check.advice}")
        made.add_row(Text(f"{check.verdict:<4}", style=_STYLES[check.verdict]), Text(check.name), found)
    return made


# ------------------------------------------------------------------------------------------------------------ machine


def _python(place: Place) -> Check:
    found = f"Python {platform.python_version()}, idiolect {version('idiolect')}, {platform.system()} {platform.machine()}"
    return Check("python", "ok", found)


def _torch(place: Place) -> Check:
    if find_spec("torch") is None:
        return Check("torch", "warn", "not installed; histories can be kept, nothing trained", "pip install 'idiolect[local]'")
    import torch

    from idiolect.machine import cores

    policy = os.environ.get("OMP_WAIT_POLICY", "not set")
    threads = f"{count(torch.get_num_threads(), 'thread')} on {count(cores(), 'usable core')}"
    found = f"torch {torch.__version__}, {threads}, waiting {policy.lower()}"
    if torch.get_num_threads() > cores():
        return Check("torch", "warn", found, f"more threads than cores slow each other down: OMP_NUM_THREADS={cores()}")
    return Check("torch", "ok", found)


def _device(place: Place) -> Check:
    if find_spec("torch") is None:
        return Check("device", "warn", "unknown without torch")
    from idiolect.model.base import choose_device

    device, dtype = choose_device(place.device, place.dtype)
    return Check("device", "ok", f"{device}, {str(dtype).removeprefix('torch.')}")


def _memory(place: Place) -> Check:
    if find_spec("torch") is None:
        return Check("memory", "warn", "unknown without torch")
    from idiolect.model.base import choose_device
    from idiolect.train.memory import free_bytes

    device, _ = choose_device(place.device, place.dtype)
    free = free_bytes(device)
    if free < _LITTLE_MEMORY:
        return Check("memory", "warn", f"{size(free)} free on {device}", "fewer people fit side by side; close other programs")
    return Check("memory", "ok", f"{size(free)} free on {device}")


# ----------------------------------------------------------------------------------------------------- base and store


def _base(place: Place) -> Check:
    if find_spec("torch") is None:
        return Check("base", "warn", "cannot be loaded without torch")
    from idiolect.model.base import load_base

    base = load_base(place.base, device=place.device, dtype=place.dtype)
    return Check("base", "ok", f"{base.name} ({base.fingerprint[:12]}), context {base.context:,} tokens")


def _store_folder(place: Place) -> Check:
    """Whether files can be written where adapters go; makes nothing that stays."""
    folder = _folder(place)
    if folder is None:
        return Check("store folder", "ok", "a database server keeps the store")
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Check("store folder", "fail", f"cannot write to {there}: {error.strerror}", "choose another --store FOLDER")
    disk = os.statvfs(there)
    return Check("store folder", "ok", f"{folder} is writable, {size(disk.f_bavail * disk.f_frsize)} free")


def _store(place: Place) -> Check:
    from idiolect.store.store import Store
    from idiolect.store.tables import REVISION

    folder = _folder(place)
    if folder is not None and not (folder / "idiolect.db").exists():
        return Check("store", "ok", f"none yet at {folder}; the first import makes one")
    with Store.open(place.store) as store:
        people = count(len(store.people()), "person", "people")
        adapters = count(len(store.adapters()), "adapter")
        if n := sum(row.state != "done" for row in store.forgettings()):
            found = f"{store.place}: {count(n, 'forgetting')} cut off halfway"
            return Check("store", "warn", found, "go on with it: idiolect forget --resume")
        return Check("store", "ok", f"{store.place}: schema {REVISION}, {people}, {adapters}")


def _folder(place: Place) -> Path | None:
    """The store's folder; None if it is on a server."""
    import platformdirs

    where = place.store or os.environ.get("IDIOLECT_STORE") or platformdirs.user_data_dir("idiolect")
    return None if "://" in where else Path(where).expanduser().absolute()


# ------------------------------------------------------------------------------------------------------------- extras


def _extra(name: str) -> Callable[[Place], Check]:
    def examination(place: Place) -> Check:
        missing = [module for module in _EXTRAS[name] if find_spec(module) is None]
        if missing:
            return Check(f"extra {name}", "warn", f"without {', '.join(missing)}", f"pip install 'idiolect[{name}]'")
        return Check(f"extra {name}", "ok", ", ".join(f"{module} {_version(module)}" for module in _EXTRAS[name]))

    return examination


def _version(module: str) -> str:
    try:
        return version(module.replace("_", "-"))
    except PackageNotFoundError:
        return "?"
