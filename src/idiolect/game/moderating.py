"""What players object to, and what moderators decide.

    challenge   a player argues that an answer of theirs without points is right; three wait at a time
                accepted: the pair is validated, and everybody who gave it gets 25 points, once
    complaint   an answer of others should not be shown; two by trusted players, and nobody sees it until a moderator has
    word        an answer that waits for a moderator before others see it
    base word   half of those who meet it skip it: it is proposed for retirement, and retired by a moderator only

Every act of a moderator is written down with the row it was done to, never with anyone's words.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from idiolect.game import trust, validity
from idiolect.game.clock import Clock
from idiolect.game.normalise import fold
from idiolect.game.objections import Complained, Disliked, Flagged, OpenChallenge, Waiting, counted_patterns
from idiolect.game.refusals import BadInput, NotAllowed, NotYours, TooMany
from idiolect.game.reliability import MIN_VOTES, Judge, unreliable
from idiolect.game.rules import DAY_S
from idiolect.game.score import CHALLENGE
from idiolect.game.showing import showable
from idiolect.game.vocabulary import BaseWord, Vocabulary
from idiolect.store.game.books import Books, GameBooks
from idiolect.store.game.moderating import ActRow, ComplaintRow, DislikedRow
from idiolect.store.game.publishing import HIDDEN_FROM
from idiolect.store.game.records import PairRow, PlayerRow
from idiolect.types import has_surrogate

MAX_SENTENCE = 140
MAX_OPEN = 3
"""Challenges of one player that wait at a time."""
MET, LEAST_SHARE, LEAST_SHARE_CONCRETE = 50, 0.25, 0.15
"""Players who met a base word before its share of plays says anything, and below which share it is proposed for retirement."""

_NO_ANSWER = "there is no such answer"

FLAG_DAYS = 30
"""How long a round that looks odd is shown to moderators."""

Standing = Literal["ok", "limited", "banned"]


class Moderation:
    """Takes objections, and decides them.

    What only moderators may do raises NotAllowed for others. What names a row that is not there raises NotYours.
    """

    def __init__(self, books: GameBooks, words: Vocabulary, clock: Clock) -> None:
        self._books, self._words, self._clock = books, words, clock

    # -- players ---------------------------------------------------------------------------------------------------

    def challenge(self, player: PlayerRow, pair: int, sentence: str) -> int:
        """Argue that an own answer without points is right; names the challenge.

        Raises:
            BadInput: the sentence is empty, too long or no text, or the answer was challenged by the player before.
            NotYours: the player did not give this answer, or got points for it.
            TooMany: three challenges of the player wait already.
        """
        said = " ".join(sentence.split())
        if not fold(said) or len(said) > MAX_SENTENCE or "\0" in said or has_surrogate(said):
            raise BadInput(f"say in one sentence of at most {MAX_SENTENCE} characters why the answer is right")
        with self._books.write() as books:
            row = _pair(books, pair)
            if not books.worthless_answer(player.key, row.prompt, row.key):
                raise NotYours("only answers of yours that got no points can be challenged")
            own = books.challenges(None, player.key)
            if any(challenge.pair == pair for challenge in own):
                raise BadInput("you have challenged this answer already")
            if sum(challenge.status == "open" for challenge in own) >= MAX_OPEN:
                raise TooMany(f"{MAX_OPEN} challenges of yours wait for a decision; wait for one of them", retry_after_s=DAY_S)
            return books.add_challenge(pair, player.key, said, self._clock())

    def complain(self, player: PlayerRow, pair: int) -> bool:
        """Say that an answer should not be shown; whether it is hidden now. Saying it again changes nothing.

        Raises:
            NotYours: the player cannot have seen this answer.
        """
        now = self._clock()
        with self._books.write() as books:
            row = _pair(books, pair)
            if not books.has_complained(pair, player.key):
                if not self._may_have_seen(books, player, row):
                    raise NotYours(_NO_ANSWER)
                books.add_complaint(pair, player.key, now)
                if books.n_complaining(pair) >= HIDDEN_FROM and row.state != "blocked":
                    books.change_pair(pair, review=True, decided=None)
                    books.add_act(trust.RULES_ACTOR, "hide", f"pair {pair}", now)
            row = _pair(books, pair)
            return row.state == "blocked" or (row.review and row.decided is None)

    def _may_have_seen(self, books: Books, player: PlayerRow, row: PairRow) -> bool:
        """Whether others are shown the pair, or this player was asked about it."""
        shown = showable(books, self._words, row.prompt, self._word(books, row.prompt), [row.key])
        return bool(shown) or books.has_judged(player.key, row.prompt, row.key)

    # -- what waits ------------------------------------------------------------------------------------------------

    def challenges(self, moderator: PlayerRow) -> list[OpenChallenge]:
        """Open challenges, oldest first."""
        _check(moderator)
        with self._books.read() as books:
            found = [(challenge, _pair(books, challenge.pair)) for challenge in books.challenges()]
            return [OpenChallenge(challenge, self._word(books, pair.prompt), pair) for challenge, pair in found]

    def complaints(self, moderator: PlayerRow) -> list[Complained]:
        """Pairs with open complaints, the oldest first."""
        _check(moderator)
        with self._books.read() as books:
            by_pair: dict[int, list[ComplaintRow]] = {}
            for complaint in books.complaints():
                by_pair.setdefault(complaint.pair, []).append(complaint)
            pairs = {key: _pair(books, key) for key in by_pair}
            return [Complained(tuple(rows), self._word(books, pairs[key].prompt), pairs[key]) for key, rows in by_pair.items()]

    def waiting(self, moderator: PlayerRow, limit: int = 100) -> list[Waiting]:
        """Answers that nobody is shown until a moderator has decided."""
        _check(moderator)
        with self._books.read() as books:
            return [Waiting(self._word(books, pair.prompt), pair) for pair in books.waiting(limit)]

    def to_retire(self, moderator: PlayerRow) -> list[Disliked]:
        """Base words that too many skip; the least played first."""
        _check(moderator)
        with self._books.read() as books:
            rows = [row for row in books.disliked(MET) if is_disliked(row)]
            return [
                Disliked(self._word(books, row.prompt), row) for row in sorted(rows, key=lambda row: (row.share, row.prompt))
            ]

    def flagged(self, moderator: PlayerRow, limit: int = 100) -> list[Flagged]:
        """Real players who are not in good standing, or had rounds that look odd within 30 days; the least trusted first."""
        _check(moderator)
        since = self._clock() - FLAG_DAYS * DAY_S
        with self._books.read() as books:
            return [
                Flagged(player, n_rounds, counted_patterns(books.marks(player.key, since)))
                for player, n_rounds in books.doubtful_players(since, limit)
            ]

    def acts(self, moderator: PlayerRow, limit: int = 100) -> list[ActRow]:
        """What was done, newest first."""
        _check(moderator)
        with self._books.read() as books:
            return books.acts(limit)

    def n_waiting(self, moderator: PlayerRow, limit: int = 100) -> dict[str, int]:
        """How many things each of the above has, `acts` left out."""
        _check(moderator)
        since = self._clock() - FLAG_DAYS * DAY_S
        with self._books.read() as books:
            return {
                "challenges": len(books.challenges()),
                "complaints": len({complaint.pair for complaint in books.complaints()}),
                "waiting": len(books.waiting(limit)),
                "to_retire": sum(is_disliked(row) for row in books.disliked(MET)),
                "flagged": len(books.doubtful_players(since, limit)),
            }

    # -- decisions -------------------------------------------------------------------------------------------------

    def decide_challenge(self, moderator: PlayerRow, challenge: int, *, accept: bool) -> None:
        """Accept or deny a challenge. One that is accepted decides all others on the same pair.

        Raises:
            BadInput: it was decided before.
            NotAllowed: it is the moderator's own.
        """
        with self._acting(moderator, "accept" if accept else "deny", f"challenge {challenge}") as (books, now):
            row = books.challenge(challenge)
            if row is None:
                raise NotYours("there is no such challenge")
            if row.status != "open":
                raise BadInput("this challenge has been decided already")
            if row.player == moderator.key:
                raise NotAllowed("nobody decides about a challenge of their own")
            if accept:
                self._accept(books, row.pair, now)
            decided = [other for other in books.challenges() if other.key == challenge or (accept and other.pair == row.pair)]
            for other in decided:
                books.change_challenge(other.key, status="accepted" if accept else "denied", decided_at=now)
                books.add_notice(other.player, "challenge", {"pair": row.pair, "accepted": accept}, now)

    def _accept(self, books: Books, pair: int, now: float) -> None:
        """The pair holds; 25 points to all who gave it, each once."""
        row = _pair(books, pair)
        if row.challenged:
            return
        books.change_pair(pair, challenged=True)
        for player, round in books.first_rounds_with(row.prompt, row.key).items():
            books.add_bonus(round, CHALLENGE)
            if books.player(player).is_real:
                books.add_notice(player, "bonus", {"pair": pair, "points": CHALLENGE}, now)
        validity.refresh(books, {(row.prompt, row.key)}, now)

    def decide_complaint(self, moderator: PlayerRow, complaint: int, *, uphold: bool) -> None:
        """Block the answer that is complained about, or let it be shown; all complaints about it are decided by that.

        Raises:
            BadInput: it was decided before.
        """
        with self._acting(moderator, "uphold" if uphold else "dismiss", f"complaint {complaint}") as (books, now):
            row = books.complaint(complaint)
            if row is None:
                raise NotYours("there is no such complaint")
            if row.status != "open":
                raise BadInput("this complaint has been decided already")
            if uphold:
                _block(books, row.pair, now, slur=False)
            else:
                _show(books, row.pair, now)
            books.close_complaints(row.pair, "upheld" if uphold else "dismissed")

    def block(self, moderator: PlayerRow, pair: int, *, slur: bool = False) -> None:
        """Let nobody see an answer again; a slur also costs those who wrote it some trust."""
        with self._acting(moderator, "block slur" if slur else "block", f"pair {pair}") as (books, now):
            _block(books, pair, now, slur=slur)
            books.close_complaints(pair, "upheld")

    def show(self, moderator: PlayerRow, pair: int) -> None:
        """Let others see an answer, however many gave it; takes back a block."""
        with self._acting(moderator, "show", f"pair {pair}") as (books, now):
            _show(books, pair, now)
            books.close_complaints(pair, "dismissed")

    def retire(self, moderator: PlayerRow, prompt: str, status: Literal["active", "paused", "retired"] = "retired") -> None:
        """Ask a base word no longer, or again.

        Args:
            prompt: its id, `relation:key`.
        """
        with self._books.read() as books:
            row = books.prompt_named(prompt) if prompt in self._words.words else None
        _check(moderator)
        if row is None:
            raise NotYours("there is no such base word")
        with self._acting(moderator, status, f"prompt {row.key}") as (books, _):
            books.change_prompt(row.key, status=status)

    def limit(self, moderator: PlayerRow, player: str, standing: Standing) -> None:
        """Let a player's answers and votes count for nobody, or again; a banned one is signed out.

        Args:
            player: the random name.
        """
        _check(moderator)
        with self._books.read() as books:
            row = books.player_named(player)
        if row is None:
            raise NotYours("there is no such player")
        if row.moderator:
            raise NotAllowed("moderators are not limited by each other")
        with self._acting(moderator, standing, f"player {row.key}") as (books, now):
            books.change_player(row.key, state=standing)
            if standing == "banned":
                books.end_sessions(row.key)
            validity.reconsider(books, [row.key], now)

    # -- reliabilities ---------------------------------------------------------------------------------------------

    def recompute_reliabilities(self, least_votes: int = MIN_VOTES) -> list[Judge]:
        """Judges whose votes look like chance, the least reliable first; none before there are enough votes.

        Nothing is decided by it: it is for moderators to look at. Trust is measured on gold.
        """
        with self._books.read() as books:
            votes = books.all_votes()
        return unreliable(votes) if len(votes) > least_votes else []

    # -- parts of the above ----------------------------------------------------------------------------------------

    @contextmanager
    def _acting(self, moderator: PlayerRow, action: str, subject: str) -> Iterator[tuple[Books, float]]:
        """A transaction of a moderator, written down if it succeeds."""
        _check(moderator)
        now = self._clock()
        with self._books.write() as books:
            yield books, now
            books.add_act(f"player {moderator.key}", action, subject, now)

    def _word(self, books: Books, prompt: int) -> BaseWord:
        return self._words.words[books.prompt(prompt).prompt]


def is_disliked(row: DislikedRow) -> bool:
    """Whether a base word is proposed for retirement: fewer than a quarter play it, or than 15 % where it is concrete."""
    return row.n_passers + row.n_players >= MET and row.share < (LEAST_SHARE_CONCRETE if row.concrete else LEAST_SHARE)


def _check(moderator: PlayerRow) -> None:
    if not moderator.moderator or moderator.state == "banned":
        raise NotAllowed("only moderators may do this")


def _pair(books: Books, key: int) -> PairRow:
    row = books.pair(key)
    if row is None:
        raise NotYours(_NO_ANSWER)
    return row


def _block(books: Books, pair: int, now: float, *, slur: bool) -> None:
    row = _pair(books, pair)
    if row.decided == "blocked":
        return
    books.change_pair(pair, decided="blocked", review=False)
    validity.refresh(books, {(row.prompt, row.key)}, now)
    if slur:
        gave = books.first_rounds_with(row.prompt, row.key)
        fallen = [player for player in gave if trust.earn(books, player, trust.SLUR, now)]
        validity.reconsider(books, fallen, now)


def _show(books: Books, pair: int, now: float) -> None:
    row = _pair(books, pair)
    books.change_pair(pair, decided="shown", review=False)
    validity.refresh(books, {(row.prompt, row.key)}, now)
