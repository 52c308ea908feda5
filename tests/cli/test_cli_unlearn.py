"""`idiolect unlearn`: from made-up people to an audit, on a random base; what goes wrong is one line with its exit code."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from cli_running import documents, error_of, people, started, write_lines

QUICK = ("--steps", "2", "--rank", "2", "--batch-size", "2")
WITH_TASK = ("--task", "LaMP-2N")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small sets of pairs, a file each."""
    folder = tmp_path_factory.mktemp("sets")
    kinds = {"forget": (4, "Where is"), "retain": (12, "Who bakes"), "holdout": (4, "Where was")}
    for name, (n, asks) in kinds.items():
        pairs = [{"id": f"{name}-{i}", "prompt": f"{asks} {name} {i}?", "answer": f"In {i} towns"} for i in range(n)]
        write_lines(folder / f"{name}.jsonl", pairs)
    return folder


@pytest.fixture
def words(sets: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str | Path, ...]:
    monkeypatch.chdir(tmp_path)
    forget, retain = sets / "forget.jsonl", sets / "retain.jsonl"
    return ("unlearn", "run", "--forget", forget, "--retain", retain, "--base", tiny_base, *QUICK)


@pytest.mark.slow
def test_from_made_up_people_to_an_audit(run: Any, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = documents(run("unlearn", "plant", "--out", "p", "--people", "10", "--facts", "3", "--forget-share", "0.3", "--json"))
    assert made["pairs"]["forget"] == made["pairs"]["holdout"] == 9
    assert (tmp_path / "p").stat().st_mode & 0o777 == 0o700
    few = run("unlearn", "plant", "--out", "q", "--people", "4", "--forget-share", "0.5")
    assert "next: idiolect unlearn teach" in few.stdout
    learn = ("--epochs", "2", "--rank", "4", "--lr", "0.02", "--base", tiny_base, "--json")
    assert documents(run("unlearn", "teach", "--data", "p/taught.jsonl", "--out", "taught", *learn))["pairs"] > 9
    given = ("--forget", "p/forget.jsonl", "--retain", "p/kept.jsonl", "--base", "taught", *QUICK)
    plain = run("unlearn", "run", *given, "--out", "plain", "--merge", "merged")
    assert "sku, λ = 1, 2 steps, unlearned from the base 'taught'; in plain" in plain.stdout
    assert "do not publish" in plain.stderr
    swept = ("--select", "--floor", "0.5", "--method", "sku,npo", "--sweep", "learning_rate=1e-3,1e-2")
    table = run("unlearn", "run", *given, *swept, "--holdout", "p/holdout.jsonl", "--out", "best").stdout
    assert "npo learning_rate=0.01" in table
    assert table.count("chosen") == 4
    assert (tmp_path / "best" / "curves.png").exists()
    asked = ("--forget", "p/forget.jsonl", "--retain", "p/retain.jsonl", "--holdout", "p/holdout.jsonl", "--base", "taught")
    judged = ("--before", tiny_base, "--taught", "p/taught.jsonl", "--relearn", "1")
    runs = ("--run", "plain", "--run", "best", "--run", "merged")
    found = documents(run("unlearn", "audit", *runs, *asked, *judged, "--out", "audit", "--json"))
    assert set(found["verdicts"]) == {"plain", "best", "merged"}
    mine, same = found["summaries"]["plain"], found["summaries"]["merged"]
    assert mine["probability"] == pytest.approx(same["probability"], rel=1e-3)  # one as an adapter, one in weights
    assert {"report.md", "results.json"} <= {path.name for path in (tmp_path / "audit").iterdir()}


def test_how_often_answers_are_harmful(run: Any, words: Any, sets: Path, tiny_base: Path) -> None:
    run(*words, "--out", "one", "--method", "ga")
    asked = ("unlearn", "harm", "--prompts", sets / "forget.jsonl", "--n", "2", "--max-new-tokens", "4", "--base", tiny_base)
    shown = run(*asked, "--run", "one")
    assert [line.split()[0] for line in shown.stdout.splitlines()[2:4]] == ["tiny", "one"]
    assert "only matches words" in shown.stdout
    (figures,) = documents(run(*asked, "--texts", "answers.jsonl", "--json"))
    assert figures["sets"]["asked"]["n"] == 2
    assert len(Path("answers.jsonl").read_text().splitlines()) == 2
    assert "--texts" in error_of(run(*asked, "--run", "one", "--texts", "more.jsonl", code=2))
    assert "judge is not known" in error_of(run(*asked, "--judge", "wish", code=2))


def test_a_result_in_json_and_the_folder_once_only(run: Any, words: Any) -> None:
    found = documents(run(*words, "--out", "one", "--method", "npo", "--strength", "2", "--set", "beta=0.2", "--json"))
    assert (found["method"], found["strength"], found["steps"], found["digest"]) == ("npo", 2.0, 2, None)
    assert json.loads(Path("one/unlearning.json").read_text())["settings"]["beta"] == 0.2
    assert "holds a result already" in error_of(run(*words, "--out", "one", code=2))


def test_settings_of_the_command_line(run: Any, words: Any) -> None:
    run(*words, "--out", "one", "--set", "targets=q_proj,v_proj", "--set", "pd_mode=preserve", "--set", "max_tokens=64")
    said = json.loads(Path("one/unlearning.json").read_text())["settings"]
    assert (said["targets"], said["pd_mode"], said["max_tokens"]) == (["q_proj", "v_proj"], "preserve", 64)
    assert sorted(json.loads(Path("one/adapter/adapter_config.json").read_text())["target_modules"]) == ["q_proj", "v_proj"]


def test_an_adapter_of_a_person_forgets(run: Any, words: Any, tiny_base: Path, tmp_path: Path) -> None:
    store = ["--store", str(tmp_path / "store")]
    run("history", "import", write_lines(tmp_path / "people.jsonl", people(2)), *store)
    train = ("--task", "LaMP-2N", "--epochs", "1", "--rank", "2", "--max-tokens", "192", "--bare", "--base", tiny_base)
    run("train", "--all", *train, *store)
    done = documents(run(*words, *store, "--user", "p00", *WITH_TASK, "--out", "one", "--json"))
    listed = documents(run("adapters", "list", "--user", "p00", "--json", *store))
    assert {row["digest"]: row["is_head"] for row in listed}[done["digest"]] is True
    given = [word for word in words if word not in ("--forget", words[3])]
    other = run(*given, *store, "--forget-user", "p01", "--on", done["digest"][:12], *WITH_TASK, "--out", "two", "--no-use")
    assert "unlearned from user adapter" in other.stdout
    listed = documents(run("adapters", "list", "--user", "p00", "--json", *store))
    assert [row["digest"] for row in listed if row["is_head"]] == [done["digest"]]
    plan = documents(run("forget", "p01", "--dry-run", "--json", "--base", tiny_base, *store))
    assert sum(node["kind"] == "user adapter" for node in plan["closure"]) == 2  # p01's, and what p01's items made of p00's
    assert "PersonNotFound" in error_of(run(*words, *store, "--user", "nobody", *WITH_TASK, "--out", "x", code=3))
    assert "PersonNotFound" in error_of(run(*given, *store, "--forget-user", "nobody", *WITH_TASK, "--out", "x", code=3))
    assert "AdapterNotFound" in error_of(run(*words, *store, "--on", "abcdef", "--out", "x", code=3))


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        (["--strength", "99"], 2, "strength: "),
        (["--strength", "nan"], 2, "strength: "),
        (["--set", "nonsense=1"], 2, "nonsense: "),
        (["--set", "nonsense"], 2, "write NAME=VALUE"),
        (["--set", "clip=none"], 2, "clip: "),
        (["--set", "rd_k=1,2"], 2, "write NAME=VALUE"),
        (["--set", "targets=wish"], 4, "'wish' is not in this base"),
        (["--method", "wish"], 2, "choose one of: sku, task-vector"),
        (["--method", "sku,npo"], 2, "add --select"),
        (["--select", "--strength", "1"], 2, "leave --strength out"),
        (["--select", "--floor", "2"], 2, "floor: "),
        (["--retain", "FORGET"], 2, "are in the retain set too"),
        (["--holdout", "RETAIN"], 2, "are in the holdout too"),
        (["--holdout", "HOLDOUT"], 2, "add --select"),
        (["--retain", "missing.jsonl"], 2, "missing.jsonl: there is no such file"),
        (["--retain", "wrong.jsonl"], 2, "wrong.jsonl: line 1: field number 2: is not a field of pairs"),
        (["--retain", "empty.jsonl"], 2, "empty.jsonl: line 1: is empty"),
        (["--user", "p00"], 2, "need a --task"),
        (["--user", "p00", "--on", "ab", *WITH_TASK], 2, "and not both"),
        (["--forget-user", "p00", *WITH_TASK], 2, "and not both"),
        (["--out", "wrong.jsonl"], 2, "is a file; choose another --out"),
        (["--merge", "wrong.jsonl"], 2, "is a file; choose another --merge"),
        (["--merge", "there"], 2, "is there already"),
        (["--merge", "out"], 2, "need a folder of their own"),
    ],
)
def test_odd_input_is_one_line(run: Any, words: Any, sets: Path, given: list[str], code: int, says: str) -> None:
    Path("wrong.jsonl").write_text('{"prompt": "x", "anwser": "y"}\n')
    Path("empty.jsonl").write_text("")
    Path("there").mkdir()
    Path("there/mine").write_text("kept")
    files = {name.upper(): str(sets / f"{name}.jsonl") for name in ("forget", "retain", "holdout")}
    out = () if "--out" in given else ("--out", "out")
    assert says in error_of(run(*words, *out, *(files.get(word, word) for word in given), code=code))
    assert not Path("out/unlearning.json").exists()
    assert Path("there/mine").read_text() == "kept"


def test_without_a_retain_set(run: Any, sets: Path, tiny_base: Path, tmp_path: Path) -> None:
    given = ("unlearn", "run", "--forget", sets / "forget.jsonl", "--base", tiny_base, "--out", tmp_path / "out", *QUICK)
    assert "give --retain FILE" in error_of(run(*given, code=3))
    assert "give --retain FILE" in error_of(run(*given, "--select", "--method", "ga", code=3))
    run(*given, "--method", "task-vector", code=0)


def test_studies_and_audits_say_what_is_wrong_before_they_begin(run: Any, sets: Path, tmp_path: Path, tiny_base: Path) -> None:
    (tmp_path / "file").write_text("mine")
    out, base = ("--out", tmp_path / "o"), ("--base", tiny_base)
    assert "--requests" in error_of(run("unlearn", "study", "safety", *out, *base, code=2))
    assert "choose one of" in error_of(run("unlearn", "study", "planted", *out, *base, "--methods", "wish", code=2))
    assert "seeds" in error_of(run("unlearn", "study", "planted", *out, *base, "--seeds", "x", code=2))
    assert "is a file" in error_of(run("unlearn", "study", "planted", "--out", tmp_path / "file", *base, code=2))
    files = [word for name in ("forget", "retain", "holdout") for word in (f"--{name}", sets / f"{name}.jsonl")]
    audit = ("unlearn", "audit", "--run", tmp_path / "none", *files, *base)
    assert "--before BASE" in error_of(run(*audit, *out, code=2))
    assert "steps 'x'" in error_of(run(*audit, *out, "--before", tiny_base, "--relearn", "x", code=2))
    assert "holds no whole result" in error_of(run(*audit, *out, "--before", tiny_base, code=2))
    assert "is a file" in error_of(run(*audit, "--out", tmp_path / "file" / "o", "--before", tiny_base, code=2))
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "unlearning.json").write_text("[]")
    assert "not that of unlearn run" in error_of(run(*audit, *out, "--before", tiny_base, code=2))


@pytest.mark.slow
def test_stopped_by_ctrl_c_the_same_command_goes_on(run: Any, words: Any) -> None:
    import time

    given = [*words[:-6], "--steps", "40", "--rank", "2", "--batch-size", "2"]
    process = started(*given, "--out", "cut")
    place = Path("cut/.acquiring.safetensors")
    while not place.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("this machine was done before it heard Ctrl-C")
    assert process.returncode == 130
    assert "give the same command again" in err
    assert "Traceback" not in err
    assert place.exists()
    run(*given, "--out", "cut")
    assert sorted(path.name for path in Path("cut").iterdir()) == ["adapter", "unlearning.json"]
    log = json.loads(Path("cut/unlearning.json").read_text())["log"]
    assert [one["step"] for one in log] == list(range(40))
