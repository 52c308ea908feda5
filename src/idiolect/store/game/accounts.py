"""Accounts and guests: sessions by age, one player's rows taken over by another, and a player who leaves."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select, update

from idiolect.store.game.ledger import Ledger, record, stored
from idiolect.store.game.records import PlayerRow
from idiolect.store.game.tables import (
    audit,
    challenges,
    complaints,
    judgements,
    notices,
    passes,
    players,
    prompts,
    removals,
    rounds,
    sessions,
)
from idiolect.store.tables import people, settings

_LEAVING = "game-leaving:"

# What every request asks, made once: to make it anew takes SQLAlchemy longer than to run it.
_SEEN = select(sessions.c.seen).where(sessions.c.token == bindparam("token"))
_SIMULATED = select(players.c.id).where(players.c.kind == "simulated").limit(1)


def is_noted(connection: Connection, person: str) -> bool:
    """Whether a person's history has to be forgotten, and is not yet."""
    return connection.execute(select(settings.c.name).where(settings.c.name == _LEAVING + person)).first() is not None


class AccountBook(Ledger):
    """Who comes, stays and goes."""

    # -- the server's own ------------------------------------------------------------------------------------------

    def setting(self, name: str, new: str) -> str:
        """What is kept under a name; `new` from now on, if nothing is."""
        row = self.connection.execute(select(settings.c.value).where(settings.c.name == name)).one_or_none()
        if row is not None:
            return row.value
        self.connection.execute(insert(settings).values(name=name, value=new))
        return new

    def has_simulated(self) -> bool:
        return self.connection.execute(_SIMULATED).first() is not None

    def n_players_by_kind(self) -> dict[str, int]:
        query = select(players.c.kind, func.count()).group_by(players.c.kind)
        return {kind: n for kind, n in self.connection.execute(query)}

    def find_player(self, key: int) -> PlayerRow | None:
        """A player, if they are still there."""
        row = self.connection.execute(select(players).where(players.c.id == key)).one_or_none()
        return None if row is None else record(PlayerRow, row, key="id")

    # -- sessions --------------------------------------------------------------------------------------------------

    def seen(self, token: str) -> float | None:
        """When a session was last noted to be used; None without one."""
        return self.connection.execute(_SEEN, {"token": token}).scalar_one_or_none()

    def touch_session(self, token: str, at: float) -> None:
        self.connection.execute(update(sessions).where(sessions.c.token == token).values(seen=at))

    def drop_sessions(self, before: float) -> int:
        """End sessions that were last used before then; how many those were."""
        return self.connection.execute(delete(sessions).where(sessions.c.seen < before)).rowcount

    def end_other_sessions(self, player: int, token: str) -> None:
        where = (sessions.c.player == player, sessions.c.token != token)
        self.connection.execute(delete(sessions).where(*where))

    # -- figures ---------------------------------------------------------------------------------------------------

    def n_started(self, player: int) -> int:
        """Rounds of any kind that a player closed, skipped ones left out."""
        c = rounds.c
        where = (c.player == player, c.close_reason.in_(("finished", "expired")))
        return self.connection.execute(select(func.count()).where(*where)).scalar_one()

    def total_score(self, player: int) -> int:
        """Points of all rounds but those beyond a day's cap."""
        c = rounds.c
        score = func.coalesce(c.score_final, c.score_provisional, 0) + c.bonus
        where = (c.player == player, c.closed_at.is_not(None), c.beyond == 0)
        return int(self.connection.execute(select(func.coalesce(func.sum(score), 0)).where(*where)).scalar_one())

    def days_played(self, player: int) -> list[int]:
        """Days since 1970 (UTC) on which a player closed a round that was not skipped, newest first."""
        c = rounds.c
        where = (c.player == player, c.close_reason.in_(("finished", "expired")))
        found = self.connection.execute(select(c.closed_at).where(*where)).scalars()
        return sorted({int(at // 86400) for at in found}, reverse=True)

    def n_items(self, player: int) -> int:
        """Rounds with an accepted answer, and judgements that were no checks, "unsure" left out: what a history is made of."""
        c, j = rounds.c, judgements.c
        played = select(func.count()).where(c.player == player, c.n_accepted > 0)
        counted = (j.verdict.in_(("yes", "no")), j.kind.not_in(("gold_pos", "gold_neg")))
        judged = select(func.count()).where(j.player == player, *counted)
        return self.connection.execute(played).scalar_one() + self.connection.execute(judged).scalar_one()

    # -- taking over -----------------------------------------------------------------------------------------------

    def take_over(self, old: PlayerRow, new: PlayerRow) -> set[int]:
        """Give one player's rows to another, and the old player is gone. On base words that the other has played to the end,
        or is playing, theirs stay; rounds that they only skipped or left stand in nobody's way.

        Returns:
            Base words whose counts have to be made again.
        """
        touched = self.touched(old.key)
        c = rounds.c
        played = c.closed_at.is_(None) | c.close_reason.in_(("finished", "expired"))
        twice = select(c.prompt).where(c.player == new.key, c.prompt.is_not(None), played)
        self.connection.execute(delete(rounds).where(c.player == old.key, c.prompt.in_(twice)))
        if self._has_open(new.key):
            self.connection.execute(delete(rounds).where(c.player == old.key, c.closed_at.is_(None)))
        theirs = select(judgements.c.prompt, judgements.c.key).where(judgements.c.player == new.key)
        own = {(prompt, key) for prompt, key in self.connection.execute(theirs)}
        judged = select(judgements.c.id, judgements.c.prompt, judgements.c.key).where(judgements.c.player == old.key)
        doubled = [id for id, prompt, key in self.connection.execute(judged) if (prompt, key) in own]
        self._delete_rows(judgements, doubled)
        for table in (challenges, complaints):
            known = select(table.c.pair).where(table.c.player == new.key)
            self.connection.execute(delete(table).where(table.c.player == old.key, table.c.pair.in_(known)))
        for table in (rounds, judgements, passes, challenges, complaints, notices):
            self.connection.execute(update(table).where(table.c.player == old.key).values(player=new.key))
        p = players.c
        more = {"trust_a": p.trust_a + old.trust_a - 4, "trust_b": p.trust_b + old.trust_b - 1}
        last = max((at for at in (old.last_played, new.last_played) if at is not None), default=None)
        self.connection.execute(update(players).where(p.id == new.key).values(**more, last_played=last))
        self._forget_acts(old.key)
        self.connection.execute(delete(players).where(p.id == old.key))
        return touched

    def closed_rounds(self, player: int) -> list[tuple[int, float]]:
        """(row, when it was closed) of a player's rounds, skipped ones left out."""
        c = rounds.c
        where = (c.player == player, c.close_reason.in_(("finished", "expired")))
        return [(key, at) for key, at in self.connection.execute(select(c.id, c.closed_at).where(*where))]

    def mark_beyond(self, player: int, beyond: Collection[int]) -> None:
        """Note which rounds of a player are beyond a day's share, and that the others are not."""
        c = rounds.c
        self.connection.execute(update(rounds).where(c.player == player, c.beyond == 1).values(beyond=0))
        for key in sorted(beyond):
            self.connection.execute(update(rounds).where(c.id == key).values(beyond=1))

    def _has_open(self, player: int) -> bool:
        where = (rounds.c.player == player, rounds.c.closed_at.is_(None))
        return self.connection.execute(select(rounds.c.id).where(*where)).first() is not None

    def _delete_rows(self, table: Table, keys: Collection[int]) -> None:
        if keys:
            self.connection.execute(delete(table).where(table.c.id.in_(list(keys))))

    # -- leaving ---------------------------------------------------------------------------------------------------

    def touched(self, player: int) -> set[int]:
        """Base words that a player's rounds and judgements are on."""
        asked = select(rounds.c.prompt).where(rounds.c.player == player, rounds.c.prompt.is_not(None))
        judged = select(judgements.c.prompt).where(judgements.c.player == player)
        return set(self.connection.execute(asked.union(judged)).scalars())

    def delete_player(self, player: int, at: float) -> set[int]:
        """Delete a player with all that hangs on them, and note that somebody left.

        Returns:
            Base words whose counts have to be made again.
        """
        touched = self.touched(player)
        self._forget_acts(player)
        self.connection.execute(delete(players).where(players.c.id == player))
        self.connection.execute(insert(removals).values(at=at))
        return touched

    def _forget_acts(self, player: int) -> None:
        """What was decided stays written down; by whom and of whom is forgotten with the player."""
        for column in (audit.c.actor, audit.c.subject):
            self.connection.execute(update(audit).where(column == f"player {player}").values({column: "somebody who left"}))

    def stale_guests(self, before: float) -> list[PlayerRow]:
        """Guests who came before then."""
        query = select(players).where(players.c.kind == "guest", players.c.created < before).order_by(players.c.id)
        return [record(PlayerRow, row, key="id") for row in self.connection.execute(query)]

    def person_name(self, person: int) -> str | None:
        return self.connection.execute(select(people.c.user_id).where(people.c.id == person)).scalar_one_or_none()

    def note_leaving(self, person: str) -> None:
        """Note whose history has to be forgotten; it stays noted until that is done, whatever breaks down in between."""
        if not is_noted(self.connection, person):
            self.connection.execute(insert(settings).values(name=_LEAVING + person, value=""))

    def is_leaving(self, person: str) -> bool:
        """Whether a person's history has to be forgotten, and is not yet."""
        return is_noted(self.connection, person)

    def leaving(self) -> list[str]:
        """Whose history has to be forgotten."""
        query = select(settings.c.name).where(settings.c.name.startswith(_LEAVING, autoescape=True)).order_by(settings.c.name)
        return [name.removeprefix(_LEAVING) for name in self.connection.execute(query).scalars()]

    def has_left(self, person: str) -> None:
        self.connection.execute(delete(settings).where(settings.c.name == _LEAVING + person))

    # -- counting again --------------------------------------------------------------------------------------------

    def recount_prompts(self, keys: Collection[int]) -> None:
        """Make what is known of base words again from the rounds of real players."""
        c = rounds.c
        closed = c.close_reason.in_(("finished", "expired"))
        # What the round scored when it was closed: settling it later does not make its base word easier.
        score = func.coalesce(c.score_provisional, 0)
        for key in sorted(keys):
            where = (c.prompt == key, players.c.kind != "simulated")
            scored = (closed, c.mode.in_(("classic", "fresh")), c.repeat == 0)
            joined = rounds.join(players, players.c.id == c.player)
            n, total, squares = self.connection.execute(
                select(func.count(), func.coalesce(func.sum(score), 0), func.coalesce(func.sum(score * score), 0))
                .select_from(joined)
                .where(*where, *scored)
            ).one()
            first = select(func.count(c.player.distinct())).select_from(joined).where(*where, c.counts == 1)
            n_players = self.connection.execute(first).scalar_one()
            values: dict[str, Any] = {
                "n_rounds": n, "n_players": n_players, "score_sum": float(total), "score_squares": float(squares),
            }  # fmt: skip
            self.connection.execute(update(prompts).where(prompts.c.id == key).values(**stored(values)))
