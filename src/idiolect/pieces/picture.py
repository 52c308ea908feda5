"""A picture of assembled adapters: for each module (row) and person (column), whose piece weighs most, and how much."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from idiolect.errors import DependencyMissing, InputError
from idiolect.model.pieces import Entries

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette and three tints, whose hues are told apart by colour-blind readers too.
PALETTE = ("#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#BBBBBB", "#B8DE8C", "#D6C1EE")
_EMPTY = "#FFFFFF"


@dataclass(frozen=True)
class Cell:
    """The heaviest piece of one module of one adapter."""

    sharer: str
    weight: float


@dataclass(frozen=True)
class Picture:
    """What is drawn.

    Attributes:
        rows: modules, in short.
        columns: people.
        cells: one list per row; None where nothing is cited.
        sharers: all of them, in the order of their colours.
        kin: of each column, the sharer that the person was made to resemble; marked wherever it is found.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[Cell | None, ...], ...]
    sharers: tuple[str, ...]
    kin: Mapping[str, str]

    @classmethod
    def of(
        cls, adapters: Mapping[str, Entries], owner: Mapping[int, str], sharers: Sequence[str], kin: Mapping[str, str]
    ) -> Picture:
        """adapters: by person; owner: whose piece each id is."""
        modules = list(next(iter(adapters.values())))
        cells = tuple(tuple(_heaviest(entries[module], owner) for entries in adapters.values()) for module in modules)
        return cls(tuple(map(short, modules)), tuple(adapters), cells, tuple(sharers), kin)

    def colour(self, sharer: str) -> str:
        return PALETTE[self.sharers.index(sharer) % len(PALETTE)]

    def is_kin(self, column: int, cell: Cell | None) -> bool:
        return cell is not None and self.kin.get(self.columns[column]) == cell.sharer


def _heaviest(cited: Sequence[tuple[int, float]], owner: Mapping[int, str]) -> Cell | None:
    return Cell(owner.get(cited[0][0], "?"), cited[0][1]) if cited else None


def short(module: str) -> str:
    """`model.layers.3.self_attn.q_proj` → `layer 3 q`."""
    layer = re.search(r"\.(\d+)\.", module)
    return (f"layer {layer[1]} " if layer else "") + module.rsplit(".", 1)[-1].removesuffix("_proj")


def ink(colour: str) -> str:
    """Black or white, whichever is read better on this colour (ITU-R BT.601's weights)."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else "#FFFFFF"


def save_picture(picture: Picture, path: Path, title: str) -> None:
    """Write it as PNG, for its owner only: it tells who is like whom.

    Raises:
        DependencyMissing: matplotlib is not installed.
        InputError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
    except ImportError:
        raise DependencyMissing("the picture needs matplotlib; install it: pip install 'idiolect[local]'") from None
    # Without pyplot: no display, no global state, safe in any thread.
    figure = Figure(figsize=(3.6 + 1.5 * len(picture.columns), 1.9 + 0.34 * len(picture.rows)), layout="constrained")
    axes = figure.subplots()
    _draw(axes, picture)
    handles = [Patch(facecolor=picture.colour(s), edgecolor="#666666", linewidth=0.5, label=s) for s in picture.sharers]
    axes.legend(handles=handles, title="whose piece", loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=12)
    try:
        path.touch(mode=0o600)
        path.chmod(0o600)  # also one that was there
        figure.savefig(path, dpi=150, format="png")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another --out") from None


def _draw(axes: Axes, picture: Picture) -> None:
    from matplotlib.patches import Rectangle

    for i, row in enumerate(picture.cells):
        for j, cell in enumerate(row):
            colour = picture.colour(cell.sharer) if cell is not None and cell.sharer in picture.sharers else _EMPTY
            axes.add_patch(Rectangle((j, i), 1, 1, facecolor=colour, edgecolor="white", linewidth=2))
            if cell is not None:
                kin = picture.is_kin(j, cell)
                text = f"{'★ ' if kin else ''}{cell.weight:.2f}"
                axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=9, color=ink(colour))
    labels = [f"{name}\nlike {picture.kin[name]}" if name in picture.kin else name for name in picture.columns]
    axes.set_xlim(0, len(picture.columns))
    axes.set_ylim(len(picture.rows), 0)
    axes.set_xticks([j + 0.5 for j in range(len(labels))], labels, fontsize=9)
    axes.set_yticks([i + 0.5 for i in range(len(picture.rows))], picture.rows, fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("number: weight of the heaviest piece; ★: of the person whom the newcomer is made like", fontsize=9)
