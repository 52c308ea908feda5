"""Portraits are drawn by a process of its own, so that serving never waits for training, and loads no torch."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idiolect.game.desk import Game

log = logging.getLogger("idiolect.serve")


class Drawer:
    """Starts the process when somebody waits and none is running; it draws until nobody waits.

    Args:
        command: what draws everybody's who waits, e.g. `idiolect game portrait --waiting`.
    """

    def __init__(self, game: Game, command: Sequence[str]) -> None:
        self._game, self._command = game, tuple(command)
        self._process: subprocess.Popen[bytes] | None = None

    def turn(self) -> None:
        """Look after the process."""
        if self._process is not None:
            status = self._process.poll()
            if status is None:
                return
            self._process = None
            if status:
                log.warning("drawing portraits ended with exit status %d", status)
        if self._game.mirrors.is_anybody_waiting():
            # What it prints names people; what it found out is in the store.
            quiet = subprocess.DEVNULL
            self._process = subprocess.Popen(self._command, stdin=quiet, stdout=quiet, stderr=quiet)

    def stop(self) -> None:
        """End it with the server; who was not finished is drawn again."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
