"""`idiolect evals study` and `idiolect evals privacy`: what pieces hang on, what they cost, and what they betray."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from idiolect.cli.evals import app, evaluating, need_report, show, typed
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
    wants_json,
)
from idiolect.cli.output import duration, emit, note, out
from idiolect.cli.progress import stages

Studies = Literal["sharers", "strategy", "ratio", "k", "temperature", "strength", "history", "noise", "cost"]


@app.command()
def study(
    ctx: typer.Context,
    name: Annotated[
        Studies, typer.Argument(metavar="NAME", help="sharers, strategy, ratio, k, temperature, strength, history, noise …")
    ],
    data: DataOption,
    task: TaskOption,
    out_: OutOption,
    values: Annotated[str | None, typer.Option("--values", metavar="V,V…", help="Conditions, in place of its own.")] = None,
    arms: Annotated[str, typer.Option("--arms", metavar="NAMES", help="Arms of pieces (history: oppu too).")] = "perpcs",
    targets: TargetsOption = 30,
    max_history: MaxHistoryOption = None,
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
    store: EvalStoreOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Vary one thing about pieces, everything else as given; leave a report in DIR. `cost` counts bytes and FLOP instead.

    Each condition is run with every seed. Sharers' adapters and gates are made once and used by all conditions.
    """
    from idiolect.data.tasks import get_task
    from idiolect.evals.arms import parse_arms

    both = both_stages(
        preset, max_history=max_history, seed=seed, max_tokens=max_tokens, modules=modules, lr=lr, epochs=epochs, rank=rank,
        batch_size=batch_size, slots=slots, task_lr=task_lr, task_epochs=task_epochs, task_rank=task_rank,
    )  # fmt: skip
    chosen = parse_arms(arms)
    need_report(get_task(task).kind)
    plan = piece_plan(
        sharers=sharers, strategy=strategy, min_items=min_items, ratio=share_ratio, history=sharer_history, pieces=pieces,
        temperature=temperature, strength=strength, gate_steps=gate_steps, gate_rate=gate_lr, seeds=seeds, seed=seed,
    )  # fmt: skip
    with evaluating(ctx, data, out_, store, base, device, dtype, both) as house, stages() as progress:
        seconds = house.study(
            name, data, task, out_, values=values, targets=targets, arms=chosen, options=both.options,
            task_overrides=both.stage_1, task_examples=task_examples, pieces=plan, command=typed(ctx), on_stage=progress,
        )  # fmt: skip
    if name != "cost":
        return show(out_, seconds, wants_json(ctx, json))
    _tell(out_, seconds, wants_json(ctx, json))


@app.command()
def privacy(
    ctx: typer.Context,
    data: DataOption,
    task: TaskOption,
    out_: OutOption,
    held_out: Annotated[float, typer.Option("--held-out", help="Share of each sharer's items that is not trained on.")] = 0.2,
    how: Annotated[Literal["random", "newest"], typer.Option("--how", help="Which of them: by lot, or the newest.")] = "random",
    targets: TargetsOption = 30,
    max_history: MaxHistoryOption = None,
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
    store: EvalStoreOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Try to tell from shared pieces and gates which items they were trained on; leave a report in DIR."""
    from idiolect.data.tasks import get_task

    both = both_stages(
        preset, max_history=max_history, seed=seed, max_tokens=max_tokens, modules=modules, lr=lr, epochs=epochs, rank=rank,
        batch_size=batch_size, slots=slots, task_lr=task_lr, task_epochs=task_epochs, task_rank=task_rank,
    )  # fmt: skip
    need_report(get_task(task).kind)
    plan = piece_plan(
        sharers=sharers, strategy=strategy, min_items=min_items, ratio=share_ratio, history=sharer_history, pieces=pieces,
        temperature=temperature, strength=strength, gate_steps=gate_steps, gate_rate=gate_lr, seed=seed,
    )  # fmt: skip
    with evaluating(ctx, data, out_, store, base, device, dtype, both) as house, stages() as progress:
        seconds = house.privacy(
            data, task, out_, held_out=held_out, how=how, seed=seed or 0, targets=targets, options=both.options,
            task_overrides=both.stage_1, task_examples=task_examples, pieces=plan, command=typed(ctx), on_stage=progress,
        )  # fmt: skip
    _tell(out_, seconds, wants_json(ctx, json))


def _tell(folder: Path, seconds: float, json: bool) -> None:
    """The report's own text before the part on doing it again, or its results.json."""
    import json as codec

    from rich.markdown import Markdown

    if json:
        return emit(codec.loads((folder / "results.json").read_text(encoding="utf-8")))
    text = (folder / "report.md").read_text(encoding="utf-8").split("\n## Doing it again")[0]
    out().print(Markdown("\n".join(line for line in text.splitlines() if not line.startswith("!["))))
    note(f"{duration(seconds)}; {folder}: results.json, report.md, plot.png")
