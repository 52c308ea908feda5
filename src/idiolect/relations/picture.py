"""The picture of a study: weighted F1 of every arm, published split beside lexical, published figures as lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idiolect.errors import DependencyMissing
from idiolect.evals.plot import BLUE, GREY, ORANGE
from idiolect.relations.classifier import TIERS
from idiolect.relations.study import PUBLISHED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOOKS = {"published": (BLUE, "o", 0.12), "lexical": (ORANGE, "D", -0.12)}
_SHOWN = ("LexNET 2016", "RoBERTa-large, T3 (2023)")


def save_picture(results: Mapping[str, Any], path: Path) -> None:
    """Write the picture as PNG: a panel for each benchmark, in its own labels; in the shared ones where those alone were run.

    Raises:
        DependencyMissing: if matplotlib is not installed.
        OSError: if the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError:
        raise DependencyMissing("the plot needs matplotlib: pip install 'idiolect[local]'") from None
    names = list(results["benchmarks"])
    native = any(cell["labelling"] == "native" for cell in results["cells"])
    wanted = [cell for cell in results["cells"] if cell["labelling"] == ("native" if native else "shared")]
    figure = Figure(figsize=(6.0 * len(names), 3.8), layout=ConstrainedLayoutEngine(w_pad=0.12))
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        _panel(axes, name, [cell for cell in wanted if cell["benchmark"] == name], published=native)
    figure.savefig(path, dpi=150, format="png")


def _panel(axes: Axes, name: str, cells: list[Mapping[str, Any]], *, published: bool) -> None:
    arms = list(dict.fromkeys(cell["arm"] for cell in cells))
    rows = {arm: float(len(arms) - 1 - i) for i, arm in enumerate(arms)}
    for cell in cells:
        color, marker, shift = _LOOKS[cell["split"]]
        value, y = cell["mean"]["weighted_f1"], rows[cell["arm"]] + shift
        axes.plot([value["min"], value["max"]], [y, y], color=color, linewidth=2)
        axes.plot([value["mean"]], [y], marker, color=color, markersize=7)
        above = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center", "fontsize": 8}
        axes.annotate(f"{value['mean']:.3f}", (value["mean"], y), **above)
    for cut, (color, marker, _) in _LOOKS.items():
        if any(cell["split"] == cut for cell in cells):
            axes.plot([], [], marker, color=color, label=f"{cut} split")
    for system in _SHOWN if published else ():
        if name in PUBLISHED[system]:
            style = "--" if system == _SHOWN[-1] else ":"
            axes.axvline(PUBLISHED[system][name], color=GREY, linestyle=style, label=f"{system}, published split")
    axes.set_yticks(list(rows.values()), [TIERS[arm] for arm in rows])
    axes.set_ylim(-0.6, len(arms) - 0.3)
    axes.set_xlim(0, 1)
    axes.set_xlabel("weighted F1, least to greatest of the seeds")
    axes.set_title(name, fontsize=11)
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
