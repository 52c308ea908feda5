"""The picture of one evaluation: how good each arm is, and who gains from an adapter of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from idiolect.errors import DependencyMissing
from idiolect.evals.arms import ARMS, title
from idiolect.evals.metrics import primary_metric
from idiolect.evals.results import Evaluation, headline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, whose hues are told apart by colour-blind readers too.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"

UNITS = {
    "accuracy": "accuracy (share of queries)",
    "mae": "mean absolute error (points of the scale)",
    "rouge1": "ROUGE-1 (F-measure)",
    "recall@5": "recall of the person's answers in the first five",
}
DELTA_UNITS = {
    "accuracy": "difference in accuracy",
    "mae": "difference in MAE (points)",
    "rouge1": "difference in ROUGE-1",
    "recall@5": "difference in recall@5",
}

_DPI = 150
_TITLE_CHARACTERS = 58
"""What fits above one panel."""


def save_plot(evaluation: Evaluation, path: Path) -> None:
    """Write the picture as PNG: arms as dots, and, where OPPU and non-personalised were run, the gain of each person.

    Raises:
        DependencyMissing: if matplotlib is not installed.
        OSError: if the file cannot be written.
    """
    figure = _figure(evaluation)
    figure.savefig(path, dpi=_DPI, format="png")


def _figure(evaluation: Evaluation) -> Figure:
    """Made without pyplot: no display, no global state, safe in any thread."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError:
        raise DependencyMissing("the plot needs matplotlib: pip install 'idiolect[local]'") from None
    gains = evaluation.person_gains()
    n_arms, n_panels = len(evaluation.arms), 2 if gains else 1
    figure = Figure(figsize=(6.2 * n_panels, max(3.8, 1.9 + 0.42 * n_arms)), layout=ConstrainedLayoutEngine(w_pad=0.12))
    axes = figure.subplots(1, n_panels, squeeze=False)[0]
    _draw_arms(axes[0], evaluation)
    if gains:
        _draw_gains(axes[1], gains, evaluation)
    figure.suptitle(_title(evaluation, n_panels), fontsize=12)
    return figure


def _title(evaluation: Evaluation, n_panels: int) -> str:
    n_people, n_queries = len(set(evaluation.owner.values())), len(evaluation.queries)
    line = headline(_plain(evaluation.task, 24), _plain(evaluation.base, 32), n_people, n_queries)
    return line if len(line) <= _TITLE_CHARACTERS * n_panels else line.replace(": ", "\n", 1)


def _plain(name: str, most: int = 28) -> str:
    """A name from outside: its end, where it is long, and no dollar sign, which would start a formula."""
    return (name if len(name) <= most else "…" + name[1 - most :]).replace("$", r"\$")


def _direction(evaluation: Evaluation) -> str:
    return "higher is better" if primary_metric(evaluation.kind)[1] else "lower is better"


def _draw_arms(axes: Axes, evaluation: Evaluation) -> None:
    """A dot for each arm's per-person mean, its 95 % interval as a line, the figure at the right edge."""
    known = [name for name in ARMS if name in evaluation.arms]
    names = known + [name for name in evaluation.arms if name not in ARMS]
    rows = np.arange(len(names))[::-1]
    for row, name in zip(rows, names, strict=True):
        _draw_arm(axes, evaluation, name, float(row))
    axes.set_yticks(rows, [_plain(title(name)) for name in names])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.margins(x=0.08)
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    metric, _ = primary_metric(evaluation.kind)
    axes.set_xlabel(f"{UNITS[metric]}, {_direction(evaluation)}\nmean over people, 95 % interval")


def _draw_arm(axes: Axes, evaluation: Evaluation, name: str, row: float) -> None:
    own = name in ARMS and ARMS[name].user_adapter in ("own", "pieces")
    color, marker = (BLUE, "D") if own else (GREY, "o")  # shape says the same as colour
    mean = float(np.mean(list(evaluation.people[name].values())))
    if interval := evaluation.intervals[name]:
        axes.plot(interval, [row, row], color=color, linewidth=2, solid_capstyle="round")
    axes.plot([mean], [row], marker, color=color, markersize=8)
    axes.annotate(f"{mean:.3f}", (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=9, color=color)


def _draw_gains(axes: Axes, gains: dict[str, float], evaluation: Evaluation) -> None:
    """A bar for each person, worst to best, so that the picture shows how many gain, and how much."""
    _, higher_is_better = primary_metric(evaluation.kind)
    values = np.array(sorted(gains.values(), reverse=not higher_is_better))
    better = values > 0 if higher_is_better else values < 0
    worse = (values != 0) & ~better
    x = np.arange(1, len(values) + 1)
    for mask, color, label in ((better, BLUE, "better"), (worse, ORANGE, "worse")):
        if mask.any():
            axes.bar(x[mask], values[mask], width=0.85, color=color, label=f"{label}: {mask.sum()}")
    if same := int((values == 0).sum()):
        axes.plot(x[values == 0], np.zeros(same), ".", color=GREY, markersize=4, label=f"same: {same}")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.axhline(float(values.mean()), color=GREEN, linestyle="--", linewidth=1.4, label=f"mean: {values.mean():+.3f}")
    axes.set_xlim(0.3, max(len(values), 8) + 0.7)
    _frame_gains(axes, evaluation)


def _frame_gains(axes: Axes, evaluation: Evaluation) -> None:
    from matplotlib.ticker import MaxNLocator

    metric, _ = primary_metric(evaluation.kind)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("people, sorted from worst to best")
    axes.set_ylabel(f"{DELTA_UNITS[metric]}, {_direction(evaluation)}")
    axes.set_title("OPPU minus non-personalised, each person", fontsize=10, pad=24)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    # Above the axes: bars may be anywhere inside them.
    axes.legend(
        frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 0.985), ncols=4, columnspacing=1.2, handlelength=1.5
    )
