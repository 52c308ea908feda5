"""Rounds, by the server's clock.

    issue ─▶ issued ── start ──▶ open ──┬── finish, or the server at deadline + 5 s ──▶ closed ── five others ──▶ settled
                                        └── skip (nothing accepted yet) ──▶ closed

Every step is one transaction. A player has one open round; what the browser says of time is kept, and decides nothing. When the
server was gone, rounds whose time is over are closed as soon as it is back, with all answers that had arrived.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, cast

from idiolect.game import choosing, reports, score
from idiolect.game.clock import Clock
from idiolect.game.life import ended, is_late, is_over, own_round, put_away, round_ms
from idiolect.game.normalise import RELATIONS, Relation, normalise
from idiolect.game.recounting import recount
from idiolect.game.refusals import BadAnswer, NotYours, RoundClosed, TooMany
from idiolect.game.reports import Report
from idiolect.game.rules import (
    CLOSE_S,
    DAY_ROUNDS,
    IDLE_S,
    MAX_ANSWERS,
    MAX_RAW,
    PASS_S,
    RULES,
    SHARES,
    Mode,
    Timing,
    day_of,
    seconds_of,
)
from idiolect.game.showing import showable
from idiolect.game.vocabulary import BaseWord, Vocabulary
from idiolect.store.game.books import Books, GameBooks
from idiolect.store.game.records import AnswerRow, PlayerRow, PromptRow, RoundRow
from idiolect.types import canonical_json, has_surrogate

MAX_SEQ = 10_000

OnClosed = Callable[[Books, RoundRow, PlayerRow, Sequence[AnswerRow]], None]
"""What else follows from a closed round, in its transaction."""


@dataclass(frozen=True)
class Entered:
    """What became of an answer: where it was put, and how it was read."""

    seq: int
    status: str
    display: str


class Rounds:
    """Hands out base words, takes answers, closes and scores.

    Args:
        on_closed: called with every closed round that was played, e.g. to look at the player's trust.
        judge: hands out a round of Nym or Not, in a transaction of its own; None: there is nothing to judge.

    Every method that names a round raises NotYours if the player has no such round.
    """

    def __init__(
        self,
        books: GameBooks,
        words: Vocabulary,
        clock: Clock,
        rng: Random,
        *,
        on_closed: OnClosed = lambda *_: None,
        judge: Callable[[PlayerRow, Sequence[Relation], Timing], RoundRow | None] = lambda *_: None,
    ) -> None:
        self._books, self._words, self._clock, self._rng = books, words, clock, rng
        self._on_closed, self._judge = on_closed, judge

    # -- from issued to open ---------------------------------------------------------------------------------------

    def issue(
        self,
        player: int,
        relations: Collection[Relation] = RELATIONS,
        mode: Mode | None = None,
        timing: Timing | None = None,
    ) -> RoundRow:
        """Hand out a round. One that was handed out before and never started is put away.

        Args:
            relations: one of these is asked; none means all.
            mode: None: by the shares of the modes. Fresh needs a base word whose frequent answers are known, Nym or Not needs
                pairs, and My view needs the player's consent; where that is missing it is a Classic round.
            timing: None: as the player's settings say.

        Raises:
            OneOpenRound: the player's round is running.
        """
        now = self._clock()
        with self._books.write() as books:
            row = books.player(player)
            put_away(books, player, now, lambda over, why, at: self._close(books, over, row, why, at))
            pace = timing or cast(Timing, row.timing)
            offered: list[Relation] = [r for r in RELATIONS if self._words.of(r) and (not relations or r in relations)]
            if not offered:
                raise NotYours("there are no base words of this kind; choose another kind")
            relation = self._rng.choice(offered)
            wanted = mode or self._rng.choices(list(SHARES), weights=list(SHARES.values()))[0]
            asked = {"relations": sorted(relations), "mode": mode}
            if wanted != "judge":
                return self._issue_words(books, row, relation, wanted, pace, now, asked)
        judging = self._judge(row, tuple(relations), pace)
        with self._books.write() as books:
            if judging is None:
                return self._issue_words(books, row, relation, "classic", pace, now, asked)
            books.change_round(judging.key, flags=canonical_json({**judging.flags, "asked": asked}))
        return judging

    def _issue_words(
        self,
        books: Books,
        player: PlayerRow,
        relation: Relation,
        mode: Mode,
        timing: Timing,
        now: float,
        asked: Mapping[str, Any],
    ) -> RoundRow:
        prompts, played = books.prompts(relation), books.played(player.key)
        passed = books.passed_since(player.key, now - PASS_S)
        record = choosing.Record(*books.record(player.key, relation))
        taboo: frozenset[str] = frozenset()
        chosen = None
        if mode == "fresh":
            known = [p for p in prompts if p.n_players >= score.TABOO_FROM and p.key not in played]
            chosen = choosing.choose(known, {}, passed, now, self._rng, record)
            taboo = self._taboo(books, chosen.prompt, player.key) if chosen else taboo
        if not taboo:  # a Fresh round that lists nothing is a Classic one
            chosen = choosing.choose(prompts, played, passed, now, self._rng, record)
            mode = "my_view" if mode == "my_view" and player.consent_personal is not None else "classic"
        if chosen is None:
            raise NotYours("there is no base word left of this kind; choose another kind")
        return books.add_round(
            round=str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
            player=player.key,
            prompt=chosen.prompt.key,
            relation=relation,
            mode=mode,
            timing=timing,
            seconds=seconds_of(relation, mode, timing),
            served_at=now,
            repeat=chosen.repeat,
            rules=RULES,
            flags=canonical_json({"asked": asked, **({"taboo": sorted(taboo)} if taboo else {})}),
        )

    def _taboo(self, books: Books, prompt: PromptRow, player: int) -> frozenset[str]:
        """What a Fresh round on this base word lists: of others' frequent answers those that may be shown."""
        frequent = reports.merged(books.given(prompt.key, player))[0].taboo()
        return showable(books, self._words, prompt.key, self._words.words[prompt.prompt], frequent)

    def start(self, player: int, round: str) -> RoundRow:
        """Show the base word, and let the clock run; doing so again changes nothing."""
        now = self._clock()
        with self._books.write() as books:
            row = own_round(books, player, round)
            if row.closed_at is not None:
                raise RoundClosed("this round is over; its report shows what became of it")
            if row.started_at is None:
                deadline = None if row.seconds is None else now + row.seconds
                books.change_round(row.key, started_at=now, deadline_at=deadline)
            return own_round(books, player, round)

    # -- answers ---------------------------------------------------------------------------------------------------

    def answer(self, player: int, round: str, seq: int, text: str, ms: int | None = None, *, pasted: bool = False) -> Entered:
        """Take one answer. The same answer under the same number counts once; another one under a number that is taken (two
        windows) is put under the next free one.

        Raises:
            RoundClosed: the round is over, or was not started.
            TooMany: there are 40 answers already.
            BadAnswer: the number is out of range.
        """
        if not 0 <= seq < MAX_SEQ:
            raise BadAnswer(f"an answer's number is between 0 and {MAX_SEQ - 1}, not {seq}")
        now = self._clock()
        with self._books.write() as books:
            row = self._running(books, player, round)
            return self._take(books, row, seq, text, ms, pasted, now)

    def remove(self, player: int, round: str, seq: int) -> bool:
        """Take an answer back while the round is open; whether there was one. The same answer given again later counts then."""
        with self._books.write() as books:
            row = self._running(books, player, round)
            before = books.answers(row.key)
            gone = next((answer for answer in before if answer.seq == seq), None)
            if gone is None:
                return False
            books.remove_answer(row.key, seq)
            again = next((a for a in before if a.status == "duplicate" and a.key == gone.key), None)
            if gone.status == "accepted" and again is not None:
                books.change_answer(again.key_, {"status": "accepted"})
            return True

    def entered(self, player: int, round: str) -> list[AnswerRow]:
        """What has arrived so far."""
        with self._books.read() as books:
            return books.answers(own_round(books, player, round).key)

    def _running(self, books: Books, player: int, round: str) -> RoundRow:
        row = own_round(books, player, round)
        if row.closed_at is not None:
            raise RoundClosed("this round is over; its report shows what became of it")
        if row.started_at is None or row.mode == "judge":
            raise RoundClosed(
                "this round has not begun; start it first" if row.mode != "judge" else "this round takes no words"
            )
        return row

    def _take(self, books: Books, row: RoundRow, seq: int, text: str, ms: int | None, pasted: bool, now: float) -> Entered:
        raw, before = _kept(text), books.answers(row.key)
        taken = {answer.seq: answer for answer in before}
        if seq in taken and taken[seq].raw == raw:
            return Entered(seq, taken[seq].status, taken[seq].display)
        if len(before) >= MAX_ANSWERS:
            raise TooMany(f"a round takes {MAX_ANSWERS} answers, and this one has them", retry_after_s=1)
        while seq in taken:
            seq += 1
        word, prompt = self._word(books, row)
        accepted = {answer.key for answer in before if answer.status == "accepted"}
        read = normalise(text, word, self._words.lexicon, earlier=accepted, validated=books.validated_keys(prompt.key))
        status = "late" if is_late(row, now) else read.status
        books.add_answer(
            row.key,
            seq=seq,
            received_at=now,
            ms=ms if ms is None else max(0, min(int(ms), 10**9)),
            raw=raw,
            display=_kept(read.display),
            key=read.key,
            status=status,
            oov=read.oov,
            review=read.review,
            pasted=pasted,
        )
        return Entered(seq, status, _kept(read.display))

    # -- the end ---------------------------------------------------------------------------------------------------

    def finish(self, player: int, round: str, texts: Sequence[str] = ()) -> Report:
        """Close a round, and take what was not sent before; the report. Doing so again gives the same report.

        Args:
            texts: answers of a page without JavaScript. They count if they arrive in time, like any other.
        """
        now = self._clock()
        with self._books.write() as books:
            row = own_round(books, player, round)
            if row.closed_at is None:
                self._running(books, player, round)
                self._take_all(books, row, texts, now)
                self._close(books, row, books.player(player), "finished", now)
        return self.report(player, round)

    def _take_all(self, books: Books, row: RoundRow, texts: Sequence[str], now: float) -> None:
        before = books.answers(row.key)
        known = {answer.raw for answer in before}
        seq = max((answer.seq for answer in before), default=-1) + 1
        room = MAX_ANSWERS - len(before)
        for text in [t for t in texts if t.strip() and _kept(t) not in known][:room]:
            self._take(books, row, seq, text, None, False, now)
            seq += 1

    def skip(self, player: int, round: str) -> None:
        """Put a round away that holds no accepted answer. The player does not see its base word again for 30 days.

        Raises:
            RoundClosed: it is over, or holds an accepted answer.
        """
        now = self._clock()
        with self._books.write() as books:
            row = own_round(books, player, round)
            n_accepted = sum(answer.status == "accepted" for answer in books.answers(row.key))
            if not score.may_skip(n_accepted, row.closed_at is not None):
                problem = "is over" if row.closed_at is not None else "holds an answer that counts; finish it"
                raise RoundClosed(f"this round {problem}, and cannot be skipped")
            books.change_round(row.key, closed_at=now, close_reason="skipped")
            if row.prompt is not None and row.started_at is not None:
                books.add_pass(player, row.prompt, now, round_ms(now - row.started_at))

    def close_overdue(self) -> int:
        """Close every round whose time is over; how many those were."""
        now = self._clock()
        with self._books.read() as books:
            if not books.overdue(now - CLOSE_S, now - IDLE_S):
                return 0
        with self._books.write() as books:
            over = books.overdue(now - CLOSE_S, now - IDLE_S)
            for row in over:
                if row.started_at is None:
                    books.change_round(row.key, closed_at=now, close_reason="abandoned")
                else:
                    self._close(books, row, books.player(row.player), "expired", ended(row, now))
        return len(over)

    def _close(self, books: Books, row: RoundRow, player: PlayerRow, reason: str, now: float) -> None:
        """Close a started round, score it, and settle those of others that waited for it."""
        if row.mode == "judge":
            answers: list[AnswerRow] = []
            books.change_round(row.key, closed_at=now, close_reason=reason)
        else:
            answers = books.answers(row.key)
            self._close_words(books, row, player, answers, reason, now)
        books.change_player(player.key, last_played=now)
        closed = books.round(row.round)
        assert closed is not None
        self._on_closed(books, closed, player, answers)

    def _close_words(
        self, books: Books, row: RoundRow, player: PlayerRow, answers: Sequence[AnswerRow], reason: str, now: float
    ) -> None:
        word, prompt = self._word(books, row)
        accepted = [answer for answer in answers if answer.status == "accepted"]
        typed = [answer for answer in accepted if not answer.pasted]
        counts = row.mode in ("classic", "fresh") and not row.repeat and bool(typed) and 2 * len(typed) > len(accepted)
        counts = counts and not books.has_counted(player.key, prompt.key)
        books.touch_pairs(prompt.key, [(a.key, a.display, a.oov, a.review) for a in accepted], now)
        books.change_round(
            row.key,
            closed_at=now,
            close_reason=reason,
            counts=counts,
            n_accepted=len(accepted),
            n_closed=prompt.n_rounds,
            beyond=books.n_since(player.key, day_of(now)) >= DAY_ROUNDS,
        )
        total = self._score(books, replace(row, n_closed=prompt.n_rounds, closed_at=now), word, prompt, answers)
        if player.is_real and row.mode != "my_view" and not row.repeat:
            books.count_round(prompt.key, total, first=counts)
        if counts:
            books.recount_players(prompt.key, [answer.key for answer in accepted])
            self._settle(books, word, prompt, now)

    def _score(self, books: Books, row: RoundRow, word: BaseWord, prompt: PromptRow, answers: Sequence[AnswerRow]) -> int:
        """Score a closed round for the first time, and keep what came out."""
        given = books.given(prompt.key, row.player, before=row.closed_at)
        scored = self._scored(books, row, word, prompt, answers, reports.merged(given)[0])
        self._keep(books, answers, scored)
        final = None if row.mode != "my_view" and given.n_real < score.MIN_OTHERS else scored.total
        flags = canonical_json({**row.flags, "pioneer": scored.bonus if row.mode != "my_view" else 0})
        books.change_round(row.key, score_provisional=scored.total, score_final=final, flags=flags)
        return scored.total

    def _scored(
        self,
        books: Books,
        row: RoundRow,
        word: BaseWord,
        prompt: PromptRow,
        answers: Sequence[AnswerRow],
        others: score.Agreement,
    ) -> score.RoundScore:
        accepted = [answer for answer in answers if answer.status == "accepted"]
        taboo = set(row.flags.get("taboo", ()))
        return score.score_round(
            [answer.key for answer in accepted],
            others,
            seeds=self._words.seeds[word.id],
            n_closed=row.n_closed or 0,
            validated=books.validated_keys(prompt.key),
            mode=cast(score.Mode, row.mode),
            unscored={a.key for a in accepted if a.pasted or a.key in taboo},
        )

    def _keep(self, books: Books, answers: Sequence[AnswerRow], scored: score.RoundScore) -> None:
        """Write the points of accepted answers down."""
        accepted = [answer for answer in answers if answer.status == "accepted"]
        for answer, one in zip(accepted, scored.answers, strict=True):
            points = {"agree": one.agree, "seed": one.seed, "rare": one.rare, "points": one.points}
            books.change_answer(answer.key_, points)

    def _settle(self, books: Books, word: BaseWord, prompt: PromptRow, now: float) -> None:
        """Settle rounds on a base word that five real others have answered by now; each keeps the better of two scores."""
        for row in books.unsettled(prompt.key):
            given = books.given(prompt.key, row.player)
            if given.n_real < score.MIN_OTHERS:
                continue
            answers = books.answers(row.key)
            scored = self._scored(books, row, word, prompt, answers, score.Agreement(given.n_real, given.real))
            before = row.score_provisional or 0
            better = scored.total > before
            if better:
                self._keep(books, answers, scored)
            gained = max(scored.total - before, 0)
            agreed = books.n_agreeing(prompt.key, row.player, [points.key for points in scored.answers if points.agree])
            final = before + gained
            books.change_round(row.key, score_final=final, settled_at=now, gained=gained, n_agreed=agreed)
            if gained:
                body: Mapping[str, Any] = {"round": row.round, "prompt": prompt.prompt, "gained": gained, "n_agreed": agreed}
                books.add_notice(row.player, "settled", dict(body), now)

    # -- afterwards ------------------------------------------------------------------------------------------------

    def report(self, player: int, round: str) -> Report:
        """The report of a closed round of words; of a round that is over but open, after closing it.

        Raises:
            RoundClosed: the round is still running (HTTP 409), or is one of Nym or Not.
        """
        now = self._clock()
        with self._books.read() as books:
            row = own_round(books, player, round)
            if row.closed_at is not None or not is_over(row, now):
                return self._report(books, row)
        with self._books.write() as books:
            row = own_round(books, player, round)
            if row.closed_at is None:
                self._close(books, row, books.player(player), "expired", ended(row, now))
        with self._books.read() as books:
            return self._report(books, own_round(books, player, round))

    def _report(self, books: Books, row: RoundRow) -> Report:
        if row.closed_at is None or row.mode == "judge" or row.close_reason in ("skipped", "abandoned"):
            raise RoundClosed("there is no report of this round: it is still running, or was put away")
        word, prompt = self._word(books, row)
        given = books.given(prompt.key, row.player, before=row.settled_at or row.closed_at)
        answers, pairs = books.answers(row.key), books.pairs(prompt.key)
        return reports.make_report(row, word, answers, given, pairs, self._words, row.flags.get("taboo", ()))

    def accept_suggestion(self, player: int, round: str, seq: int) -> Report:
        """The player meant the word that was offered: the answer counts as that word. What was typed is kept.

        Raises:
            RoundClosed: the round is still running.
            BadAnswer: nothing was offered for this answer, or it was taken already.
        """
        now = self._clock()
        offered = {line.seq: line for line in self.report(player, round).lines}
        line = offered.get(seq)
        if line is None or line.meant is None:
            raise BadAnswer("nothing is offered for this answer")
        with self._books.write() as books:
            row = own_round(books, player, round)
            word, prompt = self._word(books, row)
            answers = books.answers(row.key)
            answer = next(a for a in answers if a.seq == seq)
            others = {a.key for a in answers if a.status == "accepted" and a.seq != seq}
            read = normalise(line.meant, word, self._words.lexicon, earlier=others)
            values = {"key": read.key, "display": read.display, "status": read.status, "oov": read.oov, "review": read.review}
            books.change_answer(answer.key_, values | dict.fromkeys(("agree", "seed", "rare", "points"), 0))
            self._rescore(books, row, word, prompt, now)
            recount(books, [prompt.key], now)
        return self.report(player, round)

    def _rescore(self, books: Books, row: RoundRow, word: BaseWord, prompt: PromptRow, now: float) -> None:
        """Score a closed round again after one of its answers became another word. It never loses by that."""
        answers = books.answers(row.key)
        accepted = [answer for answer in answers if answer.status == "accepted"]
        books.touch_pairs(prompt.key, [(a.key, a.display, a.oov, a.review) for a in accepted], now)
        given = books.given(prompt.key, row.player, before=row.settled_at or row.closed_at)
        scored = self._scored(books, row, word, prompt, answers, reports.merged(given)[0])
        self._keep(books, answers, scored)
        column = "score_provisional" if row.score_final is None else "score_final"
        better = max(scored.total, getattr(row, column) or 0)
        books.change_round(row.key, n_accepted=len(accepted), counts=row.counts and bool(accepted), **{column: better})

    def current(self, player: int) -> RoundRow | None:
        """The player's open round, unless its time is over."""
        with self._books.read() as books:
            row = books.open_round(player)
        return None if row is not None and row.started_at is not None and is_over(row, self._clock()) else row

    def round(self, player: int, round: str) -> tuple[RoundRow, BaseWord | None]:
        """A round of the player's, and its base word; None in Nym or Not."""
        with self._books.read() as books:
            row = own_round(books, player, round)
            return row, None if row.prompt is None else self._word(books, row)[0]

    # -- parts of the above ----------------------------------------------------------------------------------------

    def _word(self, books: Books, row: RoundRow) -> tuple[BaseWord, PromptRow]:
        assert row.prompt is not None
        prompt = books.prompt(row.prompt)
        return self._words.words[prompt.prompt], prompt


def add_vocabulary(books: Books, words: Vocabulary) -> int:
    """See to it that the store has a row for every base word; how many are new. Words only ever come, and keep their place."""
    return books.add_prompts(
        {
            "prompt": word.id,
            "relation": word.relation,
            "place": place,
            "version": words.version,
            "concrete": int(word.concreteness == "concrete"),
        }
        for relation in RELATIONS
        for place, word in enumerate(words.of(relation))
    )


def _kept(text: str) -> str:
    """The beginning of what was typed, without what no database holds."""
    return "".join(c for c in text[:MAX_RAW] if c != "\0" and not has_surrogate(c))
