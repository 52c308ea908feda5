"""The benchmarks themselves: fair turns, right sums, reports that can be repeated."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

pytest.importorskip("peft", reason="the benchmark peers need the extra: pip install 'idiolect[bench]'")
pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own deprecations are not ours to mend

from idiolect import machine  # noqa: E402
from idiolect.bench import bases, floor, unlearn, workloads  # noqa: E402
from idiolect.bench.__main__ import lines, main  # noqa: E402
from idiolect.bench.interleave import Sample, interleave, summarise  # noqa: E402
from idiolect.bench.table import write_table  # noqa: E402
from idiolect.config import TrainConfig  # noqa: E402
from idiolect.unlearn.methods import Term  # noqa: E402


def test_every_method_runs_once_a_round_in_changing_order():
    ran = []
    methods = {name: lambda name=name: ran.append(name) for name in "abc"}
    samples = interleave(methods, rounds=6, seed=1, warm_up=1)
    turns = [tuple(ran[i : i + 3]) for i in range(0, len(ran), 3)]
    assert len(turns) == 7
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert len(set(turns)) > 1
    assert len(samples) == 18
    assert {sample.round for sample in samples} == set(range(6))


def test_ratios_pair_the_runs_of_one_round():
    walls = {"slow": [10.0, 20.0, 40.0], "fast": [5.0, 4.0, 20.0]}
    samples = [Sample(name, i, wall, wall, 0.0) for name, times in walls.items() for i, wall in enumerate(times)]
    figures = summarise(samples[::-1], ["slow", "absent"])["methods"]
    assert figures["fast"]["vs"]["slow"]["wall"] == [2.0, 5.0, 2.0]
    assert figures["fast"]["vs"]["slow"]["median"] == 2.0
    assert figures["slow"]["vs"] == {}
    assert (figures["slow"]["median_s"], figures["slow"]["min_s"], figures["slow"]["max_s"]) == (20.0, 10.0, 40.0)


@pytest.mark.parametrize("name", workloads.WORKLOADS)
def test_workloads_are_what_they_say(name):
    load = workloads.WORKLOADS[name]
    data = workloads.make(load, vocab=4096, people=3)
    rows = [row for rows in data.values() for row in rows]
    assert len(rows) == 3 * load.items
    least, most = (load.shared + n for n in load.own)
    assert all(least <= len(row.ids) <= most and row.n_answer == load.answer for row in rows)
    assert len({row.ids[: load.shared] for row in rows}) == 1
    assert len({row.ids for row in rows}) == len(rows)
    more = workloads.make(load, vocab=4096, people=5)
    assert all(more[person] == data[person] for person in data)


def test_floor_of_a_known_model():
    """A SmolLM2-135M with 32 items of 48 tokens, 2 epochs, 12 answer tokens each: 1.39 TFLOP before the adapters' own."""
    tokens, answers = 32 * 48 * 2, 32 * 12 * 2
    parts = floor.training_flop(bases.SHAPES["135m"], TrainConfig.build(), tokens, answers)
    assert parts["base"] + parts["head"] == pytest.approx(1.39e12, rel=0.01)
    assert parts["adapters"] / parts["base"] == pytest.approx(0.0065, rel=0.1)


def test_against_floor():
    found = floor.against_floor(flop_per_person=1e9, seconds_per_person=0.02, gemm_flop=2e9, gemm_s=0.02)
    assert found["floor_s_per_person"] == pytest.approx(0.01)
    assert found["times_above_floor"] == pytest.approx(2.0)


def test_hardware_and_versions_are_named():
    hardware = machine.hardware()
    assert hardware["cpu"]
    assert hardware["cores"] >= 1
    assert hardware["memory_bytes"] > 2**28
    assert {"python", "torch", "transformers", "peft"} <= set(machine.versions())


def test_relative_difference():
    shape = bases.SHAPES["tiny"]
    one = bases.random_adapter(shape, 4, ("q_proj",), seed=0)
    start = {module: (a * 0.5, b * 0.5) for module, (a, b) in one.items()}
    assert bases.relative_difference(one, one) == 0
    assert bases.relative_difference(start, one, start) == pytest.approx(1.0)
    assert bases.relative_difference(start, one) == pytest.approx(0.5)


@pytest.mark.slow
def test_train_run_agrees_and_reports(tmp_path, capsys):
    options = ["--workload", "short", "--shape", "tiny", "--people", "2", "--rounds", "1", "--out", str(tmp_path)]
    assert main(["train", *options]) == 0
    result = json.loads((tmp_path / "train-short-tiny.json").read_text())
    assert {"command", "seed", "hardware", "versions", "load_average", "rounds", "flop", "gemm"} <= set(result)
    assert result["methods"]["fused"]["vs"]["trainer"]["median"] > 0
    assert result["agreement"]["relative_difference_to_trainer"]["fused"] < 1e-3
    assert result["agreement"]["relative_difference_to_trainer"]["bare"] < 1e-5
    assert "\n".join(lines(result)) in capsys.readouterr().out


@pytest.mark.slow
def test_serve_run_agrees(tmp_path):
    pytest.importorskip("idiolect.engine.local")
    assert main(["serve", "--shape", "tiny", "--people", "3", "--rounds", "1", "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "serve-tiny.json").read_text())
    assert result["agreement"]["same_answers_as_peft_switch"] == {"peft_mixed": 1.0, "mixed": 1.0}


@pytest.mark.slow
def test_load_and_memory_runs_report(tmp_path):
    assert main(["load", "--shape", "tiny", "--people", "8", "--peers", "8", "--out", str(tmp_path)]) == 0
    assert main(["memory", "--shape", "tiny", "--people", "8", "--out", str(tmp_path)]) == 0
    load = json.loads((tmp_path / "load-tiny.json").read_text())
    assert [part["adapters"] for part in load["methods"]["bank"]["by_resident"]] == [8]
    assert json.loads((tmp_path / "memory-tiny.json").read_text())["peak_bytes"] > 0


@pytest.mark.slow
def test_pieces_runs_report_and_agree(tmp_path, capsys):
    given = ["--shape", "tiny", "--people", "3", "--rounds", "1", "--out", str(tmp_path)]
    assert main(["pool", *given]) == 0
    assert main(["assemble", "--workload", "template", *given]) == 0
    pool = json.loads((tmp_path / "pool-tiny.json").read_text())
    assert pool["agreement"] == {"same_answers_as_lora": 1.0, "agrees": True}
    assert pool["bytes_per_person"]["pool"] < pool["bytes_per_person"]["lora"]
    assemble = json.loads((tmp_path / "assemble-template-tiny.json").read_text())
    assert assemble["methods"]["assemble"]["vs"]["train"]["median"] > 0
    assert assemble["tokens_per_person"] > 32 * 75
    text = write_table(tmp_path, tmp_path / "RESULTS.md")
    assert "| pool-tiny | 3 | 1 |" in text
    assert "| assemble-template-tiny | 3 | 1 |" in text
    capsys.readouterr()


def test_table_tells_what_was_met_and_what_was_missed(tmp_path):
    floor_of = {"flop_per_person": 1e9, "floor_people_per_minute": 9.0, "times_above_floor": 2.0}
    ratio = {"median": 2.1, "min": 1.9, "max": 2.3, "median_cpu": 2.0}
    fused = {"people_per_minute": 60.0, "others": [0.0, 1.0, 0.1], "vs": {"trainer": ratio}, "floor": floor_of}
    report = {
        "hardware": machine.hardware(),
        "versions": machine.versions(),
        "threads": 2,
        "people": 16,
        "rounds": 3,
        "load_average": [1.5, 1.0, 1.0],
        "methods": {"fused": fused, "bare": {"floor": floor_of}, "trainer": {"floor": floor_of}},
        "agreement": {"relative_difference_to_trainer": {"fused": 1e-6}},
    }
    (tmp_path / "train-w0-small.json").write_text(json.dumps(report))
    fused["vs"] = {"trainer": ratio | {"median": 1.5}}
    (tmp_path / "train-w0-135m.json").write_text(json.dumps(report))
    text = write_table(tmp_path, tmp_path / "RESULTS.md")
    assert (tmp_path / "RESULTS.md").read_text() == text
    assert "| train-w0-small | 16 | 3 | 60.0 people/min | trainer | 2.10 (1.90–2.30) | 2.00 | ≥ 2: met by the median" in text
    assert "1.50 (1.90–2.30) | 2.00 | ≥ 1.6: **missed** | 1.5 | 0.10 |" in text


@pytest.mark.slow
def test_unlearn_run_agrees_and_reports(tmp_path, capsys):
    assert main(["unlearn", "--shape", "tiny", "--rounds", "1", "--threads", "1", "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "unlearn-tiny.json").read_text())
    assert {"command", "seed", "hardware", "versions", "load_average", "rounds", "flop_per_step", "gemm"} <= set(result)
    assert result["agreement"]["relative_difference"]["first"] < 1e-4
    assert set(result["agreement"]["last_losses"]["one_base"]) == {"gd", "rd", "pd"}
    assert result["methods"]["one_base"]["vs"]["two_copies"]["median"] > 0
    for side in result["methods"].values():
        assert 2**24 < side["bare_bytes"] <= side["loaded_bytes"] <= side["peak_bytes"]
    text = write_table(tmp_path, tmp_path / "RESULTS.md")
    assert "| unlearn-tiny | – | 1 |" in text
    assert "| unlearn-tiny | two_copies |" in text
    assert "\n".join(lines(result)) in capsys.readouterr().out


def test_a_second_copy_is_what_the_floor_does_not_need():
    """SmolLM2-135M in float32: 134.5 million numbers once; a frozen pass costs half of one with gradients for its rows."""
    side = SimpleNamespace(size=bases.SHAPES["135m"], training=TrainConfig.build(rank=16, targets=("q_proj",)))
    found = unlearn.floor_bytes(side)
    assert found["base"] == found["second_copy"] == 4 * 134_515_008
    assert found["adapter"] == 16 * 16 * (576 + 576) * 30
    row = workloads.examples_of(workloads.WORKLOADS["w0"], "ana", 4096, 0)[0]
    side.plan = [[Term("gd", "nll", 1.0, (row,))], [Term("pd", "away", 1.0, (row,))]]
    flop = unlearn.step_flop(side)
    trained = floor.training_flop(side.size, side.training, len(row.ids), row.n_answer)
    assert flop["base"] == trained["base"]
    assert flop["frozen"] == pytest.approx((trained["base"] + trained["head"]) / 4)
    assert flop["total"] == pytest.approx(trained["total"] + flop["frozen"])


def test_losses_that_differ_do_not_agree():
    one = [{"gd": 2.0, "pd": 0.0}, {"gd": 1.0, "pd": 0.1}]
    assert unlearn._agreement(one, [dict(step) for step in one])["agrees"]
    assert not unlearn._agreement(one, [one[0], {"gd": 1.0, "pd": 0.12}])["agrees"]
    assert not unlearn._agreement(one, [{"gd": 2.001, "pd": 0.0}, one[1]])["agrees"]
    assert not unlearn._agreement(one, one[:1])["agrees"]
