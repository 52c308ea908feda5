"""Studies, the cost curve and the attacks on a random base and a made-up population."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from test_pieces_arms import PIECES, SMALL, plan_of

from idiolect.cli.evaluating import piece_plan
from idiolect.data.synthetic import population
from idiolect.data.tasks import get_task
from idiolect.errors import ConfigError
from idiolect.evals import cost, privacy, report
from idiolect.evals.cost import Costs
from idiolect.evals.studies import STUDIES, get_study, run_study
from idiolect.store.store import Store
from idiolect.train import trainer
from idiolect.types import Item, Person


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    targets, others = population(0, n_people=3, n_items=8, n_queries=2, n_base_people=8)
    with Store.open(tmp_path_factory.mktemp("store")) as opened:
        opened.import_people([*targets, *others])
        yield opened


def few(**changes):
    return plan_of("perpcs", pieces=replace(PIECES, **changes))


def study(load, store, name, values, **changes):
    return run_study(load("llama"), store, few(**changes), get_study(name)[0], values)


def test_a_study_is_an_evaluation_with_an_arm_for_each_condition(load, store, tmp_path):
    made = study(load, store, "k", (1, 3))
    assert list(made.arms) == ["nonpers", "k 1", "k 3"]
    assert len(made.arms["k 1"].runs) == 2
    results = report.write(made, tmp_path / "out")
    assert set(results["arms"]["k 3"]["vs"]) == {"nonpers"}
    assert results["arms"]["k 3"]["seeds"] == 2
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.startswith("# Study of pieces per module · LaMP-2N")
    assert "## Conditions" in text
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "results.json", "predictions.jsonl", "report.md", "plot.png",
    }  # fmt: skip
    assert made.arms["k 1"].bytes_per_person < made.arms["k 3"].bytes_per_person


def test_the_next_study_on_a_store_trains_nothing_new(load, store, monkeypatch):
    study(load, store, "k", (3,))
    trained = []
    admit = trainer.Slots.admit
    monkeypatch.setattr(trainer.Slots, "admit", lambda self, *given: (trained.append(1), admit(self, *given))[1])
    looks = ("temperature", (0.5, 5.0)), ("strength", (0.5,)), ("history", (2, None)), ("noise", (0.5,)), ("ratio", (0.5,))
    for name, values in looks:
        made = study(load, store, name, values, seeds=(0, 1))
        assert len(made.arms) == 1 + len(values)
    assert not trained


def test_a_strength_is_that_of_its_condition(load, store):
    made = study(load, store, "strength", (0.5, 1.0), seeds=(0,))
    pools = made.settings["study"]["conditions"]
    assert [pools[name][0]["strength"] for name in ("strength 0.5", "strength 1")] == [0.5, 1.0]
    plain = study(load, store, "k", (3,), seeds=(0,))
    assert made.arms["strength 1"].losses == plain.arms["k 3"].losses
    assert made.arms["strength 0.5"].losses != plain.arms["k 3"].losses
    assert piece_plan(sharers=3, strength=0.5).assembly == replace(PIECES.assembly, strength=0.5)


def test_one_task_adapter_for_every_condition_and_no_sharer_in_it(load, store):
    before = {row.digest for row in store.adapters(kind="task")}
    made = study(load, store, "sharers", (1, 2), seeds=(0,))
    (task_adapter,) = {row.digest for row in store.adapters(kind="task")} - before
    taught = {parent.id for parent in store.parents(task_adapter) if parent.kind == "person"}
    assert made.settings["study"]["apart"] == 8 - len(taught)
    pools = made.settings["study"]["conditions"]
    assert [pools[name][0]["sharers"] for name in ("sharers 1", "sharers 2")] == [1, 2]


def test_studies_refuse_what_they_cannot_vary():
    assert get_study("history", "1, all,1")[1] == (1, None)
    assert get_study("temperature", "0.1,2")[1] == (0.1, 2.0)
    assert get_study("strength", "0.1,4")[1] == (0.1, 4.0)
    assert get_study("strength")[1] == (0.25, 0.5, 0.75, 1.0)
    with pytest.raises(ConfigError, match="choose one of: sharers, strategy"):
        get_study("magic")
    wrong = {
        "k": ("many", "0", "", ","), "sharers": ("0",), "history": ("-3", "none"), "noise": ("2", "nan", "-0.1"),
        "ratio": ("0", "1.5"), "temperature": ("0", "inf"), "strategy": ("best",),
        "strength": ("0", "5", "nan", "-1"),
    }  # fmt: skip
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(ConfigError, match="do not suit"):
                get_study(name, value)
    for arms in ("nonpers", "oppu"):
        with pytest.raises(ConfigError, match="changes nothing about"):
            run_study(None, None, plan_of(arms), STUDIES["k"], (1,))  # pyright: ignore[reportArgumentType]


# --------------------------------------------------------------------------------------------------------------- cost


def test_the_curve_is_the_arithmetic():
    costs = Costs(adapter_bytes=100, record_bytes=1, pool_bytes=1000, adapter_flop=70, record_flop=10, pool_flop=300)
    assert costs.storage(10) == pytest.approx(1000 / 1010)
    for ratio in (1.0, 38.0):
        n = costs.storage_reaches(ratio)
        assert n is not None
        assert costs.storage(n) >= ratio > costs.storage(n - 1)
    assert costs.compute_reaches(7.0) is None
    assert costs.compute(10**9) < 7.0
    assert costs.compute_reaches(6.0) == 180


def test_what_is_counted_is_what_is_kept(load, store, tmp_path):
    found = cost.run(load("llama"), store, few())
    layout = load("llama").layout(SMALL.rank, SMALL.alpha, SMALL.targets)
    assert 4 * layout.size < found["storage"]["adapter_bytes"] < 4 * layout.size + 2048
    assert found["storage"]["record_bytes"] < 2048
    assert found["storage"]["pool_bytes"] == 3 * 4 * (layout.size + 4 * 32)
    assert found["flop"]["adapter"] > found["flop"]["record"] > 0
    (tmp_path / "out").mkdir()
    for name in ("results.json", "predictions.jsonl"):
        (tmp_path / "out" / name).write_text("of an earlier run")
    cost.write(found, tmp_path / "out")
    assert not (tmp_path / "out" / "predictions.jsonl").exists()
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Storage: 38 times less never" in text
    assert json.loads((tmp_path / "out" / "results.json").read_text())["curve"]
    assert (tmp_path / "out" / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_flop_of_training_are_twice_forward_and_a_head():
    sizes = cost.Sizes(weights=1000, head=200, widths=50, inputs=20)
    assert sizes.training(2, 10, 3) == 4 * 1000 * 10 + 4 * 200 * 3 + 6 * 2 * 50 * 10
    assert sizes.assembling(2, 3, 5, 10) == 2 * 1000 * 10 + 2 * 6 * 50 * 10 + 2 * 5 * 20


# ------------------------------------------------------------------------------------------------------------- privacy


def test_items_are_held_out_once_and_for_all():
    person = Person("ana", tuple(Item(str(i), {}) for i in range(10)))
    members, held = privacy.split_items(person, 0.3, "random", 1)
    assert (len(members), len(held)) == (7, 3)
    assert sorted(int(item.id) for item in (*members, *held)) == list(range(10))
    assert privacy.split_items(person, 0.3, "random", 1)[1] == held
    assert [item.id for item in privacy.split_items(person, 0.2, "newest", 1)[1]] == ["8", "9"]
    assert len(privacy.split_items(person, 0.99, "random", 1)[0]) == 1


@pytest.fixture(scope="module")
def attacked(load, store):
    hard = SMALL.but(epochs=30, learning_rate=2e-2, rank=8)
    plan = replace(few(), stage_2=hard, pieces=replace(PIECES, gates=PIECES.gates.but(steps=30)))
    return privacy.measure(load("llama"), store, plan, held_out=0.4, n_resamples=200)


def test_members_of_an_overfitted_adapter_are_told(attacked):
    found = {(a["attack"], a["gates"]): a for a in attacked["attacks"] if a["against"] == "held out"}
    assert found["loss less the base's · pieces", "not used"]["auc"] > 0.75
    assert ("base alone (control)", "not used") in found
    assert all(0 <= a["low"] <= a["auc"] <= a["high"] <= 1 for a in found.values())
    assert {a["n_people"] for a in found.values()} == {3}
    published = {gates for _, gates in found}
    assert {"raw", "direction only", "random"} <= published


def test_a_privacy_report_is_written(attacked, tmp_path):
    privacy.write(attacked, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "gate probe" in text
    assert "base-0" not in text
    assert json.loads((tmp_path / "out" / "results.json").read_text())["attacks"] == attacked["attacks"]


def test_noise_of_one_person_has_nobody_to_come_from(load, store):
    made = study(load, store, "noise", (0.0, 1.0), seeds=(0,))
    assert np.isfinite(made.scores["noise 1"].metrics["accuracy"])
    assert get_task("LaMP-2N").name == made.task
