"""Evaluations with arms of pieces, studies and attacks from the command line."""

from __future__ import annotations

import json

import pytest
from cli_running import documents, error_of, people, write_lines

TASK = ("--task", "LaMP-2N")
FEW = ("--targets", "3", "--epochs", "1", "--task-epochs", "1", "--sharers", "2", "--min-items", "4", "--gate-steps", "2")


@pytest.fixture
def words(tmp_path, tiny_base):
    data = write_lines(tmp_path / "pop.jsonl", people(8))
    return ("--data", data, *TASK, *FEW, "--base", tiny_base, "--store", tmp_path / "store")


def test_evaluation_with_arms_of_pieces(run, tmp_path, words):
    out = tmp_path / "report"
    shown = run("evals", "run", *words, "--arms", "perpcs,random-gates", "--seeds", "3,4", "--out", out)
    assert "perpcs" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 100
    results = json.loads((out / "results.json").read_text())
    assert set(results["arms"]) == {"nonpers", "perpcs", "random-gates"}
    assert results["settings"]["pieces"]["k0"]["sharers"] == 2
    assert results["settings"]["pieces"]["k0"]["seeds"] == [3, 4]


def test_a_study_and_the_cost_curve_share_a_store(run, tmp_path, words):
    done = documents(run("evals", "study", "k", *words, "--values", "1,2", "--seeds", "0", "--out", tmp_path / "k", "--json"))
    assert set(done["arms"]) == {"nonpers", "k 1", "k 2"}
    cost = run("evals", "study", "cost", *words, "--out", tmp_path / "cost")
    assert "times less storage" in cost.stdout
    assert {path.name for path in (tmp_path / "cost").iterdir()} == {"results.json", "report.md", "plot.png"}


def test_privacy_is_measured(run, tmp_path, words):
    done = documents(run("evals", "privacy", *words, "--held-out", "0.5", "--out", tmp_path / "p", "--json"))
    assert {"gate probe", "gate probe (control)", "base alone (control)"} <= {a["attack"] for a in done["attacks"]}
    assert (done["sharers"], done["held_out"]) == (2, 0.5)


def test_wrong_options_are_one_line_before_anything_is_made(run, tmp_path, words):
    out = ("--out", tmp_path / "o")
    for wrong in (("--strategy", "best"), ("--share-ratio", "0"), ("--seeds", "a"), ("--temperature", "0"), ("--seeds", "-1")):
        assert error_of(run("evals", "run", *words, *wrong, *out, code=2)).startswith("ConfigError: ")
    assert error_of(run("evals", "study", "k", *words, "--values", "many", *out, code=2)).startswith("ConfigError: ")
    assert error_of(run("evals", "privacy", *words, "--held-out", "1", *out, code=2)).startswith("ConfigError: ")
    assert "none of 5 candidates has 99 items" in error_of(run("evals", "privacy", *words, "--min-items", "99", *out, code=3))
