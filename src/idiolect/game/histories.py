"""A player's rounds and judgements → their history: what they are given as a file, and what an adapter is trained on.

    rounds, judgements ──events──▶ one JSON object each ─┬─▶ the player's export, a line each
                                                         └─event_item─▶ items of the person `nyms-<player>`

An event says what the player did, and beside it what others had said by then (`population`, without the player); the item is
made from the event without that part. What stays out: blocked, pasted and late answers, checks against gold, rounds that
somebody or something flagged, and all but the first round on a base word and the first repeat of it. Words of others are in it
only where they may be shown.

A history is kept only with the player's consent to personal use; whoever takes it back is forgotten at `accounts`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from idiolect.data.nyms import SOURCE, VERSION, event_item
from idiolect.data.tasks import FirstTask, get_task
from idiolect.game.population import Crowd, counted, crowd, likely_first, likely_list, likely_verdict
from idiolect.game.refusals import NotAllowed
from idiolect.game.showing import showable
from idiolect.game.vocabulary import Vocabulary
from idiolect.store.game.books import Books, GameBooks
from idiolect.store.game.reading import JudgedRow, PlayedRow
from idiolect.types import Item, seed_of

Event = dict[str, Any]

N_CANDIDATES = 4
FREQUENT = 3
"""Others' answers may stand in somebody's history from so many givers on; those that the dictionary knows always may."""
TRAIN_SHARE = 0.8

_HARMLESS = ("asked", "pioneer", "taboo")
"""What rounds note that says nothing against them. Any other mark keeps a round out."""


def person_of(player: str) -> str:
    """The id of a player as a person."""
    return f"nyms-{player}"


@dataclass(frozen=True)
class Synced:
    """What became of a player's history: how many items it has, and how many of them are new."""

    person: str
    n_items: int
    n_new: int


class Histories:
    """Where players' histories are read, and kept as people's."""

    def __init__(self, books: GameBooks, words: Vocabulary) -> None:
        self._books, self._words = books, words

    def events(self, player: int) -> list[Event]:
        """All events of a player, oldest first."""
        with self._books.read() as books:
            return self._events(books, player)

    def export(self, player: int) -> Iterator[bytes]:
        """The player's history as a file: JSON, an event a line."""
        for event in self.events(player):
            yield (json.dumps(event, ensure_ascii=False) + "\n").encode()

    def sync(self, player: int) -> Synced:
        """Add what is new in a player's history to the person that they are, who is made where there is none yet.

        What is there stays as it is: doing so twice changes nothing. The history is read before anything is locked, and kept
        in one transaction, if there is consent then.

        Raises:
            NotAllowed: the player did not agree to personal use.
        """
        with self._books.read() as books:
            name = _agreeing(books, player)
            items = [event_item(event) for event in self._events(books, player)]
        with self._books.write("histories") as books:
            _agreeing(books, player)
            n_new = books.keep_items(player, person_of(name), items)
        return Synced(person_of(name), len(items), n_new)

    def _events(self, books: Books, player: int) -> list[Event]:
        user = person_of(books.player(player).player)
        found = [*self._of_rounds(books, player, user), *self._of_judgements(books, player, user)]
        return sorted(found, key=lambda event: event["t"])

    # -- rounds ----------------------------------------------------------------------------------------------------

    def _of_rounds(self, books: Books, player: int, user: str) -> Iterator[Event]:
        seen: set[tuple[int, bool]] = set()
        for played in books.played_rounds(player):
            round = played.round
            assert round.prompt is not None
            if is_flagged(round.flags) or (round.prompt, round.repeat) in seen:
                continue
            given = _kept(books, round.prompt, played)
            if not given:
                continue
            seen.add((round.prompt, round.repeat))
            others = crowd(books.given(round.prompt, without=player, before=round.closed_at))
            listed = self._listed(played, given, others, user)
            yield listed
            if not round.repeat and (first := self._first(books, round.prompt, listed, others)) is not None:
                yield first

    def _listed(self, played: PlayedRow, given: Sequence[tuple[str, int | None]], others: Crowd, user: str) -> Event:
        round, word = played.round, self._words.words[played.prompt]
        keys = [key for key, _ in given]
        return {
            "v": VERSION, "user": user, "id": f"r-{round.round}", "t": iso(round.closed_at or round.served_at),
            "source": SOURCE, "task": "NYM-3", "mode": round.mode, "relation": word.relation, "base": word.key,
            "sense": word.sense, "question": word.text, "output": keys, "ms": [ms for _, ms in given],
            "timing": round.timing, "repeat": round.repeat, "population": _shares(others, keys), "flags": [],
        }  # fmt: skip

    def _first(self, books: Books, prompt: int, listed: Event, others: Crowd) -> Event | None:
        """Which answer came first: one own among three that others give often, as nearly as often as the own one, so that how
        frequent a word is tells as little as may be. None where others are too few for that.
        """
        word = self._words.words[f"{listed['relation']}:{listed['base']}"]
        own, seeds = listed["output"], self._words.seeds[word.id]
        often = [key for key in others.ranked if key not in own and (others.given[key] >= FREQUENT or key in seeds)]
        shown = showable(books, self._words, prompt, word, often)
        often = [key for key in often if key in shown]
        if len(often) < N_CANDIDATES - 1:
            return None
        n = others.given.get(own[0], 0)
        candidates = [own[0], *sorted(often, key=lambda key: (abs(others.given[key] - n), key))[: N_CANDIDATES - 1]]
        random.Random(seed_of("nym-2", listed["id"])).shuffle(candidates)
        more = {"candidates": candidates, "output": own[0], "population": _shares(others, candidates)}
        kept = {name: value for name, value in listed.items() if name != "ms"}
        return {**kept, "id": f"{listed['id']}/first", "task": "NYM-2", **more}

    # -- judgements ------------------------------------------------------------------------------------------------

    def _of_judgements(self, books: Books, player: int, user: str) -> Iterator[Event]:
        for row in books.judged(player):
            if row.kind.startswith("gold") or row.verdict == "unsure" or is_flagged(row.flags):
                continue
            yes, no = counted(books.votes_before(row.prompt, row.key, without=player, before=row.judged_at))
            share = round(yes / (yes + no), 2) if yes + no else None
            yield self._judged(row, user, {"n": yes + no, "yes": share})

    def _judged(self, row: JudgedRow, user: str, population: Event) -> Event:
        word = self._words.words[row.name]
        return {
            "v": VERSION, "user": user, "id": f"j-{row.round}/{row.seq}", "t": iso(row.judged_at), "source": SOURCE,
            "task": "NYM-1", "mode": "judge", "relation": word.relation, "base": word.key, "sense": word.sense,
            "answer": row.key, "output": row.verdict, "ms": row.ms, "timing": row.timing, "population": population,
        }  # fmt: skip

    # -- the baseline ----------------------------------------------------------------------------------------------

    def population_answers(self, player: int, events: Sequence[Event]) -> dict[str, str]:
        """What most people would have said in the player's place, as of each event, by its id, as the task spells answers."""
        with self._books.read() as books:
            return {event["id"]: self._population(books, player, event) for event in events}

    def _population(self, books: Books, player: int, event: Event) -> str:
        prompt = books.prompt_named(f"{event['relation']}:{event['base']}")
        assert prompt is not None  # the event came from it
        before = _seconds(event["t"])
        others = crowd(books.given(prompt.key, without=player, before=before))
        if event["task"] == "NYM-3":
            return ", ".join(likely_list(others))
        if event["task"] == "NYM-2":
            return likely_first(event["candidates"], others)
        pair = counted(books.votes_before(prompt.key, event["answer"], without=player, before=before))
        every = counted(books.votes_in(event["relation"], without=player, before=before))
        return likely_verdict(pair, others, event["answer"], every)


def is_flagged(flags: Mapping[str, Any]) -> bool:
    """Whether something that was noted of a round keeps it out of a history."""
    return any(value for name, value in flags.items() if name not in _HARMLESS)


def _agreeing(books: Books, player: int) -> str:
    """The name of a player who agreed to personal use; NotAllowed for others."""
    row = books.find_player(player)
    if row is None or row.consent_personal is None or not row.is_real:
        raise NotAllowed("this player has not agreed to a personal adapter; that is asked for on their own page")
    return row.player


def _kept(books: Books, prompt: int, played: PlayedRow) -> list[tuple[str, int | None]]:
    """Accepted answers that were typed, without those that a moderator blocked since."""
    typed = [(one.key, one.ms) for one in played.answers if one.status == "accepted" and not one.pasted]
    pairs = books.pairs(prompt, {key for key, _ in typed}) if typed else {}
    return [(key, ms) for key, ms in typed if key not in pairs or pairs[key].state != "blocked"]


def _shares(others: Crowd, keys: Sequence[str]) -> Event:
    """Of the player's own answers and of the candidates only: what others say beside them is not the player's."""
    marked = {"simulated": True} if others.simulated else {}
    return {"U": others.n, "freq": {key: others.share(key) for key in keys}, **marked}


def iso(at: float) -> str:
    """Seconds since 1970 as an ISO 8601 time in UTC, to the millisecond, so that times order as they came."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(t: str) -> float:
    return datetime.fromisoformat(t).timestamp()


# ------------------------------------------------------------------------------------------------- training and test


def split(events: Sequence[Event], share: float = TRAIN_SHARE) -> tuple[list[Event], list[Event]]:
    """(training, test): the first `share` of a history by time, and what comes later on base words that are not in it.

    The cut is between two rounds, the nearest to `share`, so that no round is on both sides.
    """
    whole = sorted(events, key=lambda event: event["t"])
    cuts = [n for n in range(1, len(whole)) if _round(whole[n - 1]) != _round(whole[n])]
    cut = min(cuts, key=lambda n: (abs(n - share * len(whole)), n), default=len(whole))
    seen = {_base(event) for event in whole[:cut]}
    return whole[:cut], [event for event in whole[cut:] if _base(event) not in seen]


def _round(event: Event) -> str:
    return event["id"][2:].split("/")[0]


def _base(event: Event) -> tuple[str, str]:
    return event["relation"], event["base"]


def n_counted(events: Sequence[Event]) -> int:
    """Items of a history as players count them: rounds and judgements, each once."""
    return sum(event["task"] != "NYM-2" for event in events)


def profile(user: str, train: Sequence[Event], test: Sequence[Event]) -> dict[str, Any]:
    """A history in the usual format of a person: what is known, and what is asked, one task at a time.

    Args:
        train, test: events of one task.
    """
    (name,) = {event["task"] for event in [*train, *test]}
    task = get_task(name)
    items = [event_item(event) for event in train]
    asked = [event_item(event) for event in test]
    return {
        "user_id": user,
        "profile": [{"id": item.id, "date": item.date, **item.fields} for item in items],
        "query": [{"id": item.id, "input": asked_input(item), "gold": task.answer_of(item)} for item in asked],
    }


def asked_input(item: Item) -> str:
    """What a query asks so that the item answers it."""
    task = get_task(item.fields["task"])
    if isinstance(task, FirstTask):
        return task.query_input(item.fields["question"], task.candidates(item))
    return task.query_input(task.retrieval_query(item))
