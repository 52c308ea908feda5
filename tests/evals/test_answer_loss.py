"""What true answers cost an arm: the loss of the very tokens that training would see, each under its own person's adapter."""

from __future__ import annotations

import json

import pytest
import torch

from idiolect.data.batch import Row, pack
from idiolect.evals.results import ArmOutcome, Evaluation, OwnedQuery, summarize
from idiolect.house import TrainingOptions
from idiolect.model.bank import Bank
from idiolect.service import Idiolect
from idiolect.train.stages import with_task_adapter

FAST = TrainingOptions(overrides=(("epochs", 4), ("rank", 2), ("targets", ("q_proj", "v_proj")), ("learning_rate", 2e-2)))


def writer(name, habit, n=6, queries=2):
    """Somebody who ends every headline in the same way."""
    items = [{"id": f"{name}{i}", "text": f"the {name} of day {i}", "title": f"day {i} {habit}"} for i in range(n)]
    asked = [
        {"id": f"{name}-q{i}", "input": f"Generate a headline for the following article: the {name} of day {i + 50}",
         "gold": f"day {i + 50} {habit}"} for i in range(queries)
    ]  # fmt: skip
    return {"user_id": name, "profile": items, "query": asked}


@pytest.fixture(scope="module")
def run(tmp_path_factory, base_folder):
    folder = tmp_path_factory.mktemp("loss")
    people = [
        writer("ana", "and so to bed"),
        writer("ben", "sources say"),
        *(writer(f"x{i}", "we think", 3, 1) for i in range(3)),
    ]
    data = folder / "people.jsonl"
    data.write_text("".join(json.dumps(person) + "\n" for person in people))
    with Idiolect.open(folder / "store", base_folder("llama"), device="cpu") as house:
        evaluation = house.evaluate(
            data, "LaMP-4", folder / "out", targets=2, arms=("nonpers", "oppu", "stranger"), options=FAST,
            task_overrides=FAST.overrides,
        )  # fmt: skip
        yield house, evaluation, folder / "out"


def by_hand(house, arm, user):
    """−log p of each of a person's true answers, from the logits of the whole prompt and answer."""
    from idiolect.data.retrieval import query_examples
    from idiolect.data.tasks import get_task
    from idiolect.train.stages import Recipe

    task, store = get_task("LaMP-4"), house.store
    base = with_task_adapter(house.base, store, store.task_head("LaMP-4", house.base.fingerprint))
    head = {name: store.head(name, task="LaMP-4", base=house.base.fingerprint) for name in ("ana", "ben")}
    key = {"nonpers": None, "oppu": head[user], "stranger": head["ben" if user == "ana" else "ana"]}[arm]
    bank = Bank.on(base, store.blob_path)
    found = {}
    for example in query_examples(store.person(user), task):
        (rendered,) = Recipe(task, FAST.config("user")).render(base, [example])
        batch = pack([Row(0, 0, 1.0, rendered)])
        with torch.inference_mode():
            hidden = base.model.hidden(base.model.plan(batch), bank.stack([key]))
            log_p = base.model.to_logits(hidden).log_softmax(-1)
        found[example.id] = -log_p[torch.arange(len(log_p)), torch.from_numpy(batch.targets)].mean().item()
    return found


@pytest.mark.parametrize("arm", ["nonpers", "oppu", "stranger"])
def test_losses_are_those_of_the_true_answers_under_the_right_adapter(run, arm):
    house, evaluation, _ = run
    losses = evaluation.arms[arm].losses
    assert len(losses) == 4
    for user in ("ana", "ben"):
        expected = by_hand(house, arm, user)
        mine = [losses[q.key] for q in evaluation.queries if q.user_id == user]
        assert mine == pytest.approx(list(expected.values()), rel=1e-4)


def test_own_habits_cost_less_than_a_strangers_and_the_report_says_so(run):
    _, _, out = run
    results = json.loads((out / "results.json").read_text())
    arms = results["arms"]
    assert arms["oppu"]["answer_loss"]["mean"] < arms["nonpers"]["answer_loss"]["mean"]
    assert arms["oppu"]["answer_loss"]["vs"]["stranger"]["delta"] < 0
    assert "## What the true answers cost" in (out / "report.md").read_text()


def test_an_answer_that_one_arm_could_not_read_is_compared_by_neither():
    queries = tuple(OwnedQuery(user, "q", "a") for user in ("ana", "ben", "cleo"))
    said = {q.key: "a" for q in queries}
    first, second, third = said
    arms = {
        "nonpers": ArmOutcome(said, losses={first: 2.0, second: 3.0}),
        "oppu": ArmOutcome(said, losses={second: 1.0, third: 9.0}),
    }
    found = summarize(Evaluation("LaMP-4", "text", "base", 0, 0.0, queries, arms))["arms"]["oppu"]["answer_loss"]
    assert (found["mean"], found["n"], found["vs"]["nonpers"]["delta"]) == (5.0, 2, -2.0)
