"""Nym or Not: does this pair hold?

    issue ─▶ issued ── Rounds.start ──▶ open ── finish, or the server at deadline + 5 s ──▶ closed ── five votes ──▶ settled

A round asks about up to 25 pairs of one relation. Until it is closed a verdict can be changed or taken back; then it counts:
for the pair, for the player's points, and on gold for the player's trust. What the player did not get to may come again.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from idiolect.game import counting, pooling
from idiolect.game.clock import Clock
from idiolect.game.counting import base_words
from idiolect.game.judged import JudgedLine, JudgeReport, line_of
from idiolect.game.life import ended, is_late, is_over, own_round, put_away, still_running
from idiolect.game.mixing import MIN_ITEMS, Item, mix
from idiolect.game.normalise import RELATIONS, Relation
from idiolect.game.pooling import Candidates
from idiolect.game.refusals import BadAnswer, NotYours, RoundClosed
from idiolect.game.rules import RULES, Timing, seconds_of
from idiolect.game.score import Verdict
from idiolect.game.vocabulary import BaseWord, Vocabulary
from idiolect.store.game.books import Books, GameBooks
from idiolect.store.game.records import AnswerRow, PlayerRow, RoundRow

VERDICTS: tuple[Verdict, ...] = ("yes", "no", "unsure")
NOTHING_TO_JUDGE = "there are not enough pairs to judge here yet; choose another relation, or play a round of words"


@dataclass(frozen=True)
class Asked:
    """One pair as it is shown; what kind it is stays with the server."""

    seq: int
    word: BaseWord
    display: str
    verdict: Verdict | None


class Judging:
    """Hands out pairs, takes verdicts, counts them.

    Args:
        candidates: a model's answers to a base word, with how likely each is; None: there is no model.

    Every method that names a round raises NotYours if the player has no such round.
    """

    def __init__(
        self, books: GameBooks, words: Vocabulary, clock: Clock, rng: Random, candidates: Candidates | None = None
    ) -> None:
        self._books, self._words, self._clock, self._rng, self._candidates = books, words, clock, rng, candidates

    # -- handing out -----------------------------------------------------------------------------------------------

    def offer(self, player: PlayerRow, relations: Sequence[Relation], timing: Timing) -> RoundRow | None:
        """A round of the first of these relations, in random order, that has enough pairs; None if none has.

        Raises:
            OneOpenRound: the player's round is running.
        """
        now = self._clock()
        order = sorted(set(relations) or RELATIONS, key=RELATIONS.index)
        self._rng.shuffle(order)
        with self._books.write() as books:
            self._put_away(books, player.key, now)
            books.drop_unplayed(player.key)
        for relation in order:
            with self._books.read() as books:  # looking for pairs takes longer than others should wait
                pools = pooling.pools(books, self._words, player.key, relation, self._rng, self._candidates)
                items = mix(pools, books.n_judged(player.key), self._rng)
            if len(items) >= MIN_ITEMS:
                with self._books.write() as books:
                    self._put_away(books, player.key, now)
                    return self._issue(books, player, relation, timing, items, now)
        return None

    def start(self, player: PlayerRow, relations: Sequence[Relation], timing: Timing) -> RoundRow:
        """A round, as `offer` makes it; its clock runs from `Rounds.start` on.

        Raises:
            OneOpenRound: the player's round is running.
            NotYours: there are not enough pairs to judge.
        """
        row = self.offer(player, relations, timing)
        if row is None:
            raise NotYours(NOTHING_TO_JUDGE)
        return row

    def _put_away(self, books: Books, player: int, now: float) -> None:
        def close(row: RoundRow, reason: str, at: float) -> None:
            if row.mode != "judge":  # words are scored where they are taken
                raise still_running(row)
            self._close(books, row, reason, at)

        put_away(books, player, now, close)

    def _issue(
        self, books: Books, player: PlayerRow, relation: Relation, timing: Timing, items: Sequence[Item], now: float
    ) -> RoundRow:
        asked = books.asked(player.key)
        row = books.add_round(
            round=str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
            player=player.key,
            relation=relation,
            mode="judge",
            timing=timing,
            seconds=seconds_of(relation, "judge", timing),
            served_at=now,
            rules=RULES,
        )
        rows = [
            {"prompt": item.prompt, "key": item.key, "display": item.display, "seq": seq, "kind": item.kind}
            for seq, item in enumerate(item for item in items if item.pair not in asked)
        ]
        books.add_judgements(row.key, player.key, rows)
        return row

    def asked(self, player: int, round: str) -> list[Asked]:
        """The pairs of a round, in the order in which they are shown."""
        with self._books.read() as books:
            row = self._own(books, player, round)
            words = base_words(books, self._words, row)
            return [Asked(j.seq, words[j.prompt], j.display, j.verdict) for j in books.judgements(row.key)]

    # -- verdicts --------------------------------------------------------------------------------------------------

    def judge(self, player: int, round: str, seq: int, verdict: Verdict | None, ms: int | None = None) -> bool:
        """Take a verdict; whether it came in time. The same again changes nothing, another replaces it, None takes it back.

        Args:
            ms: since the pair was shown, by the player's browser.

        Raises:
            RoundClosed: the round is over, or was not started.
            BadAnswer: there is no such pair in the round, or no such verdict.
        """
        if verdict is not None and verdict not in VERDICTS:
            raise BadAnswer("a verdict is yes, no or unsure")
        now = self._clock()
        with self._books.write() as books:
            row = self._own(books, player, round)
            if row.closed_at is not None or row.started_at is None:
                state = "has not begun; start it first" if row.closed_at is None else "is over"
                raise RoundClosed(f"this round {state}")
            item = next((j for j in books.judgements(row.key) if j.seq == seq), None)
            if item is None:
                raise BadAnswer("this round has no pair of that number")
            if is_late(row, now):
                return False
            if item.verdict != verdict:
                books.judge([(item.key_, verdict, _kept_ms(ms))], now)
            return True

    def finish(
        self,
        player: int,
        round: str,
        verdicts: Mapping[int, Verdict] | None = None,
        times: Mapping[int, int | None] | None = None,
    ) -> JudgeReport:
        """Close a round; the report. Doing so again gives the same report.

        Args:
            verdicts: by number, of a page that sends them all at once. They count if they arrive in time, like any other.
            times: milliseconds that each took, by the player's browser.

        Raises:
            RoundClosed: the round was never started.
        """
        now = self._clock()
        with self._books.write() as books:
            row = self._own(books, player, round)
            if row.closed_at is None:
                if row.started_at is None:
                    raise RoundClosed("this round has not begun; start it first")
                if verdicts and not is_late(row, now):
                    took = times or {}
                    new = [
                        (item.key_, said, _kept_ms(took.get(item.seq)))
                        for item in books.judgements(row.key)
                        if item.verdict is None and (said := verdicts.get(item.seq)) in VERDICTS
                    ]
                    books.judge(new, now)
                late = is_late(row, now)
                self._close(books, row, "expired" if late else "finished", ended(row, now) if late else now)
        return self.report(player, round)

    # -- closing ---------------------------------------------------------------------------------------------------

    def _close(self, books: Books, row: RoundRow, reason: str, now: float) -> None:
        books.change_round(row.key, closed_at=now, close_reason=reason)
        books.change_player(row.player, last_played=now)
        closed = books.round(row.round)
        assert closed is not None
        self.on_closed(books, closed, books.player(row.player), ())

    def on_closed(self, books: Books, row: RoundRow, player: PlayerRow, answers: Sequence[AnswerRow]) -> None:
        """What follows from a round that was just closed: points of judgements, states of pairs, trust, marks of patterns."""
        assert row.closed_at is not None
        if row.mode == "judge":
            counting.count_verdicts(books, self._words, row, player, row.closed_at)
        elif row.prompt is not None:
            counting.count_answers(books, row, player, answers, row.closed_at)

    # -- afterwards ------------------------------------------------------------------------------------------------

    def report(self, player: int, round: str) -> JudgeReport:
        """The report of a closed round; of a round that is over but open, after closing it.

        Raises:
            RoundClosed: the round is still running, or was put away.
        """
        now = self._clock()
        with self._books.read() as books:
            row = self._own(books, player, round)
            if not _is_to_close(row, now):
                return self._report(books, row)
        with self._books.write() as books:
            row = self._own(books, player, round)
            if _is_to_close(row, now):
                self._close(books, row, "expired", ended(row, now))
        with self._books.read() as books:
            return self._report(books, self._own(books, player, round))

    def _report(self, books: Books, row: RoundRow) -> JudgeReport:
        if row.closed_at is None or row.close_reason not in ("finished", "expired"):
            raise RoundClosed("there is no report of this round: it is still running, or was put away")
        return JudgeReport(row, tuple(self._lines(books, row)))

    def _lines(self, books: Books, row: RoundRow) -> list[JudgedLine]:
        judged = books.judgements(row.key)
        wanted = {item.pair for item in judged}
        words, votes, pairs = base_words(books, self._words, row), books.votes(wanted), books.pair_rows(wanted)
        return [
            line_of(item, words[item.prompt], votes, pairs[item.pair].key_ if item.pair in pairs else None) for item in judged
        ]

    def _own(self, books: Books, player: int, round: str) -> RoundRow:
        row = own_round(books, player, round)
        if row.mode != "judge":
            raise NotYours("there is no such round of yours")
        return row


def _is_to_close(row: RoundRow, now: float) -> bool:
    return row.closed_at is None and row.started_at is not None and is_over(row, now)


def _kept_ms(ms: int | None) -> int | None:
    return None if ms is None else max(0, min(int(ms), 10**9))
