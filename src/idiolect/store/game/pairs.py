"""Pairs of a base word and an answer, as rows."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import func, select, update

from idiolect.store.game.ledger import Ledger, record
from idiolect.store.game.records import PairRow
from idiolect.store.game.rounds import trusted
from idiolect.store.game.tables import answers, pairs, players, rounds


class PairBook(Ledger):
    """What is known of answers, whoever gave them."""

    def pair(self, key: int) -> PairRow | None:
        row = self.connection.execute(select(pairs).where(pairs.c.id == key)).one_or_none()
        return None if row is None else record(PairRow, row, key_="id")

    def pairs(self, prompt: int, keys: Collection[str] | None = None) -> dict[str, PairRow]:
        """Pairs of a base word, by the answer's key."""
        query = select(pairs).where(pairs.c.prompt == prompt)
        query = query if keys is None else query.where(pairs.c.key.in_(list(keys)))
        return {row.key: record(PairRow, row, key_="id") for row in self.connection.execute(query)}

    def validated_keys(self, prompt: int) -> set[str]:
        # Without the function SQLite goes by the state, which it has an index of and half of all pairs share: 90 ms, not 1.
        where = (pairs.c.prompt == prompt, func.coalesce(pairs.c.state, "") == "validated")
        return set(self.connection.execute(select(pairs.c.key).where(*where)).scalars())

    def change_pair(self, key: int, **values: Any) -> None:
        self._change(pairs, key, values)

    def touch_pairs(self, prompt: int, given: Collection[tuple[str, str, bool, bool]], at: float) -> None:
        """See to it that there is a row for each of these answers.

        Args:
            given: (key, display, oov, review) of accepted answers.
        """
        known = self.pairs(prompt, [key for key, *_ in given])
        for key, display, oov, review in given:
            if key not in known:
                self._add(pairs, prompt=prompt, key=key, display=display, first_at=at, oov=oov, review=review)
            elif review and not known[key].review:
                self.change_pair(known[key].key_, review=True)

    def recount_players(self, prompt: int, keys: Collection[str] | None = None) -> None:
        """Count again how many real, trusted players gave each key, and which form of it most of them wrote."""
        c = rounds.c
        joined = rounds.join(players, players.c.id == c.player).join(answers, answers.c.round == c.id)
        where = [c.prompt == prompt, c.counts == 1, players.c.kind != "simulated", trusted(), answers.c.status == "accepted"]
        where += [answers.c.key.in_(list(keys))] if keys is not None else []
        forms = select(answers.c.key, answers.c.display, func.count()).select_from(joined).where(*where)
        n: dict[str, int] = {}
        best: dict[str, tuple[int, str]] = {}
        for key, display, count in self.connection.execute(forms.group_by(answers.c.key, answers.c.display)):
            n[key] = n.get(key, 0) + count
            # The most frequent form; of equals the first by alphabet, on every database.
            best[key] = min(best.get(key, (0, display)), (-count, display))
        for key, row in self.pairs(prompt, keys).items():
            values: dict[str, Any] = {"n_players": n.get(key, 0)}
            if key in best:
                values["display"] = best[key][1]
            if any(getattr(row, name) != value for name, value in values.items()):
                self.connection.execute(update(pairs).where(pairs.c.id == row.key_).values(**values))
