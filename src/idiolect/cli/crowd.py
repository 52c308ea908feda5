"""`idiolect game crowd`: simulated players for a server that runs. No torch."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from idiolect.cli.options import JsonOption, StoreOption, open_house, wants_json
from idiolect.cli.output import emit, note, say
from idiolect.errors import DependencyMissing, InputError

KEY_VARIABLE = "IDIOLECT_CROWD_KEY"

UrlArgument = Annotated[str, typer.Argument(metavar="URL", help="Where the game is, e.g. http://127.0.0.1:8000.")]
PlayersOption = Annotated[int, typer.Option("--players", min=1, metavar="N", help="How many come.")]
RoundsOption = Annotated[int, typer.Option("--rounds", min=1, metavar="R", help="Rounds of each.")]
KeyOption = Annotated[
    str | None,
    typer.Option("--key", envvar=KEY_VARIABLE, help="The server's, from 'idiolect game crowd-key'; else the store tells it."),
]


def crowd(
    ctx: typer.Context,
    url: UrlArgument,
    players: PlayersOption = 8,
    rounds: RoundsOption = 5,
    seed: Annotated[int, typer.Option("--seed", help="Of who they are and what they answer.")] = 0,
    key: KeyOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Have simulated players play on a running server. They are marked as simulated, which takes the server's key."""
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url!r} is no address of a server; write it as http://127.0.0.1:8000")
    try:
        from idiolect.bench.crowd_http import Tally, send_crowd
    except ModuleNotFoundError as error:
        raise DependencyMissing(f"a crowd needs {error.name}; install it: pip install 'idiolect[serve]'") from None
    from idiolect.game.crowd import COMPANY, cast_of
    from idiolect.game.vocabulary import vocabulary

    def told(tally: Tally) -> None:
        if (done := tally.rounds + tally.judged + tally.failed) % 50 == 0:
            note(f"{done} of {players * rounds} rounds")

    minds = cast_of(players, vocabulary(), COMPANY, seed)
    tally = asyncio.run(send_crowd(url, minds, rounds, key=key or _key(ctx, store), seed=seed, on_round=told))
    if wants_json(ctx, json):
        emit({"players": players, "rounds": tally.rounds, "judged": tally.judged, "failed": tally.failed})
    else:
        words, judged = f"{tally.rounds} rounds of words", f"{tally.judged} of Nym or Not"
        say(f"{players} simulated players: {words}, {judged}, {tally.failed} broke off")
    if tally.failed:
        raise typer.Exit(1)


def crowd_key(ctx: typer.Context, store: StoreOption = None) -> None:
    """Print the key by which a server on this store lets simulated players in. Whoever has it can send some."""
    say(_key(ctx, store))


def _key(ctx: typer.Context, store: str | None) -> str:
    from idiolect.game import crowd as company
    from idiolect.game.desk import Game

    with open_house(ctx, store) as house:
        return company.crowd_key(Game(house.store).accounts.secret())
