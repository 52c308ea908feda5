"""The use-cases from end to end, on a real store and a small base."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from idiolect.data.batch import pack_prompts
from idiolect.engine.sampling import Sampling
from idiolect.errors import (
    AdapterNotFound,
    BaseMismatch,
    ConfigError,
    EmptyHistory,
    FileFormatError,
    InputError,
    PersonNotFound,
    StoreBusy,
    TaskAdapterNotFound,
    TaskFieldError,
)
from idiolect.model.bank import Bank
from idiolect.model.files import from_record
from idiolect.service import Idiolect, TrainingOptions
from idiolect.train import stages
from idiolect.train.stages import with_task_adapter

PLANTED = "xylophone-marmalade-4711"
WHO = "user-zebra-0815"
FAST = TrainingOptions(
    overrides=(("epochs", 2), ("rank", 2), ("targets", ("q_proj", "v_proj")), ("max_tokens", 160), ("learning_rate", 2e-2))
)


def record(user, n, queries=0, words="saw a film about the sea"):
    items = [
        {"id": f"{user}-{i}", "date": f"2020-01-{i + 1:02}", "text": f"{user} {words} {i}", "score": 1 + i % 5}
        for i in range(n)
    ]
    asked = [{"id": f"{user}-q{i}", "input": f"Which score? review: {user} asks {i}", "gold": "3"} for i in range(queries)]
    return {"user_id": user, "profile": items, "query": asked}


def write(path, *records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


@pytest.fixture
def people(tmp_path):
    return write(tmp_path / "people.jsonl", record("ana", 4), record("ben", 1), record(WHO, 3, words=PLANTED))


@pytest.fixture
def population(tmp_path):
    return write(tmp_path / "population.jsonl", record("otto", 3, 1), record("paul", 2))


@pytest.fixture
def house(tmp_path, base_folder):
    with Idiolect.open(tmp_path / "store", base_folder("llama"), device="cpu") as house:
        yield house


@pytest.fixture
def ready(house, people, population):
    """Everybody imported and trained."""
    house.import_history(people, task="LaMP-3")
    house.train_task("LaMP-3", population, FAST)
    house.train(None, "LaMP-3", FAST)
    return house


@pytest.fixture
def jobs(monkeypatch):
    seen, train = [], stages.train

    def spy(base, given, *rest):
        given = list(given)
        seen.extend(given)
        train(base, given, *rest)

    monkeypatch.setattr(stages, "train", spy)
    return seen


def test_from_history_to_answer(house, people, population):
    report = house.import_history(people, task="LaMP-3")
    assert (report.n_new_people, report.n_items) == (3, 8)
    assert house.import_history(people).n_duplicates == 8
    assert [item.id for item in house.history("ana")] == [f"ana-{i}" for i in range(4)]
    task = house.train_task("LaMP-3", population, FAST)
    report = house.train(["ana", "ben", "ana"], "LaMP-3", FAST)
    assert set(report.made) == {"ana", "ben"}
    assert {row.digest for row in house.adapters("ana")} == {report.made["ana"]}
    assert {row.digest for row in house.adapters(task="LaMP-3")} == {task, *report.made.values()}
    mine, plain = (house.generate("ana", "a film about the sea", task="LaMP-3", plain=p) for p in (False, True))
    nobody = house.generate(None, "a film about the sea", task="LaMP-3")
    assert mine.text in "12345"
    assert len(mine.scores) == 5
    assert mine.scores != plain.scores
    assert plain.scores == pytest.approx(nobody.scores, abs=1e-6)
    assert {run.status for run in house.store.runs()} == {"done"}


def test_a_whole_lamp_input_is_the_same_question(ready):
    from idiolect.data.tasks import get_task

    text = "a film about the sea"
    whole = get_task("LaMP-3").query_input(text)
    assert ready.generate("ana", whole, task="LaMP-3") == ready.generate("ana", text, task="LaMP-3")


def test_free_answers_and_sampling(ready):
    free = ready.generate("ana", "the sea", task="LaMP-3", free=True, max_new_tokens=3)
    assert free.n_answer <= 3
    warm = Sampling.build(temperature=2.0, seed=1)
    asked = [ready.generate("ana", "the sea", task="LaMP-3", free=True, sampling=warm, max_new_tokens=9) for _ in range(2)]
    assert asked[0] == asked[1]


def test_rolling_back_gives_back_the_former_answers(ready):
    first = ready.generate("ana", "the sea", task="LaMP-3")
    former = ready.store.head("ana", task="LaMP-3", base=ready.base.fingerprint)
    other = TrainingOptions(overrides=(*FAST.overrides, ("seed", 5)))
    ready.train(["ana"], "LaMP-3", other)
    assert ready.generate("ana", "the sea", task="LaMP-3").scores != first.scores
    assert ready.rollback("ana", "LaMP-3") == former
    assert ready.generate("ana", "the sea", task="LaMP-3") == first
    with pytest.raises(AdapterNotFound, match="no earlier adapter"):
        ready.rollback("ana", "LaMP-3")


def test_retrieval_has_a_variant_of_its_own(ready, population):
    options = TrainingOptions(overrides=FAST.overrides, retriever="bm25", k=1)
    with pytest.raises(TaskAdapterNotFound, match="bm25-k1"):
        ready.train(["ana"], "LaMP-3", options)
    ready.train_task("LaMP-3", population, options)
    ready.train(["ana"], "LaMP-3", options)
    plain, retrieving = (ready.generate("ana", "ana saw film 2", task="LaMP-3", variant=v) for v in ("k0", "bm25-k1"))
    assert retrieving.n_prompt > plain.n_prompt + 10


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("bare", [False, True])
def test_an_exported_folder_is_the_served_model_on_the_raw_base(ready, reference, tmp_path, bare):
    from peft import PeftModel

    if bare:
        ready.train(["ana"], "LaMP-3", FAST, bare=True)
    digest = ready.store.head("ana", task="LaMP-3", base=ready.base.fingerprint)
    under = ready.store.manifest(digest).task_adapter
    assert (under is None) == bare
    folder = ready.export(digest[:12], tmp_path / "out" / "ana")
    ids = [7, 100, 42, 11, 250, 30, 12]
    base = with_task_adapter(ready.base, ready.store, under) if under else ready.base
    bank = Bank(base.model.sites(), base.device, find=ready.store.blob_path)
    with torch.inference_mode():
        served, _ = base.model.begin(pack_prompts([ids]), bank.stack([digest]), 1)
        raw = reference("llama")(torch.tensor([ids])).logits[:, -1]
        theirs = PeftModel.from_pretrained(reference("llama"), folder).eval()(torch.tensor([ids])).logits[:, -1]
    assert (served - raw).abs().max() > 1e-3
    torch.testing.assert_close(served, theirs, atol=1e-5, rtol=1e-5)
    manifest = json.loads((folder / "idiolect.json").read_text())
    assert (manifest["user_id"], manifest["digest"], manifest["includes_task_adapter"]) == ("ana", digest, not bare)
    alone = ready.export(digest, tmp_path / "alone", alone=True)
    assert json.loads((alone / "adapter_config.json").read_text())["r"] == 2
    with pytest.raises(AdapterNotFound):
        ready.export("0123456789", tmp_path / "none")
    with pytest.raises(FileFormatError, match="choose another --out"):
        ready.export(digest, folder)


def test_another_base_refuses_the_adapters(ready, base_folder, tmp_path):
    digest = ready.store.head("ana", task="LaMP-3", base=ready.base.fingerprint)
    with Idiolect.open(tmp_path / "store", base_folder("llama", seed=1), device="cpu") as other:
        with pytest.raises(AdapterNotFound, match="'ana' has no adapter for LaMP-3"):
            other.generate("ana", "the sea", task="LaMP-3")
        with pytest.raises(BaseMismatch, match=digest[:12]):
            other.export(digest, tmp_path / "out")
        with pytest.raises(TaskAdapterNotFound):
            other.train(["ana"], "LaMP-3", FAST)


# ------------------------------------------------------------------------------------------------------- whom to train


def test_people_with_an_adapter_never_enter_stage_one(ready, tmp_path, jobs):
    data = write(tmp_path / "more.jsonl", record("ana", 4, 1), record("quin", 2), record("rosa", 2))
    ready.train_task("LaMP-3", data, FAST, exclude=["rosa"])
    assert [e.id for e in jobs[0].examples] == ["quin-0", "quin-1"]
    with pytest.raises(EmptyHistory, match="other than the targets"):
        ready.train_task("LaMP-3", users=["ana", WHO], options=FAST)


def test_base_items_of_people_with_an_adapter_are_left_out_too(ready, tmp_path, jobs):
    write(tmp_path / "folder" / "users.jsonl", record("quin", 1))
    lines = [{"author": a, "id": f"{a}-x", "text": f"{a} went out", "score": 2} for a in ("ana", "tom")]
    write(tmp_path / "folder" / "base.jsonl", *lines)
    ready.train_task("LaMP-3", tmp_path / "folder", FAST)
    assert sorted(e.id for e in jobs[0].examples) == ["quin-0", "tom-x"]


def test_base_people_who_come_twice_count_once(house, tmp_path, jobs):
    """LaMP's time split repeats a person's profile with each of their questions."""
    first, second = record("otto", 3, 2), record("otto", 3, 2)
    second["query"][0]["id"] = "otto-q7"
    house.train_task("LaMP-3", write(tmp_path / "twice.jsonl", first, second), FAST)
    assert sorted(e.id for e in jobs[0].examples) == ["otto-0", "otto-1", "otto-2", "otto-q0", "otto-q1", "otto-q7"]


def test_base_people_from_the_store(house, people, jobs):
    house.import_history(people)
    digest = house.train_task("LaMP-3", options=FAST, users=["ben", "ana"])
    assert len(jobs[0].examples) == 5
    assert {p.id for p in house.store.parents(digest) if p.kind == "person"} == {"ana", "ben"}
    with pytest.raises(InputError, match="--data"):
        house.train_task("LaMP-3", options=FAST)


def test_who_cannot_be_trained_is_said(house, tmp_path, people, population):
    with pytest.raises(EmptyHistory, match="nobody in the store"):
        house.train(None, "LaMP-3", FAST)
    house.import_history(people)
    with pytest.raises(PersonNotFound, match="nobody"):
        house.train(["ana", "nobody"], "LaMP-3", FAST)
    with pytest.raises(TaskAdapterNotFound, match="--bare"):
        house.train(["ana"], "LaMP-3", FAST)
    house.import_history(write(tmp_path / "empty.jsonl", {"user_id": "dora", "profile": [], "query": []}))
    with pytest.raises(EmptyHistory, match="'dora' has no items"):
        house.train(["dora"], "LaMP-3", FAST, bare=True)
    with pytest.raises(TaskFieldError, match="title"):
        house.train(["ana"], "LaMP-4", FAST, bare=True)
    report = house.train(["dora", "ben"], "LaMP-3", FAST, bare=True)
    assert (set(report.made), set(report.problems)) == ({"ben"}, {"dora"})
    with pytest.raises(ConfigError, match="epochs"):
        house.train(["ana"], "LaMP-3", TrainingOptions(overrides=(("epochs", 0),)))
    assert {p.id for p in house.people()} == {"ana", "ben", WHO, "dora"}


def test_a_file_with_a_wrong_item_imports_nothing(house, tmp_path):
    wrong = record("ana", 2)
    wrong["profile"][1]["score"] = "nine"
    file = write(tmp_path / "wrong.jsonl", record("ben", 2), wrong)
    with pytest.raises(InputError):
        house.import_history(file, task="LaMP-3")
    assert house.people() == []


def test_two_runs_on_one_store(ready, tmp_path, base_folder):
    with ready.store.lock(), Idiolect.open(tmp_path / "store", base_folder("llama"), device="cpu") as other:
        with pytest.raises(StoreBusy):
            other.train(["ana"], "LaMP-3", FAST)
        other.generate("ana", "the sea", task="LaMP-3")  # answering needs no lock


def test_a_run_that_fails_is_noted_and_lets_go_of_the_store(ready, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("broken")

    monkeypatch.setattr(stages, "train", broken)
    changed = TrainingOptions(overrides=(*FAST.overrides, ("seed", 9)))
    with pytest.raises(RuntimeError, match="broken"):
        ready.train(["ana"], "LaMP-3", changed)
    assert ready.store.runs()[0].status == "failed"
    monkeypatch.undo()
    assert set(ready.train(["ana"], "LaMP-3", changed).made) == {"ana"}


# ----------------------------------------------------------------------------------------------------------- forgetting


def traces(folder, *words):
    """Files that hold one of these words, in name or content."""
    return [
        path.name
        for path in folder.rglob("*")
        if path.is_file() and any(word in path.name or word.encode() in path.read_bytes() for word in words)
    ]


def test_forgetting_leaves_no_trace(ready, tmp_path):
    store = tmp_path / "store"
    options = TrainingOptions(overrides=FAST.overrides, retriever="bm25", k=1)
    ready.train([WHO], "LaMP-3", options, bare=True)
    digest = ready.store.head(WHO, task="LaMP-3", base=ready.base.fingerprint)
    assert traces(store, PLANTED)
    assert traces(store, WHO)
    before = {u: ready.generate(u, "the sea", task="LaMP-3") for u in ("ana", "ben")}
    ready.generate(WHO, "the sea", task="LaMP-3")
    deletion = ready.delete_person(WHO)
    assert (deletion.n_items, deletion.n_adapters, deletion.scrubbed) == (3, 2, True)
    assert traces(store, PLANTED, WHO, digest) == []
    for call in (
        lambda: ready.generate(WHO, "the sea", task="LaMP-3"),
        lambda: ready.history(WHO),
        lambda: ready.train([WHO], "LaMP-3", FAST),
        lambda: ready.delete_person(WHO),
    ):
        with pytest.raises(PersonNotFound):
            call()
    with pytest.raises(AdapterNotFound):
        ready.export(digest, tmp_path / "out")
    assert not ready.store.blob_path(digest).exists()
    assert {u: ready.generate(u, "the sea", task="LaMP-3") for u in ("ana", "ben")} == before


def test_forgetting_a_person_who_was_in_stage_one_says_so(house, people, tmp_path):
    house.import_history(people)
    digest = house.train_task("LaMP-3", options=FAST, users=[WHO, "ben"])
    deletion = house.delete_person(WHO)
    assert deletion.made_from == (digest,)
    assert traces(tmp_path / "store", PLANTED, WHO) == []


# -------------------------------------------------------------------------------------------------- without torch; crash


def python(code, *arguments):
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_collecting_needs_no_torch_and_the_rest_says_so(tmp_path, people):
    code = """
        import sys
        sys.modules["torch"] = None
        from idiolect.errors import DependencyMissing
        from idiolect.service import Idiolect
        store, people, out = sys.argv[1:]
        with Idiolect.open(store) as house:
            print(house.import_history(people, task="LaMP-3").n_items, len(house.people()))
            calls = {
                "train": lambda: house.train(["ana"], "LaMP-3"),
                "train_task": lambda: house.train_task("LaMP-3", people),
                "generate": lambda: house.generate("ana", "x", task="LaMP-3"),
                "rollback": lambda: house.rollback("ana", "LaMP-3"),
                "export": lambda: house.export("abc", out),
                "evaluate": lambda: house.evaluate(people, "LaMP-3", out),
                "base": lambda: house.base,
            }
            for name, call in calls.items():
                try:
                    call()
                except DependencyMissing as error:
                    assert "pip install 'idiolect[local]'" in str(error)
                    print(name)
            house.delete_person("ana")
    """
    process = python(code, tmp_path / "store", people, tmp_path / "out")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.split() == ["8", "3", "train", "train_task", "generate", "rollback", "export", "evaluate", "base"]


def test_a_killed_run_is_completed_by_the_same_command(tmp_path, base_folder):
    names = [f"p{i}" for i in range(8)]
    data = write(tmp_path / "people.jsonl", *(record(name, 3) for name in names))
    code = """
        import sys
        from idiolect.service import Idiolect, TrainingOptions
        store, base, data = sys.argv[1:]
        options = TrainingOptions(overrides=(("slots", 2), ("rank", 2), ("max_tokens", 160), ("seed", 1)))
        with Idiolect.open(store, base, device="cpu") as house:
            house.import_history(data)
            house.train(None, "LaMP-3", options, bare=True, on_progress=lambda p: print(p.done, flush=True))
    """
    process = python(code, tmp_path / "store", base_folder("llama"), data)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 2:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL

    options = TrainingOptions(overrides=(("slots", 2), ("rank", 2), ("max_tokens", 160), ("seed", 1)))
    with Idiolect.open(tmp_path / "store", base_folder("llama"), device="cpu") as house:
        finished = {row.user_id: row.digest for row in house.adapters()}
        files = {d: house.store.blob_path(d).read_bytes() for d in finished.values()}
        assert 2 <= len(finished) < 8
        report = house.train(None, "LaMP-3", options, bare=True)
        assert report.kept == finished
        assert report.made.keys() == set(names) - finished.keys()
        assert files == {d: house.store.blob_path(d).read_bytes() for d in finished.values()}
        whole = report.adapters
        assert house.train(None, "LaMP-3", options, bare=True).kept == whole
        rows = {user: from_record(house.store.blob_path(d))[1] for user, d in whole.items()}
    with Idiolect.open(tmp_path / "other", base_folder("llama"), device="cpu") as unharmed:
        unharmed.import_history(data)
        made = unharmed.train(None, "LaMP-3", options, bare=True).made
        for user, digest in made.items():  # another process may add up in another order, so not to the last bit
            torch.testing.assert_close(rows[user], from_record(unharmed.store.blob_path(digest))[1], atol=1e-5, rtol=1e-4)
