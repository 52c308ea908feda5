"""Arms of pieces on a random base and a made-up population, from people in a store to a report."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest

from idiolect.config import TrainConfig
from idiolect.data.synthetic import population
from idiolect.data.tasks import get_task
from idiolect.evals import privacy, report
from idiolect.evals.arms import ARMS, OF_PIECES, parse_arms
from idiolect.evals.harness import evaluate, kitchen
from idiolect.evals.plan import Plan
from idiolect.evals.pooling import PiecePlan, Workshop, newcomers, noisy
from idiolect.pieces.residual import Residual
from idiolect.pieces.search import Search
from idiolect.pieces.select import Selection, base_encoder, choose_sharers
from idiolect.service import Idiolect
from idiolect.store.store import Store
from idiolect.train import trainer

ALL = ",".join(name for name, arm in ARMS.items() if arm.user_adapter in OF_PIECES)
SMALL = TrainConfig(rank=2, alpha=4, epochs=1, learning_rate=5e-3, batch_size=4, max_tokens=500)
PIECES = PiecePlan(
    selection=Selection(n=3, min_items=6),
    gates=TrainConfig(learning_rate=5e-3, steps=3, batch_size=4, weight_decay=0.0, schedule="cosine", warm_up=0.0),
    seeds=(0, 1),
    search=Search(budget=6),
    residual=Residual(min_items=6),
    directions=4,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    targets, others = population(0, n_people=3, n_items=8, n_queries=2, n_base_people=8)
    with Store.open(tmp_path_factory.mktemp("store")) as opened:
        opened.import_people([*targets, *others])
        yield opened


def plan_of(arms, **changes):
    targets = tuple(f"person-{n:02d}" for n in (1, 2, 3))
    values = {"stage_1": SMALL, "stage_2": SMALL, "pieces": PIECES, "task_examples": 20} | changes
    return Plan(get_task("LaMP-2N"), targets, arms=parse_arms(arms), **values)


@pytest.fixture(scope="module")
def run(load, store):
    stages = []

    def on_stage(title, total):
        stages.append(title)
        return lambda done, remark, left_s: None

    made = evaluate(load("llama"), store, plan_of(f"{ALL},oppu,majority"), on_stage=on_stage)
    return made, stages


def test_every_arm_of_pieces_answers_every_query(run):
    made, _ = run
    assert set(made.arms) >= OF_PIECES_ARMS
    assert all(len(arm.predictions) == len(made.queries) == 6 for arm in made.arms.values())
    assert len(made.arms["random-gates"].repeats) == len(made.arms["random-pieces"].repeats) == 1
    assert not made.arms["perpcs"].repeats


OF_PIECES_ARMS = {name for name, arm in ARMS.items() if arm.user_adapter in OF_PIECES}


def test_records_are_small_and_the_pool_is_told_apart(run):
    made, _ = run
    kept = {name: arm.bytes_per_person for name, arm in made.arms.items()}
    assert 0 < kept["perpcs"] < kept["oppu"]
    assert kept["perpcs"] < kept["perpcs+residual"]
    assert kept["uniform"] == kept["nonpers"] == 0
    pool = made.settings["pieces"]["k0"]
    assert (pool["sharers"], pool["sharers_wanted"], pool["k"]) == (3, 3, 3)
    assert pool["pieces"] == 3 * 4
    assert pool["pool_bytes"] > 0
    small = made.settings["pieces"]["perpcs+subspace"]["subspace"]
    assert small["relative_error"] > 0
    assert made.settings["pieces"]["perpcs+residual"]["residual"]["people"] == 3


def test_sharers_are_neither_targets_nor_in_the_task_adapter(run, load, store):
    workshop = Workshop(load("llama"), store)
    sharers = workshop.choose(get_task("LaMP-2N"), plan_of("perpcs").targets, PIECES.selection)
    assert len(sharers.ids) == 3
    assert not set(sharers.ids) & set(plan_of("perpcs").targets)
    (task_adapter,) = {row.digest for row in store.adapters(kind="task") if row.variant == "k0"}
    taught = {parent.id for parent in store.parents(task_adapter) if parent.kind == "person"}
    assert taught
    assert not taught & {*sharers.ids, *plan_of("perpcs").targets}


def test_a_second_run_trains_nothing_and_answers_the_same(run, load, store, monkeypatch):
    made, _ = run
    trained = []
    admit = trainer.Slots.admit
    monkeypatch.setattr(trainer.Slots, "admit", lambda self, *given: (trained.append(1), admit(self, *given))[1])
    again = evaluate(load("llama"), store, plan_of("perpcs,random-gates,random-pieces,perpcs+rag"))
    assert not trained
    for name in ("perpcs", "random-gates", "random-pieces", "perpcs+rag"):
        assert again.arms[name].runs == made.arms[name].runs


def test_the_report_says_first_that_gating_added_nothing(run, tmp_path):
    made, _ = run
    results = report.write(made, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert text.startswith("**Gating added nothing here**")
    assert "sharers 3" in text.splitlines()[0]
    assert "strength" not in text.splitlines()[0]
    pieces = {"pieces": {"k0": results["settings"]["pieces"]["k0"] | {"strength": 0.5}}}
    weak = report.markdown(results | {"settings": results["settings"] | pieces})
    assert "combine delta, strength 0.5, gates of" in weak.splitlines()[0]
    assert "## Sharers" in text
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert {line.get("run") for line in lines if line["arm"] == "random-gates"} == {0, 1}
    assert results["arms"]["random-gates"]["seeds"] == 2
    better = dict(results["arms"]["perpcs"]["vs"]["random-gates"], delta=0.2, p_query=0.001)
    clear = results | {"arms": results["arms"] | {"perpcs": results["arms"]["perpcs"] | {"vs": {"random-gates": better}}}}
    assert report.markdown(clear).startswith("# LaMP-2N")


def test_true_answers_cost_something_under_every_arm_of_texts(tmp_path, load):
    targets, others = population(0, n_people=3, n_items=8, n_queries=2, n_base_people=8, kind="style")
    with Store.open(tmp_path / "store") as store:
        store.import_people([*targets, *others])
        arms = parse_arms("perpcs,random-gates,perpcs+residual")
        mixed = replace(PIECES, residual=Residual(min_items=9), seeds=(0, 1))
        plan = replace(plan_of("perpcs"), task=get_task("LaMP-4"), arms=arms, pieces=mixed)
        some = replace(plan, pieces=replace(mixed, residual=Residual(min_items=6)))
        first = evaluate(load("llama"), store, plan)
        second = evaluate(load("llama"), store, replace(some, arms=("perpcs+residual",)))
    assert all(len(arm.losses) == len(first.queries) for arm in first.arms.values())
    assert first.arms["perpcs+residual"].losses == pytest.approx(first.arms["perpcs"].losses)  # nobody has nine items
    assert second.arms["perpcs+residual"].losses != pytest.approx(first.arms["perpcs"].losses)


def test_gates_go_with_anybody_who_goes(run, tmp_path, load, base_folder):
    targets, others = population(0, n_people=3, n_items=8, n_queries=2, n_base_people=8)
    with Idiolect.open(tmp_path / "store", base_folder("llama")) as house:
        house.store.import_people([*targets, *others])
        evaluate(load("llama"), house.store, plan_of("perpcs"))
        assert len(list((tmp_path / "store" / "gates").iterdir())) == 3
        house.delete_person("base-001")
        assert not (tmp_path / "store" / "gates").exists()


def test_noise_grows_and_leaves_places_and_queries():
    people, _ = population(0, n_people=3, n_items=10, n_queries=2, n_base_people=0)
    half, all_ = noisy(people, 0.5, 1), noisy(people, 1.0, 1)
    for person, some, every in zip(people, half, all_, strict=True):
        assert [i.id for i in some.history] == [i.id for i in every.history] == [i.id for i in person.history]
        changed = [a.fields != b.fields for a, b in zip(some.history, person.history, strict=True)]
        assert sum(changed) == 5
        assert all(a.fields == b.fields for a, b, c in zip(some.history, every.history, changed, strict=True) if c)
        assert some.queries == person.queries
    assert noisy(people, 0.0, 1) == people
    assert noisy(people[::-1], 0.5, 1)[::-1] == half


def test_nothing_of_a_newcomer_is_read_but_their_items_and_nothing_given_is_changed(load):
    targets, others = population(0, n_people=3, n_items=8, n_queries=2, n_base_people=4)
    base, task, everybody = load("llama"), get_task("LaMP-2N"), [*targets, *others]
    before = copy.deepcopy(everybody)
    recipe = plan_of("perpcs").recipe("k0", SMALL)
    _, examples, _ = newcomers(base, recipe, targets)
    _, deaf, _ = newcomers(base, recipe, [replace(person, queries=()) for person in targets])
    assert examples == deaf
    for strategy in ("cluster_most_active", "most_active"):
        chosen = Selection(n=2, min_items=1, strategy=strategy)
        blind = choose_sharers([replace(p, queries=()) for p in everybody], task, chosen, base_encoder(base))
        assert choose_sharers(everybody, task, chosen, base_encoder(base)) == blind
    noisy(everybody, 0.5, 1)
    privacy.split_items(everybody[0], 0.5, "random", 1)
    assert everybody == before


def test_noise_reaches_every_arm_that_reads_a_history(load, store, monkeypatch):
    quiet = kitchen(load("llama"), store, plan_of("perpcs"))
    loud = kitchen(load("llama"), store, plan_of("perpcs", pieces=replace(PIECES, noise=1.0)))
    assert quiet.heard == quiet.people == loud.people
    assert quiet.examples != loud.examples
    read, vectors = [], Workshop.vectors
    monkeypatch.setattr(
        Workshop, "vectors", lambda self, task, people, most: (read.append(people), vectors(self, task, people, most))[1]
    )
    loud.make("nearest")
    assert [person.history for person in read[-1]] == [person.history for person in loud.heard]
