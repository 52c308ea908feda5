"""Studies of the method: one thing is varied, everything else stays, and every condition answers the same queries.

    everybody who shares in any condition ─ kept out of stage 1 ─▶ one task adapter ─▶ condition by condition, seed by seed

Sharers' adapters and gates are made once and used by every condition that needs them. A condition is an arm of its own in an
ordinary evaluation, beside the non-personalised one, so that figures, tests and report are the same.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from idiolect.errors import ConfigError
from idiolect.evals.arms import ARMS, NONPERS, OF_PIECES, PERPCS, parse_arms
from idiolect.evals.harness import evaluate
from idiolect.evals.plan import OnStage, Plan, silent
from idiolect.evals.pooling import Workshop
from idiolect.evals.results import ArmOutcome, Evaluation, mean_losses
from idiolect.model.base import Base
from idiolect.pieces.assemble import MAX_STRENGTH
from idiolect.pieces.select import Strategy
from idiolect.store.store import Store

Value = float | int | str | None
"""What a condition sets; None: all there is."""


@dataclass(frozen=True)
class Study:
    """One thing to vary.

    Attributes:
        of: what it is called in reports.
        values: the conditions that are run where nobody names others.
        read: a value from text.
        set: the plan with this value.
    """

    name: str
    of: str
    values: tuple[Value, ...]
    read: Callable[[str], Value]
    set: Callable[[Plan, Any], Plan]


def _pieces(**how: Callable[[Plan, Any], Any]) -> Callable[[Plan, Any], Plan]:
    """Sets one attribute of a plan's pieces."""
    ((name, change),) = how.items()
    return lambda plan, value: replace(plan, pieces=replace(plan.pieces, **{name: change(plan, value)}))


def _count(text: str) -> Value:
    return _within(int(text), 1)


def _count_or_all(text: str) -> Value:
    return None if text == "all" else _count(text)


def _positive(text: str) -> Value:
    return _within(float(text), sys.float_info.min)


def _strength(text: str) -> Value:
    return _within(float(text), sys.float_info.min, MAX_STRENGTH)


def _share(text: str) -> Value:
    return _within(float(text), 0, 1)


def _share_of_any(text: str) -> Value:
    return _within(float(text), sys.float_info.min, 1)


def _strategy(text: str) -> Value:
    if text not in get_args(Strategy):
        raise ValueError
    return text


def _within(value: Any, low: float, high: float = sys.float_info.max) -> Any:
    """The value, if it is between these. Raises ValueError, for what is no number too."""
    if not low <= value <= high:
        raise ValueError
    return value


STUDIES: Mapping[str, Study] = {
    study.name: study
    for study in (
        Study(
            "sharers", "the number of sharers", (5, 10, 20, 50), _count,
            _pieces(selection=lambda plan, n: plan.pieces.selection.but(n=n)),
        ),
        Study(
            "strategy", "how sharers are chosen",
            get_args(Strategy), _strategy,
            _pieces(selection=lambda plan, name: plan.pieces.selection.but(strategy=name)),
        ),
        Study(
            "ratio", "the share of pieces given", (0.2, 0.4, 0.6, 0.8, 1.0), _share_of_any,
            _pieces(consent=lambda plan, ratio: plan.pieces.consent.but(ratio=ratio)),
        ),
        Study(
            "k", "pieces per module", (1, 3, 5, 10), _count,
            _pieces(assembly=lambda plan, k: replace(plan.pieces.assembly, k=k)),
        ),
        Study(
            "temperature", "the temperature", (0.1, 0.3, 1.0, 3.0, 10.0), _positive,
            _pieces(assembly=lambda plan, t: replace(plan.pieces.assembly, temperature=t)),
        ),
        Study(
            "strength", "the strength of adapters", (0.25, 0.5, 0.75, 1.0), _strength,
            _pieces(assembly=lambda plan, s: replace(plan.pieces.assembly, strength=s)),
        ),
        Study(
            "history", "the newcomer's history", (1, 5, 10, 50, None), _count_or_all,
            lambda plan, n: replace(plan, max_history=n),
        ),
        Study(
            "noise", "foreign items in the newcomer's history", (0.0, 0.1, 0.25, 0.5, 1.0), _share,
            _pieces(noise=lambda _, share: share),
        ),
    )
}  # fmt: skip
"""Every study of quality; the cost curve is in cost.py."""


def get_study(name: str, values: str | None = None) -> tuple[Study, tuple[Value, ...]]:
    """A study and its conditions: those named (`1,3,all`), or its own.

    Raises:
        ConfigError: an unknown study, or a value that is none.
    """
    if name not in STUDIES:
        raise ConfigError(f"study {name!r} is not known; choose one of: {', '.join((*STUDIES, 'cost'))}")
    study = STUDIES[name]
    if values is None:
        return study, study.values
    try:
        if found := tuple(dict.fromkeys(study.read(word.strip()) for word in values.split(",") if word.strip())):
            return study, found
        raise ValueError
    except ValueError:
        raise ConfigError(
            f"values {values!r} do not suit the study {name!r}; it takes e.g. {_shown(study.values[0])}"
        ) from None


def run_study(
    base: Base,
    store: Store,
    plan: Plan,
    study: Study,
    values: Sequence[Value],
    *,
    on_stage: OnStage = silent,
    about: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Evaluate every condition with every seed of `plan.pieces.seeds`.

    Args:
        plan: its arms are run in each condition (default of the command line: Per-Pcs); non-personalised once.

    Raises:
        ConfigError: an arm that no condition of a study changes.
        EmptyHistory: as `evaluate`.
    """
    began = time.monotonic()
    arms = _varied(plan, study)
    workshop, seeds = Workshop(base, store), plan.pieces.seeds
    conditions = {_named(study, value): study.set(plan, value) for value in values}
    plans = {name: [_seeded(one, seed) for seed in seeds] for name, one in conditions.items()}
    apart = tuple(sorted({user for many in plans.values() for one in many for user in _sharers(workshop, one)}))
    plain = replace(plan, arms=(NONPERS,), pieces=replace(plan.pieces, apart=apart))
    first = evaluate(base, store, plain, on_stage=on_stage, about=about, workshop=workshop)
    outcomes: dict[str, ArmOutcome] = dict(first.arms)
    pools: dict[str, list[Mapping[str, Any]]] = {}
    for name, many in plans.items():
        kept_apart = (replace(one, arms=arms, pieces=replace(one.pieces, apart=apart)) for one in many)
        done = [evaluate(base, store, one, on_stage=on_stage, workshop=workshop) for one in kept_apart]
        for arm in arms:
            column = name if arm == PERPCS else f"{name} · {ARMS[arm].title}"
            outcomes[column] = _together([each.arms[arm] for each in done])
            pools[column] = [_pool(each, arm) for each in done]
    said = {"name": study.name, "of": study.of, "seeds": list(seeds), "apart": len(apart), "conditions": pools}
    return replace(first, arms=outcomes, seconds=round(time.monotonic() - began, 2), settings={**first.settings, "study": said})


def _varied(plan: Plan, study: Study) -> tuple[str, ...]:
    """The plan's arms, less what is run once."""
    arms = tuple(name for name in parse_arms(",".join(plan.arms)) if ARMS[name].user_adapter != "none")
    fixed = [name for name in arms if ARMS[name].user_adapter not in OF_PIECES and study.name != "history"]
    if fixed or not arms:
        raise ConfigError(
            f"the study {study.name!r} changes nothing about {', '.join(fixed) or 'these arms'}; give arms of pieces"
        )
    return arms


def _seeded(plan: Plan, seed: int) -> Plan:
    """The plan with everything of its pieces that is drawn, drawn by this seed."""
    p = plan.pieces
    return replace(
        plan,
        pieces=replace(
            p,
            selection=p.selection.but(seed=seed),
            consent=p.consent.but(seed=seed),
            gates=p.gates.but(seed=seed),
            assembly=replace(p.assembly, seed=seed),
            search=p.search.but(seed=seed),
            seeds=(seed,),
        ),
    )


def _sharers(workshop: Workshop, plan: Plan) -> Sequence[str]:
    return workshop.choose(plan.task, plan.targets, plan.pieces.selection).ids


def _together(outcomes: Sequence[ArmOutcome]) -> ArmOutcome:
    """One condition with several seeds as one arm; time and size are a seed's."""
    first, *others = (run for outcome in outcomes for run in outcome.runs)
    n = len(outcomes)
    seconds, size = sum(o.seconds for o in outcomes) / n, sum(o.bytes_per_person for o in outcomes) / n
    return ArmOutcome(first, seconds, size, tuple(others), mean_losses([outcome.losses for outcome in outcomes]))


def _pool(evaluation: Evaluation, arm: str) -> Mapping[str, Any]:
    variant = ARMS[arm].task_adapter
    return evaluation.settings.get("pieces", {}).get(variant, {"sharers": 0, "pool_mib": 0.0})


def _named(study: Study, value: Value) -> str:
    return f"{study.name} {_shown(value)}"


def _shown(value: Value) -> str:
    return "all" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
