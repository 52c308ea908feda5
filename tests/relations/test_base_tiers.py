"""Tiers 2 and 4, on a small random base and on the embedded one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from relations_making import made_up

from idiolect.data.batch import pack_prompts
from idiolect.data.prompts import answer_ids, render
from idiolect.errors import BaseMismatch, EmptyHistory
from idiolect.relations.adapter import TRAINING, example, fit_adapter, name_of
from idiolect.relations.classifier import SHARED, fit_head
from idiolect.relations.encoder import CUES, Encoder
from idiolect.relations.kept import features_of, read_model, write_model
from idiolect.relations.links import BENCHMARKS, LABELS, Link
from idiolect.types import Example

ASKED = [link.words for link in made_up(6, 50)]
QUICK = TRAINING.but(epochs=1, rank=2, alpha=4.0, batch_size=8)


@pytest.fixture(scope="module")
def base(load):
    return load("llama", chat=True)


@pytest.fixture(scope="module")
def encoder(base):
    return Encoder(base)


def test_words_are_read_once_and_alike_in_any_company(base, encoder):
    together = encoder(ASKED)
    alone = np.concatenate([Encoder(base)([pair]) for pair in ASKED[:3]])
    assert together.shape == (len(ASKED), 4 * 32 + 8)
    assert together[:3] == pytest.approx(alone, abs=1e-4)
    assert np.array_equal(encoder(ASKED), together)


def test_both_orders_are_told_apart(encoder):
    (there,), (back,) = encoder([("dog", "cat")]), encoder([("cat", "dog")])
    assert there[:32] == pytest.approx(back[32:64])
    assert there[64:96] == pytest.approx(-back[64:96])
    assert there[96:128] == pytest.approx(back[96:128])
    assert there[-8:-4] == pytest.approx(back[-4:])


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_likely_answers_are_the_models_own_log_probabilities(load, family):
    base = load(family, chat=True)
    (row,) = Encoder(base)([("dog", "cat")])
    tokenizer, model = base.tokenizer, base.model
    said = []
    for about, answer in (("dog", "cat"), ("cat", "dog")):
        for question in CUES.values():
            prompt = render(Example("", "", "", question.format(about)), tokenizer, 64, reserve=1, answer=False).ids
            logits, _ = model.begin(pack_prompts([prompt]), None, 1)
            said.append(float(logits[0].float().log_softmax(-1)[answer_ids(answer, tokenizer)[0]]))
    assert row[-8:] * 10 == pytest.approx(said, abs=1e-3)


@pytest.mark.parametrize("arm", ["encoder", "both"])
def test_what_is_kept_of_tier_2_answers_as_it_did(base, load, arm, tmp_path):
    model = fit_head(arm, features_of(arm, base), made_up(20), made_up(5, 20), SHARED, 0)
    write_model(model, tmp_path / "m", {}, base)
    kept = read_model(tmp_path / "m", base)
    assert kept.model.probabilities(ASKED) == pytest.approx(model.probabilities(ASKED))
    with pytest.raises(BaseMismatch, match="give it with --base"):
        read_model(tmp_path / "m")
    with pytest.raises(BaseMismatch, match="was made for base"):
        read_model(tmp_path / "m", load("llama", chat=True, seed=1))


def test_tier_4_is_trained_kept_and_read(base, tmp_path):
    model = fit_adapter(base, made_up(12), made_up(4, 12), SHARED, 0, QUICK)
    said = model.probabilities(ASKED)
    assert said.shape == (len(ASKED), 7)
    assert said.sum(1) == pytest.approx(np.ones(len(ASKED)))
    write_model(model, tmp_path / "m", {"n_train": 36})
    kept = read_model(tmp_path / "m", base)
    assert kept.model.probabilities(ASKED) == pytest.approx(said, abs=1e-6)
    assert (tmp_path / "m" / "adapter" / "adapter_config.json").is_file()
    again = fit_adapter(base, made_up(12), made_up(4, 12), SHARED, 0, QUICK)
    assert bool((again.row == model.row).all())


def test_tier_4_hangs_on_its_adapter(base):
    model = fit_adapter(base, made_up(12), (), SHARED, 0, QUICK.but(epochs=3))
    untrained = replace(model, row=model.row * 0)
    assert abs(model.probabilities(ASKED) - untrained.probabilities(ASKED)).max() > 0.05


def test_weightless_links_teach_tier_4_nothing(base):
    with pytest.raises(EmptyHistory, match="give more data"):
        fit_adapter(base, [Link("a", "b", "mero", weight=0.0)], (), SHARED, 0, QUICK)


def test_listed_labels_stand_in_an_order_of_the_pairs_own():
    orders = {example(pair, SHARED, None, 0, True).instruction for pair in ASKED}
    assert len(orders) > 3
    assert all(sorted(order.split("Choose: ")[1].rstrip(".\n").split(", ")) == sorted(map(name_of, SHARED)) for order in orders)
    assert example(ASKED[0], SHARED, "mero", 0, True) == example(ASKED[0], SHARED, "mero", 0, True)
    plain = example(ASKED[0], SHARED, "mero", 0)
    assert (plain.instruction, plain.target) == ("", "part")


@pytest.mark.parametrize("labels", [LABELS, *(tuple(labels) for labels in BENCHMARKS.values())])
def test_no_two_labels_of_a_set_share_a_name(labels):
    assert len({name_of(label) for label in labels}) == len(labels)


@pytest.mark.slow
def test_the_embedded_base_adds_to_letters():
    from relations_making import of_vocabulary

    from idiolect.model.base import load_base
    from idiolect.relations.metrics import figures

    found = of_vocabulary(120)
    train, asked = [link for i, link in enumerate(found) if i % 3], found[::3]
    model = fit_head("encoder", Encoder(load_base()), train, (), SHARED, 0)
    said = model.probabilities([link.words for link in asked])
    assert figures([link.label for link in asked], said, SHARED)["accuracy"] > 0.4
