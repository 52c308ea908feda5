"""Long commands: cut off and gone on with, evaluated, examined."""

from __future__ import annotations

import json
import shlex
import signal
import sqlite3
import stat
import time
from contextlib import closing

import pytest
from cli_running import documents, error_of, people, shell, started, write_lines

TASK = ("--task", "LaMP-2N")
REPORT = ("results.json", "predictions.jsonl", "report.md", "plot.png")


def modes(folder):
    """Permissions of a folder and of what is in it."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}


def n_adapters(store):
    """User adapters in the store, as another process sees them; cheap enough to ask often."""
    with closing(sqlite3.connect(f"file:{store / 'idiolect.db'}?mode=ro", uri=True)) as rows:
        return rows.execute("SELECT count(*) FROM adapters WHERE kind = 'user'").fetchone()[0]


@pytest.fixture
def cut_off(run, tmp_path, tiny_base):
    """A long run that was sent a signal when its first adapters were done: (command, store, people, process, stderr)."""

    def cut(how, n=80):
        store = tmp_path / "store"
        run("history", "import", write_lines(tmp_path / "u.jsonl", people(n, n_items=5, n_queries=0)), "--store", store)
        words = ("train", "--all", *TASK, "--bare", "--batch-size", "1", "--store", store, "--base", tiny_base)
        process = started(*words, "--slots", "2")
        waiting_until = time.monotonic() + 150
        while n_adapters(store) < 1 and process.poll() is None and time.monotonic() < waiting_until:
            time.sleep(0.1)
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
        assert 1 <= n_adapters(store) < n, said
        return words, store, n, process, said

    return cut


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_run_goes_on(run, cut_off):
    words, store, n, *_ = cut_off(signal.SIGKILL)
    kept = n_adapters(store)
    # More people side by side give the same adapters, so what was kept counts.
    report = documents(run(*words, "--slots", "16", "--json"))
    assert (report["n_kept"], report["n_made"], report["problems"]) == (kept, n - kept, {})
    assert n_adapters(store) == n


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_interrupted_run_says_how_to_go_on(cut_off):
    *_, process, said = cut_off(signal.SIGINT)
    assert process.returncode == 130
    assert "finished adapters are kept" in said
    assert "Traceback" not in said


def test_evaluation_leaves_its_report(run, tmp_path, tiny_base):
    data = write_lines(tmp_path / "pop.jsonl", people(6))
    out = tmp_path / "report"
    words = ("evals", "run", "--data", data, *TASK, "--targets", "3", "--arms", "majority,oppu,stranger", "--epochs", "1")
    words = (*words, "--task-epochs", "1", "--base", tiny_base, "--out", out)
    first = run(*words)
    assert "non-personalised" in first.stdout
    assert "oppu" in first.stdout
    assert max(map(len, first.stdout.splitlines())) <= 100
    assert {"results.json", "predictions.jsonl", "report.md", "plot.png", "store"} == {p.name for p in out.iterdir()}
    results = json.loads((out / "results.json").read_text())
    assert set(results["arms"]) == {"majority", "nonpers", "oppu", "stranger"}
    assert results["command"].startswith("idiolect evals run --data ")
    assert "--data /" not in results["command"]
    assert modes(out) == {"report": 0o700, "store": 0o700, **dict.fromkeys(REPORT, 0o600)}
    again = documents(run(*words, "--json"))
    assert again["arms"]["oppu"]["metrics"] == results["arms"]["oppu"]["metrics"]


def test_evaluation_refuses_what_it_cannot_do(run, tmp_path, tiny_base):
    data = write_lines(tmp_path / "pop.jsonl", people(2))
    words = ("evals", "run", "--data", data, *TASK, "--base", tiny_base, "--out", tmp_path / "o")
    for wrong in (("--arms", "magic"), ("--preset", "best"), ("--lr", "-1")):
        assert error_of(run(*words, *wrong, code=2)).startswith("ConfigError: ")
    assert not (tmp_path / "o").exists()
    other = write_lines(tmp_path / "other.jsonl", people(2, prefix="z"))
    run("history", "import", other, "--store", tmp_path / "o" / "store")
    assert "store of its own" in error_of(run(*words, code=2))


def test_demo_runs_on_any_base(run, tmp_path, tiny_base):
    sizes = ("--people", "3", "--items", "4", "--queries", "2", "--base-people", "3")
    done = documents(run("demo", *sizes, "--base", tiny_base, "--out", tmp_path / "demo", "--json"))
    assert done["results"]["n_people"] == 3
    assert set(done["verdict"]) == {"nonpers", "stranger", "holds"}
    assert [one["like"] for one in done["newcomers"]["newcomers"]] == ["person-01", "person-02", "person-03"]
    assert all(one["size_bytes"] < 3000 < done["newcomers"]["own_bytes"] for one in done["newcomers"]["newcomers"])
    assert (tmp_path / "demo" / "report.md").exists()
    files = ("population.jsonl", "newcomers.png", "receipt.json", "round.svg", *REPORT)
    assert modes(tmp_path / "demo") == {"demo": 0o700, "store": 0o700, **dict.fromkeys(files, 0o600)}
    forgotten = done["forgetting"]
    assert (forgotten["user"], forgotten["guarantee"]) == ("person-03", "exact")
    assert {"what": "history", "whose": "person-03", "how many": 1, "becomes": "deleted"} in forgotten["closure"]
    assert set(forgotten["assembled"]) <= {"newcomer-1", "newcomer-2", "newcomer-3"}
    assert (forgotten["receipt_holds"], forgotten["changed"]) == (True, [])
    assert forgotten["asked"] == 2 * forgotten["others"] >= 4
    store = ("--store", tmp_path / "demo" / "store", "--base", tiny_base)
    run("forget", "verify", tmp_path / "demo" / "receipt.json", *store, code=0)
    kept = [path for path in (tmp_path / "demo").rglob("*") if path.is_file() and path.name != "receipt.json"]
    assert not [path for path in kept if b"person-03" in path.read_bytes()]
    other = run("demo", *sizes, "--seed", "1", "--base", tiny_base, "--out", tmp_path / "demo", code=2)
    assert error_of(other).startswith("InputError: ")
    text = run("demo", *sizes, "--base", tiny_base, "--out", tmp_path / "demo").stdout
    assert "Verdict: " in text
    assert "gates trained once" in text  # of the one who was forgotten and came back
    assert "byte-identical" in text
    assert "The receipt holds" in text
    assert "points over no adapter" in text
    next_one = next(line.strip() for line in text.splitlines() if "idiolect adapters list" in line)
    assert "●" in run(*shlex.split(next_one)[1:]).stdout


def test_a_base_without_the_presets_modules(run, tmp_path, base_folder):
    """GPT-NeoX computes q, k and v in one module, and the presets name three."""
    base = base_folder("gpt-neox")
    sizes = ("--people", "2", "--items", "3", "--queries", "2", "--base-people", "2")
    done = run("demo", *sizes, "--base", base, "--out", tmp_path / "a", "--json")
    settings = documents(done)["results"]["settings"]
    assert settings["stage_1"]["targets"] == settings["stage_2"]["targets"] == ["query_key_value"]
    assert "has no q_proj, v_proj: stage 2 trains query_key_value; choose others with --modules" in done.stderr
    chosen = run("demo", *sizes, "--modules", "dense,query_key_value", "--base", base, "--out", tmp_path / "b", "--json")
    assert documents(chosen)["results"]["settings"]["stage_2"]["targets"] == ["dense", "query_key_value"]
    assert "has no" not in chosen.stderr
    data = tmp_path / "a" / "population.jsonl"
    words = ("evals", "run", "--data", data, *TASK, "--targets", "2", "--arms", "oppu", "--base", base, "--out", tmp_path / "c")
    line = error_of(run(*words, "--modules", "z_proj", code=4))
    assert line.startswith("TargetMismatch: target module 'z_proj' is not in this base; it has: dense, ")
    assert "query_key_value" in line
    assert "--modules" in line
    results = documents(run(*words, "--modules", "dense", "--json"))
    assert results["settings"]["stage_1"]["targets"] == ["dense"]


def test_training_says_which_modules_took_the_place(run, tmp_path, base_folder):
    data = write_lines(tmp_path / "u.jsonl", people(1))
    run("history", "import", data, "--store", tmp_path / "s")
    words = ("train", "p00", *TASK, "--bare", "--epochs", "1", "--store", tmp_path / "s", "--base", base_folder("gpt-neox"))
    assert "stage 2 trains query_key_value; choose others with --targets" in run(*words, "--json").stderr


def test_doctor(run, tmp_path, tiny_base):
    checks = {c["name"]: c for c in documents(run("doctor", "--base", tiny_base, "--store", tmp_path / "s", "--json"))}
    assert checks["base"]["verdict"] == "ok"
    assert not (tmp_path / "s").exists()
    bad = run("doctor", "--base", tmp_path / "none", "--store", tmp_path / "s", code=1)
    assert "BaseNotFound" in bad.stdout


def test_bench_knows_its_names(run):
    assert run("bench", "dance", code=2).stdout == ""
    assert error_of(run("bench", "train", "--workload", "w9", code=2)).startswith("InputError: ")
    assert error_of(run("bench", "serve", "--workload", "w0", code=2)).startswith("InputError: ")


def test_help_of_every_command_is_light():
    code = shell("history", "--help")
    assert code.returncode == 0
    assert "import" in code.stdout
    assert code.stderr == ""


def test_a_usage_error_exits_2_with_no_traceback():
    failed = shell("train", "--all")
    assert failed.returncode == 2
    assert "--task" in failed.stderr
    assert failed.stdout == ""
    assert "Traceback" not in failed.stderr
