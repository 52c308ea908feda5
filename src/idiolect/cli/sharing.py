"""Options of evaluations with arms of pieces: who shares, what, and how adapters are made from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from idiolect.cli.options import settings

if TYPE_CHECKING:
    from idiolect.evals.pooling import PiecePlan

SharersOption = Annotated[int, typer.Option("--sharers", min=1, help="Pieces: people who share, none of them a target.")]
StrategyOption = Annotated[
    str | None, typer.Option("--strategy", metavar="NAME", help="Pieces: how sharers are chosen (cluster_most_active).")
]
MinItemsOption = Annotated[int, typer.Option("--min-items", min=1, help="Pieces: nobody with fewer items shares.")]
RatioOption = Annotated[float, typer.Option("--share-ratio", help="Pieces: share of their pieces that sharers give, by lot.")]
SharerHistoryOption = Annotated[int | None, typer.Option("--sharer-history", help="Pieces: newest N items of each sharer.")]
PiecesOption = Annotated[int, typer.Option("--pieces", min=1, help="Pieces: how many per module.")]
TemperatureOption = Annotated[float, typer.Option("--temperature", help="Pieces: of the softmax over their scores.")]
GateStepsOption = Annotated[int | None, typer.Option("--gate-steps", min=1, help="Pieces: steps that gates are trained.")]
GateRateOption = Annotated[float | None, typer.Option("--gate-lr", help="Pieces: learning rate of gates.")]
SeedsOption = Annotated[str, typer.Option("--seeds", metavar="N,N…", help="Pieces: seeds of what hangs on a lot.")]


def piece_plan(
    *,
    sharers: int,
    strategy: str | None = None,
    min_items: int = 50,
    ratio: float = 1.0,
    history: int | None = None,
    pieces: int = 3,
    temperature: float = 1.0,
    gate_steps: int | None = None,
    gate_rate: float | None = None,
    seeds: str = "0,1,2",
    seed: int | None = None,
    **more: Any,
) -> PiecePlan:
    """The plan that these options ask for.

    Raises:
        ConfigError: values that cannot be; before anything is loaded or trained.
    """
    from idiolect.evals.pooling import SELECTION, PiecePlan
    from idiolect.pieces.assemble import Settings
    from idiolect.pieces.consent import Consent
    from idiolect.pieces.gates import GATES
    from idiolect.pieces.select import Strategy

    if strategy is not None and strategy not in get_args(Strategy):
        raise _wrong(f"strategy {strategy!r} is not known; choose one of: {', '.join(get_args(Strategy))}")
    if not 0 < ratio <= 1:
        raise _wrong(f"the share ratio is {ratio}; it must be above 0, and 1 at most")
    numbers = read_seeds(seeds)
    first = numbers[0] if seed is None else seed
    return PiecePlan(
        selection=SELECTION.but(n=sharers, strategy=strategy, min_items=min_items, seed=first),
        consent=Consent(ratio=ratio, seed=first),
        gates=GATES.but(**dict(settings(steps=gate_steps, learning_rate=gate_rate, seed=first))),
        assembly=Settings(k=pieces, temperature=temperature, seed=first),
        max_history=history,
        seeds=numbers,
        **more,
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
