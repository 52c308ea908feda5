"""Long commands: cut off and gone on with, evaluated, examined."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from cli_running import documents, error_of, people, shell, started, write_lines

TASK = ("--task", "LaMP-2N")


def n_adapters(store):
    """User adapters in the store, as another process sees them."""
    from idiolect.store.store import Store

    with Store.open(store) as opened:
        return len(opened.adapters(kind="user"))


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_cut_off_goes_on(run, tmp_path, tiny_base, how):
    n = 60
    store = tmp_path / "store"
    run("history", "import", write_lines(tmp_path / "u.jsonl", people(n, n_items=12, n_queries=0)), "--store", store)
    words = ("train", "--all", *TASK, "--bare", "--slots", "2", "--batch-size", "1", "--store", store, "--base", tiny_base)
    process = started(*words)
    waiting_until = time.monotonic() + 120
    while n_adapters(store) < 3 and process.poll() is None and time.monotonic() < waiting_until:
        time.sleep(0.05)
    os.kill(process.pid, how)
    _, said = process.communicate(timeout=60)
    kept = n_adapters(store)
    assert 3 <= kept < n, said
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "finished adapters are kept" in said
        assert "Traceback" not in said
    # Fewer steps at a time and other neighbours: what is made is the same, so the rest goes faster.
    report = documents(run(*words, "--slots", "16", "--json"))
    assert (report["n_kept"], report["n_made"], report["problems"]) == (kept, n - kept, {})
    assert n_adapters(store) == n


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
    assert (tmp_path / "demo" / "report.md").exists()
    text = run("demo", *sizes, "--base", tiny_base, "--out", tmp_path / "demo").stdout
    assert "Verdict: " in text
    next_one = next(line.strip() for line in text.splitlines() if "idiolect adapters list" in line)
    import shlex

    assert "●" in run(*shlex.split(next_one)[1:]).stdout


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
