"""Judgements of Nym or Not, and what pairs are worth by them, as rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select, update

from idiolect.store.game.ledger import Ledger, record
from idiolect.store.game.records import PairRow
from idiolect.store.game.rounds import trusted
from idiolect.store.game.tables import answers, judgements, pairs, players, prompts, rounds

ItemKind = Literal["game", "model", "seed", "distractor", "gold_pos", "gold_neg"]
GOLD: tuple[ItemKind, ...] = ("gold_pos", "gold_neg")

ENOUGH_JUDGES = 5
"""With so many votes a pair makes room for others."""


@dataclass(frozen=True, slots=True)
class JudgementRow:
    """One pair that a player was asked about; `verdict` is None until it is judged."""

    key_: int
    round: int
    player: int
    prompt: int
    key: str
    display: str
    seq: int
    kind: ItemKind
    verdict: Literal["yes", "no", "unsure"] | None
    judged_at: float | None
    ms: int | None
    points: int
    provisional: bool


@dataclass(frozen=True, slots=True)
class VoteRow:
    """A verdict that counts: of a real, trusted player, in a closed round, and not on gold."""

    player: int
    key: str
    verdict: Literal["yes", "no", "unsure"]
    trust: float


@dataclass(frozen=True, slots=True)
class GiverRow:
    """A real, trusted player who gave an answer in a round that counts."""

    player: int
    key: str
    trust: float


def shareable() -> ColumnElement[bool]:
    """Pairs that no moderator and no vote keeps from being shown."""
    c = pairs.c
    seen = and_(c.review == 0, c.state.in_(("candidate", "validated")))
    return or_(seen, and_(c.decided == "shown", c.state != "blocked"))


def _trust() -> ColumnElement[float]:
    return (players.c.trust_a / (players.c.trust_a + players.c.trust_b)).label("trust")


class JudgeBook(Ledger):
    """What was judged, and by whom."""

    # -- a round's items -------------------------------------------------------------------------------------------

    def add_judgements(self, round: int, player: int, items: Iterable[Mapping[str, Any]]) -> None:
        """Hand out pairs; each item has prompt, key, display, seq and kind."""
        rows = [{"round": round, "player": player, **item} for item in items]
        if rows:
            self.connection.execute(judgements.insert(), rows)

    def judgements(self, round: int) -> list[JudgementRow]:
        """In the order in which they were shown."""
        query = select(judgements).where(judgements.c.round == round).order_by(judgements.c.seq)
        return [record(JudgementRow, row, key_="id") for row in self.connection.execute(query)]

    def change_judgement(self, key: int, **values: Any) -> None:
        self._change(judgements, key, values)

    def drop_unjudged(self, round: int) -> None:
        """Take back what the player did not get to, so that it may be asked another time."""
        c = judgements.c
        self.connection.execute(judgements.delete().where(c.round == round, c.verdict.is_(None)))

    def n_judged(self, player: int) -> int:
        c = judgements.c
        query = select(func.count()).where(c.player == player, c.verdict.is_not(None))
        return self.connection.execute(query).scalar_one()

    def asked(self, player: int) -> set[tuple[int, str]]:
        """Pairs that the player was asked about, whatever became of it."""
        c = judgements.c
        return {(prompt, key) for prompt, key in self.connection.execute(select(c.prompt, c.key).where(c.player == player))}

    def own_pairs(self, player: int, relation: str) -> set[tuple[int, str]]:
        """Pairs that the player made by an accepted answer."""
        c = rounds.c
        joined = rounds.join(answers, answers.c.round == c.id)
        where = (c.player == player, c.relation == relation, c.prompt.is_not(None), answers.c.status == "accepted")
        return set(self.connection.execute(select(c.prompt, answers.c.key).select_from(joined).where(*where)).tuples())

    # -- what may be asked -----------------------------------------------------------------------------------------

    def to_judge(self, relation: str, limit: int, salt: int, shown_from: int) -> list[PairRow]:
        """Pairs of active base words that wait for votes.

        Those come first that have some votes and lack few, so that votes meet; and of these, answers of many players. Whether
        an answer of fewer than `shown_from` players may be seen is for the caller to say; among them the order is by chance.

        Args:
            salt: decides that chance.
        """
        c = pairs.c
        known = or_(c.n_players >= shown_from, c.decided == "shown")
        chance = (c.id * 7919 + salt % 10007) % 10007
        order = (
            case((c.n_judges >= ENOUGH_JUDGES, 1), else_=0),
            case((known, 0), else_=1),
            case((known, -c.n_judges), else_=0),
            chance,
            c.id,
        )
        joined = pairs.join(prompts, prompts.c.id == c.prompt)
        where = (prompts.c.relation == relation, prompts.c.status == "active", shareable())
        return self._pairs(select(pairs).select_from(joined).where(*where).order_by(*order).limit(limit))

    def common(self, relation: str, least_players: int, percent: int, limit: int, salt: int) -> list[PairRow]:
        """Answers that at least so many percent gave, on base words that at least so many players have answered."""
        c = pairs.c
        joined = pairs.join(prompts, prompts.c.id == c.prompt)
        often = (prompts.c.n_players >= least_players, 100 * c.n_players >= percent * prompts.c.n_players)
        where = (prompts.c.relation == relation, prompts.c.status == "active", shareable(), *often)
        query = select(pairs).select_from(joined).where(*where)
        return self._pairs(query.order_by((c.id * 7919 + salt % 10007) % 10007, c.id).limit(limit))

    def known_pairs(self, prompts_: Collection[int], keys: Collection[str]) -> dict[tuple[int, str], bool]:
        """Pairs of these base words and answers that there are, and whether each may be shown by its state."""
        c = pairs.c
        query = select(c.prompt, c.key, case((shareable(), 1), else_=0))
        query = query.where(c.prompt.in_(list(prompts_)), c.key.in_(list(keys)))
        return {(prompt, key): bool(open_) for prompt, key, open_ in self.connection.execute(query)}

    def _pairs(self, query: Select[Any]) -> list[PairRow]:
        return [record(PairRow, row, key_="id") for row in self.connection.execute(query)]

    # -- votes -----------------------------------------------------------------------------------------------------

    def votes(self, prompt: int, keys: Collection[str]) -> list[VoteRow]:
        """Verdicts that count on pairs of a base word."""
        c = judgements.c
        query = select(c.player, c.key, c.verdict, _trust()).select_from(_voted()).where(*_is_vote(), trusted())
        found = self.connection.execute(query.where(c.prompt == prompt, c.key.in_(list(keys))).order_by(c.id))
        return [VoteRow(*row) for row in found]

    def givers(self, prompt: int, keys: Collection[str]) -> list[GiverRow]:
        """Players whose giving an answer speaks for it; pasted answers speak for nothing."""
        c = rounds.c
        joined = rounds.join(players, players.c.id == c.player).join(answers, answers.c.round == c.id)
        where = (c.prompt == prompt, c.counts == 1, players.c.kind != "simulated", trusted())
        given = (answers.c.status == "accepted", answers.c.pasted == 0, answers.c.key.in_(list(keys)))
        query = select(c.player, answers.c.key, _trust()).select_from(joined).where(*where, *given).order_by(answers.c.id)
        return [GiverRow(*row) for row in self.connection.execute(query)]

    def pairs_of(self, player: int) -> dict[int, set[str]]:
        """Pairs that a player speaks for or against, by base word: those given in rounds that count, and those judged."""
        found: dict[int, set[str]] = {}
        c, j = rounds.c, judgements.c
        joined = rounds.join(answers, answers.c.round == c.id)
        given = select(c.prompt, answers.c.key).select_from(joined)
        given = given.where(c.player == player, c.counts == 1, answers.c.status == "accepted")
        judged = select(j.prompt, j.key).where(j.player == player, j.verdict.is_not(None), j.kind.not_in(GOLD))
        for prompt, key in self.connection.execute(given.union(judged)):
            found.setdefault(prompt, set()).add(key)
        return found

    def all_votes(self) -> list[tuple[int, int, str, str]]:
        """(player, prompt, key, yes or no) of every vote of real players, trusted or not."""
        c = judgements.c
        query = select(c.player, c.prompt, c.key, c.verdict).select_from(_voted()).where(*_is_vote(), c.verdict != "unsure")
        return [
            (player, prompt, key, verdict) for player, prompt, key, verdict in self.connection.execute(query.order_by(c.id))
        ]

    # -- settling --------------------------------------------------------------------------------------------------

    def provisional(self, prompt: int, keys: Collection[str]) -> list[JudgementRow]:
        """Judgements of closed rounds whose points wait for more votes."""
        c = judgements.c
        joined = judgements.join(rounds, rounds.c.id == c.round)
        where = (c.prompt == prompt, c.key.in_(list(keys)), c.provisional == 1, rounds.c.closed_at.is_not(None))
        query = select(judgements).select_from(joined).where(*where).order_by(c.id)
        return [record(JudgementRow, row, key_="id") for row in self.connection.execute(query)]

    def settle_judged(self, keys: Collection[int], at: float) -> None:
        """Make the scores of these closed rounds final where none of their judgements waits any more."""
        c = rounds.c
        waiting = select(judgements.c.round).where(judgements.c.round.in_(list(keys)), judgements.c.provisional == 1)
        where = (c.id.in_(list(keys)), c.closed_at.is_not(None), c.score_final.is_(None), c.id.not_in(waiting))
        self.connection.execute(update(rounds).where(*where).values(score_final=c.score_provisional, settled_at=at))

    # -- patterns --------------------------------------------------------------------------------------------------

    def lists_on(self, prompt: int, without: int, limit: int) -> list[tuple[str, ...]]:
        """What other players answered in their newest closed rounds on a base word, each list in its order."""
        c = rounds.c
        newest = select(c.id).where(c.prompt == prompt, c.player != without, c.closed_at.is_not(None), c.n_accepted > 0)
        newest = newest.order_by(c.closed_at.desc(), c.id.desc()).limit(limit)
        query = select(answers.c.round, answers.c.key).where(
            answers.c.round.in_(newest.scalar_subquery()), answers.c.status == "accepted"
        )
        found: dict[int, list[str]] = {}
        for round, key in self.connection.execute(query.order_by(answers.c.round, answers.c.seq)):
            found.setdefault(round, []).append(key)
        return [tuple(keys) for keys in found.values()]


def _voted() -> Any:
    return judgements.join(rounds, rounds.c.id == judgements.c.round).join(players, players.c.id == judgements.c.player)


def _is_vote() -> tuple[ColumnElement[bool], ...]:
    c = judgements.c
    return (
        rounds.c.closed_at.is_not(None),
        c.verdict.is_not(None),
        c.kind.not_in(GOLD),
        players.c.kind != "simulated",
    )
