"""Portraits are drawn by a process of its own, so that serving never waits for training, and loads no torch.

One that fails, because something else is trained or the base is not there, is started again later, and later each time.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idiolect.game.desk import Game

FIRST_WAIT_S, LONGEST_WAIT_S = 60.0, 3600.0
"""After the first failure in a row; doubled with each further one, up to the longest."""

log = logging.getLogger("idiolect.serve")


class Drawer:
    """Starts the process when somebody waits and none is running; it draws until nobody waits.

    Args:
        command: what draws everybody's who waits, e.g. `idiolect game portrait --waiting`.
    """

    def __init__(self, game: Game, command: Sequence[str]) -> None:
        self._game, self._command = game, tuple(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._n_failed, self._not_before = 0, 0.0

    def turn(self) -> None:
        """Look after the process."""
        if self._process is not None:
            status = self._process.poll()
            if status is None:
                return
            self._process = None
            self._ended(status)
        if self._game.clock() >= self._not_before and self._game.mirrors.is_anybody_waiting():
            # What it prints names people; what it found out is in the store.
            quiet = subprocess.DEVNULL
            self._process = subprocess.Popen(self._command, stdin=quiet, stdout=quiet, stderr=quiet)

    def _ended(self, status: int) -> None:
        if not status:
            self._n_failed = 0
            return
        wait_s = min(FIRST_WAIT_S * 2**self._n_failed, LONGEST_WAIT_S)
        self._n_failed, self._not_before = self._n_failed + 1, self._game.clock() + wait_s
        log.warning("drawing portraits ended with exit status %d; tried again in %d s", status, wait_s)

    def stop(self) -> None:
        """End it with the server; who was not finished is drawn again."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
