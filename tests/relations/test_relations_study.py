"""The study whole, its report, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from relations_making import made_up, write_evalution
from typer.testing import CliRunner, Result

from idiolect.relations.gain import is_held_out, material
from idiolect.relations.links import Link, ends
from idiolect.relations.readers import read_benchmark
from idiolect.relations.report import markdown
from idiolect.relations.study import StudySettings, drawn, mean_of, trials

COUNTS = "BASE_WORD\tINPUT_WORD\tRELATION_ID\tCNT"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    more = [Link(link.base, f"{link.base}let", "mero") for link in made_up(120)[::3]]
    mixed = [link for i, three in enumerate(zip(*[iter(made_up(120))] * 3, strict=True)) for link in (*three, more[i])]
    return write_evalution(tmp_path_factory.mktemp("data") / "EVALution", mixed)


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = [f"{link.base}\t{link.base}knob\t{i}\t{5 + i % 9}" for i, link in enumerate(made_up(90, 150)[::3])]
    path = tmp_path_factory.mktemp("game") / "gt5.tsv"
    path.write_text("\n".join([COUNTS, *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    from idiolect.cli import relations
    from idiolect.cli.app import app

    monkeypatch.setenv("NO_COLOR", "1")
    if not any(group.name == "relations" for group in app.registered_groups):
        app.add_typer(relations.app, name="relations")
    runner = CliRunner()

    def call(*words: str | Path, code: int = 0) -> Result:
        result = runner.invoke(app, ["relations", *map(str, words)], catch_exceptions=False)
        assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
        return result

    return call


def test_study_leaves_a_report_without_words(run, folder, counts, tmp_path):
    run(
        "study", "--data", f"EVALution={folder}", "--game", counts, "--tiers", "floor", "--seeds", "0,1",
        "--gain-seeds", "0,1", "--gain-tiers", "floor", "--out", tmp_path / "out",
    )  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["plot.png", "report.md", "results.json"]
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {"command", "versions", "hardware", "settings", "seconds"} <= results.keys()
    assert [(c["split"], c["labelling"], c["seeds"]) for c in results["cells"]] == [
        ("published", "native", [0, 1]), ("published", "shared", [0, 1]),
        ("lexical", "native", [0, 1]), ("lexical", "shared", [0, 1]),
    ]  # fmt: skip
    assert all(run["n"] > 0 and run["n_train"] > 0 for cell in results["cells"] for run in cell["runs"])
    assert results["cells"][0]["mean"]["weighted_f1"]["sd"] == 0  # one split, and no chance in tier 1
    text = (tmp_path / "out" / "report.md").read_text()
    assert "RelBERT 2021" in text
    assert "**Gate of candidates:" in text
    assert "## Gain from players' pairs" in text
    said = text + (tmp_path / "out" / "results.json").read_text()
    assert not [link for link in made_up(90, 150) if f"{link.base}knob" in said or f"un{link.base}" in said]


def test_training_scoring_and_the_gate(run, folder, counts, tmp_path):
    out = tmp_path / "model"
    done = json.loads(
        run("train", "--tier", "floor", "--data", f"EVALution={folder}", "--game", counts, "--out", out, "--json").stdout
    )
    assert done["figures"]["EVALution"]["n"] > 0
    found = json.loads(run("score", out, "back", "unback", "--json").stdout)
    assert found["label"] == "ant"
    assert sum(found["probabilities"].values()) == pytest.approx(1)
    table = run("score", out, "back", "unback").stdout.split()
    assert table[table.index("ant") + 1] == f"{found['p']:.3f}"
    note = json.loads((out / "model.json").read_text())
    note["figures"]["EVALution"]["macro_f1"] = 0.5
    (out / "model.json").write_text(json.dumps(note))
    assert "are not to be shown" in run("candidates", out, "mero", "hand", code=2).stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("train", "--out", "{tmp}/m", "--tier", "roberta"), 2, "tier 'roberta' is not known"),
        (("train", "--out", "{tmp}/m", "--tier", "floor"), 2, "nothing to learn from"),
        (("train", "--out", "{tmp}/m", "--tier", "floor", "--data", "EVALution"), 2, "--data is NAME=FOLDER"),
        (("train", "--out", "{tmp}/m", "--data", "Elsewhere={tmp}"), 2, "benchmark 'Elsewhere' is not known"),
        (("train", "--out", "{tmp}/m", "--game", "{tmp}/none.tsv"), 2, "cannot be read"),
        (("score", "{tmp}/none", "dog", "cat"), 2, "holds no relation model"),
        (("candidates", "{tmp}/none", "mero", "xyzzy"), 3, "no such base word"),
        (("study", "--out", "{tmp}/o", "--data", "BLESS={tmp}", "--tiers", "floor,bert"), 2, "arms.1"),
        (("study", "--out", "{tmp}/o", "--tiers", "floor"), 2, "a study needs a benchmark"),
    ],
)
def test_errors_are_one_line(run, tmp_path, words, code, says):
    result = run(*(word.format(tmp=tmp_path) for word in words), code=code)
    assert says in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("idiolect: ")]) == 1
    assert not (tmp_path / "m").exists()


def test_what_is_asked_of_players_pairs_was_not_learnt(folder):
    benchmark = read_benchmark("EVALution", folder)
    game = [Link(link.base, f"{link.base}knob", "mero", votes=5) for link in made_up(200)[::3]]
    known = [Link(*link.words, "mero", votes=6) for link in benchmark.test[:6]]
    found = material({"EVALution": benchmark}, [*game, *known], 100)
    asked = ends(link for links in found.tests.values() for link in links if link.label != "none")
    assert not ends(found.game) & asked
    assert not ends(found.train) & ends(found.tests["EVALution"])
    assert {link.base for link in found.game}.isdisjoint({link.base for link in found.tests["game"] if link.label == "mero"})
    assert all(is_held_out(link.base) for link in found.tests["game"] if link.label == "mero")
    assert found.left_out >= 6
    assert len(found.train) == 100


def test_tier_4_is_run_where_it_is_asked_for(folder):
    benchmarks = {"EVALution": read_benchmark("EVALution", folder), "BLESS": read_benchmark("EVALution", folder)}
    found = trials(benchmarks, StudySettings(adapter_on=("BLESS",)))
    assert {trial.benchmark for trial in found if trial.arm == "adapter"} == {"BLESS"}
    assert len(found) == 2 * 2 * 2 * 3 + 4


def test_spread_is_over_seeds():
    runs = [
        {"accuracy": a, "weighted_f1": a, "macro_f1": a, "macro_f1_real": a, "ece": a, "f1": {"syn": a}} for a in (0.2, 0.4)
    ]
    found = mean_of(runs)
    assert found["f1"]["syn"]["mean"] == pytest.approx(0.3)
    assert found["accuracy"]["sd"] == pytest.approx(0.1414, abs=1e-3)
    assert "direction" not in found


def test_drawing_keeps_order_and_hangs_on_the_seed():
    links = made_up(50)
    some = drawn(links, 20, 1)
    assert len(some) == 20
    assert some == [link for link in links if link in some]
    assert some == drawn(links, 20, 1) != drawn(links, 20, 2)
    assert drawn(links, 1000, 1) == links


def test_a_report_of_the_gain_alone_has_no_empty_tables():
    results = {
        "benchmarks": {"EVALution": {}}, "cells": [], "gain": None, "seconds": 1.0, "command": "c",
        "hardware": {}, "versions": {}, "settings": {},
    }  # fmt: skip
    text = markdown(results)
    assert "Beside published" not in text
    assert "plot.png" not in text
