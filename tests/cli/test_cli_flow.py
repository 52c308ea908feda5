"""From history to answer by commands alone, on a random base; and every error that one meets on the way."""

from __future__ import annotations

import json

import pytest
from cli_running import documents, error_of, people, write_lines

TASK = ("--task", "LaMP-2N")
QUICK = ("--epochs", "1")


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_base):
    """A store with three people, a task adapter and an adapter each; made once, by commands."""
    from typer.testing import CliRunner

    from idiolect.cli.app import app

    folder = tmp_path_factory.mktemp("flow")
    targets = write_lines(folder / "targets.jsonl", people(3))
    base_people = write_lines(folder / "base.jsonl", people(3, prefix="b"))
    options = ["--store", str(folder / "store"), "--base", str(tiny_base)]
    for words in (
        ["history", "import", str(targets), "--store", str(folder / "store")],
        ["train", "--stage", "task", *TASK, "--data", str(base_people), *QUICK, *options],
        ["train", "--all", *TASK, *QUICK, *options],
    ):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def on(place, tiny_base):
    """Options that name the store and the base."""
    return ("--store", place / "store", "--base", tiny_base)


def test_everybody_has_an_adapter(run, place):
    rows = documents(run("adapters", "list", "--store", place / "store", "--json"))
    assert sorted(row["user_id"] for row in rows if row["kind"] == "user" and row["is_head"]) == ["p00", "p01", "p02"]
    assert sum(row["kind"] == "task" for row in rows) == 1
    text = run("adapters", "list", "--store", place / "store").stdout
    assert "(task)" in text
    assert len({len(line.rstrip()) > 100 for line in text.splitlines()}) == 1


def test_the_same_commands_again_do_no_work(run, on, place):
    again = documents(run("train", "--all", *TASK, *QUICK, *on, "--json"))
    assert (again["n_made"], again["n_kept"], again["tokens"], again["problems"]) == (0, 3, 0, {})
    task = documents(run("train", "--stage", "task", *TASK, "--data", place / "base.jsonl", *QUICK, *on, "--json"))
    assert task["new"] is False


def test_answers_with_and_without_the_adapter(run, on):
    both = documents(run("generate", "p00", "The senator votes", *TASK, "--compare", *on, "--json"))
    plain = documents(run("generate", "p00", "The senator votes", *TASK, "--plain", *on, "--json"))
    assert both["without"] == {k: v for k, v in plain.items() if k not in ("user", "task")}
    assert both["probabilities"] != both["without"]["probabilities"]
    assert sum(both["probabilities"].values()) == pytest.approx(1)
    assert both["text"] == next(iter(both["probabilities"]))


def test_answers_in_words(run, on):
    text = run("generate", "p00", "The senator votes", *TASK, "--compare", *on).stdout
    assert "with p00's adapter" in text
    assert "%" in text
    free = run("generate", "p00", "-", *TASK, "--free", "--max-new-tokens", "2", *on, input="The senator votes\n")
    assert "%" not in free.stdout
    assert documents(run("generate", "--nobody", "The senator", *TASK, *on, "--json"))["user"] is None


def test_show_tells_where_an_adapter_came_from(run, place):
    rows = documents(run("adapters", "list", "--user", "p00", "--store", place / "store", "--json"))
    shown = documents(run("adapters", "show", rows[0]["digest"][:10], "--store", place / "store", "--json"))
    assert shown["manifest"]["user_id"] == "p00"
    assert shown["made_from"] == {"base": 1, "item": 4, "person": 1, "task_adapter": 1}
    assert "1 × task adapter" in run("adapters", "show", rows[0]["digest"], "--store", place / "store").stdout


def test_export_writes_a_peft_folder(run, on, tmp_path):
    done = documents(run("adapters", "export", "p00", *TASK, "--out", tmp_path / "x", *on, "--json"))
    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(done["files"])
    alone = documents(run("adapters", "export", done["digest"], "--out", tmp_path / "y", "--alone", *on, "--json"))
    ranks = [json.loads((tmp_path / name / "adapter_config.json").read_text())["r"] for name in ("x", "y")]
    assert ranks == [24, 8]
    assert alone["digest"] == done["digest"]


def test_import_takes_an_export_back(run, on, tmp_path):
    store = on[:2]
    first = documents(run("adapters", "list", "--user", "p01", *store, "--json"))[0]["digest"]
    run("adapters", "export", "p01", *TASK, "--out", tmp_path / "x", "--alone", *on)
    before = documents(run("generate", "p01", "The senator votes", *TASK, *on, "--json"))
    done = documents(run("adapters", "import", "p01", tmp_path / "x", *TASK, *on, "--json"))
    assert (done["user"], done["task"], done["variant"]) == ("p01", "LaMP-2N", "k0")
    assert documents(run("generate", "p01", "The senator votes", *TASK, *on, "--json")) == before
    shown = run("adapters", "show", done["digest"], *store).stdout
    assert "imported peft" in shown
    assert "1 × adapter" in shown
    said = run("adapters", "import", "p01", tmp_path / "x", *TASK, *on).stdout
    assert said.startswith(f"p01 now uses {done['digest'][:12]} for LaMP-2N: rank 8, on task adapter ")
    assert documents(run("adapters", "rollback", "p01", *TASK, *on, "--json"))["digest"] == first
    for user, code, error in (("p00", 2, "InputError: "), ("zoe", 3, "PersonNotFound: ")):
        assert error_of(run("adapters", "import", user, tmp_path / "x", *TASK, *on, code=code)).startswith(error)
    (tmp_path / "x" / "adapter_model.safetensors").rename(tmp_path / "x" / "adapter_model.bin")
    assert "is a pickle" in error_of(run("adapters", "import", "p01", tmp_path / "x", *TASK, *on, code=2))


def test_sampling_by_name(run, on):
    words = ("generate", "p00", "The senator votes", *TASK, "--free", "--max-new-tokens", "12", *on, "--json")
    explicit = ("--temperature", "0.1", "--top-k", "10", "--top-p", "0.9")
    assert documents(run(*words, "--sampling", "paper")) == documents(run(*words, *explicit))
    hot = documents(run(*words, "--sampling", "paper", "--temperature", "9", "--top-k", "0", "--top-p", "1", "--seed", "3"))
    assert hot["text"] != documents(run(*words))["text"]
    assert documents(run(*words, "--sampling", "greedy")) == documents(run(*words))


def test_rollback_and_forward_again(run, on, place):
    assert error_of(run("adapters", "rollback", "p02", *TASK, *on, code=3)).startswith("AdapterNotFound: ")
    first = documents(run("adapters", "list", "--user", "p02", "--store", place / "store", "--json"))[0]["digest"]
    second = documents(run("train", "p02", *TASK, "--epochs", "2", *on, "--json"))["people"][0]["digest"]
    back = documents(run("adapters", "rollback", "p02", *TASK, *on, "--json"))
    assert (back["digest"], back["before"]) == (first, second)
    run("adapters", "use", second[:12], "--store", place / "store")
    heads = [r["digest"] for r in documents(run("adapters", "list", "--user", "p02", *on[:2], "--json")) if r["is_head"]]
    assert heads == [second]


def test_one_person_who_cannot_be_trained_stops_nobody(run, on, place, tmp_path):
    wrong = {"user_id": "q-wrong", "id": "1", "text": "no category here"}
    right = {"user_id": "q-right", "id": "1", "text": "a cup final", "category": "sports"}
    run("history", "import", write_lines(tmp_path / "q.jsonl", [wrong, right]), *on[:2])
    result = run("train", "q-wrong", "q-right", *TASK, *QUICK, *on, "--json", code=2)
    report = documents(result)
    assert list(report["problems"]) == ["q-wrong"]
    assert [p["user"] for p in report["people"]] == ["q-right"]
    assert "q-wrong: item '1': field 'category' is missing" in result.stderr
    assert error_of(run("train", "q-wrong", *TASK, *on, code=2)).startswith("TaskFieldError: ")
    for user in ("q-wrong", "q-right"):
        run("history", "delete", user, "--yes", *on[:2])


def test_deleting_a_person_takes_their_adapters_and_names_what_holds_their_text(run, tmp_path, tiny_base):
    on = ("--store", tmp_path / "s", "--base", tiny_base)
    run("history", "import", write_lines(tmp_path / "u.jsonl", people(3)), *on[:2])
    run("train", "p01", "p02", "--stage", "task", *TASK, *QUICK, *on)
    run("train", "p00", *TASK, *QUICK, *on)
    assert "1 adapter" in run("history", "delete", "p00", "--yes", *on[:2]).stdout
    text = run("history", "delete", "p01", "--yes", *on[:2]).stdout
    assert "was made from this person's items too" in text
    assert "idiolect train --stage task" in text
    assert [row["kind"] for row in documents(run("adapters", "list", *on[:2], "--json"))] == ["task"]


# ------------------------------------------------------------------------------------------------------------- errors


def test_adapter_of_another_base(run, on, place, other_base, tmp_path):
    foreign = ("--store", place / "store", "--base", other_base)
    digest = documents(run("adapters", "list", "--user", "p00", *on[:2], "--json"))[0]["digest"]
    line = error_of(run("adapters", "export", digest, "--out", tmp_path / "x", *foreign, code=4))
    assert line.startswith("BaseMismatch: ")
    assert not (tmp_path / "x").exists()
    assert error_of(run("generate", "p00", "text", *TASK, *foreign, code=3)).startswith("AdapterNotFound: ")
    assert error_of(run("train", "p00", *TASK, *foreign, code=3)).startswith("TaskAdapterNotFound: ")


USAGE = {
    "unknown person": (("train", "nobody", *TASK), 3, "PersonNotFound"),
    "unknown person asked": (("generate", "nobody", "text", *TASK), 3, "PersonNotFound"),
    "task adapter missing": (("train", "p00", "--task", "LaMP-3"), 2, "TaskFieldError"),
    "no task adapter of this kind": (("train", "p00", *TASK, "--retriever", "bm25"), 3, "TaskAdapterNotFound"),
    "unknown task": (("train", "p00", "--task", "LaMP-9"), 2, "ConfigError"),
    "unknown preset": (("train", "p00", *TASK, "--preset", "best"), 2, "ConfigError"),
    "unknown retriever": (("train", "p00", *TASK, "--retriever", "magic"), 2, "ConfigError"),
    "retriever none with k": (("train", "p00", *TASK, "--k", "2"), 2, "ConfigError"),
    "unknown device": (("train", "p00", *TASK, "--device", "abacus"), 2, "ConfigError"),
    "unknown dtype": (("train", "p00", *TASK, "--dtype", "float3"), 2, "ConfigError"),
    "settings that cannot be": (("train", "p00", *TASK, "--rank", "0", "--lr", "-1"), 2, "ConfigError"),
    "unknown module": (("train", "p00", *TASK, "--targets", "z_proj"), 4, "TargetMismatch"),
    "nobody named": (("train", *TASK), 2, "InputError"),
    "all and one": (("train", "p00", "--all", *TASK), 2, "InputError"),
    "base people missing": (("train", "--stage", "task", *TASK), 2, "InputError"),
    "empty text": (("generate", "p00", " ", *TASK), 2, "InputError"),
    "text missing": (("generate", "p00", *TASK), 2, "InputError"),
    "unknown variant": (("generate", "p00", "text", *TASK, "--variant", "k9"), 3, "AdapterNotFound"),
    "temperature that cannot be": (("generate", "p00", "text", *TASK, "--temperature", "-1"), 2, "ConfigError"),
    "unknown sampling": (("generate", "p00", "text", *TASK, "--sampling", "wild"), 2, "ConfigError"),
    "unknown digest": (("adapters", "export", "abcdef", "--out", "x"), 3, "AdapterNotFound"),
    "person without a task": (("adapters", "export", "p00", "--out", "x"), 2, "InputError"),
}


@pytest.mark.parametrize("name", USAGE)
def test_one_line_for_every_slip(run, on, name):
    words, code, error = USAGE[name]
    assert error_of(run(*words, *on, code=code)).startswith(f"{error}: ")


def test_empty_history(run, on, tmp_path):
    run("history", "import", write_lines(tmp_path / "e.jsonl", [{"user_id": "e", "profile": [], "query": []}]), *on[:2])
    assert error_of(run("train", "e", *TASK, *on, code=3)).startswith("EmptyHistory: ")
    run("history", "delete", "e", "--yes", *on[:2])


@pytest.mark.parametrize("content", [{}, {"config.json": "{"}, {"config.json": '{"model_type": "unheard-of"}'}])
def test_base_that_cannot_be_read(run, place, tmp_path, content):
    folder = tmp_path / "bad"
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_text(text)
        (folder / "model.safetensors").write_bytes(b"nothing")
    words = ("generate", "--nobody", "text", *TASK, "--store", place / "store", "--base", folder)
    assert error_of(run(*words, code=3)).startswith("BaseNotFound: ")


def test_two_runs_at_once(run, on, place):
    from idiolect.store.store import Store

    with Store.open(place / "store") as store, store.lock():
        assert error_of(run("train", "--all", *TASK, *on, code=5)).startswith("StoreBusy: ")
