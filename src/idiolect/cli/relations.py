"""`idiolect relations train`, `score`, `candidates` and `study`: which relation joins two words."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from idiolect.cli.evals import need_report, typed
from idiolect.cli.options import BaseOption, DeviceOption, DtypeOption, JsonOption, wants_json
from idiolect.cli.output import duration, emit, note, out, say, table
from idiolect.cli.progress import busy, stages
from idiolect.cli.unlearn import check_folder, loaded_base
from idiolect.errors import ConfigError, InputError, NotFoundError

if TYPE_CHECKING:
    from idiolect.model.base import Base
    from idiolect.relations.classifier import Arm
    from idiolect.relations.kept import Kept
    from idiolect.relations.links import Link
    from idiolect.relations.readers import Benchmark

app = typer.Typer(no_args_is_help=True, help="Which relation joins two words: train, ask and measure a classifier.")

BenchmarksOption = Annotated[
    list[str] | None, typer.Option("--data", metavar="NAME=FOLDER", help="A benchmark: EVALution=… or BLESS=…; again for more.")
]
GameOption = Annotated[
    list[Path] | None,
    typer.Option("--game", metavar="FILE", help="What players gave: pairs.tsv, negatives.tsv, or counts; again for more."),
]
OutOption = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where it goes.")]
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A folder that relations train wrote.")]


# ------------------------------------------------------------------------------------------------------- train, score


@app.command()
def train(
    ctx: typer.Context,
    out_: OutOption,
    arm: Annotated[str, typer.Option("--tier", metavar="NAME", help="floor, encoder, both or adapter.")] = "both",
    data: BenchmarksOption = None,
    game: GameOption = None,
    seeds: Annotated[int, typer.Option("--wordnet", min=0, help="Pairs of WordNet's seeds (encoder, adapter).")] = 0,
    most: Annotated[int | None, typer.Option("--most", min=2, help="Learn from at most N pairs, by lot.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed.")] = 0,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Train a classifier and keep it as a folder."""
    from idiolect.relations.candidates import gate
    from idiolect.relations.kept import write_model
    from idiolect.relations.training import train_model

    chosen = _arm(arm)
    check_folder(out_)
    benchmarks, links = _benchmarks(data), _game(game)
    loaded = _base_for(chosen, ctx, base, device, dtype)
    busy("training …")
    done = train_model(chosen, benchmarks, links, base=loaded, seed=seed, seeds_of_game=seeds, most=most)
    write_model(done.model, out_, done.facts, loaded)
    passed, why = gate(done.facts)
    if wants_json(ctx, json):
        return emit({"out": str(out_), "tier": chosen, "candidates": passed, **done.facts})
    say(f"learnt from {done.facts['n_train']:,} pairs; kept in {out_}")
    for name, figures in done.facts["figures"].items():
        say(f"{name}: macro-F1 {figures['macro_f1']:.3f}, weighted F1 {figures['weighted_f1']:.3f} on {figures['n']:,} pairs")
    note(f"candidates {'may' if passed else 'are not to'} be shown to players: {why}")


@app.command()
def score(
    ctx: typer.Context,
    model: ModelArgument,
    base_word: Annotated[str, typer.Argument(metavar="BASE", help="The word that is asked about.")],
    answer: Annotated[str, typer.Argument(metavar="ANSWER", help="The answer to it.")],
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """How likely each relation joins two words."""
    verdict = _read(model, ctx, base, device, dtype).model.classify(base_word, answer)
    if wants_json(ctx, json):
        return emit({"label": verdict.label, "p": verdict.p, "probabilities": verdict.probabilities})
    rows = sorted(verdict.probabilities.items(), key=lambda pair: -pair[1])
    out().print(table(("relation", "p"), ((name, f"{p:.3f}") for name, p in rows), right=("p",)))


@app.command()
def candidates(
    ctx: typer.Context,
    model: ModelArgument,
    relation: Annotated[str, typer.Argument(metavar="RELATION", help="syn, ant, hypo or mero.")],
    base_word: Annotated[str, typer.Argument(metavar="BASE", help="A base word of the game.")],
    n: Annotated[int, typer.Option("--n", min=1, help="How many at most.")] = 10,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the lot.")] = 0,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Answers for players to judge, where the model is good enough for that."""
    from idiolect.game.vocabulary import vocabulary
    from idiolect.relations.candidates import candidates as offered
    from idiolect.relations.readers import word_key

    word = vocabulary().words.get(f"{relation}:{word_key(base_word)}")
    if word is None:
        raise NotFoundError(f"the game has no such base word for relation {relation!r}; `hand` is one of mero")
    kept = _read(model, ctx, base, device, dtype)
    found = offered(kept.model, kept.facts, word, n, seed=seed)
    if wants_json(ctx, json):
        return emit([{"answer": one.answer, "p": one.p} for one in found])
    out().print(table(("answer", "p"), ((one.answer, f"{one.p:.3f}") for one in found), right=("p",)))


# -------------------------------------------------------------------------------------------------------------- study


@app.command()
def study(
    ctx: typer.Context,
    out_: OutOption,
    data: BenchmarksOption = None,
    game: GameOption = None,
    arms: Annotated[
        str, typer.Option("--tiers", metavar="NAMES", help="Which are compared; none: ''.")
    ] = "floor,encoder,both,adapter",
    splits: Annotated[str, typer.Option("--splits", metavar="NAMES", help="published,lexical.")] = "published,lexical",
    labels: Annotated[str, typer.Option("--labels", metavar="NAMES", help="native,shared.")] = "native,shared",
    seeds: Annotated[str, typer.Option("--seeds", metavar="N,N…", help="Seeds of tiers 1 and 2.")] = "0,1,2",
    adapter_seeds: Annotated[str, typer.Option("--adapter-seeds", metavar="N,N…", help="Seeds of tier 4.")] = "0,1,2",
    adapter_links: Annotated[int, typer.Option("--adapter-pairs", min=2, help="Tier 4 learns from at most N pairs.")] = 3000,
    adapter_on: Annotated[str, typer.Option("--adapter-on", metavar="NAMES", help="Benchmarks of tier 4.")] = "EVALution",
    gain_seeds: Annotated[str, typer.Option("--gain-seeds", metavar="N,N…", help="Seeds of the gain.")] = "0,1,2,3,4",
    gain_arms: Annotated[str, typer.Option("--gain-tiers", metavar="NAMES", help="floor,both.")] = "floor,both",
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Measure every tier on benchmarks, and what players' pairs add; the report goes to a folder."""
    need_report("label")
    from idiolect.cli.evaluating import read_seeds
    from idiolect.machine import hardware, versions
    from idiolect.relations.gain import gain
    from idiolect.relations.report import best_macro, write
    from idiolect.relations.study import StudySettings, Workshop, run_trials

    settings = StudySettings.build(
        arms=_names(arms), splits=_names(splits), labellings=_names(labels), seeds=read_seeds(seeds),
        adapter_seeds=read_seeds(adapter_seeds), adapter_links=adapter_links, adapter_on=_names(adapter_on),
        gain_seeds=read_seeds(gain_seeds), gain_arms=_names(gain_arms),
    )  # fmt: skip
    check_folder(out_)
    benchmarks, links = _benchmarks(data), _game(game)
    needed = {*settings.arms, *(settings.gain_arms if links else ())} - {"floor"}
    workshop = Workshop(loaded_base(ctx, base, device, dtype) if needed else None)
    began = time.perf_counter()
    with stages() as shown:
        cells = run_trials(benchmarks, workshop, settings, shown)
        gained = gain(benchmarks, links, workshop, settings, shown) if links else None
    results: dict[str, Any] = {
        "command": typed(ctx), "versions": versions(), "hardware": hardware(), "settings": settings.model_dump(mode="json"),
        "base": workshop.base.origin if workshop.base else None,
        "benchmarks": {name: {p: len(getattr(one, p)) for p in ("train", "val", "test")} for name, one in benchmarks.items()},
        "cells": cells, "gain": gained, "seconds": time.perf_counter() - began,
    }  # fmt: skip
    write(results, out_)
    if wants_json(ctx, json):
        return emit({"out": str(out_), "seconds": results["seconds"], "macro_f1": best_macro(results)})
    rows = ([c["benchmark"], c["split"], c["labelling"], c["arm"], f"{c['mean']['weighted_f1']['mean']:.3f}"] for c in cells)
    out().print(table(("set", "split", "labels", "tier", "weighted F1"), rows, right=("weighted F1",)))
    say(f"{duration(results['seconds'])}; report: {out_ / 'report.md'}")


# --------------------------------------------------------------------------------------------------------------- parts


def _arm(name: str) -> Arm:
    from idiolect.relations.classifier import ARMS

    if name not in ARMS:
        raise ConfigError(f"tier {name!r} is not known; choose one of: {', '.join(ARMS)}")
    return cast("Arm", name)


def _names(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _benchmarks(data: list[str] | None) -> dict[str, Benchmark]:
    """`NAME=FOLDER` → benchmarks by name."""
    from idiolect.relations.readers import read_benchmark

    found = {}
    for given in data or []:
        name, equals, folder = given.partition("=")
        if not equals or not folder:
            raise InputError("--data is NAME=FOLDER, for example EVALution=data/EVALution")
        found[name] = read_benchmark(name, Path(folder))
    return found


def _game(files: list[Path] | None) -> list[Link]:
    from idiolect.relations.readers import read_game

    return [link for file in files or [] for link in read_game(file)]


def _base_for(arm: str, ctx: typer.Context, base: str | None, device: str | None, dtype: str | None) -> Base | None:
    from idiolect.relations.kept import needs_base

    return loaded_base(ctx, base, device, dtype) if needs_base(arm) else None


def _read(folder: Path, ctx: typer.Context, base: str | None, device: str | None, dtype: str | None) -> Kept:
    from idiolect.relations.kept import read_facts, read_model

    arm = read_facts(folder)["arm"]
    return read_model(folder, _base_for(arm, ctx, base, device, dtype))
