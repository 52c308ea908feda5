"""The command `idiolect`. Importing this loads neither torch nor a database: every command loads what it needs."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from idiolect import __version__
from idiolect.cli import (
    adapters,
    bench,
    crowd,
    demo,
    doctor,
    forget,
    game_data,
    generate,
    history,
    play,
    pools,
    portraits_study,
    relations,
    studies,
    train,
    unlearn_studies,
)
from idiolect.cli import store as stores
from idiolect.cli.options import BaseOption, DeviceOption, DtypeOption, Given, JsonOption, StoreOption
from idiolect.cli.output import error_line
from idiolect.errors import IdiolectError, InputError
from idiolect.types import has_surrogate

TYPED = "idiolect.typed"
"""Where the context keeps the arguments as they were typed."""


class Idiolects(TyperGroup):
    """The commands, with our errors as one line and Ctrl-C as 130."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _refuse_other_encodings(args)
        ctx.meta[TYPED] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except IdiolectError as error:
            error_line(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            line = "idiolect: stopped; finished adapters are kept. To go on, give the same command again."
            print(f"\n{line}", file=sys.stderr)
            raise typer.Exit(130) from None


def _refuse_other_encodings(args: list[str]) -> None:
    """Bytes that are no UTF-8 arrive as half surrogate pairs, which neither a database nor a tokenizer takes."""
    for number, word in enumerate(args, 1):
        if has_surrogate(word):  # not quoted: it may be what somebody wrote
            error = InputError(f"argument {number} is not UTF-8; write it in UTF-8, or rename the file that it names")
            error_line(error)
            raise typer.Exit(error.exit_code)


app = typer.Typer(
    cls=Idiolects,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        print(f"idiolect {__version__}")
        raise typer.Exit


@app.callback()
def shared(
    ctx: typer.Context,
    store: StoreOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Gives every user of a language model an adapter of their own.

    A first look: [bold]idiolect demo[/bold]. Your own data: history import → train --stage task → train --all → generate.
    """
    ctx.obj = Given(store, base, device, dtype, json)


app.add_typer(history.app, name="history")
app.command("train")(train.train)
app.command("generate")(generate.generate)
app.add_typer(adapters.app, name="adapters")
app.add_typer(pools.app, name="pieces")  # the app of pieces.py, with the commands of pools.py
app.add_typer(forget.app, name="forget")
app.add_typer(unlearn_studies.app, name="unlearn")  # the app of unlearn.py, with the commands of unlearn_studies.py
app.add_typer(stores.app, name="store")
app.add_typer(studies.app, name="evals")  # the app of evals.py, with the commands of studies.py
app.command("play")(play.play)
app.command("serve")(play.serve)
app.add_typer(play.app, name="game")
for command in (game_data.export, game_data.history, game_data.retest, game_data.portrait, portraits_study.study, crowd.crowd):
    play.app.command()(command)
play.app.command("crowd-key")(crowd.crowd_key)
app.add_typer(relations.app, name="relations")
app.command("bench")(bench.bench)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """The console entry."""
    # Waiting threads that spin cost more than they win on a shared machine; it only counts before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    app(prog_name="idiolect")
