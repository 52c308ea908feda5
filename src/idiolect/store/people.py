"""The store's half that collects: people, their items and their queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from idiolect.store import adapters, downstream, encryption, histories, pieces, revoking
from idiolect.store.records import Added, Deletion, ImportReport, PersonSummary
from idiolect.store.room import Room
from idiolect.types import Item, Person

_PEOPLE_PER_READ = 64


class People(Room):
    """Import, list, read and delete people."""

    def add_person(self, person: Person) -> Added:
        """Add a person, or more items and queries to one. What is there already stays as it is (see `Added`)."""
        report = self.import_people([person])
        return Added(report.n_items, report.n_duplicates, report.n_queries, report.n_conflicts)

    def import_people(self, people: Iterable[Person]) -> ImportReport:
        """Add people in one transaction, in bounded memory; if `people` raises, nothing is added.

        A person may come in parts. An item whose id the person already has counts as a duplicate if it is equal, and
        else as a conflict; the one that came first stays.

        Raises:
            InputError: if an id is empty or too long, or a field is not text.
        """
        with self._rows.write("histories") as connection:
            importer = histories.Importer(connection)
            for person in people:
                importer.add(person)
            return importer.report()

    def people(self, limit: int | None = None, offset: int = 0) -> list[PersonSummary]:
        """One page of people, by id."""
        with self._rows.read() as connection:
            return histories.summaries(connection, limit, offset)

    def most_active(self, n: int) -> list[str]:
        """Ids of the `n` people with the most items; ties by id."""
        with self._rows.read() as connection:
            return histories.most_active(connection, n)

    def person(self, user_id: str) -> Person:
        """One person, items by date and then by arrival. Raises PersonNotFound."""
        with self._rows.read() as connection:
            return histories.load(connection, {user_id: self._key(connection, user_id)})[0]

    def history(self, user_id: str) -> tuple[Item, ...]:
        """One person's items, by date and then by arrival. Raises PersonNotFound."""
        return self.person(user_id).history

    def require_person(self, user_id: str) -> None:
        """Raises PersonNotFound, with the next step, if there is no such person."""
        with self._rows.read() as connection:
            self._key(connection, user_id)

    def has_person(self, user_id: str) -> bool:
        """Whether there is such a person."""
        with self._rows.read() as connection:
            return bool(histories.keys_of(connection, [user_id]))

    def absent(self, user_ids: Iterable[str]) -> list[str]:
        """Those of these people who are not in the store."""
        wanted = list(user_ids)
        with self._rows.read() as connection:
            found = histories.keys_of(connection, wanted)
        return [user_id for user_id in wanted if user_id not in found]

    def iter_people(self, ids: Iterable[str] | None = None) -> Iterator[Person]:
        """People one at a time, a few in memory: these, in the order given, or everyone by id.

        No transaction stays open between two people, so someone may come or go meanwhile.

        Raises:
            PersonNotFound: at the first id that is not in the store.
        """
        pages = self._pages() if ids is None else histories.chunked(ids, _PEOPLE_PER_READ)
        for page in pages:
            yield from self._load(page, strict=ids is not None)

    def _pages(self) -> Iterator[list[str]]:
        page = [""]
        while page:
            with self._rows.read() as connection:
                page = histories.ids_after(connection, page[-1], _PEOPLE_PER_READ)
            yield page

    def _load(self, ids: list[str], *, strict: bool) -> list[Person]:
        with self._rows.read() as connection:
            found = histories.keys_of(connection, ids)
            if strict and (missing := next((i for i in ids if i not in found), None)) is not None:
                raise self._nobody(missing)
            loaded = histories.load(connection, found)
        by_id = {person.id: person for person in loaded}
        return [by_id[user_id] for user_id in ids if user_id in by_id]

    def delete_person(self, user_id: str) -> Deletion:
        """Delete a person and everything made for them: rows, adapters, heads, lineage, files; then wipe what the database
        keeps of deleted rows (SQLite; on PostgreSQL that is the server's VACUUM and log rotation).

        The key of their files is destroyed. What the person shared in pools is withdrawn first, see `Pools.revoke`. Task
        adapters that were made from this person's items too, and others' copies of their adapters, are not changed, but named
        in the answer; `erase` takes these too.

        Raises:
            PersonNotFound: if there is no such person.
        """
        with self._rows.write("adapters", "game", "histories") as connection:
            key = self._key(connection, user_id)
            revoked = revoking.revoke(connection, pieces.matching(connection, person=key))
            made_from = adapters.made_from_person(connection, user_id, key)
            own = [one.digest for one in revoked.affected if one.user_id == user_id]
            answered, secret = downstream.places(connection, key), encryption.key_of(connection, key)
            more, exported, (n_items, n_queries) = downstream.erase_person(connection, user_id, key)
            own += more
            if secret is not None:
                encryption.doom(connection, secret)
        if secret is not None:
            self._keys.destroy(secret)
        n_blobs = self._finish_deletions()
        return Deletion(
            n_items,
            n_queries,
            len(own),
            n_blobs,
            tuple(made_from),
            self._rows.scrub(),
            n_pieces=len(revoked.pieces),
            affected=tuple(one for one in revoked.affected if one.user_id != user_id),
            stale_exports=tuple(dict.fromkeys([*exported, *revoked.stale_exports])),
            evaluations=tuple(answered),
        )
