"""The use-cases from end to end, on a real store and a small base."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors.torch import load_file, save_file

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
    ShapeError,
    StoreBusy,
    TargetMismatch,
    TaskAdapterNotFound,
    TaskFieldError,
)
from idiolect.house import TrainingOptions
from idiolect.model.bank import Bank
from idiolect.model.files import from_record
from idiolect.service import Idiolect
from idiolect.store.records import Parent
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


def head_of(house, user="ana"):
    return house.store.head(user, task="LaMP-3", base=house.base.fingerprint)


def answer_of(house, user="ana"):
    return house.generate(user, "a film about the sea", task="LaMP-3")


def test_another_tokenizer_or_template_refuses_the_adapters(base_folder, people, tmp_path):
    """Config and weights are the same, and so is the fingerprint; but every prompt is other tokens."""
    folder = shutil.copytree(base_folder("llama"), tmp_path / "base")
    with Idiolect.open(tmp_path / "store", folder, device="cpu") as house:
        house.import_history(people)
        house.train(["ana"], "LaMP-3", FAST, bare=True)
        answer_of(house)
    (folder / "chat_template.jinja").write_text("{% for m in messages %}<|user|>{{ m['content'] }}{% endfor %}<|assistant|>")
    with Idiolect.open(tmp_path / "store", folder, device="cpu") as house:
        assert house.base.fingerprint == house.adapters("ana")[0].base
        with pytest.raises(BaseMismatch, match="another tokenizer or chat template"):
            answer_of(house)
        assert set(house.train(["ana"], "LaMP-3", FAST, bare=True).made) == {"ana"}
        answer_of(house)


# ------------------------------------------------------------------------------------------------------------ importing


def test_an_exported_adapter_comes_back_as_it_was(ready, tmp_path):
    digest, before = head_of(ready), answer_of(ready)
    folder = ready.export(digest, tmp_path / "out", alone=True)
    back = ready.import_adapter("ana", folder, task="LaMP-3")
    assert back != digest
    assert head_of(ready) == back
    assert answer_of(ready) == before
    rows = [from_record(ready.store.blob_path(d)) for d in (digest, back)]
    assert torch.equal(rows[0][1], rows[1][1])
    assert rows[0][0] == rows[1][0]
    theirs, mine = ready.store.manifest(digest), ready.store.manifest(back)
    assert (mine.base, mine.task_adapter, mine.rank, mine.alpha) == (theirs.base, theirs.task_adapter, 2, theirs.alpha)
    assert mine.settings["imported"] == "peft"
    assert mine.settings["row"] == hashlib.sha256(rows[0][1].numpy().tobytes()).hexdigest()
    assert Parent("adapter", digest) in ready.store.parents(back)
    assert ready.import_adapter("ana", folder, task="LaMP-3") == back
    assert ready.rollback("ana", "LaMP-3") == digest


def test_an_export_with_its_task_adapter_goes_on_the_base(ready, tmp_path):
    """On the task adapter it would count twice."""
    before, plain = (ready.generate("ana", "a film about the sea", task="LaMP-3", plain=p) for p in (False, True))
    back = ready.import_adapter("ana", ready.export(head_of(ready), tmp_path / "out"), task="LaMP-3")
    assert ready.store.manifest(back).task_adapter is None
    after = answer_of(ready)
    assert after.n_prompt == before.n_prompt
    assert after.scores == pytest.approx(before.scores, abs=1e-4)
    assert after.scores != pytest.approx(plain.scores, abs=1e-3)


def test_an_imported_adapter_keeps_its_retrieval(ready, population, tmp_path):
    options = TrainingOptions(overrides=FAST.overrides, retriever="bm25", k=1)
    ready.train_task("LaMP-3", population, options)
    digest, plain = ready.train(["ana"], "LaMP-3", options).made["ana"], head_of(ready)
    before = ready.generate("ana", "ana saw film 2", task="LaMP-3", variant="bm25-k1")
    ready.import_adapter("ana", ready.export(digest, tmp_path / "out", alone=True), task="LaMP-3")
    assert ready.generate("ana", "ana saw film 2", task="LaMP-3", variant="bm25-k1") == before
    assert head_of(ready) == plain


def by_peft(reference, folder, seed=0):
    """A folder that PEFT wrote, and the model that it wrote it from."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=3, lora_alpha=5, target_modules=["k_proj", "v_proj"], task_type="CAUSAL_LM")
    theirs = get_peft_model(reference("llama"), config)
    torch.manual_seed(seed)
    for name, weight in theirs.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn_like(weight) * 0.2
    theirs.save_pretrained(folder)
    return theirs.eval()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_folder_of_pefts_own(ready, reference, tmp_path):
    ids = [7, 100, 42, 11, 250, 30, 12]
    theirs = by_peft(reference, tmp_path / "theirs")
    bare = ready.import_adapter("ana", tmp_path / "theirs", task="LaMP-3", bare=True)
    bank = Bank.on(ready.base, ready.store.blob_path)
    with torch.inference_mode():
        served, _ = ready.base.model.begin(pack_prompts([ids]), bank.stack([bare]), 1)
        torch.testing.assert_close(served, theirs(torch.tensor([ids])).logits[:, -1], atol=1e-5, rtol=1e-5)
    assert ready.store.manifest(bare).task_adapter is None
    on_task = ready.import_adapter("ana", tmp_path / "theirs", task="LaMP-3")
    assert ready.store.manifest(on_task).task_adapter == ready.store.task_head("LaMP-3", ready.base.fingerprint)
    assert answer_of(ready).text in "12345"
    by_peft(reference, tmp_path / "others", seed=1)
    assert ready.import_adapter("ana", tmp_path / "others", task="LaMP-3") not in (bare, on_task)


def spoil_tensors(folder, change):
    file = folder / "adapter_model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def spoil_json(folder, name="idiolect.json", **changes):
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def pickled(folder):
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def first_a(tensors, change):
    name = next(n for n in sorted(tensors) if "lora_A" in n)
    return {**tensors, name: change(tensors[name]).contiguous()}


def renamed(tensors):
    return {name.replace("q_proj", "z_proj"): value for name, value in tensors.items()}


SPOILT = {
    "no folder": (shutil.rmtree, FileFormatError, "adapter_config.json is missing"),
    "no config": (lambda f: (f / "adapter_config.json").unlink(), FileFormatError, "adapter_config.json is missing"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), FileFormatError, "model.safetensors is missing"),
    "a pickle": (pickled, FileFormatError, "adapter_model.bin is a pickle, and never loaded"),
    "not finite": (lambda f: spoil_tensors(f, lambda t: first_a(t, lambda a: a / 0)), FileFormatError, "not finite"),
    "another width": (lambda f: spoil_tensors(f, lambda t: first_a(t, lambda a: a[:, :-1])), ShapeError, "do not fit"),
    "another rank": (lambda f: spoil_json(f, "adapter_config.json", r=4), ShapeError, "do not fit"),
    "an unknown module": (
        lambda f: spoil_tensors(f, renamed),
        TargetMismatch,
        "'z_proj' is not in this base; it has: .*q_proj",
    ),
    "PiSSA": (lambda f: spoil_json(f, "adapter_config.json", init_lora_weights="pissa"), FileFormatError, "changed bases"),
    "another base": (lambda f: spoil_json(f, base="0" * 64), BaseMismatch, "give its own with --base"),
    "another person": (lambda f: spoil_json(f, user_id="ben"), InputError, "exported for user 'ben', not for 'ana'"),
    "another task": (lambda f: spoil_json(f, task="LaMP-4"), InputError, "was made for LaMP-4, not for LaMP-3"),
    "nobody's": (lambda f: spoil_json(f, kind="task", user_id=None), InputError, "holds a task adapter"),
    "on a task adapter that is not here": (
        lambda f: spoil_json(f, task_adapter="a" * 64),
        BaseMismatch,
        "is not in this store",
    ),
    "spoilt facts": (lambda f: spoil_json(f, digest=7, k=-1), FileFormatError, "digest: .*k: "),
    "no facts": (lambda f: (f / "idiolect.json").write_text("[]"), FileFormatError, "not as an export writes it"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_folder_that_is_not_for_them_changes_nothing(ready, tmp_path, name):
    spoil, error, message = SPOILT[name]
    folder = ready.export(head_of(ready), tmp_path / "out", alone=True)
    spoil(folder)
    before, files = ready.adapters(), sorted((tmp_path / "store" / "blobs").rglob("*"))
    with pytest.raises(error, match=message) as caught:
        ready.import_adapter("ana", folder, task="LaMP-3")
    assert "\n" not in str(caught.value)
    assert ready.adapters() == before
    assert sorted((tmp_path / "store" / "blobs").rglob("*")) == files


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_importing_says_what_is_to_be_done_first(ready, reference, population, tmp_path):
    folder = ready.export(head_of(ready), tmp_path / "out", alone=True)
    with pytest.raises(PersonNotFound, match="'zoe' in the store; import their history first: idiolect history import"):
        ready.import_adapter("zoe", folder, task="LaMP-3")
    with pytest.raises(BaseMismatch, match="leave out --bare"):
        ready.import_adapter("ana", folder, task="LaMP-3", bare=True)
    by_peft(reference, tmp_path / "theirs")
    with pytest.raises(TaskAdapterNotFound, match="--bare"):
        ready.import_adapter("ana", tmp_path / "theirs", task="LaMP-4")
    ready.import_history(population)
    with pytest.raises(InputError, match="base people"):
        ready.import_adapter("otto", tmp_path / "theirs", task="LaMP-3")


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


def test_forgetting_takes_what_killed_runs_left(ready):
    orphan = ready.store.blob_path("ab" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"their adapter, of which no row tells")
    ready.delete_person("ana")
    assert not orphan.exists()
    assert answer_of(ready, "ben").text in "12345"


@pytest.mark.parametrize("job", ["train_task", "evaluate"])
def test_long_jobs_begin_by_tidying_up(house, population, tmp_path, job):
    orphan = house.store.blob_path("ab" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"left behind")
    os.utime(orphan, (0, 0))
    data = write(tmp_path / "all.jsonl", record("otto", 3), record("paul", 3, 1), record("quin", 3, 1))
    if job == "train_task":
        house.train_task("LaMP-3", population, FAST)
    else:
        house.evaluate(data, "LaMP-3", tmp_path / "out", arms=("nonpers",), options=FAST, task_overrides=FAST.overrides)
    assert not orphan.exists()


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
        from idiolect.house import TrainingOptions
        from idiolect.service import Idiolect
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
