from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from store_making import BASE, manifest, person

from idiolect.errors import AdapterNotFound, CorruptBlob, InputError, NotFoundError, PersonNotFound, TaskAdapterNotFound
from idiolect.store.adapters import variant_of
from idiolect.store.records import Parent
from idiolect.store.store import Store
from idiolect.types import AdapterManifest, canonical_json, digest_of

TASK = {"task": "LaMP-2N", "base": BASE}


@pytest.fixture(autouse=True)
def _someone(store: Store) -> None:
    store.add_person(person("ana"))


def test_publish_and_read_back(store: Store) -> None:
    wanted = manifest(settings={"rate": 1e-4, "targets": ("a", "b"), "ünïcode": None})
    digest = store.publish(wanted, b"\0payload", stats={"loss": 0.5, "nan": float("nan")})
    assert digest == hashlib.sha256(canonical_json(wanted.to_dict()).encode() + b"\0payload").hexdigest()
    assert store.payload(digest) == store.blob_path(digest).read_bytes() == b"\0payload"
    assert canonical_json(store.manifest(digest).to_dict()) == canonical_json(wanted.to_dict())
    assert "ana" not in str(store.blob_path(digest).relative_to(store.blob_path(digest).parents[1]))
    assert store.head("ana", **TASK) == digest
    (row,) = store.adapters()
    assert (row.digest, row.user_id, row.kind, row.variant) == (digest, "ana", "user", "k0")
    assert (row.is_head, row.size_bytes) == (True, 8)
    assert row.stats["loss"] == 0.5
    assert row.created.tzinfo is not None


def test_publishing_again_changes_nothing(store: Store) -> None:
    first = store.publish(manifest(), b"x")
    assert store.publish(manifest(), b"x") == first
    assert store.publish(manifest(), b"the same work, other rounding") == first
    assert store.payload(first) == b"x"
    assert len(store.adapters()) == 1
    assert [p.name for p in store.blob_path(first).parents[1].glob("*/*")] == [first]


def test_find_is_by_every_field_of_the_manifest(store: Store) -> None:
    digest = store.publish(manifest(), b"x")
    assert store.find(AdapterManifest.from_dict(store.manifest(digest).to_dict())) == digest
    changes = [{"seed": 1}, {"rank": 4}, {"item_ids": ("1", "0")}, {"history": "h"}, {"settings": {}}, {"profile": True}]
    assert [store.find(manifest(**change)) for change in changes] == [None] * len(changes)


@pytest.mark.parametrize("damage", ["gone", "altered", "short"])
def test_a_damaged_file_is_seen_and_mended_by_publishing_again(store: Store, damage: str) -> None:
    digest = store.publish(manifest(), b"payload")
    path = store.blob_path(digest)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"altered": b"paYload", "short": b"pay"}[damage])
    with pytest.raises(CorruptBlob, match=digest[:12]):
        store.payload(digest)
    assert store.find(manifest()) is None
    mended = store.publish(manifest(), b"other bytes")
    assert mended != digest
    assert store.head("ana", **TASK) == mended
    assert store.payload(mended) == b"other bytes"
    assert len(store.adapters()) == 1


def test_nobody_who_was_deleted_comes_back(store: Store, blobs: Path) -> None:
    store.delete_person("ana")
    with pytest.raises(PersonNotFound, match="'ana'"):
        store.publish(manifest("ana"), b"x")
    assert store.adapters() == []
    assert list(blobs.glob("*/*")) == []


def test_manifests_whose_kind_and_person_disagree(store: Store) -> None:
    for wrong in (manifest("ana", kind="task"), manifest(None, kind="user"), manifest("ana", kind="pooled")):
        with pytest.raises(InputError):
            store.publish(wrong, b"x")


def test_a_pooled_control_is_listed_as_such_and_never_in_use(store: Store) -> None:
    task = store.publish(manifest(None), b"x")
    pooled = store.publish(manifest(None, kind="pooled"), b"x", head=False)
    assert {row.digest: (row.kind, row.variant, row.user_id, row.is_head) for row in store.adapters()} == {
        task: ("task", "k0", None, True),
        pooled: ("pooled", "k0-pooled", None, False),
    }
    assert [row.digest for row in store.adapters(kind="task")] == [task]
    assert [row.digest for row in store.adapters(kind="pooled")] == [pooled]
    with pytest.raises(InputError, match="pooled control"):
        store.set_head(pooled)
    assert store.task_head(**TASK) == task


def test_nobody_has_an_id_that_cannot_be_stored(store: Store) -> None:
    for ask in (store.person, store.require_person, store.delete_person):
        with pytest.raises(PersonNotFound):
            ask("\udcff")
    assert not store.has_person("\udcff")
    assert store.has_person("ana")


def test_no_adapter_says_what_to_do(store: Store) -> None:
    store.publish(manifest(task="LaMP-4"), b"x")
    with pytest.raises(AdapterNotFound) as caught:
        store.head("ana", **TASK)
    expected = "user 'ana' has no adapter for LaMP-2N on 'idiolect-tiny'; make one: idiolect train ana --task LaMP-2N"
    assert str(caught.value) == expected
    with pytest.raises(PersonNotFound):
        store.head("bob", **TASK)
    with pytest.raises(TaskAdapterNotFound, match=r"LaMP-2N.*idiolect train"):
        store.task_head("LaMP-2N", BASE)
    for ask in (store.manifest, store.payload, store.set_head, store.parents, store.resolve):
        with pytest.raises(AdapterNotFound, match="idiolect adapters list"):
            ask("0" * 64)


def test_heads_are_apart_by_person_task_base_and_variant(store: Store) -> None:
    store.add_person(person("bob"))
    retrieved = {"retriever": "bm25", "k": 1}
    wanted = [
        manifest(), manifest("bob"), manifest(task="LaMP-4"), manifest(base="e" * 64), manifest(**retrieved),
        manifest(profile=True), manifest(None), manifest(None, **retrieved),
    ]  # fmt: skip
    digests = [store.publish(m, b"x") for m in wanted]
    assert len(set(digests)) == 8
    for one, digest in zip(wanted, digests, strict=True):
        key = {"task": one.task, "base": one.base, "variant": variant_of(one)}
        assert (store.head(one.user_id, **key) if one.user_id else store.task_head(**key)) == digest
    assert [variant_of(wanted[n]) for n in (0, 4, 5)] == ["k0", "bm25-k1", "k0-profile"]
    assert variant_of(manifest(retriever="bm25", k=0)) == "k0"
    assert all(row.is_head for row in store.adapters())
    assert store.heads(**TASK) == {"ana": digests[0], "bob": digests[1]}
    assert [row.digest for row in store.adapters()] == digests[::-1]
    assert [row.digest for row in store.adapters(limit=1)] == digests[-1:]
    assert {row.digest for row in store.adapters(kind="task")} == set(digests[6:])
    assert [row.digest for row in store.adapters("ana", "user", "LaMP-2N", BASE)] == [digests[n] for n in (5, 4, 0)]


def test_rolling_back_goes_further_each_time(store: Store) -> None:
    a, b, c = (store.publish(manifest(seed=n), b"x") for n in range(3))
    assert store.rollback("ana", **TASK) == b == store.head("ana", **TASK)
    assert store.rollback("ana", **TASK) == a == store.head("ana", **TASK)
    with pytest.raises(AdapterNotFound, match="no earlier adapter"):
        store.rollback("ana", **TASK)
    assert store.head("ana", **TASK) == a
    store.set_head(c)
    store.set_head(c)
    assert store.head("ana", **TASK) == c
    assert [row.digest for row in store.adapters() if row.is_head] == [c]
    assert store.rollback("ana", **TASK) == a
    with pytest.raises(AdapterNotFound, match="make one"):
        store.rollback("ana", "LaMP-4", BASE)


def test_head_false_leaves_the_head_alone(store: Store) -> None:
    first = store.publish(manifest(), b"x")
    second = store.publish(manifest(seed=1), b"x", head=False)
    assert store.head("ana", **TASK) == first
    assert store.publish(manifest(seed=1), b"x") == second == store.head("ana", **TASK)


def test_resolve(store: Store) -> None:
    digests = sorted(store.publish(manifest(seed=n), b"x") for n in range(17))  # two of them share their first digit
    for digest in digests:
        n = next(n for n in range(1, 65) if sum(other.startswith(digest[:n]) for other in digests) == 1)
        assert store.resolve(digest[:n]) == store.resolve(digest[:n].upper()) == digest
        if n > 1:
            with pytest.raises(InputError, match="give more"):
                store.resolve(digest[: n - 1])
    for bad in ("", "%", "_", "g", digests[0] + "0"):
        with pytest.raises(AdapterNotFound):
            store.resolve(bad)


def test_lineage(store: Store) -> None:
    store.add_person(person("bob"))
    base_users = [Parent("item", "0", "bob"), Parent("person", "bob"), Parent("item", "0", "bob")]
    task = store.publish(manifest(None, item_ids=()), b"x", parents=base_users)
    many = tuple(str(n) for n in range(2500))
    mine = store.publish(manifest(task_adapter=task, item_ids=(*many, "0")), b"x", parents=[Parent("adapter", "p1")])
    assert store.derived_from("base", BASE) == [task, mine]
    assert store.derived_from("task_adapter", task) == [mine]
    assert store.derived_from("item", "0") == [task, mine]
    assert store.derived_from("item", "0", user_id="ana") == [mine]
    assert store.derived_from("item", "2499") == store.derived_from("adapter", "p1") == [mine]
    assert store.derived_from("person", "bob") == [task]
    assert store.derived_from("item", "p1") == []
    assert store.parents(task) == [Parent("base", BASE), Parent("item", "0", "bob"), Parent("person", "bob")]
    assert len(store.parents(mine)) == 2500 + 4


def test_deleting_takes_what_is_theirs_and_names_what_was_made_from_it(store: Store) -> None:
    store.add_person(person("bob"))
    task = store.publish(manifest(None, item_ids=()), b"x", parents=[Parent("item", "0", "ana"), Parent("person", "ana")])
    mine = [store.publish(manifest(seed=n), b"x") for n in range(3)]
    theirs = store.publish(manifest("bob"), b"x")
    gone = store.delete_person("ana")
    assert (gone.n_items, gone.n_queries, gone.n_adapters, gone.n_blobs, gone.made_from) == (2, 1, 3, 3, (task,))
    assert [row.digest for row in store.adapters()] == [theirs, task]
    assert not any(store.blob_path(digest).exists() for digest in mine)
    assert store.derived_from("item", "0") == [theirs]
    assert store.derived_from("person", "ana") == []
    assert store.parents(task) == [Parent("base", BASE)]
    assert store.head("bob", **TASK) == theirs
    store.add_person(person("ana"))
    with pytest.raises(AdapterNotFound):
        store.head("ana", **TASK)


def test_deleting_names_others_copies_of_what_was_theirs(store: Store) -> None:
    for user in ("bob", "cid", "dan"):
        store.add_person(person(user))
    mine = store.publish(manifest(), b"x")
    copies = {user: store.publish(manifest(user), b"x", parents=[Parent("adapter", mine)]) for user in ("bob", "dan")}
    back = store.publish(manifest(seed=1), b"x", parents=[Parent("adapter", mine)])
    again = store.publish(manifest("cid"), b"x", parents=[Parent("adapter", copies["bob"])])
    last = store.publish(manifest("bob", seed=2), b"x", parents=[Parent("adapter", back)])
    store.publish(manifest("dan", seed=3), b"x")
    assert store.delete_person("ana").made_from == (copies["bob"], copies["dan"], again, last)


def test_a_deletion_that_a_crash_cut_short_is_finished_on_opening(
    store: Store, location: str, blobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = store.publish(manifest(), b"x")

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store._blobs, "remove", crash)
        with pytest.raises(KeyboardInterrupt):
            store.delete_person("ana")
    assert store.people() == []
    assert store.blob_path(digest).exists()
    with Store.open(location, blobs=blobs):
        assert not store.blob_path(digest).exists()


def test_runs(store: Store) -> None:
    run = store.begin_run("train", {"epochs": 3})
    assert (store.runs()[0].status, store.runs()[0].ended) == ("running", None)
    store.publish(manifest(), b"x", run_id=run)
    store.end_run(run, "done", {"n_people": 1})
    other = store.begin_run("eval", {})
    newest, done = store.runs()
    assert (newest.id, done.id, done.kind, done.status) == (other, run, "train", "done")
    assert (done.settings, done.summary) == ({"epochs": 3}, {"n_people": 1})
    assert done.ended is not None
    assert done.ended >= done.started
    assert store.adapters()[0].run_id == run
    assert len(store.runs(limit=1)) == 1
    with pytest.raises(NotFoundError):
        store.end_run("nope", "done", {})
    with pytest.raises(NotFoundError):
        store.publish(manifest(seed=1), b"x", run_id="nope")


class Shelf(RuleBasedStateMachine):
    """The store against a model of it: a dict of people, each with a stack of heads."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        for one in self.store.people():
            self.store.delete_person(one.id)
        self.stacks: dict[str, list[str]] = {}
        self.published: dict[str, dict[str, bytes]] = {}

    @rule(user=st.sampled_from(["ana", "bob"]))
    def add(self, user: str) -> None:
        self.store.add_person(person(user))
        self.stacks.setdefault(user, [])
        self.published.setdefault(user, {})

    @precondition(lambda self: self.stacks)
    @rule(data=st.data(), seed=st.integers(0, 3), head=st.booleans())
    def publish(self, data: st.DataObject, seed: int, head: bool) -> None:
        user = data.draw(st.sampled_from(sorted(self.stacks)))
        payload = f"{user}{seed}".encode()
        digest = self.store.publish(manifest(user, seed=seed), payload, head=head)
        assert digest == digest_of(canonical_json(manifest(user, seed=seed).to_dict()).encode() + payload)
        self.published[user][digest] = payload
        if head and self.stacks[user][-1:] != [digest]:
            self.stacks[user].append(digest)

    @precondition(lambda self: any(len(stack) > 1 for stack in self.stacks.values()))
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        user = data.draw(st.sampled_from(sorted(u for u, stack in self.stacks.items() if len(stack) > 1)))
        self.stacks[user].pop()
        assert self.store.rollback(user, **TASK) == self.stacks[user][-1]

    @precondition(lambda self: self.stacks)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        user = data.draw(st.sampled_from(sorted(self.stacks)))
        assert self.store.delete_person(user).n_adapters == len(self.published.pop(user))
        del self.stacks[user]

    @invariant()
    def agrees(self) -> None:
        assert [s.id for s in self.store.people()] == sorted(self.stacks)
        assert self.store.heads(**TASK) == {user: stack[-1] for user, stack in self.stacks.items() if stack}
        kept = {digest: payload for mine in self.published.values() for digest, payload in mine.items()}
        assert {row.digest: self.store.payload(row.digest) for row in self.store.adapters()} == kept
        files = {path.name for path in self.store.blob_path("00").parents[1].glob("*/*")}
        assert files == set(kept)


def test_any_sequence_of_publishing_rolling_back_and_forgetting(store: Store) -> None:
    machine = type("Bound", (Shelf,), {"store": store})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=10, stateful_step_count=10, deadline=None, suppress_health_check=list(HealthCheck), database=None
        ),
    )
