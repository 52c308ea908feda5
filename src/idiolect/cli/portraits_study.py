"""`idiolect game study`: simulated players play, and are drawn; a report of what that comes to."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from idiolect.cli.options import BaseOption, DeviceOption, DtypeOption, JsonOption, given, wants_json
from idiolect.cli.output import duration, emit, private_folder, say
from idiolect.cli.progress import stages
from idiolect.errors import InputError

KeepOption = Annotated[
    str | None, typer.Option("--store", metavar="FOLDER", help="Keep the stores here, in a new folder; else they are deleted.")
]


def study(
    ctx: typer.Context,
    out_: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the report's own new folder goes.")],
    teachers: Annotated[int, typer.Option("--teachers", metavar="N", help="Who teach the shared adapters.")] = 5,
    subjects: Annotated[int, typer.Option("--subjects", metavar="N", help="Whose portraits are drawn.")] = 6,
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", help="Rounds of words of each.")] = 60,
    judge_rounds: Annotated[int, typer.Option("--judge-rounds", metavar="N", help="Rounds of Nym or Not of each.")] = 8,
    seeds: Annotated[str, typer.Option("--seeds", metavar="N,N…", help="Seeds, each with a crowd of its own.")] = "0,1",
    kinds: Annotated[
        str, typer.Option("--kinds", metavar="NAMES", help="Kinds of minds, which take turns: stylised, honest …")
    ] = "stylised,honest",
    words: Annotated[int, typer.Option("--words", metavar="N", help="Base words of each relation in the game.")] = 30,
    store: KeepOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Do portraits find anything? Simulated players play four weeks and are drawn; leave a report in DIR.

    Each seed has a new store. An adapter is offered by the same rule as to people.
    """
    from idiolect.cli.evals import typed
    from idiolect.cli.evaluating import read_seeds
    from idiolect.cli.unlearn import loaded_base
    from idiolect.machine import hardware, versions
    from idiolect.portraits.drawing import Settings
    from idiolect.portraits.study import Plan, run
    from idiolect.portraits.study_report import write

    named = tuple(name.strip() for name in kinds.split(",") if name.strip())
    plan = Plan(teachers, subjects, rounds, judge_rounds, tuple(read_seeds(seeds)), named, words)
    plan.check()
    _must_be_new(out_, "--out")
    with _folder(store or given(ctx).store) as folder:
        loaded = loaded_base(ctx, base, device, dtype)
        settings = Settings()
        with stages() as shown:
            found = run(loaded, plan, folder, shown, settings)
    about = {
        "base": loaded.name, "command": typed(ctx), "hardware": hardware(), "versions": versions(),
        "settings": {"k": settings.k, "max_examples": settings.max_examples,
                     "task": settings.task.model_dump(mode="json"), "user": settings.user.model_dump(mode="json")},
    }  # fmt: skip
    results = write(found, plan, out_, about)
    if wants_json(ctx, json):
        return emit(results)
    say(results["verdict"])
    say(f"{duration(found.seconds)}; report: {out_ / 'report.md'}")


@contextmanager
def _folder(keep: str | None) -> Iterator[Path]:
    """Where the stores are made: a new folder that stays, or one that goes. Never a store that is there: in a study, programs
    pass for people.

    Raises:
        InputError: it is no new folder.
    """
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="idiolect-study-") as made:
            yield Path(made)
        return
    if "://" in keep:
        raise InputError("a study makes stores of its own, in a folder: give a new folder with --store, not a database")
    _must_be_new(Path(keep), "--store")
    private_folder(Path(keep))
    yield Path(keep)


def _must_be_new(folder: Path, option: str) -> None:
    """Say before the work, not after it, that a folder is taken, or cannot be made.

    Raises:
        InputError: it is there, or lies under a file.
    """
    if folder.exists():
        raise InputError(f"{str(folder)!r} exists; a study makes its own folder: choose another {option}, or remove it")
    at = next(place for place in folder.absolute().parents if place.exists())
    if not at.is_dir():
        raise InputError(f"{str(folder)!r} cannot be a folder: {at.name!r} is a file; choose another {option}")
