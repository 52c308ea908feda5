"""What may be published: what real players who agreed to it gave together. And what was published so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, func, select

from idiolect.store.game.judging import is_vote, voted
from idiolect.store.game.ledger import Ledger, record
from idiolect.store.game.rounds import hand, trusted
from idiolect.store.game.tables import answers, audit, complaints, judgements, pairs, players, releases, removals, rounds

HIDDEN_FROM = 2
"""Open complaints that hide a pair until a moderator has looked."""


@dataclass(frozen=True, slots=True)
class PublicPair:
    """What may be published of a base word and an answer, of consenting real players only.

    Attributes:
        n_players: who gave it, each once, by the round that counts.
        first_at: when the first of them did; None if none did.
        yes, no: who judged it; `yes_w` and `no_w` with their trust.
        open: neither blocked nor waiting for a moderator.
    """

    key: str
    n_players: int
    first_at: float | None
    oov: bool
    yes: int
    no: int
    yes_w: float
    no_w: float
    open: bool


@dataclass(frozen=True, slots=True)
class Published:
    """A base word: how many consenting real players answered it, and its pairs by key."""

    n_players: int
    pairs: Mapping[str, PublicPair]


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """What was published, and when."""

    release: str
    at: float
    rules: str
    k_min: int
    n_rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What must be the same when a release is put in its place as when it was read.

    Attributes:
        n_consenting: players who agreed, and `n_removed` those who left since.
        n_releases: that were made so far.
        last_act: the newest act of a moderator or a rule: a pair blocked or hidden, a player banned or limited.
        rounds, votes: (how many, sum of their rows' numbers) that may be published, so that one that is forgotten is missed.
    """

    n_consenting: int
    n_removed: int
    n_releases: int
    last_act: int
    rounds: tuple[int, int]
    votes: tuple[int, int]


class PublishingBook(Ledger):
    """What is published."""

    def standing(self, at: float) -> Standing:
        """What a release that is made of the state at this time rests on."""
        c, j = rounds.c, judgements.c
        played = select(func.count(), func.sum(c.id)).join(players, players.c.id == c.player)
        played = played.where(c.counts == 1, c.closed_at <= at, *_public(at))
        votes = select(func.count(), func.sum(j.id)).select_from(voted()).where(c.closed_at <= at, *is_vote(), *_public(at))
        acts = self.connection.execute(select(func.coalesce(func.max(audit.c.id), 0))).scalar_one()
        n_releases = self.connection.execute(select(func.count()).select_from(releases)).scalar_one()
        sums = [self.connection.execute(query).one() for query in (played, votes)]
        (n_rounds, rounds_), (n_votes, votes_) = [(n, int(total or 0)) for n, total in sums]
        return Standing(
            self.n_consenting(at), self.removals_since(at), n_releases, acts, (n_rounds, rounds_), (n_votes, votes_)
        )

    def n_consenting(self, at: float) -> int:
        """Real players who had agreed by then that what they gave is published with what others gave, and still do."""
        return self.connection.execute(select(func.count()).select_from(players).where(*_public(at))).scalar_one()

    def answered_prompts(self, at: float) -> set[int]:
        """Base words that consenting real players answered or judged."""
        c, j = rounds.c, judgements.c
        of = players.c.id == c.player
        given = select(c.prompt).join(players, of).where(c.counts == 1, c.closed_at <= at, *_public(at)).distinct()
        judged = select(j.prompt).select_from(voted()).where(*is_vote(), c.closed_at <= at, *_public(at)).distinct()
        return {prompt for query in (given, judged) for prompt in self.connection.execute(query).scalars()}

    def published(self, prompt: int, at: float) -> Published:
        """What consenting real, trusted players gave and judged of a base word; those who gave are counted by `hand`."""
        c = rounds.c
        played = rounds.join(players, players.c.id == c.player)
        counted = (c.prompt == prompt, c.counts == 1, c.closed_at <= at, trusted(), *_public(at))
        n = self.connection.execute(select(func.count(hand().distinct())).select_from(played).where(*counted)).scalar_one()
        given = (
            select(answers.c.key, func.count(hand().distinct()), func.min(c.closed_at))
            .select_from(played.join(answers, answers.c.round == c.id))
            .where(*counted, answers.c.status == "accepted", answers.c.pasted == 0)
            .group_by(answers.c.key)
        )
        gave = {key: (n_players, first) for key, n_players, first in self.connection.execute(given)}
        votes = self._public_votes(prompt, at)
        open_ = self._open_pairs(prompt)
        known = self.connection.execute(select(pairs.c.key, pairs.c.oov).where(pairs.c.prompt == prompt))
        oov = {row.key: bool(row.oov) for row in known}
        made = {}
        for key in sorted({*gave, *votes}):
            yes, no, yes_w, no_w = votes.get(key, (0, 0, 0.0, 0.0))
            made[key] = PublicPair(
                key, *gave.get(key, (0, None)), oov.get(key, False), yes, no, yes_w, no_w, open_.get(key, True)
            )
        return Published(n, made)

    def rules_played(self, at: float) -> dict[str, int]:
        """Rounds that counted of consenting real players, by the rules they were played under."""
        c = rounds.c
        where = (c.counts == 1, c.closed_at <= at, trusted(), *_public(at))
        query = select(c.rules, func.count()).join(players, players.c.id == c.player).where(*where).group_by(c.rules)
        return {rules: n for rules, n in sorted(self.connection.execute(query).tuples())}

    def _public_votes(self, prompt: int, at: float) -> dict[str, tuple[int, int, float, float]]:
        c = judgements.c
        trust = players.c.trust_a / (players.c.trust_a + players.c.trust_b)
        where = (c.prompt == prompt, c.verdict != "unsure", rounds.c.closed_at <= at, *is_vote())
        query = (
            select(c.key, c.verdict, func.count(), func.sum(trust))
            .select_from(voted())
            .where(*where, trusted(), *_public(at))
            .group_by(c.key, c.verdict)
        )
        found: dict[str, tuple[int, int, float, float]] = {}
        for key, verdict, n, weight in self.connection.execute(query):
            yes, no, yes_w, no_w = found.get(key, (0, 0, 0.0, 0.0))
            found[key] = (n, no, weight, no_w) if verdict == "yes" else (yes, n, yes_w, weight)
        return found

    def _open_pairs(self, prompt: int) -> dict[str, bool]:
        """Of each known pair: whether it is neither blocked, nor complained about, nor waiting for a moderator."""
        c = pairs.c
        query = select(c.key, c.state, c.decided, c.review, _n_complaining().label("n_open")).where(c.prompt == prompt)
        return {
            row.key: row.state != "blocked"
            and row.decided in (None, "shown")
            and not (row.review and row.decided != "shown")
            and row.n_open < HIDDEN_FROM
            for row in self.connection.execute(query)
        }

    def n_complaining(self, pair: int) -> int:
        """How many real, trusted players' complaints about a pair are open; those of one network are one."""
        return self.connection.execute(select(_n_complaining()).select_from(pairs).where(pairs.c.id == pair)).scalar_one()

    # -- releases --------------------------------------------------------------------------------------------------

    def releases(self) -> list[ReleaseRow]:
        """Oldest first."""
        return [record(ReleaseRow, row) for row in self.connection.execute(select(releases).order_by(releases.c.id))]

    def add_release(self, **values: Any) -> None:
        self._add(releases, **values)

    def removals_since(self, at: float) -> int:
        """Players who had everything of theirs removed since then."""
        return self.connection.execute(select(func.count()).select_from(removals).where(removals.c.at > at)).scalar_one()


def _public(at: float) -> tuple[ColumnElement[bool], ...]:
    """Real players whose answers may be published with others'."""
    return players.c.kind != "simulated", players.c.consent_aggregate <= at


def _n_complaining() -> ScalarSelect[int]:
    """Of a pair that is chosen from: open complaints that count, one a network."""
    whose = func.coalesce(players.c.origin, players.c.player)
    joined = complaints.join(players, players.c.id == complaints.c.player)
    counted = (complaints.c.status == "open", players.c.kind != "simulated", trusted())
    query = select(func.count(whose.distinct())).select_from(joined).where(complaints.c.pair == pairs.c.id, *counted)
    return query.correlate(pairs).scalar_subquery()
