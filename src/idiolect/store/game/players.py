"""Players and their sessions, as rows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import bindparam, delete, select, update

from idiolect.store.game.ledger import Ledger, record
from idiolect.store.game.records import Kind, NoticeRow, PlayerRow
from idiolect.store.game.tables import notices, players, sessions
from idiolect.types import canonical_json

# What every request asks, made once: to make it anew takes SQLAlchemy longer than to run it.
_PLAYER = select(players).where(players.c.id == bindparam("key"))
_SEATED = select(players).join(sessions, sessions.c.player == players.c.id).where(sessions.c.token == bindparam("token"))


class PlayerBook(Ledger):
    """Who plays."""

    def add_player(self, player: str, kind: Kind, at: float, **values: Any) -> PlayerRow:
        key = self._add(players, player=player, kind=kind, created=at, **values)
        return self.player(key)

    def player(self, key: int) -> PlayerRow:
        return record(PlayerRow, self.connection.execute(_PLAYER, {"key": key}).one(), key="id")

    def player_named(self, player: str) -> PlayerRow | None:
        """By the random name."""
        return self._one(players.c.player == player)

    def player_by_handle(self, handle_key: str) -> PlayerRow | None:
        return self._one(players.c.handle_key == handle_key)

    def player_by_token(self, token: str) -> PlayerRow | None:
        """Whose session it is.

        Args:
            token: SHA-256 of the cookie.
        """
        row = self.connection.execute(_SEATED, {"token": token}).one_or_none()
        return None if row is None else record(PlayerRow, row, key="id")

    def change_player(self, key: int, **values: Any) -> None:
        self._change(players, key, values)

    def add_trust(self, key: int, a: float = 0.0, b: float = 0.0) -> None:
        """Add to the evidence for and against a player, in the database, so that two at a time both count."""
        c = players.c
        self.connection.execute(update(players).where(c.id == key).values(trust_a=c.trust_a + a, trust_b=c.trust_b + b))

    def _one(self, where: Any) -> PlayerRow | None:
        row = self.connection.execute(select(players).where(where)).one_or_none()
        return None if row is None else record(PlayerRow, row, key="id")

    # -- sessions --------------------------------------------------------------------------------------------------

    def add_session(self, token: str, player: int, at: float) -> None:
        self.connection.execute(sessions.insert().values(token=token, player=player, created=at, seen=at))

    def end_session(self, token: str) -> None:
        self.connection.execute(delete(sessions).where(sessions.c.token == token))

    def end_sessions(self, player: int) -> None:
        self.connection.execute(delete(sessions).where(sessions.c.player == player))

    # -- notices ---------------------------------------------------------------------------------------------------

    def add_notice(self, player: int, kind: str, body: dict[str, Any], at: float) -> None:
        self._add(notices, player=player, kind=kind, body=canonical_json(body), at=at)

    def has_notices(self, player: int) -> bool:
        """Whether there is something that the player has not seen yet."""
        query = select(notices.c.id).where(notices.c.player == player, notices.c.seen_at.is_(None)).limit(1)
        return self.connection.execute(query).first() is not None

    def take_notices(self, player: int, at: float, kinds: Iterable[str] | None = None) -> list[NoticeRow]:
        """What the player has not seen yet, oldest first; from now on they have."""
        c = notices.c
        unseen = (c.player == player, c.seen_at.is_(None), *([c.kind.in_(list(kinds))] if kinds is not None else []))
        rows = self.connection.execute(select(c.id, c.kind, c.body, c.at).where(*unseen).order_by(c.id)).all()
        if rows:
            self.connection.execute(update(notices).where(c.id.in_([row.id for row in rows])).values(seen_at=at))
        return [NoticeRow(row.id, row.kind, json.loads(row.body), row.at) for row in rows]
