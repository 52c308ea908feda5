"""The two pictures of an audit: what forgetting costs, and what comes back.

    tradeoff.png      distance to the retrained reference against utility; several weights of one method are a line
    relearning.png    memorisation after each count of relearning steps, of pairs that were taught again and of the others

Names stand in a legend beside the axes, so that no label lies on another; of a line's weights only those with room are written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from idiolect.errors import DependencyMissing
from idiolect.unlearn.findings import Audit, combine
from idiolect.unlearn.verdict import SEVERITY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, whose hues are told apart by colour-blind readers too; with markers, 35 methods.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F")
MARKERS = ("o", "s", "D", "^", "v")
GREY = "#777777"
_DPI = 150
_OFFSET, _NEAR, _APART = np.array([14.0, 10.0]), 11, 24
"""Pixels: from a point to its written weight, from a weight to any point at least, and from one weight to another."""


@dataclass(frozen=True)
class Method:
    """One entry of the legend: a candidate, or a sweep over the weights of one adapter, by weight."""

    label: str
    members: tuple[str, ...]
    colour: str
    marker: str


def methods(first: Audit) -> list[Method]:
    """The candidates in their order, sweeps together."""
    found: dict[str, list[str]] = {}
    for name in first.candidates:
        found.setdefault(first.model(name)["sweep"] or name, []).append(name)
    made = []
    for i, names in enumerate(found.values()):
        ordered = sorted(names, key=lambda name: abs(first.model(name)["weight"]))
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[(i // len(COLOURS)) % len(MARKERS)]
        made.append(Method(_label(ordered), tuple(ordered), colour, marker))
    return made


def worst(audits: Sequence[Audit], name: str) -> Audit:
    """The audit with a candidate's worst verdict."""
    return min(audits, key=lambda a: SEVERITY.index(a.verdict(name)["words"][0]))


def best_of(audits: Sequence[Audit], names: Sequence[str]) -> str:
    """Of one method's weights the one that did best: by verdict, then by how near its memorisation is to the reference's."""
    figures = combine(audits)

    def rank(name: str) -> tuple[int, float]:
        return -SEVERITY.index(worst(audits, name).verdict(name)["words"][0]), abs(figures[name]["excess"]["mean"])

    return min(names, key=rank)


def save_tradeoff(audits: Sequence[Audit], path: Path) -> None:
    """Write the trade-off as PNG.

    Raises:
        DependencyMissing: if matplotlib is not installed.
        OSError: if the file cannot be written.
    """
    first, figures = audits[0], combine(audits)
    figure = _figure(8.6, 5.0)
    figure.suptitle("How near to retraining, and at what price" + _seeds(audits, ", lines: least – greatest"), fontsize=12)
    axes = figure.subplots()
    _mark(axes, figures[first.original], "original", "none")
    _mark(axes, figures[first.retrained], "retrained reference", "black")
    shown = methods(first)
    for method in shown:
        _draw_method(axes, method, figures)
    every = [figures[name] for name in first.results["models"]]
    axes.set_xlim(*_limits([one["utility"] for one in every]))
    axes.set_ylim(*_limits([one["distance"] for one in every]))
    _frame(
        axes,
        "utility: harmonic mean, higher is better",
        "distance of truth ratios to the retrained\nreference (KS), lower is better",
    )
    _legend(axes)
    figure.canvas.draw()  # places in pixels are known only now
    points = [axes.transData.transform((one["utility"]["mean"], one["distance"]["mean"])) for one in every]
    written: list[np.ndarray] = []
    for method in shown:
        _write_weights(axes, method, figures, first, points, written)
    figure.savefig(path, dpi=_DPI, format="png")


def save_relearning(audits: Sequence[Audit], path: Path) -> None:
    """Write the relearning curves as PNG; of each method the weight that did best.

    Raises:
        DependencyMissing: if matplotlib is not installed.
        OSError: if the file cannot be written.
    """
    first = audits[0]
    panels = [("forget", "taught", "pairs taught again"), ("forget", "others", "other pairs of the forget set")]
    if "unrelated" in first.model(first.retrained)["relearning"]:
        panels.append(("unrelated", "others", "forget set, unrelated pairs taught"))
    figure = _figure(3.3 * len(panels) + 2.6, 4.4)
    figure.suptitle("What comes back" + _seeds(audits), fontsize=12)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (what, part, title) in zip(grid, panels, strict=True):
        _draw_curves(axes, audits, what, part)
        axes.set_title(title, fontsize=10)
        _frame(axes, "steps of relearning", "")
    grid[0].set_ylabel("exact memorisation (share of tokens)")
    _legend(grid[-1])
    figure.savefig(path, dpi=_DPI, format="png")


# -------------------------------------------------------------------------------------------------------------- pieces


def _figure(width: float, height: float) -> Figure:
    """Made without pyplot: no display, no global state, safe in any thread."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise DependencyMissing("the plot needs matplotlib: pip install 'idiolect[local]'") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _mark(axes: Axes, figures: Mapping[str, Any], label: str, fill: str) -> None:
    """A star, above everything else: a method that did nothing stands where the original does."""
    x, y = figures["utility"], figures["distance"]
    _spread(axes, x, y, "black")
    axes.plot(
        [x["mean"]], [y["mean"]], "*", markersize=14, label=label, zorder=6, markeredgecolor="black", markerfacecolor=fill
    )  # fmt: skip


def _draw_method(axes: Axes, method: Method, figures: Mapping[str, Any]) -> None:
    x, y = ([figures[name][key]["mean"] for name in method.members] for key in ("utility", "distance"))
    for name in method.members:
        _spread(axes, figures[name]["utility"], figures[name]["distance"], method.colour)
    axes.plot(
        x, y, color=method.colour, marker=method.marker, markersize=7, linewidth=1.4 if len(x) > 1 else 0, zorder=4,
        label=method.label, markeredgecolor="white", markeredgewidth=0.7,
    )  # fmt: skip


def _spread(axes: Axes, x: Mapping[str, Any], y: Mapping[str, Any], colour: str) -> None:
    """The least and the greatest over seeds."""
    if x["n"] > 1:
        axes.plot([x["min"], x["max"]], [y["mean"]] * 2, color=colour, linewidth=1, alpha=0.6)
        axes.plot([x["mean"]] * 2, [y["min"], y["max"]], color=colour, linewidth=1, alpha=0.6)


def _write_weights(
    axes: Axes,
    method: Method,
    figures: Mapping[str, Any],
    first: Audit,
    points: Sequence[np.ndarray],
    written: list[np.ndarray],
) -> None:
    """Beside a line's points their weights, where there is room between them and inside the axes."""
    from matplotlib.patheffects import withStroke

    if len(method.members) < 2:
        return
    for name in method.members:
        point = (figures[name]["utility"]["mean"], figures[name]["distance"]["mean"])
        place = axes.transData.transform(point) + _OFFSET
        on_points = any(np.abs(place - other).max() < _NEAR for other in points)
        if not on_points and all(np.abs(place - other).max() > _APART for other in written):
            axes.annotate(
                f"{abs(first.model(name)['weight']):g}", point, xytext=(6, 5), textcoords="offset points", fontsize=8,
                color=method.colour, path_effects=[withStroke(linewidth=2.5, foreground="white")], zorder=7,
            )  # fmt: skip
            written.append(place)


def _draw_curves(axes: Axes, audits: Sequence[Audit], what: str, part: str) -> None:
    first = audits[0]
    places = np.arange(len(first.model(first.retrained)["relearning"][what]["steps"]))
    level = float(np.mean([a.summary(first.original)["memorisation"] for a in audits]))
    axes.axhline(level, color=GREY, linewidth=1, linestyle=":", label="original")
    for method in methods(first):
        name = best_of(audits, method.members)
        axes.plot(
            places, _curve(audits, name, what, part), color=method.colour, marker=method.marker, markersize=5, linewidth=1.6,
            label=_plain(name),
        )  # fmt: skip
    reference = _curve(audits, first.retrained, what, part)
    axes.plot(places, reference, color="black", linestyle="--", linewidth=1.8, label="retrained reference", zorder=5)
    axes.set_xticks(places, [str(n) for n in first.model(first.retrained)["relearning"][what]["steps"]])
    axes.set_ylim(-0.03, 1.03)


def _curve(audits: Sequence[Audit], name: str, what: str, part: str) -> np.ndarray:
    return np.mean([a.model(name)["relearning"][what]["means"][part]["memorisation"] for a in audits], axis=0)


def _limits(values: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    low, high = min(v["min"] for v in values), max(v["max"] for v in values)
    margin = max(0.08 * (high - low), 0.02)
    return low - margin, high + margin


def _frame(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    if y:
        axes.set_ylabel(y)
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _seeds(audits: Sequence[Audit], also: str = "") -> str:
    return f" (means of {len(audits)} seeds{also})" if len(audits) > 1 else ""


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))


def _label(names: Sequence[str]) -> str:
    """What the names of a sweep begin with, less what introduces the weight."""
    if len(names) == 1:
        return _plain(names[0])
    start = names[0]
    for name in names[1:]:
        start = start[
            : next((i for i, (a, b) in enumerate(zip(start, name, strict=False)) if a != b), min(len(start), len(name)))
        ]
    start = start.rstrip(" 0123456789.-+−=:,([@×*λ")
    start = start or names[0]
    return _plain(f"{start if len(start) <= 22 else start[:21] + '…'}, by weight")


def _plain(name: str, most: int = 34) -> str:
    """A name from outside: its end, where it is long, and no dollar sign, which would start a formula."""
    return (name if len(name) <= most else "…" + name[1 - most :]).replace("$", r"\$")
