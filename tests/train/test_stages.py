"""Stage 1 and stage 2 on a store: who is trained on what, and what is written down about it."""

from __future__ import annotations

import hashlib
import json

import pytest

from idiolect.config import TrainConfig
from idiolect.data.retrieval import query_examples
from idiolect.data.tasks import get_task
from idiolect.engine.answers import Question, answer
from idiolect.engine.local import Engine
from idiolect.errors import BaseMismatch, ConfigError, EmptyHistory, TaskAdapterNotFound
from idiolect.store.store import Store
from idiolect.train import stages
from idiolect.train.stages import Recipe, manifest_of, stage_one, stage_two, task_base, train_pooled, with_task_adapter
from idiolect.types import Item, Person, Query

TASK = get_task("LaMP-3")
SETTINGS = TrainConfig.build(rank=2, alpha=4, epochs=1, learning_rate=1e-2, batch_size=4, warm_up=0.0, max_tokens=200)
PLAIN = Recipe(TASK, SETTINGS)
RETRIEVING = Recipe(TASK, SETTINGS, "bm25", 1)


def person(name, n, queries=0):
    """Reviews that name their author and their number, so that a prompt shows whose they are."""
    items = tuple(
        Item(f"{name}-{i}", {"text": f"{name} saw film no {i} by the sea", "score": str(1 + i % 5)}, f"2020-01-{i + 1:02}")
        for i in range(n)
    )
    asked = tuple(Query(f"{name}-q{i}", TASK.query_input(f"{name} asks about film {i}"), "3") for i in range(queries))
    return Person(name, items, asked)


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "store") as store:
        for name, n in (("ana", 3), ("ben", 1), ("cleo", 6)):
            store.add_person(person(name, n))
        yield store


@pytest.fixture(scope="module")
def base(load):
    return load("llama")


@pytest.fixture
def jobs(monkeypatch):
    """Every job given to the trainer from now on."""
    seen, train = [], stages.train

    def spy(base, given, *rest):
        def watched():
            for job in given:
                seen.append(job)
                yield job

        train(base, watched(), *rest)

    monkeypatch.setattr(stages, "train", spy)
    return seen


def texts(base, job):
    return [base.tokenizer.decode(e.ids[: e.n_prompt]) for e in job.examples]


def test_everybody_is_trained_on_their_own_items_only(base, store, jobs):
    for recipe in (PLAIN, RETRIEVING, Recipe(TASK, SETTINGS, "random", 2)):
        jobs.clear()
        report = stage_two(base, store, recipe, ["cleo", "ana", "ben"])
        assert not report.problems
        assert {job.person: len(job.examples) for job in jobs} == {"ana": 3, "ben": 1, "cleo": 6}
        for job in jobs:
            assert [e.id for e in job.examples] == [f"{job.person}-{i}" for i in range(len(job.examples))]
            others = {"ana", "ben", "cleo"} - {job.person}
            for text in texts(base, job):
                assert job.person in text
                assert not any(other in text for other in others)


def test_the_loss_is_on_the_answer_and_the_end_of_sequence(base, store, jobs):
    stage_two(base, store, PLAIN, ["cleo"])
    for i, example in enumerate(jobs[0].examples):
        *answer_ids, end = example.ids[example.n_prompt :]
        assert base.tokenizer.decode(answer_ids).strip() == str(1 + i % 5)
        assert end == base.tokenizer.eos_id


@pytest.mark.parametrize("retriever", ["bm25", "recency", "random"])
def test_retrieval_sees_earlier_items_only(base, store, jobs, retriever):
    stage_two(base, store, Recipe(TASK, SETTINGS, retriever, 2), ["cleo"])
    for i, text in enumerate(texts(base, jobs[0])):
        shown = [n for n in range(6) if f"film no {n} " in text]
        assert i in shown
        assert max(shown) == i
        assert len(shown) == min(i, 2) + 1
        assert text.count(f"film no {i} ") == 1


def test_a_limit_takes_the_newest(base, store, jobs):
    stage_two(base, store, Recipe(TASK, SETTINGS, max_history=2), ["cleo", "ben"])
    assert {j.person: [e.id for e in j.examples] for j in jobs} == {"cleo": ["cleo-4", "cleo-5"], "ben": ["ben-0"]}
    jobs.clear()
    stage_two(base, store, Recipe(TASK, SETTINGS, "recency", 1, max_history=2), ["cleo"])
    assert "film no 3" in texts(base, jobs[0])[0]


def test_a_second_run_trains_nothing_again(base, store, jobs):
    first = stage_two(base, store, PLAIN, ["ana", "ben"])
    assert set(first.made) == {"ana", "ben"}
    assert first.tokens > 0
    jobs.clear()
    again = stage_two(base, store, PLAIN, ["ana", "ben", "cleo"])
    assert (again.kept, set(again.made)) == (first.made, {"cleo"})
    assert [job.person for job in jobs] == ["cleo"]
    assert again.adapters.keys() == {"ana", "ben", "cleo"}
    speed = stage_two(base, store, Recipe(TASK, SETTINGS.but(slots=1, token_budget=64)), ["ana"])
    assert speed.kept == {"ana": first.made["ana"]}


def test_what_changes_the_adapter_trains_it_again(base, store):
    first = stage_two(base, store, PLAIN, ["ana"]).made["ana"]
    store.add_person(Person("ana", (Item("new", {"text": "another film", "score": "5"}, "2021-01-01"),)))
    more = stage_two(base, store, PLAIN, ["ana"]).made["ana"]
    other = stage_two(base, store, Recipe(TASK, SETTINGS.but(seed=1)), ["ana"]).made["ana"]
    assert len({first, more, other}) == 3
    head = store.head("ana", task="LaMP-3", base=base.fingerprint)
    assert head == other
    assert stage_two(base, store, PLAIN, ["ana"]).kept == {"ana": more}
    assert store.head("ana", task="LaMP-3", base=base.fingerprint) == more


def test_one_person_who_cannot_be_trained_does_not_stop_the_others(base, store):
    store.add_person(Person("dora", ()))
    store.add_person(Person("emil", (Item("x", {"text": "no score"}),)))
    store.add_person(Person("fay", (Item("y", {"text": "secret words", "score": "many"}),)))
    report = stage_two(base, store, PLAIN, ["dora", "ana", "emil", "nobody", "fay", "ben"])
    assert set(report.made) == {"ana", "ben"}
    assert {user: line.split(":")[0] for user, line in report.problems.items()} == {
        "dora": "user 'dora' has no items; import a history first",
        "emil": "item 'x'",
        "nobody": report.problems["nobody"].split(":")[0],
        "fay": "item 'y'",
    }
    assert "nobody" in report.problems["nobody"]
    assert not any("secret" in line for line in report.problems.values())


def test_items_that_cannot_fit_are_counted(base, store):
    store.add_person(Person("gil", (Item("a", {"text": "short", "score": "1"}), Item("b", {"text": "short", "score": "2"}))))
    tight = Recipe(TASK, SETTINGS.but(max_tokens=8))
    report = stage_two(base, store, tight, ["gil"])
    assert report.n_too_long == 2
    assert "no item fits into 8 tokens" in report.problems["gil"]


def test_the_manifest_says_where_an_adapter_came_from(base, store):
    digest = stage_one(base, store, PLAIN, [person("otto", 3, 1)])
    on_task = with_task_adapter(base, store, digest)
    recipe = Recipe(TASK, SETTINGS.but(seed=7, dropout=0.1), "bm25", 1, max_history=4)
    manifest = store.manifest(stage_two(on_task, store, recipe, ["cleo"]).made["cleo"])
    assert (manifest.kind, manifest.user_id, manifest.task) == ("user", "cleo", "LaMP-3")
    assert (manifest.base, manifest.task_adapter) == (base.fingerprint, digest)
    assert (manifest.retriever, manifest.k, manifest.seed) == ("bm25", 1, 7)
    assert manifest.item_ids == tuple(f"cleo-{i}" for i in range(2, 6))
    assert len(manifest.history) == 64
    assert (manifest.rank, manifest.alpha, manifest.targets) == (2, 4.0, ("q_proj", "v_proj"))
    assert manifest.settings["learning_rate"] == 1e-2
    assert manifest.settings["dropout"] == 0.1
    assert manifest.settings["max_history"] == 4
    assert not {"slots", "token_budget"} & manifest.settings.keys()
    assert "film" not in json.dumps(manifest.to_dict())
    task = store.manifest(digest)
    assert (task.kind, task.user_id, task.task_adapter) == ("task", None, None)


def test_the_history_hash_is_of_content(base, store):
    manifest = store.manifest(stage_two(base, store, PLAIN, ["ana"]).made["ana"])
    for change in ("text", "score", "date"):
        items = [dict(i.fields) | {"date": i.date} for i in person("ana", 3).history]
        items[1][change] = "2"
        other = Person(
            "ana", tuple(Item(f"ana-{n}", {k: i[k] for k in ("text", "score")}, i["date"]) for n, i in enumerate(items))
        )
        if other != person("ana", 3):
            assert stages._user_manifest(base, PLAIN, other, other.history).history != manifest.history
    same = person("ana", 3)
    assert stages._user_manifest(base, PLAIN, same, same.history) == manifest


def test_stage_one_learns_from_base_people_and_their_queries(base, store, jobs):
    items = [("paul", Item("p", {"text": "paul went out", "score": "2"}, "2020")), ("quin", person("quin", 1).history[0])]
    digest = stage_one(base, store, PLAIN, [person("otto", 2, 1)], items)
    (job,) = jobs
    assert sorted(e.id for e in job.examples) == ["otto-0", "otto-1", "otto-q0", "p", "quin-0"]
    assert store.task_head("LaMP-3", base.fingerprint) == digest
    jobs.clear()
    assert stage_one(base, store, PLAIN, [person("otto", 2, 1)], items) == digest
    assert jobs == []
    fewer = stage_one(base, store, PLAIN, [person("otto", 9)], max_examples=4)
    assert len(jobs[0].examples) == 4
    assert fewer != digest


def test_stage_one_needs_people_and_a_bare_base(base, store):
    with pytest.raises(EmptyHistory, match="people other than the targets"):
        stage_one(base, store, PLAIN, [])
    with pytest.raises(TaskAdapterNotFound, match="--stage task"):
        task_base(base, store, PLAIN)
    digest = stage_one(base, store, PLAIN, [person("otto", 2)])
    assert task_base(base, store, PLAIN).task_adapter == digest
    with pytest.raises(TaskAdapterNotFound, match="bm25-k1"):
        task_base(base, store, RETRIEVING)
    with pytest.raises(ConfigError, match="bare base"):
        stage_one(task_base(base, store, PLAIN), store, PLAIN, [person("otto", 2)])


def test_retriever_and_k_go_together():
    for retriever, k in (("none", 1), ("bm25", 0)):
        with pytest.raises(ConfigError, match="give both"):
            Recipe(TASK, SETTINGS, retriever, k)
    with pytest.raises(ConfigError, match="at least 1"):
        Recipe(TASK, SETTINGS, max_history=0)


def test_an_adapter_is_refused_where_it_was_not_made(base, load, store):
    first = stage_one(base, store, PLAIN, [person("otto", 2)])
    second = stage_one(base, store, PLAIN, [person("paul", 2)])
    on_first, on_second = (with_task_adapter(base, store, d) for d in (first, second))
    digest = stage_two(on_first, store, PLAIN, ["ana"]).made["ana"]
    manifest = store.manifest(digest)
    on_first.accept(manifest, digest)
    for other in (base, on_second, load("llama", seed=1)):
        with pytest.raises(BaseMismatch, match=digest[:12]):
            other.accept(manifest, digest)
    with pytest.raises(BaseMismatch):
        with_task_adapter(load("llama", seed=1), store, first)
    bare = stage_two(base, store, PLAIN, ["ana"]).made["ana"]
    with pytest.raises(ConfigError, match="a person's, not a task's"):
        with_task_adapter(base, store, bare)


def test_the_pooled_adapter_heads_nothing(base, store, jobs):
    digest = train_pooled(base, store, PLAIN, ["ana", "cleo"])
    assert [e.id for e in jobs[0].examples] == [*(f"ana-{i}" for i in range(3)), *(f"cleo-{i}" for i in range(6))]
    assert train_pooled(base, store, PLAIN, ["ana", "cleo"]) == digest
    assert len(jobs) == 1
    with pytest.raises(TaskAdapterNotFound):
        store.task_head("LaMP-3", base.fingerprint)
    assert [row.kind for row in store.adapters()] == ["pooled"]
    with pytest.raises(ConfigError, match="an evaluation's, not a task's"):
        with_task_adapter(base, store, digest)
    assert {p.id for p in store.parents(digest) if p.kind == "person"} == {"ana", "cleo"}


def test_time_to_go_counts_only_who_is_trained(base, store):
    """Ana is there already and dora cannot be trained; the others' steps are known from the first."""
    store.add_person(Person("dora", ()))
    stage_two(base, store, PLAIN, ["ana"])
    seen = []
    recipe = Recipe(TASK, SETTINGS.but(slots=1))
    stage_two(base, store, recipe, ["dora", "ana", "ben", "cleo"], on_progress=seen.append)
    assert [(p.done, p.steps_done, p.steps_total) for p in seen] == [(3, 1, 3), (3, 2, 3), (4, 3, 3)]
    assert [p.left_s for p in seen] == pytest.approx([2 * seen[0].seconds, seen[1].seconds / 2, 0])


def test_a_kept_person_stops_counting_when_their_turn_comes(base, store):
    stage_two(base, store, PLAIN, ["cleo"])
    seen = []
    stage_two(base, store, Recipe(TASK, SETTINGS.but(slots=1)), ["ana", "cleo", "ben"], on_progress=seen.append)
    assert [(p.done, p.steps_total) for p in seen] == [(2, 2), (3, 2)]


@pytest.mark.parametrize("pooled", [False, True])
def test_one_adapter_from_many_knows_its_steps(base, store, pooled):
    seen = []
    if pooled:
        train_pooled(base, store, PLAIN, ["ana", "cleo"], on_progress=seen.append)
    else:
        stage_one(base, store, PLAIN, [person("otto", 9)], on_progress=seen.append)
    assert [(p.steps_done, p.steps_total) for p in seen] == [(1, 3), (2, 3), (3, 3)]


def test_finished_adapters_are_in_the_store_before_the_run_ends(base, store):
    order = []

    def watch(progress):
        order.append((progress.done, len(store.adapters(kind="user"))))

    stage_two(base, store, Recipe(TASK, SETTINGS.but(slots=1)), ["ana", "ben", "cleo"], on_progress=watch)
    assert order == sorted(order)
    assert all(done == stored for done, stored in order)
    assert {done for done, _ in order} >= {1, 2, 3}


def test_task_adapters_stay_as_they_are(base, store):
    digest = stage_one(base, store, PLAIN, [person("otto", 3)])
    file = store.blob_path(digest)
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    on_task = with_task_adapter(base, store, digest)
    qkv = on_task.model.layers[0].qkv.clone()
    stage_two(on_task, store, PLAIN, ["ana", "ben", "cleo"])
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before
    assert on_task.model.layers[0].qkv.equal(qkv)


# ------------------------------------------------------------------------------- the served prompt is the trained prompt


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("recipe", [PLAIN, RETRIEVING], ids=["plain", "bm25"])
@pytest.mark.parametrize("name", ["LaMP-2N", "LaMP-3", "LaMP-4"])
@pytest.mark.parametrize("cut", [True, False], ids=["cut", "whole"])
def test_the_served_prompt_is_the_trained_prompt(load, tmp_path, jobs, monkeypatch, chat, recipe, name, cut):
    base, task = load("llama", chat=chat), get_task(name)
    max_tokens = {"LaMP-2N": 215, "LaMP-3": 70, "LaMP-4": 70}[name] if cut else 450
    recipe = Recipe(task, SETTINGS.but(max_tokens=max_tokens), recipe.retriever, recipe.k)
    answers = {"LaMP-2N": "sports", "LaMP-3": "4", "LaMP-4": "A headline"}
    target = task.fields[-1]
    items = tuple(
        Item(f"i{n}", {"text": f"article no {n} about " + "the sea " * (9 + n), target: answers[name]}, f"2020-01-{n + 1:02}")
        for n in range(4)
    )
    with Store.open(tmp_path / "served") as store:
        store.add_person(Person("ana", items))
        stage_two(base, store, recipe, ["ana"])
    trained = jobs[0].examples[3]
    asked = Person("ana", items[:3], (Query("q", task.query_input(items[3].fields["text"])),))
    (example,) = query_examples(asked, task, retriever=recipe.retriever, k=recipe.k, seed=recipe.config.seed)
    served = []
    for method in ("generate", "choose"):
        original = getattr(Engine, method)
        monkeypatch.setattr(
            Engine, method, lambda self, r, *a, original=original, **k: served.extend(r) or original(self, r, *a, **k)
        )
    answer(Engine(base), task, [Question("q", example)], recipe.max_tokens(base), max_new_tokens=4)
    assert tuple(served[0].ids) == trained.ids[: trained.n_prompt]
    assert (trained.n_dropped > 0) == cut


def test_manifests_differ_where_prompts_are_cut_differently(base):
    short, long = (manifest_of(base, Recipe(TASK, SETTINGS.but(max_tokens=n)), "task", None) for n in (100, 200))
    beyond = [manifest_of(base, Recipe(TASK, SETTINGS.but(max_tokens=n)), "task", None) for n in (512, 9999)]
    assert short != long
    assert beyond[0] == beyond[1]
