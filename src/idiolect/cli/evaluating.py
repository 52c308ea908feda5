"""Options of commands that evaluate: data, training, and, for arms of pieces, who shares and how adapters are made from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from idiolect.cli.options import module_names, settings, training_options

if TYPE_CHECKING:
    from idiolect.evals.pooling import PiecePlan
    from idiolect.house import TrainingOptions

DataOption = Annotated[Path, typer.Option("--data", metavar="FOLDER|FILE", help="People with queries: users.jsonl, LaMP …")]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the report goes.")]
TargetsOption = Annotated[int, typer.Option("--targets", min=1, help="Most active people who get an adapter.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Seed of both stages.")]
TaskExamplesOption = Annotated[int, typer.Option("--task-examples", min=1, help="Stage 1: at most this many examples.")]
RateOption = Annotated[float | None, typer.Option("--lr", help="Stage 2: learning rate.")]
EpochsOption = Annotated[int | None, typer.Option("--epochs", help="Stage 2: epochs.")]
RankOption = Annotated[int | None, typer.Option("--rank", help="Stage 2: rank.")]
BatchSizeOption = Annotated[int | None, typer.Option("--batch-size", help="Stage 2: items per step.")]
TaskRateOption = Annotated[float | None, typer.Option("--task-lr", help="Stage 1: learning rate.")]
TaskEpochsOption = Annotated[int | None, typer.Option("--task-epochs", help="Stage 1: epochs.")]
TaskRankOption = Annotated[int | None, typer.Option("--task-rank", help="Stage 1: rank.")]
MaxTokensOption = Annotated[int | None, typer.Option("--max-tokens", help="Both stages: prompt and answer together.")]
SlotsOption = Annotated[int | None, typer.Option("--slots", help="People trained side by side (what fits).")]
EvalStoreOption = Annotated[str | None, typer.Option("--store", metavar="PATH|URL", help="Where adapters go (DIR/store).")]

SharersOption = Annotated[int, typer.Option("--sharers", min=1, help="Pieces: people who share, none of them a target.")]
StrategyOption = Annotated[
    str | None, typer.Option("--strategy", metavar="NAME", help="Pieces: how sharers are chosen (cluster_most_active).")
]
MinItemsOption = Annotated[int, typer.Option("--min-items", min=1, help="Pieces: nobody with fewer items shares.")]
RatioOption = Annotated[float, typer.Option("--share-ratio", help="Pieces: share of their pieces that sharers give, by lot.")]
SharerHistoryOption = Annotated[
    int | None, typer.Option("--sharer-history", min=1, help="Pieces: newest N items of each sharer.")
]
PiecesOption = Annotated[int, typer.Option("--pieces", min=1, help="Pieces: how many per module.")]
TemperatureOption = Annotated[float, typer.Option("--temperature", help="Pieces: of the softmax over their scores.")]
StrengthOption = Annotated[float, typer.Option("--strength", help="Pieces: what a module's weights add up to.")]
GateStepsOption = Annotated[int | None, typer.Option("--gate-steps", min=1, help="Pieces: steps that gates are trained.")]
GateRateOption = Annotated[float | None, typer.Option("--gate-lr", help="Pieces: learning rate of gates.")]
SeedsOption = Annotated[str, typer.Option("--seeds", metavar="N,N…", help="Pieces: seeds of what hangs on a lot.")]


@dataclass(frozen=True)
class Stages:
    """Settings of both stages, as a command's options have them."""

    options: TrainingOptions
    stage_1: tuple[tuple[str, Any], ...]


def both_stages(
    preset: str,
    *,
    max_history: int | None = None,
    seed: int | None = None,
    max_tokens: int | None = None,
    modules: str | None = None,
    lr: float | None = None,
    epochs: int | None = None,
    rank: int | None = None,
    batch_size: int | None = None,
    slots: int | None = None,
    task_lr: float | None = None,
    task_epochs: int | None = None,
    task_rank: int | None = None,
) -> Stages:
    """The settings that these options ask for.

    Raises:
        ConfigError: values that cannot be; before anything is loaded.
    """
    from idiolect.config import preset as named

    both = settings(seed=seed, max_tokens=max_tokens, targets=module_names(modules))
    user = settings(learning_rate=lr, epochs=epochs, rank=rank, batch_size=batch_size, slots=slots) + both
    stage_1 = settings(learning_rate=task_lr, epochs=task_epochs, rank=task_rank) + both
    options = training_options(preset, user, max_history=max_history)
    named(preset, "task").but(**dict(stage_1))
    return Stages(options, stage_1)


def piece_plan(
    *,
    sharers: int,
    strategy: str | None = None,
    min_items: int = 50,
    ratio: float = 1.0,
    history: int | None = None,
    pieces: int = 3,
    temperature: float = 1.0,
    strength: float = 1.0,
    gate_steps: int | None = None,
    gate_rate: float | None = None,
    seeds: str = "0,1,2",
    seed: int | None = None,
    search_budget: int = 24,
    residual_rank: int = 1,
    directions: int = 64,
) -> PiecePlan:
    """The plan that these options ask for.

    Raises:
        ConfigError: values that cannot be; before anything is loaded or trained.
    """
    from idiolect.evals.pooling import SELECTION, PiecePlan
    from idiolect.pieces.assemble import Settings
    from idiolect.pieces.consent import Consent
    from idiolect.pieces.gates import GATES
    from idiolect.pieces.residual import Residual
    from idiolect.pieces.search import Search
    from idiolect.pieces.select import Strategy

    if strategy is not None and strategy not in get_args(Strategy):
        raise _wrong(f"strategy {strategy!r} is not known; choose one of: {', '.join(get_args(Strategy))}")
    if not 0 < ratio <= 1:
        raise _wrong(f"the share ratio is {ratio}; it must be above 0, and 1 at most")
    numbers = read_seeds(seeds)
    first = seed or 0
    return PiecePlan(
        selection=SELECTION.but(n=sharers, strategy=strategy, min_items=min_items, seed=first),
        consent=Consent(ratio=ratio, seed=first),
        gates=GATES.but(**dict(settings(steps=gate_steps, learning_rate=gate_rate, seed=first))),
        assembly=Settings(k=pieces, temperature=temperature, seed=first, strength=strength),
        max_history=history,
        seeds=numbers,
        search=Search(budget=search_budget, seed=first),
        residual=Residual(rank=residual_rank),
        directions=directions,
    )


def read_seeds(text: str) -> tuple[int, ...]:
    """`0,1,2` → numbers. Raises ConfigError."""
    try:
        found = tuple(dict.fromkeys(int(word) for word in text.split(",") if word.strip()))
    except ValueError:
        raise _wrong(f"seeds {text!r} are not numbers; write them as 0,1,2") from None
    if not found or min(found) < 0:
        raise _wrong(f"seeds {text!r}: give at least one, none below 0")
    return found


def _wrong(problem: str) -> Exception:
    from idiolect.errors import ConfigError

    return ConfigError(problem)
