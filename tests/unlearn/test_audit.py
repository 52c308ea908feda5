"""The whole audit on a base that really learnt its pairs: what it says of models whose truth is known."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from audit_making import SETTINGS, World, make_world, small_sets

from idiolect.errors import ConfigError, InputError, MismatchError
from idiolect.unlearn.audit import audit
from idiolect.unlearn.findings import SUMMARY, Audit, combine
from idiolect.unlearn.picture import best_of, methods, save_relearning, save_tradeoff
from idiolect.unlearn.report import BESIDE, headline, markdown, to_results, write
from idiolect.unlearn.variants import Variant

WEIGHTS = (2.0, 4.0)


@pytest.fixture(scope="module")
def world(load) -> World:
    return make_world(load("llama"))


@pytest.fixture(scope="module")
def stages():
    return []


@pytest.fixture(scope="module")
def audited(world, stages) -> Audit:
    def on_stage(title, total):
        stages.append((title, total, seen := []))
        return lambda done, remark, left_s: seen.append(done)

    candidates = [
        replace(world.retrained, name="the reference"),
        world.again,
        replace(world.original, name="nothing done"),
        *(world.acquired.at(-weight, f"negation λ={weight:g}") for weight in WEIGHTS),
    ]
    return audit(world.original, world.retrained, candidates, world.sets, SETTINGS, on_stage)


def changed(found: Audit, **summaries: dict) -> Audit:
    """A copy in which some models' summaries say something else."""
    results = copy.deepcopy(found.results)
    for name, values in summaries.items():
        results["models"][name.replace("_", " ")]["summary"] |= values
    return Audit(results)


def test_progress_is_told_model_by_model(audited, stages):
    n = len(audited.candidates) + 2
    assert [(total, seen) for _, total, seen in stages] == [(n, [*range(1, n + 1)]), (n, [*range(1, n + 1)])]


def test_retrained_against_itself_is_forgotten_with_quality_one_and_no_leak(audited):
    s = audited.summary("the reference")
    assert (s["forget_quality"], s["distance"], s["privleak"]) == (1.0, 0.0, 0.0)
    assert (s["excess"], s["relearn_excess"], s["quantised_excess"]) == (0.0, 0.0, 0.0)
    assert audited.verdict("the reference")["words"] == ["forgotten"]


def test_another_seeds_reference_is_forgotten_too(audited):
    assert audited.summary("retrained again")["forget_quality"] > 0.05
    assert audited.verdict("retrained again")["words"] == ["forgotten"]


def test_doing_nothing_is_seen_by_every_measure(audited):
    s, original = audited.summary("nothing done"), audited.summary("original")
    assert audited.verdict("nothing done")["words"] == ["not forgotten"]
    assert s["memorisation"] == original["memorisation"] > 0.9
    assert s["excess"] == pytest.approx(1.0)
    assert s["privleak"] == -100
    assert s["relearn_half_way"] == 0
    assert s["utility_kept"] == 1
    assert s["divergence"] == 0
    assert s["perplexity_kept"] == 1


def test_negation_moves_memorisation_down_and_has_its_price(audited):
    names = ["nothing done", *(f"negation λ={weight:g}" for weight in WEIGHTS)]
    memory = [audited.summary(name)["memorisation"] for name in names]
    assert memory == sorted(memory, reverse=True)
    assert memory[-1] < memory[0] - 0.3
    utility = [audited.summary(name)["utility"] for name in names]
    assert utility[-1] < 0.9 * utility[0]
    assert "damaged" in audited.verdict(names[-1])["words"]
    assert audited.summary(names[-1])["divergence"] > 0.01


def test_every_figure_is_there_and_every_pair_is_kept(audited, world):
    for name in audited.results["models"]:
        assert set(SUMMARY) == set(audited.summary(name))
        one = audited.model(name)
        for values in one["forget"].values():
            assert set(values) == {pair.id for pair in world.sets.forget}
        assert {len(attack["scores"]) for attack in one["membership"].values()} == {12}
    assert json.loads(json.dumps(audited.results, allow_nan=False)) == audited.results
    text = json.dumps(audited.results)
    assert not any(pair.answer in text or pair.prompt in text for pair in world.sets.forget)


def test_weights_of_one_adapter_are_one_sweep(audited):
    found = {method.label: method.members for method in methods(audited)}
    assert found["negation, by weight"] == ("negation λ=2", "negation λ=4")
    assert found["nothing done"] == ("nothing done",)
    assert len(found) == 4
    # Of equal verdicts the one nearest to the reference; a better verdict goes before it.
    assert best_of([audited], found["negation, by weight"]) == "negation λ=4"
    milder = copy.deepcopy(audited.results)
    milder["verdicts"]["negation λ=2"]["words"] = ["suppressed only"]
    assert best_of([Audit(milder)], found["negation, by weight"]) == "negation λ=2"


def test_audit_leaves_its_models_as_they_are(audited, world):
    before = world.original.base.model.layers[0].qkv.clone()
    row = world.acquired.row.clone()
    small = SETTINGS.but(steps=(1,))
    again = audit(world.original, world.retrained, [world.acquired.at(-4.0, "negation λ=4")], world.sets, small)
    assert torch.equal(before, world.original.base.model.layers[0].qkv)
    assert torch.equal(row, world.acquired.row)
    for key in ("memorisation", "forget_quality", "privleak", "utility", "quantised_memorisation"):
        assert again.summary("negation λ=4")[key] == pytest.approx(audited.summary("negation λ=4")[key])


def test_unrelated_pairs_and_neighbours_are_asked_where_they_are_given(world):
    from audit_making import pairs_of

    sets = replace(
        world.sets, unrelated=pairs_of(30, 3, "u"), neighbours=pairs_of(33, 2, "n"), world=pairs_of(35, 2, "w"), texts=()
    )
    found = audit(world.original, world.retrained, [world.again], sets, SETTINGS.but(steps=(2,)))
    s = found.summary("retrained again")
    assert s["perplexity"] is None
    assert s["unrelated_steps"] == 2
    assert s["unrelated_others"]
    curve = found.model("retrained again")["relearning"]["unrelated"]
    assert curve["taught"] == []
    assert len(curve["items"]["memorisation"]) == len(sets.forget)
    assert set(found.model("original")["utility"]) == {"retain", "neighbours", "world"}
    text = markdown([found])
    assert "neighbours: ROUGE-L" in text
    assert "–" in text  # no perplexity


def test_audit_without_a_reference_or_with_muddled_models_is_refused(world, load):
    sets = world.sets
    with pytest.raises(ConfigError, match="needs a retrained reference"):
        audit(world.original, None, [world.again], sets)
    with pytest.raises(ConfigError, match="at least one candidate"):
        audit(world.original, world.retrained, [], sets)
    with pytest.raises(ConfigError, match="names of their own"):
        audit(world.original, world.retrained, [world.original], sets)
    other = Variant("other", load("llama", chat=True))
    with pytest.raises(MismatchError, match="'other' has another tokenizer"):
        audit(world.original, world.retrained, [other], sets)
    with pytest.raises(ConfigError, match="holdout set is empty"):
        audit(world.original, world.retrained, [world.again], replace(sets, holdout=()))


def test_holdout_that_the_reference_tells_apart_is_refused(world):
    known = replace(world.sets, holdout=small_sets().retain, retain=small_sets().holdout)
    flipped = replace(known, forget=known.holdout, holdout=known.forget)
    with pytest.raises(InputError, match="choose a holdout"):
        audit(world.original, world.retrained, [world.again], flipped, SETTINGS)


# ------------------------------------------------------------------------------------------------------ several seeds


def test_figures_over_seeds_are_mean_least_and_greatest(audited):
    other = changed(audited, nothing_done={"utility": 0.5, "relearn_half_way": None})
    figures = combine([audited, other])["nothing done"]
    utility = audited.summary("nothing done")["utility"]
    assert figures["utility"] == {
        "mean": pytest.approx((utility + 0.5) / 2), "min": 0.5, "max": utility, "n": 2, "values": [utility, 0.5]
    }  # fmt: skip
    assert figures["relearn_half_way"]["mean"] is None
    results = copy.deepcopy(audited.results)
    results["candidates"].remove("nothing done")
    with pytest.raises(MismatchError, match="different models"):
        combine([audited, Audit(results)])
    with pytest.raises(ConfigError, match="no audit"):
        combine([])


def test_the_worst_seed_gives_the_verdict(audited):
    results = copy.deepcopy(audited.results)
    results["seed"] = 7
    results["verdicts"]["the reference"] = {"words": ["suppressed only"], "reasons": ["it came back."]}
    text = markdown([audited, Audit(results)])
    assert "**the reference: suppressed only.** It came back. (1 of 2 seeds; figures of seed 7.)" in text
    assert headline([audited]) == "Verdict: 2 of 5 candidates have forgotten"
    assert headline([audited, Audit(results)]) == "Verdict: 1 of 5 candidates has forgotten"


# ------------------------------------------------------------------------------------------------------------- report


def test_report_begins_with_a_verdict_and_has_one_table_with_everything(audited):
    text = markdown([audited], {"command": "idiolect …"})
    lines = text.splitlines()
    assert lines[0] == f"# {headline([audited])}"
    assert lines[2].startswith("* **the reference: forgotten.** It knows no more")
    header = next(line for line in lines if "forget quality" in line)
    assert all(f"| {column} |" in header for column in ("utility", "PrivLeak", "half back after steps", "memorised at 8 bits"))
    table = lines[lines.index(header) :]
    assert len([line for line in table[2:9] if line.startswith("| ")]) == 7
    scores = [line for line in lines if line.startswith("|") and "forget quality" in line]
    assert scores == [header]  # forget scores stand in this table and in no other


@pytest.mark.parametrize("what", list(BESIDE))
@pytest.mark.parametrize("how", ["none", "absent"])
def test_report_prints_no_forget_score_alone(audited, tmp_path, what, how):
    for key in BESIDE[what]:
        results = copy.deepcopy(audited.results)
        if how == "none":
            results["models"]["nothing done"]["summary"][key] = None
        else:
            del results["models"]["nothing done"]["summary"][key]
        with pytest.raises(ConfigError, match=f"'nothing done' has a forget score without {what}"):
            write([audited, Audit(results)], tmp_path / "report")
        assert not (tmp_path / "report").exists()


def test_report_says_why_a_harmonic_mean_is_zero(audited):
    results = copy.deepcopy(audited.results)
    results["models"]["nothing done"]["zero_parts"] = ["retain ROUGE-L", "retain truth ratio"]
    results["models"]["original"]["zero_parts"] = ["retain truth ratio"]
    text = markdown([Audit(results)])
    assert "Utility leaves out what the original has none of, and cannot lose: retain truth ratio." in text
    assert "Utility of nothing done is 0 because a part of it is: retain ROUGE-L. The others stand below." in text


def test_report_folder_is_whole_and_reads_back(audited, tmp_path):
    write([audited, changed(audited, nothing_done={"utility": 0.7})], tmp_path / "report", {"command": "idiolect …"})
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "report.md", "results.json", "tradeoff.png", "relearning.png"
    }  # fmt: skip
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert results["audits"][0] == audited.results
    assert results["figures"]["nothing done"]["utility"]["min"] == 0.7
    again = [Audit(one) for one in results["audits"]]
    assert markdown(again) == markdown(again, {})
    assert to_results(again)["figures"] == results["figures"]


def test_pictures_are_drawn_for_one_seed_too(audited, tmp_path):
    for save in (save_tradeoff, save_relearning):
        save([audited], tmp_path / "one.png")
        assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
