"""The trade-off of every run drawn: what is forgotten against what is kept, as λ rises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from idiolect.errors import DependencyMissing
from idiolect.unlearn.select import Choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^vPX*"


def save_curves(curves: Mapping[str, Sequence[Choice]], path: Path) -> None:
    """A line for each run: forget probability (x) against utility (y), a point per λ, the chosen ones filled.

    Args:
        curves: choices of each run, one for each seed; lines are means over them.

    Raises:
        DependencyMissing: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise DependencyMissing("plots need matplotlib; install it: pip install 'idiolect[local]'") from None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    colours = matplotlib.colormaps["tab10"]
    for i, (name, choices) in enumerate(curves.items()):
        _line(axes, name, choices, colours(i % 10), MARKERS[i % len(MARKERS)])
    first = next(iter(curves.values()))
    aims = [choice.aim for choice in first if choice.aim is not None]
    if aims:
        axes.axvline(sum(aims) / len(aims), color="0.5", lw=1, ls="--", label="aim: as if never learnt")
    axes.axhline(first[0].floor, color="0.5", lw=1, ls=":", label=f"floor {first[0].floor:g}")
    axes.set_xlabel("mean probability of answers to be forgotten (falling to the right)")
    axes.set_ylabel("probability of kept answers,\nas a share of the original's")
    axes.set_ylim(bottom=0)
    axes.invert_xaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    axes.set_title("What is forgotten, and what is kept, as λ rises (filled: chosen)", loc="left", fontsize=10)
    figure.savefig(path, dpi=150)


def _line(axes: Axes, name: str, choices: Sequence[Choice], colour: object, marker: str) -> None:
    n = len(choices)
    points = list(zip(*(choice.points for choice in choices), strict=True))
    x = [sum(point.forget for point in same) / n for same in points]
    y = [sum(point.utility for point in same) / n for same in points]
    axes.plot(x, y, color=colour, marker=marker, mfc="white", ms=5, lw=1.3, label=name)
    chosen = [choice.chosen for choice in choices]
    axes.plot(
        sum(point.forget for point in chosen) / n, sum(point.utility for point in chosen) / n,
        color=colour, marker=marker, ms=8, ls="", zorder=3,
    )  # fmt: skip
