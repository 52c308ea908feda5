"""`idiolect play` and `idiolect serve`: the word game in the browser; `idiolect game`: what an operator decides. No torch."""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from idiolect.cli.options import JsonOption, StoreOption, given, open_house, wants_json
from idiolect.cli.output import count, emit, note, say
from idiolect.cli.progress import Step, stages
from idiolect.errors import DependencyMissing, InputError

if TYPE_CHECKING:
    from idiolect.game.desk import Game
    from idiolect.service import Idiolect

AT_HOME = 100.0
"""How many times more guests an address may have where the server is this machine's own: a family, a classroom."""

_STORE = "IDIOLECT_STORE"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_WILDCARDS = ("0.0.0.0", "::", "")

PortOption = Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")]
HostOption = Annotated[str, typer.Option("--host", metavar="ADDRESS", help="What to listen on.")]
NameOption = Annotated[
    list[str] | None, typer.Option("--name", metavar="NAME", help="A name that browsers reach it by, e.g. game.example.org.")
]
HttpsOption = Annotated[bool, typer.Option("--https", help="Browsers come by HTTPS, which a proxy in front of it ends.")]
PlainOption = Annotated[
    bool, typer.Option("--plain-http", help="Let others in without HTTPS: passwords can be read on the way.")
]
CrowdOption = Annotated[int, typer.Option("--crowd", min=0, metavar="N", help="Simulated players to compare with; 0: none.")]
ContactOption = Annotated[
    str | None, typer.Option("--contact", metavar="TEXT", help="Who answers; stands on the page on privacy.")
]

Server: TypeAlias = "Callable[[Game, Listening, str | None, socket.socket, tuple[str, ...] | None], None]"

app = typer.Typer(no_args_is_help=True, help="Look after the word game.")


@dataclass(frozen=True)
class Listening:
    """Where a server is to listen, and who may come."""

    host: str
    port: int
    names: tuple[str, ...]
    https: bool
    plain_http: bool

    @property
    def is_home(self) -> bool:
        """Only this machine can reach it, and no proxy brings anybody else."""
        return self.host in _LOOPBACK and not self.https

    def check(self) -> None:
        """See to it that nobody's password is read on the way unless the operator said so.

        Raises:
            InputError: what was given is not safe, or not enough.
        """
        if self.host not in _LOOPBACK and not (self.https or self.plain_http):
            raise InputError(
                f"--host {self.host} lets others in; put a proxy with HTTPS in front and say --https, or say --plain-http"
            )
        if (self.host in _WILDCARDS or self.https) and not self.names:
            raise InputError("say which names browsers reach it by, e.g. --name game.example.org")

    def hosts(self) -> frozenset[str]:
        """What a request's Host header may be, beside this machine's own names."""
        own = () if self.host in _WILDCARDS else (self.host,)
        return frozenset(
            f"[{name}]" if ":" in name and "[" not in name else name for name in (n.lower() for n in (*own, *self.names))
        )


def play(
    ctx: typer.Context,
    port: PortOption = 8000,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    crowd: CrowdOption = 24,
    host: HostOption = "127.0.0.1",
    name: NameOption = None,
    https: HttpsOption = False,
    plain_http: PlainOption = False,
    contact: ContactOption = None,
    store: StoreOption = None,
) -> None:
    """Play the word game in the browser, with simulated players for company. Ctrl-C ends it."""
    place = Listening(host, port, tuple(name or ()), https, plain_http)
    _run(ctx, store, place, crowd, contact, browser=not no_browser)


def serve(
    ctx: typer.Context,
    port: PortOption = 8000,
    crowd: CrowdOption = 0,
    host: HostOption = "127.0.0.1",
    name: NameOption = None,
    https: HttpsOption = False,
    plain_http: PlainOption = False,
    contact: ContactOption = None,
    store: StoreOption = None,
) -> None:
    """Serve the word game to others."""
    place = Listening(host, port, tuple(name or ()), https, plain_http)
    _run(ctx, store, place, crowd, contact, browser=False)


# ---------------------------------------------------------------------------------------------------------------- game


@app.command()
def info(ctx: typer.Context, store: StoreOption = None, json: JsonOption = False) -> None:
    """Say who plays: accounts, guests and simulated players, and how many base words there are."""
    with _game(ctx, store) as game, game.books.read() as books:
        kinds = books.n_players_by_kind()
        words = books.prompts()
        about = {
            "store": game.store.place,
            "accounts": kinds.get("account", 0),
            "guests": kinds.get("guest", 0),
            "simulated": kinds.get("simulated", 0),
            "base_words": len(words),
            "rounds": sum(word.n_rounds for word in words),
            "to_forget": len(books.leaving()),
        }
    if wants_json(ctx, json):
        return emit(about)
    for key, value in about.items():
        say(f"{key.replace('_', ' '):<10} {value}")
    if about["to_forget"]:
        note("somebody who left has a history still; the server forgets it when the store is free")


@app.command()
def moderator(
    ctx: typer.Context,
    handle: Annotated[str, typer.Argument(metavar="HANDLE", help="An account.")],
    remove: Annotated[bool, typer.Option("--remove", help="From now on they are none.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Make a player a moderator, who sees what was reported and what waits to be shown."""
    with _game(ctx, store) as game:
        row = game.accounts.appoint(handle, not remove)
    if wants_json(ctx, json):
        return emit({"handle": row.handle, "moderator": row.moderator})
    say(f"{row.handle} is {'a moderator' if row.moderator else 'no moderator any more'}")


@app.command()
def recount(ctx: typer.Context, store: StoreOption = None, json: JsonOption = False) -> None:
    """Make all that is kept of players in sum again from their answers and judgements. Nothing changes where all is well."""
    from idiolect.game import recounting

    with _game(ctx, store) as game:
        n_words = recounting.recount_all(game.books, game.clock())
    if wants_json(ctx, json):
        return emit({"base_words": n_words})
    say(f"{count(n_words, 'base word')} counted again")


# --------------------------------------------------------------------------------------------------------- parts of these


def _run(ctx: typer.Context, store: str | None, place: Listening, crowd: int, contact: str | None, *, browser: bool) -> None:
    place.check()
    server = _server_of()
    listening = _listen(place)
    try:
        with _game(ctx, store) as game:
            game.prepare()
            _invite(game, crowd)
            port = listening.getsockname()[1]
            address = _address(place, port)
            _announce(place, address, port)
            if browser:  # a thread of its own: a browser in the terminal ends when it is closed
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
            with _handed_on(store or given(ctx).store):
                server(game, place, contact, listening, drawing(ctx))
    finally:
        listening.close()
    note("stopped; everything that was played is kept")


def _server_of() -> Server:
    """What serves; asked for first, so that whoever lacks a library knows at once.

    Raises:
        DependencyMissing: FastAPI and what belongs to it are not installed.
    """
    try:
        from idiolect.serve import running
        from idiolect.serve.app import Settings, create_app
    except ModuleNotFoundError as error:
        raise DependencyMissing(f"the game needs {error.name}; install it: pip install 'idiolect[serve]'") from None

    def serve(
        game: Game, place: Listening, contact: str | None, listening: socket.socket, drawing: tuple[str, ...] | None
    ) -> None:
        factor = AT_HOME if place.is_home else 1.0
        made = create_app(game, Settings(place.hosts(), place.https, factor, contact=contact, drawing=drawing))
        running.run(made, listening, behind_proxy=place.https)

    return serve


def drawing(ctx: typer.Context) -> tuple[str, ...] | None:
    """The command that draws the portraits of those who wait, on the same base and on the store that the environment names;
    None where torch is missing.
    """
    if find_spec("torch") is None:
        return None
    first = given(ctx)
    options = {"--base": first.base, "--device": first.device, "--dtype": first.dtype}
    said = [part for name, value in options.items() if value is not None for part in (name, value)]
    start = "from idiolect.cli.app import main; main()"
    return (sys.executable, "-c", start, "game", "portrait", "--waiting", *said)


@contextmanager
def _handed_on(store: str | None) -> Iterator[None]:
    """Let processes that are started meanwhile have the store, by environment: it may be an URL with a password, and everybody
    on this machine can read the words of a command.
    """
    before = os.environ.get(_STORE)
    if store is not None:
        os.environ[_STORE] = store
    try:
        yield
    finally:
        os.environ.pop(_STORE, None)
        if before is not None:
            os.environ[_STORE] = before


@contextmanager
def _game(ctx: typer.Context, store: str | None) -> Iterator[Game]:
    from idiolect.game.desk import Game

    with open_house(ctx, store) as house:
        yield Game(house.store, forget=lambda person: _forgotten(house, person))


def _forgotten(house: Idiolect, person: str) -> None:
    """Forget a player's history with everything downstream. Nothing is made again here: a request is no place to train in."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from idiolect.forget.planning import Options

    with TemporaryDirectory() as folder:  # the receipt names the person, of whom nothing is to be left
        house.forget(person, options=Options(rebuild=False, receipt=Path(folder) / "receipt.json"))


def _invite(game: Game, n_players: int) -> None:
    """See to it that there is company; once made, it stays."""
    from idiolect.game.crowd import populate

    with game.books.read() as books:
        if not n_players or books.has_simulated():
            return
    with stages() as shown:
        step: Step | None = None

        def show(done: int, of: int) -> None:
            nonlocal step
            step = step or shown("simulated players", of)
            step(done, "", None)

        populate(game, n_players, on_progress=show)


def _listen(place: Listening) -> socket.socket:
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    try:
        return socket.create_server((place.host, place.port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(f"port {place.port} is in use; choose another, or any free one: --port 0") from None
        raise InputError(f"cannot listen on {place.host} port {place.port}: {error.strerror or 'no such address'}") from None


def _address(place: Listening, port: int) -> str:
    if place.https:
        return f"https://{place.names[0]}/"
    host = place.names[0] if place.host in _WILDCARDS else place.host
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _announce(place: Listening, address: str, port: int) -> None:
    say(f"the word game is at {address} – Ctrl-C ends it")
    if not place.is_home and not place.https:
        note("without HTTPS, whoever is on the way can read passwords; do not use this beyond a network that you trust")
    if place.https:
        note(f"it listens on {place.host} port {port} for a proxy that ends HTTPS and passes on Host and X-Forwarded-For")
