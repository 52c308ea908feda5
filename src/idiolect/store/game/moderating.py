"""Challenges, complaints, what waits for a moderator, and what moderators did, as rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import func, or_, select, update

from idiolect.store.game.ledger import Ledger, record
from idiolect.store.game.records import PairRow, PlayerRow
from idiolect.store.game.tables import answers, audit, challenges, complaints, pairs, passes, players, prompts, rounds

MARKED = '%"patterns":%'
"""In the flags of a round that looked odd."""


@dataclass(frozen=True, slots=True)
class ChallengeRow:
    """A player argues that an answer without points is right."""

    key: int
    pair: int
    player: int
    sentence: str
    at: float
    status: Literal["open", "accepted", "denied"]
    decided_at: float | None


@dataclass(frozen=True, slots=True)
class ComplaintRow:
    """A player finds that an answer of others should not be shown."""

    key: int
    pair: int
    player: int
    at: float
    status: Literal["open", "upheld", "dismissed"]


@dataclass(frozen=True, slots=True)
class DislikedRow:
    """A base word with the players who skipped it, and the players who played it."""

    prompt: int
    concrete: bool
    n_passers: int
    n_players: int

    @property
    def share(self) -> float:
        """Of those who met it, how many played."""
        return self.n_players / (self.n_passers + self.n_players)


@dataclass(frozen=True, slots=True)
class ActRow:
    """What a moderator, or a rule, did. The subject is a row's name, e.g. "pair 12", never anyone's words."""

    at: float
    actor: str
    action: str
    subject: str
    detail: str


class ModerationBook(Ledger):
    """What people object to, and how it was decided."""

    # -- challenges ------------------------------------------------------------------------------------------------

    def add_challenge(self, pair: int, player: int, sentence: str, at: float) -> int:
        return self._add(challenges, pair=pair, player=player, sentence=sentence, at=at)

    def challenge(self, key: int) -> ChallengeRow | None:
        row = self.connection.execute(select(challenges).where(challenges.c.id == key)).one_or_none()
        return None if row is None else record(ChallengeRow, row, key="id")

    def challenges(self, status: str | None = "open", player: int | None = None) -> list[ChallengeRow]:
        """Oldest first."""
        c = challenges.c
        query = select(challenges).order_by(c.id)
        query = query if status is None else query.where(c.status == status)
        query = query if player is None else query.where(c.player == player)
        return [record(ChallengeRow, row, key="id") for row in self.connection.execute(query)]

    def change_challenge(self, key: int, **values: Any) -> None:
        self._change(challenges, key, values)

    def worthless_answer(self, player: int, prompt: int, key: str) -> bool:
        """Whether the player gave this answer, and got no point for it in any closed round."""
        c = rounds.c
        joined = rounds.join(answers, answers.c.round == c.id)
        where = (c.player == player, c.prompt == prompt, c.closed_at.is_not(None), answers.c.key == key)
        query = select(func.max(answers.c.points)).select_from(joined).where(*where, answers.c.status == "accepted")
        return self.connection.execute(query).scalar_one() == 0

    def first_rounds_with(self, prompt: int, key: str) -> dict[int, int]:
        """Player → the first closed round of theirs in which they gave this answer."""
        c = rounds.c
        joined = rounds.join(answers, answers.c.round == c.id)
        where = (c.prompt == prompt, c.closed_at.is_not(None), answers.c.key == key, answers.c.status == "accepted")
        query = select(c.player, func.min(c.id)).select_from(joined).where(*where).group_by(c.player).order_by(c.player)
        return {player: round for player, round in self.connection.execute(query)}

    def add_bonus(self, round: int, points: int) -> None:
        """Add to a round's bonus, in the database, so that two at a time both count."""
        c = rounds.c
        self.connection.execute(update(rounds).where(c.id == round).values(bonus=c.bonus + points))

    # -- complaints ------------------------------------------------------------------------------------------------

    def add_complaint(self, pair: int, player: int, at: float) -> int:
        return self._add(complaints, pair=pair, player=player, at=at)

    def complaint(self, key: int) -> ComplaintRow | None:
        row = self.connection.execute(select(complaints).where(complaints.c.id == key)).one_or_none()
        return None if row is None else record(ComplaintRow, row, key="id")

    def complaints(self, pair: int | None = None) -> list[ComplaintRow]:
        """Open ones, oldest first."""
        c = complaints.c
        query = select(complaints).where(c.status == "open").order_by(c.id)
        rows = self.connection.execute(query if pair is None else query.where(c.pair == pair))
        return [record(ComplaintRow, row, key="id") for row in rows]

    def has_complained(self, pair: int, player: int) -> bool:
        c = complaints.c
        return self.connection.execute(select(c.id).where(c.pair == pair, c.player == player)).first() is not None

    def close_complaints(self, pair: int, status: str) -> None:
        c = complaints.c
        self.connection.execute(update(complaints).where(c.pair == pair, c.status == "open").values(status=status))

    # -- what waits ------------------------------------------------------------------------------------------------

    def waiting(self, limit: int) -> list[PairRow]:
        """Pairs that nobody is shown until a moderator has seen them: what most players gave first."""
        c = pairs.c
        query = select(pairs).where(c.review == 1, c.decided.is_(None)).order_by(c.n_players.desc(), c.id).limit(limit)
        return [record(PairRow, row, key_="id") for row in self.connection.execute(query)]

    def disliked(self, least: int) -> list[DislikedRow]:
        """Active base words that at least so many real players met, by distinct passers and distinct players."""
        real = players.c.kind != "simulated"
        c = rounds.c
        passed = (
            select(passes.c.prompt, func.count(passes.c.player.distinct()).label("n"))
            .join(players, players.c.id == passes.c.player)
            .where(real)
            .group_by(passes.c.prompt)
            .subquery()
        )
        played = (
            select(c.prompt, func.count(c.player.distinct()).label("n"))
            .join(players, players.c.id == c.player)
            .where(real, c.prompt.is_not(None), c.close_reason.in_(("finished", "expired")))
            .group_by(c.prompt)
            .subquery()
        )
        n_passers, n_players = passed.c.n, func.coalesce(played.c.n, 0)
        joined = prompts.join(passed, passed.c.prompt == prompts.c.id).outerjoin(played, played.c.prompt == prompts.c.id)
        query = select(prompts.c.id, prompts.c.concrete, n_passers, n_players).select_from(joined)
        query = query.where(prompts.c.status == "active", n_passers + n_players >= least).order_by(prompts.c.id)
        return [DislikedRow(prompt, bool(concrete), n, m) for prompt, concrete, n, m in self.connection.execute(query)]

    def doubtful_players(self, since: float, limit: int) -> list[tuple[PlayerRow, int]]:
        """Real players who are not in good standing, or have a marked round since then, with how many rounds they have closed;
        the least trusted first.
        """
        c, p = rounds.c, players.c
        marked = select(c.player).where(c.closed_at >= since, c.flags.like(MARKED))
        n_rounds = select(func.count()).where(c.player == p.id, c.close_reason.in_(("finished", "expired"))).scalar_subquery()
        doubted = or_(p.state != "ok", p.trust_a < p.trust_b, p.id.in_(marked))
        query = select(players, n_rounds.label("n_rounds")).where(p.kind != "simulated", doubted)
        found = self.connection.execute(query.order_by(p.trust_a / (p.trust_a + p.trust_b), p.id).limit(limit))
        return [(record(PlayerRow, row, key="id"), row.n_rounds) for row in found]

    def marks(self, player: int, since: float) -> list[Mapping[str, Any]]:
        """Flags of the player's marked rounds since then."""
        c = rounds.c
        query = select(c.flags).where(c.player == player, c.closed_at >= since, c.flags.like(MARKED)).order_by(c.id)
        return [json.loads(flags) for flags in self.connection.execute(query).scalars()]

    # -- what was done ---------------------------------------------------------------------------------------------

    def add_act(self, actor: str, action: str, subject: str, at: float, detail: str = "") -> None:
        self._add(audit, at=at, actor=actor, action=action, subject=subject, detail=detail)

    def acts(self, limit: int, subject: str | None = None) -> list[ActRow]:
        """Newest first."""
        query = select(audit).order_by(audit.c.id.desc()).limit(limit)
        rows = self.connection.execute(query if subject is None else query.where(audit.c.subject == subject))
        return [record(ActRow, row) for row in rows]
