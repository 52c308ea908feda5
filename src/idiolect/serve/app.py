"""The app that serves the game: one process, the store behind it, nothing loaded from anywhere else.

    Gate (security.py) ──▶ errors (refusing.py) ──▶ router ──▶ Visit (pages.py) ──▶ Game's desks ──▶ store

How a router is written:

    router = APIRouter()

    @router.get("/rounds/{round}/report")
    def report(here: Here, round: str) -> Response:        # a plain function: it runs in a thread
        player = here.require_player()                     # or require_account, require_moderator, player_or_guest, here.player
        seen = here.game.rounds.report(player.key, round)  # desks raise refusals; nobody catches them here
        if here.wants_json:
            return here.json(asdict(seen))
        return here.page("Report", ReportView(...), notices=(...))

    @router.post("/rounds/{round}/finish")
    def finish(here: Here, round: str) -> Response:        # origin and token have been checked
        here.fields.all("text"), here.fields.text("x"), here.fields.flag("x")    # form or JSON alike; here.read(Model) for more
        here.limits.spend(ROUNDS_MINUTE, player.player)    # limiting.py; 429 with Retry-After
        return here.done(f"/rounds/{round}/report", {...}) # JSON for programs, 303 for browsers

and is mounted by adding it to `ROUTERS`. Answers carry a token only where the seat changes (a guest is made, sign-up, log-in,
log-out): there the header X-CSRF-Token has the new one, as has the JSON of /guest, /signup, /login, /logout and GET /me.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles

from idiolect import __version__
from idiolect.errors import StoreError
from idiolect.game.limiting import Limits
from idiolect.serve import (
    game_accounts,
    game_boards,
    game_judging,
    game_mirror,
    game_moderating,
    game_rounds,
    refusing,
    rendering,
)
from idiolect.serve.keeping import Keeper
from idiolect.serve.security import LOOPBACK, Gate, Tokens, derived
from idiolect.serve.views import AdapterView
from idiolect.store.game.records import PlayerRow

if TYPE_CHECKING:
    from idiolect.game.desk import Game

ROUTERS: tuple[APIRouter, ...] = (
    game_rounds.router,
    game_judging.router,
    game_boards.router,
    game_moderating.router,
    game_mirror.router,
    game_accounts.router,
)
"""What `create_app` mounts."""


@dataclass(frozen=True)
class Settings:
    """How a server is reached, and by how many.

    Attributes:
        hosts: names by which it may be asked, beside those of this machine.
        https: browsers reach it by HTTPS (a proxy in front ends that); cookies are then sent over HTTPS only.
        address_factor: how many times more guests and sign-ups one address may have than on the open web.
        max_body: bytes of a request.
        contact: who answers, for the page on privacy.
        keeps: closes rounds and deletes old guests by itself.
        drawing: the command that draws the portraits of those who wait; None: no adapters are trained here.
    """

    hosts: frozenset[str] = frozenset()
    https: bool = False
    address_factor: float = 1.0
    max_body: int = 64 * 1024
    contact: str | None = None
    keeps: bool = True
    drawing: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Frame:
    """What all requests have in common; `app.state.frame`."""

    game: Game
    settings: Settings
    limits: Limits
    tokens: Tokens
    adapter: Callable[[PlayerRow], AdapterView]


def create_app(
    game: Game,
    settings: Settings = Settings(),
    *,
    adapter: Callable[[PlayerRow], AdapterView] | None = None,
    routers: tuple[APIRouter, ...] | None = None,
) -> FastAPI:
    """The app.

    Args:
        adapter: what is known of a player's own adapter; by default how much history there is for one.
        routers: by default ROUTERS.
    """
    secret = game.accounts.secret()
    limits = Limits(game.books, game.clock, derived(secret, "limits"), settings.address_factor)
    shown = adapter or game_mirror.adapter_of(game)
    frame = Frame(game, settings, limits, Tokens(derived(secret, "forms")), shown)
    app = FastAPI(title="idiolect", version=__version__, docs_url=None, redoc_url=None, openapi_url=None, lifespan=_lifespan)
    app.state.frame = frame
    refusing.install(app)
    app.add_middleware(Gate, hosts=LOOPBACK | settings.hosts, https=settings.https, max_body=settings.max_body)
    for router in (*(ROUTERS if routers is None else routers), _health):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=str(rendering.STATIC)), name="static")
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    frame: Frame = app.state.frame
    if not frame.settings.keeps:
        yield
        return
    keeper = Keeper(frame)
    keeping = asyncio.create_task(keeper.keep())
    try:
        yield
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        keeper.stop()


_health = APIRouter()


def _frame(request: Request) -> Frame:
    return request.app.state.frame


@_health.get("/healthz")
def healthz(frame: Annotated[Frame, Depends(_frame)]) -> Response:
    """Whether the server and its store answer; for whoever watches over it."""
    try:
        frame.game.accounts.seated("")
    except StoreError:
        return JSONResponse({"ok": False, "store": False, "version": __version__}, 503)
    return JSONResponse({"ok": True, "store": True, "version": __version__})
