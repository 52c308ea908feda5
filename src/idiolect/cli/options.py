"""Options that many commands share, and how a command opens the house with them.

They may stand before the command or after it: `idiolect --store S history list`, `idiolect history list --store S`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from idiolect.cli.output import note

if TYPE_CHECKING:
    from idiolect.house import Stage, TrainingOptions
    from idiolect.service import Idiolect

DEFAULT_BASE = "idiolect-tiny"

StoreOption = Annotated[
    str | None,
    typer.Option("--store", metavar="PATH|URL", help="Folder or PostgreSQL URL of the store ($IDIOLECT_STORE, else yours)."),
]
BaseOption = Annotated[
    str | None, typer.Option("--base", metavar="NAME|FOLDER", help="The frozen base: idiolect-tiny, a folder or a hub id.")
]
DeviceOption = Annotated[str | None, typer.Option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 (the best here).")]
DtypeOption = Annotated[
    str | None, typer.Option("--dtype", metavar="DTYPE", help="float32, bfloat16, float16 or float64 (what suits the device).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")]
TaskOption = Annotated[str, typer.Option("--task", metavar="TASK", help="LaMP-1, LaMP-2N, LaMP-2M, LaMP-3 … or movie-rating.")]
PresetOption = Annotated[str, typer.Option("--preset", metavar="NAME", help="default, paper or release.")]
VariantOption = Annotated[
    str, typer.Option("--variant", metavar="NAME", help="Which of a person's adapters: k0, bm25-k1, recency-k4 …")
]
MaxHistoryOption = Annotated[int | None, typer.Option("--max-history", help="Train on the newest N items of each person only.")]

ModulesOption = Annotated[
    str | None, typer.Option("--modules", metavar="NAMES", help="Target modules of both stages: q_proj,v_proj …")
]


@dataclass
class Given:
    """Shared options as they were given before the command."""

    store: str | None = None
    base: str | None = None
    device: str | None = None
    dtype: str | None = None
    json: bool = False


def given(ctx: typer.Context) -> Given:
    """What stood before the command."""
    return ctx.obj if isinstance(ctx.obj, Given) else Given()


def wants_json(ctx: typer.Context, json: bool) -> bool:
    """Whether --json was given, in either place."""
    return json or given(ctx).json


def open_house(
    ctx: typer.Context, store: str | None, base: str | None = None, device: str | None = None, dtype: str | None = None
) -> Idiolect:
    """The house with a command's options; those before the command count where the command has none."""
    from idiolect.service import Idiolect

    first = given(ctx)
    return Idiolect.open(
        store or first.store,
        base or first.base or DEFAULT_BASE,
        device=device or first.device,
        dtype=dtype or first.dtype,
    )


def module_names(text: str | None) -> tuple[str, ...] | None:
    """`q_proj, v_proj` → names; None where nothing was given."""
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def tell_modules(house: Idiolect, stage: Stage, options: TrainingOptions, option: str) -> None:
    """Say so where the base lacks modules of the preset and others take their place. Loads the base."""
    wanted, taken = options.config(stage).targets, house.modules(stage, options)
    if lacking := [name for name in wanted if name not in taken]:
        number = 1 if stage == "task" else 2
        note(
            f"{house.base_name} has no {', '.join(lacking)}: stage {number} trains {', '.join(taken)}; "
            f"choose others with {option}"
        )


def settings(**values: Any) -> tuple[tuple[str, Any], ...]:
    """Settings that were given, as overrides of a preset."""
    return tuple((name, value) for name, value in values.items() if value is not None)


def training_options(
    preset: str,
    overrides: tuple[tuple[str, Any], ...],
    retriever: str = "none",
    k: int | None = None,
    max_history: int | None = None,
) -> TrainingOptions:
    """The service's options from a command's. Naming a retriever without k means the one best item.

    Raises:
        ConfigError: an unknown retriever, preset or setting; before anything is loaded.
    """
    from typing import cast, get_args

    from idiolect.config import preset as named
    from idiolect.errors import ConfigError
    from idiolect.house import TrainingOptions
    from idiolect.types import Retriever

    if retriever not in get_args(Retriever):
        raise ConfigError(f"retriever {retriever!r} is not known; choose one of: {', '.join(get_args(Retriever))}")
    if k is None:
        k = 0 if retriever == "none" else 1
    named(preset, "user").but(**dict(overrides))
    return TrainingOptions(preset, overrides, cast(Retriever, retriever), k, max_history)
