"""Judgements of Nym or Not, and what pairs are worth by them, as rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, FromClause, Select, Table, and_, bindparam, case, func, or_, select, update

from idiolect.store.game.ledger import Ledger, record
from idiolect.store.game.records import PairRow
from idiolect.store.game.rounds import hand, trusted
from idiolect.store.game.tables import answers, judgements, pairs, players, prompts, rounds

ItemKind = Literal["game", "model", "seed", "distractor", "gold_pos", "gold_neg"]
GOLD: tuple[ItemKind, ...] = ("gold_pos", "gold_neg")

Pair = tuple[int, str]
"""The row of a base word, and the key of an answer."""

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

    @property
    def pair(self) -> Pair:
        return self.prompt, self.key


@dataclass(frozen=True, slots=True)
class VoteRow:
    """A verdict that counts: of a real, trusted player, in a closed round, and not on gold."""

    player: int
    prompt: int
    key: str
    verdict: Literal["yes", "no", "unsure"]
    trust: float


@dataclass(frozen=True, slots=True)
class GiverRow:
    """A real, trusted player who gave an answer in a round that counts. `hand` is one for all of a network."""

    player: int
    prompt: int
    key: str
    trust: float
    hand: str


def shareable() -> ColumnElement[bool]:
    """Pairs that no moderator and no vote keeps from being shown."""
    c = pairs.c
    seen = and_(c.review == 0, c.state.in_(("candidate", "validated")))
    return or_(seen, and_(c.decided == "shown", c.state != "blocked"))


def kept_back() -> ColumnElement[bool]:
    """Pairs that a moderator blocked, or that wait for one."""
    c = pairs.c
    return or_(c.state == "blocked", and_(c.review == 1, c.decided.is_distinct_from("shown")))


def voted() -> FromClause:
    """Judgements with their rounds and players, for what follows to choose from."""
    return judgements.join(rounds, rounds.c.id == judgements.c.round).join(players, players.c.id == judgements.c.player)


def is_over() -> ColumnElement[bool]:
    """Rounds that were played to their end."""
    return rounds.c.close_reason.in_(("finished", "expired"))


def is_cast() -> tuple[ColumnElement[bool], ...]:
    """Verdicts that stand: their round was played to its end. Until then they may be changed, or skipped with their round."""
    return is_over(), judgements.c.verdict.is_not(None)


def is_vote() -> tuple[ColumnElement[bool], ...]:
    """Verdicts that count for a pair: those that stand, of real players, and not on gold."""
    return *is_cast(), judgements.c.kind.not_in(GOLD), players.c.kind != "simulated"


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

    def judge(self, verdicts: Iterable[tuple[int, str | None, int | None]], at: float) -> None:
        """Keep (judgement, verdict, milliseconds); None takes a verdict back."""
        names = ("verdict", "judged_at", "ms")
        self._change_many(judgements, names, [(key, said, at if said else None, ms) for key, said, ms in verdicts])

    def score_judgements(self, scored: Iterable[tuple[int, int, bool]]) -> None:
        """Keep (judgement, points, whether they are provisional)."""
        self._change_many(judgements, ("points", "provisional"), [(key, points, int(waits)) for key, points, waits in scored])

    def keep_tallies(self, tallies: Iterable[tuple[int, float, float, int, float, str]]) -> None:
        """Keep (pair, weight of yes, weight of no, judges, p_valid, state)."""
        self._change_many(pairs, ("yes_w", "no_w", "n_judges", "p_valid", "state"), list(tallies))

    def _change_many(self, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Change these columns of many rows, each given as its key and the values, in one go."""
        if rows:
            change = update(table).where(table.c.id == bindparam("key_"))
            change = change.values({name: bindparam(f"{name}_") for name in names})
            columns = ("key_", *(f"{name}_" for name in names))
            self.connection.execute(change, [dict(zip(columns, row, strict=True)) for row in rows])

    def drop_unjudged(self, round: int) -> None:
        """Take back what the player did not get to, so that it may be asked another time."""
        c = judgements.c
        self.connection.execute(judgements.delete().where(c.round == round, c.verdict.is_(None)))

    def drop_unplayed(self, player: int) -> None:
        """Take back what was asked in rounds that were put away or skipped."""
        c = judgements.c
        away = select(rounds.c.id).where(rounds.c.player == player, rounds.c.close_reason.in_(("abandoned", "skipped")))
        self.connection.execute(judgements.delete().where(c.player == player, c.round.in_(away)))

    def n_judged(self, player: int) -> int:
        c = judgements.c
        query = select(func.count()).where(c.player == player, c.verdict.is_not(None))
        return self.connection.execute(query).scalar_one()

    def asked(self, player: int) -> set[Pair]:
        """Pairs that the player was asked about, whatever became of it."""
        c = judgements.c
        return {(prompt, key) for prompt, key in self.connection.execute(select(c.prompt, c.key).where(c.player == player))}

    def has_judged(self, player: int, prompt: int, key: str) -> bool:
        """Whether the player judged this pair in a round that is over."""
        c = judgements.c
        query = select(c.id).select_from(voted()).where(c.player == player, c.prompt == prompt, c.key == key, *is_cast())
        return self.connection.execute(query).first() is not None

    def own_pairs(self, player: int, relation: str) -> set[Pair]:
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

    def pair_rows(self, wanted: Collection[Pair]) -> dict[Pair, PairRow]:
        """Those of these pairs that have a row."""
        rows = self._pairs(select(pairs).where(_among(wanted, pairs.c.prompt, pairs.c.key)))
        return {(row.prompt, row.key): row for row in rows if (row.prompt, row.key) in wanted}

    def closed_pairs(self, wanted: Collection[Pair]) -> set[Pair]:
        """Those of these pairs that a moderator or votes keep from being shown."""
        c = pairs.c
        query = select(c.prompt, c.key).where(_among(wanted, c.prompt, c.key), ~shareable())
        return set(self.connection.execute(query).tuples())

    def _pairs(self, query: Select[Any]) -> list[PairRow]:
        return [record(PairRow, row, key_="id") for row in self.connection.execute(query)]

    # -- votes -----------------------------------------------------------------------------------------------------

    def votes(self, wanted: Collection[Pair]) -> list[VoteRow]:
        """Verdicts that count on these pairs."""
        c = judgements.c
        query = select(c.player, c.prompt, c.key, c.verdict, _trust()).select_from(voted())
        found = self.connection.execute(query.where(*is_vote(), trusted(), _among(wanted, c.prompt, c.key)).order_by(c.id))
        return [VoteRow(*row) for row in found if (row.prompt, row.key) in wanted]

    def givers(self, wanted: Collection[Pair]) -> list[GiverRow]:
        """Players whose giving an answer speaks for it; pasted answers speak for nothing."""
        c = rounds.c
        joined = rounds.join(players, players.c.id == c.player).join(answers, answers.c.round == c.id)
        counts = (
            c.counts == 1,
            players.c.kind != "simulated",
            trusted(),
            answers.c.status == "accepted",
            answers.c.pasted == 0,
        )
        query = select(c.player, c.prompt, answers.c.key, _trust(), hand()).select_from(joined)
        found = self.connection.execute(query.where(*counts, _among(wanted, c.prompt, answers.c.key)).order_by(answers.c.id))
        return [GiverRow(*row) for row in found if (row.prompt, row.key) in wanted]

    def pairs_of(self, player: int) -> set[Pair]:
        """Pairs that a player speaks for or against: those given in rounds that count, and those judged."""
        c, j = rounds.c, judgements.c
        joined = rounds.join(answers, answers.c.round == c.id)
        given = select(c.prompt, answers.c.key).select_from(joined)
        given = given.where(c.player == player, c.counts == 1, answers.c.status == "accepted")
        judged = select(j.prompt, j.key).where(j.player == player, j.verdict.is_not(None), j.kind.not_in(GOLD))
        return set(self.connection.execute(given.union(judged)).tuples())

    def all_votes(self) -> list[tuple[int, int, str, str]]:
        """(player, prompt, key, yes or no) of every vote of real players, trusted or not."""
        c = judgements.c
        query = select(c.player, c.prompt, c.key, c.verdict).select_from(voted()).where(*is_vote(), c.verdict != "unsure")
        return [
            (player, prompt, key, verdict) for player, prompt, key, verdict in self.connection.execute(query.order_by(c.id))
        ]

    # -- settling --------------------------------------------------------------------------------------------------

    def provisional(self, wanted: Collection[Pair]) -> list[JudgementRow]:
        """Judgements of closed rounds on these pairs whose points wait for more votes."""
        c = judgements.c
        joined = judgements.join(rounds, rounds.c.id == c.round)
        waits = (c.provisional == 1, rounds.c.closed_at.is_not(None), _among(wanted, c.prompt, c.key))
        found = self.connection.execute(select(judgements).select_from(joined).where(*waits).order_by(c.id))
        return [record(JudgementRow, row, key_="id") for row in found if (row.prompt, row.key) in wanted]

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


def _among(wanted: Collection[Pair], prompt: ColumnElement[int], key: ColumnElement[str]) -> ColumnElement[bool]:
    """Pairs of these base words and these answers: all that are wanted, and some more, for an index to find."""
    return and_(prompt.in_(sorted({p for p, _ in wanted})), key.in_(sorted({k for _, k in wanted})))
