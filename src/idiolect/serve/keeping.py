"""What the server does by itself: every second, closing rounds that ran out, forgetting those who left, and having portraits
drawn; every hour, deleting what has had its time.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from idiolect.errors import IdiolectError
from idiolect.game import recounting
from idiolect.serve.drawing import Drawer

if TYPE_CHECKING:
    from idiolect.serve.app import Frame

TURN_S = 1.0
PURGE_S = 3600.0
LEAVING_S = 60.0
"""Forgetting and wiping that could not be done are tried again after so long: training may hold the store for hours."""

log = logging.getLogger("idiolect.serve")


class Keeper:
    """One turn at a time; several servers on one store may each have theirs."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._purged: float | None = None
        self._leaving_from = 0.0
        command = frame.settings.drawing
        self._drawer = None if command is None else Drawer(frame.game, command)

    def turn(self) -> None:
        """Close overdue rounds; once an hour, also purge. What fails is tried again at the next turn."""
        game = self._frame.game
        self._attempt("closing rounds", game.rounds.close_overdue)
        if self._drawer is not None:
            self._attempt("drawing portraits", self._drawer.turn)
        now = game.clock()
        if now >= self._leaving_from:
            self._leaving_from = now + LEAVING_S
            self._attempt("forgetting those who left", self._see_off)
        if self._purged is None or now - self._purged >= PURGE_S:
            self._purged = now
            self._attempt("deleting old guests", game.accounts.purge)
            self._attempt("counting again", lambda: recounting.finish(game.books, now))
            self._attempt("deleting old counters", self._frame.limits.purge)

    def _see_off(self) -> None:
        """Forget those who left, and wipe what the database keeps of them; at the next turn again, if all of it is done."""
        accounts = self._frame.game.accounts
        if not accounts.finish_leaving() and accounts.tidy():
            self._leaving_from = 0.0

    def stop(self) -> None:
        """The server ends."""
        if self._drawer is not None:
            self._drawer.stop()

    async def keep(self) -> None:
        """Turns, until cancelled."""
        while True:
            await run_in_threadpool(self.turn)
            await asyncio.sleep(TURN_S)

    def _attempt(self, what: str, act: object) -> None:
        assert callable(act)
        try:
            act()
        except IdiolectError as error:
            log.warning("%s failed: %s", what, type(error).__name__)
        except Exception as error:  # the turns must go on
            log.error("%s failed unexpectedly: %s", what, type(error).__name__)
