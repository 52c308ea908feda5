"""`idiolect pieces list`, `export`, `import` and `inspect`: pools, what was assembled from them, and what was given away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from idiolect.cli.options import (
    BaseOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    StoreOption,
    VariantOption,
    open_house,
    wants_json,
)
from idiolect.cli.output import count, emit, note, one_line, out, say, size, table
from idiolect.cli.pieces import app, pool_document
from idiolect.cli.progress import busy
from idiolect.errors import InputError

if TYPE_CHECKING:
    from idiolect.pieces.views import AdapterView, PoolView
    from idiolect.service import Idiolect
    from idiolect.store.records import PoolRow


# --------------------------------------------------------------------------------------------------------------- list


@app.command("list")
def list_(
    ctx: typer.Context,
    user: Annotated[str | None, typer.Option("--user", help="What this person shares.")] = None,
    exports: Annotated[
        bool, typer.Option("--exports", help="Folders and files that adapters and pools were written to; --user: a person's.")
    ] = False,
    stale: Annotated[bool, typer.Option("--stale", help="--exports: only those that hold what was withdrawn since.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List pools; or, with --user, the pieces that a person shares; or, with --exports, what was written to other places."""
    if stale and not exports:
        raise InputError("--stale is about exports; give --exports with it")
    with open_house(ctx, store) as house:
        if user is not None:
            house.store.require_person(user)
        if exports:
            return _list_exports(house, user, stale, wants_json(ctx, json))
        if user is not None:
            return _list_person(house, user, wants_json(ctx, json))
        pools = house.store.pools()
    if wants_json(ctx, json):
        return emit([pool_document(row) for row in pools])
    if not pools:
        return note("there is no pool yet; share pieces: idiolect pieces share USER --task TASK")
    columns = ("pool", "task", "base", "task adapter", "rank", "pieces", "people", "imports", "size")
    right = ("rank", "pieces", "people", "imports", "size")
    out().print(table(columns, map(_pool_cells, pools), right=right))


def _list_person(house: Idiolect, user: str, json: bool) -> None:
    rows = house.store.pieces_of(user)
    if json:
        return emit([asdict(row) for row in rows])
    if not rows:
        return note(f"user {user!r} shares nothing; share pieces: idiolect pieces share USER --task TASK")
    cells = ((str(r.id), r.pool[:12], r.module, (r.adapter or "–")[:12], r.created.strftime("%Y-%m-%d %H:%M")) for r in rows)
    out().print(table(("piece", "pool", "module", "adapter", "shared"), cells, flexible=("module",)))


def _list_exports(house: Idiolect, user: str | None, stale: bool, json: bool) -> None:
    rows = [row for row in house.store.exports(True if stale else None) if user in (None, row.user_id)]
    if json:
        return emit([asdict(row) for row in rows])
    if not rows:
        return note("no export is on record" + (" that holds what was withdrawn" if stale else ""))
    cells = (
        (r.kind, r.digest[:12], r.user_id or "–", r.place, "●" if r.stale else "", r.created.strftime("%Y-%m-%d %H:%M"))
        for r in rows
    )
    out().print(table(("what", "digest", "person", "place", "stale", "written"), cells, flexible=("person", "place")))


def _pool_cells(row: PoolRow) -> tuple[str, ...]:
    key = row.key
    numbers = (str(key["rank"]), f"{row.n_pieces:,}", f"{row.n_people:,}", f"{row.n_origins:,}", size(row.size_bytes))
    return (row.digest[:12], key["task"], key["base"][:12], (key["task_adapter"] or "–")[:12], *numbers)


# ----------------------------------------------------------------------------------------------------- files in and out


@app.command()
def export(
    ctx: typer.Context,
    pool: Annotated[str, typer.Argument(metavar="POOL", help="The pool's digest, or how it begins.")],
    out_: Annotated[Path, typer.Option("--out", metavar="FILE", help="A safetensors file; a pool's file there is replaced.")],
    note_: Annotated[str, typer.Option("--note", metavar="TEXT", help="Kept in the file, e.g. the terms of use.")] = "",
    store: StoreOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Write a pool as one file that says nothing of whose pieces they are."""
    with open_house(ctx, store, base, device, dtype) as house:
        done = house.pieces.export(pool, out_, note_)
        row = next(row for row in house.store.pools() if row.digest == done.digest)
    n_bytes = Path(done.place).stat().st_size
    if wants_json(ctx, json):
        return emit({"pool": row.digest, "file": done.place, "n_pieces": row.n_pieces, "size_bytes": n_bytes})
    say(f"{row.digest[:12]} → {out_}: {count(row.n_pieces, 'piece')}, {size(n_bytes)}")


@app.command("import")
def import_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `idiolect pieces export` wrote.")],
    store: StoreOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Take a pool's file in, all of it or nothing."""
    with open_house(ctx, store, base, device, dtype) as house:
        done = house.pieces.import_pool(file)
    if wants_json(ctx, json):
        return emit({"pool": done.pool, **asdict(done.counts), "note": done.note, "usable": done.usable})
    counts = done.counts
    say(f"pool {done.pool[:12]}: {count(counts.n_new, 'new piece')}, {counts.n_known:,} there already")
    if counts.n_withdrawn:
        note(f"{count(counts.n_withdrawn, 'piece')} left out: their owners withdrew them from this store")
    if done.note:
        note(f"its note: {one_line(done.note)}")
    if not done.usable:
        note("its task adapter is not in this store: nothing can be assembled from it until the same one is trained here")


# ------------------------------------------------------------------------------------------------------------ inspect


@app.command()
def inspect(
    ctx: typer.Context,
    which: Annotated[str, typer.Argument(metavar="USER|DIGEST", help="A person (with --task), an adapter, or a pool.")],
    task: Annotated[str | None, typer.Option("--task", metavar="TASK", help="For a person.")] = None,
    variant: VariantOption = "k0",
    store: StoreOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Show which pieces an assembled adapter cites, or what a pool holds and costs."""
    from idiolect.data.tasks import get_task

    with open_house(ctx, store, base, device, dtype) as house:
        if task is not None:
            get_task(task)
            house.store.require_person(which)
        elif house.store.has_person(which):
            raise InputError(f"{which!r} is a person; say for which task: --task TASK")
        busy(f"loading {house.base_name} …")
        from idiolect.pieces.views import AdapterView

        view = house.pieces.inspect(which, task, variant)
    asked_json = wants_json(ctx, json)
    if isinstance(view, AdapterView):
        return emit(_adapter_facts(view)) if asked_json else _show_adapter(view)
    return emit(_pool_facts(view)) if asked_json else _show_pool(view)


def _adapter_facts(view: AdapterView) -> dict[str, Any]:
    said = view.manifest.settings
    return {
        "digest": view.digest,
        "user": view.manifest.user_id,
        "task": view.manifest.task,
        "is_head": view.is_head,
        **{name: said[name] for name in ("pool", "pool_version", "k", "temperature", "combine")},
        "strength": said.get("strength", 1.0),
        "stale": view.stale,
        "size_bytes": view.size_bytes,
        "n_history": view.n_history,
        "modules": {name: [list(pair) for pair in cited] for name, cited in view.entries.items()},
    }


def _show_adapter(view: AdapterView) -> None:
    said = view.manifest.settings
    n = len({piece for cited in view.entries.values() for piece, _ in cited})
    facts = {
        "digest": view.digest + (", in use" if view.is_head else ""),
        "person": view.manifest.user_id,
        "task": view.manifest.task,
        "pool": f"{said['pool'][:12]}, "
        + ("changed since: assemble again to read it as it is" if view.stale else "as it is now"),
        "made by": f"k {said['k']}, temperature {said['temperature']:g}, strength {said.get('strength', 1.0):g}, "
        + said["combine"],
        "made from": f"{count(view.n_history, 'item')}; {count(n, 'piece')}",
        "size": size(view.size_bytes),
    }
    _say_facts(facts)
    width = max((len(cited) for cited in view.entries.values()), default=0)
    columns = ("module", *(f"piece {i + 1}" for i in range(width)), *(f"weight {i + 1}" for i in range(width)))
    rows = (_entry_cells(name, cited, width) for name, cited in view.entries.items())
    out().print(table(columns, rows, right=columns[1:], flexible=("module",)))


def _entry_cells(module: str, cited: Sequence[tuple[int, float]], width: int) -> list[str]:
    empty = [""] * (width - len(cited))
    return [module, *(str(p) for p, _ in cited), *empty, *(f"{w:.3f}" for _, w in cited), *empty]


def _pool_facts(view: PoolView) -> dict[str, Any]:
    return {
        **pool_document(view.row),
        "per_module": dict(view.per_module),
        "n_adapters": view.n_adapters,
        "record_bytes": view.record_bytes,
        "own_bytes": view.own_bytes,
        "break_even": view.break_even,
        "ratio": {str(n): ratio for n, ratio in view.ratios.items()},
    }


def _show_pool(view: PoolView) -> None:
    row, key = view.row, view.row.key
    low, high = min(view.per_module.values()), max(view.per_module.values())
    each = f"{low}" if low == high else f"{low}–{high}"
    imports = f", and {count(row.n_origins, 'file')} from elsewhere" if row.n_origins else ""
    facts = {
        "pool": row.digest,
        "task": key["task"],
        "base": f"{key['base'][:12]}, task adapter {(key['task_adapter'] or 'none')[:12]}",
        "shape": f"rank {key['rank']}, alpha {key['alpha']:g} on {', '.join(key['targets'])}",
        "sharers": f"S = {row.n_people:,}{imports}",
        "pieces": f"{row.n_pieces:,}; {each} in each of {count(len(view.per_module), 'module')}",
        "size": f"{row.size_bytes / 2**20:.2f} MiB",
        "a record": f"{size(view.record_bytes)} per person, mean of {count(view.n_adapters, 'adapter')} assembled from it"
        if view.n_adapters
        else f"{size(view.record_bytes)} per person, at k = 3",
        "an own adapter": size(view.own_bytes),
        "pays from": f"{view.break_even:,.0f} people on",
    }
    _say_facts(facts)
    rows = ((f"{n:,}", f"{ratio:,.2f}") for n, ratio in view.ratios.items())
    out().print(table(("people", "own adapters / pool and records, bytes"), rows, right=("people",)))


def _say_facts(facts: dict[str, Any]) -> None:
    width = max(map(len, facts))
    for name, value in facts.items():
        say(f"{name:<{width}}  {value}")
