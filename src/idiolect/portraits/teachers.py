"""Whom the shared adapter of a task is taught by, so that nobody is measured on what they taught themselves.

Players are in one of two halves, by their name for ever. A player's portrait stands on an adapter that players of the other
half taught: real ones who agreed to both personal and published use, where there are enough of them, else simulated ones. It
is made anew every fortnight, not with every round that somebody plays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from idiolect.data.nyms import event_item
from idiolect.errors import EmptyHistory
from idiolect.game.histories import Event, Histories, iso, n_counted, person_of
from idiolect.game.rules import DAY_S
from idiolect.store.game.books import GameBooks
from idiolect.types import Person, seed_of

MIN_TEACHERS, MAX_TEACHERS = 20, 40
MIN_ITEMS = 20
"""Items of a history that teaches."""
PERIOD_S = 14 * DAY_S


@dataclass(frozen=True)
class Teachers:
    """Who teaches. `simulated`: they are programs."""

    people: tuple[Person, ...]
    simulated: bool


def half(player: str) -> int:
    """Which of the two halves a player is in."""
    return seed_of("half", player) % 2


def teachers(books: GameBooks, histories: Histories, player: str, at: float) -> Teachers:
    """The teachers of a player's portrait.

    Args:
        at: now, in seconds since 1970.

    Raises:
        EmptyHistory: there is nobody to teach.
    """
    for simulated, fewest in ((False, MIN_TEACHERS), (True, 1)):
        people = tuple(_people(books, histories, 1 - half(player), simulated, at))
        if len(people) >= fewest:
            return Teachers(people, simulated)
    raise EmptyHistory(
        f"nobody can teach the game's tasks yet: it takes {MIN_TEACHERS} other players who agreed to it, or simulated ones"
    )


def _people(books: GameBooks, histories: Histories, of: int, simulated: bool, at: float) -> Iterator[Person]:
    with books.read() as opened:
        named = {key: opened.player(key).player for key in opened.consenting(simulated=simulated)}
        leaving = set(opened.leaving())  # they come back once what they took back is forgotten
    n = 0
    for key in (key for key, name in named.items() if half(name) == of and person_of(name) not in leaving):
        events = histories.events(key)
        if n_counted(events) < MIN_ITEMS:
            continue
        if not simulated:
            histories.sync(key)  # a teacher who leaves is found by way of the person that they are
        name = f"sim-{named[key]}" if simulated else person_of(named[key])
        yield Person(name, tuple(map(event_item, _settled(events, at))))
        n += 1
        if n == MAX_TEACHERS:
            return


def _settled(events: Sequence[Event], at: float) -> Sequence[Event]:
    """What there was when the fortnight began; all, where that is too little."""
    since = iso(at - at % PERIOD_S)
    earlier = [event for event in events if event["t"] < since]
    return earlier if n_counted(earlier) >= MIN_ITEMS else events
