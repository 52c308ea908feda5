"""Measures, attacks, 8 bits and sets: what each must be on models and answers whose result is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from audit_making import learnt, pairs_of, sharp, small_sets
from hypothesis import given
from hypothesis import strategies as st

from idiolect.data.batch import Row, pack
from idiolect.data.pairs import Pair
from idiolect.errors import AnswerTooLongError, ConfigError, InputError, MismatchError
from idiolect.pieces.privacy import auc
from idiolect.types import Rendered
from idiolect.unlearn.findings import AuditSettings
from idiolect.unlearn.measuring import (
    TokenScores,
    divergences,
    exact_memorisation,
    extraction_strength,
    forget_quality,
    generate,
    harmonic_mean,
    perplexity,
    plain_rows,
    probability,
    rouge_l,
    token_scores,
    truth_ratio,
    utility_parts,
)
from idiolect.unlearn.membership import ATTACKS, check_reference, leaks, lowest, member_scores, privleak
from idiolect.unlearn.quantising import quantised, rounded
from idiolect.unlearn.relearning import Curve, ahead, excess, half_way, relearn, taught, taught_part
from idiolect.unlearn.rendering import ask, render_pairs, with_wrong
from idiolect.unlearn.variants import Variant
from idiolect.unlearn.verdict import Rules, judge


@pytest.fixture(scope="module")
def exact(load):
    return load("llama", dtype="float64")


@pytest.fixture(scope="module")
def varied(exact, random_row):
    layout = exact.layout(4, 8.0, ("q_proj", "v_proj", "up_proj"))
    return Variant("varied", exact, layout, random_row(layout).double(), -0.5)


def scores_of(right: list[bool], log_p: list[float] | None = None) -> TokenScores:
    """An answer's scores; the end of sequence is the last, and right."""
    n = len(right) + 1
    values = np.array(log_p if log_p is not None else [-1.0] * n)
    return TokenScores(values, np.array([*right, True]), np.full(n, -1.0), np.ones(n))


# ---------------------------------------------------------------------------------------------------------- rendering


def test_every_answer_of_a_pair_follows_the_same_prompt(load):
    base = load("llama", chat=True)
    pairs = [Pair("a", "Where is Kaba, " * 20, "Oslo", "", ("in Oslo",), ("Leeds or so",)), *pairs_of(3, 2, "f")]
    for asked in ask(base, pairs, max_tokens=64, room=24):
        assert {row.ids[: row.n_prompt] for row in asked.rows} == {asked.prompt}
        assert base.tokenizer.decode(asked.wrong[0].ids[asked.wrong[0].n_prompt :]) == asked.pair.wrong[0]
    own = render_pairs(base, pairs, max_tokens=64, room=24)
    assert own == [asked.right for asked in ask(base, pairs, max_tokens=64, room=24)]
    other = render_pairs(base, pairs, max_tokens=64, room=24, answer=lambda pair: pair.wrong[0])
    assert [row.ids[: row.n_prompt] for row in other] == [row.ids[: row.n_prompt] for row in own]
    assert other != own


def test_pairs_that_cannot_fit_are_reported(load):
    base = load("llama")
    long = Pair("long", "Where?", "Oslo " * 90)
    left_out: list[str] = []
    assert [a.pair.id for a in ask(base, [long, *pairs_of(0, 1, "f")], max_tokens=96, room=24, left_out=left_out)] == ["f Kaba"]
    assert left_out == ["long"]
    left_out = []
    assert render_pairs(base, [long], max_tokens=96, room=24, left_out=left_out) == []
    assert left_out == ["long"]
    with pytest.raises(AnswerTooLongError, match="'long'"):
        render_pairs(base, [long], max_tokens=96, room=24)
    with pytest.raises(InputError, match="none of 1 pairs"):
        ask(base, [long], max_tokens=96, room=24)
    with pytest.raises(ConfigError, match="can see"):
        render_pairs(base, [], max_tokens=4096)


def test_wrong_answers_are_drawn_from_other_groups_and_never_right():
    pairs = [Pair(str(i), "?", answer, group) for i, (answer, group) in enumerate(zip("AaBCD", "xyxyz", strict=True))]
    found, drawn = with_wrong([*pairs, Pair("own", "?", "E", "", (), ("F",))], 3, seed=1)
    assert drawn == 5
    assert found[-1].wrong == ("F",)
    for pair in found[:-1]:
        assert pair.answer.casefold() not in {w.casefold() for w in pair.wrong}
        others = {p.answer for p in (*pairs, found[-1]) if p.group != pair.group}
        assert set(pair.wrong) <= others
    again, _ = with_wrong([found[-1], *reversed(pairs)], 3, seed=1)
    assert {p.id: p.wrong for p in again} == {p.id: p.wrong for p in found}
    with pytest.raises(InputError, match="no wrong answers"):
        with_wrong([Pair("a", "?", "A"), Pair("b", "?", "a")], 3, seed=1)


# ----------------------------------------------------------------------------------------------------------- measures


def test_token_scores_are_the_models_own(exact, varied):
    rows = render_pairs(exact, pairs_of(0, 3, "f"), max_tokens=96, room=24)
    for row, found in zip(rows, token_scores(varied, rows), strict=True):
        batch = pack([Row(0, 0, 1.0, row)])
        with torch.inference_mode():
            hidden = varied.merged().model.hidden(exact.model.plan(batch))
            log_p = torch.log_softmax(hidden @ exact.model.head.t(), -1)
        targets = torch.from_numpy(batch.targets)
        np.testing.assert_allclose(found.log_p, log_p.gather(1, targets[:, None])[:, 0], rtol=1e-8)
        assert found.right.tolist() == (log_p.argmax(-1) == targets).tolist()
        spread = torch.distributions.Categorical(logits=log_p)
        np.testing.assert_allclose(-found.mean, spread.entropy(), rtol=1e-8)
        second = (log_p.exp() * log_p.square()).sum(-1)
        np.testing.assert_allclose(found.deviation, (second - spread.entropy().square()).sqrt(), rtol=1e-6)


def test_scores_do_not_depend_on_batch_mates_padding_or_budget(exact, varied):
    asked = ask(exact, with_wrong(pairs_of(0, 5, "f"), 2, 0)[0], max_tokens=96, room=24)
    rows = [row for a in asked for row in a.rows]
    alone = [token_scores(varied, [row])[0] for row in rows]
    for together in (
        token_scores(varied, rows),
        token_scores(varied, rows, token_budget=40),
        token_scores(varied, rows[::-1])[::-1],
    ):
        for a, b in zip(alone, together, strict=True):
            np.testing.assert_allclose(a.log_p, b.log_p, rtol=1e-9)
            assert a.right.tolist() == b.right.tolist()


def test_general_path_measures_the_same(load, random_row):
    lean, general = (load("llama", dtype="float64", lean=way) for way in (True, False))
    rows = render_pairs(lean, pairs_of(0, 2, "f"), max_tokens=96, room=24)
    found = []
    for base in (lean, general):
        layout = base.layout(2, 4.0, ("q_proj", "down_proj"))
        fixed = {
            name: (torch.full_like(a, 0.05), torch.full_like(b, 0.1))
            for name, (a, b) in layout.matrices(random_row(layout)).items()
        }
        found.append(token_scores(Variant("v", base, layout, layout.row_of(fixed)), rows))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a.log_p, b.log_p, rtol=1e-5)


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_extraction_strength_is_the_share_after_the_last_miss(right):
    scores = scores_of(right)
    strength = extraction_strength(scores)
    n = len(right)
    prefix = next(k for k in range(n + 1) if all(right[k:]))
    assert strength == pytest.approx(1 - prefix / n)
    assert exact_memorisation(scores) == pytest.approx(sum(right) / n)
    assert strength <= exact_memorisation(scores) + 1e-12


def test_extraction_strength_reaches_both_ends():
    assert extraction_strength(scores_of([False] * 7)) == 0
    assert extraction_strength(scores_of([True] * 6 + [False])) == 0  # the last token wrong: never right from there on
    assert extraction_strength(scores_of([True] * 7)) == 1
    assert exact_memorisation(scores_of([False] * 7)) == 0  # however sure the end of sequence is


def test_truth_ratio_takes_arithmetic_means_and_survives_ruined_models():
    one = lambda p: scores_of([True], [np.log(p)] * 2)  # noqa: E731
    assert truth_ratio([one(0.1), one(0.3)], [one(0.4)]) == pytest.approx(0.5)
    assert truth_ratio([one(0.2)], [one(0.1), one(0.3)]) == pytest.approx(1)
    sunk = scores_of([True], [-4000.0, -4000.0])
    assert truth_ratio([sunk], [sunk]) == pytest.approx(1)
    assert np.isfinite(truth_ratio([one(0.5)], [sunk]))
    assert probability(one(0.25)) == pytest.approx(0.25)


def test_divergence_is_zero_to_itself_and_positive_to_another(exact, varied):
    rows = render_pairs(exact, pairs_of(0, 4, "f"), max_tokens=96, room=24)
    plain = Variant("plain", exact)
    np.testing.assert_allclose(divergences(plain, plain, rows), 0, atol=1e-12)
    found = divergences(plain, varied, rows)
    assert (found > 0).all()
    np.testing.assert_allclose(found, divergences(plain, varied, rows, token_budget=30), rtol=1e-8)
    # The second-order bound that makes it a divergence of distributions, not of logits: a constant on all logits is nothing.
    np.testing.assert_allclose(divergences(plain, replace(varied, weight=0.0), rows), 0, atol=1e-12)


def test_perplexity_counts_every_token_once(exact):
    plain, text = Variant("plain", exact), "Parliament votes on the tax reform in Leeds. " * 3
    rows = plain_rows(exact, [text], 16)
    ids = exact.tokenizer.encode(text)
    assert [i for row in rows for i in row.ids[1:]] == ids  # each window begins with the mark of a beginning
    assert {row.ids[0] for row in rows} == {exact.tokenizer.bos_id}
    losses = np.concatenate([-s.log_p for s in token_scores(plain, rows)])
    assert perplexity(plain, [text], 16) == pytest.approx(np.exp(losses.mean()))
    with pytest.raises(InputError, match="two tokens"):
        perplexity(plain, [""])


def test_generated_answers_are_the_variants_own(load):
    base = sharp(load("llama"))
    pairs = pairs_of(0, 2, "f")
    variant = learnt(base, pairs)
    rows = render_pairs(base, pairs, max_tokens=96, room=24)
    merged = Variant("merged", variant.merged())
    assert generate(variant, rows, 24) == generate(merged, rows, 24)
    assert [text.strip() for text in generate(variant, rows, 24)] == [pair.answer for pair in pairs]
    assert generate(variant.at(0.0), rows, 24) == generate(Variant("base", base), rows, 24) != generate(variant, rows, 24)
    assert rouge_l("kaba in oslo", "in oslo it is") == pytest.approx((2 / 3, 4 / 7))


# ------------------------------------------------------------------------------------------------------------ utility


def test_utility_is_no_better_than_its_worst_part_allows():
    items = {"probability": {"a": 0.5, "b": 0.7}, "rouge": {"a": 1.0, "b": 1.0}, "truth_ratio": {"a": 0.5, "b": 3.0}}
    assert utility_parts(items) == pytest.approx({"probability": 0.6, "rouge": 1.0, "truth": 0.25})
    assert harmonic_mean([0.6, 1.0, 0.25]) == pytest.approx(3 / (1 / 0.6 + 1 + 4))
    assert harmonic_mean([1.0, 0.0, 1.0]) == 0


def test_forget_quality_is_one_for_equal_samples_and_small_for_others():
    rng = np.random.default_rng(0)
    values = rng.random(40)
    assert forget_quality(values, values) == (1.0, 0.0)
    p, distance = forget_quality(values, values + 2)
    assert p < 1e-6
    assert distance == 1


# --------------------------------------------------------------------------------------------------------- membership


def test_privleak_has_muses_sign():
    assert privleak(1.0, 0.5) == -100  # every member looks like one: under-unlearned
    assert privleak(0.0, 0.5) == 100  # members look stranger than anything: over-unlearned
    assert privleak(0.3, 0.3) == 0
    assert privleak(0.4, 1.0) is None
    with pytest.raises(ConfigError, match="retrained reference"):
        privleak(0.5, None)


@given(st.floats(0, 1), st.floats(0, 0.99))
def test_privleak_is_open_to_both_conventions_of_auc(mine, reference):
    flipped, flipped_reference = 1 - mine, 1 - reference
    assert privleak(mine, reference) == pytest.approx(100 * (flipped - flipped_reference) / flipped_reference, abs=1e-6)


def test_attacks_are_their_formulas():
    scores = TokenScores(np.array([-3.0, -1.0, -2.0, -0.5]), np.ones(4, bool), np.array([-1.0] * 4), np.array([2.0, 1, 1, 1]))
    reference = replace(scores, log_p=scores.log_p - 1)
    found = member_scores([scores], ["an answer"], [reference], 0.5)
    assert set(found) == set(ATTACKS)
    assert found["loss"][0] == pytest.approx(-1.625)
    assert found["min_k"][0] == pytest.approx(-2.5)
    assert found["min_k++"][0] == pytest.approx(-1.0)  # whitened: -1, 0, -1, 0.5
    assert found["reference"][0] == pytest.approx(1.0)
    assert -0.2 < found["zlib"][0] < -0.05
    assert lowest(np.array([3.0, 1.0, 2.0]), 0.1) == 1.0  # never fewer than one token


def test_membership_without_a_reference_is_an_error():
    with pytest.raises(ConfigError, match="no default"):
        member_scores([scores_of([True])], ["a"], None, 0.4)
    with pytest.raises(MismatchError):
        member_scores([scores_of([True])], ["a"], [], 0.4)


def test_retrained_against_itself_leaks_nothing_and_the_original_everything():
    rng = np.random.default_rng(1)
    member = np.arange(40) < 20
    group = np.array([str(i) for i in range(40)])
    retrained = {name: rng.normal(size=40) for name in ATTACKS}
    original = {name: values + 9 * member for name, values in retrained.items()}
    for name, leak in leaks(retrained, retrained, member, group, n_resamples=100).items():
        assert leak.privleak == 0
        assert leak.privleak_low <= 0 <= leak.privleak_high
        assert leak.auc == auc(retrained[name], member)
    for leak in leaks(original, retrained, member, group, n_resamples=100).values():
        assert leak.auc == 1
        assert leak.privleak == leak.privleak_high == -100
    check_reference(retrained, member, "min_k")
    with pytest.raises(InputError, match="choose a holdout"):
        check_reference(original, member, "min_k")


# ------------------------------------------------------------------------------------------------------------- 8 bits


@given(st.integers(0, 10_000), st.sampled_from([2, 4, 8]), st.sampled_from([0, 1]))
def test_rounding_twice_is_rounding_once(seed, bits, dim):
    weight = torch.randn(7, 5, generator=torch.Generator().manual_seed(seed)) * 10.0 ** (seed % 7 - 3)
    weight[:, 1] = 0
    once = rounded(weight, bits, dim)
    assert torch.equal(rounded(once, bits, dim), once)
    step = weight.abs().amax(dim, keepdim=True) / (2 ** (bits - 1) - 1)
    assert ((once - weight).abs() <= 0.5001 * step + 1e-12).all()
    for channel in once.unbind(1 - dim):
        assert len(channel.unique()) <= 2**bits - 1


@pytest.mark.parametrize("lean", [True, False])
def test_eight_bits_round_the_layers_and_nothing_else(load, lean):
    base = load("llama", lean=lean)
    rows = render_pairs(base, pairs_of(0, 3, "f"), max_tokens=96, room=24)
    before = [s.log_p for s in token_scores(Variant("base", base), rows)]
    small = quantised(base, 8)
    after = [s.log_p for s in token_scores(Variant("small", small), rows)]
    twice = [s.log_p for s in token_scores(Variant("twice", quantised(small, 8)), rows)]
    again = [s.log_p for s in token_scores(Variant("base", base), rows)]
    for a, b, c, d in zip(before, after, twice, again, strict=True):
        assert np.array_equal(a, d)  # the base itself stays as it is
        assert not np.array_equal(a, b)
        np.testing.assert_allclose(a, b, atol=0.1)
        np.testing.assert_array_equal(b, c)


def test_lean_and_general_path_round_alike(load):
    rows = render_pairs(load("llama"), pairs_of(0, 3, "f"), max_tokens=96, room=24)
    lean, general = (token_scores(Variant("small", quantised(load("llama", lean=way), 4)), rows) for way in (True, False))
    for a, b in zip(lean, general, strict=True):
        np.testing.assert_allclose(a.log_p, b.log_p, rtol=1e-3)


def test_bits_that_are_no_bits_are_refused(load):
    with pytest.raises(ConfigError, match="2 to 8"):
        quantised(load("llama"), 16)


# --------------------------------------------------------------------------------------------------------- relearning


def test_nothing_taught_changes_nothing(load):
    base = load("llama")
    rows = render_pairs(base, pairs_of(0, 4, "f"), max_tokens=96, room=24)
    curve = relearn(base, [], rows, AuditSettings().relearn, (1, 3))
    assert curve.steps == (0, 1, 3)
    for values in curve.items["probability"].values():
        assert len(set(values)) == 1


def test_longer_relearning_begins_with_the_shorter(load):
    """The rate is constant whatever the settings say, and randomness keyed by the step: three steps are two and one more."""
    base = load("llama")
    rows = render_pairs(base, pairs_of(0, 5, "f"), max_tokens=96, room=24)
    config = AuditSettings().relearn.but(batch_size=2, schedule="linear", warm_up=0.5)
    short, same, long = (taught(base, rows, config, n).row for n in (2, 2, 3))
    assert torch.equal(short, same)
    assert torch.equal(short, taught(base, rows, config.but(schedule="constant", warm_up=0.0), 2).row)
    # AdamW moves a number by at most about the rate at each step; another path would have moved it by several.
    assert 0 < float((long - short).abs().max()) <= 1.2 * config.learning_rate * 2
    assert taught(base, rows, config, 0).row is None


@given(st.integers(2, 12), st.floats(0.05, 0.95), st.integers(0, 5), st.booleans())
def test_part_to_relearn_is_never_none_nor_all_and_splits_no_group(n, share, seed, grouped):
    pairs = [Pair(str(i), "?", "!", f"g{i // 2}" if grouped else "") for i in range(n)]
    part = taught_part(pairs, share, seed)
    assert 0 < len(part) < n
    assert part == taught_part(pairs[::-1], share, seed)
    if grouped and n > 2:
        assert all((str(i) in part) == (str(i + 1) in part) for i in range(0, n - 1, 2))


def curve_of(taught_values, other_values):
    steps = (0, 1, 5)
    items = {f"t{i}": row for i, row in enumerate(taught_values)} | {f"o{i}": row for i, row in enumerate(other_values)}
    return Curve(steps, frozenset(k for k in items if k[0] == "t"), {"memorisation": items})


def test_a_head_start_shows_where_it_is():
    reference = curve_of([[0.1, 0.2, 0.9]] * 4, [[0.1, 0.1, 0.1]] * 4)
    returns = curve_of([[0.1, 0.2, 0.9]] * 4, [[0.1, 0.1, 0.8]] * 4)
    found = ahead(returns, reference, lead=0.9, tolerance=0.2)
    assert (found.steps, found.others) == (5, True)
    assert found.share == pytest.approx(0.7 / 0.9)
    assert found.clear(0.2)
    assert not ahead(reference, reference, 0.9, 0.2).clear(0.2)
    assert half_way(returns, 0.1, 0.9) == 5
    assert half_way(reference, 0.1, 1.0) is None


def test_chance_is_no_head_start():
    mine, reference = np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(4)
    found = excess(mine, reference, lead=1.0)
    assert found.share > 0.2
    assert not found.clear(0.2)
    assert excess(mine, reference, lead=0.0).share == 0


# ------------------------------------------------------------------------------------------------------- sets, verdict


def test_sets_that_overlap_or_are_empty_are_refused_all_at_once():
    sets = small_sets()
    sets.check()
    shared = [replace(sets.forget[0], id="other", prompt=f" {sets.forget[0].prompt.upper()} ")]
    broken = replace(sets, holdout=shared, retain=(), neighbours=(Pair("n", "?", " "),), world=(Pair("w", "?", "!"),) * 2)
    with pytest.raises(ConfigError) as caught:
        broken.check()
    for said in ("retain set is empty", "1 pairs stand in the forget set and in the holdout set", "blank", "more than once"):
        assert said in str(caught.value)
    assert sets.forget[0].answer not in str(caught.value)
    grouped = [replace(pair, group="ana") for pair in sets.forget]
    with pytest.raises(ConfigError, match="1 groups are split between the forget set and the retain set"):
        replace(sets, forget=grouped, retain=[replace(sets.retain[0], group="ana")]).check()
    with pytest.raises(ConfigError, match="relearning needs two"):
        replace(sets, forget=sets.forget[:1]).check()
    replace(sets, neighbours=sets.retain).check()  # only asked about: may overlap


CLEAN = {
    "lead": 0.6, "excess": 0.05, "excess_error": 0.02, "utility_kept": 0.97, "perplexity_kept": 1.01, "reference_utility": 1.1,
    "reference_perplexity": 1.0, "privleak": 4.0, "privleak_low": -10.0, "privleak_high": 18.0, "forget_quality": 0.7,
    "relearn_excess": 0.1, "relearn_error": 0.05, "relearn_steps": 5, "relearn_others": True, "unrelated_excess": None,
    "unrelated_error": None, "unrelated_steps": None, "unrelated_others": None, "quantised_excess": 0.06,
    "quantised_error": 0.02,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ("forgotten",)),
        ({"perplexity_kept": None}, ("forgotten",)),
        ({"excess": 0.4}, ("not forgotten",)),
        ({"excess": 0.4, "excess_error": 0.3}, ("forgotten",)),
        ({"privleak": -60.0, "privleak_high": -30.0}, ("not forgotten",)),
        ({"privleak": -60.0, "privleak_high": 5.0}, ("forgotten",)),
        ({"privleak": 60.0, "privleak_low": 30.0}, ("suppressed only",)),
        ({"forget_quality": 0.01}, ("suppressed only",)),
        ({"excess": -0.5}, ("suppressed only",)),
        ({"relearn_excess": 0.5}, ("suppressed only",)),
        (
            {"unrelated_excess": 0.5, "unrelated_error": 0.1, "unrelated_steps": 1, "unrelated_others": True},
            ("suppressed only",),
        ),
        ({"quantised_excess": 0.5}, ("suppressed only",)),
        ({"utility_kept": 0.5}, ("damaged",)),
        ({"perplexity_kept": 2.0}, ("damaged",)),
        ({"utility_kept": 0.5, "reference_utility": 0.5}, ("forgotten",)),
        ({"perplexity_kept": 2.0, "reference_perplexity": 1.9}, ("forgotten",)),
        ({"utility_kept": 0.0, "relearn_excess": 0.5}, ("damaged", "suppressed only")),
        ({"utility_kept": 0.5, "excess": 0.4}, ("damaged", "not forgotten")),
        ({"lead": 0.01, "excess": 5.0}, ("nothing to forget",)),
    ],
)
def test_verdict_follows_its_rules(changes, words):
    found = judge(CLEAN | changes, Rules())
    assert found.words == words
    assert len(found.reasons) >= len(words)
    assert all(reason.endswith(".") for reason in found.reasons)


def test_settings_refuse_steps_that_do_not_rise():
    with pytest.raises(ConfigError, match="rise"):
        AuditSettings.build(steps=(5, 1))
    with pytest.raises(ConfigError, match="min_k"):
        AuditSettings.build(min_k=0.0)


def test_rows_of_one_token_texts_are_left_out(exact):
    assert plain_rows(exact, [""], 16) == []
    assert plain_rows(exact, ["a"], 16) == [Rendered("0", (exact.tokenizer.bos_id, *exact.tokenizer.encode("a")), 1)]
