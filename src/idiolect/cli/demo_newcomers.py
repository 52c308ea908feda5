"""The demo's second chapter: newcomers with a short history get adapters assembled from pieces that others share.

Each newcomer files articles by the rules of one of the sharers, with texts of their own, so there is something to be found.
Whether it is found, and what it brings, is printed as it comes; pieces drawn by lot are the control.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from idiolect.cli.output import duration, size, table
from idiolect.cli.progress import Stages, remark
from idiolect.data.synthetic import alike
from idiolect.types import Person

if TYPE_CHECKING:
    from idiolect.pieces.assemble import Settings
    from idiolect.pieces.newcomers import AssemblyReport
    from idiolect.pieces.picture import Picture
    from idiolect.service import Idiolect

NAMES = ("newcomer-1", "newcomer-2", "newcomer-3")
SHARERS, ITEMS, QUERIES = 9, 12, 24
PICTURE = "newcomers.png"

_STEPS, _RATE = 8, 2e-2
"""Gates for a first look, a dozen times cheaper than the default."""


@dataclass(frozen=True)
class Newcomer:
    """One of them. Accuracies are shares of `n_queries`."""

    user: str
    like: str
    n_items: int
    n_queries: int
    seconds: float
    size_bytes: int
    without: float
    random: float
    assembled: float


@dataclass(frozen=True)
class Chapter:
    """What came out. gate_seconds: what the sharers' gates took, once for all newcomers."""

    newcomers: tuple[Newcomer, ...]
    n_sharers: int
    gate_seconds: float
    own_bytes: float
    picture: Picture

    def to_dict(self) -> dict[str, Any]:
        facts = {"newcomers": [asdict(one) for one in self.newcomers], "n_sharers": self.n_sharers}
        return {**facts, "gate_seconds": round(self.gate_seconds, 2), "own_bytes": self.own_bytes}


def send_home(house: Idiolect) -> None:
    """Forget the newcomers of an earlier run, so that the evaluation finds the people of its file and nobody else."""
    for user in NAMES:
        if house.store.has_person(user):
            house.delete_person(user)


def tell(house: Idiolect, task: str, people: list[Person], seed: int, folder: Path, progress: Stages) -> Chapter:
    """Let these people share, assemble the newcomers' adapters, and ask them their queries; leaves a picture in the folder.

    Args:
        people: with an adapter each.
    """
    from idiolect.pieces.gates import GATES

    sharers = [person.id for person in people]
    kin = {name: sharers[i % len(sharers)] for i, name in enumerate(NAMES)}
    newcomers = [alike(seed, like, [name], ITEMS, QUERIES)[0] for name, like in kin.items()]
    for person in newcomers:
        house.store.add_person(Person(person.id, person.history))
    step = progress(f"gates of {len(sharers)} sharers", len(sharers))
    report, _ = house.pieces.share(
        sharers,
        task,
        gates=GATES.but(steps=_STEPS, learning_rate=_RATE),
        on_progress=lambda p: step(p.done, remark(p), p.left_s),
    )
    pool = report.pools[0]
    right, made = _asked(house, task, newcomers, pool, progress)
    own = [row.size_bytes for row in house.adapters(sharers[0]) if row.kind == "user"]
    picture = draw(house, made.adapters, sharers, kin, folder)
    found = tuple(
        Newcomer(
            p.id, kin[p.id], len(p.history), len(p.queries), made.made[p.id].seconds, made.made[p.id].size_bytes, **right[p.id]
        )
        for p in newcomers
    )
    return Chapter(found, len(sharers), report.seconds, sum(own) / len(own), picture)


def draw(house: Idiolect, adapters: Mapping[str, str], sharers: list[str], kin: Mapping[str, str], folder: Path) -> Picture:
    """Leave a picture in the folder of whose pieces the newcomers' adapters (digests, by newcomer) are made of."""
    from idiolect.pieces.picture import Picture, save_picture
    from idiolect.pieces.views import AdapterView

    owner = {piece.id: user for user in sharers for piece in house.store.pieces_of(user)}
    views = {name: house.pieces.inspect(digest) for name, digest in adapters.items()}
    entries = {name: view.entries for name, view in views.items() if isinstance(view, AdapterView)}
    picture = Picture.of(entries, owner, sharers, kin)
    save_picture(picture, folder / PICTURE, "Whose pieces the newcomers' adapters are made of")
    return picture


def _asked(
    house: Idiolect, task: str, newcomers: list[Person], pool: str, progress: Stages
) -> tuple[dict[str, dict[str, float]], AssemblyReport]:
    """(accuracy of each newcomer in each way, what was assembled by gates and stays in use)."""
    from idiolect.pieces.assemble import Settings

    ways: dict[str, Settings | None] = {"without": None, "random": Settings(choice="random"), "assembled": Settings()}
    step = progress("newcomers' queries", len(ways) * sum(len(person.queries) for person in newcomers))
    right: dict[str, dict[str, float]] = {person.id: {} for person in newcomers}
    done, made = 0, None
    for way, settings in ways.items():
        if settings is not None:
            made = house.pieces.assemble([person.id for person in newcomers], task, settings, pool=pool)
        for person in newcomers:
            right[person.id][way] = _accuracy(house, task, person, settings is None)
            done += len(person.queries)
            step(done, "", None)
    assert made is not None
    return right, made


def _accuracy(house: Idiolect, task: str, person: Person, nobody: bool) -> float:
    who = None if nobody else person.id
    answers = [house.generate(who, query.input, task=task).text == query.gold for query in person.queries]
    return sum(answers) / len(answers)


# --------------------------------------------------------------------------------------------------------------- shown


def show(console: Console, chapter: Chapter, folder: Path | None) -> None:
    """The chapter's table, sum and picture. folder: where everything is kept, if it is."""
    console.print()
    console.print(Text("Newcomers, with nothing trained for them", style="bold"))
    seconds, n_items = sum(one.seconds for one in chapter.newcomers), chapter.newcomers[0].n_items
    gates = f"trained once, in {duration(chapter.gate_seconds)}" if chapter.gate_seconds else "trained before"
    shared = f"{chapter.n_sharers} people share pieces of their adapters (gates {gates}). "
    said = f"{len(chapter.newcomers)} newcomers with {n_items} items each got theirs assembled in {duration(seconds)}."
    console.print(Text(shared + said))
    console.print(_accuracies(chapter))
    console.print(Text(_sum(chapter)))
    console.print()
    console.print(Text("Whose piece weighs most, module by module (★: of the person whom the newcomer is made like):"))
    console.print(grid(chapter.picture))
    if folder is not None:
        console.print(Text(f"As a picture: {folder / PICTURE}"), soft_wrap=True)


def _accuracies(chapter: Chapter) -> Table:
    columns = ("newcomer", "files like", "time", "kept", "no adapter", "pieces by lot", "assembled")
    rows = [
        (one.user, one.like, duration(one.seconds), size(one.size_bytes), *(f"{x:.3f}" for x in _three(one)))
        for one in chapter.newcomers
    ]
    means = (f"{sum(values) / len(values):.3f}" for values in zip(*map(_three, chapter.newcomers), strict=True))
    rows.append(("mean", "", "", "", *means))
    return table(columns, rows, right=columns[2:])


def _three(one: Newcomer) -> tuple[float, float, float]:
    return one.without, one.random, one.assembled


def _sum(chapter: Chapter) -> str:
    n = sum(one.n_queries for one in chapter.newcomers)
    without, lot, assembled = (
        sum(values) / len(chapter.newcomers) for values in zip(*map(_three, chapter.newcomers), strict=True)
    )
    each = sum(one.size_bytes for one in chapter.newcomers) / len(chapter.newcomers)
    return (
        f"Assembled: {100 * (assembled - without):+.1f} points over no adapter, {100 * (assembled - lot):+.1f} over pieces by "
        f"lot; on {n} queries, a look and no proof.\n"
        f"Kept for each: {size(each)}, where a trained adapter takes {size(chapter.own_bytes)}."
    )


def grid(picture: Picture) -> Table:
    """The picture in a terminal's colours."""
    from idiolect.pieces.picture import ink

    made = Table.grid(padding=(0, 1, 0, 0))
    made.add_column()
    for name in picture.columns:
        made.add_column(justify="left", min_width=len(name) + 4)
    made.add_row("", *(Text(f"  {name}", style="bold") for name in picture.columns))
    width = max(len(sharer) for sharer in picture.sharers)
    for name, cells in zip(picture.rows, picture.cells, strict=True):
        shown = []
        for j, cell in enumerate(cells):
            if cell is None:
                shown.append(Text("–", style="dim"))
                continue
            colour = picture.colour(cell.sharer) if cell.sharer in picture.sharers else "#FFFFFF"
            mark = "★" if picture.is_kin(j, cell) else " "
            shown.append(Text(f" {mark} {cell.sharer:<{width}} {cell.weight:.2f} ", style=f"{ink(colour)} on {colour}"))
        made.add_row(Text(name, style="dim"), *shown)
    return made
