"""The store's half that keeps what was learned: adapters, which of them are in use, what they came from, and runs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from idiolect.errors import AdapterNotFound, CorruptBlob, InputError, NotFoundError, TaskAdapterNotFound
from idiolect.store import adapters, heads, pieces, runs
from idiolect.store.adapters import PLAIN
from idiolect.store.records import AdapterRow, Parent, ParentKind, RunRow
from idiolect.store.room import Room
from idiolect.types import AdapterKind, AdapterManifest, canonical_json


class Shelf(Room):
    """Publish, find, read and switch adapters."""

    def publish(
        self,
        manifest: AdapterManifest,
        payload: bytes,
        *,
        head: bool = True,
        run_id: str | None = None,
        stats: Mapping[str, float] | None = None,
        parents: Iterable[Parent] = (),
    ) -> str:
        """Keep an adapter for good, and (unless head=False) put it into use; its digest.

        The digest is of the manifest and the payload together, so publishing the same again changes nothing. If an adapter
        with this manifest is there with other bytes, that one stays and its digest is the answer: it is the same work.

        Args:
            parents: what it was made from beyond what the manifest says, e.g. base users' items of a task adapter, or pieces.

        Raises:
            PersonNotFound: if the adapter's person is not in the store (so nobody who was deleted comes back).
            PieceNotFound: if a piece among the parents is not in a pool (so nothing that was withdrawn comes back).
            StoreError: if the disk is full; nothing is then published.
        """
        _check_kind(manifest)
        edges = [*adapters.parents_of(manifest), *parents]
        cited = {parent.id for parent in edges if parent.kind == "piece"}
        digest = adapters.adapter_digest(canonical_json(manifest.to_dict()), payload)
        if manifest.user_id is not None:
            self._with_key(manifest.user_id)
        with self._rows.write("adapters") as connection:
            pieces.require(connection, cited)
            row = self._usable(connection, manifest)
            if row is None:
                person = None if manifest.user_id is None else self._key(connection, manifest.user_id)
                place = {"person": person, "run": self._run_key(connection, run_id), "stats": stats or {}}
                with self._written(digest, self._sealed(connection, person, manifest.user_id, digest, payload)):
                    key = adapters.add(connection, manifest, digest, size_bytes=len(payload), **place)
                    adapters.link(connection, key, edges)
            else:
                key, digest, _ = row
            if head:
                heads.set_head(connection, key)
        return digest

    @contextmanager
    def _written(self, digest: str, payload: bytes) -> Iterator[None]:
        """The file first, then the rows; and no file where the rows fail. Alone among publishers and sweepers."""
        self._blobs.write(digest, payload)
        try:
            yield
        except BaseException:
            self._blobs.remove(digest)
            raise

    def _usable(self, connection: Connection, manifest: AdapterManifest) -> Any:
        """The row of an adapter with this manifest; one whose file is damaged is dropped, to be published anew."""
        row = adapters.find(connection, manifest)
        if row is None or self._intact(row):
            return row
        adapters.remove(connection, row.id)
        return None

    def _intact(self, row: Any) -> bool:
        try:
            payload = self._opened(row.digest, row.manifest, self._blobs.read(row.digest))
            return adapters.adapter_digest(row.manifest, payload) == row.digest
        except CorruptBlob:
            return False

    def _run_key(self, connection: Connection, run_id: str | None) -> int | None:
        key = runs.key_of(connection, run_id) if run_id is not None else None
        if run_id is not None and key is None:
            raise _no_run(run_id)
        return key

    def find(self, manifest: AdapterManifest) -> str | None:
        """Digest of the published adapter with exactly this manifest and a sound file, so that no training is done twice."""
        with self._rows.read() as connection:
            row = adapters.find(connection, manifest)
        return row.digest if row is not None and self._intact(row) else None

    def manifest(self, digest: str) -> AdapterManifest:
        """Where an adapter came from and what it fits. Raises AdapterNotFound."""
        return AdapterManifest.from_dict(json.loads(self._get(digest).manifest))

    def payload(self, digest: str) -> bytes:
        """An adapter's bytes, checked against its digest.

        Raises:
            AdapterNotFound: if there is no such adapter.
            CorruptBlob: if its file is gone or is not what was published.
        """
        row = self._get(digest)
        payload = self._opened(digest, row.manifest, self._blobs.read(digest))
        if adapters.adapter_digest(row.manifest, payload) != digest:
            raise CorruptBlob(f"the file of adapter {digest[:12]} is damaged ({self._blobs.path(digest)}); train it again")
        return payload

    def blob_path(self, digest: str) -> Path:
        """Where an adapter's bytes are, encrypted or not; touches neither the database nor the disk, and checks nothing."""
        return self._blobs.path(digest)

    def record(self, digest: str) -> Path | bytes:
        """An adapter as readers of records take it: its file where that is plain, and is not checked; else its bytes.

        Raises:
            CorruptBlob: it is encrypted, and cannot be decrypted.
        """
        return self.payload(digest) if self._is_sealed(digest) else self._blobs.path(digest)

    def _get(self, digest: str) -> Any:
        with self._rows.read() as connection:
            return adapters.get(connection, digest)

    def resolve(self, prefix: str) -> str:
        """The full digest. Raises AdapterNotFound if none starts like this, InputError if several do."""
        with self._rows.read() as connection:
            return adapters.resolve(connection, prefix)

    def adapters(
        self,
        user_id: str | None = None,
        kind: AdapterKind | None = None,
        task: str | None = None,
        base: str | None = None,
        *,
        limit: int | None = None,
    ) -> list[AdapterRow]:
        """Adapters that match, newest first."""
        with self._rows.read() as connection:
            return adapters.listed(connection, adapters.filters(user_id, kind, task, base), limit)

    def head(self, user_id: str, *, task: str, base: str, variant: str = PLAIN) -> str:
        """Digest of the adapter that a person uses for a task on a base (its fingerprint).

        Raises:
            PersonNotFound: if there is no such person.
            AdapterNotFound: if they have none yet; the message has the command that makes one.
        """
        with self._rows.read() as connection:
            key = self._key(connection, user_id)
            found = heads.head(connection, heads.user_key(key, task, base, variant))
            if found is None:
                raise self._no_head(connection, user_id, task, base)
            return found

    def heads(self, *, task: str, base: str, variant: str = PLAIN) -> dict[str, str]:
        """Digest in use by every person who has an adapter for this task, base and variant."""
        rows = self.adapters(task=task, base=base)
        return {row.user_id: row.digest for row in rows if row.is_head and row.variant == variant and row.user_id}

    def task_head(self, task: str, base: str, variant: str = PLAIN) -> str:
        """Digest of the task adapter in use. Raises TaskAdapterNotFound."""
        with self._rows.read() as connection:
            found = heads.head(connection, heads.task_key(task, base, variant))
            if found is None:
                name = adapters.base_name(connection, base)
                raise TaskAdapterNotFound(
                    f"there is no task adapter for {task} on {name!r}; make one: idiolect train --stage task --task {task}"
                )
            return found

    def set_head(self, digest: str) -> None:
        """Put an adapter into use for its own person, task, base and variant.

        Raises:
            AdapterNotFound: if there is no such adapter.
            InputError: if it is an evaluation's pooled control, which nobody uses.
        """
        with self._rows.write("adapters") as connection:
            row = adapters.get(connection, digest)
            if json.loads(row.manifest)["kind"] == "pooled":
                raise InputError(f"adapter {digest[:12]} is the pooled control of an evaluation, and is not there to be used")
            heads.set_head(connection, row.id)

    def rollback(self, user_id: str, task: str, base: str, variant: str = PLAIN) -> str:
        """Put the adapter into use that was in use before; its digest. Again goes one further; `set_head` comes back.

        Raises:
            PersonNotFound: if there is no such person.
            AdapterNotFound: if there is no earlier adapter; the head then stays.
        """
        with self._rows.write("adapters") as connection:
            where = heads.user_key(self._key(connection, user_id), task, base, variant)
            if heads.head(connection, where) is None:
                raise self._no_head(connection, user_id, task, base)
            found = heads.roll_back(connection, where)
            if found is None:
                raise AdapterNotFound(
                    f"user {user_id!r} has no earlier adapter for {task} on {adapters.base_name(connection, base)!r}; "
                    "see which there are: idiolect adapters list"
                )
            return found

    def _no_head(self, connection: Connection, user_id: str, task: str, base: str) -> AdapterNotFound:
        return AdapterNotFound(
            f"user {user_id!r} has no adapter for {task} on {adapters.base_name(connection, base)!r}; "
            f"make one: idiolect train {shlex.quote(user_id)} --task {shlex.quote(task)}"
        )

    def derived_from(self, kind: ParentKind, parent: str, *, user_id: str | None = None) -> list[str]:
        """Digests of the adapters made directly from this parent, oldest first.

        Args:
            user_id: whose item it is; without it, an item id matches items of that id of everybody.
        """
        with self._rows.read() as connection:
            return adapters.derived_from(connection, kind, parent, user_id)

    def parents(self, digest: str) -> list[Parent]:
        """What an adapter was made from. Raises AdapterNotFound."""
        with self._rows.read() as connection:
            return adapters.parents(connection, adapters.get(connection, digest).id)

    def begin_run(self, kind: str, settings: Mapping[str, Any]) -> str:
        """Note that a run has begun; its id. The settings are kept as they are, so leave people's text out of them."""
        with self._rows.write() as connection:
            return runs.begin(connection, kind, settings)

    def end_run(self, run_id: str, status: str, summary: Mapping[str, Any]) -> None:
        """Note how a run ended, e.g. "done", "failed", "stopped". Raises NotFoundError."""
        with self._rows.write() as connection:
            if not runs.end(connection, run_id, status, summary):
                raise _no_run(run_id)

    def runs(self, limit: int | None = None) -> list[RunRow]:
        """Runs, newest first."""
        with self._rows.read() as connection:
            return runs.listed(connection, limit)


def _check_kind(manifest: AdapterManifest) -> None:
    personal = manifest.kind in ("user", "assembled")
    if personal != (manifest.user_id is not None):
        raise InputError(f"adapters of kind {manifest.kind!r} {'need a person' if personal else 'have no person'}")


def _no_run(run_id: str) -> NotFoundError:
    return NotFoundError(f"there is no run {run_id!r}; see which there are: idiolect adapters list")
