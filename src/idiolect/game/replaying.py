"""Rounds that were never played at a desk, as the desks would have left them: for simulated players, and to try a full store.

    who, when, what was typed ──▶ Replay, one base word at a time ──▶ rows of rounds, answers and pairs

What `Rounds` and `Judging` write for a Classic round is a function of the rounds on the same base word before it. So a base
word is played through in memory, and its rows are written at once. Not replayed: judgements, notices, and lost trust.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from idiolect.game import trust, validity
from idiolect.game.normalise import Reading, normalise
from idiolect.game.rules import DAY_ROUNDS, MAX_ANSWERS, MAX_RAW, RULES, SECONDS, day_of
from idiolect.game.score import MIN_OTHERS, Agreement, RoundScore, score_round
from idiolect.game.vocabulary import BaseWord, Vocabulary
from idiolect.store.game.records import AnswerRow
from idiolect.types import canonical_json

READY_S = 2.0
"""From handing out to the start."""
_LISTS = 200


@dataclass(frozen=True)
class Play:
    """One player's round on a base word.

    Attributes:
        player: any number that names them.
        typed: (milliseconds since the start, text) of each answer, in time; plain words.
    """

    player: int
    started_at: float
    typed: Sequence[tuple[int, str]]


@dataclass
class Played:
    """A closed round: columns of its row but `round` and `prompt`, with `player` as it was named, and of its answers."""

    values: dict[str, Any]
    answers: list[dict[str, Any]]

    @property
    def keys(self) -> list[str]:
        """Of accepted answers."""
        return [answer["key"] for answer in self.answers if answer["status"] == "accepted"]


@dataclass
class Known:
    """A pair so far."""

    display: str
    first_at: float
    oov: bool
    review: bool
    forms: Counter[str] = field(default_factory=Counter)

    def row(self, key: str, validated: bool) -> dict[str, Any]:
        n = sum(self.forms.values())
        # The most frequent form; of equals the first by alphabet.
        display = min(self.forms, key=lambda form: (-self.forms[form], form)) if n else self.display
        state = "validated" if validated else "candidate"
        return {
            "key": key, "display": display, "first_at": self.first_at, "oov": int(self.oov), "review": int(self.review),
            "n_players": n, "state": state,
        }  # fmt: skip


class Replay:
    """The Classic rounds of one base word, each player's first.

    Args:
        real: the players count as people. Simulated ones validate nothing, and their rounds are never settled.

    Attributes:
        rounds: as they were closed.
        validated: of each player, how many answers became validated after they gave them.
        n_slurs: of each player.
    """

    def __init__(self, word: BaseWord, words: Vocabulary, *, real: bool) -> None:
        self.word, self._words, self._real = word, words, real
        self.rounds: list[Played] = []
        self.validated: Counter[int] = Counter()
        self.n_slurs: Counter[int] = Counter()
        self._known: dict[str, Known] = {}
        self._valid: set[str] = set()
        self._readings: dict[str, Reading] = {}
        self._given: Counter[str] = Counter()
        self._givers: dict[str, list[int]] = {}
        self._counted: dict[int, frozenset[str]] = {}
        self._waiting: list[Played] = []
        self._lists: deque[tuple[str, ...]] = deque(maxlen=_LISTS)

    def play(self, play: Play) -> Played:
        """Play a round to its end, after all that were played before."""
        seconds = float(SECONDS[self.word.relation])
        closed_at = play.started_at + seconds
        answers = self._read(play)
        n_before = len(self.rounds) if self._real else 0
        values: dict[str, Any] = {
            "player": play.player, "relation": self.word.relation, "mode": "classic", "timing": "1x", "seconds": seconds,
            "served_at": play.started_at - READY_S, "started_at": play.started_at, "deadline_at": closed_at,
            "closed_at": closed_at, "close_reason": "finished", "repeat": 0, "n_closed": n_before, "settled_at": None,
            "gained": 0, "n_agreed": 0, "beyond": 0, "rules": RULES,
        }  # fmt: skip
        made = Played(values, answers)
        keys = made.keys
        values |= {"counts": int(bool(keys)), "n_accepted": len(keys)}
        self._touch(made)
        self._score(made)
        if keys:
            self._count(made, keys)
        self.rounds.append(made)
        if keys:
            self._lists.append(tuple(keys))
        return made

    def pairs(self) -> list[dict[str, Any]]:
        """Columns of the rows of pairs, but `prompt`."""
        return [known.row(key, key in self._valid) for key, known in self._known.items()]

    def prompt(self) -> dict[str, Any]:
        """What is known of the base word by real players."""
        scores = [played.values["score_provisional"] for played in self.rounds] if self._real else []
        return {
            "n_players": len(self._counted) if self._real else 0,
            "n_rounds": len(scores),
            "score_sum": float(sum(scores)),
            "score_squares": float(sum(score * score for score in scores)),
        }

    # -- answers ---------------------------------------------------------------------------------------------------

    def _read(self, play: Play) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = []
        earlier: set[str] = set()
        for seq, (ms, text) in enumerate(play.typed[:MAX_ANSWERS]):
            read = self._reading(text)
            status = "duplicate" if read.status == "accepted" and read.key in earlier else read.status
            is_new = status == "accepted"
            if is_new:
                earlier.add(read.key)
            self.n_slurs[play.player] += status == "blocked"
            answers.append({
                "seq": seq, "received_at": play.started_at + ms / 1000, "ms": ms, "raw": text[:MAX_RAW],
                "display": read.display[:MAX_RAW], "key": read.key, "status": status,
                "oov": int(is_new and read.oov and read.key not in self._valid), "review": int(is_new and read.review),
                "pasted": 0, "agree": 0, "seed": 0, "rare": 0, "points": 0,
            })  # fmt: skip
        return answers

    def _reading(self, text: str) -> Reading:
        """An answer as the first of its round; the same text is read once."""
        if text not in self._readings:
            self._readings[text] = normalise(text, self.word, self._words.lexicon)
        return self._readings[text]

    def _touch(self, made: Played) -> None:
        for answer in made.answers:
            if answer["status"] != "accepted":
                continue
            known = self._known.get(answer["key"])
            if known is None:
                first = (answer["display"], made.values["closed_at"], bool(answer["oov"]), bool(answer["review"]))
                self._known[answer["key"]] = Known(*first)
            elif answer["review"]:
                known.review = True

    # -- scores ----------------------------------------------------------------------------------------------------

    def _score(self, made: Played) -> None:
        others = Agreement(len(self._counted), self._given)
        scored = self._scored(made, others)
        _keep(made, scored)
        is_final = self._real and others.n_others >= MIN_OTHERS
        made.values |= {"score_provisional": scored.total, "score_final": scored.total if is_final else None}
        flags: dict[str, Any] = {"asked": {"relations": [self.word.relation], "mode": "classic"}, "pioneer": scored.bonus}
        rows = [AnswerRow(0, **answer) for answer in made.answers]
        if patterns := trust.answering_patterns(rows, self._lists):
            flags["patterns"] = patterns
        made.values["flags"] = canonical_json(flags)
        if not is_final and self._real:
            self._waiting.append(made)

    def _scored(self, made: Played, others: Agreement) -> RoundScore:
        seeds, n_closed = self._words.seeds[self.word.id], made.values["n_closed"]
        return score_round(made.keys, others, seeds=seeds, n_closed=n_closed, validated=self._valid)

    def _count(self, made: Played, keys: Sequence[str]) -> None:
        """From now on the round is part of what others answered."""
        player = made.values["player"]
        if player in self._counted:
            raise ValueError(f"player {player} has a round on {self.word.id} already")
        self._counted[player] = frozenset(keys)
        self._given.update(keys)
        if not self._real:
            return
        for answer in made.answers:
            if answer["status"] == "accepted":
                self._known[answer["key"]].forms[answer["display"]] += 1
                self._givers.setdefault(answer["key"], []).append(player)
        self._settle(made.values["closed_at"])
        for key in keys:
            if key not in self._valid and self._is_valid(self._givers[key]):
                self._valid.add(key)
                self.validated.update(self._givers[key])

    def _is_valid(self, givers: Sequence[int]) -> bool:
        """As `validity` has it, of players who are trusted as on their first day or more."""
        return len(givers) >= validity.MIN_GIVERS and len(givers) * trust.START.trust >= validity.MIN_GIVERS_TRUST

    def _settle(self, at: float) -> None:
        waiting, self._waiting = self._waiting, []
        for made in waiting:
            own = self._counted.get(made.values["player"], frozenset())
            n_others = len(self._counted) - (made.values["player"] in self._counted)
            if n_others < MIN_OTHERS:
                self._waiting.append(made)
                continue
            others = Agreement(n_others, {key: n - (key in own) for key, n in self._given.items()})
            scored, before = self._scored(made, others), made.values["score_provisional"]
            gained = max(scored.total - before, 0)
            if gained:
                _keep(made, scored)
            agreed = {answer.key for answer in scored.answers if answer.agree}
            n_agreed = sum(player != made.values["player"] and not agreed.isdisjoint(k) for player, k in self._counted.items())
            made.values |= {"score_final": before + gained, "settled_at": at, "gained": gained, "n_agreed": n_agreed}


def _keep(made: Played, scored: RoundScore) -> None:
    accepted = (answer for answer in made.answers if answer["status"] == "accepted")
    for answer, one in zip(accepted, scored.answers, strict=True):
        answer |= {"agree": one.agree, "seed": one.seed, "rare": one.rare, "points": one.points}


def beyond_share(closed: Mapping[int, Sequence[float]]) -> dict[int, set[float]]:
    """Of each player's closing times those that are beyond a day's share of rounds, whose points count nowhere."""
    beyond: dict[int, set[float]] = {}
    for player, times in closed.items():
        n: Counter[float] = Counter()
        for at in sorted(times):
            n[day_of(at)] += 1
            if n[day_of(at)] > DAY_ROUNDS:
                beyond.setdefault(player, set()).add(at)
    return beyond
