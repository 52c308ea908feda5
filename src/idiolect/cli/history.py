"""`idiolect history`: import, list, show and delete what people wrote. No torch."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from idiolect.cli.options import BaseOption, DeviceOption, DtypeOption, JsonOption, StoreOption, open_house, wants_json
from idiolect.cli.output import count, emit, note, out, say, table
from idiolect.cli.pieces import assembly_document, tell_reassembly
from idiolect.cli.progress import busy
from idiolect.errors import IdiolectError, InputError

if TYPE_CHECKING:
    from idiolect.pieces.newcomers import AssemblyReport
    from idiolect.service import Idiolect
    from idiolect.store.records import Affected, Deletion
    from idiolect.types import AdapterManifest, Item

app = typer.Typer(no_args_is_help=True, help="Import, list, show and delete people's histories.")

_LIST = 50
_SHOW = 20


@app.command("import")
def import_(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(help="LaMP or OPPU JSON, users.jsonl(.gz), plain JSONL of items, or a folder.")],
    task: Annotated[str | None, typer.Option("--task", metavar="TASK", help="Check every item for this task's fields.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Whose items they are, where the file does not say.")] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Import people's items and queries: all of a file, or nothing."""
    with open_house(ctx, store) as house:
        report = house.import_history(path, task=task, user=user)
        place = house.store.place
    if wants_json(ctx, json):
        return emit({**asdict(report), "path": str(path), "store": place})
    say(
        f"{count(report.n_people, 'person', 'people')} ({report.n_new_people:,} new): {count(report.n_items, 'new item')}, "
        f"{count(report.n_queries, 'new query', 'new queries')}, {count(report.n_duplicates, 'duplicate')}"
    )
    if report.n_conflicts:
        note(f"{count(report.n_conflicts, 'record')} had an id that was there with other content; the first one was kept")


@app.command("list")
def list_(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=0, help="People to show; 0: all.")] = _LIST,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List the people in the store."""
    with open_house(ctx, store) as house:
        people = house.people()
        place = house.store.place
    shown = people[:limit] if limit else people
    if wants_json(ctx, json):
        return emit([asdict(person) for person in shown])
    if not people:
        return note(f"nobody is in the store at {place}; import a history: idiolect history import FILE")
    rows = ((p.id, f"{p.n_items:,}", f"{p.n_queries:,}", p.first_date or "–", p.last_date or "–") for p in shown)
    columns = ("person", "items", "queries", "first", "last")
    out().print(table(columns, rows, right=("items", "queries")))
    if len(shown) < len(people):
        note(f"{len(shown):,} of {count(len(people), 'person', 'people')}; see all: idiolect history list --limit 0")


@app.command()
def show(
    ctx: typer.Context,
    user: Annotated[str, typer.Argument(help="The person's id.")],
    limit: Annotated[int, typer.Option("--limit", min=0, help="Newest items to show; 0: all.")] = _SHOW,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show a person's items, oldest first."""
    with open_house(ctx, store) as house:
        items = house.history(user)
    shown = items[-limit:] if limit else items
    if wants_json(ctx, json):
        return emit({"user": user, "n_items": len(items), "items": [_record(item) for item in shown]})
    if not items:
        return note(f"user {user!r} has no items; import a history: idiolect history import FILE --user {user}")
    names = list(dict.fromkeys(name for item in shown for name in item.fields))
    # Long texts share what is left of the line; short fields keep their width.
    long = [name for name in names if max(len(item.fields.get(name, "")) for item in shown) > _SHOW]
    rows = ([item.id, item.date or "–", *(item.fields.get(name, "")[:300] for name in names)] for item in shown)
    out().print(table(["item", "date", *names], rows, flexible=long))
    if len(shown) < len(items):
        note(f"the newest {len(shown):,} of {count(len(items), 'item')}; see all: --limit 0")


@app.command()
def delete(
    ctx: typer.Context,
    user: Annotated[str, typer.Argument(help="The person's id.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    no_reassemble: Annotated[
        bool, typer.Option("--no-reassemble", help="Leave those whose adapters cite their pieces with what they used before.")
    ] = False,
    store: StoreOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Forget a person: items, queries, adapters and what was derived from them. Others' that go with it are assembled anew."""
    with open_house(ctx, store, base, device, dtype) as house:
        house.store.require_person(user)
        if not yes:
            _ask(user, len(house.history(user)), len(house.adapters(user)))
        gone = house.delete_person(user)
        others = {digest: house.store.manifest(digest) for digest in gone.made_from}
        if not (quiet := wants_json(ctx, json)):
            _tell(user, gone, others)
        again = [] if no_reassemble else _again(house, gone)
        pools = [row.digest for row in house.store.pools()]
    if quiet:
        emit({"user": user, **asdict(gone), **_documents(gone, others), "reassembled": list(map(assembly_document, again))})
    tell_reassembly(gone.affected, again, pools, quiet)


def _again(house: Idiolect, gone: Deletion) -> list[AssemblyReport]:
    """Assemble anew what others used; the person is gone, so whatever is amiss is said and no more."""
    if not any(one.was_head and one.kind == "assembled" for one in gone.affected):
        return []
    busy(f"loading {house.base_name} …")
    try:
        return house.pieces.reassemble(gone.affected)
    except IdiolectError as error:
        note(f"idiolect: {error}")
        return []


def _ask(user: str, n_items: int, n_adapters: int) -> None:
    """Go on only after a yes."""
    if not sys.stdin.isatty():
        raise InputError(f"deleting {user!r} cannot be undone; give --yes where nobody can be asked")
    what = f"{count(n_items, 'item')} and {count(n_adapters, 'adapter')}"
    if not typer.confirm(f"Delete {user!r} with {what} for good?", err=True):
        note("nothing was deleted")
        raise typer.Exit(1)


def _tell(user: str, gone: Deletion, others: dict[str, AdapterManifest]) -> None:
    say(
        f"{user} is gone: {count(gone.n_items, 'item')}, {count(gone.n_queries, 'query', 'queries')}, "
        f"{count(gone.n_adapters, 'adapter')}, {count(gone.n_blobs, 'file')}"
    )
    for digest, other in others.items():
        task, name = other.task, f"{other.kind} adapter {digest[:12]} ({other.task})"
        made = "was made from this person's items too" if other.user_id is None else f"of {other.user_id} is a copy of theirs"
        say(f"{name} {made}, and still is there; make it anew:")
        if other.user_id is not None:
            say(f"    idiolect train {shlex.quote(other.user_id)} --task {task}")
        elif other.kind == "pooled":
            say("    run the evaluation that it belongs to in a new folder, and remove the old one")
        else:
            say(f"    idiolect train --stage task --task {task} --data FILE, then idiolect train --all --task {task}")
    if gone.n_pieces:
        n = len(gone.affected)
        say(f"{count(gone.n_pieces, 'piece')} withdrawn, {count(n, 'adapter')} of others with them" + (":" if n else ""))
    for one in gone.affected:
        say(f"    {one.user_id or one.kind} · {one.task} · {one.digest[:12]}" + (", which was in use" if one.was_head else ""))
    for place in gone.evaluations:
        note(f"still holds answers to their queries, and cannot be changed: {place}")
    for export in gone.stale_exports:
        note(f"still holds what was theirs, and is not ours to remove: {export.place}")
    if not gone.scrubbed:
        note("another process was reading: deleted pages stay in the database's log until that process ends")


def _documents(gone: Deletion, others: dict[str, AdapterManifest]) -> dict[str, Any]:
    made_from = [{"digest": digest, "task": m.task, "kind": m.kind, "user": m.user_id} for digest, m in others.items()]
    return {"made_from": made_from, "affected": list(map(_affected, gone.affected))}


def _affected(one: Affected) -> dict[str, Any]:
    """Without the manifest, which tells of the other person's history."""
    return {name: getattr(one, name) for name in ("user_id", "digest", "kind", "task", "variant", "was_head")}


def _record(item: Item) -> dict[str, Any]:
    return {"id": item.id, "date": item.date, "fields": dict(item.fields)}
