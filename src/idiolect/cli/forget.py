"""`idiolect forget`: exact forgetting of a person or an item, with a signed receipt; `idiolect forget verify` checks one."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from idiolect.cli.options import BaseOption, DeviceOption, DtypeOption, JsonOption, StoreOption, open_house, wants_json
from idiolect.cli.output import count, emit, note, one_line, out, say, table
from idiolect.cli.progress import Step, busy, stages
from idiolect.errors import InputError

if TYPE_CHECKING:
    from idiolect.forget.checking import Verified
    from idiolect.forget.closure import Closure, Node
    from idiolect.forget.forgetting import Forgotten
    from idiolect.forget.planning import OnStep

_MEANING = {
    "exact": "nothing that was made from it is left",
    "exact-after-rebuild": "nothing that was made from it is left, and what was trained again never saw it",
    "approximate": "an adapter that was unlearned, and not trained again, is left",
    "incomplete": "adapters that were made from it are left, as asked",
}

_DONE = {
    "delete": "deleted",
    "revoke": "revoked",
    "retrain": "trained again",
    "reassemble": "assembled again",
    "name": "named",
    "leave": "left",
}


class _Forgets(TyperGroup):
    """`forget USER` and `forget verify RECEIPT`: whatever is not the name of a command is a person's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, "-h", "--help"):
            args = ["user", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Forgets,
    help="Forget a person or an item, and all that was made from it: forget USER, forget USER --item ID; check: forget "
    "verify. All options: idiolect forget user --help.",
)


@app.command("user")
def forget(
    ctx: typer.Context,
    user: Annotated[str | None, typer.Argument(help="The person's id; one called like a command: forget user USER.")] = None,
    item: Annotated[str | None, typer.Option("--item", metavar="ID", help="Only this item of theirs.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would become of what, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="What a task adapter that they taught was trained from.")
    ] = None,
    leave_task_adapters: Annotated[
        bool, typer.Option("--leave-task-adapters", help="Leave task adapters that they taught; the receipt says so.")
    ] = False,
    no_rebuild: Annotated[
        bool, typer.Option("--no-rebuild", help="Only delete: make nothing again of what others, or they, used.")
    ] = False,
    receipt: Annotated[
        Path | None, typer.Option("--receipt", metavar="FILE", help="Where the receipt goes (./forget-REQUEST.json).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Finish what was cut off.")] = False,
    store: StoreOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Forget a person, or one item of theirs: every adapter, piece and answer that was made from it goes; what was in use is
    made again from what is left; a signed receipt says so.
    """
    if (user is None) == (not resume):
        raise InputError("say whom to forget: idiolect forget USER; or go on with what was cut off: idiolect forget --resume")
    if resume and (dry_run or item is not None):
        raise InputError("--resume finishes what was begun, and shows nothing first; leave --dry-run and --item out")
    from idiolect.forget.planning import Options

    quiet = wants_json(ctx, json)
    options = Options(data, leave_task_adapters, not no_rebuild, receipt)
    with open_house(ctx, store, base, device, dtype) as house:
        if user is None:
            with _progress() as on_step:
                done = house.forgetting.resume(options, on_step=on_step)
            return _tell_resumed(done, quiet)
        if not _is_waiting(house, user, item):
            if not (yes or dry_run):
                _need_somebody(user, item)
            busy("looking for all that was made from it …")
            closure = house.forgetting.preview(user, item, options)
            if dry_run:
                return emit(_closure(closure)) if quiet else _show(closure)
            if not quiet:
                _show(closure)
            if not yes:
                _ask(user, item)
        elif dry_run:
            raise InputError("this was begun already, and can only be finished; leave --dry-run out")
        with _progress() as on_step:
            forgotten = house.forget(user, item, options, on_step=on_step)
    return emit(_forgotten(forgotten)) if quiet else _tell(forgotten)


@app.command()
def verify(
    ctx: typer.Context,
    receipt: Annotated[Path, typer.Argument(metavar="RECEIPT", help="The file that forget wrote.")],
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Train people's new adapters once more, and compare every number.")
    ] = False,
    store: StoreOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Check a receipt's signature, and what it says against the store; exit 1 if something does not hold."""
    with open_house(ctx, store, base, device, dtype) as house:
        found = house.forgetting.verify(receipt, rebuild=rebuild)
    if wants_json(ctx, json):
        emit(_verified(found))
    else:
        _tell_verified(found)
    if not found.holds:
        raise typer.Exit(1)


# ------------------------------------------------------------------------------------------------------------- asking


def _is_waiting(house: Any, user: str, item: str | None) -> bool:
    """Whether just this was begun and cut off: then it goes on without a question."""
    return any((row.user_id, row.item_id) == (user, item) for row in house.store.forgettings() if row.state != "done")


def _need_somebody(user: str, item: str | None) -> None:
    """Raises InputError where nobody is there to say yes."""
    if not sys.stdin.isatty():
        what = _what(user, item)
        raise InputError(f"forgetting {what} cannot be undone; give --yes where nobody can be asked, or look first: --dry-run")


def _what(user: str, item: str | None) -> str:
    return f"item {item!r} of {user!r}" if item is not None else repr(user)


def _ask(user: str, item: str | None) -> None:
    """Go on only after a yes."""
    what = _what(user, item)
    if not typer.confirm(f"Forget {what} for good?", err=True):
        note("nothing was changed")
        raise typer.Exit(1)


@contextmanager
def _progress() -> Iterator[OnStep]:
    """One bar over everything that is made again."""
    with stages() as shown:
        steps: list[Step] = []

        def on_step(what: str, done: int, total: int) -> None:
            if not steps:
                steps.append(shown("making again", total))
            steps[0](done, what, None)

        yield on_step


# ------------------------------------------------------------------------------------------------------------- output


def _show(closure: Closure) -> None:
    """The closure as a table; pieces of one person and pool in one line."""
    rows = [*map(_cells, (node for node in closure.nodes if node.kind != "piece")), *_piece_rows(closure.nodes)]
    columns = ("what", "which", "whose", "in use", "becomes", "because")
    out().print(table(columns, rows, flexible=("because",)))


def _cells(node: Node) -> tuple[str, ...]:
    which = f"{node.id[:12]} · {node.task}" if node.task else node.id[:12] if node.kind == "key" else node.id
    return node.kind, which, node.owner or "nobody's", "●" if node.in_use else "", node.action, node.why


def _piece_rows(nodes: Iterable[Node]) -> Iterator[tuple[str, ...]]:
    counted = Counter((node.owner, node.why) for node in nodes if node.kind == "piece")
    for (owner, why), n in counted.items():
        yield count(n, "piece"), why, owner or "from a file", "", "revoke", "cut from an adapter that goes, with their gates"


def _tell(done: Forgotten) -> None:
    closure = done.closure
    for digest, new in done.new.items():
        say(f"{_named(closure, digest)} → {new[:12]}")
    for digest, problem in done.problems.items():
        note(f"{_named(closure, digest)} is gone, and was not made again: {problem}")
    for user, task in closure.share_again:
        note(f"{user} shares nothing of the new one until they say so: idiolect pieces share {shlex.quote(user)} --task {task}")
    for node in closure.nodes:
        if node.kind == "export":
            note(f"still holds some of it, and is not ours to remove: {node.id}")
    for place, why in done.unchanged.items():
        note(f"still holds answers of theirs: {place} {why}")
    if done.key_destroyed:
        note("the key of their files was destroyed: copies of those files in backups cannot be read any more")
    elif closure.places("key"):
        note("the key of their files was not where keys are, and could not be destroyed; where it still is, remove it there")
    if not done.scrubbed:
        note("another process was reading: old pages stay in the database; once it has ended: idiolect forget --resume")
    what = _shown(closure.user_id, closure.item_id)
    actions = Counter(node.action for node in closure.nodes)
    parts = ", ".join(f"{n:,} {_DONE[action]}" for action, n in actions.items())
    say(f"{what} is forgotten ({parts}): {done.guarantee}, {_MEANING[done.guarantee]}")
    say(f"receipt: {done.receipt}")


def _shown(user: str, item: str | None) -> str:
    return one_line(f"item {item} of {user}" if item is not None else user)


def _named(closure: Closure, digest: str) -> str:
    node = next(node for node in closure.nodes if node.id == digest)
    return f"{node.kind} {digest[:12]}" + (f" of {one_line(node.owner)}" if node.owner else "")


def _tell_resumed(done: list[Forgotten], quiet: bool) -> None:
    if quiet:
        return emit([_forgotten(one) for one in done])
    for one in done:
        _tell(one)
    if not done:
        note("nothing was cut off")


def _tell_verified(found: Verified) -> None:
    body = found.receipt.body
    for problem in found.problems:
        note(f"does not hold: {problem}")
    for one in found.compared:
        if one.equal:
            say(f"adapter {one.digest[:12]} trained once more is the same, bit by bit")
        elif not one.same_manifest:
            note(f"does not hold: adapter {one.digest[:12]} was trained from something else than the history as it is now")
        else:
            note(f"does not hold: adapter {one.digest[:12]} trained once more differs by up to {one.difference:.2g}")
    if found.not_compared:
        note(f"{count(found.not_compared, 'adapter')} not compared: of no single person's training")
    if n := len(found.assembled_since):
        note(f"{count(n, 'adapter')} of others, assembled again then, {'was' if n == 1 else 'were'} replaced or deleted since")
    whose = "signed by this store" if found.ours else "self-consistent, but signed by another store's key"
    what = _shown(found.receipt.user_id, found.receipt.item_id)
    if found.holds:
        say(f"the receipt holds: {what}, {body['guarantee']}; {whose}")
    else:
        wrong = len(found.problems) + sum(not one.equal for one in found.compared)
        say(f"the receipt does not hold ({count(wrong, 'contradiction')}): {what}; {whose}")


# ---------------------------------------------------------------------------------------------------------- documents


def _closure(closure: Closure) -> dict[str, Any]:
    nodes = [asdict(node) for node in closure.nodes]
    return {"user": closure.user_id, "item": closure.item_id, "closure": nodes, "guarantee": closure.guarantee}


def _forgotten(done: Forgotten) -> dict[str, Any]:
    names = ("request", "new", "problems", "unchanged", "key_destroyed", "scrubbed")
    shared = [{"user": user, "task": task} for user, task in done.closure.share_again]
    said = {name: getattr(done, name) for name in names}
    return {**_closure(done.closure), "guarantee": done.guarantee, **said, "share_again": shared, "receipt": str(done.receipt)}


def _verified(found: Verified) -> dict[str, Any]:
    request, guarantee = found.receipt.body["request"], found.receipt.body["guarantee"]
    return {
        "holds": found.holds,
        "ours": found.ours,
        "signed": found.receipt.signed,
        "request": request,
        "guarantee": guarantee,
        "problems": list(found.problems),
        "compared": [asdict(one) | {"equal": one.equal} for one in found.compared],
        "not_compared": found.not_compared,
        "assembled_since": list(found.assembled_since),
    }
