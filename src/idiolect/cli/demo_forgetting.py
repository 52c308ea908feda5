"""The demo's last chapter: one of those who shared is forgotten, exactly, and everybody else's answers stay as they are.

Everything that was made from the person is found and goes, newcomers who cited their pieces get adapters from the pieces that
are left, and a signed receipt is written and held against the store. The same queries are asked before and after: of everybody
whose adapter is not downstream, the answers, scores of all labels included, must be equal bit by bit.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from idiolect.cli.output import count, duration, table
from idiolect.cli.progress import Stages
from idiolect.types import Completion, Person

if TYPE_CHECKING:
    from idiolect.forget.closure import Closure
    from idiolect.pieces.picture import Picture
    from idiolect.service import Idiolect

T = TypeVar("T")

RECEIPT = "receipt.json"
_ASKED = 3
"""Queries of each person that are asked before and after."""


@dataclass(frozen=True)
class Chapter:
    """What came out.

    Attributes:
        assembled: digest of the new adapter of every newcomer who cited the person's pieces.
        others: everybody else; `changed` are those of whom an answer is another one now.
        seconds: what looking, forgetting, verifying and asking took.
    """

    closure: Closure
    assembled: Mapping[str, str]
    others: tuple[str, ...]
    n_asked: int
    changed: tuple[str, ...]
    holds: bool
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "user": self.closure.user_id,
            "guarantee": self.closure.guarantee,
            "closure": [dict(zip(_COLUMNS, row, strict=True)) for row in _counted(self.closure)],
            "assembled": list(self.assembled),
            "others": len(self.others),
            "asked": self.n_asked,
            "changed": list(self.changed),
            "receipt_holds": self.holds,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }


def who(sharers: list[Person]) -> str:
    """Whom the demo forgets: the last of those who share."""
    return sharers[-1].id


def go_on(house: Idiolect, folder: Path) -> None:
    """Finish what an earlier run of the demo began, and remove its receipt: the person comes back now."""
    from idiolect.forget.planning import Options

    (folder / RECEIPT).unlink(missing_ok=True)
    if house.forgetting.resume(Options(receipt=folder / RECEIPT)):
        (folder / RECEIPT).unlink()


def tell(house: Idiolect, task: str, user: str, people: Iterable[Person], folder: Path, progress: Stages) -> Chapter:
    """Forget the person, and ask everybody else the same before and after.

    Args:
        people: with an adapter each, and with queries.
    """
    from idiolect.forget.planning import Options

    closure, looked = _timed(lambda: house.forgetting.preview(user))
    made_again = {node.owner for node in closure.nodes if node.action == "reassemble"}
    others = [person for person in people if person.id != user and person.id not in made_again]
    step = progress(f"asking {count(len(others), 'other')} before and after", 2 * len(others))
    before, asked = _timed(lambda: list(_answers(house, task, others, lambda n: step(n, "", None))))
    done, forgot = _timed(lambda: house.forget(user, options=Options(receipt=folder / RECEIPT)))
    found, verified = _timed(lambda: house.forgetting.verify(done.receipt))
    after, again = _timed(lambda: list(_answers(house, task, others, lambda n: step(len(others) + n, "", None))))
    changed = [person.id for person, old, new in zip(others, before, after, strict=True) if old != new]
    return Chapter(
        done.closure,
        {node.owner: done.new[node.id] for node in done.closure.nodes if node.id in done.new and node.owner is not None},
        tuple(person.id for person in others),
        sum(map(len, before)),
        tuple(changed),
        found.holds,
        {"looking": looked, "forgetting": forgot, "verifying": verified, "asking": asked + again},
    )


def redraw(house: Idiolect, picture: Picture, chapter: Chapter, folder: Path) -> None:
    """The newcomers' picture anew: it names who shared."""
    from idiolect.cli import demo_newcomers

    sharers = [user for user in picture.sharers if user != chapter.closure.user_id]
    if adapters := {user: chapter.assembled[user] for user in picture.columns if user in chapter.assembled}:
        demo_newcomers.draw(house, adapters, sharers, picture.kin, folder)
    else:
        (folder / demo_newcomers.PICTURE).unlink(missing_ok=True)


def _answers(
    house: Idiolect, task: str, people: Iterable[Person], on_progress: Callable[[int], None]
) -> Iterator[list[Completion]]:
    for n, person in enumerate(people, 1):
        yield [house.generate(person.id, query.input, task=task) for query in person.queries[:_ASKED]]
        on_progress(n)


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    """(what the call gives, its seconds)."""
    began = time.monotonic()
    return call(), time.monotonic() - began


# --------------------------------------------------------------------------------------------------------------- shown


def show(console: Console, chapter: Chapter, folder: Path | None) -> None:
    """The chapter's table, and a line for each thing that it shows. folder: where everything is kept, if it is."""
    user, seconds = chapter.closure.user_id, chapter.seconds
    console.print()
    console.print(Text(f"{user}, who shares, is forgotten", style="bold"))
    console.print(Text(f"All that was made from {user}, found by lineage in {duration(seconds['looking'])}:"))
    console.print(_closure(chapter.closure))
    console.print(Text(f"Deleted, and what others used made again, in {duration(seconds['forgetting'])}: {_what(chapter)}"))
    console.print(Text(f"{_newcomers(chapter.assembled)} assembled anew, from the pieces that the others share."))
    at = f" ({folder / RECEIPT})" if folder is not None else ""
    holds = "holds: signed, and the store agrees with it" if chapter.holds else "does not hold"
    console.print(Text(f"The receipt {holds}; checked in {duration(seconds['verifying'])}{at}."), soft_wrap=True)
    console.print(Text(f"{_same(chapter)} Asked in {duration(seconds['asking'])}."))


_COLUMNS = ("what", "whose", "how many", "becomes")
_KINDS = {"evaluation": "answers in a report"}
_BECOMES = {"delete": "deleted", "revoke": "withdrawn", "reassemble": "assembled anew", "retrain": "trained again"}


def _closure(closure: Closure) -> Table:
    return table(_COLUMNS, _counted(closure), right=("how many",))


def _counted(closure: Closure) -> list[tuple[str, str, int, str]]:
    """What is downstream: things of one kind and fate in one row, the person's and others'."""
    owners = {closure.user_id: closure.user_id, None: "nobody's"}
    counted = Counter((node.kind, owners.get(node.owner, "others"), node.action) for node in closure.nodes)
    return [(_KINDS.get(kind, kind), owner, n, _BECOMES.get(action, action)) for (kind, owner, action), n in counted.items()]


def _what(chapter: Chapter) -> str:
    guarantee = chapter.closure.guarantee
    return f"{guarantee}, nothing made from them is left." if guarantee.startswith("exact") else f"{guarantee}."


def _newcomers(users: Iterable[str]) -> str:
    named = ", ".join(users)
    return f"{named} cited their pieces, and were" if named else "No adapter cited their pieces, and none was"


def _same(chapter: Chapter) -> str:
    n, others = count(chapter.n_asked, "answer"), count(len(chapter.others), "other")
    if chapter.changed:
        return f"Of {others}, {len(chapter.changed)} answer otherwise than before: {', '.join(chapter.changed)}."
    return f"{n} of {others}, before and after: byte-identical, every label's score included."
