"""Forgetting people and items, from the request to the receipt, on a small base."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import warnings
from dataclasses import replace

import pytest
from forget_making import ANA, BEN, FAST, ITEM, SHARERS, TASK, WORDS, heads, record, state, traces, write

from idiolect.errors import (
    AdapterNotFound,
    FileFormatError,
    InputError,
    NotFoundError,
    PersonNotFound,
    StoreBusy,
    StoreError,
)
from idiolect.forget import forgetting, receipt
from idiolect.forget.answers import take_out
from idiolect.forget.planning import Options
from idiolect.house import TrainingOptions
from idiolect.store.records import Parent

BM25 = TrainingOptions(overrides=FAST.overrides, retriever="bm25", k=1)


def actions(closure):
    """(kind, owner) → actions, pieces as one."""
    found = {}
    for node in closure.nodes:
        found.setdefault((node.kind, node.owner), set()).add(node.action)
    return found


# ------------------------------------------------------------------------------------------------------------ one item


def test_an_item_that_is_forgotten_never_was(house, place, reduced, opened, tmp_path):
    before = heads(house)
    other = house.generate(BEN, "a film", task=TASK)
    done = house.forget(ANA, ITEM)
    after, never = heads(house), heads(opened(reduced / "store"))
    assert after[ANA, "user"] == never[ANA, "user"] != before[ANA, "user"]
    assert after[BEN, "user"] == never[BEN, "user"] == before[BEN, "user"]
    assert after[None, "task"] == before[None, "task"]
    assert house.generate(BEN, "a film", task=TASK) == other
    assert [item.id for item in house.history(ANA)] == [f"{ANA}-item-{i}" for i in (0, 1, 3)]
    assert done.new == {before[ANA, "user"]: after[ANA, "user"], before["zoe", "assembled"]: after["zoe", "assembled"]}
    assert (done.guarantee, done.problems, done.scrubbed) == ("exact-after-rebuild", {}, True)
    assert done.closure.share_again == ((ANA, TASK),)
    assert house.store.pieces_of(ANA) == []
    assert len(house.store.pieces_of(BEN)) == 4
    assert house.forgetting.verify(done.receipt).holds
    assert traces(place, ITEM, f"{WORDS} 2", before[ANA, "user"]) == []
    assert traces(place, f"{ANA}-item-1")


def test_what_is_downstream_of_an_item_is_shown_and_nothing_changed(house):
    before = state(house)
    closure = house.forgetting.preview(ANA, ITEM)
    assert actions(closure) == {
        ("item", ANA): {"delete"},
        ("user adapter", ANA): {"retrain"},
        ("assembled adapter", "zoe"): {"reassemble"},
        ("piece", ANA): {"revoke"},
    }
    assert closure.guarantee == "exact-after-rebuild"
    assert state(house) == before


def test_only_what_is_in_use_is_made_again(house):
    changed = replace(FAST, overrides=(*FAST.overrides, ("seed", 1)))
    unused = house.store.head(ANA, task=TASK, base=house.base.fingerprint)
    used = house.train([ANA], TASK, changed).made[ANA]
    done = house.forget(ANA, ITEM)
    assert used in done.new
    assert unused in done.closure.gone
    assert unused not in done.new
    assert house.store.manifest(done.new[used]).seed == 1
    assert len(house.store.adapters(ANA)) == 1


def test_an_adapter_that_never_saw_the_item_stays(house):
    newest = replace(FAST, max_history=1)
    kept = house.train([ANA], TASK, newest).made[ANA]
    done = house.forget(ANA, ITEM)
    assert kept not in done.closure.gone
    assert [node.in_use for node in done.closure.nodes if node.kind == "user adapter"] == [False]
    assert heads(house)[ANA, "user"] == kept
    assert house.generate(ANA, "a film", task=TASK).text in "12345"


def test_with_retrieval_any_item_may_stand_in_any_prompt(house):
    newest = replace(BM25, max_history=1)
    used = house.train([ANA], TASK, newest, bare=True).made[ANA]
    assert [parent.id for parent in house.store.parents(used) if parent.kind == "item"] == [f"{ANA}-item-3"]
    done = house.forget(ANA, ITEM)
    again = house.store.manifest(done.new[used])
    assert (again.retriever, again.k, again.item_ids) == ("bm25", 1, (f"{ANA}-item-3",))
    assert again.settings["max_history"] == 1


def test_copies_go_and_folders_outside_are_named(house, tmp_path):
    digest = house.store.head(ANA, task=TASK, base=house.base.fingerprint)
    house.export(digest, tmp_path / "out", alone=True)
    copy = house.import_adapter(ANA, tmp_path / "out", task=TASK)
    done = house.forget(ANA, ITEM)
    assert {digest, copy} <= set(done.closure.gone)
    assert done.closure.places("export") == [str(tmp_path / "out")]
    assert copy not in done.new
    assert digest not in done.new  # the copy was in use, and nobody knows how to make it again
    with pytest.raises(AdapterNotFound):
        house.generate(ANA, "a film", task=TASK)


def test_of_a_history_of_one_nothing_is_left(house, tmp_path):
    house.import_history(write(tmp_path / "one.jsonl", record("solo", 1)))
    house.train(["solo"], TASK, FAST)
    done = house.forget("solo", "solo-item-0")
    assert (done.new, done.guarantee) == ({}, "exact")
    assert house.history("solo") == ()
    assert house.adapters("solo") == []


# --------------------------------------------------------------------------------------------------------- whole people


def test_a_person_leaves_no_trace(house, place, tmp_path):
    before = heads(house)
    assert traces(place, WORDS)
    assert traces(place, ANA)
    done = house.forget(ANA)
    after = heads(house)
    assert (done.guarantee, list(done.new)) == ("exact", [before["zoe", "assembled"]])
    assert after == {
        (None, "task"): before[None, "task"],
        (BEN, "user"): before[BEN, "user"],
        ("zoe", "assembled"): done.new[before["zoe", "assembled"]],
    }
    assert traces(place, ANA, WORDS, before[ANA, "user"]) == []
    house.store.close()
    assert traces(place, ANA, WORDS, before[ANA, "user"]) == []
    assert not list(tmp_path.glob(".forget*"))
    assert done.receipt.stat().st_mode & 0o777 == 0o600


def test_a_receipt_names_nobody_else(house):
    text = house.forget(ANA).receipt.read_text()
    assert ANA in text
    assert "zoe" not in text


def test_without_rebuilding_everything_downstream_only_goes(house):
    done = house.forget(ANA, options=Options(rebuild=False))
    assert done.new == {}
    assert heads(house).keys() == {(None, "task"), (BEN, "user")}
    assert house.forgetting.verify(done.receipt).holds


def test_who_is_not_there_cannot_be_forgotten(house, tmp_path):
    before = state(house)
    for call, error in (
        (lambda: house.forget("nobody"), PersonNotFound),
        (lambda: house.forget(ANA, "no-such-item"), NotFoundError),
        (lambda: house.forget(ANA, options=Options(receipt=tmp_path / "store" / "r.json")), InputError),
        (lambda: house.forget(ANA, options=Options(receipt=tmp_path / "no" / "folder.json")), InputError),
        (lambda: house.forget("otto"), InputError),
    ):
        with pytest.raises(error):
            call()
    assert state(house) == before
    house.forget(ANA)
    with pytest.raises(PersonNotFound):
        house.forget(ANA)


# -------------------------------------------------------------------------------------------------------- task adapters


def test_a_task_adapter_is_taught_again_without_them(house, whole, tmp_path, opened):
    before = heads(house)
    with pytest.raises(InputError, match=r"--data FILE.*--leave-task-adapters"):
        house.forget("otto")
    assert heads(house) == before
    done = house.forget("otto", options=Options(data=whole / "base.jsonl"))
    fresh = opened(tmp_path / "fresh")
    alone = fresh.train_task(TASK, write(tmp_path / "alone.jsonl", record("paula", 2)), FAST)
    fresh.import_history(whole / "people.jsonl")
    assert done.new[before[None, "task"]] == alone
    for user in SHARERS:
        assert done.new[before[user, "user"]] == fresh.train([user], TASK, FAST).made[user]
    assert done.guarantee == "exact-after-rebuild"
    assert done.problems == {}
    (hers,) = (node for node in done.closure.nodes if node.owner == "zoe")
    assert hers.action == "delete"
    assert "share again" in hers.why
    assert done.closure.share_again == tuple((user, TASK) for user in sorted(SHARERS))
    assert traces(tmp_path / "store", "otto") == []
    assert house.forgetting.verify(done.receipt).holds
    assert house.generate(BEN, "a film", task=TASK).text in "12345"


def test_an_item_of_somebody_in_a_file_only(house, whole, opened, tmp_path):
    before = heads(house)[None, "task"]
    for options in ({}, {"leave_task_adapters": True}, {"data": whole / "base.jsonl"}):
        with pytest.raises((NotFoundError, InputError)):
            house.forget("otto", "no-such-item", Options(**options))
    done = house.forget("otto", "otto-item-1", options=Options(data=whole / "base.jsonl"))
    without = write(tmp_path / "without.jsonl", record("otto", 1), record("paula", 2))
    assert done.new[before] == opened(tmp_path / "fresh").train_task(TASK, without, FAST)


def test_a_task_adapter_that_is_left_is_said_to_be(house, place):
    before = heads(house)
    done = house.forget("otto", options=Options(leave_task_adapters=True))
    assert (done.guarantee, done.new) == ("incomplete", {})
    assert heads(house) == before
    assert [node.id for node in done.closure.nodes if node.action == "leave"] == [before[None, "task"]]
    assert traces(place, "otto") == []
    assert house.forgetting.verify(done.receipt).holds


def test_base_people_in_the_store_are_taught_from_there(opened, tmp_path):
    house = opened(tmp_path / "mine")
    house.import_history(write(tmp_path / "all.jsonl", record("otto", 2), record("paula", 2), record("ana", 3)))
    old = house.train_task(TASK, options=FAST, users=["otto", "paula"], max_examples=3)
    used = house.train(["ana"], TASK, FAST).made["ana"]
    done = house.forget("otto")
    assert done.new.keys() == {old, used}
    assert [p.id for p in house.store.parents(done.new[old]) if p.kind == "person"] == ["paula"]
    assert house.store.manifest(done.new[used]).task_adapter == done.new[old]
    row = next(row for row in house.store.adapters(kind="task"))
    assert row.stats["max_examples"] == 3
    with pytest.raises(InputError, match="taught by nobody else"):
        house.forget("paula")


def test_a_task_adapter_that_is_not_in_use_is_not_put_into_use(opened, tmp_path):
    house = opened(tmp_path / "mine")
    house.import_history(write(tmp_path / "all.jsonl", *(record(user, 2) for user in ("otto", "paula", "quin", "ana"))))
    old = house.train_task(TASK, options=FAST, users=["otto", "paula"])
    used = house.train(["ana"], TASK, FAST).made["ana"]
    other = house.train_task(TASK, options=FAST, users=["paula", "quin"])
    done = house.forget("otto")
    assert done.new.keys() == {old, used}
    assert heads(house) == {(None, "task"): other, ("ana", "user"): done.new[used]}
    assert house.store.manifest(done.new[used]).task_adapter == done.new[old]


def test_one_that_was_unlearned_and_stays_is_approximate(house):
    old = house.store.head(BEN, task=TASK, base=house.base.fingerprint)
    task = house.store.manifest(old).task_adapter
    manifest = house.store.manifest(task)
    unlearned = replace(manifest, settings={**manifest.settings, "unlearned": {"method": "npo"}})
    taught = [parent for parent in house.store.parents(task) if parent.kind == "person"]
    house.store.publish(unlearned, house.store.payload(task), parents=[*taught, Parent("adapter", task)])
    assert house.forgetting.preview("otto", options=Options(leave_task_adapters=True)).guarantee == "incomplete"
    house.store.publish(replace(unlearned, seed=5), house.store.payload(task), parents=[Parent("person", "rosa")])
    done = house.forget("rosa", options=Options(leave_task_adapters=True))
    assert done.guarantee == "approximate"
    assert house.forgetting.verify(done.receipt).holds


def test_bylines_name_whole_words_only():
    from idiolect.store.downstream import named_in

    assert named_in("Ana Ruiz", "Ana Ruiz and Bo Li")
    assert named_in("a.b+c", "a.b+c")
    assert not named_in("1", "12")
    assert not named_in("12", "user-12")
    assert not named_in("ana", "ana@here")
    assert not named_in("Ana", "Anastasia")


# -------------------------------------------------------------------------------------------------------- interruptions


class Cut(Exception):
    """Stands for a kill."""


def cut_at(step, nth=1):
    left = [nth]

    def at(done):
        if done == step:
            left[0] -= 1
            if left[0] == 0:
                raise Cut

    return at


@pytest.fixture(scope="module")
def finished(whole, tmp_path_factory, base_folder):
    """How stores look after requests that nothing interrupted."""
    from idiolect.service import Idiolect

    found = {}
    for item in (None, ITEM):
        folder = tmp_path_factory.mktemp("finished")
        shutil.copytree(whole / "store", folder / "store")
        with Idiolect.open(folder / "store", base_folder("llama"), device="cpu") as house:
            house.store.encrypt(folder / "keys")
            house.forget(ANA, item, options=Options(receipt=folder / "r.json"))
            found[item] = state(house)
    return found


STEPS = {
    None: ("begun", "key", "deleted", "cleared", "made assembled", "rebuilt", "receipt"),
    ITEM: ("begun", "deleted", "cleared", "made user", "made assembled", "rebuilt", "receipt"),
}


@pytest.mark.parametrize("item", STEPS)
def test_a_run_that_is_cut_off_at_every_step_ends_as_if_it_had_not_been(house, place, tmp_path, finished, opened, item):
    house.store.encrypt(tmp_path / "keys")
    keys = set(os.listdir(tmp_path / "keys"))
    first, *others = STEPS[item]
    with pytest.raises(Cut):
        forgetting.forget(replace(house.forgetting.means, at=cut_at(first)), ANA, item, Options(receipt=tmp_path / "r.json"))
    for step in others:  # each time by a new process, which knows what the store says and no more
        house.store.close()
        house = opened(place)
        waiting = [row for row in house.store.forgettings() if row.state != "done"]
        assert [(row.user_id, row.item_id) for row in waiting] == [(ANA, item)]
        with pytest.raises(StoreError, match="--resume"):
            house.forget(BEN)
        with pytest.raises(Cut):
            forgetting.resume(replace(house.forgetting.means, at=cut_at(step)))
    house.store.close()
    again = opened(place)
    (done,) = again.forgetting.resume()
    assert state(again) == finished[item]
    assert again.forgetting.verify(tmp_path / "r.json").holds
    assert again.forgetting.resume() == []
    assert len(keys - set(os.listdir(tmp_path / "keys"))) == 1
    assert done.key_destroyed
    assert traces(place, *((ANA, WORDS) if item is None else (ITEM, f"{WORDS} 2"))) == []


def test_the_same_request_goes_on_by_itself(house, tmp_path):
    with pytest.raises(Cut):
        forgetting.forget(replace(house.forgetting.means, at=cut_at("deleted")), ANA)
    done = house.forget(ANA)
    assert house.forgetting.verify(done.receipt).holds


def test_whoever_came_back_meanwhile_is_forgotten_again(house, whole, place, tmp_path):
    with pytest.raises(Cut):
        forgetting.forget(
            replace(house.forgetting.means, at=cut_at("deleted")), ANA, None, Options(receipt=tmp_path / "r.json")
        )
    house.import_history(whole / "people.jsonl")
    assert house.store.has_person(ANA)
    done = house.forget(ANA)
    assert house.forgetting.verify(done.receipt).holds
    assert house.forgetting.verify(tmp_path / "r.json").holds
    assert traces(place, ANA, WORDS) == []


def test_what_cannot_go_on_as_it_was_asked_for_goes_on_otherwise(opened, tmp_path):
    house = opened(tmp_path / "mine")
    house.import_history(write(tmp_path / "all.jsonl", *(record(user, 2) for user in ("otto", "paula", "ana"))))
    house.train_task(TASK, options=FAST, users=["otto", "paula"])
    house.train(["ana"], TASK, FAST)
    with pytest.raises(Cut):
        forgetting.forget(replace(house.forgetting.means, at=cut_at("begun")), "otto")
    house.delete_person("paula")
    with pytest.raises(InputError, match="--no-rebuild"):
        house.forgetting.resume()
    (done,) = house.forgetting.resume(options=Options(rebuild=False))
    assert (done.new, house.adapters(), done.guarantee) == ({}, [], "exact")
    assert house.forgetting.verify(done.receipt).holds


def test_what_cannot_be_made_again_is_said_and_the_rest_goes_on(house, base_folder):
    task, before = heads(house)[None, "task"], heads(house)
    with pytest.raises(Cut):
        forgetting.forget(replace(house.forgetting.means, at=cut_at("cleared")), ANA, ITEM)
    house._engines.clear()
    house.store.blob_path(task).write_bytes(b"damaged")
    (done,) = house.forgetting.resume()
    assert done.problems.keys() == {before[ANA, "user"], before["zoe", "assembled"]}
    assert house.store.forgettings()[0].state == "done"
    assert done.closure.guarantee == "exact-after-rebuild"
    assert done.guarantee == "exact"  # nothing was trained after all
    assert receipt.read(done.receipt).body["guarantee"] == "exact"


def test_a_person_who_was_deleted_by_other_means_meanwhile(house):
    with pytest.raises(Cut):
        forgetting.forget(replace(house.forgetting.means, at=cut_at("begun")), ANA)
    house.delete_person(ANA)
    (done,) = house.forgetting.resume()
    assert house.forgetting.verify(done.receipt).holds


def test_what_is_published_meanwhile_goes_too(house, place, opened, tmp_path):
    digest = house.store.head(ANA, task=TASK, base=house.base.fingerprint)
    house.export(digest, tmp_path / "out", alone=True)
    other, copies = opened(place), []

    def at(step):
        if step == "begun":
            copies.append(other.import_adapter(ANA, tmp_path / "out", task=TASK))

    done = forgetting.forget(replace(house.forgetting.means, at=at), ANA)
    assert {digest, *copies} <= set(done.closure.gone)
    assert traces(place, ANA, *copies) == []


def test_one_that_is_killed_goes_on(house, place, opened, finished, tmp_path):
    house.store.encrypt(tmp_path / "keys")
    house.store.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the child computes nothing
        child = os.fork()
    if not child:
        try:
            means = replace(
                opened(place).forgetting.means, at=lambda step: step == "deleted" and os.kill(os.getpid(), signal.SIGKILL)
            )
            forgetting.forget(means, ANA, ITEM, Options(receipt=tmp_path / "r.json"))
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    again = opened(place)
    again.forgetting.resume()
    assert state(again) == finished[ITEM]
    assert again.forgetting.verify(tmp_path / "r.json").holds
    assert traces(place, ITEM, f"{WORDS} 2") == []


def test_two_at_once_are_one_too_many(house, place, opened):
    before = state(house)
    with house.store.lock(), pytest.raises(StoreBusy, match="is already running"):
        opened(place).forget(ANA)
    assert state(house) == before


def test_without_torch_whoever_nobody_learned_from_can_be_forgotten(house, place, tmp_path):
    house.import_history(write(tmp_path / "new.jsonl", record("newcomer", 2)))
    house.store.close()
    script = f"""
        import sys
        sys.modules["torch"] = None
        from idiolect.errors import DependencyMissing
        from idiolect.forget.planning import Options
        from idiolect.service import Idiolect
        with Idiolect.open({str(place)!r}) as house:
            done = house.forget("newcomer", options=Options(receipt="r.json"))
            assert house.forgetting.verify("r.json").holds
            house.forget({ANA!r}, options=Options(rebuild=False))
            try:
                house.forget("otto", options=Options(data="base.jsonl"))
            except DependencyMissing:
                print("needs torch")
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("needs torch\n", "")
    assert traces(place, "newcomer", ANA) == []


# ------------------------------------------------------------------------------------------------------------- receipts


def test_a_receipt_that_was_changed_does_not_hold(house, tmp_path):
    done = house.forget(ANA, options=Options(receipt=tmp_path / "r.json"))
    found = json.loads(done.receipt.read_text())
    found["guarantee"] = "approximate"
    done.receipt.write_text(json.dumps(found))
    answer = house.forgetting.verify(done.receipt)
    assert not answer.holds
    assert "signature" in answer.problems[0]
    piece = {"kind": "piece", "id": "x"}
    wrong = (
        {"signature": "zz"},
        {"old": 3},
        {"old": ["\ud800"]},
        {"closure": [piece]},
        {"closure": [piece | {"id": "9" * 40}]},
    )
    for text in ("", "{}", "[1]", *(json.dumps(found | one) for one in wrong)):
        done.receipt.write_text(text)
        with pytest.raises(FileFormatError):
            house.forgetting.verify(done.receipt)


def test_a_receipt_is_held_against_the_store(house, whole, tmp_path, opened):
    done = house.forget(ANA, ITEM, options=Options(receipt=tmp_path / "r.json"))
    elsewhere = shutil.copytree(whole / "store", tmp_path / "elsewhere")
    answer = opened(elsewhere).forgetting.verify(done.receipt)
    assert (answer.receipt.signed, answer.ours, answer.holds) == (True, False, False)
    said = " ".join(answer.problems)
    for words in (f"item {ITEM!r}", "is still there", "pieces are still there", "is not there any more"):
        assert words in said
    new = done.new[done.closure.again[0].digest]
    house.store.blob_path(new).write_bytes(b"damaged")
    assert [p for p in house.forgetting.verify(done.receipt).problems if "is damaged" in p]


def test_a_receipt_outlives_what_others_share_and_withdraw(house):
    first = house.forget(ANA)
    second = house.forget(BEN)
    answer = house.forgetting.verify(first.receipt)
    assert answer.holds
    assert answer.assembled_since == tuple(first.new.values())
    assert house.forgetting.verify(second.receipt).holds


def test_training_once_more_gives_the_same_numbers(house, tmp_path):
    done = house.forget(ANA, ITEM)
    answer = house.forgetting.verify(done.receipt, rebuild=True)
    assert answer.holds
    assert [(one.equal, one.difference) for one in answer.compared] == [(True, 0.0)]
    assert answer.not_compared == 1
    house.import_history(write(tmp_path / "more.jsonl", record(ANA, 9, WORDS, without=ITEM)))
    answer = house.forgetting.verify(done.receipt, rebuild=True)
    assert not answer.holds
    assert not answer.compared[0].same_manifest


def test_the_store_keeps_of_a_receipt_its_digest_only(house):
    import hashlib

    done = house.forget(ANA)
    (row,) = house.store.forgettings()
    assert (row.state, row.user_id, row.item_id, row.plan) == ("done", None, None, {})
    assert row.receipt == hashlib.sha256(done.receipt.read_bytes()).hexdigest()
    assert receipt.is_of(receipt.read(done.receipt), house.store)


# ------------------------------------------------------------------------------------------- answers outside the store


def test_answers_in_folders_of_evaluations_go(opened, tmp_path):
    house = opened(tmp_path / "mine")
    asked = [record(user, 3) for user in ("otto", "paula", ANA, BEN)]
    for one in asked[2:]:
        user = one["user_id"]
        one["query"] = [{"id": f"{user}-q", "input": f"Which score? review: {user} asks", "gold": "3"}]
    data = write(tmp_path / "all.jsonl", *asked)
    out = tmp_path / "report"
    house.evaluate(data, TASK, out, arms=("nonpers",), options=FAST, task_overrides=FAST.overrides, targets=2)
    assert house.store.evaluations(ANA) == [str(out)]

    def users():
        return {json.loads(line)["user_id"] for line in (out / "predictions.jsonl").read_text().splitlines()}

    assert users() == {ANA, BEN}
    write(out / "population.jsonl", *asked)
    assert {name for name, _ in traces(out, ANA)} == {"predictions.jsonl", "population.jsonl"}
    done = house.forget(ANA)
    assert done.unchanged == {}
    assert users() == {BEN}
    assert traces(out, ANA) == []
    assert "otto" in (out / "population.jsonl").read_text()
    assert traces(tmp_path / "mine", ANA) == []
    (out / "predictions.jsonl").rename(tmp_path / "moved.jsonl")
    (out / "predictions.jsonl").symlink_to(tmp_path / "moved.jsonl")
    assert take_out(out, BEN, None) is None
    assert (tmp_path / "moved.jsonl").read_text() == ""
    (out / "predictions.jsonl").write_text("no line of ours\n")
    assert house.delete_person(BEN).evaluations == (str(out),)


# ----------------------------------------------------------------------------------------------------------- encryption


def test_with_the_key_a_persons_files_die_in_backups_too(house, place, tmp_path, opened):
    plain = {user: house.generate(user, "a film", task=TASK) for user in (*SHARERS, "zoe")}
    done = house.store.encrypt(tmp_path / "keys")
    assert (done.n_sealed, done.n_already, done.damaged) == (3, 0, ())
    assert house.store.encrypt().n_already == 3
    house.store.close()
    again = opened(place)
    assert {user: again.generate(user, "a film", task=TASK) for user in plain} == plain
    assert again.train([ANA], TASK, replace(FAST, max_history=2)).made  # a new one is encrypted too
    assert all(again.store._is_sealed(row.digest) == (row.user_id is not None) for row in again.adapters())
    backup = shutil.copytree(place, tmp_path / "backup")
    forgotten = again.forget(ANA)
    assert forgotten.key_destroyed
    with pytest.raises(StoreError, match="key of adapter"):
        opened(backup).generate(ANA, "a film", task=TASK)
    assert opened(backup).generate(BEN, "a film", task=TASK) == plain[BEN]


def test_an_old_key_dies_although_the_person_was_deleted_meanwhile(house, tmp_path):
    house.store.encrypt(tmp_path / "keys")
    key = house.store.downstream(ANA).key
    with pytest.raises(Cut):
        forgetting.forget(replace(house.forgetting.means, at=cut_at("deleted")), ANA, ITEM)
    house.store.renew_key(ANA, key)
    house.delete_person(ANA)
    assert house.store.keys.has(key)
    (done,) = house.forgetting.resume(options=Options(rebuild=False))
    assert done.key_destroyed
    assert not house.store.keys.has(key)


def test_without_the_folder_of_keys_nothing_is_forgotten_and_nothing_said(house, tmp_path):
    house.store.encrypt(tmp_path / "keys")
    before = state(house)
    (tmp_path / "keys").rename(tmp_path / "away")
    with pytest.raises(StoreError, match="IDIOLECT_KEYS"):
        house.forget(ANA)
    assert state(house) == before
    assert not (tmp_path / "keys").exists()
    (tmp_path / "away").rename(tmp_path / "keys")
    for key in set((tmp_path / "keys").iterdir()) - {tmp_path / "keys" / "receipts.key"}:
        key.unlink()
    done = house.forget(ANA, options=Options(rebuild=False))  # the person's own key only was lost before
    assert not done.key_destroyed
    assert house.forgetting.verify(done.receipt).holds


def test_of_an_item_the_old_key_dies_and_what_is_left_is_encrypted_anew(house, place, tmp_path, opened):
    house.store.encrypt(tmp_path / "keys")
    kept = house.train([ANA], TASK, replace(FAST, max_history=1)).made[ANA]
    backup = shutil.copytree(place, tmp_path / "backup")
    sealed = house.store.blob_path(kept).read_bytes()
    house.forget(ANA, ITEM)
    assert house.store.blob_path(kept).read_bytes() != sealed
    assert house.store.payload(kept)
    with pytest.raises(StoreError, match="key of adapter"):
        opened(backup).store.payload(kept)
