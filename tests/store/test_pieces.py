from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import LargeBinary, Table, Text, cast, func, select, text, update
from store_making import BASE, manifest, person

from idiolect.errors import AdapterNotFound, CorruptBlob, InputError, PersonNotFound, PieceNotFound
from idiolect.store import database, revoking
from idiolect.store import pieces as piece_rows
from idiolect.store.blobs import Blobs
from idiolect.store.pieces import pool_digest
from idiolect.store.records import ExportKind, ExportRow, Parent, PiecesImported, Revocation
from idiolect.store.store import Store
from idiolect.store.tables import REVISION, metadata, pieces
from idiolect.types import AdapterManifest, digest_of

TASK = {"task": "LaMP-2N", "base": BASE}
KEY = {**TASK, "task_adapter": None, "rank": 8, "alpha": 16.0, "targets": ["q_proj"]}
POOL = pool_digest(KEY)
SECRET = b"\0zanzibar-marmalade-4711\xff"
MODULES = ("layers.0.q_proj", "layers.0.v_proj", "layers.1.q_proj")


@pytest.fixture(autouse=True)
def _people(store: Store) -> None:
    store.import_people(person(user) for user in ("ana", "bob", "cid"))


def trained(store: Store, user: str, seed: int = 0, **changes: Any) -> str:
    return store.publish(manifest(user, seed=seed, **changes), f"{user}{seed}".encode())


def shared(store: Store, user: str, *bodies: bytes, key: dict[str, Any] = KEY) -> tuple[int, ...]:
    """One piece per module, of the person's newest trained adapter."""
    rows = [row.digest for row in store.adapters(user, "user")] or [trained(store, user)]
    return store.share_pieces(key, user, rows[0], list(zip(MODULES, bodies, strict=False))).ids


def recipe(user: str, ids: Sequence[int], **changes: Any) -> AdapterManifest:
    return manifest(user, kind="assembled", settings={"entries": [[piece, 0.5] for piece in ids]}, **changes)


def assembled(store: Store, user: str, ids: Sequence[int], payload: bytes = b"a record", **changes: Any) -> str:
    return store.publish(recipe(user, ids, **changes), payload, parents=cites(*ids))


def cites(*ids: int) -> list[Parent]:
    return [Parent("piece", str(piece)) for piece in ids]


def exported(store: Store, digest: str, place: str, kind: ExportKind, held: Sequence[int] = ()) -> ExportRow:
    return store.export(digest, place, kind, held, lambda: None)


def exists(store: Store, digest: str) -> bool:
    return digest in {row.digest for row in store.adapters()} or store.blob_path(digest).exists()


# -------------------------------------------------------------------------------------------------- sharing, reading


def test_what_is_shared_is_read_back_and_says_nothing_of_whose_it_is(store: Store) -> None:
    digest = trained(store, "ana")
    bodies = [SECRET * 1000, b"", bytes(range(256))]
    answer = store.share_pieces(KEY, "ana", digest, list(zip(MODULES, bodies, strict=True)))
    assert answer.revoked is None
    assert all(0 <= piece < 2**63 for piece in answer.ids)
    found = {piece.id: (piece.module, piece.body) for piece in store.pool_pieces(POOL)}
    assert found == dict(zip(answer.ids, zip(MODULES, bodies, strict=True), strict=True))
    assert [piece.id for piece in store.pool_pieces(POOL)] == sorted(answer.ids)
    assert [piece.id for piece in store.pool_pieces(POOL, MODULES[1])] == [answer.ids[1]]
    wanted = answer.ids[::-1]
    assert [piece.body for piece in store.read_pieces(wanted).values()] == bodies[::-1]
    (pool,) = store.pools()
    assert (pool.digest, pool.key, pool.n_pieces, pool.n_people, pool.n_origins) == (POOL, KEY, 3, 1, 0)
    assert pool.size_bytes == sum(map(len, bodies))
    rows = store.pieces_of("ana")
    assert [(row.module, row.pool, row.adapter) for row in rows] == [(module, POOL, digest) for module in MODULES]
    assert {row.id for row in rows} == set(answer.ids)
    assert store.pieces_of("bob") == []
    assert "zanzibar" not in repr(store.pool_pieces(POOL))


def test_ids_depend_on_nothing_and_never_clash(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = shared(store, "ana", b"a", b"b")
    (gone,) = shared(store, "bob", b"c")
    store.revoke([gone])
    draws = iter([taken[0], gone, 5, 5, 7])
    monkeypatch.setattr(piece_rows.secrets, "randbits", lambda _: next(draws))
    assert set(shared(store, "cid", b"a", b"b")) == {5, 7}


def test_pools_are_apart_by_every_part_of_the_key(store: Store) -> None:
    ana, bob = shared(store, "ana", b"a"), shared(store, "bob", b"a", key={**KEY, "rank": 4})
    assert [piece.id for piece in store.pool_pieces(POOL)] == list(ana)
    assert [(pool.key["rank"], pool.n_pieces) for pool in store.pools()] == [(8, 1), (4, 1)]
    assert pool_digest({**KEY, "targets": ("q_proj",)}) == POOL  # a tuple and a list are one JSON
    assert store.revoke(pool=POOL).pieces == ana
    assert [pool.key["rank"] for pool in store.pools()] == [4]
    assert store.pool_pieces(POOL) == []
    assert store.read_pieces(bob)


def test_sharing_again_restates_consent(store: Store) -> None:
    first = shared(store, "ana", b"a", b"b", b"c")
    other = shared(store, "ana", b"a", key={**KEY, "rank": 4})
    theirs = shared(store, "bob", b"b")
    mine = assembled(store, "cid", [first[1], *theirs])
    kept = assembled(store, "bob", [first[0]])
    newer = trained(store, "ana", seed=1)
    answer = store.share_pieces(KEY, "ana", newer, [(MODULES[2], b"c"), (MODULES[0], b"a"), (MODULES[1], b"other")])
    assert answer.ids[:2] == (first[2], first[0])
    assert answer.ids[2] not in first
    assert answer.revoked is not None
    assert answer.revoked.pieces == (first[1],)
    assert [one.digest for one in answer.revoked.affected] == [mine]
    assert exists(store, kept)
    assert not exists(store, mine)
    assert {row.id for row in store.pieces_of("ana")} == {*answer.ids, *other}
    assert {row.adapter for row in store.pieces_of("ana") if row.pool == POOL} == {newer}
    assert store.share_pieces(KEY, "ana", newer, [(MODULES[1], b"other")]).ids == answer.ids[2:]
    nothing = store.share_pieces(KEY, "ana", newer, [])
    assert (nothing.ids, nothing.revoked and nothing.revoked.pieces) == ((), answer.ids[2:])
    assert {row.id for row in store.pieces_of("ana")} == set(other)


def test_the_same_piece_twice_is_two_pieces(store: Store) -> None:
    digest = trained(store, "ana")
    twice = [(MODULES[0], b"a")] * 2
    first = store.share_pieces(KEY, "ana", digest, twice)
    assert len(set(first.ids)) == 2
    again = store.share_pieces(KEY, "ana", digest, twice)
    assert (set(again.ids), again.revoked) == (set(first.ids), None)


def test_what_cannot_be_shared(store: Store) -> None:
    mine, theirs = trained(store, "ana"), trained(store, "bob")
    (piece,) = shared(store, "bob", b"a")
    made = assembled(store, "ana", [piece])
    what = [(MODULES[0], b"b")]
    for error, key, user, digest, match in (
        (PersonNotFound, KEY, "eve", mine, "eve"),
        (AdapterNotFound, KEY, "ana", "0" * 64, "no adapter"),
        (InputError, KEY, "ana", theirs, "only their own"),
        (InputError, KEY, "ana", made, "assembled"),
        (InputError, {**KEY, "base": "e" * 64}, "ana", mine, "another base"),
        (InputError, {**KEY, "task_adapter": "e" * 64}, "ana", mine, "another task_adapter"),
    ):
        with pytest.raises(error, match=match) as caught:
            store.share_pieces(key, user, digest, what)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="module"):
        store.share_pieces(KEY, "ana", mine, [*what, ("", b"c")])
    assert store.pieces_of("ana") == []
    assert [piece.id for piece in store.pool_pieces(POOL)] == [piece]
    assert len(store.pools()) == 1


def test_a_damaged_piece_is_seen(store: Store) -> None:
    (piece,) = shared(store, "ana", b"a body")
    with store._rows.write("adapters") as connection:
        connection.execute(update(pieces).values(body=b"a bodY"))
    for ask in (lambda: store.pool_pieces(POOL), lambda: store.read_pieces([piece])):
        with pytest.raises(CorruptBlob, match=str(piece)):
            ask()


def test_a_piece_that_is_not_there_is_named(store: Store) -> None:
    (piece,) = shared(store, "ana", b"a")
    for bad in (0, -1, 2**63, 2**80):
        with pytest.raises(PieceNotFound, match=rf"piece {bad} .*idiolect pieces"):
            store.read_pieces([piece, bad])


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_the_version_is_that_of_the_content_alone(store: Store, data: st.DataObject) -> None:
    one = st.dictionaries(st.integers(0, 3), st.tuples(st.sampled_from(MODULES), st.binary(max_size=2)), max_size=4)
    contents = [data.draw(one) for _ in range(2)]
    versions = []
    for content in contents:
        for origin in ("a", "b"):
            store.revoke(origin=origin)
        listed = data.draw(st.permutations(sorted(content.items())))
        for n, (piece, what) in enumerate(listed):
            store.import_pieces(KEY, "ab"[n % 2], [(piece, *what)])
        versions.append(store.pool_version(POOL))
    ids_and_bodies = [{piece: body for piece, (_, body) in content.items()} for content in contents]
    assert (versions[0] == versions[1]) == (ids_and_bodies[0] == ids_and_bodies[1])


# --------------------------------------------------------------------------------------------------------- importing


def test_importing_is_idempotent_and_all_or_nothing(store: Store) -> None:
    given = [(n, MODULES[n % 3], bytes([n])) for n in range(1, 200)]
    assert store.import_pieces(KEY, "file", given[:150]) == PiecesImported(150, 0)
    assert store.import_pieces(KEY, "other", [*given, given[0]]) == PiecesImported(49, 150)
    (pool,) = store.pools()
    assert (pool.n_pieces, pool.n_people, pool.n_origins) == (199, 0, 2)
    before = store.pool_version(POOL)
    for key, bad in (
        (KEY, (5, MODULES[2], b"other")),
        (KEY, (5, MODULES[0], bytes([5]))),
        ({**KEY, "rank": 4}, given[4]),
        (KEY, (-1, MODULES[0], b"")),
        (KEY, (2**63, MODULES[0], b"")),
        (KEY, (1000, MODULES[0], b"unlike the one before")),
    ):
        with pytest.raises(InputError, match=rf"{bad[0]} .*nothing was imported"):
            store.import_pieces(key, "file", [(1000, MODULES[0], b"new"), bad])
    assert store.pool_version(POOL) == before
    assert len(store.pools()) == 1
    assert len(store.revoke(origin="other").pieces) == 49
    assert store.import_pieces(KEY, "file", given) == PiecesImported(49, 150)


def test_own_pieces_come_back_from_a_file_as_what_they_are_and_withdrawn_ones_do_not(store: Store) -> None:
    ids = shared(store, "ana", b"a", b"b")
    file = [(piece.id, piece.module, piece.body) for piece in store.pool_pieces(POOL)]
    assert store.import_pieces(KEY, "file", file) == PiecesImported(0, 2)
    assert {row.id for row in store.pieces_of("ana")} == set(ids)
    store.revoke([ids[0]])
    assert store.import_pieces(KEY, "file", file) == PiecesImported(0, 1, n_withdrawn=1)
    store.delete_person("ana")
    assert store.import_pieces(KEY, "file", file) == PiecesImported(0, 0, n_withdrawn=2)
    assert store.pools() == []


# ----------------------------------------------------------------------------------------------- assembled, published


def test_assembled_and_trained_adapters_share_a_stack(store: Store) -> None:
    (piece,) = shared(store, "ana", b"a")
    own = trained(store, "bob")
    made = assembled(store, "bob", [piece])
    assert store.head("bob", **TASK) == made
    assert store.heads(**TASK)["bob"] == made
    assert {row.digest: (row.kind, row.is_head, row.variant) for row in store.adapters("bob")} == {
        own: ("user", False, "k0"),
        made: ("assembled", True, "k0"),
    }
    assert [row.digest for row in store.adapters(kind="assembled")] == [made]
    assert own in {row.digest for row in store.adapters(kind="user")}
    assert store.rollback("bob", **TASK) == own == store.head("bob", **TASK)
    store.set_head(made)
    assert store.head("bob", **TASK) == made
    assert store.manifest(made).kind == "assembled"
    assert Parent("piece", str(piece)) in store.parents(made)
    assert store.derived_from("piece", str(piece)) == [made]
    with pytest.raises(InputError, match="need a person"):
        store.publish(manifest(None, kind="assembled"), b"x")


def test_nothing_is_published_that_cites_what_is_not_there(store: Store, blobs: Path) -> None:
    ids = shared(store, "ana", b"a", b"b")
    made = assembled(store, "bob", ids)
    store.revoke([ids[0]])
    before = sorted(path.name for path in blobs.glob("*/*"))
    for wrong in (str(ids[0]), f"0{ids[1]}", f"+{ids[1]}", "p1", "", "٣", str(2**64)):
        with pytest.raises(PieceNotFound) as caught:
            store.publish(recipe("bob", ids), b"x", parents=[*cites(ids[1]), Parent("piece", wrong)])
        assert re.fullmatch(rf"piece {re.escape(wrong)} is in no pool .*: idiolect pieces assemble", str(caught.value))
    assert not exists(store, made)
    assert sorted(path.name for path in blobs.glob("*/*")) == before


def test_an_assembly_that_races_with_a_revocation_does_not_survive_it(store: Store, blobs: Path) -> None:
    (piece,) = shared(store, "ana", b"a")
    before = sorted(path.name for path in blobs.glob("*/*"))
    caught: list[BaseException] = []

    def publish() -> None:
        try:
            assembled(store, "bob", [piece])
        except PieceNotFound as error:
            caught.append(error)

    racing = threading.Thread(target=publish)
    with store._rows.write("adapters") as connection:
        revoking.revoke(connection, [piece])
        racing.start()
        racing.join(timeout=0.2)
        assert racing.is_alive()  # waits for its turn
    racing.join()
    assert len(caught) == 1
    assert sorted(path.name for path in blobs.glob("*/*")) == before


# ---------------------------------------------------------------------------------------------------------- revoking


def test_revoking_unpublishes_all_that_cites_a_piece_and_uncovers_what_does_not(store: Store) -> None:
    ana, bob = shared(store, "ana", b"a", b"b"), shared(store, "bob", b"c")
    for user in ("cid", "ana"):
        trained(store, user, seed=9)
    old = assembled(store, "cid", [ana[0]])
    safe = assembled(store, "cid", bob)
    new = assembled(store, "cid", ana)
    mine = assembled(store, "ana", [*bob, ana[0]])
    other = assembled(store, "cid", [ana[0]], profile=True)
    gone = store.revoke([ana[0]])
    assert gone.pieces == (ana[0],)
    assert [(one.user_id, one.digest, one.was_head) for one in gone.affected] == [
        ("ana", mine, True), ("cid", old, False), ("cid", new, True), ("cid", other, True),
    ]  # fmt: skip
    assert gone.affected[-1].variant == "k0-profile"
    assert {(one.kind, one.task, one.base) for one in gone.affected} == {("assembled", "LaMP-2N", BASE)}
    assert gone.affected[2].manifest == recipe("cid", ana)
    assert gone.scrubbed
    assert not any(exists(store, one.digest) for one in gone.affected)
    assert store.head("cid", **TASK) == safe
    assert store.payload(safe) == b"a record"
    assert store.head("ana", **TASK) == next(row.digest for row in store.adapters("ana"))
    with pytest.raises(AdapterNotFound):
        store.head("cid", **TASK, variant="k0-profile")
    assert {piece.id for piece in store.pool_pieces(POOL)} == {ana[1], *bob}
    assert store.derived_from("piece", str(ana[0])) == []


def test_which_pieces_are_revoked(store: Store) -> None:
    ana = shared(store, "ana", b"a", b"b")
    small = shared(store, "ana", b"c", key={**KEY, "rank": 4})
    bob = shared(store, "bob", b"d")
    store.import_pieces(KEY, "file", [(1, MODULES[0], b"e"), (2, MODULES[0], b"f")])
    for bad in (3, -1, 2**70):
        with pytest.raises(PieceNotFound, match=f"piece {bad} "):
            store.revoke([*ana, bad, 4])
    with pytest.raises(PieceNotFound, match=f"piece {bob[0]} "):
        store.revoke([*ana, *bob], user_id="ana")
    with pytest.raises(PersonNotFound):
        store.revoke(user_id="eve")
    with pytest.raises(InputError, match="say which"):
        store.revoke()
    assert store.revoke([]) == store.revoke(origin="nowhere") == store.revoke(pool="nowhere") == Revocation()
    assert len(store.pool_pieces(POOL)) == 5
    assert store.revoke([1], origin="file").pieces == (1,)
    assert store.revoke(user_id="ana", pool=POOL).pieces == tuple(sorted(ana))
    assert store.revoke(user_id="ana").pieces == small
    assert store.revoke(user_id="ana") == Revocation()
    assert store.revoke(pool=POOL).pieces == tuple(sorted((2, *bob)))


def test_what_was_made_from_what_was_assembled_goes_too(store: Store) -> None:
    (piece,) = shared(store, "ana", b"a")
    made = assembled(store, "bob", [piece])
    # An assembled adapter that was exported and imported again looks like one that was trained.
    back = store.publish(manifest("bob", seed=7), b"x", parents=[Parent("adapter", made)])
    cut = store.share_pieces(KEY, "bob", back, [(MODULES[0], b"b")]).ids
    final = assembled(store, "cid", cut)
    apart = trained(store, "cid")
    gone = store.revoke([piece])
    assert gone.pieces == tuple(sorted((piece, *cut)))
    assert [one.digest for one in gone.affected] == [made, back, final]
    assert [one.kind for one in gone.affected] == ["assembled", "user", "assembled"]
    assert {row.digest for row in store.adapters("cid")} == {apart}
    assert store.pools() == []


def test_deleting_a_person_withdraws_what_they_shared(store: Store) -> None:
    ana, bob = shared(store, "ana", b"a", b"b"), shared(store, "bob", b"c")
    assembled(store, "ana", [*ana, *bob])
    theirs = assembled(store, "cid", ana)
    safe = assembled(store, "cid", bob)
    exported(store, store.head("ana", **TASK), "/out/for-ana", "adapter")
    exported(store, theirs, "/out/1", "adapter")
    exported(store, POOL, "/out/pool", "pool", [*ana, *bob])
    gone = store.delete_person("ana")
    assert (gone.n_adapters, gone.n_blobs, gone.n_pieces) == (2, 3, 2)
    assert [(one.digest, one.was_head) for one in gone.affected] == [(theirs, False)]
    assert {row.place for row in gone.stale_exports} == {"/out/for-ana", "/out/1", "/out/pool"}
    assert all(row.stale for row in gone.stale_exports)
    assert [row.place for row in store.exports()] == ["/out/pool", "/out/1"]  # the other one says whose it was
    assert [row.digest for row in store.adapters("cid")] == [safe]
    assert [piece.id for piece in store.pool_pieces(POOL)] == list(bob)
    quiet = store.delete_person("bob")
    assert (quiet.n_pieces, [one.digest for one in quiet.affected]) == (1, [safe])


def test_a_damaged_adapter_that_is_mended_withdraws_nothing(store: Store) -> None:
    digest = trained(store, "ana")
    (piece,) = store.share_pieces(KEY, "ana", digest, [(MODULES[0], b"a")]).ids
    made = assembled(store, "bob", [piece])
    store.blob_path(digest).write_bytes(b"other")
    store.publish(manifest("ana"), b"mended")
    assert [(row.id, row.adapter) for row in store.pieces_of("ana")] == [(piece, None)]
    assert store.head("bob", **TASK) == made


def test_a_revocation_that_a_crash_cut_short_is_finished_on_opening(
    store: Store, location: str, blobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (piece,) = shared(store, "ana", b"a")
    made = assembled(store, "bob", [piece])

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store._blobs, "remove", crash)
        with pytest.raises(KeyboardInterrupt):
            store.revoke([piece])
    assert store.pool_pieces(POOL) == []
    assert store.blob_path(made).exists()
    with Store.open(location, blobs=blobs):
        assert not store.blob_path(made).exists()


def test_a_revocation_that_fails_changes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (piece,) = shared(store, "ana", b"a")
    made = assembled(store, "bob", [piece])

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(piece_rows, "remove", fail)
        with pytest.raises(ZeroDivisionError):
            store.revoke([piece])
    assert store.head("bob", **TASK) == made
    assert [found.id for found in store.pool_pieces(POOL)] == [piece]
    assert store.payload(made) == b"a record"


# -------------------------------------------------------------------------------------------------------- no traces


def in_rows(store: Store, what: bytes) -> list[str]:
    """Tables that hold these bytes in any column, as the database itself sees it."""
    found: list[str] = []
    with store._rows.read() as connection:
        for table in metadata.sorted_tables:
            if any(holds(row, what) for row in connection.execute(select(*readable(table)))):
                found.append(table.name)
    return found


def readable(table: Table) -> list[Any]:
    return [column if isinstance(column.type, LargeBinary) else cast(column, Text) for column in table.c]


def holds(row: Any, what: bytes) -> bool:
    return any(what in (value.encode() if isinstance(value, str) else bytes(value)) for value in row if value is not None)


def in_files(store: Store, blobs: Path, what: bytes) -> list[str]:
    """Files that hold these bytes: of the store's folder, database and -wal included; on PostgreSQL, of adapters."""
    folder = Path(store.place) if store._rows.is_sqlite else blobs
    return [path.name for path in folder.rglob("*") if path.is_file() and what in path.read_bytes()]


@pytest.mark.parametrize("way", ["piece", "person", "again", "deletion", "origin"])
def test_nothing_of_a_withdrawn_piece_is_left(store: Store, blobs: Path, way: str) -> None:
    body, kept = SECRET + bytes(50_000) + SECRET, b"bob's piece, which stays" * 400
    (theirs,) = shared(store, "bob", kept)
    if way == "origin":
        piece = 77_123_456_789
        store.import_pieces(KEY, "the file", [(piece, MODULES[0], body)])
    else:
        (piece,) = shared(store, "ana", body)
    made = assembled(store, "cid", [piece, theirs], b"a bank's row: " + body)
    assert in_rows(store, SECRET) == ["pieces"]
    assert in_files(store, blobs, SECRET)
    digest = trained(store, "ana")
    gone = {
        "piece": lambda: store.revoke([piece]),
        "person": lambda: store.revoke(user_id="ana"),
        "again": lambda: store.share_pieces(KEY, "ana", digest, [(MODULES[0], b"another")]).revoked,
        "deletion": lambda: store.delete_person("ana"),
        "origin": lambda: store.revoke(origin="the file"),
    }[way]()
    assert gone is not None
    assert gone.scrubbed
    assert [one.digest for one in gone.affected] == [made]
    for what in (SECRET, made.encode(), digest_of(body).encode()):
        assert in_rows(store, what) == []
        assert in_files(store, blobs, what) == []
    # Its number is all that is remembered, and only where somebody of this store withdrew it.
    assert in_rows(store, str(piece).encode()) == ([] if way == "origin" else ["withdrawn"])
    assert in_rows(store, kept) == ["pieces"]


def test_a_reader_in_the_way_of_scrubbing_is_reported(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s", timeout_s=0.1) as store, Store.open(tmp_path / "s") as other:
        store.add_person(person("ana"))
        (piece,) = shared(store, "ana", b"a")
        with other._rows.read() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM items").scalar()
            assert not store.revoke([piece]).scrubbed
        assert store.revoke(user_id="ana").scrubbed


# ---------------------------------------------------------------------------------------------------------- exports


def test_exports_become_stale_with_what_is_in_them(store: Store) -> None:
    ana, bob = shared(store, "ana", b"a", b"b"), shared(store, "bob", b"c")
    made, safe = assembled(store, "cid", ana), assembled(store, "cid", bob)
    for digest, place in ((made, "/a/made"), (safe, "/a/safe")):
        noted = exported(store, digest, place, "adapter")
        assert (noted.kind, noted.digest, noted.place, noted.stale) == ("adapter", digest, place, False)
    exported(store, POOL, "/p/all", "pool", [*ana, *bob])
    exported(store, POOL, "/p/bob", "pool", bob)
    assert [row.place for row in store.exports()] == ["/p/bob", "/p/all", "/a/safe", "/a/made"]
    assert store.exports(stale=True) == []
    gone = store.revoke([ana[0]])
    assert [row.place for row in gone.stale_exports] == ["/p/all", "/a/made"]
    assert list(gone.stale_exports) == store.exports(stale=True)
    assert [row.place for row in store.exports(stale=False)] == ["/p/bob", "/a/safe"]
    assert [row.place for row in store.revoke([ana[1]]).stale_exports] == ["/p/all"]
    exported(store, POOL, "/p/all", "pool", bob)  # written anew
    assert [row.place for row in store.exports(stale=True)] == ["/a/made"]
    assert len(store.exports()) == 4


def test_what_is_gone_is_not_exported(store: Store, tmp_path: Path) -> None:
    ids = shared(store, "ana", b"a", b"b")
    made = assembled(store, "bob", ids[:1])
    store.revoke(ids[:1])
    place = tmp_path / "out"
    for digest, kind, held, error in ((made, "adapter", (), AdapterNotFound), (POOL, "pool", ids, PieceNotFound)):
        with pytest.raises(error):
            store.export(digest, str(place), kind, held, place.touch)
    assert (store.exports(), place.exists()) == ([], False)
    assert not exported(store, POOL, "/q", "pool", ids[1:]).stale
    with pytest.raises(InputError, match="place"):
        exported(store, POOL, "a\0b", "pool")


@pytest.mark.parametrize("who", ["revoke", "delete_person"])
@pytest.mark.parametrize("what", ["adapter", "pool"])
def test_what_goes_while_it_is_written_does_not_stay_there(store: Store, tmp_path: Path, what: ExportKind, who: str) -> None:
    ids = shared(store, "ana", b"a")
    made = store.head("ana", **TASK) if who == "delete_person" else assembled(store, "bob", ids)
    place, held = tmp_path / "out", ids if what == "pool" else ()

    def write() -> None:
        assert [(row.place, row.stale) for row in store.exports()] == [(str(place), False)]  # in case of a kill
        if what == "adapter":
            place.mkdir()
            (place / "weights").touch()
        else:
            place.touch()
        if who == "revoke":
            store.revoke(ids)
        else:
            store.delete_person("ana")

    error, words = (AdapterNotFound, "adapter") if what == "adapter" else (PieceNotFound, "a piece of pool")
    with pytest.raises(error, match=f"{words} .* was withdrawn meanwhile; what was written was removed; ") as caught:
        store.export(POOL if what == "pool" else made, str(place), what, held, write)
    assert "\n" not in str(caught.value)
    assert (place.exists(), store.exports()) == (False, [])


def test_what_cannot_be_written_is_not_noted_and_what_is_there_stays_so(store: Store) -> None:
    """A kill while writing leaves both notes: nobody knows which of the two lies there."""
    first, second = trained(store, "ana"), trained(store, "bob")
    exported(store, first, "/out", "adapter")

    def broken() -> None:
        raise OSError("full")

    def killed() -> None:
        raise KeyboardInterrupt

    with pytest.raises(OSError, match="full"):
        store.export(second, "/out", "adapter", (), broken)
    assert [row.digest for row in store.exports()] == [first]
    with pytest.raises(KeyboardInterrupt):
        store.export(second, "/out", "adapter", (), killed)
    assert [row.digest for row in store.exports()] == [second, first]
    assert exported(store, second, "/out", "adapter").user_id == "bob"
    assert [row.digest for row in store.exports()] == [second]


def test_no_export_of_a_deleted_person_is_on_record(store: Store) -> None:
    """Neither of what they have nor of what a withdrawal took from them before: its place may say whose it was."""
    pieces = shared(store, "ana", b"a")
    gone, kept = assembled(store, "cid", pieces), trained(store, "cid")
    for digest, place in ((gone, "/out/cid-once"), (kept, "/out/cid"), (store.head("ana", **TASK), "/out/ana")):
        exported(store, digest, place, "adapter")
    exported(store, gone, "/out/cid-once-more", "adapter")
    store.revoke(pieces)
    assert [(row.place, row.user_id) for row in store.exports(stale=True)] == [
        ("/out/cid-once-more", "cid"),
        ("/out/cid-once", "cid"),
    ]
    named = store.delete_person("cid").stale_exports
    assert [row.place for row in named] == ["/out/cid-once-more", "/out/cid", "/out/cid-once"]
    assert all(row.stale for row in named)
    assert [row.place for row in store.exports()] == ["/out/ana"]
    assert store.delete_person("bob").stale_exports == ()


# -------------------------------------------------------------------------------------------------------- migration


def alembic(rows: database.Database, revision: str, *, down: bool = False) -> None:
    config = Config()
    config.set_main_option("script_location", str(database.MIGRATIONS))
    with rows.write("histories") as connection:
        config.attributes["connection"] = connection
        (command.downgrade if down else command.upgrade)(config, revision)


def test_a_store_of_the_first_schema_opens_and_keeps_everything(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    blobs, place = tmp_path / "files", str(tmp_path / "old")
    if kind == "sqlite":
        Path(place).mkdir()
        rows = database.sqlite(Path(place) / "idiolect.db", timeout_s=5)
    else:
        rows = database.postgres(place := request.getfixturevalue("new_database"), timeout_s=5)
    alembic(rows, REVISION)
    old = Store(rows, Blobs(blobs))
    old.add_person(person("ana", 3))
    first, second = (old.publish(manifest(seed=seed), b"payload") for seed in range(2))
    alembic(rows, "0001", down=True)
    old.close()
    with Store.open(place, blobs=blobs) as store:
        assert store.person("ana") == person("ana", 3)
        assert store.head("ana", **TASK) == second
        assert store.payload(first) == b"payload"
        (piece,) = shared(store, "ana", b"a")
        made = assembled(store, "ana", [piece])
        assert store.rollback("ana", **TASK) == second
        with store._rows.read() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, metadata) == []
            assert context.get_current_revision() == REVISION
        alembic(store._rows, "0001", down=True)
        with store._rows.read() as connection:
            assert connection.execute(text("SELECT count(*) FROM adapters")).scalar() == 2
    with Store.open(place, blobs=blobs) as store:
        assert store.head("ana", **TASK) == second
        assert made not in {row.digest for row in store.adapters()}


def test_a_piece_is_either_somebodys_or_from_somewhere(store: Store) -> None:
    shared(store, "ana", b"a")
    store.import_pieces(KEY, "file", [(1, MODULES[0], b"b")])
    with store._rows.read() as connection:
        owners = select(func.count(pieces.c.person), func.count(pieces.c.origin), func.count())
        assert tuple(connection.execute(owners).one()) == (1, 1, 2)


# -------------------------------------------------------------------------------------------------------- any sequence


class Sharing(RuleBasedStateMachine):
    """The store against a model of it: who shares what, and each person's stack of (digest, pieces cited)."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        for one in self.store.people():
            self.store.delete_person(one.id)
        self.shared: dict[int, tuple[str, tuple[str, bytes]]] = {}
        self.stacks: dict[str, list[tuple[str, frozenset[int]]]] = {}
        self.n = 0

    @rule(user=st.sampled_from(["ana", "bob", "cid"]))
    def add(self, user: str) -> None:
        if user not in self.stacks:
            self.store.add_person(person(user))
            self.stacks[user] = [(trained(self.store, user), frozenset())]

    @precondition(lambda self: self.stacks)
    @rule(data=st.data(), what=st.lists(st.tuples(st.sampled_from(MODULES), st.sampled_from([b"a", b"b"])), max_size=3))
    def share(self, data: st.DataObject, what: list[tuple[str, bytes]]) -> None:
        user = data.draw(st.sampled_from(sorted(self.stacks)))
        before = {piece: content for piece, (owner, content) in self.shared.items() if owner == user}
        answer = self.store.share_pieces(KEY, user, self.stacks[user][0][0], what)
        after = dict(zip(answer.ids, what, strict=True))
        assert len(after) == len(what)
        contents = list(before.values())
        n_same = sum(min(what.count(one), contents.count(one)) for one in set(what))
        assert len(after.keys() & before) == n_same
        assert set(answer.revoked.pieces if answer.revoked else ()) == before.keys() - after
        self.withdraw_from_model(before.keys() - after, answer.revoked)
        self.shared |= {piece: (user, content) for piece, content in after.items()}

    @precondition(lambda self: self.stacks and self.shared)
    @rule(data=st.data())
    def assemble(self, data: st.DataObject) -> None:
        user = data.draw(st.sampled_from(sorted(self.stacks)))
        ids = data.draw(st.lists(st.sampled_from(sorted(self.shared)), min_size=1, max_size=3, unique=True))
        self.n += 1
        digest = assembled(self.store, user, ids, seed=self.n)
        self.stacks[user].append((digest, frozenset(ids)))

    @precondition(lambda self: self.shared)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(sorted(self.shared)), min_size=1, max_size=2))
        gone = self.store.revoke(ids)
        assert gone.pieces == tuple(sorted(set(ids)))
        self.withdraw_from_model(ids, gone)

    @precondition(lambda self: self.stacks)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        user = data.draw(st.sampled_from(sorted(self.stacks)))
        ids = [piece for piece, (owner, _) in self.shared.items() if owner == user]
        n_adapters = len(self.stacks.pop(user))
        gone = self.store.delete_person(user)
        assert (gone.n_adapters, gone.n_pieces) == (n_adapters, len(ids))
        self.withdraw_from_model(ids, gone)

    def withdraw_from_model(self, ids: Any, gone: Any) -> None:
        cut = set(ids)
        expected = [
            (user, digest, n + 1 == len(stack))
            for user, stack in sorted(self.stacks.items())
            for n, (digest, cited) in enumerate(stack)
            if cited & cut
        ]
        assert [(one.user_id, one.digest, one.was_head) for one in (gone.affected if gone else ())] == expected
        self.stacks = {user: [one for one in stack if not one[1] & cut] for user, stack in self.stacks.items()}
        for piece in cut:
            del self.shared[piece]

    @invariant()
    def agrees(self) -> None:
        found = {piece.id: (piece.module, piece.body) for piece in self.store.pool_pieces(POOL)}
        assert found == {piece: content for piece, (_, content) in self.shared.items()}
        for user, stack in self.stacks.items():
            mine = {piece for piece, (owner, _) in self.shared.items() if owner == user}
            assert {row.id for row in self.store.pieces_of(user)} == mine
            for digest, cited in stack:
                assert {int(p.id) for p in self.store.parents(digest) if p.kind == "piece"} == cited <= found.keys()
        assert self.store.heads(**TASK) == {user: stack[-1][0] for user, stack in self.stacks.items()}
        files = {path.name for path in self.store.blob_path("00").parents[1].glob("*/*")}
        assert files == {digest for stack in self.stacks.values() for digest, _ in stack}


def test_any_sequence_of_sharing_assembling_and_withdrawing(store: Store) -> None:
    machine = type("Bound", (Sharing,), {"store": store})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck), database=None
        ),
    )
