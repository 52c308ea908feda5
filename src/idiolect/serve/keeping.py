"""What the server does by itself: every second, closing rounds that ran out, and having portraits drawn; every hour, deleting
what has had its time.
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

log = logging.getLogger("idiolect.serve")


class Keeper:
    """One turn at a time; several servers on one store may each have theirs."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._purged: float | None = None
        command = frame.settings.drawing
        self._drawer = None if command is None else Drawer(frame.game, command)

    def turn(self) -> None:
        """Close overdue rounds; once an hour, also purge. What fails is tried again at the next turn."""
        game = self._frame.game
        self._attempt("closing rounds", game.rounds.close_overdue)
        if self._drawer is not None:
            self._attempt("drawing portraits", self._drawer.turn)
        now = game.clock()
        if self._purged is None or now - self._purged >= PURGE_S:
            self._purged = now
            self._attempt("deleting old guests", game.accounts.purge)
            self._attempt("counting again", lambda: recounting.finish(game.books, now))
            self._attempt("deleting old counters", self._frame.limits.purge)

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
