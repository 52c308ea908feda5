"""`idiolect pieces share`, `assemble` and `revoke`: pieces of trained adapters, and newcomers' adapters made of them."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict
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
    from idiolect.pieces.desk import Preview
    from idiolect.pieces.newcomers import AssemblyReport
    from idiolect.pieces.select import Sharers
    from idiolect.pieces.share import ShareReport
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
    for name, problem in ((name, problem) for one in renewed for name, problem in one.problems.items()):
        note(f"idiolect: {name}: {problem}")
    _tell_problems(report.problems, "could not share")


def _layers(text: str | None) -> tuple[int, ...] | None:
    """`0,1,4` → numbers."""
    if text is None:
        return None
    try:
        found = tuple(sorted({int(part) for part in text.split(",") if part.strip()}))
    except ValueError:
        found = ()
    if not found:  # to share nothing is to withdraw everything, and nobody means that by a slip
        raise ConfigError(f"--layers takes numbers with commas between them, not {text!r}: --layers 0,1,4")
    return found


def _select(house: Idiolect, task: str, variant: str, n: int, strategy: Strategies, min_items: int, seed: int) -> Sharers:
    from idiolect.pieces.select import Selection

    selection = Selection.build(n=n, strategy=strategy, min_items=min_items, seed=seed)
    with stages() as shown:
        step = shown("reading histories", len(house.pieces.trained(task, variant)))
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
        "pools": [pool_document(row) for row in pools],
        "selected": selected,
        "revoked": [_revocation(revocation) for revocation in report.revocations],
        "reassembled": [assembly_document(one) for one in renewed],
        "tokens": report.tokens,
        "seconds": round(s, 2),
    }


def pool_document(row: PoolRow) -> dict[str, Any]:
    """A pool's line of a list, as JSON."""
    return {**asdict(row), "key": dict(row.key)}


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
        whose = count(row.n_people, "person", "people")
        say(f"pool {row.digest[:12]}: {count(row.n_pieces, 'piece')} of {whose}, {size(row.size_bytes)}")
    for revocation in report.revocations:
        _tell_revocation(revocation)
    for one in renewed:
        tell_assembly(one)
    if pools:
        note(f"next, newcomers' adapters: idiolect pieces assemble USER --task {pools[0].key['task']}")


# ----------------------------------------------------------------------------------------------------------- assemble


@app.command()
def assemble(
    ctx: typer.Context,
    users: UsersArgument = None,
    *,
    task: TaskOption,
    all_: Annotated[bool, typer.Option("--all", help="Everybody without a trained adapter.")] = False,
    k: Annotated[int, typer.Option("-k", "--k", help="Pieces per module.")] = 3,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Of the weights; a small one trusts the best piece alone.")
    ] = 1.0,
    strength: Annotated[
        float, typer.Option("--strength", help="What a module's weights add up to; less than 1 is a weaker adapter.")
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

        settings = Settings(
            k=k, temperature=temperature, combine=combine, max_examples=max_history, seed=seed, strength=strength
        )
        people = house.pieces.newcomers(task, variant, bare=bare) if all_ else chosen
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
        emit(assembly_document(report))
    else:
        tell_assembly(report)
    _tell_problems(report.problems, "got nothing assembled")


def assembly_document(report: AssemblyReport) -> dict[str, Any]:
    """What was assembled, as JSON."""
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


def tell_assembly(report: AssemblyReport) -> None:
    """What was assembled, in a table and a line."""
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
        pools = [row.digest for row in house.store.pools()]
    if quiet:
        emit({**_revocation(done.revocation), "reassembled": [assembly_document(one) for one in done.again]})
    tell_reassembly(done.revocation.affected, done.again, pools, quiet)


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


def tell_reassembly(affected: Sequence[Affected], again: Sequence[AssemblyReport], pools: Sequence[str], quiet: bool) -> None:
    """What was assembled anew, and how the rest can be: those who lost an adapter in use, and whose pool is still there."""
    for one in () if quiet else again:
        tell_assembly(one)
    for name, problem in ((name, problem) for one in again for name, problem in one.problems.items()):
        note(f"idiolect: {name}: {problem}")
    failed = {user for one in again if one.pool in pools for user in one.problems}
    left: dict[tuple[str, str], list[str]] = {}
    for one in affected:
        if one.was_head and one.kind == "assembled" and one.user_id and (one.user_id in failed or not again):
            left.setdefault((one.task, one.variant), []).append(shlex.quote(one.user_id))
    for (task, variant), users in left.items():
        which = "" if variant == "k0" else f" --variant {variant}"
        note(f"to assemble theirs anew: idiolect pieces assemble {' '.join(users)} --task {task}{which}")


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
    what = f"{count(len(preview.pieces), 'piece')}, and {count(len(rows), 'adapter')} with them"
    say(f"would withdraw {what}; nothing was changed")
    cells = [(rows[d].user_id or "–", rows[d].task, "●" if rows[d].is_head else "", d[:12]) for d in preview.adapters]
    if cells:
        out().print(table(("person", "task", "in use", "digest"), cells[:_SHOWN], flexible=("person",)))
    for export in preview.exports:
        note(f"may hold them, and is not ours to remove: {export.place}")
