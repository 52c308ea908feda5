"""Progress on stderr: bars in a terminal, now and then a plain line anywhere else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from idiolect.cli.output import count, duration, err, note

if TYPE_CHECKING:
    from idiolect.train.trainer import Progress as Training

Step = Callable[[int, str, float | None], None]
"""(how many are done, a remark, seconds to go where they are known)."""

_QUIET_S = 10.0
"""Time between two plain lines."""


class Stages:
    """Shows the stages of a run one after another: `step = stages(title, total)`, then `step(done, remark, left_s)`."""

    def __init__(self, bars: Progress | None) -> None:
        self._bars = bars
        self._finish: Callable[[], None] = lambda: None

    def __call__(self, title: str, total: int) -> Step:
        self.end()
        return self._bar(title, total) if self._bars else self._lines(title, total)

    def end(self) -> None:
        """The stage that is shown is over."""
        self._finish()
        self._finish = lambda: None

    def _bar(self, title: str, total: int) -> Step:
        bars = self._bars
        assert bars is not None
        task = bars.add_task(title, total=total, remark="")

        latest = ""

        def step(done: int, remark: str, left_s: float | None) -> None:
            nonlocal latest
            latest = remark or latest
            bars.update(task, completed=done, remark=_with_left(remark, left_s))

        def finish() -> None:
            bars.update(task, completed=total, remark=latest)
            bars.stop_task(task)

        self._finish = finish
        return step

    def _lines(self, title: str, total: int) -> Step:
        began = last = time.monotonic()
        latest = ""
        note(f"{title}: {total:,} to do")

        def step(done: int, remark: str, left_s: float | None) -> None:
            nonlocal last, latest
            latest = f" · {remark}" if remark else latest
            if time.monotonic() - last >= _QUIET_S:
                last = time.monotonic()
                said = _with_left(remark, left_s)
                note(f"{title}: {done:,}/{total:,}" + (f" · {said}" if said else latest))

        self._finish = lambda: note(f"{title}: finished in {duration(time.monotonic() - began)}{latest}")
        return step


@contextmanager
def stages() -> Iterator[Stages]:
    """Progress for a run of several stages."""
    console = err()
    if not console.is_terminal:
        shown = Stages(None)
        yield shown
        shown.end()
        return
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=18),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[remark]}", markup=False, style="dim"),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as bars:
        shown = Stages(bars)
        yield shown
        shown.end()


@contextmanager
def training(title: str, n_people: int) -> Iterator[Callable[[Training], None]]:
    """Progress of one call of the trainer: people done, tokens/s, time to go, loss."""
    with stages() as shown:
        step = shown(title, n_people)
        yield lambda progress: step(progress.done, remark(progress), progress.left_s)


def remark(progress: Training) -> str:
    """Steps, speed and loss in a few words."""
    parts = [count(progress.steps_done, "step"), f"{progress.tokens_per_s:,.0f} tokens/s"]
    if math.isfinite(progress.loss):
        parts.append(f"loss {progress.loss:.3f}")
    return " · ".join(parts)


def _with_left(remark: str, left_s: float | None) -> str:
    return " · ".join(part for part in (remark, f"{duration(left_s)} to go" if left_s else "") if part)


def busy(text: str) -> None:
    """Say what takes a moment, in a terminal only."""
    console = err()
    if console.is_terminal:
        console.print(Text(text, style="dim"))
