import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from idiolect.errors import InputError, MismatchError, StoreError
from idiolect.evals import report
from idiolect.evals.arms import DEFAULT_ARMS
from idiolect.evals.metrics import METRICS
from idiolect.evals.results import ArmOutcome, Evaluation, OwnedQuery, summarize

LABELS = ("politics", "sports", "crime")


def evaluation(kind="label", n_people=6, n_queries=4, arms=DEFAULT_ARMS, **changes):
    """Every arm right about half the time, OPPU four times in five; ids repeat between people, as films do."""
    rng = np.random.default_rng(1)
    answers = {"label": LABELS, "rating": tuple("12345"), "text": ("a cat sat", "a dog ran", "rain fell")}
    answers = (answers | {"list": ("wheel, seat", "bell", "seat")})[kind]
    queries = tuple(
        OwnedQuery(f"user {p}", str(i), str(rng.choice(answers))) for p in range(n_people) for i in range(n_queries)
    )
    outcomes = {
        name: ArmOutcome(
            {q.key: q.gold if rng.random() < (0.8 if name == "oppu" else 0.5) else str(rng.choice(answers)) for q in queries},
            seconds=1.5,
            bytes_per_person=98_304 if "oppu" in name else 0,
        )
        for name in arms
    }
    values = {"seed": 3, "seconds": 150.0, "labels": LABELS if kind == "label" else (), "command": "idiolect evals run"}
    values |= {"versions": {"idiolect": "0.1.0"}, "hardware": {"cpu": "2 cores"}, "settings": {"k": 1}}
    values |= {"floors": {"own majority": {"accuracy": 0.5}}}
    return Evaluation("LaMP-2N", kind, "idiolect-tiny", queries=queries, arms=outcomes, **(values | changes))


def test_results_have_exactly_this_shape():
    results = summarize(evaluation())
    top = {"task", "base", "n_people", "n_queries", "seed", "seconds", "arms"}
    assert set(results) == top | {"versions", "hardware", "command", "settings", "floors"}
    assert (results["n_people"], results["n_queries"]) == (6, 24)
    assert list(results["arms"]) == list(DEFAULT_ARMS)
    arm = results["arms"]["oppu"]
    assert set(arm) == {"metrics", "per_person_mean", "vs", "seconds", "bytes_per_person", "invalid_share"}
    assert set(arm["metrics"]) == {"accuracy", "f1"}
    assert set(arm["vs"]) == {"nonpers", "stranger", "pooled", "majority"}
    assert all(set(versus) == {"delta", "p_query", "p_person", "ci"} for versus in arm["vs"].values())


def test_delta_is_the_difference_of_the_metrics():
    arms = summarize(evaluation("rating"))["arms"]
    difference = arms["oppu"]["metrics"]["mae"] - arms["nonpers"]["metrics"]["mae"]
    assert arms["oppu"]["vs"]["nonpers"]["delta"] == pytest.approx(difference)


@pytest.mark.parametrize("kind", METRICS)
def test_a_report_is_written_whole(tmp_path, kind):
    made = evaluation(kind)
    returned = report.write(made, tmp_path / "new" / "out")
    assert sorted(os.listdir(tmp_path / "new" / "out")) == ["plot.png", "predictions.jsonl", "report.md", "results.json"]
    assert os.listdir(tmp_path / "new") == ["out"]
    assert json.loads((tmp_path / "new/out/results.json").read_text()) == returned
    assert (tmp_path / "new/out/plot.png").read_bytes().startswith(b"\x89PNG")
    lines = [json.loads(line) for line in (tmp_path / "new/out/predictions.jsonl").read_text().splitlines()]
    assert len(lines) == len(made.arms) * len(made.queries)
    assert all(set(line) == {"arm", "user_id", "id", "prediction", "gold", "score"} for line in lines)
    mean = np.mean([line["score"] for line in lines if line["arm"] == "oppu"])
    assert mean == pytest.approx(returned["arms"]["oppu"]["metrics"][METRICS[kind][0]])


def test_the_text_of_a_report(tmp_path):
    report.write(evaluation("rating"), tmp_path)
    text = (tmp_path / "report.md").read_text()
    for part in (
        "6 people, 24 queries",
        "MAE ↓",
        "| OPPU + RAG |",
        "lower is better",
        "idiolect evals run",
        "2 cores",
        "own majority",
    ):
        assert part in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in tables}) == 2  # two tables, each of one width


@pytest.mark.parametrize(
    "changes",
    [
        {"arms": ("rag",)},
        {"arms": ("oppu", "nonpers"), "n_people": 1, "n_queries": 1},
        {"arms": ("oppu", "nonpers", "my $free|arm_name"), "n_people": 2},
        {"arms": ("oppu+rag", "rag"), "n_people": 70, "n_queries": 1},
    ],
)
def test_odd_runs_are_reported_too(tmp_path, changes):
    report.write(evaluation("rating", **changes), tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["arms"]) == set(changes["arms"])


def test_a_second_report_replaces_the_first_and_keeps_other_files(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    report.write(evaluation(), tmp_path)
    report.write(evaluation(arms=("rag",)), tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert list(json.loads((tmp_path / "results.json").read_text())["arms"]) == ["rag"]


@pytest.mark.parametrize("name", ["save_plot", "markdown", "prediction_records"])
def test_a_failure_leaves_the_earlier_report(tmp_path, monkeypatch, name):
    def fail(*_):
        raise OSError(28, "No space left on device")

    folder = tmp_path / "out"
    before = report.write(evaluation(), folder)
    monkeypatch.setattr(report, name, fail)
    with pytest.raises(StoreError, match="No space left on device"):
        report.write(evaluation(arms=("rag",)), folder)
    assert json.loads((folder / "results.json").read_text()) == before
    assert os.listdir(tmp_path) == ["out"]


def test_a_failure_while_moving_leaves_no_results_file(tmp_path, monkeypatch):
    """Files of two runs never lie together under a results.json."""
    report.write(evaluation(), tmp_path / "out")
    moved, replace_file = [], os.replace

    def fail_third(source, target):
        moved.append(target)
        if len(moved) == 3:
            raise OSError(28, "No space left on device")
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", fail_third)
    with pytest.raises(StoreError):
        report.write(evaluation(arms=("rag",)), tmp_path / "out")
    assert not (tmp_path / "out" / "results.json").exists()
    assert os.listdir(tmp_path) == ["out"]


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="choose another --out"):
        report.write(evaluation(), tmp_path / "file")
    with pytest.raises(StoreError, match="choose another --out"):
        report.write(evaluation(), tmp_path / "file" / "below")


def test_any_text_can_be_kept(tmp_path):
    query = OwnedQuery("ünï", "1", "a 猫\u2028sat")
    answer = "line\nbreak \ud800 | “quote”"
    made = evaluation("text", arms=("rag",), n_people=1, n_queries=1)
    report.write(replace(made, queries=(query,), arms={"rag": ArmOutcome({query.key: answer})}), tmp_path)
    (line,) = (tmp_path / "predictions.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert json.loads(line)["prediction"] == answer
    assert json.loads(line)["gold"] == query.gold


def test_no_text_of_people_outside_predictions(tmp_path):
    report.write(evaluation("text"), tmp_path)
    for name in ("results.json", "report.md"):
        text = (tmp_path / name).read_text()
        assert "a cat sat" not in text
        assert "user 1" not in text


def test_a_run_that_cannot_be_scored(tmp_path):
    made = evaluation(arms=("rag",))
    with pytest.raises(MismatchError):
        report.write(replace(made, arms={"rag": ArmOutcome({})}), tmp_path / "out")
    with pytest.raises(InputError, match="no arm"):
        evaluation(arms=())
    with pytest.raises(InputError, match="1 queries have an id"):
        replace(made, queries=(*made.queries, made.queries[0]))
    with pytest.raises(InputError, match="no queries"):
        summarize(evaluation(n_people=0))
    assert not (tmp_path / "out").exists()


def test_person_gains_need_both_arms():
    assert evaluation(arms=("oppu", "rag")).person_gains() == {}
    gains = evaluation().person_gains()
    people = evaluation().people
    assert gains == {user: people["oppu"][user] - people["nonpers"][user] for user in gains}
    assert len(gains) == 6


def test_the_table_fits_a_terminal():
    console = Console(width=80, record=True, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    with console.file:
        console.print(report.table(summarize(evaluation())))
        text = console.export_text()
    assert "…" not in text
    rows = [line.split() for line in text.splitlines()]
    assert [name for name in DEFAULT_ARMS if any(row[:1] == [name] for row in rows)] == list(DEFAULT_ARMS)


def test_no_torch_and_no_plotting_on_import():
    modules = "arms, floors, metrics, plot, report, results, stats"
    heavy = {"torch", "matplotlib", "scipy", "nltk"}
    code = f"import sys; from idiolect.evals import {modules}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
