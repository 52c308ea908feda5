"""`idiolect train`: an adapter for each person (stage 2), or the task adapter under them (`--stage task`)."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from idiolect.cli.options import (
    BaseOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    MaxHistoryOption,
    PresetOption,
    StoreOption,
    TaskOption,
    module_names,
    open_house,
    settings,
    tell_modules,
    training_options,
    wants_json,
)
from idiolect.cli.output import count, duration, emit, note, out, say, table
from idiolect.cli.progress import busy, training
from idiolect.errors import InputError

if TYPE_CHECKING:
    from idiolect.house import TrainingOptions
    from idiolect.service import Idiolect
    from idiolect.store.records import AdapterRow
    from idiolect.train.stages import StageReport

_SHOWN = 60


def train(
    ctx: typer.Context,
    users: Annotated[list[str] | None, typer.Argument(metavar="[USER]...", help="Whom to train; or --all.")] = None,
    *,
    task: TaskOption,
    all_: Annotated[bool, typer.Option("--all", help="Everybody in the store.")] = False,
    stage: Annotated[
        Literal["user", "task"], typer.Option("--stage", help="user: one adapter each; task: the one under them.")
    ] = "user",
    data: Annotated[Path | None, typer.Option("--data", help="Stage task: file or folder of base people.")] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="USER", help="Stage task: leave out; may be repeated.")
    ] = None,
    max_examples: Annotated[
        int, typer.Option("--max-examples", min=1, help="Stage task: train on at most this many.")
    ] = 20_000,
    preset: PresetOption = "default",
    rank: Annotated[int | None, typer.Option("--rank", help="Rank of the adapter.")] = None,
    alpha: Annotated[float | None, typer.Option("--alpha", help="The update is scaled by alpha / rank.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Learning rate.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over a person's items.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Items per step of a person.")] = None,
    targets: Annotated[str | None, typer.Option("--targets", metavar="NAMES", help="Target modules: q_proj,v_proj …")] = None,
    dropout: Annotated[float | None, typer.Option("--dropout", help="Dropout before the adapter.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of everything random.")] = None,
    slots: Annotated[int | None, typer.Option("--slots", help="People trained side by side (what fits).")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", help="Bound of prompt and answer together.")] = None,
    retriever: Annotated[
        str, typer.Option("--retriever", metavar="NAME", help="Earlier items in each prompt: none, bm25, recency, random.")
    ] = "none",
    k: Annotated[int | None, typer.Option("--k", min=0, help="How many of them (1 with a retriever).")] = None,
    max_history: MaxHistoryOption = None,
    bare: Annotated[bool, typer.Option("--bare", help="On the base itself, without a task adapter.")] = False,
    store: StoreOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Train people's adapters, all together; a second identical command does no work twice.

    First the task adapter from people who are nobody's targets (--stage task --data FILE), then --all or single people.
    """
    overrides = settings(
        rank=rank, alpha=alpha, learning_rate=lr, epochs=epochs, batch_size=batch_size, targets=module_names(targets),
        dropout=dropout, seed=seed, slots=slots, max_tokens=max_tokens,
    )  # fmt: skip
    options = training_options(preset, overrides, retriever, k, max_history)
    chosen = list(dict.fromkeys(users or ()))
    _check_scope(stage, chosen, all_, data, bare)
    with open_house(ctx, store, base, device, dtype) as house:
        if stage == "task":
            people = [p.id for p in house.people()] if all_ else chosen
            _train_task(house, task, options, data, people, exclude or [], max_examples, wants_json(ctx, json))
        else:
            _train_people(house, None if all_ else chosen, task, options, bare, wants_json(ctx, json))


def _check_scope(stage: str, users: list[str], everybody: bool, data: Path | None, bare: bool) -> None:
    """Say at once what does not go together, before anything is loaded."""
    if everybody and users:
        raise InputError("give either --all or people's ids, not both")
    if stage == "user" and not (everybody or users):
        raise InputError("name the people to train, or give --all; see who is there: idiolect history list")
    if stage == "user" and data is not None:
        raise InputError("--data belongs to --stage task; people's own histories are imported: idiolect history import FILE")
    if stage == "task" and data is not None and (everybody or users):
        raise InputError("give stage 1 its base people either by --data or by id, not both")
    if stage == "task" and bare:
        raise InputError("--bare belongs to stage user; stage 1 always starts from the bare base")


# ---------------------------------------------------------------------------------------------------------- stage 1


def _train_task(
    house: Idiolect,
    task: str,
    options: TrainingOptions,
    data: Path | None,
    users: list[str],
    exclude: list[str],
    max_examples: int,
    json: bool,
) -> None:
    before = {row.digest for row in house.store.adapters(kind="task")}
    busy(f"loading {house.base_name} and reading base people …")
    began = time.monotonic()
    tell_modules(house, "task", options, "--targets")
    with training(f"stage 1 · {task}", 1) as progress:
        digest = house.train_task(
            task, data, options, users=users, exclude=exclude, max_examples=max_examples, on_progress=progress
        )
    row = next(row for row in house.store.adapters(kind="task") if row.digest == digest)
    new = digest not in before
    if json:
        return emit({"task": row.task, "digest": digest, "new": new, "variant": row.variant, **_figures(row)})
    columns = ("task adapter", "task", "base", "variant", "steps", "loss", "seconds", "digest")
    stats = row.stats
    cells = ("made" if new else "there already", row.task, row.base_name, row.variant, *_cells(stats), digest[:12])
    out().print(table(columns, [cells], right=("steps", "loss", "seconds")))
    note(f"{duration(time.monotonic() - began)}; next, an adapter each: idiolect train --all --task {row.task}")


# ---------------------------------------------------------------------------------------------------------- stage 2


def _train_people(
    house: Idiolect, users: list[str] | None, task: str, options: TrainingOptions, bare: bool, json: bool
) -> None:
    sizes = {p.id: p.n_items for p in house.people()}
    n_people = len(sizes if users is None else sizes.keys() & set(users))
    if users is not None:
        for user in users:
            house.store.require_person(user)
    busy(f"loading {house.base_name} …")
    began = time.monotonic()
    tell_modules(house, "user", options, "--targets")
    with training(f"stage 2 · {task}", n_people) as progress:
        report = house.train(users, task, options, bare=bare, on_progress=progress)
    seconds = time.monotonic() - began
    rows = {row.digest: row for row in house.adapters() if row.digest in set(report.adapters.values())}
    if json:
        emit(_report(report, rows, sizes, seconds))
    else:
        _print(report, rows, sizes, seconds)
    for user, problem in report.problems.items():
        note(f"idiolect: {user}: {problem}")
    if report.problems:
        note(f"{count(len(report.problems), 'person', 'people')} could not be trained; everybody else's adapter is kept")
        raise typer.Exit(InputError.exit_code)


def _print(report: StageReport, rows: dict[str, AdapterRow], sizes: dict[str, int], seconds: float) -> None:
    people = report.made or report.kept
    columns = ("person", "items", "steps", "loss", "seconds", "digest")
    cells = (
        (user, f"{sizes[user]:,}", *_cells(rows[digest].stats), digest[:12]) for user, digest in list(people.items())[:_SHOWN]
    )
    if people:
        out().print(table(columns, cells, right=("items", "steps", "loss", "seconds")))
    if len(people) > _SHOWN:
        note(f"… and {count(len(people) - _SHOWN, 'more person', 'more people')}; see all: idiolect adapters list --limit 0")
    parts = [f"{len(report.made):,} trained", f"{len(report.kept):,} there already", f"{len(report.problems):,} not trained"]
    say(f"{', '.join(parts)} in {duration(seconds)}" + (f"; {report.tokens:,} tokens" if report.tokens else ""))
    if report.n_too_long:
        note(f"{count(report.n_too_long, 'item')} did not fit and were left out; raise --max-tokens")


def _report(report: StageReport, rows: dict[str, AdapterRow], sizes: dict[str, int], seconds: float) -> dict[str, Any]:
    people = [
        {"user": user, "n_items": sizes[user], "digest": digest, "new": user in report.made, **_figures(rows[digest])}
        for user, digest in report.adapters.items()
    ]
    return {
        "people": people,
        "n_made": len(report.made),
        "n_kept": len(report.kept),
        "problems": report.problems,
        "n_too_long": report.n_too_long,
        "tokens": report.tokens,
        "seconds": round(seconds, 2),
    }


def _figures(row: AdapterRow) -> dict[str, Any]:
    return {name: row.stats.get(name) for name in ("steps", "loss", "tokens", "seconds")}


def _cells(stats: Any) -> tuple[str, str, str]:
    """Steps, loss and seconds as text."""
    return f"{stats.get('steps', 0):,.0f}", f"{stats.get('loss', math.nan):.3f}", f"{stats.get('seconds', 0):.2f}"
