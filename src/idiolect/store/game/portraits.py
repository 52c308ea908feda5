"""Players who are people too, and their portraits, as rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select, update

from idiolect.errors import StoreBusy
from idiolect.store.game.accounts import is_noted
from idiolect.store.game.ledger import Ledger
from idiolect.store.game.rounds import trusted
from idiolect.store.game.tables import players, portraits
from idiolect.store.histories import Importer, keys_of
from idiolect.types import Item, Person, canonical_json


@dataclass(frozen=True, slots=True)
class PortraitRow:
    """A player's portrait: waiting, running, done or failed."""

    player: int
    state: str
    at: float
    body: Mapping[str, Any]


class PortraitBook(Ledger):
    """What a player's history is made into."""

    def keep_items(self, player: int, person: str, items: Iterable[Item]) -> int:
        """Make a player a person, where they are none yet, and add those items that are new; how many those were.

        Raises:
            StoreBusy: what was kept of the person before is still to be forgotten, and would take the new along.
        """
        if is_noted(self.connection, person):
            raise StoreBusy("what was kept of this player before is being forgotten; wait for that, and try again")
        importer = Importer(self.connection)
        importer.add(Person(person, tuple(items)))
        n_new = importer.report().n_items
        key = keys_of(self.connection, [person])[person]
        self.connection.execute(update(players).where(players.c.id == player).values(person=key))
        return n_new

    def consenting(self, *, simulated: bool = False) -> list[int]:
        """Players whose history may be learnt from: real ones who agreed and are trusted, or simulated ones; by name."""
        c = players.c
        real = (c.kind != "simulated", c.consent_personal.is_not(None), c.consent_aggregate.is_not(None))
        where = (c.kind == "simulated",) if simulated else real
        return list(self.connection.execute(select(c.id).where(*where, trusted()).order_by(c.player)).scalars())

    def portrait(self, player: int) -> PortraitRow | None:
        row = self.connection.execute(select(portraits).where(portraits.c.player == player)).one_or_none()
        return None if row is None else PortraitRow(row.player, row.state, row.at, json.loads(row.body))

    def put_portrait(self, player: int, state: str, at: float, body: Mapping[str, Any]) -> None:
        """Whatever there was of it before is gone."""
        self.connection.execute(delete(portraits).where(portraits.c.player == player))
        self.connection.execute(insert(portraits).values(player=player, state=state, at=at, body=canonical_json(dict(body))))

    def drop_portrait(self, player: int) -> None:
        self.connection.execute(delete(portraits).where(portraits.c.player == player))

    def waits(self, stale_before: float) -> bool:
        """Whether a portrait waits to be drawn; one that was cut off does, too."""
        c = portraits.c
        waits = (c.state == "waiting") | ((c.state == "running") & (c.at < stale_before))
        return self.connection.execute(select(c.player).where(waits).limit(1)).first() is not None

    def claim_portrait(self, at: float, stale_before: float) -> int | None:
        """The player who has waited longest, now running; None if nobody waits. One that was cut off waits again."""
        c = portraits.c
        waits = (c.state == "waiting") | ((c.state == "running") & (c.at < stale_before))
        query = select(c.player).where(waits).order_by(c.at, c.player).limit(1)
        found = self.connection.execute(query).scalar_one_or_none()
        if found is not None:
            self.connection.execute(update(portraits).where(c.player == found).values(state="running", at=at))
        return found
