import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from idiolect.errors import InputError, MismatchError
from idiolect.evals.stats import compare, mean_interval, per_person, per_person_mean, sign_flip_p


def arms(a, b, n_people):
    """Two arms' scores and owners: query i belongs to person i modulo n_people."""
    ids = [f"q{i:04d}" for i in range(len(a))]
    owner = {query: f"u{i % n_people}" for i, query in enumerate(ids)}
    return dict(zip(ids, map(float, a), strict=True)), dict(zip(ids, map(float, b), strict=True)), owner


def simulate(rng, n_people=10, per_person_=4, effect=0.0):
    """Differences that share a part within each person, symmetric about `effect`."""
    n = n_people * per_person_
    shared = np.tile(rng.normal(0, 0.3, n_people), per_person_)
    return arms(effect + shared + rng.normal(0, 1, n), np.zeros(n), n_people)


score_lists = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=25)


@settings(deadline=None, max_examples=40)
@given(score_lists, st.integers(1, 5))
def test_swapping_the_arms_flips_the_difference_and_keeps_p(pairs, n_people):
    a, b, owner = arms(*zip(*pairs, strict=True), n_people)
    there, back = (compare(x, y, owner, seed=3, n_resamples=199) for x, y in ((a, b), (b, a)))
    assert back.delta == -there.delta
    assert (back.p_query, back.p_person) == (there.p_query, there.p_person)
    if there.ci_low is not None and there.ci_high is not None:
        assert (back.ci_low, back.ci_high) == (pytest.approx(-there.ci_high), pytest.approx(-there.ci_low))


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(0, 5), min_size=1, max_size=20))
def test_identical_arms_have_p_1(values):
    a, b, owner = arms(values, values, 3)
    result = compare(a, b, owner)
    assert (result.delta, result.p_query, result.p_person) == (0.0, 1.0, 1.0)


def test_small_tests_are_exact():
    assert sign_flip_p(np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == 2 / 32
    assert sign_flip_p(np.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0])) == 2 / 16  # zeros change nothing
    assert sign_flip_p(np.array([1.0])) == 1.0
    assert sign_flip_p(np.array([1.0, -1.0])) == 1.0


def test_leaving_out_zeros_leaves_the_resampled_p_as_it_is():
    rng = np.random.default_rng(5)
    moved = rng.normal(0.25, 1, 60)
    assert sign_flip_p(np.append(moved, np.zeros(500)), 1) == sign_flip_p(moved, 1)


def test_the_test_holds_its_level_under_the_null():
    """Over 200 runs without any effect p is uniform, and the interval over people holds zero about 95 % of the time."""
    rng = np.random.default_rng(7)
    results = [compare(*simulate(rng, n_people=12, per_person_=3), seed=i, n_resamples=199) for i in range(200)]
    p_person = np.array([r.p_person for r in results])
    assert kstest(p_person, "uniform").pvalue > 0.01
    assert 0.01 <= (p_person <= 0.05).mean() <= 0.10
    covered = np.mean([r.ci_low < 0 < r.ci_high for r in results])
    assert 0.86 <= covered <= 0.99


def test_independent_queries_give_uniform_p_query():
    rng = np.random.default_rng(8)
    p = [sign_flip_p(rng.normal(size=30), i, 199) for i in range(200)]
    assert kstest(p, "uniform").pvalue > 0.01


@pytest.mark.parametrize("effect", [0.8, -0.8])
def test_a_planted_effect_is_found(effect):
    a, b, owner = simulate(np.random.default_rng(9), n_people=30, per_person_=5, effect=effect)
    result = compare(a, b, owner, higher_is_better=False, seed=1)
    assert result.p_query < 0.001
    assert result.p_person < 0.001
    assert result.ci_low < effect < result.ci_high
    assert np.sign(result.ci_low) == np.sign(result.ci_high) == np.sign(effect)
    assert result.better == (effect < 0)
    assert (result.n_queries, result.n_people) == (150, 30)


def test_one_talkative_person_convinces_the_query_test_only():
    """A gain of one person with many queries is no evidence about people."""
    a, b, owner = arms([1.0] * 100 + [0.0] * 9, [0.0] * 109, 1)
    owner |= {f"q{i:04d}": f"other {i}" for i in range(100, 109)}
    result = compare(a, b, owner)
    assert result.p_query < 0.001
    assert result.p_person == 1.0
    assert result.ci_low == 0.0


def test_the_same_seed_gives_the_same_numbers_in_any_order():
    a, b, owner = simulate(np.random.default_rng(10))
    shuffled = dict(reversed(a.items()))
    assert compare(a, b, owner, seed=4) == compare(shuffled, b, owner, seed=4)


def test_five_thousand_queries_in_bounded_batches():
    a, b, owner = simulate(np.random.default_rng(11), n_people=500, per_person_=10, effect=0.1)
    assert compare(a, b, owner, n_resamples=999).p_query <= 0.01


def test_per_person_means():
    a, _, owner = arms([1, 0, 1, 1, 1], [0] * 5, 2)  # u0: 1, 1, 1; u1: 0, 1
    assert per_person(a, owner) == {"u0": 1.0, "u1": 0.5}
    assert per_person_mean(a, owner) == 0.75


def test_delta_pools_queries():
    a, b, owner = arms([1, 0, 1, 1, 1], [0] * 5, 2)
    assert compare(a, b, owner).delta == pytest.approx(0.8)


def test_one_person_has_no_interval():
    a, b, owner = arms([1, 0, 1], [0, 0, 0], 1)
    result = compare(a, b, owner)
    assert (result.ci_low, result.ci_high, result.p_person) == (None, None, 1.0)
    assert mean_interval({"u0": 0.4}) is None


def test_the_interval_of_a_mean_holds_it():
    values = {f"u{i}": float(v) for i, v in enumerate(np.random.default_rng(12).normal(2, 1, 50))}
    low, high = mean_interval(values) or (np.nan, np.nan)
    mean = np.mean(list(values.values()))
    assert low < mean < high
    assert (high - low) / 2 == pytest.approx(1.96 * np.std(list(values.values())) / np.sqrt(50), rel=0.1)


def test_different_queries_are_refused():
    with pytest.raises(MismatchError, match="different queries"):
        compare({"a": 1.0}, {"b": 1.0}, {"a": "u", "b": "u"})


def test_a_query_without_owner_is_refused():
    with pytest.raises(MismatchError, match="belong to nobody"):
        compare({"a": 1.0}, {"a": 1.0}, {})


def test_no_queries_are_refused():
    with pytest.raises(InputError, match="no queries"):
        compare({}, {}, {})


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="1 of 2 scores"):
        compare({"a": 1.0, "b": float("nan")}, {"a": 1.0, "b": 0.0}, {"a": "u", "b": "u"})
