from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idiolect.data.tasks import MOVIE_TAGS, NEWS_CATEGORIES, TASKS, get_task
from idiolect.errors import ConfigError, InputError, LabelError, TaskFieldError
from idiolect.types import Example, Item, Query

SAMPLES = {
    "LaMP-1": {"title": "On Trees", "abstract": "We grow trees."},
    "LaMP-2N": {"text": "A cup final.", "title": "Cup", "category": "sports"},
    "LaMP-2M": {"description": "Robots rebel.", "tag": "sci-fi"},
    "LaMP-3": {"text": "Works well.", "score": "4"},
    "LaMP-4": {"text": "Rain came.", "title": "Rain At Last"},
    "LaMP-5": {"abstract": "We grow trees.", "title": "On Trees"},
    "LaMP-6": {"text": "See you at noon.", "title": "Lunch"},
    "LaMP-7": {"text": "what a day"},
    "movie-rating": {"title": "Alien (1979)", "description": "A crew wakes.", "score": "5"},
    "NYM-1": {"claim": "chess is a kind of sport", "output": "no"},
    "NYM-2": {"question": "Name parts of: BICYCLE", "candidates": "seat, wheel, chain, bell", "output": "wheel"},
    "NYM-3": {"question": "Name parts of: BICYCLE", "output": "wheel, seat"},
}
# NYM-2 asks with candidates, which no content alone can: see test_nym_tasks.
PAIRED = [name for name, task in TASKS.items() if task.paired and name != "NYM-2"]

# LaMP's own questions end in these words; what follows is the content.
LAMP_INPUTS = {
    "LaMP-2N": "Which? categories: [women, religion] article: A cup final.",
    "LaMP-2M": "Which tag? tags: [sci-fi, comedy] description: Robots rebel.",
    "LaMP-3": "What is the score of the following review on a scale? review: Works well.",
    "LaMP-4": "Generate a headline for the following article: Rain came.",
    "LaMP-5": "Generate a title for the following abstract of a paper: We grow trees.",
    "LaMP-6": "Generate a subject for the following email: See you at noon.",
    "LaMP-7": "Paraphrase the following tweet without any explanation before or after it: what a day",
    "movie-rating": "What score? movie: Alien (1979) description: A crew wakes.",
    "NYM-1": "Accepted? claim: chess is a kind of sport",
    "NYM-3": "Which? question: Name parts of: BICYCLE",
}


def prompt(example: Example) -> tuple:
    return example.instruction, example.content, example.cue, example.retrieved, example.profile


def sample(name: str) -> Item:
    return Item("i1", SAMPLES[name])


def test_every_task_has_a_sample():
    assert set(SAMPLES) == set(TASKS)
    assert len(TASKS) == 12
    assert len(NEWS_CATEGORIES) == len(MOVIE_TAGS) == 15


@pytest.mark.parametrize("name", PAIRED)
def test_item_and_query_of_the_same_content_make_the_same_prompt(name):
    task = TASKS[name]
    item = sample(name)
    trained = task.example_from_item(item, [item], "terse")
    for asked in (LAMP_INPUTS[name], task.query_input(task.retrieval_query(item))):
        served = task.example_from_query(Query("q", asked, item.fields[task.target_field]), [item], "terse")
        assert prompt(trained) == prompt(served)
        assert trained.target == served.target == item.fields[task.target_field]


@pytest.mark.parametrize("name", PAIRED)
@given(data=st.data())
def test_the_same_for_any_text(name, data):
    task = TASKS[name]
    text = st.text(min_size=1, max_size=60).filter(str.strip)
    fields = {field: data.draw(text) for field in task.fields}
    if task.labels:
        fields[task.target_field] = data.draw(st.sampled_from(task.labels))
    item = Item("i", fields)
    served = task.example_from_query(Query("q", task.query_input(task.retrieval_query(item)), fields[task.target_field]))
    trained = task.example_from_item(item)
    assert prompt(trained) == prompt(served)
    assert trained.target == served.target


@pytest.mark.parametrize("name", ["LaMP-2N", "LaMP-2M"])
def test_instruction_names_every_label_in_order_and_does_not_depend_on_the_item(name):
    task = TASKS[name]
    assert ", ".join(task.labels) in task.example_from_item(sample(name)).instruction
    other = Item("i2", {**SAMPLES[name], task.fields[0]: "quite another"})
    assert task.example_from_item(other).instruction == task.example_from_item(sample(name)).instruction


@pytest.mark.parametrize("name", TASKS)
def test_missing_and_blank_fields_are_named(name):
    task = TASKS[name]
    for field in task.fields:
        for value in ("", " \n"):
            with pytest.raises(TaskFieldError, match=rf"'i7'.*'{field}' is blank.*{name}"):
                task.example_from_item(Item("i7", {**SAMPLES[name], field: value}))
        lacking = {key: value for key, value in SAMPLES[name].items() if key != field}
        with pytest.raises(TaskFieldError, match=rf"'i7'.*'{field}' is missing.*{name}"):
            task.example_from_item(Item("i7", lacking))


def test_a_label_outside_the_set_is_refused_without_being_repeated():
    with pytest.raises(LabelError, match=r"'i1'.*'category'.*food & drink") as caught:
        TASKS["LaMP-2N"].example_from_item(Item("i1", {"text": "x", "category": "my secret"}))
    assert "secret" not in str(caught.value)
    with pytest.raises(LabelError, match="query 'q9': gold"):
        TASKS["LaMP-2N"].example_from_query(Query("q9", LAMP_INPUTS["LaMP-2N"], "Sports"))


@pytest.mark.parametrize("score", ["good", "4 stars", "[5]", "nan-ish"])
def test_a_rating_that_is_not_a_number(score):
    with pytest.raises(LabelError, match="a rating that is not a number"):
        TASKS["LaMP-3"].example_from_item(Item("i", {"text": "x", "score": score}))


@pytest.mark.parametrize("score", ["0", "6", "3.5", "nan", "inf", "-1"])
def test_a_rating_off_the_scale(score):
    with pytest.raises(LabelError, match="off the scale"):
        TASKS["LaMP-3"].example_from_item(Item("i", {"text": "x", "score": score}))


@pytest.mark.parametrize(("given", "label"), [("4", "4"), (" 4.0 ", "4"), ("1", "1")])
def test_a_rating_is_spelled_as_its_label(given, label):
    assert TASKS["movie-rating"].example_from_item(Item("i", {**SAMPLES["movie-rating"], "score": given})).target == label


@pytest.mark.parametrize("name", [name for name in TASKS if name not in ("LaMP-1", "NYM-2")])
def test_an_input_without_the_marker_is_refused(name):
    task = TASKS[name]
    with pytest.raises(InputError, match=rf"'q1'.*lacks the marker of {name}") as caught:
        task.example_from_query(Query("q1", "private words: and more"))
    assert "private" not in str(caught.value)
    with pytest.raises(InputError, match="nothing follows"):
        task.example_from_query(Query("q1", task.opening + "  "))


def test_the_first_marker_counts_and_the_rest_is_content():
    text = "one article: two following article: three"
    assert TASKS["LaMP-4"].example_from_query(Query("q", f"For the following article: {text}")).content == text


def test_lamp_1_shows_both_options_beyond_the_reach_of_truncation():
    asked = 'With the title "A "B" C", which reference is related? Answer with [1] or [2]. [1]: "On "X"" [2]: "On Y"'
    example = TASKS["LaMP-1"].example_from_query(Query("q", asked, "[2]"))
    assert example.content == 'A "B" C'
    assert example.cue.startswith('[1]: On "X"\n[2]: On Y\n')
    assert example.target == "[2]"
    assert TASKS["LaMP-1"].retrieval_query(example) == 'A "B" C'
    with pytest.raises(LabelError):
        TASKS["LaMP-1"].example_from_query(Query("q", asked, "On Y"))
    with pytest.raises(InputError, match="title or an option"):
        TASKS["LaMP-1"].example_from_query(Query("q", 'With the title "A", which? [1]: "only one"'))


def test_lamp_1_items_train_the_citation_or_the_paper_itself():
    task = TASKS["LaMP-1"]
    cited = task.example_from_item(Item("i", {"title": "On Trees", "citation": "On Woods"}))
    assert (cited.content, cited.target) == ("On Trees", "On Woods")
    plain = task.example_from_item(sample("LaMP-1"))
    assert plain.content == ""
    assert "On Trees" in (plain.target or "")
    assert "We grow trees." in (plain.target or "")


def test_lamp_7_trains_plain_writing_with_the_cue_of_the_query():
    task = TASKS["LaMP-7"]
    item = task.example_from_item(sample("LaMP-7"), [sample("LaMP-7")], "cheerful")
    assert (item.instruction, item.content, item.target) == ("", "", "what a day")
    assert (item.retrieved, item.profile) == ((), None)
    query = task.example_from_query(Query("q", LAMP_INPUTS["LaMP-7"]), [sample("LaMP-7")], "cheerful")
    assert query.cue == item.cue
    assert query.retrieved == ("tweet: what a day",)
    assert query.profile == "cheerful"


@pytest.mark.parametrize("name", TASKS)
def test_documents_show_content_and_answer_and_the_index_does_not_hold_labels(name):
    task = TASKS[name]
    item = sample(name)
    shown = task.document(item)
    for field in {"LaMP-1": ["title"], "NYM-2": ["question", "output"]}.get(name, task.fields):
        assert item.fields[field] in shown
    assert task.retrieval_text(item)
    if task.labels and task.paired:
        assert task.answer_of(item) not in task.retrieval_text(item)


@pytest.mark.parametrize("name", PAIRED)
def test_retrieval_asks_with_the_content_alone(name):
    task = TASKS[name]
    item = sample(name)
    query = Query("q", LAMP_INPUTS[name])
    assert task.retrieval_query(item) == task.retrieval_query(query)
    assert task.retrieval_query(query) == task.retrieval_query(task.example_from_query(query))


def test_get_task_by_name():
    assert get_task("lamp-2n") is get_task("LaMP_2N") is TASKS["LaMP-2N"]
    with pytest.raises(ConfigError, match=r"'LaMP-9'.*LaMP-1, .*movie-rating") as caught:
        get_task("LaMP-9")
    assert "\n" not in str(caught.value)


def test_room_for_answers():
    assert {name: task.max_new_tokens for name, task in TASKS.items()} == {
        "LaMP-1": 8, "LaMP-2N": 8, "LaMP-2M": 8, "LaMP-3": 8, "LaMP-4": 64, "LaMP-5": 64, "LaMP-6": 64, "LaMP-7": 128,
        "movie-rating": 8, "NYM-1": 8, "NYM-2": 8, "NYM-3": 64,
    }  # fmt: skip


def test_braces_in_a_text_are_text():
    example = TASKS["LaMP-4"].example_from_item(Item("i", {"text": "{0} {title} }{", "title": "{x}"}))
    assert (example.content, example.target) == ("{0} {title} }{", "{x}")
