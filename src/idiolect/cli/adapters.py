"""`idiolect adapters`: list, show, export, import and roll back what was learned."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from idiolect.cli.options import (
    BaseOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    StoreOption,
    TaskOption,
    VariantOption,
    open_house,
    wants_json,
)
from idiolect.cli.output import count, emit, note, out, say, size, table
from idiolect.errors import InputError

if TYPE_CHECKING:
    from idiolect.service import Idiolect
    from idiolect.store.records import AdapterRow

app = typer.Typer(no_args_is_help=True, help="List, show, export, import and roll back adapters.")

_LIST = 50

DigestArgument = Annotated[str, typer.Argument(metavar="DIGEST", help="The adapter's digest, or how it begins.")]
OptionalTask = Annotated[str | None, typer.Option("--task", metavar="TASK", help="Of this task only.")]


@app.command("list")
def list_(
    ctx: typer.Context,
    user: Annotated[str | None, typer.Option("--user", help="Of this person only.")] = None,
    task: OptionalTask = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Adapters to show; 0: all.")] = _LIST,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List adapters, newest first; ● marks those in use."""
    with open_house(ctx, store) as house:
        if user is not None:
            house.store.require_person(user)
        rows = house.adapters(user, task)
    shown = rows[:limit] if limit else rows
    if wants_json(ctx, json):
        return emit([asdict(row) for row in shown])
    if not rows:
        return note("there is no adapter yet; make one: idiolect train USER --task TASK")
    columns = ("", "digest", "kind", "person", "task", "base", "variant", "rank", "size", "loss", "made")
    out().print(table(columns, map(_cells, shown), right=("rank", "size", "loss"), flexible=("person",)))
    if len(shown) < len(rows):
        note(f"the newest {len(shown):,} of {count(len(rows), 'adapter')}; see all: idiolect adapters list --limit 0")


def _cells(row: AdapterRow) -> tuple[str, ...]:
    loss = f"{row.stats['loss']:.3f}" if "loss" in row.stats else "–"
    made = row.created.strftime("%Y-%m-%d %H:%M")
    person = row.user_id or f"({row.kind})"
    digest = row.digest[:12]
    return (
        "●" if row.is_head else "",
        digest,
        row.kind,
        person,
        row.task,
        row.base_name,
        row.variant,
        str(row.rank),
        size(row.size_bytes),
        loss,
        made,
    )


@app.command()
def show(ctx: typer.Context, digest: DigestArgument, store: StoreOption = None, json: JsonOption = False) -> None:
    """Show where an adapter came from and what it fits."""
    with open_house(ctx, store) as house:
        full = house.store.resolve(digest)
        manifest = house.store.manifest(full)
        row = next(row for row in house.store.adapters() if row.digest == full)
        parents = Counter(parent.kind for parent in house.store.parents(full))
        children = house.store.derived_from("task_adapter", full)
    if wants_json(ctx, json):
        return emit({**asdict(row), "manifest": manifest.to_dict(), "made_from": parents, "derived": children})
    facts = {
        "digest": full,
        "kind": row.kind + (", in use" if row.is_head else ""),
        "person": row.user_id or "nobody's",
        "task": f"{row.task}, {row.variant}",
        "base": f"{manifest.base_name} ({manifest.base[:12]})",
        "task adapter": (manifest.task_adapter or "none")[:12],
        "shape": f"rank {manifest.rank}, alpha {manifest.alpha:g} on {', '.join(manifest.targets)}",
        "size": size(row.size_bytes),
        "made": row.created.strftime("%Y-%m-%d %H:%M:%S"),
        "made from": ", ".join(f"{n:,} × {kind.replace('_', ' ')}" for kind, n in parents.items()) or "–",
        "made on top": count(len(children), "adapter"),
        "stats": ", ".join(f"{name} {value:,.6g}" for name, value in row.stats.items()) or "–",
        "settings": ", ".join(f"{name} {value}" for name, value in manifest.settings.items() if name not in _SAID),
    }
    width = max(map(len, facts))
    for name, value in facts.items():
        say(f"{name:<{width}}  {value}")


_SAID = frozenset({"rank", "alpha", "targets", "tokenizer"})
"""Settings that stand in another line, or say nothing to a reader."""


@app.command()
def export(
    ctx: typer.Context,
    which: Annotated[str, typer.Argument(metavar="DIGEST|USER", help="A digest; or, with --task, a person.")],
    out_: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="A new folder.")],
    task: OptionalTask = None,
    variant: VariantOption = "k0",
    alone: Annotated[bool, typer.Option("--alone", help="Without the task adapter that it was trained on.")] = False,
    store: StoreOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Write an adapter as a PEFT folder that loads on the raw base."""
    with open_house(ctx, store, base, device, dtype) as house:
        digest = _head(house, which, task, variant) if task else _digest(house, which)
        folder = house.export(digest, out_, alone=alone)
    files = sorted(path.name for path in folder.iterdir())
    if wants_json(ctx, json):
        return emit({"digest": digest, "folder": str(folder), "files": files})
    say(f"{digest[:12]} → {folder}: {', '.join(files)}")


@app.command("import")
def import_(
    ctx: typer.Context,
    user: Annotated[str, typer.Argument(help="Whose adapter it becomes.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="adapter_config.json and adapter_model.safetensors.")],
    task: TaskOption,
    bare: Annotated[bool, typer.Option("--bare", help="On the base itself, not on the task adapter in use.")] = False,
    store: StoreOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Take a PEFT folder in as a person's adapter, and put it into use; what was in use stays below it."""
    with open_house(ctx, store, base, device, dtype) as house:
        digest = house.import_adapter(user, folder, task=task, bare=bare)
        manifest = house.store.manifest(digest)
        row = next(row for row in house.adapters(user) if row.digest == digest)
    if wants_json(ctx, json):
        facts = {"task": row.task, "variant": row.variant, "task_adapter": manifest.task_adapter}
        return emit({"digest": digest, "user": user, **facts})
    on = f"task adapter {manifest.task_adapter[:12]}" if manifest.task_adapter else "the base itself"
    say(f"{user} now uses {digest[:12]} for {row.task}: rank {row.rank}, on {on}")


def _digest(house: Idiolect, which: str) -> str:
    """The full digest; a person's id without a task is a slip that deserves its own answer."""
    if which in {person.id for person in house.people()}:
        raise InputError(f"{which!r} is a person; say for which task: --task TASK")
    return house.store.resolve(which)


def _head(house: Idiolect, user: str, task: str, variant: str) -> str:
    from idiolect.data.tasks import get_task

    name = get_task(task).name
    house.store.require_person(user)
    return house.store.head(user, task=name, base=house.base.fingerprint, variant=variant)


@app.command()
def rollback(
    ctx: typer.Context,
    user: Annotated[str, typer.Argument(help="The person's id.")],
    task: TaskOption,
    variant: VariantOption = "k0",
    store: StoreOption = None,
    base: BaseOption = None,
    json: JsonOption = False,
) -> None:
    """Go back to the adapter that a person had before the one in use."""
    with open_house(ctx, store, base) as house:
        before = _head(house, user, task, variant)
        digest = house.rollback(user, task, variant)
    if wants_json(ctx, json):
        return emit({"user": user, "task": task, "digest": digest, "before": before})
    say(f"{user} now uses {digest[:12]}; before, {before[:12]}")
    note(f"back again: idiolect adapters use {before[:12]}")


@app.command()
def use(ctx: typer.Context, digest: DigestArgument, store: StoreOption = None, json: JsonOption = False) -> None:
    """Put an adapter into use, for its own person, task and base."""
    with open_house(ctx, store) as house:
        full = house.store.resolve(digest)
        house.store.set_head(full)
        manifest = house.store.manifest(full)
    if wants_json(ctx, json):
        return emit({"digest": full, "user": manifest.user_id, "task": manifest.task})
    say(f"{manifest.user_id or 'everybody'} now uses {full[:12]} for {manifest.task}")
