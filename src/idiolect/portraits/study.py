"""Do portraits find anything? Simulated players play through the real desks, by a clock of their own, and are drawn.

    seed ─▶ a new store ─▶ teachers and subjects play four weeks, some base words twice ─▶ every subject's portrait ─▶ results
                                                                                      └▶ test and retest, by kind of mind

Teachers are stored as simulated players, subjects as accounts that agreed to everything, since only those have portraits. A
store that was used for this holds programs that pass for people: it is made new, and serves for nothing else. All subjects are
in one half of the players and all teachers in the other (see `teachers`), so that each task's shared adapter is made once.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, cast, get_args

from idiolect.errors import InputError
from idiolect.game.desk import Game
from idiolect.game.minds import Mind, MindKind
from idiolect.game.normalise import RELATIONS, Relation
from idiolect.game.retest import Retest, find
from idiolect.game.rules import DAY_S
from idiolect.game.score import Verdict
from idiolect.game.vocabulary import Vocabulary, vocabulary
from idiolect.model.base import Base
from idiolect.portraits.drawing import Settings, draw
from idiolect.portraits.teachers import MIN_ITEMS, PERIOD_S, half
from idiolect.store.store import Store
from idiolect.types import seed_of

BEGIN = 1_740_787_200.0
"""2025-03-01, 00:00 UTC: when every study's play begins."""
SPAN_S = 28 * DAY_S
"""How long everybody plays: long enough for base words to come back after a week."""
LEAST_WORDS = 8
_KINDS: tuple[MindKind, ...] = get_args(MindKind)
_HALF = {"subject": 0, "teacher": 1}
_NO_PASSWORD = "!"
"""No hash, so that no password fits it."""

Step = Callable[[int, str, float | None], None]
OnStage = Callable[[str, int], Step]
"""(title, total) → what is called with (done, remark, seconds to go)."""


@dataclass(frozen=True)
class Plan:
    """What is played.

    Attributes:
        teachers, subjects: how many of each, for every seed; kinds of minds take turns among both.
        rounds: Classic rounds of each, relations in turn.
        judge_rounds: rounds of Nym or Not of each, spread among them.
        words: base words of each relation in the game. More of them are less often met by others.
    """

    teachers: int = 5
    subjects: int = 6
    rounds: int = 60
    judge_rounds: int = 8
    seeds: tuple[int, ...] = (0, 1)
    kinds: tuple[str, ...] = ("stylised", "honest")
    words: int = 30

    def check(self) -> None:
        """Raises InputError for what cannot be played."""
        unknown = [kind for kind in self.kinds if kind not in _KINDS]
        if unknown or not self.kinds:
            said = f"kind {unknown[0]!r} is not known" if unknown else "no kind is given"
            raise InputError(f"{said}; choose from: {', '.join(_KINDS)}")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise InputError("seeds must be given, each once")
        for name, least in (("teachers", 1), ("subjects", 1), ("rounds", MIN_ITEMS), ("judge_rounds", 0)):
            if (n := getattr(self, name)) < least:
                raise InputError(f"{name.replace('_', '-')} {n} is too few; give {least} or more")
        least = max(LEAST_WORDS, math.ceil(self.rounds / len(RELATIONS)))
        if self.words < least:
            raise InputError(f"words {self.words} is too few for {self.rounds} rounds of each; give {least} or more")

    def document(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Found:
    """What came of it.

    Attributes:
        subjects: of each portrait: seed, subject, kind, figures by task, seconds. Nobody's words.
        retests: repeated base words, with the kind of mind.
    """

    subjects: tuple[dict[str, Any], ...]
    retests: tuple[tuple[str, Retest], ...]
    seconds: float


def run(base: Base, plan: Plan, folder: Path, on_stage: OnStage, settings: Settings | None = None) -> Found:
    """Play and draw, seed by seed, each in a store of its own under this folder.

    Raises:
        InputError: the plan cannot be played.
        EmptyHistory: no teacher came to enough items.
    """
    plan.check()
    began = time.monotonic()
    subjects: list[dict[str, Any]] = []
    retests: list[tuple[str, Retest]] = []
    for seed in plan.seeds:
        with Store.open(folder / f"seed-{seed}") as store:
            season = Season(store, plan, seed)
            season.play(on_stage(f"seed {seed}: rounds", season.n_rounds))
            retests += season.retests()
            subjects += season.draw(base, settings or Settings(), on_stage(f"seed {seed}: portraits", plan.subjects))
    return Found(tuple(subjects), tuple(retests), time.monotonic() - began)


def words_of(n: int) -> Vocabulary:
    """The game's vocabulary with the first `n` base words of each relation."""
    whole = vocabulary()
    words = {word.id: word for relation in RELATIONS for word in whole.of(relation)[:n]}
    return Vocabulary(whole.version, words, {id: whole.seeds[id] for id in words}, whole.lexicon)


@dataclass(frozen=True)
class _Seat:
    """One who plays. `key`: of the player's row."""

    key: int
    player: str
    role: str
    number: int
    mind: Mind


class Season:
    """One seed's players, and the weeks in which they play. The same seed and plan give the same rounds."""

    def __init__(self, store: Store, plan: Plan, seed: int) -> None:
        self._plan, self._seed, self._store, self.now = plan, seed, store, BEGIN
        self.game = Game(store, clock=lambda: self.now, rng=Random(seed_of("study", seed)), words=words_of(plan.words))
        self.game.prepare()
        self._visits: Counter[tuple[int, str]] = Counter()
        self.seats = [*self._come("teacher", plan.teachers), *self._come("subject", plan.subjects)]

    @property
    def n_rounds(self) -> int:
        """Of all together."""
        return len(self.seats) * (self._plan.rounds + self._plan.judge_rounds)

    def _come(self, role: str, n: int) -> Iterator[_Seat]:
        for number in range(1, n + 1):
            name = _name(self._seed, role, number)
            kind = self._plan.kinds[(number - 1) % len(self._plan.kinds)]
            mind = Mind(cast(MindKind, kind), seed_of("study-mind", self._seed, role, number) % 2**31, self.game.words)
            with self.game.books.write() as books:
                if role == "teacher":
                    row = books.add_player(name, "simulated", self.now)
                else:
                    agreed = {"consent_aggregate": self.now, "consent_personal": self.now, "adult": True}
                    handle = {"handle": f"Subject {number}", "handle_key": f"subject {number}", "password": _NO_PASSWORD}
                    row = books.add_player(name, "account", self.now, **agreed, **handle)
            yield _Seat(row.key, name, role, number, mind)

    # -- play ------------------------------------------------------------------------------------------------------

    def play(self, step: Step) -> None:
        """All rounds of all: each time round, everybody once, in an order by lot."""
        rng, done = Random(seed_of("study-order", self._seed)), 0
        turns = list(self._turns())
        gap = SPAN_S / (len(turns) * len(self.seats))
        for turn, (mode, relation) in enumerate(turns):
            for place, seat in enumerate(rng.sample(self.seats, len(self.seats))):
                self.now = max(self.now, BEGIN + gap * (turn * len(self.seats) + place))
                _ = self._words(seat, relation) if mode == "classic" else self._judge(seat, relation)
                done += 1
                step(done, "", None)
        self.now = BEGIN + SPAN_S + PERIOD_S  # a shared adapter is taught by what there was when the fortnight began

    def _turns(self) -> Iterator[tuple[str, Relation]]:
        """What everybody plays, in order: (mode, relation)."""
        n, judged = self._plan.rounds, 0
        for turn in range(n):
            yield "classic", RELATIONS[turn % len(RELATIONS)]
            while judged * n < (turn + 1) * self._plan.judge_rounds - n / 2:
                yield "judge", RELATIONS[judged % len(RELATIONS)]
                judged += 1

    def _words(self, seat: _Seat, relation: Relation) -> None:
        """A Classic round, its answers sent together, as a page without JavaScript does."""
        desk = self.game.rounds
        row = desk.start(seat.key, desk.issue(seat.key, [relation], "classic").round)
        _, word = desk.round(seat.key, row.round)
        assert word is not None  # a Classic round has one
        answers = seat.mind.answers(word, row.seconds, self._visits[seat.key, word.id])
        self._visits[seat.key, word.id] += 1
        self.now += answers[-1][0] / 1000 if answers else 1.0
        desk.finish(seat.key, row.round, [text for _, text in answers])

    def _judge(self, seat: _Seat, relation: Relation) -> None:
        """A round of Nym or Not, where there are pairs enough, as far as the time goes."""
        desk = self.game.judging
        with self.game.books.read() as books:
            player = books.player(seat.key)
        row = desk.offer(player, [relation], "1x")
        if row is None:
            return
        row = self.game.rounds.start(seat.key, row.round)
        limit_ms, spent_ms = 1000 * (row.seconds or 0.0), 0
        verdicts: dict[int, Verdict] = {}
        times: dict[int, int | None] = {}
        for asked in desk.asked(seat.key, row.round):
            verdict, ms = seat.mind.verdict(asked.word.relation, asked.word.key, asked.display)
            if spent_ms + ms > limit_ms:
                break
            spent_ms += ms
            verdicts[asked.seq], times[asked.seq] = verdict, ms
        self.now += spent_ms / 1000
        desk.finish(seat.key, row.round, verdicts, times)

    # -- afterwards ------------------------------------------------------------------------------------------------

    def retests(self) -> list[tuple[str, Retest]]:
        """Base words that came back after a week, of subjects held against subjects and teachers against teachers."""
        kinds = {seat.player: seat.mind.kind for seat in self.seats}
        found = [*find(self.game.books), *find(self.game.books, simulated=True)]
        return [(kinds[one.player], one) for one in found]

    def draw(self, base: Base, settings: Settings, step: Step) -> Iterator[dict[str, Any]]:
        """Every subject's portrait, as figures. The first makes the shared adapters, so it takes longest."""
        subjects = [seat for seat in self.seats if seat.role == "subject"]
        for done, seat in enumerate(subjects, start=1):
            began = time.monotonic()

            def say(line: str, before: int = done - 1) -> None:
                step(before, line, None)

            body = draw(base, self._store, self.game, seat.key, settings, say=say).body
            step(done, "offered" if body["offered"] else "not offered", None)
            yield self._figures(seat, body) | {"seconds": round(time.monotonic() - began, 2)}

    def _figures(self, seat: _Seat, body: Any) -> dict[str, Any]:
        """What is kept of a portrait: no words, no names, no digests."""
        tasks = {
            task: {name: value for name, value in one.items() if name != "adapter"} | {"trained": one["adapter"] is not None}
            for task, one in body["tasks"].items()
        }
        kept = ("n_items", "n_rounds", "trained", "offered", "personal", "population")
        told = {name: body[name] for name in kept} | {"n_teachers": body["teachers"]["n"]}
        return {"seed": self._seed, "subject": seat.number, "kind": seat.mind.kind, **told, "tasks": tasks}


def _name(seed: int, role: str, number: int) -> str:
    """A random name in the half of players where the role has to be."""
    rng = Random(seed_of("study-name", seed, role, number))
    while half(name := f"{rng.getrandbits(128):032x}") != _HALF[role]:
        pass
    return name
