"""What is read out of the game: a player's rounds and judgements in order, and what others gave and judged as of a time.

Everything comes a page at a time, so that nothing here grows with the number of players or answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, or_, select

from idiolect.store.game.judging import is_cast, kept_back, voted
from idiolect.store.game.ledger import record
from idiolect.store.game.owning import OWN_KINDS as OWN_KINDS
from idiolect.store.game.owning import OwningBook
from idiolect.store.game.portraits import PortraitBook
from idiolect.store.game.publishing import PublishingBook
from idiolect.store.game.records import AnswerRow, RoundRow
from idiolect.store.game.rounds import trusted
from idiolect.store.game.tables import answers, judgements, pairs, players, prompts, rounds

_PAGE = 200


@dataclass(frozen=True, slots=True)
class PlayedRow:
    """A closed round of a player, the name of its base word, and its answers in the order in which they came."""

    round: RoundRow
    prompt: str
    answers: tuple[AnswerRow, ...]


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """A judgement of a player that was made, with the round and the name of the base word."""

    key_: int
    round: str
    prompt: int
    name: str
    relation: str
    timing: str
    flags: Mapping[str, Any]
    key: str
    seq: int
    kind: str
    verdict: str
    judged_at: float
    ms: int | None


@dataclass(frozen=True, slots=True)
class Votes:
    """How many trusted players judged a pair, apart from simulated ones."""

    yes: int = 0
    no: int = 0
    simulated_yes: int = 0
    simulated_no: int = 0


class ReadingBook(OwningBook, PublishingBook, PortraitBook):
    """What is read, by whom it may be read."""

    # -- a player's own --------------------------------------------------------------------------------------------

    def played_rounds(self, player: int) -> Iterator[PlayedRow]:
        """A player's closed rounds on base words, oldest first; skipped ones and Nym or Not are left out."""
        c = rounds.c
        mine = (c.player == player, c.closed_at.is_not(None), c.prompt.is_not(None), c.close_reason != "skipped")
        query = select(rounds, prompts.c.prompt.label("name")).join(prompts, prompts.c.id == c.prompt).where(*mine)
        for page in self._pages(query.order_by(c.closed_at, c.id)):
            given = self._answers([row.id for row in page])
            for row in page:
                read = record(RoundRow, {**row._mapping, "flags": json.loads(row.flags)}, key="id")
                yield PlayedRow(read, row.name, tuple(given.get(row.id, ())))

    def judged(self, player: int) -> Iterator[JudgedRow]:
        """A player's judgements of rounds that are over, oldest first, gold ones too.

        Pairs are left out that a moderator blocked since, or that wait for one: words of others that nobody is shown.
        """
        c = judgements.c
        pair = and_(pairs.c.prompt == c.prompt, pairs.c.key == c.key)
        query = (
            select(
                c.id.label("key_"), rounds.c.round, c.prompt, prompts.c.prompt.label("name"), prompts.c.relation,
                rounds.c.timing, rounds.c.flags, c.key, c.seq, c.kind, c.verdict, c.judged_at, c.ms,
            )
            .select_from(voted().join(prompts, prompts.c.id == c.prompt).outerjoin(pairs, pair))
            .where(c.player == player, c.judged_at.is_not(None), *is_cast(), or_(pairs.c.id.is_(None), ~kept_back()))
            .order_by(c.judged_at, c.id)
        )  # fmt: skip
        for page in self._pages(query):
            for row in page:
                yield record(JudgedRow, {**row._mapping, "flags": json.loads(row.flags)})

    def _answers(self, ids: list[int]) -> dict[int, list[AnswerRow]]:
        found: dict[int, list[AnswerRow]] = {}
        query = select(answers).where(answers.c.round.in_(ids)).order_by(answers.c.round, answers.c.seq)
        for row in self.connection.execute(query):
            found.setdefault(row.round, []).append(record(AnswerRow, row, key_="id"))
        return found

    def _pages(self, query: Any) -> Iterator[list[Any]]:
        page, n = self.connection.execute(query.limit(_PAGE)).all(), 0
        while page:
            yield list(page)
            n += len(page)
            page = self.connection.execute(query.limit(_PAGE).offset(n)).all()

    # -- what others say -------------------------------------------------------------------------------------------

    def votes_before(self, prompt: int, key: str, without: int | None, before: float | None = None) -> Votes:
        """How trusted players judged a pair, gold or not, in rounds that are over.

        Args:
            without: a player who is left out.
            before: only rounds that were closed before this time.
        """
        return self._votes([judgements.c.prompt == prompt, judgements.c.key == key], without, before)

    def votes_in(self, relation: str, without: int | None, before: float | None = None) -> Votes:
        """How trusted players judged the pairs of a relation that are not gold, all together."""
        of = select(prompts.c.id).where(prompts.c.relation == relation)
        return self._votes([judgements.c.prompt.in_(of), judgements.c.kind.not_like("gold%")], without, before)

    def _votes(self, where: list[ColumnElement[bool]], without: int | None, before: float | None) -> Votes:
        c = judgements.c
        where = [*where, *is_cast(), c.verdict.in_(("yes", "no")), trusted()]
        where += [c.player != without] if without is not None else []
        where += [rounds.c.closed_at < before] if before is not None else []
        simulated = case((players.c.kind == "simulated", 1), else_=0)
        query = select(c.verdict, simulated, func.count()).select_from(voted()).where(*where)
        found = {(v, s): n for v, s, n in self.connection.execute(query.group_by(c.verdict, simulated))}
        return Votes(*(found.get(kind, 0) for kind in (("yes", 0), ("no", 0), ("yes", 1), ("no", 1))))

    def given_by_others(self, prompt: int, without: int, keys: Iterable[str]) -> set[str]:
        """Those of these keys that anybody else ever gave, whoever they are."""
        c = rounds.c
        where = (c.prompt == prompt, c.player != without, answers.c.status == "accepted", answers.c.key.in_(list(keys)))
        return set(self.connection.execute(select(answers.c.key).join(rounds, c.id == answers.c.round).where(*where)).scalars())

    def first_sets(self, prompt: int, mode: str, simulated: bool) -> dict[int, frozenset[str]]:
        """The first answers of every trusted player on a base word in one mode, as keys, by player.

        Args:
            simulated: of simulated players; else of real ones.
        """
        c = rounds.c
        is_one = players.c.kind == "simulated" if simulated else players.c.kind != "simulated"
        where = (c.prompt == prompt, c.mode == mode, c.repeat == 0, is_one, trusted())
        first = (
            select(func.min(c.id).label("id"))
            .join(players, players.c.id == c.player)
            .where(*where, c.closed_at.is_not(None), c.n_accepted > 0)
            .group_by(c.player)
            .subquery()
        )
        query = (
            select(c.player, answers.c.key)
            .join(first, first.c.id == c.id)
            .join(answers, answers.c.round == c.id)
            .where(answers.c.status == "accepted", answers.c.pasted == 0)
        )
        sets: dict[int, set[str]] = {}
        for player, key in self.connection.execute(query):
            sets.setdefault(player, set()).add(key)
        return {player: frozenset(keys) for player, keys in sets.items()}

    def repeats(self, simulated: bool, player: int | None = None) -> list[int]:
        """Rounds that ask a base word again and hold an answer, by row; of one player, or of all real or simulated ones."""
        c = rounds.c
        whose = c.player == player if player is not None else (players.c.kind == "simulated") == simulated
        asked = (c.repeat == 1, c.closed_at.is_not(None), c.n_accepted > 0, c.prompt.is_not(None), whose, trusted())
        query = select(c.id).join(players, players.c.id == c.player).where(*asked)
        return list(self.connection.execute(query.order_by(c.closed_at, c.id)).scalars())

    def earlier(self, round: int) -> tuple[PlayedRow, PlayedRow] | None:
        """(the player's first round on the base word that holds an answer, this round); None if this one is the first."""
        c = rounds.c
        this = self.connection.execute(select(c.player, c.prompt, c.closed_at).where(c.id == round)).one()
        where = (c.player == this.player, c.prompt == this.prompt, c.closed_at < this.closed_at, c.n_accepted > 0)
        first = self.connection.execute(select(c.id).where(*where).order_by(c.closed_at, c.id).limit(1)).scalar_one_or_none()
        return None if first is None else (self._played(first), self._played(round))

    def _played(self, key: int) -> PlayedRow:
        query = select(rounds, prompts.c.prompt.label("name")).join(prompts, prompts.c.id == rounds.c.prompt)
        row = self.connection.execute(query.where(rounds.c.id == key)).one()
        read = record(RoundRow, {**row._mapping, "flags": json.loads(row.flags)}, key="id")
        return PlayedRow(read, row.name, tuple(self._answers([key]).get(key, ())))
