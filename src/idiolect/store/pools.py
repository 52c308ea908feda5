"""The store's half that is shared: pools of pieces, consent for each of them, and its withdrawal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from idiolect.errors import AdapterNotFound, InputError, NotFoundError, PieceNotFound
from idiolect.store import adapters, exports, pieces, revoking
from idiolect.store.histories import check_id, check_text
from idiolect.store.records import (
    ExportKind,
    ExportRow,
    PieceRow,
    PiecesImported,
    PoolRow,
    Revocation,
    Shared,
    StoredPiece,
)
from idiolect.store.room import Room
from idiolect.store.tables import exports as export_table

_MUST_AGREE = ("task", "base", "task_adapter")


class Pools(Room):
    """Share, read and withdraw pieces; note what was exported.

    A pool is named by the digest of its key: what all its pieces have in common (`pieces.pool_digest`). It is there as long
    as there is a piece in it; any other digest is that of an empty pool.
    """

    def share_pieces(
        self, key: Mapping[str, Any], user_id: str, adapter_digest: str, given: Sequence[tuple[str, bytes]]
    ) -> Shared:
        """Share these pieces of a person's adapter in the pool with this key, and nothing else any more.

        A piece that the person shares there already (same module, same bytes) keeps its id. Everything else that they shared
        there, from whichever adapter, is withdrawn as by `revoke`. All of it or nothing.

        Args:
            given: (module, body) of each piece.

        Raises:
            PersonNotFound, AdapterNotFound: if there is no such person or adapter.
            InputError: if the adapter is not this person's, was assembled from others' pieces, or does not fit the key.
        """
        pool = pieces.pool_digest(key)
        with self._rows.write("adapters") as connection:
            person = self._key(connection, user_id)
            kept, left_out = pieces.sort_out(connection, pool, person, given)
            revoked = revoking.revoke(connection, left_out) if left_out else None
            adapter = _shareable(connection, key, user_id, adapter_digest)
            ids = pieces.share(connection, key, person, adapter, given, kept)
        return Shared(ids, self._finished(revoked) if revoked else None)

    def import_pieces(self, key: Mapping[str, Any], origin: str, given: Sequence[tuple[int, str, bytes]]) -> PiecesImported:
        """Add pieces from elsewhere to the pool with this key, all or none. What is there already stays as it is.

        A piece that a person of this store shared and withdrew is left out, whatever file it comes in.

        Args:
            origin: where they come from, e.g. the digest of the pool's file.
            given: (id, module, body) of each piece.

        Raises:
            InputError: if an id is there with another body, module or pool.
        """
        check_id(origin, "the origin of pieces")
        with self._rows.write("adapters") as connection:
            return pieces.bring_in(connection, key, origin, given)

    def pools(self) -> list[PoolRow]:
        """Pools, the oldest first."""
        with self._rows.read() as connection:
            return pieces.pool_rows(connection)

    def pool_pieces(self, pool: str, module: str | None = None) -> list[StoredPiece]:
        """What is in a pool, all or of one module, by id.

        Raises:
            CorruptBlob: if a body is not what was shared.
        """
        with self._rows.read() as connection:
            return pieces.contents(connection, pool, module)

    def pool_version(self, pool: str) -> str:
        """Changes exactly when the pool's pieces do. Reads no bodies."""
        with self._rows.read() as connection:
            return pieces.version(connection, pool)

    def read_pieces(self, ids: Iterable[int]) -> dict[int, StoredPiece]:
        """These pieces, in the order given.

        Raises:
            PieceNotFound: naming the first that is not there.
            CorruptBlob: if a body is not what was shared.
        """
        with self._rows.read() as connection:
            return pieces.read(connection, ids)

    def pieces_of(self, user_id: str) -> list[PieceRow]:
        """What a person shares, by pool and module. Raises PersonNotFound."""
        with self._rows.read() as connection:
            return pieces.of_person(connection, self._key(connection, user_id))

    def revoke(
        self,
        piece_ids: Iterable[int] | None = None,
        *,
        user_id: str | None = None,
        pool: str | None = None,
        origin: str | None = None,
    ) -> Revocation:
        """Withdraw pieces: delete them, unpublish every adapter that cites one of them (and what was made of that), and wipe
        what the database keeps of deleted rows (SQLite; on PostgreSQL that is the server's VACUUM and log rotation).

        Args:
            piece_ids: these; without it, all for which the others hold.
            user_id: only this person's; pool: only those in this pool; origin: only those imported from there.

        Raises:
            PieceNotFound: naming the first id that is not among those; nothing is then changed.
            PersonNotFound: if there is no such person.
            InputError: if nothing at all is asked for.
        """
        if piece_ids is None and user_id is None and pool is None and origin is None:
            raise InputError("say which pieces to withdraw: ids, a person, a pool or an origin")
        asked = None if piece_ids is None else list(piece_ids)
        with self._rows.write("adapters") as connection:
            person = None if user_id is None else self._key(connection, user_id)
            ids = pieces.matching(connection, asked, person=person, pool=pool, origin=origin)
            if missing := [piece for piece in asked or () if piece not in ids]:
                raise pieces.absent(missing[0])
            revoked = revoking.revoke(connection, ids)
        return self._finished(revoked)

    def _finished(self, revoked: Revocation) -> Revocation:
        """Once the rows are gone for certain: the files, and old pages of the database."""
        self._finish_deletions()
        return replace(revoked, scrubbed=self._rows.scrub())

    def export(
        self, digest: str, place: str, kind: ExportKind, pieces_in: Iterable[int], write: Callable[[], object]
    ) -> ExportRow:
        """Have an adapter or a pool written to a place outside the store, and remember that it lies there.

        It is noted first, so that a kill in between leaves a note; where writing fails, the note goes again. What was noted
        for the place before has then been overwritten, and is forgotten.

        Args:
            pieces_in: ids of the pieces that are in it.
            write: writes it, whole or not at all: a folder where it is an adapter, else a file.

        Raises:
            AdapterNotFound, PieceNotFound: if the adapter or a piece is gone; also if it went while it was written, and then
                nothing stays at the place.
        """
        check_text(place, "the place of an export")
        held = set(pieces_in)
        with self._rows.write("adapters") as connection:
            person = adapters.get(connection, digest).person if kind == "adapter" else None
            if held - pieces.present(connection, held):
                raise _withdrawn(kind, digest, "nothing was written")
            key = exports.note(connection, kind, digest, person, place, held)
        try:
            write()
        except Exception:
            self._unnoted(key)
            raise
        with self._rows.write("adapters") as connection:
            row = exports.written(connection, key)
        if row is None or row.stale:
            raise _withdrawn(kind, digest, self._taken_back(key, kind, Path(place)))
        return row

    def _unnoted(self, key: int) -> None:
        with self._rows.write("adapters") as connection:
            exports.drop(connection, key)

    def _taken_back(self, key: int, kind: ExportKind, place: Path) -> str:
        """Remove what was written, and its note with it; what became of it, in words."""
        if kind == "adapter":
            shutil.rmtree(place, ignore_errors=True)
        else:
            with suppress(OSError):
                place.unlink()
        if place.exists():
            return f"{place} cannot be removed, so remove it"
        self._unnoted(key)
        return "what was written was removed"

    def exports(self, stale: bool | None = None) -> list[ExportRow]:
        """Exports, newest first; all, only stale ones, or only those that are not."""
        where = [] if stale is None else [export_table.c.stale == int(stale)]
        with self._rows.read() as connection:
            return exports.listed(connection, *where)


def _withdrawn(kind: ExportKind, digest: str, what: str) -> NotFoundError:
    """What to raise where something was withdrawn while it was exported."""
    if kind == "adapter":
        return AdapterNotFound(
            f"adapter {digest[:12]} was withdrawn meanwhile; {what}; see which there are: idiolect adapters list"
        )
    return PieceNotFound(f"a piece of pool {digest[:12]} was withdrawn meanwhile; {what}; export what is left of it")


def _shareable(connection: Connection, key: Mapping[str, Any], user_id: str, digest: str) -> int:
    """Row of the adapter that a person cuts pieces from. Raises AdapterNotFound, InputError."""
    row = adapters.get(connection, digest)
    manifest = json.loads(row.manifest)
    if manifest["user_id"] != user_id:
        raise InputError(f"adapter {digest[:12]} is not user {user_id!r}'s; people share only their own")
    if manifest["kind"] != "user":
        raise InputError(f"adapter {digest[:12]} was assembled from others' pieces; share one that was trained: idiolect train")
    for name in _MUST_AGREE:
        if name in key and key[name] != manifest[name]:
            raise InputError(f"adapter {digest[:12]} does not fit the pool: another {name}; choose one that was trained for it")
    return row.id
