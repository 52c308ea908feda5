"""Adapters and their lineage, as rows. Every function runs in the transaction that it is given."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, case, delete, func, insert, or_, select

from idiolect.errors import AdapterNotFound, InputError
from idiolect.store.histories import chunked
from idiolect.store.records import AdapterRow, Parent
from idiolect.store.runs import utc
from idiolect.store.tables import adapters, doomed, heads, lineage, people, runs
from idiolect.types import AdapterManifest, canonical_json, digest_of

_ROWS_PER_QUERY = 1000

PLAIN = "k0"
"""The variant of adapters trained without retrieval and without a profile."""

_POOLED = "-pooled"
# The column `kind` tells only whether an adapter is somebody's; a pooled one is set apart by its variant.
_KIND = case((adapters.c.variant.endswith(_POOLED), "pooled"), else_=adapters.c.kind)


def variant_of(manifest: AdapterManifest) -> str:
    """What sets adapters of one person, task and base apart, e.g. "k0", "bm25-k1", "bm25-k1-profile", "k0-pooled".

    Adapters trained on different prompts do not replace each other: each variant has a head of its own.
    """
    plain = manifest.retriever == "none" or manifest.k == 0
    prompts = (PLAIN if plain else f"{manifest.retriever}-k{manifest.k}") + ("-profile" if manifest.profile else "")
    return prompts + (_POOLED if manifest.kind == "pooled" else "")


def adapter_digest(manifest_text: str, payload: bytes) -> str:
    """SHA-256 over the manifest's canonical JSON followed by the payload: the adapter's name."""
    state = hashlib.sha256(manifest_text.encode())
    state.update(payload)
    return state.hexdigest()


def manifest_hash(manifest: AdapterManifest) -> str:
    """SHA-256 of the manifest alone: what was to be trained, whatever came of it."""
    return digest_of(manifest.to_dict())


def find(connection: Connection, manifest: AdapterManifest) -> Row[Any] | None:
    """(id, digest, manifest) of the adapter with exactly this manifest."""
    c = adapters.c
    query = select(c.id, c.digest, c.manifest).where(c.manifest_hash == manifest_hash(manifest))
    return connection.execute(query).one_or_none()


def add(
    connection: Connection,
    manifest: AdapterManifest,
    digest: str,
    *,
    person: int | None,
    size_bytes: int,
    run: int | None,
    stats: Mapping[str, float],
) -> int:
    """Insert the row; its key."""
    values = {
        "digest": digest,
        "manifest_hash": manifest_hash(manifest),
        "manifest": canonical_json(manifest.to_dict()),
        "kind": "task" if manifest.user_id is None else manifest.kind,
        "person": person,
        "task": manifest.task,
        "base": manifest.base,
        "base_name": manifest.base_name,
        "variant": variant_of(manifest),
        "rank": manifest.rank,
        "size_bytes": size_bytes,
        "created": time.time(),
        "run": run,
        "stats": json.dumps(dict(stats), sort_keys=True),
    }
    connection.execute(delete(doomed).where(doomed.c.digest == digest))
    return connection.execute(insert(adapters).values(values).returning(adapters.c.id)).scalar_one()


def remove(connection: Connection, key: int) -> None:
    """Delete one adapter's row, and with it its place among the heads and its lineage."""
    connection.execute(delete(adapters).where(adapters.c.id == key))


def parents_of(manifest: AdapterManifest) -> Iterator[Parent]:
    """What a manifest says that its adapter was made from."""
    yield Parent("base", manifest.base)
    if manifest.task_adapter is not None:
        yield Parent("task_adapter", manifest.task_adapter)
    if manifest.user_id is not None:
        yield Parent("person", manifest.user_id)
    for item_id in manifest.item_ids:
        yield Parent("item", item_id, manifest.user_id)


def link(connection: Connection, child: int, parents: Iterable[Parent]) -> None:
    """Record what an adapter was made from; the same parent twice counts once."""
    unique = dict.fromkeys((p.kind, p.id, _owner(p)) for p in parents)
    for chunk in chunked(unique, _ROWS_PER_QUERY):
        rows = [{"child": child, "kind": kind, "parent": parent, "owner": owner} for kind, parent, owner in chunk]
        connection.execute(insert(lineage), rows)


def _owner(parent: Parent) -> str:
    return parent.id if parent.kind == "person" else parent.user_id or ""


def derived_from(connection: Connection, kind: str, parent: str, user_id: str | None) -> list[str]:
    """Digests of the adapters that were made from this parent, oldest first."""
    where = [lineage.c.kind == kind, lineage.c.parent == parent]
    if user_id is not None:
        where.append(lineage.c.owner == user_id)
    return list(_children(connection, *where))


def made_from_person(connection: Connection, user_id: str, key: int) -> list[str]:
    """Digests of other people's and task adapters that were made from this person's items, or are copies, also of copies,
    of this person's adapters; oldest first.
    """
    others = or_(adapters.c.person.is_(None), adapters.c.person != key)
    found = dict(_children(connection, lineage.c.owner == user_id, others))
    fresh = list(connection.execute(select(adapters.c.digest).where(adapters.c.person == key)).scalars())
    while fresh:
        copies: dict[str, int] = {}
        for chunk in chunked(fresh, _ROWS_PER_QUERY):
            copies |= _children(connection, lineage.c.kind == "adapter", lineage.c.parent.in_(chunk), others)
        fresh = [digest for digest in copies if digest not in found]
        found |= copies
    return sorted(found, key=found.__getitem__)


def _children(connection: Connection, *where: ColumnElement[bool]) -> dict[str, int]:
    """Adapters with such an edge, by digest, in order of publication."""
    joined = select(adapters.c.digest, adapters.c.id).join(lineage, lineage.c.child == adapters.c.id)
    found = connection.execute(joined.where(*where).distinct().order_by(adapters.c.id))
    return {digest: key for digest, key in found}


def parents(connection: Connection, key: int) -> list[Parent]:
    """The recorded parents of one adapter."""
    c = lineage.c
    found = connection.execute(select(c.kind, c.parent, c.owner).where(c.child == key).order_by(c.kind, c.owner, c.parent))
    return [Parent(kind, parent, owner if owner and kind != "person" else None) for kind, parent, owner in found]


def forget_person(connection: Connection, user_id: str, key: int) -> list[str]:
    """Delete a person's adapters and every edge that names the person; digests of files that now have to go."""
    digests = list(connection.execute(select(adapters.c.digest).where(adapters.c.person == key)).scalars())
    connection.execute(delete(adapters).where(adapters.c.person == key))
    connection.execute(delete(lineage).where(lineage.c.owner == user_id))
    for chunk in chunked(digests, _ROWS_PER_QUERY):
        connection.execute(insert(doomed), [{"digest": digest} for digest in chunk])
    return digests


def doomed_digests(connection: Connection) -> list[str]:
    """Digests of files to remove; none of them has a row."""
    kept = select(adapters.c.id).where(adapters.c.digest == doomed.c.digest).exists()
    return list(connection.execute(select(doomed.c.digest).where(~kept)).scalars())


def clear_doomed(connection: Connection) -> None:
    """Note that those files are gone."""
    connection.execute(delete(doomed))


def known(connection: Connection, digests: Sequence[str]) -> set[str]:
    """Those of the digests that have a row."""
    found: set[str] = set()
    for chunk in chunked(digests, 500):
        found.update(connection.execute(select(adapters.c.digest).where(adapters.c.digest.in_(chunk))).scalars())
    return found


def listed(connection: Connection, where: Sequence[ColumnElement[bool]], limit: int | None) -> list[AdapterRow]:
    """Adapters, newest first."""
    c = adapters.c
    newest = select(func.max(heads.c.id)).join(adapters, heads.c.adapter == c.id).outerjoin(people, c.person == people.c.id)
    newest = newest.where(*where).group_by(c.person, c.task, c.base, c.variant)
    in_use = select(heads.c.adapter).where(heads.c.id.in_(newest))
    kind = _KIND.label("kind")
    columns = (c.digest, kind, people.c.user_id, c.task, c.base, c.base_name, c.variant, c.rank, c.size_bytes, c.created)
    query = select(*columns, c.id.in_(in_use).label("is_head"), runs.c.run_id, c.stats)
    query = query.outerjoin(people, c.person == people.c.id).outerjoin(runs, c.run == runs.c.id)
    found = connection.execute(query.where(*where).order_by(c.id.desc()).limit(limit))
    return [_adapter_row(row) for row in found]


def _adapter_row(row: Row[Any]) -> AdapterRow:
    values = row._asdict()
    stats = json.loads(values.pop("stats") or "{}")
    return AdapterRow(**{**values, "created": utc(row.created), "is_head": bool(row.is_head), "stats": stats})


def filters(user_id: str | None, kind: str | None, task: str | None, base: str | None) -> list[ColumnElement[bool]]:
    """Conditions for `listed`; None means any."""
    wanted = ((people.c.user_id, user_id), (_KIND, kind), (adapters.c.task, task), (adapters.c.base, base))
    return [column == value for column, value in wanted if value is not None]


def get(connection: Connection, digest: str) -> Row[Any]:
    """(id, digest, manifest, person) of one adapter.

    Raises:
        AdapterNotFound: if there is none.
    """
    c = adapters.c
    row = connection.execute(select(c.id, c.digest, c.manifest, c.person).where(c.digest == digest)).one_or_none()
    if row is None:
        raise _absent(digest)
    return row


def resolve(connection: Connection, prefix: str) -> str:
    """The one digest that starts like this.

    Raises:
        AdapterNotFound: if none does.
        InputError: if several do.
    """
    lowered = prefix.lower()
    if not lowered or set(lowered) - set("0123456789abcdef"):
        raise _absent(prefix)
    c = adapters.c.digest
    found = list(connection.execute(select(c).where(c >= lowered, c < lowered + "g").order_by(c).limit(3)).scalars())
    if not found:
        raise _absent(prefix)
    if len(found) > 1:
        raise InputError(
            f"{prefix!r} is the start of several adapters' digests ({found[0][:12]}…, {found[1][:12]}…); give more of it"
        )
    return found[0]


def _absent(digest: str) -> AdapterNotFound:
    return AdapterNotFound(f"there is no adapter {digest[:64]!r}; see which there are: idiolect adapters list")


def base_name(connection: Connection, base: str) -> str:
    """What people call the base with this fingerprint; the fingerprint's start if no adapter was made on it."""
    query = select(adapters.c.base_name).where(adapters.c.base == base).limit(1)
    return connection.execute(query).scalar_one_or_none() or base[:12]
