"""The server's clock, the only one that counts."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds since 1970, UTC."""


def server_clock() -> Clock:
    """A clock that goes on evenly: the computer's time once, and from then on what has passed since, so that nobody's round
    gets longer or shorter when the computer's time is set.
    """
    began, since = time.time(), _steady()
    return lambda: began + _steady() - since


def _steady() -> float:
    """Seconds that never jump, those in which the computer slept included where that is known."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)
