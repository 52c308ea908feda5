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

Step = Callable[[int, str], None]
"""(how many are done, a remark)."""

_QUIET_S = 10.0
"""Time between two plain lines."""


class Stages:
    """Shows the stages of a run one after another: `step = stages(title, total)`, then `step(done, remark)`."""

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

        def step(done: int, remark: str) -> None:
            bars.update(task, completed=done, remark=remark)

        def finish() -> None:
            bars.update(task, completed=total)
            bars.stop_task(task)

        self._finish = finish
        return step

    def _lines(self, title: str, total: int) -> Step:
        began = last = time.monotonic()
        latest = ""
        note(f"{title}: {total:,} to do")

        def step(done: int, remark: str) -> None:
            nonlocal last, latest
            latest = f" · {remark}" if remark else latest
            if time.monotonic() - last >= _QUIET_S:
                last = time.monotonic()
                note(f"{title}: {done:,}/{total:,}{latest}")

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
def training(title: str, n_people: int, total_steps: int | None) -> Iterator[Callable[[Training], None]]:
    """Progress of one call of the trainer: people done, tokens/s, time to go, loss.

    Args:
        total_steps: steps of all people together, for the time to go; None: not known.
    """
    with stages() as shown:
        step = shown(title, n_people)

        def on_progress(progress: Training) -> None:
            step(progress.done, remark(progress, total_steps))

        yield on_progress


def remark(progress: Training, total_steps: int | None) -> str:
    """Speed, loss and time to go in a few words."""
    parts = [count(progress.steps_done, "step"), f"{progress.tokens_per_s:,.0f} tokens/s"]
    if math.isfinite(progress.loss):
        parts.append(f"loss {progress.loss:.3f}")
    if total_steps and 0 < progress.steps_done < total_steps:
        left_s = progress.seconds * (total_steps - progress.steps_done) / progress.steps_done
        parts.append(f"{duration(left_s)} to go")
    return " · ".join(parts)


def busy(text: str) -> None:
    """Say what takes a moment, in a terminal only."""
    console = err()
    if console.is_terminal:
        console.print(Text(text, style="dim"))
