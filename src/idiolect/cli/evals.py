"""`idiolect evals run`: what adapters bring to the people of a file, with a report."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from idiolect.cli.options import (
    BaseOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    MaxHistoryOption,
    ModulesOption,
    PresetOption,
    TaskOption,
    module_names,
    open_house,
    settings,
    tell_modules,
    training_options,
    wants_json,
)
from idiolect.cli.options import given as given_before
from idiolect.cli.output import duration, emit, note, out, private_folder
from idiolect.cli.progress import busy, stages
from idiolect.cli.sharing import (
    GateRateOption,
    GateStepsOption,
    MinItemsOption,
    PiecesOption,
    RatioOption,
    SeedsOption,
    SharerHistoryOption,
    SharersOption,
    StrategyOption,
    TemperatureOption,
    piece_plan,
)
from idiolect.errors import DependencyMissing

app = typer.Typer(no_args_is_help=True, help="Evaluate what adapters bring.")


@app.callback()
def _group() -> None:
    """Evaluate what adapters bring."""


@app.command()
def run(
    ctx: typer.Context,
    data: Annotated[Path, typer.Option("--data", metavar="FOLDER|FILE", help="People with queries: users.jsonl, LaMP, OPPU.")],
    task: TaskOption,
    out_: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the report goes.")],
    targets: Annotated[int, typer.Option("--targets", min=1, help="Most active people who get an adapter.")] = 30,
    arms: Annotated[str | None, typer.Option("--arms", metavar="NAMES", help="oppu,perpcs … (all without pieces; controls come along).")] = None,
    max_history: MaxHistoryOption = None,
    k: Annotated[int, typer.Option("--k", min=1, help="Items retrieved by the arms that retrieve.")] = 1,
    free: Annotated[bool, typer.Option("--free", help="Decode labels token by token; invalid answers count.")] = False,
    preset: PresetOption = "default",
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of both stages.")] = None,
    task_examples: Annotated[int, typer.Option("--task-examples", min=1, help="Stage 1: at most this many examples.")] = 20_000,
    lr: Annotated[float | None, typer.Option("--lr", help="Stage 2: learning rate.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Stage 2: epochs.")] = None,
    rank: Annotated[int | None, typer.Option("--rank", help="Stage 2: rank.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Stage 2: items per step.")] = None,
    task_lr: Annotated[float | None, typer.Option("--task-lr", help="Stage 1: learning rate.")] = None,
    task_epochs: Annotated[int | None, typer.Option("--task-epochs", help="Stage 1: epochs.")] = None,
    task_rank: Annotated[int | None, typer.Option("--task-rank", help="Stage 1: rank.")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", help="Both stages: prompt and answer together.")] = None,
    modules: ModulesOption = None,
    slots: Annotated[int | None, typer.Option("--slots", help="People trained side by side (what fits).")] = None,
    sharers: SharersOption = 50,
    strategy: StrategyOption = None,
    min_items: MinItemsOption = 50,
    share_ratio: RatioOption = 1.0,
    sharer_history: SharerHistoryOption = None,
    pieces: PiecesOption = 3,
    temperature: TemperatureOption = 1.0,
    gate_steps: GateStepsOption = None,
    gate_lr: GateRateOption = None,
    seeds: SeedsOption = "0,1,2",
    store: Annotated[str | None, typer.Option("--store", metavar="PATH|URL", help="Where adapters go (DIR/store).")] = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Train and ask every arm; leave results.json, predictions.jsonl, report.md and plot.png in DIR.

    A run that was cut off goes on where it was when the same command is given again.
    """
    from idiolect.config import preset as named
    from idiolect.data.tasks import get_task
    from idiolect.evals.arms import parse_arms
    from idiolect.service import TrainingOptions

    both = settings(seed=seed, max_tokens=max_tokens, targets=module_names(modules))
    user = settings(learning_rate=lr, epochs=epochs, rank=rank, batch_size=batch_size, slots=slots) + both
    stage_1 = settings(learning_rate=task_lr, epochs=task_epochs, rank=task_rank) + both
    options = training_options(preset, user, max_history=max_history)
    named(preset, "task").but(**dict(stage_1))
    chosen = parse_arms(arms) if arms is not None else None
    _need_report(get_task(task).kind)
    plan = piece_plan(
        sharers=sharers, strategy=strategy, min_items=min_items, ratio=share_ratio, history=sharer_history, pieces=pieces,
        temperature=temperature, gate_steps=gate_steps, gate_rate=gate_lr, seeds=seeds, seed=seed,
    )  # fmt: skip
    private_folder(out_)  # before a store in it is made, and with it the folder, for everybody to read
    place = store or given_before(ctx).store or str(out_ / "store")
    with open_house(ctx, place, base, device, dtype) as house:
        busy(f"loading {house.base_name} and importing {data} …")
        tell_modules(house, "task", TrainingOptions(preset, stage_1), "--modules")
        tell_modules(house, "user", options, "--modules")
        with stages() as progress:
            evaluation = house.evaluate(
                data, task, out_, targets=targets, arms=chosen, options=options, task_overrides=stage_1,
                task_examples=task_examples, k=k, free=free, pieces=plan, command=typed(ctx), on_stage=progress,
            )  # fmt: skip
    show(out_, evaluation.seconds, wants_json(ctx, json))


def show(folder: Path, seconds: float, json: bool) -> None:
    """The table of a finished report, or its results.json."""
    import json as codec

    from idiolect.evals.report import table

    results = codec.loads((folder / "results.json").read_text(encoding="utf-8"))
    if json:
        return emit(results)
    out().print(table(results))
    note(f"{duration(seconds)}; {folder}: results.json, predictions.jsonl, report.md, plot.png")


def typed(ctx: typer.Context) -> str:
    """The command line as it was typed, paths relative to where it was and without a database's password."""
    from idiolect.cli.app import TYPED

    words: Sequence[str] = ctx.find_root().meta.get(TYPED, [])
    shown = (
        os.path.relpath(word) if os.path.isabs(word) else re.sub(r"(://[^:/@]+):[^@/]+@", r"\1:***@", word) for word in words
    )
    return shlex.join(["idiolect", *shown])


def _need_report(kind: str) -> None:
    """Say what is missing for the report now, not after an hour of training."""
    wanted = ("torch", "matplotlib", *(("rouge_score",) if kind == "text" else ()))
    if missing := [name for name in wanted if find_spec(name) is None]:
        raise DependencyMissing(f"{', '.join(missing)} not installed; install it: pip install 'idiolect[local]'")
