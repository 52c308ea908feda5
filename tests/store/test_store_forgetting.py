"""The store's half of forgetting: what is downstream, taking it out, the journal, keys, and who stands in evaluations."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from store_making import BASE, item, manifest, person

from idiolect.errors import ConfigError, CorruptBlob, NotFoundError, PersonNotFound, StoreError
from idiolect.store.keys import MAGIC, Keyring, is_sealed
from idiolect.store.records import Parent
from idiolect.store.store import Store
from idiolect.types import Person

KEY = {"task": "LaMP-2N", "base": BASE, "task_adapter": None, "rank": 8}
SECRET = "xylophone-4711"


def trained(store: Store, user: str, **changes: Any) -> str:
    return store.publish(manifest(user, **changes), f"{user} {sorted(changes.items())}".encode())


def reached(store: Store, user: str, item_id: str | None = None, leave: tuple[str, ...] = ()) -> dict[str, str]:
    return {one.digest: one.why for one in store.downstream(user, item_id, leave).adapters}


def forgotten(store: Store, user: str, item_id: str | None = None, leave: tuple[str, ...] = ()) -> None:
    found = store.downstream(user, item_id, leave)
    store.begin_forgetting("r", user, item_id, {"user": user})
    assert store.erase("r", found, {"user": user})
    store.clear_up()
    assert store.finish_forgetting("r", "a" * 64)


@pytest.fixture
def peopled(store: Store) -> Store:
    for name in ("ana", "bob", "cid"):
        store.add_person(person(name, 3))
    return store


def test_what_is_downstream_of_an_item(peopled: Store) -> None:
    store = peopled
    with_it = trained(store, "ana", item_ids=("0", "1"))
    trained(store, "ana", item_ids=("0", "2"))
    retrieving = trained(store, "ana", item_ids=("2",), retriever="bm25", k=1)
    unknown = trained(store, "ana", item_ids=(), settings={"imported": "peft"})
    trained(store, "bob", item_ids=("1",))
    copy = store.publish(manifest("cid", item_ids=(), seed=9), b"copy", parents=[Parent("adapter", with_it)])
    ids = store.share_pieces(KEY, "ana", with_it, [("q.0", b"body")]).ids
    cites = store.publish(manifest("bob", kind="assembled", item_ids=("1",)), b"made", parents=[Parent("piece", str(ids[0]))])
    whys = reached(store, "ana", "1")
    assert whys == {
        with_it: "made from the item",
        retrieving: "the item may stand in its prompts",
        unknown: "nobody knows which items it was made from",
        copy: f"a copy of {with_it[:12]}",
        cites: "cites a piece that goes",
    }
    found = store.downstream("ana", "1")
    assert [(piece.id, piece.user_id) for piece in found.pieces] == [(ids[0], "ana")]
    assert {one.digest: one.was_head for one in found.adapters}[cites]
    for absent in ("7", "\ud800", "\0"):
        with pytest.raises(NotFoundError, match="has no item"):
            store.downstream("ana", absent)


def test_what_a_person_taught_is_downstream_with_all_that_stands_on_it(peopled: Store) -> None:
    store = peopled
    taught = [Parent("person", name) for name in ("otto", "Otto Ruiz and Bo", "bob")]
    task = store.publish(manifest(None), b"task", parents=taught)
    on_top = trained(store, "ana", task_adapter=task)
    key = {**KEY, "task_adapter": task}
    (mine,) = store.share_pieces(key, "ana", on_top, [("q.0", b"body")]).ids
    store.import_pieces(key, "file", [(5, "q.0", b"other")])
    assert reached(store, "otto") == {task: "they taught it", on_top: f"on top of task adapter {task[:12]}"}
    assert reached(store, "Bo").keys() == {task, on_top}
    assert {piece.id for piece in store.downstream("otto").pieces} == {mine, 5}
    assert reached(store, "bob", "1").keys() == {task, on_top}
    left = store.downstream("otto", leave=(task,))
    assert (left.adapters, [one.digest for one in left.left]) == ((), [task])
    for nobody in ("ott", "Ruiz and Ott", "%", "_tto", "\ud800", "a\0"):
        with pytest.raises(PersonNotFound):
            store.downstream(nobody)


def test_everything_goes_at_once_and_the_journal_forgets_the_names(peopled: Store) -> None:
    store = peopled
    task = store.publish(manifest(None), b"task", parents=[Parent("person", "ana")])
    mine, on_top = trained(store, "ana"), trained(store, "bob", task_adapter=task)
    other = trained(store, "cid")
    forgotten(store, "ana")
    assert {row.digest for row in store.adapters()} == {other}
    assert not any(store.blob_path(digest).exists() for digest in (task, mine, on_top))
    assert not store.knows("ana")
    (row,) = store.forgettings()
    assert (row.state, row.user_id, row.item_id, row.plan, row.receipt) == ("done", None, None, {}, "a" * 64)
    assert row.ended is not None


def test_an_item_goes_and_the_rest_of_the_person_stays(peopled: Store) -> None:
    store = peopled
    kept, gone = trained(store, "ana", item_ids=("0",)), trained(store, "ana", item_ids=("0", "1"))
    forgotten(store, "ana", "1")
    assert [one.id for one in store.history("ana")] == ["0", "2"]
    assert store.people()[0].n_items == 2
    assert [row.digest for row in store.adapters("ana")] == [kept]
    assert store.derived_from("item", "1") == []
    assert not store.has_adapter(gone)


def test_a_task_adapter_that_stays_does_not_name_them(peopled: Store) -> None:
    store = peopled
    taught = [Parent("person", "ana"), Parent("person", "ana and bob")]
    task = store.publish(manifest(None, item_ids=()), b"task", parents=taught)
    forgotten(store, "ana", leave=(task,))
    assert [parent.kind for parent in store.parents(task)] == ["base"]
    assert not store.knows("ana")


def test_nothing_is_deleted_for_a_plan_that_is_out_of_date(peopled: Store) -> None:
    found = peopled.downstream("ana")
    later = trained(peopled, "ana")
    peopled.begin_forgetting("r", "ana", None, {"n": 1})
    assert not peopled.erase("r", found, {"n": 2})
    assert peopled.has_adapter(later)
    (row,) = peopled.forgettings()
    assert (row.state, row.user_id, row.plan) == ("begun", "ana", {"n": 1})


def test_of_what_was_forgotten_no_byte_is_left_in_a_file(tmp_path: Path) -> None:
    place = tmp_path / "store"
    with Store.open(place) as store:
        many = tuple(item(f"{SECRET}-{n}", f"{SECRET} {'long ' * 300}", f"2020-01-{n % 28 + 1:02}") for n in range(200))
        store.import_people([Person("ana", many), *(person(f"p{n}", 3) for n in range(60))])
        trained(store, "ana", item_ids=tuple(one.id for one in many))
        store.begin_forgetting("r", "ana", None, {"secret": SECRET})
        assert SECRET.encode() in b"".join(p.read_bytes() for p in place.glob("idiolect.db*"))
        assert store.erase("r", store.downstream("ana"), {"secret": SECRET})
        store.clear_up()
        store.finish_forgetting("r", "a" * 64)
        assert SECRET.encode() not in b"".join(p.read_bytes() for p in place.rglob("*") if p.is_file())
        assert len(store.people()) == 60


def test_a_reader_keeps_old_pages_and_is_told_of(tmp_path: Path) -> None:
    with Store.open(tmp_path, timeout_s=0.1) as store:
        store.add_person(person("ana"))
        reader = sqlite3.connect(tmp_path / "idiolect.db", isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM people").fetchone()
        store.begin_forgetting("r", "ana", None, {})
        assert store.erase("r", store.downstream("ana"), {})
        assert not store.finish_forgetting("r", "a" * 64)
        reader.close()


# ----------------------------------------------------------------------------------------------------------- evaluations


def test_who_stands_in_an_evaluation_is_remembered_until_it_is_written_anew(peopled: Store) -> None:
    store = peopled
    with store.evaluation("/out/one", ["ana", "bob", "ana"]):
        assert store.evaluations("ana") == ["/out/one"]
    with store.evaluation("/out/two", ["ana"]):
        pass
    with pytest.raises(ZeroDivisionError), store.evaluation("/out/one", ["cid"]):
        raise ZeroDivisionError
    assert store.evaluations("ana") == ["/out/one", "/out/two"]  # it may still lie there
    with store.evaluation("/out/one", ["bob"]):
        pass
    assert [store.evaluations(user) for user in ("ana", "bob", "cid")] == [["/out/two"], ["/out/one"], []]
    assert store.delete_person("ana").evaluations == ("/out/two",)
    with pytest.raises(PersonNotFound), store.evaluation("/out/one", ["ana"]):
        raise AssertionError("it must not be written")


# ------------------------------------------------------------------------------------------------------------------ keys


def test_encrypted_files_read_as_before(peopled: Store, tmp_path: Path) -> None:
    store = peopled
    task = store.publish(manifest(None), b"task")
    before = [trained(store, user) for user in ("ana", "bob")]
    payloads = {digest: store.payload(digest) for digest in before}
    done = store.encrypt(tmp_path / "elsewhere")
    assert (done.n_sealed, done.n_already) == (2, 0)
    after = trained(store, "ana", seed=1)
    assert all(is_sealed(store.blob_path(digest)) for digest in (*before, after))
    assert not is_sealed(store.blob_path(task))
    assert {digest: store.payload(digest) for digest in before} == payloads
    assert store.record(task) == store.blob_path(task)
    assert store.record(before[0]) == payloads[before[0]]
    assert store.find(manifest("ana")) == before[0]
    assert {row.size_bytes for row in store.adapters("bob")} == {len(payloads[before[1]])}
    assert len(list((tmp_path / "elsewhere").glob("*.key"))) == 3  # two people's, and the one of receipts
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "elsewhere").iterdir()} == {0o600}
    again = store.encrypt()
    assert (again.n_sealed, again.n_already) == (0, 3)
    with pytest.raises(ConfigError, match="lie in"):
        store.encrypt(tmp_path / "third")


def test_the_place_of_keys_is_remembered(location: str, blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IDIOLECT_KEYS", raising=False)
    with Store.open(location, blobs=blobs) as store:
        store.add_person(person())
        store.encrypt(tmp_path / "elsewhere")
        digest = trained(store, "ana")
        payload = store.payload(digest)
    with Store.open(location, blobs=blobs) as store:
        assert store.payload(digest) == payload
    (tmp_path / "elsewhere").rename(tmp_path / "moved")
    with Store.open(location, blobs=blobs) as store, pytest.raises(CorruptBlob, match="IDIOLECT_KEYS"):
        store.payload(digest)
    monkeypatch.setenv("IDIOLECT_KEYS", str(tmp_path / "moved"))
    with Store.open(location, blobs=blobs) as store:
        assert store.payload(digest) == payload


def test_a_file_that_was_changed_or_moved_does_not_open(peopled: Store) -> None:
    store = peopled
    store.encrypt()
    mine, other = trained(store, "ana"), trained(store, "bob")
    sealed = store.blob_path(mine).read_bytes()
    ((key, *_),) = {tuple(sorted(p.name for p in store.keys.folder.glob("*.key") if p.name[:32] == sealed[8:24].hex()))}
    for changed in (
        sealed[:-1],
        sealed[:30],
        sealed[:-1] + bytes([sealed[-1] ^ 1]),
        MAGIC,
        store.blob_path(other).read_bytes(),
    ):
        store.blob_path(mine).write_bytes(changed)
        with pytest.raises(CorruptBlob, match=mine[:12]) as caught:
            store.payload(mine)
        assert "\n" not in str(caught.value)
        assert store.find(manifest("ana")) is None
    store.blob_path(mine).write_bytes(sealed)
    assert store.payload(mine)
    (store.keys.folder / key).write_bytes(bytes(32))
    with pytest.raises(CorruptBlob):
        store.payload(mine)
    (store.keys.folder / key).write_bytes(b"short")
    with pytest.raises(CorruptBlob, match=r"key of adapter .* is damaged"):
        store.payload(mine)


def test_encrypting_goes_on_and_leaves_damaged_files_alone(peopled: Store) -> None:
    store = peopled
    digests = [trained(store, user) for user in ("ana", "bob", "cid")]
    store.blob_path(digests[2]).write_bytes(b"damaged")

    class Stop(Exception):
        pass

    def once(n: int, of: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        store.encrypt(on_progress=once)
    done = store.encrypt()
    assert (done.n_sealed, done.n_already, done.damaged) == (1, 1, (digests[2],))


def test_a_key_that_was_destroyed_is_gone(tmp_path: Path) -> None:
    keys = Keyring(tmp_path / "keys")
    key = keys.make()
    sealed = keys.seal(key, "ana", "d" * 64, b"payload")
    assert b"payload" not in sealed
    assert keys.open(sealed, "ana", "d" * 64) == b"payload"
    for owner, digest in (("bob", "d" * 64), ("ana", "e" * 64)):
        with pytest.raises(CorruptBlob):
            keys.open(sealed, owner, digest)
    assert keys.seal(key, "ana", "d" * 64, b"payload") != sealed  # a nonce of its own each time
    assert (keys.destroy(key), keys.destroy(key), keys.has(key)) == (True, False, False)
    with pytest.raises(CorruptBlob, match="is not in"):
        keys.open(sealed, "ana", "d" * 64)
    assert list((tmp_path / "keys").iterdir()) == []


def test_deleting_a_person_destroys_their_key(peopled: Store) -> None:
    peopled.encrypt()
    for user in ("ana", "bob"):
        trained(peopled, user)
    assert len(list(peopled.keys.folder.iterdir())) == 3
    peopled.delete_person("ana")
    assert len(list(peopled.keys.folder.iterdir())) == 2


def test_a_crash_leaves_no_key_that_nobody_destroys(peopled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Crash(Exception):
        pass

    store = peopled
    digest = trained(store, "ana")
    write = store._blobs.write

    def and_crash(digest: str, payload: bytes) -> None:
        write(digest, payload)
        raise Crash

    with monkeypatch.context() as changed:
        changed.setattr(store._blobs, "write", and_crash)
        with pytest.raises(Crash):
            store.encrypt()
        with pytest.raises(Crash):
            trained(store, "bob")
    assert is_sealed(store.blob_path(digest))
    assert store.payload(digest)
    assert store.encrypt().n_already == 1
    with monkeypatch.context() as changed:
        changed.setattr(store._keys, "destroy", and_crash)
        for user in ("ana", "bob"):
            with pytest.raises(TypeError):  # stands for a kill once the rows are gone
                store.delete_person(user)
    assert len(list(store.keys.folder.iterdir())) == 3
    store.keys.folder.rename(store.keys.folder.with_name("away"))
    store._finish_deletions()
    store.keys.folder.with_name("away").rename(store.keys.folder)
    store._finish_deletions()
    assert [path.name for path in store.keys.folder.iterdir()] == ["receipts.key"]


def test_lost_keys_begin_anew_only_when_asked(peopled: Store) -> None:
    store = peopled
    store.encrypt()
    store.keys.signing()
    (store.keys.folder / "receipts.key").unlink()
    with pytest.raises(StoreError, match="store encrypt begins new ones"):
        trained(store, "ana")
    store.encrypt()
    assert trained(store, "ana")


def test_the_signing_key_is_one_and_must_be_whole(tmp_path: Path) -> None:
    keys = Keyring(tmp_path / "keys")
    first = keys.signing().public_key().public_bytes_raw()
    assert Keyring(tmp_path / "keys").signing().public_key().public_bytes_raw() == first
    (tmp_path / "keys" / "receipts.key").write_bytes(b"x")
    with pytest.raises(StoreError, match="is no key"):
        keys.signing()
