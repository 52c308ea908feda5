import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import accuracy_score, f1_score

from idiolect.errors import InputError, LabelError, MismatchError
from idiolect.evals.metrics import check_golds, macro_f1, primary_metric, query_key, score

LABELS = ("politics", "sports", "food & drink")
FIVE = ("1", "2", "3", "4", "5")


def numbered(values):
    return {f"q{i:03d}": value for i, value in enumerate(values)}


def one_rating(gold, answer):
    return score("rating", {"q": gold}, {"q": answer}, FIVE)


@pytest.mark.parametrize(
    ("kind", "expected"), [("label", ("accuracy", True)), ("rating", ("mae", False)), ("text", ("rouge1", True))]
)
def test_primary_metric(kind, expected):
    assert primary_metric(kind) == expected


def test_labels_match_exactly_after_stripping():
    golds = numbered(["politics", "politics", "sports", " sports"])
    scores = score("label", golds, numbered([" politics\n", "Politics", "sports", "sports."]), LABELS)
    assert scores.metrics["accuracy"] == 0.5
    assert list(scores.per_query.values()) == [1.0, 0.0, 1.0, 0.0]
    assert scores.invalid_share == 0.5
    assert scores.n == 4


def test_an_invalid_label_only_costs_recall():
    golds = numbered(["politics", "politics", "sports"])
    invalid = score("label", golds, numbered(["politics", "[5]", "sports"]), LABELS)
    wrong = score("label", golds, numbered(["politics", "sports", "sports"]), LABELS)
    # politics: precision 1, recall 1/2; sports: 1 and 1; food & drink absent: 0.
    assert invalid.metrics["f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert wrong.metrics["f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert invalid.metrics["accuracy"] == wrong.metrics["accuracy"]


def test_all_answers_invalid_scores_zero():
    scores = score("label", numbered(["politics", "sports"]), numbered(["", "?"]), LABELS)
    assert scores.metrics == {"accuracy": 0.0, "f1": 0.0}
    assert scores.invalid_share == 1.0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 4)), min_size=1, max_size=40))
def test_accuracy_and_f1_are_scikit_learns(pairs):
    gold, found = np.array(pairs).T
    labels = [f"label {i}" for i in range(5)]
    names = numbered([labels[g] for g in gold]), numbered([labels[p] if p >= 0 else "none of them" for p in found])
    scores = score("label", *names, labels)
    expected_f1 = f1_score(gold, found, labels=range(5), average="macro", zero_division=0)
    assert scores.metrics["accuracy"] == pytest.approx(accuracy_score(gold, found))
    assert scores.metrics["f1"] == pytest.approx(expected_f1) == macro_f1(gold, found, 5)


@pytest.mark.parametrize("answer", ["", "  ", "[5]", "4 stars", "Score: 4", "nan", "inf", "-inf", "1e400", "four"])
@pytest.mark.parametrize(("gold", "error"), [("5", 4.0), ("4", 3.0), ("3", 2.0), ("2", 3.0), ("1", 4.0)])
def test_an_invalid_rating_is_the_farthest_end(answer, gold, error):
    scores = one_rating(gold, answer)
    assert scores.per_query["q"] == scores.metrics["mae"] == error
    assert scores.invalid_share == 1.0


@pytest.mark.parametrize(
    ("gold", "answer", "error"), [("5", "7", 2.0), ("1", "7", 6.0), ("3", " 3.72\n", 0.72), ("4.0", "4", 0.0)]
)
def test_a_finite_rating_counts_as_it_is(gold, answer, error):
    scores = one_rating(gold, answer)
    assert scores.metrics["mae"] == pytest.approx(error)
    assert scores.invalid_share == 0.0


def test_rmse_is_the_root_of_the_mean_square():
    scores = score("rating", numbered("1135"), numbered(["2", "1", "3", "2"]), FIVE)
    assert scores.metrics["mae"] == 1.0
    assert scores.metrics["rmse"] == pytest.approx(np.sqrt((1 + 9) / 4))


def test_a_huge_rating_does_not_overflow():
    assert one_rating("1", "1e300").metrics["rmse"] == pytest.approx(1e300)


TEXTS = [
    ("The cat sat on the mat", "the cats sat on a mat"),
    ("Running late again", "run"),
    ("Ünïcode — headline 2024!", "unicode headline 2024"),
    ("quiet", ""),
]


def test_rouge_is_the_librarys_plain_mean_without_stemming():
    scores = score("text", numbered(g for g, _ in TEXTS), numbered(p for _, p in TEXTS))
    scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=False)
    for name in ("rouge1", "rougeL"):
        each = [scorer.score(g, p)[name].fmeasure for g, p in TEXTS]
        assert scores.metrics[name] == pytest.approx(np.mean(each))
    assert scores.per_query["q001"] == 0.0  # "running" is not "run" here
    assert scores.invalid_share == 0.25


def test_rouge_golden_value():
    scores = score("text", {"q": "the quick brown fox"}, {"q": "the brown quick dog jumps"})
    assert scores.metrics["rouge1"] == pytest.approx(2 * 3 / 9)
    assert scores.metrics["rougeL"] == pytest.approx(2 * 2 / 9)


def test_the_order_of_ids_changes_nothing():
    golds, answers = numbered("13524"), numbered(["2", "x", "3.3", "2.1", "4.7"])
    backwards = dict(reversed(golds.items()))
    assert score("rating", golds, answers, FIVE) == score("rating", backwards, answers, FIVE)


@pytest.mark.parametrize("answers", [{}, {"q000": "sports"}, {"q000": "sports", "q002": "sports"}])
def test_other_queries_are_refused(answers):
    with pytest.raises(MismatchError, match="not of the same queries"):
        score("label", numbered(["sports", "sports"]), answers, LABELS)


@pytest.mark.parametrize(
    ("kind", "gold"),
    [("label", "cooking"), ("label", "Sports"), ("rating", "six"), ("rating", "6"), ("rating", "nan"), ("text", " ")],
)
def test_an_invalid_gold_is_refused_without_its_text(kind, gold):
    good = {"label": "sports", "rating": "3", "text": "words"}[kind]
    with pytest.raises(LabelError, match="1 of 2 golds") as caught:
        score(kind, numbered([good, gold]), numbered([good, gold]), LABELS)
    assert "cooking" not in str(caught.value)
    assert "Sports" not in str(caught.value)


def test_nothing_to_score_is_refused():
    with pytest.raises(InputError, match="no queries"):
        score("rating", {}, {})


def test_a_label_task_needs_distinct_labels():
    for labels in ((), ("a", "a"), ("a", " a")):
        with pytest.raises(LabelError, match="distinct labels"):
            check_golds("label", ["a"], labels)


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="choose one of: label, rating, text"):
        score("poem", {"q": "a"}, {"q": "a"})  # pyright: ignore[reportArgumentType]


@given(st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4)), unique=True))
def test_query_keys_are_distinct(pairs):
    assert len({query_key(user, query) for user, query in pairs}) == len(pairs)
