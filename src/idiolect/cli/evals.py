"""`idiolect evals run`: what adapters bring to the people of a file, with a report."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from idiolect.cli.evaluating import (
    BatchSizeOption,
    DataOption,
    EpochsOption,
    EvalStoreOption,
    GateRateOption,
    GateStepsOption,
    MaxTokensOption,
    MinItemsOption,
    OutOption,
    PiecesOption,
    RankOption,
    RateOption,
    RatioOption,
    SeedOption,
    SeedsOption,
    SharerHistoryOption,
    SharersOption,
    SlotsOption,
    Stages,
    StrategyOption,
    StrengthOption,
    TargetsOption,
    TaskEpochsOption,
    TaskExamplesOption,
    TaskRankOption,
    TaskRateOption,
    TemperatureOption,
    both_stages,
    piece_plan,
)
from idiolect.cli.options import (
    BaseOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    MaxHistoryOption,
    ModulesOption,
    PresetOption,
    TaskOption,
    open_house,
    tell_modules,
    wants_json,
)
from idiolect.cli.options import given as given_before
from idiolect.cli.output import duration, emit, note, out, private_folder
from idiolect.cli.progress import busy, stages
from idiolect.errors import DependencyMissing

if TYPE_CHECKING:
    from idiolect.service import Idiolect

app = typer.Typer(no_args_is_help=True, help="Evaluate what adapters bring.")


@app.callback()
def _group() -> None:
    """Evaluate what adapters bring."""


@app.command()
def run(
    ctx: typer.Context,
    data: DataOption,
    task: TaskOption,
    out_: OutOption,
    targets: TargetsOption = 30,
    arms: Annotated[
        str | None, typer.Option("--arms", metavar="NAMES", help="oppu,perpcs … (all without pieces; controls come along).")
    ] = None,
    max_history: MaxHistoryOption = None,
    k: Annotated[int, typer.Option("--k", min=1, help="Items retrieved by the arms that retrieve.")] = 1,
    free: Annotated[bool, typer.Option("--free", help="Decode labels token by token; invalid answers count.")] = False,
    preset: PresetOption = "default",
    seed: SeedOption = None,
    task_examples: TaskExamplesOption = 20_000,
    lr: RateOption = None,
    epochs: EpochsOption = None,
    rank: RankOption = None,
    batch_size: BatchSizeOption = None,
    task_lr: TaskRateOption = None,
    task_epochs: TaskEpochsOption = None,
    task_rank: TaskRankOption = None,
    max_tokens: MaxTokensOption = None,
    modules: ModulesOption = None,
    slots: SlotsOption = None,
    sharers: SharersOption = 50,
    strategy: StrategyOption = None,
    min_items: MinItemsOption = 50,
    share_ratio: RatioOption = 1.0,
    sharer_history: SharerHistoryOption = None,
    pieces: PiecesOption = 3,
    temperature: TemperatureOption = 1.0,
    strength: StrengthOption = 1.0,
    gate_steps: GateStepsOption = None,
    gate_lr: GateRateOption = None,
    seeds: SeedsOption = "0,1,2",
    search_budget: Annotated[int, typer.Option("--search-budget", min=1, help="perpcs+search: candidates looked at.")] = 24,
    residual_rank: Annotated[int, typer.Option("--residual-rank", min=1, help="perpcs+residual: its rank.")] = 1,
    directions: Annotated[int, typer.Option("--directions", min=1, help="perpcs+subspace: of each side of a module.")] = 64,
    store: EvalStoreOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Train and ask every arm; leave results.json, predictions.jsonl, report.md and plot.png in DIR.

    A run that was cut off goes on where it was when the same command is given again. Arms of pieces (perpcs, perpcs+rag,
    peft-retrieval, uniform, random-pieces, random-gates, perpcs+search, perpcs+residual, perpcs+subspace) are run where --arms
    names them; then the sharers are kept out of stage 1.
    """
    from idiolect.data.tasks import get_task
    from idiolect.evals.arms import parse_arms

    both = both_stages(
        preset, max_history=max_history, seed=seed, max_tokens=max_tokens, modules=modules, lr=lr, epochs=epochs, rank=rank,
        batch_size=batch_size, slots=slots, task_lr=task_lr, task_epochs=task_epochs, task_rank=task_rank,
    )  # fmt: skip
    chosen = parse_arms(arms) if arms is not None else None
    need_report(get_task(task).kind)
    plan = piece_plan(
        sharers=sharers, strategy=strategy, min_items=min_items, ratio=share_ratio, history=sharer_history, pieces=pieces,
        temperature=temperature, strength=strength, gate_steps=gate_steps, gate_rate=gate_lr, seeds=seeds, seed=seed,
        search_budget=search_budget, residual_rank=residual_rank, directions=directions,
    )  # fmt: skip
    with evaluating(ctx, data, out_, store, base, device, dtype, both) as house, stages() as progress:
        evaluation = house.evaluate(
            data, task, out_, targets=targets, arms=chosen, options=both.options, task_overrides=both.stage_1,
            task_examples=task_examples, k=k, free=free, pieces=plan, command=typed(ctx), on_stage=progress,
        )  # fmt: skip
    show(out_, evaluation.seconds, wants_json(ctx, json))


@contextmanager
def evaluating(
    ctx: typer.Context,
    data: Path,
    folder: Path,
    store: str | None,
    base: str | None,
    device: str | None,
    dtype: str | None,
    both: Stages,
) -> Iterator[Idiolect]:
    """The house of an evaluation: its store lies in the report's folder, where none is named."""
    from idiolect.house import TrainingOptions

    private_folder(folder)  # before a store in it is made, and with it the folder, for everybody to read
    place = store or given_before(ctx).store or str(folder / "store")
    with open_house(ctx, place, base, device, dtype) as house:
        busy(f"loading {house.base_name} and importing {data} …")
        tell_modules(house, "task", TrainingOptions(both.options.preset, both.stage_1), "--modules")
        tell_modules(house, "user", both.options, "--modules")
        yield house


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


def need_report(kind: str) -> None:
    """Say what is missing for the report now, not after an hour of training."""
    wanted = ("torch", "matplotlib", *(("rouge_score",) if kind == "text" else ()))
    if missing := [name for name in wanted if find_spec(name) is None]:
        raise DependencyMissing(f"{', '.join(missing)} not installed; install it: pip install 'idiolect[local]'")
