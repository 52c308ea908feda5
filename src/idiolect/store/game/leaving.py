"""Players by the person that they are, and the rows that items of their history came from."""

from __future__ import annotations

import re

from sqlalchemy import delete, insert, select

from idiolect.store.game.ledger import Ledger, record
from idiolect.store.game.records import PlayerRow
from idiolect.store.game.tables import judgements, players, rounds
from idiolect.store.tables import adapters, lineage, people, settings

_RECOUNT = "game recount "
_ROUND = re.compile(r"r-(?P<round>[0-9a-f-]{36})(?:/.*)?")
_JUDGEMENT = re.compile(r"j-(?P<round>[0-9a-f-]{36})/(?P<seq>[0-9]{1,5})")


def same_source(item: str) -> tuple[str, ...]:
    """Ids that items have which are made of the same round as this one; its own first. Of anything else its own only."""
    found = _ROUND.fullmatch(item)
    return (item,) if found is None else tuple(dict.fromkeys((item, f"r-{found['round']}", f"r-{found['round']}/first")))


class LeavingBook(Ledger):
    """What goes when a person, or one thing that they did, is forgotten."""

    def player_of_person(self, person: str) -> PlayerRow | None:
        """The player who is this person."""
        key = select(people.c.id).where(people.c.user_id == person).scalar_subquery()
        row = self.connection.execute(select(players).where(players.c.person == key)).one_or_none()
        return None if row is None else record(PlayerRow, row, key="id")

    def has_taught(self, person: int) -> bool:
        """Whether an adapter that is nobody's own was taught by this person."""
        name = select(people.c.user_id).where(people.c.id == person).scalar_subquery()
        made = lineage.join(adapters, adapters.c.id == lineage.c.child)
        where = (lineage.c.kind == "person", lineage.c.parent == name, adapters.c.person.is_(None))
        return self.connection.execute(select(lineage.c.child).select_from(made).where(*where).limit(1)).first() is not None

    def note_recount(self, prompt: int) -> None:
        """Note that states of a base word's pairs have to be looked at again; once is enough."""
        if prompt not in self.noted_recounts():
            self.connection.execute(insert(settings).values(name=f"{_RECOUNT}{prompt}", value=""))

    def noted_recounts(self) -> list[int]:
        query = select(settings.c.name).where(settings.c.name.startswith(_RECOUNT, autoescape=True))
        return sorted(int(name.removeprefix(_RECOUNT)) for name in self.connection.execute(query).scalars())

    def recounted(self, prompt: int) -> None:
        self.connection.execute(delete(settings).where(settings.c.name == f"{_RECOUNT}{prompt}"))

    def delete_source(self, player: int, item: str) -> int | None:
        """Delete the round or the judgement of the player's that an item is made of; its base word, None if there is none."""
        if found := _JUDGEMENT.fullmatch(item):
            where = (rounds.c.round == found["round"], rounds.c.player == player, judgements.c.seq == int(found["seq"]))
            query = select(judgements.c.id, judgements.c.prompt).join(rounds, rounds.c.id == judgements.c.round).where(*where)
            table = judgements
        elif found := _ROUND.fullmatch(item):
            query = select(rounds.c.id, rounds.c.prompt).where(rounds.c.round == found["round"], rounds.c.player == player)
            table = rounds
        else:
            return None
        row = self.connection.execute(query).one_or_none()
        if row is None or row.prompt is None:
            return None
        self.connection.execute(delete(table).where(table.c.id == row.id))
        return row.prompt
