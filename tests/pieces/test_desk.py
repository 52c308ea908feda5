"""Sharing, assembling, withdrawing and passing on pieces, from people in a store to answers; on a small base."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from idiolect.config import preset
from idiolect.errors import (
    AdapterNotFound,
    BaseMismatch,
    ConfigError,
    EmptyHistory,
    FileFormatError,
    InputError,
    PersonNotFound,
    PieceNotFound,
    ShapeError,
    TaskAdapterNotFound,
)
from idiolect.house import TrainingOptions
from idiolect.model.files import header_of, read_peft
from idiolect.model.pieces import PoolKey, read_assembled
from idiolect.pieces import share as sharing
from idiolect.pieces.assemble import Settings
from idiolect.pieces.consent import Consent
from idiolect.pieces.gates import GATES
from idiolect.pieces.newcomers import Once
from idiolect.pieces.select import Selection
from idiolect.pieces.views import PoolView
from idiolect.service import Idiolect
from idiolect.store.records import Parent
from idiolect.train.schedule import learning_rates, total_steps
from idiolect.types import Person

TASK = "LaMP-3"
FAST = TrainingOptions(
    overrides=(("epochs", 1), ("rank", 2), ("targets", ("q_proj", "v_proj")), ("max_tokens", 160), ("learning_rate", 2e-2))
)
QUICK = GATES.but(steps=2, batch_size=4)
SHARERS = ("ana", "ben", "cleo")
NEW = ("xenia", "yuri")
N_MODULES = 4


def record(user, n):
    items = [
        {"id": f"{user}-{i}", "date": f"2020-01-{i + 1:02}", "text": f"{user} saw a film about the sea {i}", "score": 1 + i % 5}
        for i in range(n)
    ]
    return {"user_id": user, "profile": items, "query": []}


def write(path, *records):
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, base_folder):
    """A store with three trained people, who share, and two newcomers; and one with a history of nothing."""
    folder = tmp_path_factory.mktemp("pieces")
    people = [*(record(user, 5) for user in SHARERS), *(record(user, 3) for user in NEW), record("empty", 0)]
    with Idiolect.open(folder / "store", base_folder("llama"), device="cpu") as house:
        house.import_history(write(folder / "people.jsonl", *people))
        house.train_task(TASK, write(folder / "base.jsonl", record("otto", 3)), FAST)
        house.train(SHARERS, TASK, FAST)
        house.pieces.share(SHARERS, TASK, gates=QUICK)
    return folder


@pytest.fixture
def store(prepared, tmp_path):
    shutil.copytree(prepared / "store", tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def house(store, base_folder):
    with Idiolect.open(store, base_folder("llama"), device="cpu") as house:
        yield house


@pytest.fixture
def trainings(monkeypatch):
    """Names of the people whose gates are trained from now on."""
    seen, train = [], sharing.train_gates

    def spy(base, layout, jobs, *rest, **options):
        def watched():
            for job in jobs:
                seen.append(job.person)
                yield job

        return train(base, layout, watched(), *rest, **options)

    monkeypatch.setattr(sharing, "train_gates", spy)
    return seen


def the_pool(house):
    (row,) = house.store.pools()
    return row


def answer(house, user, **options):
    return house.generate(user, "a film about the sea", task=TASK, **options)


def traces(store, *words):
    """Files of the store in which one of these stands, as text or as bytes."""
    wanted = [word if isinstance(word, bytes) else word.encode() for word in words]
    files = [path for path in store.rglob("*") if path.is_file()]
    return [path.name for path in files if any(word in path.read_bytes() for word in wanted)]


# -------------------------------------------------------------------------------------------------------------- share


def test_everything_is_shared_once(house, trainings):
    row = the_pool(house)
    assert (row.n_pieces, row.n_people) == (3 * N_MODULES, 3)
    before = {user: house.store.pieces_of(user) for user in SHARERS}
    report, renewed = house.pieces.share(SHARERS, TASK, gates=QUICK)
    assert (report.kept, report.shared, renewed, trainings) == (dict.fromkeys(SHARERS, N_MODULES), {}, [], [])
    assert {user: house.store.pieces_of(user) for user in SHARERS} == before


def test_consent_decides_and_a_smaller_one_trains_nothing(house, trainings):
    version = house.store.pool_version(the_pool(house).digest)
    report, _ = house.pieces.share(["ana"], TASK, Consent(layers=(1,)), gates=QUICK)
    left = house.store.pieces_of("ana")
    assert (report.kept, trainings) == ({"ana": 2}, [])
    assert all(".layers.1." in piece.module for piece in left)
    assert len(report.revocations[0].pieces) == 2
    assert house.store.pool_version(the_pool(house).digest) != version
    report, _ = house.pieces.share(["ana"], TASK, gates=QUICK)
    assert (report.shared, trainings) == ({"ana": N_MODULES}, ["ana"])
    assert {piece.id for piece in left} < {piece.id for piece in house.store.pieces_of("ana")}


def test_a_share_of_the_pieces_is_nested_and_decided_once():
    names = [f"model.layers.{i}.self_attn.{m}_proj" for i in range(20) for m in "qkvo"]
    chosen = [Consent(ratio=ratio, seed=4).chosen("ana", names) for ratio in (0, 0.2, 0.5, 0.9, 1)]
    assert [len(c) for c in chosen] == sorted(len(c) for c in chosen)
    assert all(set(a) <= set(b) for a, b in pairwise(chosen))
    assert (chosen[0], chosen[-1]) == ([], names)
    assert Consent(ratio=0.5, seed=4).chosen("ana", names) == chosen[2]
    assert Consent(ratio=0.5, seed=4).chosen("ben", names) != chosen[2]
    for wrong in (Consent(ratio=1.5), Consent(ratio=float("nan")), Consent(layers=(20,))):
        with pytest.raises(ConfigError):
            wrong.chosen("ana", names)


def test_only_the_direction_of_gates_leaves_a_person(house, trainings):
    house.pieces.share(["ana"], TASK, gates=QUICK, direction_only=True)
    house.pieces.share(["ana"], TASK, gates=QUICK, direction_only=True)
    assert trainings == ["ana"]
    pool = house.pieces.pool(PoolKey.from_dict(the_pool(house).key))
    mine = {piece.id for piece in house.store.pieces_of("ana")}
    for shelf in pool.modules.values():
        for piece, gate in zip(shelf.ids, shelf.gates, strict=True):
            unit = abs(float(gate.std(correction=0)) - 1) < 1e-3
            assert unit == (piece in mine)
    house.pieces.share(["ana"], TASK, gates=QUICK)
    assert trainings == ["ana", "ana"]


def test_gates_are_trained_on_what_the_adapter_was_trained_on(house, monkeypatch):
    lengths, train = {}, sharing.train_gates

    def spy(base, layout, jobs, *rest, **options):
        jobs = list(jobs)
        lengths.update({job.person: [e.id for e in job.examples] for job in jobs})
        return train(base, layout, jobs, *rest, **options)

    monkeypatch.setattr(sharing, "train_gates", spy)
    house.train(["ana"], TASK, TrainingOptions(overrides=FAST.overrides, max_history=2))
    house.store.add_person(Person("ana", house.store.history("ben")))
    report, _ = house.pieces.share(["ana"], TASK, gates=QUICK)
    assert lengths == {"ana": ["ana-3", "ana-4"]}
    assert report.revocations[0].pieces


def test_people_together_get_the_gates_they_get_alone(house):
    pool = the_pool(house).digest
    together = {row.module: row.id for row in house.store.pieces_of("ana")}
    first = {module: house.store.read_pieces([id])[id].body for module, id in together.items()}
    house.pieces.share(["ana"], TASK, gates=QUICK, again=True)
    for row in house.store.pieces_of("ana"):
        mine = np.frombuffer(house.store.read_pieces([row.id])[row.id].body, "<f4")
        np.testing.assert_allclose(mine, np.frombuffer(first[row.module], "<f4"), atol=1e-5)
    assert the_pool(house).digest == pool


def test_nothing_given_is_changed(house):
    people = [house.store.person(user) for user in (*SHARERS, *NEW)]
    before = copy.deepcopy(people)
    blobs = {row.digest: house.store.payload(row.digest) for row in house.adapters()}
    consent, settings = Consent(ratio=0.9), Settings(k=2)
    house.pieces.share(SHARERS, TASK, consent, gates=QUICK, again=True)
    house.pieces.assemble(NEW, TASK, settings)
    house.pieces.select_sharers(TASK, Selection(n=2, min_items=1))
    assert people == before == [house.store.person(user) for user in (*SHARERS, *NEW)]
    assert {digest: house.store.payload(digest) for digest in blobs} == blobs
    assert (consent, settings) == (Consent(ratio=0.9), Settings(k=2))


def test_what_cannot_be_shared(house):
    house.pieces.assemble(["xenia"], TASK)
    report, _ = house.pieces.share(["xenia", "yuri", "ana"], TASK, gates=QUICK)
    assert "has nothing of their own to share" in report.problems["xenia"]
    assert "has no adapter" in report.problems["yuri"]
    assert list(report.kept) == ["ana"]
    with pytest.raises(PersonNotFound):
        house.pieces.share(["nobody"], TASK)
    report, _ = house.pieces.share(["ana"], TASK, Consent(layers=(7,)), gates=QUICK)
    assert "layer 7 has no piece" in report.problems["ana"]


def test_a_newer_adapter_takes_the_place_of_the_older_one(house):
    house.pieces.assemble(NEW, TASK)
    before = house.store.heads(task=TASK, base=house.base.fingerprint)
    house.train(["ana"], TASK, TrainingOptions(overrides=(*FAST.overrides, ("seed", 1))))
    report, renewed = house.pieces.share(["ana"], TASK, gates=QUICK)
    assert len(report.revocations[0].pieces) == N_MODULES
    assert [set(one.made) for one in renewed] == [set(NEW)]
    after = house.store.heads(task=TASK, base=house.base.fingerprint)
    assert all(before[user] != after[user] for user in NEW)


def test_sharers_are_chosen_among_those_who_can(house):
    found = house.pieces.select_sharers(TASK, Selection(n=2, min_items=4))
    assert set(found.ids) <= set(SHARERS)
    assert found.n_candidates == 3
    with pytest.raises(EmptyHistory, match="none of 3 candidates"):
        house.pieces.select_sharers(TASK, Selection(n=2, min_items=50))
    with pytest.raises(EmptyHistory, match="nobody uses an adapter"):
        house.pieces.select_sharers("LaMP-2N", Selection(n=2))


@pytest.mark.parametrize("n", [5, 5000])
@pytest.mark.parametrize("config", [GATES, preset("default", "user"), preset("default", "task")], ids=["gates", "user", "task"])
def test_the_rate_rises_once_and_then_only_falls_whatever_the_history(n, config):
    total = total_steps(n, config)
    steps = torch.arange(total)
    rates = learning_rates(steps, torch.full_like(steps, total), config)
    top = int(rates.argmax())
    assert float(rates[top]) == pytest.approx(config.learning_rate, rel=0.02)
    assert bool((rates[: top + 1].diff() >= 0).all())
    assert bool((rates[top:].diff() <= 0).all())
    assert total <= 2 or float(rates[-1]) < 0.5 * config.learning_rate
    assert config is not GATES or (total, top) == (GATES.steps, 0)


def test_sharing_that_was_killed_is_completed_by_the_same_command(store, base_folder):
    """Each sharer's pieces are in the pool when their gates are done, all of them or none."""
    slowly = QUICK.but(slots=1)
    with Idiolect.open(store, base_folder("llama"), device="cpu") as house:
        unharmed = {user: bodies_of(house, user) for user in SHARERS}
        house.pieces.revoke(pool=the_pool(house).digest)
    code = f"""
    from idiolect.pieces.gates import GATES
    from idiolect.service import Idiolect
    with Idiolect.open({str(store)!r}, {str(base_folder("llama"))!r}, device="cpu") as house:
        gates = GATES.but(**{slowly.model_dump(exclude={"targets"})!r})
        house.pieces.share({SHARERS!r}, {TASK!r}, gates=gates, on_progress=lambda at: print(at.done, flush=True))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 1:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL

    with Idiolect.open(store, base_folder("llama"), device="cpu") as house:
        found = {user: house.store.pieces_of(user) for user in SHARERS}
        finished = {user: N_MODULES for user, rows in found.items() if rows}
        assert finished == {user: len(rows) for user, rows in found.items() if rows}
        assert 1 <= len(finished) < len(SHARERS)
        assert the_pool(house).n_pieces == len(house.store.pool_pieces(the_pool(house).digest)) == N_MODULES * len(finished)
        report, _ = house.pieces.share(SHARERS, TASK, gates=slowly)
        assert (report.kept, report.problems) == (finished, {})
        assert report.shared.keys() == set(SHARERS) - finished.keys()
        assert {user: house.store.pieces_of(user) for user in finished} == {user: found[user] for user in finished}
        assert house.pieces.share(SHARERS, TASK, gates=slowly)[0].kept == dict.fromkeys(SHARERS, N_MODULES)
        for user in SHARERS:  # another process may add up in another order, so not to the last bit
            for module, body in bodies_of(house, user).items():
                numbers = (np.frombuffer(b, "<f4") for b in (body, unharmed[user][module]))
                np.testing.assert_allclose(*numbers, atol=1e-5)


def bodies_of(house, user):
    """A person's pieces, by module."""
    return {piece.module: piece.body for piece in house.store.read_pieces(r.id for r in house.store.pieces_of(user)).values()}


# ----------------------------------------------------------------------------------------------------------- assemble


def test_newcomers_answer_with_what_was_assembled(house):
    plain = answer(house, None)
    report = house.pieces.assemble(NEW, TASK)
    assert (set(report.made), report.kept, report.problems, report.n_short) == (set(NEW), {}, {}, 0)
    manifest = house.store.manifest(report.adapters["xenia"])
    assert (manifest.kind, manifest.rank, manifest.alpha, manifest.user_id) == ("assembled", 6, 48.0, "xenia")
    assert manifest.item_ids == ("xenia-0", "xenia-1", "xenia-2")
    assert (manifest.settings["k"], manifest.settings["temperature"], manifest.settings["combine"]) == (3, 1.0, "delta")
    assert manifest.settings["pool_version"] == house.store.pool_version(the_pool(house).digest)
    mine = answer(house, "xenia")
    assert mine.scores != plain.scores
    assert house.adapters("xenia")[0].kind == "assembled"
    one = report.made["xenia"]
    assert one.size_bytes == len(house.store.payload(one.digest)) < 3 * 1024
    assert one.n_pieces == 3 * N_MODULES
    cited = {parent.id for parent in house.store.parents(one.digest) if parent.kind == "piece"}
    assert len(cited) == one.n_pieces


def test_a_second_run_does_nothing(house, monkeypatch):
    first = house.pieces.assemble(NEW, TASK)
    monkeypatch.setattr(house.base.model.__class__, "hidden", None)
    second = house.pieces.assemble(NEW, TASK)
    assert (second.made, second.kept) == ({}, first.adapters)


def test_the_record_in_the_store_gives_the_same_adapter_back(house):
    digest = house.pieces.assemble(["xenia"], TASK).adapters["xenia"]
    record, origin = read_assembled(house.store.blob_path(digest), house.base.model.sites())
    again, _ = read_assembled(house.store.blob_path(digest), house.base.model.sites())
    pool = house.pieces.pool(record.key)
    assert torch.equal(pool.adapter(record.entries)[1], pool.adapter(again.entries)[1])
    assert origin["tokenizer"] == house.base.tokenizer.digest
    assert record.to_bytes(house.base.tokenizer.digest) == house.store.payload(digest)


def test_a_sharer_gets_nothing_of_their_own(house):
    digest = house.pieces.assemble(["ana"], TASK).adapters["ana"]
    mine = {str(piece.id) for piece in house.store.pieces_of("ana")}
    assert not mine & {parent.id for parent in house.store.parents(digest)}


def test_everybody_who_has_no_adapter_of_their_own(house):
    assert house.pieces.newcomers(TASK) == ["empty", *NEW]
    report = house.pieces.assemble(None, TASK)
    assert set(report.made) == set(NEW)
    assert list(report.problems) == ["empty"]


def test_base_people_get_nothing_on_top_of_what_they_taught(house):
    house.store.add_person(Person("otto", house.store.history("ana")))
    assert "otto" not in house.pieces.newcomers(TASK)
    assert "a base person of the task adapter" in house.pieces.assemble(["otto"], TASK).problems["otto"]


def test_people_without_anything_to_read_stop_nobody(house, tmp_path):
    report = house.pieces.assemble(["empty", "xenia"], TASK)
    assert list(report.made) == ["xenia"]
    assert "there is no history to assemble from" in report.problems["empty"]
    wrong = {"user_id": "wrong", "profile": [{"id": "1", "text": "no score"}], "query": []}
    house.import_history(write(tmp_path / "odd.jsonl", record("odd", 1), wrong))
    report = house.pieces.assemble(["wrong", "odd"], TASK)
    assert "field 'score' is missing" in report.problems["wrong"]
    assert list(report.made) == ["odd"]
    with pytest.raises(PersonNotFound):
        house.pieces.assemble(["nobody"], TASK)


def test_a_history_without_a_single_answer_token(house, monkeypatch):
    from idiolect.pieces import newcomers

    def silent(base, recipe, person):
        return [type(e)(e.id, e.ids[: e.n_prompt], e.n_prompt) for e in render(base, recipe, person)]

    render = newcomers.render_history
    monkeypatch.setattr(newcomers, "render_history", silent)
    report = house.pieces.assemble(["xenia"], TASK)
    assert "nothing to assemble from" in report.problems["xenia"]
    assert house.adapters("xenia") == []


def test_a_pool_of_ones_own_pieces_is_nothing_to_assemble_from(house):
    house.pieces.revoke(user="ben")
    house.pieces.revoke(user="cleo")
    assert "nothing to assemble from" in house.pieces.assemble(["ana"], TASK).problems["ana"]


def test_fewer_pieces_than_asked_for(house):
    report = house.pieces.assemble(["xenia"], TASK, Settings(k=9))
    assert report.n_short == N_MODULES
    assert house.store.manifest(report.adapters["xenia"]).rank == 6
    house.pieces.share(["ana"], TASK, Consent(layers=(1,)), gates=QUICK)
    house.pieces.revoke(user="ben")
    report = house.pieces.assemble(["xenia"], TASK, Settings(k=2))
    assert report.n_short == 2
    record, _ = read_assembled(house.store.blob_path(report.adapters["xenia"]), house.base.model.sites())
    assert sorted(len(cited) for cited in record.entries.values()) == [1, 1, 2, 2]


def test_pools_that_are_not_there_or_not_the_one(house, load, base_folder):
    with pytest.raises(TaskAdapterNotFound):
        house.pieces.assemble(["xenia"], "LaMP-2N")
    with pytest.raises(PieceNotFound, match="no pool for LaMP-3 on the base itself"):
        house.pieces.assemble(["xenia"], TASK, bare=True)
    with pytest.raises(PieceNotFound, match="no pool's digest starts"):
        house.pieces.assemble(["xenia"], TASK, pool="zz")
    digest = the_pool(house).digest
    foreign = Idiolect(house.store, base_folder("llama", seed=5), device="cpu")
    with pytest.raises(BaseMismatch, match="another base"):
        foreign.pieces.assemble(["xenia"], TASK, pool=digest)
    house.train(["ana"], TASK, TrainingOptions(overrides=(*FAST.overrides, ("rank", 3))))
    house.pieces.share(["ana"], TASK, gates=QUICK)
    with pytest.raises(InputError, match="there are 2 pools"):
        house.pieces.assemble(["xenia"], TASK)
    assert house.pieces.assemble(["xenia"], TASK, pool=digest[:9]).made
    for row in house.store.pools():
        house.pieces.revoke(pool=row.digest)
    with pytest.raises(PieceNotFound, match="let somebody share first"):
        house.pieces.assemble(["xenia"], TASK)


def test_a_pool_of_another_task_adapter(house, tmp_path):
    digest = the_pool(house).digest
    house.train_task(TASK, write(tmp_path / "others.jsonl", record("paul", 3)), FAST)
    with pytest.raises(PieceNotFound, match=f"those on others: {digest[:12]}"):
        house.pieces.assemble(["xenia"], TASK)
    assert house.pieces.assemble(["xenia"], TASK, pool=digest).made
    assert answer(house, "xenia").scores


# ------------------------------------------------------------------------------------------------- served and exported


@pytest.mark.parametrize("combine", ["delta", "factor"])
def test_export_is_what_is_served(house, tmp_path, combine):
    digest = house.pieces.assemble(NEW, TASK, Settings(combine=combine)).adapters["xenia"]
    served = answer(house, "xenia")
    folder = house.export(digest, tmp_path / "plain")
    layout, row = read_peft(folder, house.base.model.sites())
    assert layout.rank == 2 * (3 if combine == "delta" else 1) + 2
    engine = house._engine_on(None)
    engine.bank.put("plain", layout, row)
    from idiolect.data.tasks import get_task
    from idiolect.engine.answers import Question
    from idiolect.engine.answers import answer as ask

    chosen = get_task(TASK)
    question = Question("q", house._example(chosen, "xenia", "a film about the sea", digest), "plain")
    plain = ask(engine, chosen, [question], 160)["q"]
    np.testing.assert_allclose(plain.scores, served.scores, atol=1e-4)
    (export,) = house.store.exports()
    assert (export.digest, export.place, export.stale) == (digest, str(folder), False)
    revoked = house.pieces.revoke(user="ana").revocation
    assert [e.place for e in revoked.stale_exports] == [str(folder)]
    with pytest.raises(InputError, match="assembled from others' pieces"):
        house.import_adapter("xenia", folder, task=TASK)


def test_exports_of_trained_adapters_are_noted_too(house, tmp_path):
    digest = house.store.head("ana", task=TASK, base=house.base.fingerprint)
    folder = house.export(digest, tmp_path / "own")
    assert [(e.kind, e.digest, e.place) for e in house.store.exports()] == [("adapter", digest, str(folder))]
    assert [e.place for e in house.delete_person("ana").stale_exports] == [str(folder)]


@pytest.mark.parametrize("kind", ["adapter", "pool"])
def test_nothing_stays_of_an_export_that_a_withdrawal_overtakes(house, tmp_path, monkeypatch, kind):
    from idiolect.model import files
    from idiolect.pieces import pool_files

    digest = house.pieces.assemble(["xenia"], TASK).adapters["xenia"]
    room, name = (files, "write_peft") if kind == "adapter" else (pool_files, "write_pool")
    write, place = getattr(room, name), tmp_path / "out"

    def slow(path, *rest):
        write(path, *rest)
        assert place.exists()
        house.store.revoke(user_id="ana")

    monkeypatch.setattr(room, name, slow)
    error, words = (AdapterNotFound, "adapter") if kind == "adapter" else (PieceNotFound, "a piece of pool")
    with pytest.raises(error, match=f"^{words} .* was withdrawn meanwhile; what was written was removed"):
        house.export(digest, place) if kind == "adapter" else house.pieces.export(the_pool(house).digest, place)
    assert (place.exists(), house.store.exports()) == (False, [])


def test_a_failed_export_is_not_on_record(house, tmp_path):
    digest = house.store.head("ana", task=TASK, base=house.base.fingerprint)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").write_text("dear")
    with pytest.raises(FileFormatError, match="choose another --out"):
        house.export(digest, tmp_path / "taken")
    with pytest.raises(InputError, match="choose another --out"):
        house.pieces.export(the_pool(house).digest, tmp_path / "taken" / "letter.txt")
    assert (house.store.exports(), (tmp_path / "taken" / "letter.txt").read_text()) == ([], "dear")


# ------------------------------------------------------------------------------------------------------------- revoke


def test_withdrawn_pieces_are_gone_and_others_go_on(house, store, tmp_path):
    first = house.pieces.assemble(NEW, TASK).adapters
    answer(house, "xenia")
    file = tmp_path / "pool.safetensors"
    house.pieces.export(the_pool(house).digest, file)
    mine = [piece.id for piece in house.store.pieces_of("ana")]
    bodies = [piece.body for piece in house.store.read_pieces(mine).values()]
    own = [body[-72:-40] for body in bodies]  # of the gates: numbers that no other piece has, and no adapter
    preview = house.pieces.preview(user="ana")
    assert (preview.pieces, set(preview.adapters)) == (tuple(sorted(mine)), set(first.values()))
    assert [e.place for e in preview.exports] == [str(file)]
    assert traces(store, *own)

    done = house.pieces.revoke(user="ana")
    assert done.revocation.pieces == tuple(sorted(mine))
    assert {one.digest for one in done.revocation.affected} == set(first.values())
    assert [e.place for e in done.revocation.stale_exports] == [str(file)]
    (again,) = done.again
    assert set(again.made) == set(NEW)
    for user in NEW:
        cited = {parent.id for parent in house.store.parents(again.adapters[user])}
        assert not cited & {str(piece) for piece in mine}
        assert house.adapters(user)[0].digest == again.adapters[user]
    assert answer(house, "xenia").scores
    assert not any(first[user] in engine.bank for user in NEW for engine in house._engines.values())
    house.store.close()
    assert traces(store, *own) == []


def test_pieces_by_id(house):
    mine = [piece.id for piece in house.store.pieces_of("ana")]
    assert house.pieces.revoke(mine[:1]).revocation.pieces == (mine[0],)
    assert len(house.store.pieces_of("ana")) == N_MODULES - 1
    with pytest.raises(PieceNotFound, match=str(mine[0])):
        house.pieces.revoke(mine[:1])
    with pytest.raises(PieceNotFound):
        house.pieces.preview(mine[1:2], user="ben")


def test_assembling_after_a_withdrawal_that_was_cut_off(house):
    before = house.pieces.assemble(NEW, TASK).adapters
    seen = []

    def stop(revocation):
        seen.append(revocation)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        house.pieces.revoke(user="ana", on_revoked=stop)
    assert {one.digest for one in seen[0].affected} == set(before.values())
    assert house.adapters("xenia") == []
    assert house.pieces.revoke(user="ana").revocation.pieces == ()
    report = house.pieces.assemble(None, TASK)
    assert set(report.made) == set(NEW)


def test_when_nothing_is_left_the_base_answers(house):
    house.pieces.assemble(NEW, TASK)
    done = house.pieces.revoke(pool=the_pool(house).digest[:8])
    (again,) = done.again
    assert "nothing is left in pool" in again.problems["xenia"]
    assert house.store.pools() == []
    with pytest.raises(AdapterNotFound, match="has no adapter"):
        answer(house, "xenia")


def test_leaving_the_affected_as_they_are(house):
    house.pieces.assemble(["xenia"], TASK)
    done = house.pieces.revoke(user="ana", reassemble=False)
    assert (len(done.revocation.affected), done.again) == (1, [])
    once = Once.of(done.revocation.affected[0].manifest)
    assert (once.settings, once.pool) == (Settings(), the_pool(house).digest)


def test_a_strength_is_kept_and_full_strength_is_not_said(house):
    full = house.pieces.assemble(["xenia"], TASK).adapters["xenia"]
    assert "strength" not in house.store.manifest(full).settings  # as before there was one
    weak = house.pieces.assemble(["xenia"], TASK, Settings(strength=0.5)).made["xenia"].digest
    assert house.store.manifest(weak).settings["strength"] == 0.5
    assert Once.of(house.store.manifest(full)).settings == Settings()
    assert house.pieces.assemble(["xenia"], TASK, Settings(strength=1.0)).kept == {"xenia": full}
    assert house.pieces.assemble(["xenia"], TASK, Settings(strength=0.5)).kept == {"xenia": weak}


def test_what_was_weak_is_assembled_anew_as_weak(house):
    house.pieces.assemble(["xenia"], TASK, Settings(strength=0.5))
    house.pieces.assemble(["yuri"], TASK)
    done = house.pieces.revoke(user="ana")
    made = {user: one.digest for again in done.again for user, one in again.made.items()}
    for user, strength in (("xenia", 0.5), ("yuri", 1.0)):
        assert Once.of(house.store.manifest(made[user])).settings == Settings(strength=strength)
        record, _ = read_assembled(house.store.blob_path(made[user]), house.base.model.sites())
        assert all(sum(w for _, w in cited) == pytest.approx(strength) for cited in record.entries.values())


def test_a_person_who_goes_takes_their_pieces_along(house):
    house.pieces.assemble(NEW, TASK)
    answer(house, "xenia")
    deletion = house.delete_person("ana")
    assert (deletion.n_pieces, {one.user_id for one in deletion.affected}) == (N_MODULES, set(NEW))
    assert house.adapters("xenia") == []
    (again,) = house.pieces.reassemble(deletion.affected)
    assert set(again.made) == set(NEW)
    assert answer(house, "xenia").scores


def test_what_cannot_be_assembled_anew_is_said(house, base_folder):
    house.pieces.assemble(NEW, TASK)
    deletion = house.delete_person("ana")
    foreign = Idiolect(house.store, base_folder("llama", seed=5), device="cpu")
    (again,) = foreign.pieces.reassemble(deletion.affected)
    assert list(again.problems) == list(NEW)
    assert all("made on another base" in problem for problem in again.problems.values())


LOOKS = {
    "assemble": lambda desk: desk.assemble(["yuri"], TASK),
    "revoke": lambda desk: desk.revoke(user="ben"),
    "inspect": lambda desk: desk.inspect(desk.list()[0].digest),
}


@pytest.mark.parametrize("look", LOOKS)
def test_whoever_sees_that_a_pool_changed_tells_the_banks(house, base_folder, look):
    """A product of sums stands in the bank as a row of its own, which no later look at the pool would take out."""
    digest = house.pieces.assemble(["xenia"], TASK, Settings(combine="factor")).adapters["xenia"]
    answer(house, "xenia")
    (engine,) = (engine for engine in house._engines.values() if digest in engine.bank)
    with Idiolect.open(house.store.place, base_folder("llama"), device="cpu") as other:
        other.pieces.revoke(user="ana", reassemble=False)
    assert digest in engine.bank
    LOOKS[look](house.pieces)
    assert digest not in engine.bank


def test_a_withdrawal_by_another_process_is_seen(house, base_folder):
    house.pieces.assemble(NEW, TASK)
    before = answer(house, "xenia")
    code = f"""
    from idiolect import Idiolect
    with Idiolect.open({house.store.place!r}, {str(base_folder("llama"))!r}, device="cpu") as other:
        other.pieces.revoke(user="ana")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=120, env=os.environ)
    after = answer(house, "xenia")
    assert after.scores != before.scores
    key = PoolKey.from_dict(the_pool(house).key)
    assert len(house.pieces.pool(key)) == 2 * N_MODULES


def test_a_record_that_cites_what_is_gone(house):
    digest = house.pieces.assemble(["xenia"], TASK).adapters["xenia"]
    payload = house.store.payload(digest)
    house.pieces.revoke(user="ana", reassemble=False)
    path = house.store.blob_path(digest)
    path.write_bytes(payload)
    engine = house._engine_on(house.store.task_head(TASK, house.base.fingerprint))
    with pytest.raises(PieceNotFound, match="no longer in the pool"):
        engine.bank.stack([digest])
    own = house.store.manifest(house.store.head("ben", task=TASK, base=house.base.fingerprint))
    with pytest.raises(PieceNotFound):
        house.store.publish(replace(own, seed=9), payload, parents=[Parent("piece", "1")])


# -------------------------------------------------------------------------------------------------------------- files


@pytest.fixture
def file(house, tmp_path):
    path = tmp_path / "pool.safetensors"
    house.pieces.export(the_pool(house).digest, path, note="with everybody's consent")
    return path


@pytest.fixture
def elsewhere(prepared, tmp_path, base_folder):
    """Another store on the same base, with the same task adapter and a person of its own."""
    with Idiolect.open(tmp_path / "elsewhere", base_folder("llama"), device="cpu") as house:
        house.train_task(TASK, prepared / "base.jsonl", FAST)
        house.import_history(write(tmp_path / "zoe.jsonl", record("zoe", 3)))
        yield house


def test_a_pool_travels(house, file, elsewhere):
    done = elsewhere.pieces.import_pool(file)
    assert (done.counts.n_new, done.note, done.usable) == (3 * N_MODULES, "with everybody's consent", True)
    assert elsewhere.pieces.import_pool(file).counts.n_new == 0
    assert {p.id: p.body for p in elsewhere.store.pool_pieces(done.pool)} == {
        p.id: p.body for p in house.store.pool_pieces(done.pool)
    }
    assert elsewhere.pieces.assemble(["zoe"], TASK).made
    assert answer(elsewhere, "zoe").scores
    (row,) = elsewhere.store.pools()
    assert (row.n_people, row.n_origins) == (0, 1)
    assert elsewhere.pieces.inspect(done.pool[:9]).own_bytes > 0


def test_a_pools_file_says_nothing_of_people(house, file, tmp_path):
    assert not any(word.encode() in file.read_bytes() for word in SHARERS)
    found = [ids.tolist() for name, ids in load_file(file).items() if name.endswith(".ids")]
    assert found == [sorted(ids) for ids in found]
    twin = tmp_path / "twin.safetensors"
    house.pieces.export(the_pool(house).digest, twin, note="with everybody's consent")
    assert twin.read_bytes() == file.read_bytes()
    assert sorted(e.place for e in house.store.exports()) == sorted([str(file), str(twin)])
    other = tmp_path / "letter.txt"
    other.write_text("dear")
    with pytest.raises(InputError, match="no file of a pool"):
        house.pieces.export(the_pool(house).digest, other)
    assert other.read_text() == "dear"


def test_without_the_task_adapter_a_pool_is_of_no_use_yet(file, tmp_path, base_folder):
    with Idiolect.open(tmp_path / "bare", base_folder("llama"), device="cpu") as house:
        done = house.pieces.import_pool(file)
        assert not done.usable
        house.import_history(write(tmp_path / "zoe.jsonl", record("zoe", 3)))
        with pytest.raises(TaskAdapterNotFound, match="not in this store"):
            house.pieces.assemble(["zoe"], TASK, pool=done.pool)


def spoilt(file, change, **about):
    """The same file with something changed: tensors by a function, what it says of itself by name."""
    tensors, said = load_file(file), json.loads(header_of(file)["idiolect"])
    change(tensors)
    said = {**said, **about, "key": {**said["key"], **about.get("key", {})}}
    save_file(tensors, file, metadata={"idiolect": json.dumps(said)})


def first(tensors, part):
    return next(name for name in sorted(tensors) if name.endswith(part))


def nan(tensors):
    tensors[first(tensors, ".gates")][0, 3] = float("nan")


def twice(tensors):
    ids = tensors[first(tensors, ".ids")]
    ids[1] = ids[0]


def same_id_elsewhere(tensors):
    names = [name for name in sorted(tensors) if name.endswith(".ids")]
    tensors[names[0]][0] = 0
    tensors[names[1]][0] = 0


def half(tensors):
    del tensors[first(tensors, ".b")]


def narrow(tensors):
    for part in (".a", ".b"):
        name = first(tensors, part)
        tensors[name] = (tensors[name][:, :, :1] if part == ".a" else tensors[name][:, :1]).contiguous()


def doubled(tensors):
    tensors[first(tensors, ".a")] = tensors[first(tensors, ".a")].double()


def one_less(tensors):
    module = first(tensors, ".ids").removesuffix(".ids")
    for part in ("ids", "a", "b", "gates"):
        tensors[f"{module}.{part}"] = tensors[f"{module}.{part}"][1:].contiguous()


def foreign_module(tensors):
    for name in [name for name in tensors if ".layers.0." in name]:
        tensors[name.replace(".layers.0.", ".layers.9.")] = tensors.pop(name)


def same(tensors):
    pass


BAD = {
    "not finite": (nan, {}, ShapeError, "not finite"),
    "an id twice": (twice, {}, FileFormatError, "occur twice"),
    "an id in two modules": (same_id_elsewhere, {}, ShapeError, "occurs twice"),
    "half a piece": (half, {}, FileFormatError, "are missing"),
    "another rank": (narrow, {}, ShapeError, "a piece of"),
    "another type": (doubled, {}, FileFormatError, "shapes or types"),
    "a piece less": (one_less, {}, FileFormatError, "not those that it names"),
    "a module that is not here": (foreign_module, {}, ShapeError, "does not have"),
    "another base": (same, {"key": {"base": "a" * 64}}, BaseMismatch, "is a pool of base aaaaaaaaaaaa"),
    "another tokenizer": (same, {"tokenizer": "a" * 64}, BaseMismatch, "another tokenizer"),
    "a newer format": (same, {"format_version": 2}, FileFormatError, "upgrade"),
    "another format": (same, {"format": "adapter"}, FileFormatError, "cannot be read"),
    "an alpha that cannot be": (same, {"key": {"alpha": -1.0}}, FileFormatError, "cannot be read"),
    "a rank that is no number": (same, {"key": {"rank": "2"}}, FileFormatError, "cannot be read"),
    "an unknown task": (same, {"key": {"task": "LaMP-99"}}, ConfigError, "not known"),
    "an unknown target": (same, {"key": {"targets": ["z_proj"]}}, Exception, "z_proj"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_strangers_file_is_checked_before_anything_is_kept(elsewhere, file, name):
    change, about, error, words = BAD[name]
    spoilt(file, change, **about)
    with pytest.raises(error, match=words) as caught:
        elsewhere.pieces.import_pool(file)
    assert "\n" not in str(caught.value)
    assert elsewhere.store.pools() == []


def test_what_is_no_pool_at_all(house, tmp_path):
    for content in (b"", b"x" * 100, None):
        path = tmp_path / "odd.safetensors"
        if content is None:
            save_file({"row": torch.zeros(3)}, path)
        else:
            path.write_bytes(content)
        with pytest.raises(FileFormatError, match="no file of a pool"):
            house.pieces.import_pool(path)
    with pytest.raises(FileFormatError, match="there is no file"):
        house.pieces.import_pool(tmp_path / "nowhere")


def test_a_file_does_not_bring_back_what_was_withdrawn(house, file):
    house.pieces.revoke(user="ana")
    counts = house.pieces.import_pool(file).counts
    assert (counts.n_new, counts.n_known, counts.n_withdrawn) == (0, 2 * N_MODULES, N_MODULES)


def test_an_id_that_means_something_else(elsewhere, file):
    elsewhere.pieces.import_pool(file)
    tensors = load_file(file)
    name = first(tensors, ".a")
    spoilt(file, lambda tensors: tensors[name].mul_(2))
    with pytest.raises(InputError, match="as something else"):
        elsewhere.pieces.import_pool(file)


# -------------------------------------------------------------------------------------------------------------- views


def test_what_an_assembled_adapter_cites(house):
    digest = house.pieces.assemble(["xenia"], TASK, Settings(k=2)).adapters["xenia"]
    view = house.pieces.inspect("xenia", TASK)
    assert (view.digest, view.is_head, view.stale, view.n_history) == (digest, True, False, 3)
    assert view.size_bytes == len(house.store.payload(digest))
    assert all(len(cited) == 2 and sum(w for _, w in cited) == pytest.approx(1) for cited in view.entries.values())
    assert house.pieces.inspect(digest[:10]).entries == view.entries
    house.pieces.share(["ana"], TASK, gates=QUICK, direction_only=True)
    assert not house.pieces.inspect("xenia", TASK).stale  # assembled anew
    with pytest.raises(InputError, match="was trained, not assembled"):
        house.pieces.inspect("ana", TASK)


def test_a_pool_that_grew_makes_adapters_stale(house):
    house.pieces.share(["ana"], TASK, Consent(layers=(1,)), gates=QUICK)
    house.pieces.assemble(["xenia"], TASK)
    house.pieces.share(["ana"], TASK, gates=QUICK)
    assert house.pieces.inspect("xenia", TASK).stale
    report = house.pieces.assemble(["xenia"], TASK)
    assert report.made
    assert not house.pieces.inspect("xenia", TASK).stale


def test_what_a_pool_costs(house):
    empty = house.pieces.inspect(the_pool(house).digest)
    assert isinstance(empty, PoolView)
    house.pieces.assemble(NEW, TASK)
    view = house.pieces.inspect(the_pool(house).digest)
    records = [row.size_bytes for row in house.store.adapters(kind="assembled")]
    own = [row.size_bytes for row in house.store.adapters(kind="user")]
    assert (view.row.n_people, view.n_adapters, set(view.per_module.values())) == (3, 2, {3})
    assert view.record_bytes == sum(records) / 2
    assert view.own_bytes == sum(own) / 3
    assert abs(empty.record_bytes - view.record_bytes) < 16
    assert view.row.size_bytes == sum(len(p.body) for p in house.store.pool_pieces(view.row.digest))
    for n, ratio in view.ratios.items():
        assert ratio == n * view.own_bytes / (view.row.size_bytes + n * view.record_bytes)
    assert list(view.ratios) == [10, 100, 1000, 10000]
    assert sorted(view.ratios.values()) == list(view.ratios.values())
    n = view.break_even
    assert n * view.own_bytes == pytest.approx(view.row.size_bytes + n * view.record_bytes)
