import pytest
from hypothesis import given
from hypothesis import strategies as st

from idiolect.errors import ConfigError
from idiolect.evals.arms import ARMS, DEFAULT_ARMS, comparisons, derangement, parse_arms, task_adapters, title, user_adapters


def test_the_arms_there_are():
    assert DEFAULT_ARMS == ("majority", "nonpers", "random", "rag", "oppu", "oppu+rag", "stranger", "pooled")


def test_a_control_differs_only_in_the_user_adapter():
    for arm in ARMS.values():
        assert (arm.control is None) == (arm.user_adapter == "none")
        if arm.control:
            assert ARMS[arm.control].task_adapter == arm.task_adapter
            assert ARMS[arm.control].user_adapter == "none"
            assert arm.control == arm.versus[0]


def test_arms_are_read_with_their_controls_in_table_order():
    assert parse_arms("rag, OPPU,") == ("nonpers", "rag", "oppu")
    assert parse_arms("oppu+rag") == ("rag", "oppu+rag")
    assert parse_arms("oppu,oppu,nonpers") == ("nonpers", "oppu")


@pytest.mark.parametrize("text", ["oppo", "oppu,,opu", "", " , "])
def test_unknown_arms_are_one_line_with_the_valid_names(text):
    with pytest.raises(ConfigError, match="choose from: majority, nonpers, random, rag, oppu") as caught:
        parse_arms(text)
    assert "\n" not in str(caught.value)


def test_comparisons_of_all_arms():
    assert comparisons(DEFAULT_ARMS) == {
        "majority": ("nonpers",),
        "nonpers": (),
        "random": ("nonpers",),
        "rag": ("nonpers",),
        "oppu": ("nonpers", "stranger", "pooled", "majority"),
        "oppu+rag": ("rag", "nonpers"),
        "stranger": ("nonpers",),
        "pooled": ("nonpers",),
    }


def test_comparisons_are_among_the_arms_run():
    assert comparisons(["oppu", "majority", "assembled"]) == {"oppu": ("majority",), "majority": (), "assembled": ()}
    assert comparisons(["assembled", "nonpers"]) == {"assembled": ("nonpers",), "nonpers": ()}


def test_what_has_to_be_trained():
    assert task_adapters(DEFAULT_ARMS) == ("k0", "random", "rag")
    assert task_adapters(["majority"]) == ()
    assert user_adapters(DEFAULT_ARMS) == (("k0", "own"), ("rag", "own"), ("k0", "pooled"))
    assert user_adapters(["stranger"]) == (("k0", "own"),)


def test_titles():
    assert title("oppu+rag") == "OPPU + RAG"
    assert title("assembled") == "assembled"


@given(st.lists(st.text(max_size=5), min_size=2, max_size=30, unique=True), st.integers(0, 9))
def test_a_stranger_is_never_oneself(ids, seed):
    strangers = derangement(ids, seed)
    assert set(strangers) == set(strangers.values()) == set(ids)
    assert all(user != stranger for user, stranger in strangers.items())
    assert strangers == derangement(ids[::-1], seed)


def test_seeds_give_other_strangers():
    ids = [str(i) for i in range(30)]
    assert derangement(ids, 0) != derangement(ids, 1)


@pytest.mark.parametrize("ids", [[], ["a"], ["a", "a", "b"]])
def test_too_few_people_for_strangers(ids):
    with pytest.raises(ConfigError):
        derangement(ids, 0)
