"""Features, heads, metrics, calibration, what is kept, and candidates."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from relations_making import made_up, of_vocabulary

from idiolect.errors import ConfigError, EmptyHistory, FileFormatError, InputError, MismatchError
from idiolect.game.normalise import RELATIONS
from idiolect.game.vocabulary import vocabulary
from idiolect.relations import head
from idiolect.relations.candidates import GATE, candidates, gate, offensive, showable
from idiolect.relations.classifier import SHARED, HeadModel, fit_head
from idiolect.relations.floor import Floor, edit_distance, floor
from idiolect.relations.gain import paired_f1, rank_agreement
from idiolect.relations.kept import read_model, write_model
from idiolect.relations.links import LABELS, MIRROR, Link, both_ways
from idiolect.relations.metrics import calibration_error, direction_accuracy, figures
from idiolect.relations.sampling import negatives
from idiolect.relations.training import seed_links, train_model

EVERYDAY = {"figures": {"EVALution": {"macro_f1": 0.72}}}


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return fit_head("floor", floor(), made_up(80), made_up(20, 80), SHARED, 0)


def column(name: str) -> int:
    return SHARED.index(name)


# ------------------------------------------------------------------------------------------------------------- features


@pytest.mark.parametrize(("one", "two", "n"), [("", "", 0), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("abc", "", 3)])
def test_edit_distance(one, two, n):
    assert edit_distance(one, two) == edit_distance(two, one) == n


def test_floor_knows_seeds_and_their_direction():
    features, word = Floor(), vocabulary().find("mero", "hand")
    assert word is not None
    part = min(key for key, depth in vocabulary().seeds[word.id].items() if depth == 1)
    there, back, nothing = features([("hand", part), (part, "hand"), ("hand", "xyzzy")])
    assert not np.array_equal(there, back)
    half = features([("a", "b")]).shape[1]
    assert there.shape == back.shape == nothing.shape == (half,)
    assert there.sum() != nothing.sum()
    assert np.isfinite(features([("", ""), ("ice cream", "cream"), ("café", "ünder")])).all()


def test_floor_takes_no_notice_of_what_else_is_asked():
    pairs = [link.words for link in of_vocabulary(20)]
    together = floor()(pairs)
    assert np.array_equal(together[:3], np.concatenate([Floor()([pair]) for pair in pairs[:3]]))


# ------------------------------------------------------------------------------------------------------------ the model


def test_floor_learns_what_letters_tell(model):
    asked = made_up(40, 100)
    said = model.probabilities([link.words for link in asked])
    assert figures([link.label for link in asked], said, SHARED)["macro_f1"] > 0.9
    assert direction_accuracy(asked, said, SHARED)["accuracy"] > 0.9


def test_floor_beats_the_majority_on_the_shipped_words():
    found = of_vocabulary(150)
    train = [link for i, link in enumerate(found) if i % 3]
    made = fit_head("floor", floor(), train, (), SHARED, 0)
    asked = found[::3]
    said = made.probabilities([link.words for link in asked])
    assert figures([link.label for link in asked], said, SHARED)["accuracy"] > 0.5  # a quarter is of each relation


def test_a_pair_and_its_mirror_agree(model):
    asked = [link.words for link in made_up(10, 200)]
    there, back = model.probabilities(asked), model.probabilities([(b, a) for a, b in asked])
    for label in LABELS:
        assert there[:, column(label)] == pytest.approx(back[:, column(MIRROR[label])])
    assert there.sum(1) == pytest.approx(np.ones(len(asked)))


def test_score_and_classify(model):
    link = made_up(1, 120)[0]
    verdict = model.classify(link.base.upper(), f" {link.answer} ")
    assert verdict.label == "ant"
    assert model.score("ant", *link.words) == pytest.approx(verdict.p)
    assert set(verdict.probabilities) == set(LABELS)
    with pytest.raises(InputError, match="choose one of: syn"):
        model.score("holo", *link.words)
    with pytest.raises(InputError, match="a word is blank"):
        model.classify("dog", " ")


def test_a_kind_asked_the_wrong_way_round_is_a_hyper(model):
    link = made_up(1, 130)[1]
    assert model.classify(*link.words).label == "hypo"
    assert model.classify(link.answer, link.base).label == "hyper"


def test_training_again_gives_the_same_model(model):
    again = fit_head("floor", Floor(), made_up(80), made_up(20, 80), SHARED, 0)
    for name, array in model.head.arrays().items():
        assert np.array_equal(array, again.head.arrays()[name])
    assert again.head.temperature == model.head.temperature


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_heads_compute_what_scikit_learn_computes(kind):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 6)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int) + 2 * (x[:, 1] > 0.3)
    made = head.fit(kind, x, y.tolist(), 5, [1.0] * 90, 0)
    found = head._fitted(kind, (x - made.mean) / made.scale, y, np.ones(90), 0)
    said = made.probabilities(x)
    assert said[:, :4] == pytest.approx(found.predict_proba((x - made.mean) / made.scale), abs=1e-5)
    assert said[:, 4].max() < 1e-9  # a label that never occurred


def test_two_labels_make_a_head_too():
    x = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    for kind in ("linear", "mlp"):
        said = head.fit(kind, x, [int(v > 0) for v in x[:, 0]], 2, [1.0] * 40, 0).probabilities(x)
        assert said[-1, 1] > said[0, 1]
    with pytest.raises(EmptyHistory, match="at least two labels"):
        head.fit("linear", x, [1] * 40, 2, [1.0] * 40, 0)


def test_a_label_of_one_row_stops_nothing():
    x = np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    y[17] = 2
    said = head.fit("mlp", x, y.tolist(), 3, [1.0] * 600, 0).probabilities(x)
    assert (said.argmax(1) == y).mean() > 0.9


def test_weights_count_as_repetitions():
    train = [link for link in made_up(30) if link.label != "none"]
    doubted = [Link(*link.words, "none", weight=0.0) for link in train]
    one = fit_head("floor", floor(), [*train, *made_up(5)[2::3]], (), SHARED, 0)
    two = fit_head("floor", floor(), [*train, *made_up(5)[2::3], *doubted], (), SHARED, 0)
    asked = [link.words for link in train]
    # Rows that weigh nothing change how features are scaled, hence the tolerance.
    assert (one.probabilities(asked).argmax(1) == two.probabilities(asked).argmax(1)).mean() > 0.95


# -------------------------------------------------------------------------------------------------------------- metrics


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(SHARED), st.integers(0, 6)), min_size=1, max_size=60))
def test_f1_is_scikit_learns(rows):
    from sklearn.metrics import f1_score

    golds = [gold for gold, _ in rows]
    said = np.eye(7)[[i for _, i in rows]]
    found = figures(golds, said, SHARED)
    present = [label for label in SHARED if label in golds]
    predicted = [SHARED[i] for _, i in rows]
    wanted = {average: f1_score(golds, predicted, labels=present, average=average, zero_division=0.0)
              for average in ("weighted", "macro")}  # fmt: skip
    assert found["weighted_f1"] == pytest.approx(wanted["weighted"])
    assert found["macro_f1"] == pytest.approx(wanted["macro"])
    assert found["accuracy"] == pytest.approx(np.mean([a == b for a, b in zip(golds, predicted, strict=True)]))


def test_calibration_error_of_known_cases():
    sure = np.array([[1.0, 0.0]] * 4)
    assert calibration_error(np.array([0, 0, 0, 0]), sure) == 0
    assert calibration_error(np.array([0, 0, 1, 1]), sure) == pytest.approx(0.5)
    half = np.array([[0.6, 0.4]] * 10)
    assert calibration_error(np.array([0] * 6 + [1] * 4), half) == pytest.approx(0)


def test_direction_does_not_ask_for_the_relation():
    said = np.array([[0.9, 0, 0.06, 0.04, 0, 0, 0], [0.9, 0, 0.04, 0.06, 0, 0, 0], [0, 0, 0.5, 0.5, 0, 0, 0]])
    asked = [Link("a", "b", "hypo"), Link("c", "d", "hypo"), Link("e", "f", "hypo"), Link("g", "h", "syn")]
    assert direction_accuracy(asked, np.vstack([said, said[:1]]), SHARED) == {"n": 3, "accuracy": 0.5}
    assert direction_accuracy(asked[3:], said[:1], SHARED)["accuracy"] is None


def test_nothing_to_score_is_an_error():
    with pytest.raises(InputError, match="no pairs to score"):
        figures([], np.zeros((0, 7)), SHARED)


def test_temperature_mends_confidence_and_no_answer():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 4000)
    calibrated = np.eye(3)[true] * 1.5
    drawn = np.array([rng.choice(3, p=row) for row in head.softmax(calibrated)])  # so these log-odds are the right ones
    overconfident = calibrated * 5
    t = head.temperature_of(overconfident, drawn.tolist())
    assert t == pytest.approx(5, rel=0.1)
    before, after = head.softmax(overconfident), head.softmax(overconfident / t)
    assert calibration_error(drawn, after) < 0.03 < calibration_error(drawn, before)
    assert np.array_equal(before.argmax(1), after.argmax(1))


def test_agreement_of_ranks():
    assert rank_agreement(np.array([0.1, 0.5, 0.9]), np.array([5, 6, 37])) == pytest.approx(1)
    assert rank_agreement(np.array([0.5, 0.5, 0.5]), np.array([5, 6, 37])) == 0


def test_paired_bootstrap_sees_a_difference_and_none():
    rng = np.random.default_rng(1)
    true = rng.integers(0, 2, 400)
    groups = np.repeat(np.arange(80), 5)
    good, bad = np.where(rng.random(400) < 0.9, true, 1 - true), np.where(rng.random(400) < 0.6, true, 1 - true)
    found = paired_f1(true, bad[None], good[None], groups, 1)
    assert 0 < found["low"] < found["delta"] < found["high"]
    same = paired_f1(true, bad[None], bad[None], groups, 1)
    assert (same["delta"], same["low"], same["high"]) == (0, 0, 0)


# ------------------------------------------------------------------------------------------------------------- what stays


def test_what_is_kept_answers_as_it_did(model, tmp_path):
    write_model(model, tmp_path / "m", {"figures": {}})
    kept = read_model(tmp_path / "m")
    asked = [link.words for link in made_up(30, 200)]
    assert np.array_equal(kept.model.probabilities(asked), model.probabilities(asked))
    assert kept.facts["arm"] == "floor"
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["head.safetensors", "model.json"]


def test_a_folder_that_is_there_stays_as_it_is(model, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine.txt").write_text("mine")
    with pytest.raises(FileFormatError, match="choose another --out"):
        write_model(model, tmp_path / "m", {})
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert (tmp_path / "m" / "mine.txt").read_text() == "mine"


def test_damaged_models_are_refused(model, tmp_path):
    from safetensors.numpy import load_file, save_file

    with pytest.raises(FileFormatError, match="holds no relation model"):
        read_model(tmp_path)
    folder = tmp_path / "m"
    write_model(model, folder, {})
    arrays = load_file(folder / "head.safetensors")
    save_file({name: array for name, array in arrays.items() if name != "bias.0"}, folder / "head.safetensors")
    with pytest.raises(FileFormatError, match="not whole"):
        read_model(folder)
    (folder / "head.safetensors").write_bytes(b"junk")
    with pytest.raises(FileFormatError, match=r"head\.safetensors cannot be read"):
        read_model(folder)
    note = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(note | {"vocabulary": "v0"}))
    with pytest.raises(MismatchError, match="train it again"):
        read_model(folder)
    (folder / "model.json").write_text(json.dumps(note | {"format": 99}))
    with pytest.raises(FileFormatError, match="of this version"):
        read_model(folder)


def test_the_floor_does_not_learn_seeds_from_seeds():
    with pytest.raises(ConfigError, match="leave them out"):
        train_model("floor", {}, made_up(10), seeds_of_game=50)
    with pytest.raises(ConfigError, match="nothing to learn from"):
        train_model("floor", {}, [], seeds_of_game=0)
    found = seed_links(50, 0)
    assert len(found) == 50
    assert found == seed_links(50, 0) != seed_links(50, 1)


def test_players_pairs_alone_make_a_model():
    trained = train_model("floor", {}, [link for link in made_up(60) if link.label != "none"], seeds_of_game=0)
    assert trained.facts["n_players"] == 120
    assert trained.model.classify(*made_up(1, 200)[0].words).label in LABELS


# ------------------------------------------------------------------------------------------------------------ candidates


class Sure(HeadModel):
    """Says of every pair what it is told to."""

    def probabilities(self, pairs):
        return np.tile(np.array([[0.1, 0.1, 0.1, 0.05, 0.5, 0.05, 0.1]]), (len(pairs), 1))


@pytest.fixture(scope="module")
def sure(model) -> Sure:
    return Sure(model.arm, model.labels, model.features, model.head)


@pytest.mark.parametrize("facts", [{}, {"figures": {}}, {"figures": {"EVALution": {"macro_f1": 0.69}}}])
def test_the_gate_is_shut_until_the_model_is_good_enough(sure, facts):
    word = vocabulary().find("mero", "hand")
    assert word is not None
    assert gate(facts)[0] is False
    with pytest.raises(ConfigError, match=f"{GATE:.2f}"):
        candidates(sure, facts, word, 5)


def test_candidates_may_be_seen_by_anybody(sure):
    words = vocabulary()
    for relation in RELATIONS:
        word = words.of(relation)[0]
        pool = showable(word, words)
        assert pool
        assert not [key for key in pool if offensive(key, words.lexicon)]
        assert not [key for key in pool if words.is_seed(word, key) or key == word.key]
    assert all(offensive(key, words.lexicon) for key in words.lexicon.severity)
    single = next(key for key in words.lexicon.severity if " " not in key)
    assert offensive(f"big {single}", words.lexicon)
    assert not offensive("finger", words.lexicon)


def test_candidates_are_neither_sure_nor_hopeless(sure):
    word = vocabulary().words["mero:hand"]
    found = candidates(sure, EVERYDAY, word, 7)
    assert len(found) == 7
    assert {one.p for one in found} == {0.5}
    assert found == candidates(sure, EVERYDAY, word, 7)
    assert candidates(sure, EVERYDAY, vocabulary().of("hypo")[0], 7) == []  # p is 0.1 there


def test_negatives_teach_none(model):
    true = [link for link in made_up(40) if link.label != "none"]
    made = fit_head("floor", floor(), [*true, *negatives(true, 0)], (), SHARED, 0)
    far = [link.words for link in negatives(true, 9, kinds=("random",))]
    assert (made.probabilities(far).argmax(1) == column("none")).mean() > 0.6
    assert len(both_ways(true)) == 2 * len(true)
