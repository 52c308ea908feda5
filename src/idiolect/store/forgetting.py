"""The store's half that forgets: what is downstream of a person or an item, taking it out, and going on after a crash."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

from idiolect.store import adapters, downstream, exports, histories, journal, pieces, revoking
from idiolect.store.histories import check_text
from idiolect.store.records import Downstream, ForgettingRow, ForgettingState
from idiolect.store.room import Room

Plan = Mapping[str, Any]


class Forgettings(Room):
    """Find, delete and journal. Retraining what goes is not the store's business."""

    def downstream(self, user_id: str, item_id: str | None = None, leave: Collection[str] = ()) -> Downstream:
        """A person, or one item of theirs, and everything that was made from it. Changes nothing.

        Args:
            leave: digests of task adapters that are to stay although the person taught them.

        Raises:
            PersonNotFound: nobody of that id is in the store, or taught anything in it.
            NotFoundError: the person has no such item.
        """
        if not histories.storable(user_id):
            raise self._nobody(user_id)
        with self._rows.read() as connection:
            found, _ = self._downstream(connection, user_id, item_id, leave)
        if not (found.here or found.adapters or found.left):
            raise self._nobody(user_id)
        return found

    def knows(self, user_id: str) -> bool:
        """Whether anything at all is left of a person: in the store, or in what somebody else's adapters were made from."""
        with self._rows.read() as connection:
            here = user_id in histories.keys_of(connection, [user_id])
            return here or downstream.is_named(connection, user_id)

    def _downstream(
        self, connection: Connection, user_id: str, item_id: str | None, leave: Collection[str]
    ) -> tuple[Downstream, revoking.Reach]:
        key = histories.keys_of(connection, [user_id]).get(user_id)
        return downstream.find(connection, user_id, key, item_id, leave)

    def has_adapter(self, digest: str) -> bool:
        """Whether there is such an adapter."""
        with self._rows.read() as connection:
            return digest in adapters.known(connection, [digest])

    def pieces_there(self, ids: Iterable[int]) -> set[int]:
        """Those of the pieces that are in pools."""
        with self._rows.read() as connection:
            return pieces.present(connection, ids)

    def forgettings(self) -> list[ForgettingRow]:
        """Requests to forget, the oldest first."""
        with self._rows.read() as connection:
            return journal.listed(connection)

    def begin_forgetting(self, request: str, user_id: str, item_id: str | None, plan: Plan) -> None:
        """Note that a request is to be carried out, whatever happens now. Nothing else is changed yet."""
        with self._rows.write("adapters") as connection:
            journal.begin(connection, request, user_id, item_id, plan)

    def note_forgetting(self, request: str, state: ForgettingState, plan: Plan) -> None:
        """Note how far a request is."""
        with self._rows.write("adapters") as connection:
            journal.note(connection, request, state, plan)

    def erase(self, request: str, expected: Downstream, plan: Plan) -> bool:
        """Delete a person or an item, and everything downstream: all of it, and the note that it is done, or nothing.

        Files of adapters are doomed, and go with `clear_up`.

        Args:
            expected: what the plan was made for.

        Returns:
            False where something else is downstream by now: nothing was changed, so plan again.
        """
        user_id, item_id, leave = expected.user_id, expected.item_id, [one.digest for one in expected.left]
        with self._rows.write("adapters", "game", "histories") as connection:
            found, reach = self._downstream(connection, user_id, item_id, leave)
            if found != expected:
                return False
            key = histories.keys_of(connection, [user_id]).get(user_id)
            revoking.take_out(connection, reach)
            if item_id is None:
                if key is not None:
                    downstream.erase_person(connection, user_id, key)
                downstream.erase_name(connection, user_id)
            elif key is not None:
                downstream.erase_item(connection, user_id, key, item_id)
            journal.note(connection, request, "deleted", plan)
        return True

    def finish_forgetting(self, request: str, receipt: str) -> bool:
        """Keep nothing of a request but that it was, and what its receipt's digest is; whether nothing is left in old pages."""
        with self._rows.write("adapters") as connection:
            journal.finish(connection, request, receipt)
        return self.compact()

    def compact(self) -> bool:
        """Write the database's file anew without old pages; False where another process is reading them."""
        return self._rows.compact()

    def clear_up(self) -> None:
        """Remove the files of what was deleted, and old pages of the database."""
        self._finish_deletions()
        self._rows.scrub()

    # -- folders of evaluations --------------------------------------------------------------------------------------

    @contextmanager
    def evaluation(self, place: str, users: Iterable[str]) -> Iterator[None]:
        """Remember that answers to these people's queries are written to a folder, while they are.

        Noted first, so that a kill in between leaves a note; what was noted for the place before is forgotten afterwards.

        Raises:
            PersonNotFound: one of them is not in the store, any more.
        """
        check_text(place, "the place of an evaluation")
        with self._rows.write("adapters") as connection:
            keys = [self._key(connection, user) for user in dict.fromkeys(users)]
            noted = exports.note_answers(connection, place, keys)
        yield
        with self._rows.write("adapters") as connection:
            exports.keep_answers(connection, place, noted)

    def evaluations(self, user_id: str) -> list[str]:
        """Folders that hold answers to a person's queries. Raises PersonNotFound."""
        with self._rows.read() as connection:
            return downstream.places(connection, self._key(connection, user_id))
