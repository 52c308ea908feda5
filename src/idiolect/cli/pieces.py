"""`idiolect pieces`: share pieces of trained adapters, and assemble newcomers' adapters from them. Nothing is trained for these."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
from idiolect.cli.output import count, duration, emit, note, out, say, size, table
from idiolect.cli.progress import busy, stages, training
from idiolect.errors import ConfigError, InputError

if TYPE_CHECKING:
    from idiolect.pieces.desk import Preview, Revoked
    from idiolect.pieces.newcomers import AssemblyReport
    from idiolect.pieces.select import Sharers
    from idiolect.pieces.share import ShareReport
    from idiolect.pieces.views import AdapterView, PoolView
    from idiolect.service import Idiolect
    from idiolect.store.records import Affected, PoolRow, Revocation

app = typer.Typer(no_args_is_help=True, help="Share pieces of adapters, and assemble newcomers' adapters from them.")

_SHOWN = 60

UsersArgument = Annotated[list[str] | None, typer.Argument(metavar="[USER]...", help="Who; or --all.")]
PoolOption = Annotated[str | None, typer.Option("--pool", metavar="DIGEST", help="Which pool, or how its digest begins.")]
Strategies = Literal["cluster_most_active", "cluster_medoid", "cluster_random", "most_active", "random"]


# -------------------------------------------------------------------------------------------------------------- share


@app.command()
def share(
    ctx: typer.Context,
    users: Annotated[list[str] | None, typer.Argument(metavar="[USER]...", help="Who shares; or --select.")] = None,
    *,
    task: TaskOption,
    select: Annotated[
        int | None, typer.Option("--select", metavar="N", min=1, help="Choose N sharers by their histories.")
    ] = None,
    strategy: Annotated[Strategies, typer.Option("--strategy", help="How --select chooses.")] = "cluster_most_active",
    min_items: Annotated[int, typer.Option("--min-items", min=1, help="--select: nobody with fewer items.")] = 11,
    share_ratio: Annotated[
        float, typer.Option("--share-ratio", help="The part of their pieces that each shares, by lot.")
    ] = 1.0,
    layers: Annotated[str | None, typer.Option("--layers", metavar="N,N…", help="Pieces of these layers only.")] = None,
    direction_only: Annotated[
        bool, typer.Option("--direction-only", help="Gates leave the person without their size: all that choosing needs.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of lots, selection and gates.")] = 0,
    gate_steps: Annotated[int | None, typer.Option("--gate-steps", help="Steps of gate training (100).")] = None,
    gate_lr: Annotated[float | None, typer.Option("--gate-lr", help="Learning rate of gates (0.005).")] = None,
    again: Annotated[bool, typer.Option("--again", help="Train gates even where they are there.")] = False,
    variant: VariantOption = "k0",
    store: StoreOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Share pieces of people's trained adapters in a pool, by consent. What they shared before and do not now is withdrawn."""
    chosen = list(dict.fromkeys(users or ()))
    if bool(chosen) == (select is not None):
        raise InputError("name the people who share, or give --select N, and not both")
    numbers = _layers(layers)
    with open_house(ctx, store, base, device, dtype) as house:
        for user in chosen:
            house.store.require_person(user)
        busy(f"loading {house.base_name} …")
        from idiolect.pieces.consent import Consent
        from idiolect.pieces.gates import GATES

        consent = Consent.build(ratio=share_ratio, layers=numbers, seed=seed)
        gates = GATES.but(steps=gate_steps, learning_rate=gate_lr, seed=seed)
        found = _select(house, task, variant, select, strategy, min_items, seed) if select is not None else None
        chosen = list(found.ids) if found is not None else chosen
        began = time.monotonic()
        with training(f"gates · {task}", len(chosen)) as progress:
            report, renewed = house.pieces.share(
                chosen, task, consent, variant=variant, gates=gates, direction_only=direction_only, again=again,
                on_progress=progress,
            )  # fmt: skip
        seconds = time.monotonic() - began
        pools = [row for row in house.store.pools() if row.digest in report.pools]
    if wants_json(ctx, json):
        emit(_shared(report, renewed, pools, select, found, seconds))
    else:
        _tell_shared(report, renewed, pools, seconds)
    _tell_problems(report.problems, "could not share")


def _layers(text: str | None) -> tuple[int, ...] | None:
    """`0,1,4` → numbers."""
    if text is None:
        return None
    try:
        return tuple(sorted({int(part) for part in text.split(",") if part.strip()}))
    except ValueError:
        raise ConfigError(f"--layers takes numbers with commas between them, not {text!r}: --layers 0,1,4") from None


def _select(house: Idiolect, task: str, variant: str, n: int, strategy: Strategies, min_items: int, seed: int) -> Sharers:
    from idiolect.pieces.select import Selection

    selection = Selection.build(n=n, strategy=strategy, min_items=min_items, seed=seed)
    with stages() as shown:
        n_people = len(house.people())
        step = shown("reading histories", n_people)
        found = house.pieces.select_sharers(task, selection, variant=variant, on_progress=lambda done: step(done, "", None))
    clusters = f" in {count(found.n_clusters, 'cluster')}" if found.n_clusters is not None else ""
    fewer = "" if len(found.ids) == n else "; the others have no trained adapter, or too short a history (--min-items)"
    note(f"{count(len(found.ids), 'sharer')} of {n} wanted, from {count(found.n_candidates, 'candidate')}{clusters}{fewer}")
    return found


def _shared(
    report: ShareReport, renewed: list[AssemblyReport], pools: list[PoolRow], n: int | None, found: Sharers | None, s: float
) -> dict[str, Any]:
    selected = None if found is None else {"wanted": n, "chosen": list(found.ids), "n_candidates": found.n_candidates}
    return {
        "shared": report.shared,
        "kept": report.kept,
        "problems": report.problems,
        "pools": [_pool(row) for row in pools],
        "selected": selected,
        "revoked": [_revocation(revocation) for revocation in report.revocations],
        "reassembled": [_assembly(one) for one in renewed],
        "tokens": report.tokens,
        "seconds": round(s, 2),
    }


def _tell_shared(report: ShareReport, renewed: list[AssemblyReport], pools: list[PoolRow], seconds: float) -> None:
    people = report.shared | report.kept
    cells = [(user, f"{n:,}", "now" if user in report.shared else "before") for user, n in sorted(people.items())]
    if cells:
        out().print(table(("person", "pieces", "gates trained"), cells[:_SHOWN], right=("pieces",)))
    if len(cells) > _SHOWN:
        note(f"… and {count(len(cells) - _SHOWN, 'more person', 'more people')}")
    say(
        f"{len(report.shared):,} shared, {len(report.kept):,} there already, {len(report.problems):,} not shared "
        f"in {duration(seconds)}"
    )
    for row in pools:
        say(
            f"pool {row.digest[:12]}: {count(row.n_pieces, 'piece')} of {count(row.n_people, 'person', 'people')}, {size(row.size_bytes)}"
        )
    for revocation in report.revocations:
        _tell_revocation(revocation)
    for one in renewed:
        _tell_assembly(one)
    if pools:
        note(f"next, newcomers' adapters: idiolect pieces assemble USER --task {pools[0].key['task']}")


# --------------------------------------------------------------------------------------------------------------- list


@app.command("list")
def list_(
    ctx: typer.Context,
    user: Annotated[str | None, typer.Option("--user", help="What this person shares.")] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List pools; or, with --user, the pieces that a person shares."""
    with open_house(ctx, store) as house:
        if user is not None:
            return _list_person(house, user, wants_json(ctx, json))
        pools = house.store.pools()
    if wants_json(ctx, json):
        return emit([_pool(row) for row in pools])
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


def _pool(row: PoolRow) -> dict[str, Any]:
    return {**asdict(row), "key": dict(row.key)}


def _pool_cells(row: PoolRow) -> tuple[str, ...]:
    key = row.key
    numbers = (str(key["rank"]), f"{row.n_pieces:,}", f"{row.n_people:,}", f"{row.n_origins:,}", size(row.size_bytes))
    return (row.digest[:12], key["task"], key["base"][:12], (key["task_adapter"] or "–")[:12], *numbers)


# ----------------------------------------------------------------------------------------------------------- assemble


@app.command()
def assemble(
    ctx: typer.Context,
    users: UsersArgument = None,
    *,
    task: TaskOption,
    all_: Annotated[bool, typer.Option("--all", help="Everybody who uses no trained adapter.")] = False,
    k: Annotated[int, typer.Option("-k", "--k", help="Pieces per module.")] = 3,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Of the weights; a small one trusts the best piece alone.")
    ] = 1.0,
    combine: Annotated[
        Literal["delta", "factor"], typer.Option("--combine", help="delta: the sum of products; factor: the product of sums.")
    ] = "delta",
    max_history: Annotated[
        int, typer.Option("--max-history", min=1, help="Read the newest N items of each person only.")
    ] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Kept with the adapter.")] = 0,
    pool: PoolOption = None,
    bare: Annotated[bool, typer.Option("--bare", help="From a pool of the base itself, without a task adapter.")] = False,
    variant: VariantOption = "k0",
    store: StoreOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Assemble newcomers' adapters from a pool by reading their histories once, and put them into use."""
    chosen = list(dict.fromkeys(users or ()))
    if bool(chosen) == all_:
        raise InputError(
            "name the people to assemble for, or give --all, and not both; see who is there: idiolect history list"
        )
    with open_house(ctx, store, base, device, dtype) as house:
        for user in chosen:
            house.store.require_person(user)
        busy(f"loading {house.base_name} …")
        from idiolect.pieces.assemble import Settings

        settings = Settings(k=k, temperature=temperature, combine=combine, max_examples=max_history, seed=seed)
        people = house.pieces.newcomers(task, variant) if all_ else chosen
        began = time.monotonic()
        with stages() as shown:
            step = shown(f"assembling · {task}", len(people))
            report = house.pieces.assemble(
                people, task, settings, variant=variant, pool=pool, bare=bare,
                on_progress=lambda done: step(done, "", (time.monotonic() - began) * (len(people) - done) / done),
            )  # fmt: skip
    if report.n_short:
        note(
            f"{count(report.n_short, 'module')} of pool {report.pool[:12]} hold fewer than {k} pieces; all that there are count"
        )
    if wants_json(ctx, json):
        emit(_assembly(report))
    else:
        _tell_assembly(report)
    _tell_problems(report.problems, "got nothing assembled")


def _assembly(report: AssemblyReport) -> dict[str, Any]:
    return {
        "pool": report.pool,
        "people": [
            *({"user": user, "new": True, **asdict(one)} for user, one in report.made.items()),
            *({"user": user, "new": False, "digest": digest} for user, digest in report.kept.items()),
        ],
        "problems": report.problems,
        "n_short": report.n_short,
        "seconds": round(report.seconds, 3),
    }


def _tell_assembly(report: AssemblyReport) -> None:
    cells = [
        (user, f"{one.n_examples:,}", f"{one.n_pieces:,}", size(one.size_bytes), duration(one.seconds), one.digest[:12])
        for user, one in report.made.items()
    ]
    cells += [(user, "", "", "", "there already", digest[:12]) for user, digest in report.kept.items()]
    columns = ("person", "items", "pieces", "record", "time", "digest")
    if cells:
        out().print(table(columns, cells[:_SHOWN], right=("items", "pieces", "record", "time")))
    if len(cells) > _SHOWN:
        note(f"… and {count(len(cells) - _SHOWN, 'more person', 'more people')}; see all: idiolect adapters list --limit 0")
    say(
        f"{len(report.made):,} assembled, {len(report.kept):,} there already, {len(report.problems):,} not assembled from pool "
        f"{report.pool[:12]} in {duration(report.seconds)}"
    )


def _tell_problems(problems: dict[str, str], what: str) -> None:
    """A line each on stderr, and the exit status that says so."""
    for user, problem in problems.items():
        note(f"idiolect: {user}: {problem}")
    if problems:
        note(f"{count(len(problems), 'person', 'people')} {what}; everybody else is done")
        raise typer.Exit(InputError.exit_code)


# ------------------------------------------------------------------------------------------------------------- revoke


@app.command()
def revoke(
    ctx: typer.Context,
    pieces: Annotated[list[int] | None, typer.Argument(metavar="[PIECE]...", help="Ids of pieces; or --user, --pool.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="All that this person shares.")] = None,
    pool: PoolOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do; change nothing.")] = False,
    no_reassemble: Annotated[
        bool, typer.Option("--no-reassemble", help="Leave those whose adapters cite them with what they used before.")
    ] = False,
    store: StoreOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Withdraw pieces: adapters that cite them go at once, and are assembled anew from what is left."""
    if not pieces and user is None and pool is None:
        raise InputError("say which pieces to withdraw: ids, --user USER or --pool DIGEST")
    ids = pieces or None
    with open_house(ctx, store, base, device, dtype) as house:
        if dry_run:
            return _tell_preview(house, house.pieces.preview(ids, user=user, pool=pool), wants_json(ctx, json))
        quiet = wants_json(ctx, json)
        done = house.pieces.revoke(
            ids, user=user, pool=pool, reassemble=not no_reassemble,
            on_revoked=(lambda revocation: None) if quiet else _tell_revocation,
        )  # fmt: skip
    problems = {name: line for one in done.again for name, line in one.problems.items()}
    if quiet:
        emit({**_revocation(done.revocation), "reassembled": [_assembly(one) for one in done.again]})
    else:
        for one in done.again:
            _tell_assembly(one)
        _tell_left(done, no_reassemble)
    for name, problem in problems.items():
        note(f"idiolect: {name}: {problem}")


def _tell_revocation(revocation: Revocation) -> None:
    affected = revocation.affected
    say(f"{count(len(revocation.pieces), 'piece')} withdrawn, {count(len(affected), 'adapter')} with them")
    if affected:
        cells = [
            (one.user_id or f"({one.kind})", one.task, one.variant, "●" if one.was_head else "", one.digest[:12])
            for one in affected
        ]
        out().print(table(("person", "task", "variant", "in use", "digest"), cells[:_SHOWN], flexible=("person",)))
    for export in revocation.stale_exports:
        note(f"still holds what was withdrawn, and is not ours to remove: {export.place}")
    if not revocation.scrubbed:
        note("another process was reading: deleted pages stay in the database's log until that process ends")


def _tell_left(done: Revoked, left: bool) -> None:
    heads = [one for one in done.revocation.affected if one.was_head and one.user_id is not None]
    if left and heads:
        names = " ".join(dict.fromkeys(one.user_id or "" for one in heads))
        note(f"to assemble theirs anew: idiolect pieces assemble {names} --task {heads[0].task}")


def _revocation(revocation: Revocation) -> dict[str, Any]:
    return {
        "pieces": list(revocation.pieces),
        "affected": [_affected(one) for one in revocation.affected],
        "stale_exports": [asdict(export) for export in revocation.stale_exports],
        "scrubbed": revocation.scrubbed,
    }


def _affected(one: Affected) -> dict[str, Any]:
    names = ("user_id", "digest", "kind", "task", "variant", "was_head")
    return {name: getattr(one, name) for name in names}


def _tell_preview(house: Idiolect, preview: Preview, json: bool) -> None:
    rows = {row.digest: row for row in house.adapters() if row.digest in set(preview.adapters)}
    if json:
        adapters = [{"digest": d, "user": rows[d].user_id, "task": rows[d].task} for d in preview.adapters]
        return emit({"pieces": preview.pieces, "adapters": adapters, "exports": [asdict(e) for e in preview.exports]})
    say(
        f"would withdraw {count(len(preview.pieces), 'piece')}, and {count(len(rows), 'adapter')} with them; nothing was changed"
    )
    cells = [(rows[d].user_id or "–", rows[d].task, "●" if rows[d].is_head else "", d[:12]) for d in preview.adapters]
    if cells:
        out().print(table(("person", "task", "in use", "digest"), cells[:_SHOWN], flexible=("person",)))
    for export in preview.exports:
        note(f"may hold them, and is not ours to remove: {export.place}")


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
        return emit(
            {"pool": row.digest, "file": done.place, "n_pieces": row.n_pieces, "size_bytes": n_bytes, "stale": done.stale}
        )
    say(f"{row.digest[:12]} → {out_}: {count(row.n_pieces, 'piece')}, {size(n_bytes)}")
    if done.stale:
        note("a piece was withdrawn while the file was written; write it once more")


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
        note(f"its note: {done.note}")
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
        "made by": f"k {said['k']}, temperature {said['temperature']:g}, {said['combine']}",
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
        **_pool(view.row),
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
    imports = f", and {count(row.n_origins, 'file')} from elsewhere" if row.n_origins else ""
    facts = {
        "pool": row.digest,
        "task": key["task"],
        "base": f"{key['base'][:12]}, task adapter {(key['task_adapter'] or 'none')[:12]}",
        "shape": f"rank {key['rank']}, alpha {key['alpha']:g} on {', '.join(key['targets'])}",
        "sharers": f"S = {row.n_people:,}{imports}",
        "pieces": f"{row.n_pieces:,}; {low if low == high else f'{low}–{high}'} in each of {count(len(view.per_module), 'module')}",
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
