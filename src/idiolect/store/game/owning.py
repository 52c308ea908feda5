"""Everything that is kept about one player, for nobody but that player: a page at a time."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import ColumnElement, Table, select

from idiolect.store.game.judging import is_over
from idiolect.store.game.ledger import Ledger
from idiolect.store.game.tables import (
    answers,
    challenges,
    complaints,
    judgements,
    notices,
    pairs,
    passes,
    portraits,
    prompts,
    rounds,
    sessions,
)

_PAGE = 200


class OwningBook(Ledger):
    """What a player is given of their own."""

    def own_rows(self, player: int, kind: str, after: int) -> list[dict[str, Any]]:
        """A page of everything of one kind that is kept about a player, for their own export; empty at the end.

        A round comes once its base word was shown, and judgements once theirs is over: what is still to be asked, and which
        pairs are there to check the player, is no data about the player yet, and would give the game away.

        Args:
            kind: "rounds", "judgements", "passes", "challenges", "complaints", "notices", "sessions" or "portraits".
            after: `row` of the last one that was read; 0 to begin.
        """
        return _OWN[kind](self, player, after)

    def _own(self, table: Table, player: int, after: int, *where: ColumnElement[bool]) -> list[dict[str, Any]]:
        c = table.c
        names = (prompts.c.prompt.label("prompt_"),) if "prompt" in c else ()
        query = select(table, *names).select_from(table.outerjoin(prompts, prompts.c.id == c.prompt) if names else table)
        mine = (c.player == player, c.id > after, *where)
        return [_plain(row) for row in self.connection.execute(query.where(*mine).order_by(c.id).limit(_PAGE)).all()]

    def _own_rounds(self, player: int, after: int) -> list[dict[str, Any]]:
        page = self._own(rounds, player, after, rounds.c.started_at.is_not(None))
        given: dict[int, list[dict[str, Any]]] = {}
        query = (
            select(answers).where(answers.c.round.in_([one["row"] for one in page])).order_by(answers.c.round, answers.c.seq)
        )
        for row in self.connection.execute(query):
            one = _plain(row)
            given.setdefault(row.round, []).append({name: one[name] for name in one if name not in ("row", "round")})
        return [{**one, "answers": given.get(one["row"], [])} for one in page]

    def _own_judgements(self, player: int, after: int) -> list[dict[str, Any]]:
        over = judgements.c.round.in_(select(rounds.c.id).where(rounds.c.player == player, is_over()))
        page = self._own(judgements, player, after, over, judgements.c.verdict.is_not(None))
        return [{name: value for name, value in one.items() if name != "round"} for one in page]

    def _own_pairs(self, table: Table, player: int, after: int) -> list[dict[str, Any]]:
        """Challenges and complaints, with the pair that they are about."""
        c = table.c
        joined = table.join(pairs, pairs.c.id == c.pair).join(prompts, prompts.c.id == pairs.c.prompt)
        query = select(table, prompts.c.prompt.label("prompt_"), pairs.c.key.label("answer")).select_from(joined)
        found = self.connection.execute(query.where(c.player == player, c.id > after).order_by(c.id).limit(_PAGE)).all()
        return [{name: value for name, value in _plain(row).items() if name != "pair"} for row in found]

    def _own_sessions(self, player: int, after: int) -> list[dict[str, Any]]:
        """When sessions began and were last used. Their tokens are secrets and no data about the player."""
        query = select(sessions.c.created, sessions.c.seen).where(sessions.c.player == player).order_by(sessions.c.created)
        found = self.connection.execute(query.limit(_PAGE).offset(after)).all()
        return [{"row": after + n, "created": row.created, "seen": row.seen} for n, row in enumerate(found, 1)]

    def _own_portrait(self, player: int, after: int) -> list[dict[str, Any]]:
        c = portraits.c
        found = [] if after else self.connection.execute(select(c.state, c.at, c.body).where(c.player == player)).all()
        return [{"row": 1, "state": row.state, "at": row.at, "body": json.loads(row.body)} for row in found]


def _plain(row: Any) -> dict[str, Any]:
    """A row as its player reads it: base words by name, no keys of other tables, JSON as what it says."""
    values = dict(row._mapping)
    values["row"] = values.pop("id")
    values.pop("player", None)
    if "prompt_" in values:
        values["prompt"] = values.pop("prompt_")
    for name in ("flags", "body"):
        if isinstance(values.get(name), str):
            values[name] = json.loads(values[name])
    return values


_OWN = {
    "rounds": OwningBook._own_rounds,
    "judgements": OwningBook._own_judgements,
    "passes": lambda book, player, after: book._own(passes, player, after),
    "challenges": lambda book, player, after: book._own_pairs(challenges, player, after),
    "complaints": lambda book, player, after: book._own_pairs(complaints, player, after),
    "notices": lambda book, player, after: book._own(notices, player, after),
    "sessions": OwningBook._own_sessions,
    "portraits": OwningBook._own_portrait,
}
OWN_KINDS: tuple[str, ...] = tuple(_OWN)
"""What is kept about a player, beside the player's own row."""
