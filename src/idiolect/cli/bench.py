"""`idiolect bench`: speed and memory, against the peers in one interleaved run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from idiolect.cli.options import JsonOption, settings, wants_json
from idiolect.cli.output import emit, note, say
from idiolect.errors import InputError


def bench(
    ctx: typer.Context,
    name: Annotated[
        Literal["train", "serve", "load", "memory", "assemble", "pool", "unlearn", "play"],
        typer.Argument(help="What to measure."),
    ],
    workload: Annotated[
        list[str] | None,
        typer.Option("--workload", metavar="NAME", help="train, assemble: w0, short or template; may be repeated (all)."),
    ] = None,
    shape: Annotated[
        Literal["small", "135m", "tiny"] | None, typer.Option("--shape", help="Sizes of the random base (small).")
    ] = None,
    people: Annotated[int | None, typer.Option("--people", min=1, help="People at a time.")] = None,
    peers: Annotated[int | None, typer.Option("--peers", min=1, help="load: adapters that PEFT loads (128).")] = None,
    rounds: Annotated[int | None, typer.Option("--rounds", min=1, help="Interleaved rounds after one warm-up (5).")] = None,
    kept: Annotated[
        Path | None, typer.Option("--kept", metavar="DIR", help="play: folder of the filled store, made or used again.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of base and data.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="torch's threads (the usable cores).")] = None,
    out_: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for NAME.json (nothing is written).")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure training, serving, loading, memory, pieces, unlearning or the game; exit 1 where methods' results disagree."""
    if workload and name not in ("train", "assemble"):
        raise InputError("--workload belongs to 'bench train' and 'bench assemble'")
    from idiolect.bench.__main__ import WORKLOADS, lines, run, workloads_of

    if unknown := [one for one in workload or () if one not in WORKLOADS]:
        raise InputError(f"workload not known: {', '.join(unknown)}; choose from: {', '.join(WORKLOADS)}")
    options: dict[str, Any] = dict(
        settings(shape=shape, people=people, peer_people=peers, rounds=rounds, seed=seed, threads=threads, out=out_, kept=kept)
    )
    names = workloads_of(name, workload)
    results = [run(name, one, **options, say=note) for one in names]
    if wants_json(ctx, json):
        emit(results if names != [None] else results[0])
    else:
        say("\n".join(line for result in results for line in lines(result)))
    if not all(result.get("agreement", {}).get("agrees", True) for result in results):
        raise typer.Exit(1)
