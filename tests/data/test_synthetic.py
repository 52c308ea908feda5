from __future__ import annotations

import subprocess
import sys
from collections import Counter, defaultdict

import pytest

from idiolect.data.retrieval import history_examples, query_examples
from idiolect.data.synthetic import AMBIGUOUS, PLAIN, TASK_OF, Topic, population
from idiolect.data.tasks import NEWS_CATEGORIES, get_task
from idiolect.errors import ConfigError
from idiolect.types import Person, date_key, digest_of

KINDS = list(TASK_OF)


def topic_of(text: str) -> Topic:
    (topic,) = (
        t for t in (*AMBIGUOUS, *PLAIN) if any(text.startswith(who) for who in t.who) and any(w in text for w in t.what)
    )
    return topic


def rules(person: Person) -> dict[Topic, str]:
    return {topic_of(item.fields["text"]): item.fields["category"] for item in person.history}


@pytest.mark.parametrize("kind", KINDS)
def test_everything_turns_into_examples_of_the_task(kind):
    task = get_task(TASK_OF[kind])
    targets, base = population(0, 4, 20, 5, 3, kind)
    assert (len(targets), len(base)) == (4, 3)
    for person in (*targets, *base):
        examples = [*history_examples(person, task), *query_examples(person, task)]
        assert len(examples) == 25
        assert len({example.content for example in examples}) == 25
        assert all(len(example.content.split()) <= 25 and example.target for example in examples)
        dates = [date_key(item.date) for item in person.history]
        assert dates == sorted(dates)
        assert not {item.id for item in person.history} & {query.id for query in person.queries}
    assert len({person.id for person in (*targets, *base)}) == 7


@pytest.mark.parametrize("kind", KINDS)
def test_a_person_depends_on_seed_and_id_only(kind):
    assert population(0, 2, 9, 2, 1, kind)[0] == population(0, 5, 9, 2, 4, kind)[0][:2]
    assert population(0, 2, 9, 2, 1, kind)[0] != population(1, 2, 9, 2, 1, kind)[0]


def test_the_same_in_another_process():
    code = "from idiolect.data.synthetic import population; print(repr(population(3, 2, 5, 2, 2)))"
    env = {"PYTHONHASHSEED": "12345"}
    other = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert digest_of(other.strip().encode()) == digest_of(repr(population(3, 2, 5, 2, 2)).encode())


def test_topics_are_enough_and_their_labels_are_the_tasks():
    assert len(AMBIGUOUS) >= 8
    for topic in (*AMBIGUOUS, *PLAIN):
        assert set(topic.labels) <= set(NEWS_CATEGORIES)
    assert all(len(set(topic.labels)) == 2 for topic in AMBIGUOUS)


def test_each_person_keeps_one_rule_per_topic_and_people_differ():
    targets, base = population(0, 20, 40, 5, 40)
    answers = defaultdict(Counter)
    for person in (*targets, *base):
        planted = rules(person)
        assert all(planted[topic_of(item.fields["text"])] == item.fields["category"] for item in person.history)
        for query, example in zip(person.queries, query_examples(person, get_task("LaMP-2N")), strict=True):
            topic = topic_of(example.content)
            assert planted.get(topic, query.gold) == query.gold
        for topic, label in planted.items():
            answers[topic][label] += 1
    for topic in AMBIGUOUS:
        shares = [answers[topic][label] / answers[topic].total() for label in topic.labels]
        assert min(shares) > 0.25
    assert all(len(answers[topic]) == 1 for topic in PLAIN)


def test_nobody_can_be_right_for_everybody():
    """The best rule without the person, and a stranger's rules, both stay far below the person's own."""
    targets, _ = population(0, 30, 40, 10, 0)
    task = get_task("LaMP-2N")
    planted = [rules(person) for person in targets]
    votes = defaultdict(Counter)
    for rule in planted:
        for topic, label in rule.items():
            votes[topic][label] += 1
    own, best, stranger = [], [], []
    for n, person in enumerate(targets):
        for example in query_examples(person, task):
            topic = topic_of(example.content)
            majority = votes[topic].most_common(1)[0][0]
            own.append(planted[n].get(topic) == example.target)
            best.append(majority == example.target)
            stranger.append(planted[n - 1].get(topic, majority) == example.target)
    mean = lambda hits: sum(hits) / len(hits)  # noqa: E731
    assert mean(own) > 0.97
    assert mean(best) < 0.75
    assert mean(stranger) < 0.75


def test_headlines_are_a_function_of_the_facts_with_habits_of_their_own():
    targets, _ = population(0, 12, 12, 2, 0, "style")
    titles = [[item.fields["title"] for item in person.history] for person in targets]
    marks = [{title[-1] for title in mine if title[-1] in "!?."} for mine in titles]
    assert all(len(kinds) <= 1 for kinds in marks)
    assert len(set(map(tuple, marks))) >= 3
    assert {len({title.islower() for title in mine}) for mine in titles} == {1}
    assert {title.islower() for mine in titles for title in mine} == {True, False}
    openings = {mine[0].split()[0].lower() for mine in titles if len({title.split()[0] for title in mine}) == 1}
    assert len(openings) >= 3


def test_impossible_populations_are_refused():
    with pytest.raises(ConfigError, match=r"'poems'.*labels, style"):
        population(0, 1, 1, 1, 1, "poems")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="negative"):
        population(0, 1, -1, 1, 1)
