"""The audit of approximate unlearning: what is gone, what is only hidden, and what else went with it.

    original    ─┐              ┌─ forget set: truth ratios against the retrained reference's, memorisation, ROUGE-L
    retrained   ─┼─ every one ──┼─ utility on what should stay, divergence from the original, perplexity
    candidates  ─┘              ├─ membership inference against a holdout, PrivLeak
                                ├─ relearning, beside the retrained reference given the same
                                └─ all of it again with weights of 8 bits

Without a retrained reference there is no audit: nothing here has a default in its place. Every pair's values are kept, so that
means over seeds and other intervals can be made of them.

Sources: Maini et al. 2024 (TOFU), arXiv:2401.06121; Shi et al. 2024 (MUSE), arXiv:2407.06460; Dorna et al. 2025
(OpenUnlearning), arXiv:2506.12618.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from idiolect.errors import ConfigError, InputError, MismatchError
from idiolect.evals.plan import OnStage, silent
from idiolect.types import Rendered
from idiolect.unlearn.findings import UTILITY, Audit, AuditSettings
from idiolect.unlearn.measuring import (
    TokenScores,
    divergences,
    exact_memorisation,
    extraction_strength,
    forget_quality,
    generate,
    harmonic_mean,
    perplexity,
    probability,
    rouge_l,
    token_scores,
    truth_ratio,
    utility_parts,
    values_of,
)
from idiolect.unlearn.membership import check_reference, leaks, member_scores
from idiolect.unlearn.quantising import quantised
from idiolect.unlearn.relearning import Curve, Excess, ahead, excess, half_way, relearn, taught_part
from idiolect.unlearn.rendering import Asked, ask, with_wrong
from idiolect.unlearn.sets import Sets
from idiolect.unlearn.variants import Variant
from idiolect.unlearn.verdict import judge


def audit(
    original: Variant,
    retrained: Variant | None,
    candidates: Sequence[Variant],
    sets: Sets,
    settings: AuditSettings | None = None,
    on_stage: OnStage = silent,
) -> Audit:
    """Audit candidates beside the original and a model that was trained without the forget set.

    Args:
        original: knows the forget set.
        retrained: taught the same without it.
        candidates: names all different. Several weights of one adapter (`Variant.at`) are one sweep in the report.

    Raises:
        ConfigError: no reference, no candidate, names twice, or sets that no audit can be made of.
        MismatchError: models of different tokenizers.
        InputError: pairs that do not fit, or a holdout that the reference can tell from the forget set.
    """
    if retrained is None:
        raise ConfigError("an audit needs a retrained reference; train one on everything but the forget set")
    began = time.monotonic()
    _check_models((original, retrained, *candidates))
    sets.check()
    run = _Run(original, retrained, candidates, sets, settings or AuditSettings())
    results = run.all(on_stage)
    return Audit({**results, "seconds": round(time.monotonic() - began, 2)})


def _check_models(models: Sequence[Variant]) -> None:
    names = [model.name for model in models]
    if len(models) < 3:
        raise ConfigError("an audit needs at least one candidate beside the original and the retrained reference")
    if len(set(names)) < len(names):
        raise ConfigError(
            f"models to audit need names of their own, not {', '.join(sorted(n for n in names if names.count(n) > 1))}"
        )
    for model in models[1:]:
        if model.base.tokenizer.digest != models[0].base.tokenizer.digest:
            raise MismatchError(
                f"model {model.name!r} has another tokenizer or chat template than {models[0].name!r}; the same answer is "
                "other tokens there, and cannot be compared"
            )


class _Run:
    """One audit in the making."""

    def __init__(
        self, original: Variant, retrained: Variant, candidates: Sequence[Variant], sets: Sets, settings: AuditSettings
    ) -> None:
        self.original, self.retrained, self.candidates, self.settings = original, retrained, candidates, settings
        self.models = (original, retrained, *candidates)
        self.texts = sets.texts
        self.left_out: dict[str, list[str]] = {}
        self.drawn: dict[str, int] = {}
        self.forget = self._ask("forget", sets.forget)
        self.kept = {name: self._ask(name, pairs) for name, pairs in sets.kept.items()}
        bare = [replace(pair, paraphrases=(), wrong=()) for pair in sets.holdout]
        self.holdout = self._ask("holdout", bare, wrong=False)
        self.unrelated = self._ask("unrelated", sets.unrelated, wrong=False) if sets.unrelated else []
        if len(self.forget) < 2:
            raise InputError("fewer than two pairs of the forget set fit; raise max_tokens or the room for answers")
        self.taught = taught_part([a.pair for a in self.forget], settings.relearn_share, settings.seed)
        self.found: dict[str, dict[str, Any]] = {}
        self.reference: list[TokenScores] = []
        self.curves: dict[str, dict[str, Curve]] = {}

    def _ask(self, name: str, pairs: Sequence[Any], *, wrong: bool = True) -> list[Asked]:
        s = self.settings
        if wrong:
            pairs, self.drawn[name] = with_wrong(pairs, s.n_wrong, s.seed)
        return ask(self.original.base, pairs, max_tokens=s.max_tokens, room=s.room, left_out=self.left_out.setdefault(name, []))

    def all(self, on_stage: OnStage) -> dict[str, Any]:
        """Every model through every part; the content of results."""
        step = on_stage("measuring", len(self.models))
        for done, model in enumerate(self.models, 1):
            self._measure(model)
            step(done, model.name, None)
        step = on_stage("relearning and 8 bits", len(self.models))
        for done, model in enumerate(self.models, 1):
            self._try_to_bring_back(model)
            step(done, model.name, None)
        for model in self.models:
            self.found[model.name]["summary"] = self._summary(model)
        return self._results()

    # -- one model as it is ----------------------------------------------------------------------------------------

    def _measure(self, model: Variant) -> None:
        forget = self._knowledge(model, self.forget)
        kept = {name: self._knowledge(model, asked) for name, asked in self.kept.items()}
        utility = {name: utility_parts(items) for name, items in kept.items()}
        rows = [a.right for a in self.kept["retain"]]
        s = self.settings
        zero = [f"{name} {UTILITY[part]}" for name, parts in utility.items() for part, v in parts.items() if v == 0]
        if model is self.original and len(zero) == len(UTILITY) * len(utility):
            raise InputError(
                "the original knows nothing of what should stay, so no utility can be lost; choose another retain set"
            )
        self.found[model.name] = {
            "role": self._role(model),
            "weight": model.weight,
            "sweep": self._sweep(model),
            "forget": forget,
            "kept": kept,
            "utility": utility,
            "zero_parts": zero,
            "divergence": float(divergences(self.original, model, rows, s.token_budget).mean()),
            "perplexity": perplexity(model, self.texts, s.window, s.token_budget) if self.texts else None,
            "membership": self._membership(model),
        }

    def _knowledge(self, model: Variant, asked: Sequence[Asked], *, generated: bool = True) -> dict[str, dict[str, float]]:
        """{measure: {pair id: value}}."""
        scores = iter(token_scores(model, [row for a in asked for row in a.rows], self.settings.token_budget))
        answers = generate(model, [a.right for a in asked], self.settings.room) if generated else None
        found: dict[str, dict[str, float]] = {}
        for i, a in enumerate(asked):
            right, *others = [next(scores) for _ in a.rows]
            n = len(a.paraphrases)
            values = {
                "memorisation": exact_memorisation(right),
                "extraction": extraction_strength(right),
                "probability": probability(right),
                "truth_ratio": truth_ratio(others[n:], others[:n] or [right]),
            }
            if answers is not None:
                values["rouge"], values["rouge_f"] = rouge_l(a.pair.answer, answers[i])
            for measure, value in values.items():
                found.setdefault(measure, {})[a.pair.id] = value
        return found

    def _membership(self, model: Variant) -> dict[str, Any]:
        asked, s = [*self.forget, *self.holdout], self.settings
        rows, texts = [a.right for a in asked], [a.pair.answer for a in asked]
        if not self.reference:
            self.reference = token_scores(self.retrained, rows, s.token_budget)
        mine, theirs = (
            member_scores(scores, texts, self.reference, s.min_k)
            for scores in (token_scores(model, rows, s.token_budget), self.reference)
        )
        member = np.arange(len(asked)) < len(self.forget)
        group = np.array([a.pair.group or f"\0{i}" for i, a in enumerate(asked)])
        check_reference(theirs, member, s.attack)
        found = leaks(mine, theirs, member, group, s.seed, s.n_resamples)
        keys = [f"{'forget' if m else 'holdout'}/{a.pair.id}" for a, m in zip(asked, member.tolist(), strict=True)]
        return {
            name: {**asdict(leak), "scores": dict(zip(keys, mine[name].tolist(), strict=True))} for name, leak in found.items()
        }

    # -- after relearning, and with few bits -----------------------------------------------------------------------

    def _try_to_bring_back(self, model: Variant) -> None:
        base, s = model.merged(), self.settings
        rows = [a.right for a in self.forget]
        teach: dict[str, Sequence[Rendered]] = {"forget": [row for row in rows if row.id in self.taught]}
        if self.unrelated:
            teach["unrelated"] = [replace(a.right, id=f"\0{a.right.id}") for a in self.unrelated]
        self.curves[model.name] = {
            name: relearn(base, taught, rows, s.relearn, s.steps, s.token_budget) for name, taught in teach.items()
        }
        small = Variant(model.name, quantised(base, 8))
        self.found[model.name]["relearning"] = {name: _plain(curve) for name, curve in self.curves[model.name].items()}
        self.found[model.name]["quantised"] = {
            "bits": 8,
            "forget": self._knowledge(small, self.forget, generated=False),
            "retain": self._knowledge(small, self.kept["retain"], generated=False),
        }

    # -- what is said of it ----------------------------------------------------------------------------------------

    def _summary(self, model: Variant) -> dict[str, Any]:
        mine, original = self.found[model.name], self.found[self.original.name]
        reference = self.found[self.retrained.name]["forget"]
        memory, theirs, first = (values_of(x, "memorisation") for x in (mine["forget"], reference, original["forget"]))
        lead = float(first.mean() - theirs.mean())
        quality, distance = forget_quality(values_of(mine["forget"], "truth_ratio"), values_of(reference, "truth_ratio"))
        above = excess(memory, theirs, lead)
        utility, ideal, full = (self._utility(m) for m in (model, self.retrained, self.original))
        leak = mine["membership"][self.settings.attack]
        means = {name: float(values_of(mine["forget"], name).mean()) for name in mine["forget"] if name != "truth_ratio"}
        return {
            "lead": lead,
            **means,
            "truth_ratio": float(np.median(values_of(mine["forget"], "truth_ratio"))),
            "forget_quality": quality,
            "distance": distance,
            "excess": above.share,
            "excess_error": above.error,
            "utility": utility,
            "utility_kept": utility / full,
            "divergence": mine["divergence"],
            "perplexity": mine["perplexity"],
            "perplexity_kept": self._perplexity_kept(model),
            "reference_utility": ideal / full,
            "reference_perplexity": self._perplexity_kept(self.retrained),
            **{key: leak[key] for key in ("auc", "privleak", "privleak_low", "privleak_high")},
            **self._returning(model, lead, theirs, float(first.mean())),
        }

    def _returning(self, model: Variant, lead: float, reference: np.ndarray, original: float) -> dict[str, Any]:
        curves, theirs = self.curves[model.name], self.curves[self.retrained.name]
        tolerance = self.settings.rules.tolerance
        small, small_reference = (self.found[m.name]["quantised"]["forget"] for m in (model, self.retrained))
        memory = values_of(small, "memorisation")
        above = excess(memory, values_of(small_reference, "memorisation"), lead)
        found: dict[str, Any] = {"relearn_half_way": half_way(curves["forget"], float(reference.mean()), original)}
        for prefix, name in (("relearn", "forget"), ("unrelated", "unrelated")):
            one = ahead(curves[name], theirs[name], lead, tolerance) if name in curves else None
            found |= _said(prefix, one)
        quality, _ = forget_quality(values_of(small, "truth_ratio"), values_of(small_reference, "truth_ratio"))
        return {
            **found,
            "quantised_memorisation": float(memory.mean()),
            "quantised_quality": quality,
            "quantised_excess": above.share,
            "quantised_error": above.error,
        }

    def _utility(self, model: Variant) -> float:
        """The mean of all parts but those that the original has none of: nobody can lose them, and they would make it 0."""
        owned, mine = (self.found[m.name]["utility"] for m in (self.original, model))
        return harmonic_mean([value for name, parts in mine.items() for part, value in parts.items() if owned[name][part] > 0])

    def _perplexity_kept(self, model: Variant) -> float | None:
        mine, original = (self.found[m.name]["perplexity"] for m in (model, self.original))
        return None if mine is None else mine / original

    def _results(self) -> dict[str, Any]:
        rules, names = self.settings.rules, [model.name for model in self.candidates]
        verdicts = {name: judge(self.found[name]["summary"], rules) for name in names}
        return {
            "base": self.original.base.name,
            "seed": self.settings.seed,
            "settings": self.settings.model_dump(mode="json"),
            "sets": {
                "forget": len(self.forget),
                "holdout": len(self.holdout),
                "unrelated": len(self.unrelated),
                **{name: len(asked) for name, asked in self.kept.items()},
                "texts": len(self.texts),
            },
            "left_out": {name: ids for name, ids in self.left_out.items() if ids},
            "wrong_drawn": {name: n for name, n in self.drawn.items() if n},
            "original": self.original.name,
            "retrained": self.retrained.name,
            "candidates": names,
            "models": self.found,
            "verdicts": {name: {"words": list(v.words), "reasons": list(v.reasons)} for name, v in verdicts.items()},
        }

    def _role(self, model: Variant) -> str:
        return "original" if model is self.original else "retrained" if model is self.retrained else "candidate"

    def _sweep(self, model: Variant) -> str | None:
        """The name of the first candidate with the same adapter, where there are several weights of it."""
        same = [m.name for m in self.candidates if _same_adapter(m, model)]
        return same[0] if len(same) > 1 and model.name in same else None


def _same_adapter(a: Variant, b: Variant) -> bool:
    if a.row is None or b.row is None or a.layout is None or b.layout is None:
        return False
    return a.row is b.row or (a.layout.key == b.layout.key and torch.equal(a.row.cpu(), b.row.cpu()))


def _said(prefix: str, one: Excess | None) -> dict[str, Any]:
    keys = (f"{prefix}_excess", f"{prefix}_error", f"{prefix}_steps", f"{prefix}_others")
    return dict.fromkeys(keys) if one is None else dict(zip(keys, (one.share, one.error, one.steps, one.others), strict=True))


def _plain(curve: Curve) -> dict[str, Any]:
    return {
        "steps": list(curve.steps),
        "taught": sorted(key for key in curve.taught if key in curve.items["memorisation"]),
        "means": {
            part: {measure: curve.mean(measure, taught=part == "taught") for measure in curve.items}
            for part in ("taught", "others")
        },
        "items": {measure: {key: list(values) for key, values in found.items()} for measure, found in curve.items.items()},
    }
