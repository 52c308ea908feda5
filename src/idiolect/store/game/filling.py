"""Many rows at once: rounds that were played in a simulation, not at a desk. Who brings them has counted already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Table, bindparam, func, insert, select, text, update

from idiolect.store.game.ledger import Ledger, stored
from idiolect.store.game.tables import answers, pairs, players, prompts, rounds

_AT_A_TIME = 500
"""Values that a condition lists; SQLite takes some ten thousand in one statement."""

_ROWS_AT_A_TIME = 10_000


class FillBook(Ledger):
    """Fills."""

    def fill_players(self, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """Add players; their keys, in the same order."""
        return self._fill(players, rows)

    def fill_rounds(self, rows: Sequence[tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]]) -> int:
        """Add closed rounds, each with its answers, whose truth values are 0 and 1; how many answers those were."""
        keys = self._fill(rounds, [values for values, _ in rows])
        given = [{"round": key, **one} for key, (_, several) in zip(keys, rows, strict=True) for one in several]
        if given:
            self.connection.execute(insert(answers), given)
        return len(given)

    def fill_pairs(self, prompt: int, rows: Sequence[Mapping[str, Any]]) -> int:
        """Add pairs of a base word; one that is there stays as it is, but for a review that it now needs. How many are new.

        Args:
            rows: each has key, display, first_at, oov and review, and may have n_players and state.
        """
        known = self._known([row["key"] for row in rows], prompt)
        new = [{"prompt": prompt, **stored(row)} for row in rows if row["key"] not in known]
        if new:
            self.connection.execute(insert(pairs), new)
        for key in [row["key"] for row in rows if row["key"] in known and row["review"]]:
            self.connection.execute(update(pairs).where(pairs.c.prompt == prompt, pairs.c.key == key).values(review=1))
        return len(new)

    def fill_changes(self, kind: str, changes: Mapping[int, Mapping[str, Any]]) -> None:
        """Change rows of players or prompts, by key; each change names the same columns."""
        table = {"players": players, "prompts": prompts}[kind]
        if changes:
            names = next(iter(changes.values()))
            query = update(table).where(table.c.id == bindparam("_key")).values({name: bindparam(f"_{name}") for name in names})
            rows = [
                {"_key": key, **{f"_{name}": value for name, value in stored(values).items()}}
                for key, values in changes.items()
            ]
            self.connection.execute(query, rows)

    def sizes(self) -> dict[str, int]:
        """How many players, base words that were played, rounds, answers and pairs there are."""
        counted = {"players": players.c.id, "words": rounds.c.prompt.distinct(), "rounds": rounds.c.id,
                   "answers": answers.c.id, "pairs": pairs.c.id}  # fmt: skip
        return {name: self.connection.execute(select(func.count(of))).scalar_one() for name, of in counted.items()}

    def analyse(self) -> None:
        """Have PostgreSQL look at what there is now, as it would by itself after a while; SQLite is not asked to."""
        if self.connection.dialect.name == "postgresql":
            self.connection.execute(text("ANALYZE"))

    def copy_from(self, source: FillBook) -> None:
        """Copy players, base words, rounds, answers and pairs of another database into PostgreSQL, which has none of them yet
        but base words; these are replaced. Keys stay what they are.
        """
        self.connection.execute(prompts.delete())
        driver: Any = self.connection.connection.dbapi_connection
        for table in (players, prompts, rounds, answers, pairs):
            names = ", ".join(f'"{column.name}"' for column in table.columns)
            rows = source.connection.execute(select(table), execution_options={"yield_per": _ROWS_AT_A_TIME})
            with driver.cursor().copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(tuple(row))
            last = f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), (SELECT max(id) FROM {table.name}))"
            self.connection.execute(text(last))

    def _known(self, keys: Sequence[str], prompt: int) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(keys), _AT_A_TIME):
            where = (pairs.c.prompt == prompt, pairs.c.key.in_(keys[start : start + _AT_A_TIME]))
            found |= set(self.connection.execute(select(pairs.c.key).where(*where)).scalars())
        return found

    def _fill(self, table: Table, rows: Iterable[Mapping[str, Any]]) -> list[int]:
        values = [stored(row) for row in rows]
        if not values:
            return []
        query = insert(table).returning(table.c.id, sort_by_parameter_order=True)
        return list(self.connection.execute(query, values).scalars())
