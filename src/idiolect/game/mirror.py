"""A player's portrait: asked for, waited for, and shown. Drawing it takes a model, and is done elsewhere, by another process.

    request ──▶ waiting ──next_waiting──▶ running ──▶ done | failed        (one row a player)

What is shown has the shape of the page's own view, field for field, so that a page takes either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from idiolect.game.clock import Clock
from idiolect.game.refusals import NotAllowed
from idiolect.game.rules import DAY_S
from idiolect.game.vocabulary import Vocabulary
from idiolect.store.game.books import GameBooks
from idiolect.store.game.portraits import PortraitRow
from idiolect.store.game.records import PlayerRow

NEEDED = 100
"""Items of a history from which on an adapter of one's own is trained; with fewer, earlier items are only looked up."""
AGAIN_ITEMS, AGAIN_S = 50, 14 * DAY_S
"""A portrait that is drawn is drawn again when so many items are new, or so much later."""
STALE_S = 3600.0
"""A portrait that has been running for so long was cut off, and is drawn again."""

AdapterState = Literal["no_consent", "too_little", "possible", "waiting", "training", "offered", "not_better", "failed"]


@dataclass(frozen=True)
class Asked:
    """The question of a base word. `hint`: its gloss, where it has more than one frequent sense."""

    relation: str
    word: str
    mode: str = "classic"
    hint: str | None = None
    repeat: bool = False


@dataclass(frozen=True)
class OwnAdapter:
    """A player's own adapter. `personal`, `population`: share of held-out answers that are right, in percent."""

    state: AdapterState
    n_items: int = 0
    needed: int = NEEDED
    personal: int | None = None
    population: int | None = None


@dataclass(frozen=True)
class OwnWords:
    """A base word, the answers that nobody else gave, and those that half of the others gave too."""

    question: Asked
    only_mine: tuple[str, ...]
    shared: tuple[str, ...] = ()


@dataclass(frozen=True)
class Guess:
    """What was guessed, without and with the adapter: (text, whether the player said it)."""

    question: Asked
    own: tuple[str, ...]
    before: tuple[tuple[str, bool], ...]
    after: tuple[tuple[str, bool], ...] = ()


@dataclass(frozen=True)
class OwnRetest:
    """How alike two rounds on one word are, in percent: of the player twice, and of two players."""

    n_pairs: int
    own: int
    others: int
    is_clear: bool


@dataclass(frozen=True)
class Mirror:
    """How a player sees words."""

    adapter: OwnAdapter
    words: tuple[OwnWords, ...] = ()
    guesses: tuple[Guess, ...] = ()
    retest: OwnRetest | None = None
    n_rounds: int = 0


class Mirrors:
    """Where portraits are asked for, handed out to be drawn, and looked at."""

    def __init__(self, books: GameBooks, words: Vocabulary, clock: Clock) -> None:
        self._books, self._words, self._clock = books, words, clock

    def request(self, player: int) -> None:
        """Ask for a player's portrait; one that is waiting or being drawn stays as it is.

        Raises:
            NotAllowed: the player did not agree to personal use, or is not said to be 16; there is too little to learn from,
                or too little that is new.
        """
        now = self._clock()
        with self._books.write() as books:
            row = books.player(player)
            if row.consent_personal is None or not row.adult:
                raise NotAllowed("this needs your consent to a personal adapter; it is on your own page")
            there = books.portrait(player)
            if there is None or there.state not in ("waiting", "running"):
                _check_worth(there, books.n_items(player), now)
                books.put_portrait(player, "waiting", now, {} if there is None else there.body)

    def next_waiting(self) -> int | None:
        """The player whose portrait is to be drawn next, from now on running; None if nobody waits."""
        now = self._clock()
        with self._books.write() as books:
            return books.claim_portrait(now, now - STALE_S)

    def is_anybody_waiting(self) -> bool:
        """Whether there is a portrait to be drawn."""
        now = self._clock()
        with self._books.read() as books:
            return books.waits(now - STALE_S)

    def view(self, player: int) -> Mirror:
        """What the player's page shows."""
        with self._books.read() as books:
            row, portrait, n_items = books.player(player), books.portrait(player), books.n_items(player)
        return mirror(row, portrait, n_items, self._words)


def _check_worth(there: PortraitRow | None, n_items: int, now: float) -> None:
    """Raises NotAllowed where training would teach nothing new."""
    if n_items < NEEDED:
        raise NotAllowed(f"this takes {NEEDED} answers and judgements, and you have {n_items}; play on")
    if there is None or there.state != "done" or now - there.at >= AGAIN_S:
        return
    n_new = n_items - there.body.get("n_played", 0)
    if n_new < AGAIN_ITEMS:
        days = math.ceil((there.at + AGAIN_S - now) / DAY_S)
        when = "a day" if days == 1 else f"{days} days"
        raise NotAllowed(f"too little is new; come back after {AGAIN_ITEMS - n_new} more answers and judgements, or in {when}")


def mirror(player: PlayerRow, portrait: PortraitRow | None, n_items: int, words: Vocabulary) -> Mirror:
    """What is shown of a portrait. While it is drawn again, the one before is shown.

    Args:
        n_items: of the player's history, now.
    """
    if player.consent_personal is None:
        return Mirror(OwnAdapter("no_consent", n_items))
    body: Mapping[str, Any] = portrait.body if portrait is not None else {}
    return Mirror(
        _adapter(portrait, body, n_items),
        tuple(
            OwnWords(_asked(one, words), tuple(one["only_mine"]), tuple(one["shared"]))
            for one in body.get("words", ())
            if one["only_mine"] or one["shared"]
        ),
        tuple(_guess(one, words) for one in body.get("guesses", ())),
        _retest(body.get("retest")),
        body.get("n_rounds", 0),
    )


def _adapter(portrait: PortraitRow | None, body: Mapping[str, Any], n_items: int) -> OwnAdapter:
    scores = {name: _percent(body[name]) for name in ("personal", "population") if body.get(name) is not None}
    return OwnAdapter(_state(portrait, body, n_items), n_items, **scores)


def _state(portrait: PortraitRow | None, body: Mapping[str, Any], n_items: int) -> AdapterState:
    if portrait is not None and portrait.state != "done":
        states: dict[str, AdapterState] = {"waiting": "waiting", "running": "training", "failed": "failed"}
        return states[portrait.state]
    if portrait is not None and body.get("trained"):
        return "offered" if body["offered"] else "not_better"
    return "possible" if n_items >= NEEDED else "too_little"


def _guess(one: Mapping[str, Any], words: Vocabulary) -> Guess:
    said = set(one["own"])
    before, after = (tuple((text, text in said) for text in one[name]) for name in ("before", "after"))
    return Guess(_asked(one, words), tuple(one["own"]), before, after)


def _asked(one: Mapping[str, Any], words: Vocabulary) -> Asked:
    word = words.words[f"{one['relation']}:{one['base']}"]
    return Asked(word.relation, word.display, one.get("mode", "classic"), word.gloss if word.ambiguous else None)


def _retest(found: Mapping[str, Any] | None) -> OwnRetest | None:
    if not found:
        return None
    return OwnRetest(found["n_pairs"], _percent(found["within"]), _percent(found["between"]), found["clear"])


def _percent(share: float) -> int:
    return round(100 * share)


def own_words(events: Sequence[Mapping[str, Any]], alone: Mapping[str, Sequence[str]], most: int = 12) -> list[dict[str, Any]]:
    """Base words of a history, those with most answers of the player's own first.

    Args:
        alone: of each event, by id, the answers that nobody else gave; events that are not in it are left out.
    """
    rows = [
        {
            "relation": event["relation"],
            "base": event["base"],
            "mode": event["mode"],
            "own": list(event["output"]),
            "only_mine": list(alone[event["id"]]),
            "shared": [key for key in event["output"] if event["population"]["freq"][key] >= 0.5],
        }
        for event in events
        if event["id"] in alone
    ]
    return sorted(rows, key=lambda row: (-len(row["only_mine"]), row["relation"], row["base"]))[:most]
