"""What a study of portraits leaves behind: results.json and report.md. Figures only; nobody's words, and no names.

Verdicts stand first. An offer rests on one player's few held-out items, so that some are luck; the table over subjects, with an
interval of the mean difference, tells whether adapters help on the whole, and honest minds, with no taste that carries over
from one base word to another, how many offers to expect where there is nothing personal to learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from idiolect.evals.folder import doing_it_again, pipe_table, publish, seconds_text, write_results, write_text
from idiolect.evals.metrics import METRICS
from idiolect.evals.stats import mean_interval, sign_flip_p
from idiolect.game.minds import MindKind
from idiolect.game.retest import Retest, document
from idiolect.portraits.drawing import RULE, TASKS
from idiolect.portraits.measuring import MIN_TEST
from idiolect.portraits.study import Found, Plan

ARMS = ("population", "before", "after")
GAINS = {"over_population": "population", "over_before": "before"}
"""Name of a difference → what is taken from "after"."""
_NAMES = {"population": "most people", "before": "before", "after": "after"}
_TASTELESS: MindKind = "honest"
_TASTELESS_NOTE = "what sets them apart is another thing for each base word, so that an offer is luck, or what all share"

Results = Mapping[str, Any]
"""The content of `results.json`."""


def write(found: Found, plan: Plan, folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Write both files, all or none, and return what `results.json` holds.

    Args:
        about: "base", "command", "hardware", "versions", and settings of the drawing.

    Raises:
        StoreError: the folder cannot be written.
    """
    results = summarize(found, plan, about)
    text = markdown(results)

    def fill(staged: Path) -> None:
        write_text(staged / "report.md", [text])
        write_results(staged, results)

    publish(folder, fill)
    return results


# ------------------------------------------------------------------------------------------------------------ figures


def summarize(found: Found, plan: Plan, about: Mapping[str, Any]) -> dict[str, Any]:
    """All figures. "tasks" is over all subjects of all seeds whose adapter was trained for that task."""
    subjects = found.subjects
    tasks = {task: one for task in TASKS if (one := _task(subjects, task)) is not None}
    return {
        "study": "portraits",
        "verdict": _verdict(subjects, tasks),
        "base": about["base"],
        "seeds": list(plan.seeds),
        "n_subjects": len(subjects),
        "n_trained": sum(one["trained"] for one in subjects),
        "n_offered": sum(one["offered"] for one in subjects),
        "rule": RULE,
        "kinds": {kind: _of_kind(subjects, kind) for kind in dict.fromkeys(one["kind"] for one in subjects)},
        "tasks": tasks,
        "retest": _retests(found.retests),
        "subjects": list(subjects),
        "settings": {**plan.document(), **about["settings"]},
        "command": about["command"],
        "versions": dict(about["versions"]),
        "hardware": dict(about["hardware"]),
        "seconds": round(found.seconds, 2),
    }


def _of_kind(subjects: Sequence[Results], kind: str) -> dict[str, int]:
    of_kind = [one for one in subjects if one["kind"] == kind]
    names = ("trained", "offered")
    return {"n_subjects": len(of_kind), **{f"n_{name}": sum(one[name] for one in of_kind) for name in names}}


def _task(subjects: Sequence[Results], task: str) -> dict[str, Any] | None:
    """One task over subjects; None where nobody's adapter was trained for it."""
    held = {f"{one['seed']}/{one['subject']}": one["tasks"][task] for one in subjects if task in one["tasks"]}
    drawn = {name: one for name, one in held.items() if one["trained"]}
    if not drawn:
        return None
    return {
        "n_subjects": len(drawn),
        "n_train": sum(one["n_train"] for one in drawn.values()),
        "n_test": sum(one["n_test"] for one in drawn.values()),
        "n_offered": sum(one["offered"] for one in drawn.values()),
        "chance": next(iter(drawn.values()))["chance"],
        "scores": {arm: _spread([one["scores"][arm] for one in drawn.values()]) for arm in ARMS},
        **{gain: _difference(drawn, other) for gain, other in GAINS.items()},
    }


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, standard deviation, least and greatest over subjects."""
    sd = stdev(values) if len(values) > 1 else None
    figures = {"mean": fmean(values), "sd": sd, "least": min(values), "greatest": max(values)}
    return {name: None if value is None else round(value, 4) for name, value in figures.items()}


def _difference(drawn: Mapping[str, Results], other: str) -> dict[str, Any]:
    """Mean over subjects of after - other, each counting once: 95 % bootstrap interval over subjects, sign-flip p."""
    apart = {name: one["scores"]["after"] - one["scores"][other] for name, one in drawn.items()}
    low, high = mean_interval(apart) or (None, None)
    p = sign_flip_p(np.array(list(apart.values()))) if len(apart) > 1 else None
    figures = {"delta": fmean(apart.values()), "low": low, "high": high, "p": p}
    return {name: None if value is None else round(value, 4) for name, value in figures.items()} | {"n": len(apart)}


def _retests(retests: Sequence[tuple[str, Retest]]) -> dict[str, Any]:
    """Test and retest by kind of mind."""
    return {kind: document([one for of, one in retests if of == kind])["all"] for kind in dict.fromkeys(k for k, _ in retests)}


def _verdict(subjects: Sequence[Results], tasks: Mapping[str, Results]) -> str:
    """What came of it in one or two sentences."""
    n, offered = len(subjects), sum(one["offered"] for one in subjects)
    if not any(one["trained"] for one in subjects):
        return f"No adapter was trained: all histories of simulated players ({n}) are too short"
    if not offered:
        return (
            f"No adapter was offered: for none of {n} simulated players did one beat most people, the shared adapter and chance"
        )
    by_task = ", ".join(f"{task} {one['n_offered']} of {one['n_subjects']}" for task, one in tasks.items())
    clear = [task for task, one in tasks.items() if all((one[gain]["low"] or 0) > 0 for gain in GAINS)]
    whole = ", ".join(clear) if clear else "no task"
    return (
        f"An adapter was offered to {offered} of {n} simulated players ({by_task}); on average over players, adapters are "
        f"clearly above both most people and the shared adapter in {whole}"
    )


# --------------------------------------------------------------------------------------------------------------- text


def markdown(results: Results) -> str:
    """The text of `report.md`."""
    seeds = ", ".join(map(str, results["seeds"]))
    settings = results["settings"]
    each = f"{settings['rounds']} rounds of words and {settings['judge_rounds']} of Nym or Not"
    parts = [
        f"# {results['verdict']}",
        f"On {results['base']}, seeds {seeds}. For each: subjects ({settings['subjects']}) and teachers "
        f"({settings['teachers']}), all simulated, with {each} each. {seconds_text(results['seconds'])} in all.",
        "\n".join(_kind_line(kind, one) for kind, one in results["kinds"].items()),
        "## By task",
        _task_table(results["tasks"]) if results["tasks"] else "No adapter was trained for any task.",
        "## Test and retest",
        _retest_table(results["retest"]) if results["retest"] else "No base word came back to anybody after a week.",
        "## Every subject",
        _subject_table(results["subjects"]),
        "## How to read it",
        _reading(results),
        *doing_it_again(results),
    ]
    return "\n\n".join(parts) + "\n"


def _kind_line(kind: str, one: Results) -> str:
    lucky = f"; {_TASTELESS_NOTE}" if kind == _TASTELESS else ""
    return f"* {kind}: {one['n_offered']} of {one['n_subjects']} were offered an adapter, {one['n_trained']} trained{lucky}."


def _task_table(tasks: Mapping[str, Results]) -> str:
    rows = [
        [task, f"{one['n_subjects']}", f"{one['n_test']}", *(_mean(one["scores"][arm]) for arm in ARMS),
         *(_gain(one[gain]) for gain in GAINS), f"{one['chance']:.2f}", f"{one['n_offered']}"]
        for task, one in tasks.items()
    ]  # fmt: skip
    arms = [_NAMES[arm] for arm in ARMS]
    gains = [f"after - {_NAMES[other]} [95 %]" for other in GAINS.values()]
    return pipe_table(["task", "subjects", "items", *arms, *gains, "chance", "offered"], rows)


def _mean(spread: Results) -> str:
    sd = "" if spread["sd"] is None else f" ± {spread['sd']:.3f}"
    return f"{spread['mean']:.3f}{sd}"


def _gain(gain: Results) -> str:
    ends = "" if gain["low"] is None else f" [{gain['low']:+.3f}, {gain['high']:+.3f}]"
    return f"{gain['delta']:+.3f}{ends}" + ("" if gain["p"] is None else f", p {gain['p']:.3f}")


def _retest_table(retest: Mapping[str, Results]) -> str:
    rows = [
        [kind, f"{one['n_pairs']}", f"{one['n_players']}", f"{one['within']:.3f}", f"{one['between']:.3f}",
         f"{one['difference']:+.3f}" + ("" if one["low"] is None else f" [{one['low']:+.3f}, {one['high']:+.3f}]"),
         "yes" if one["clear"] else "no"]
        for kind, one in retest.items()
    ]  # fmt: skip
    return pipe_table(["kind", "words", "players", "S_w", "S_b", "S_w - S_b [95 %]", "clear"], rows)


def _subject_table(subjects: Sequence[Results]) -> str:
    rows = [
        [f"{one['seed']}/{one['subject']}", one["kind"], f"{one['n_items']}", *(_cell(one["tasks"].get(t)) for t in TASKS),
         "yes" if one["offered"] else "no", f"{one['seconds']:.0f}"]
        for one in subjects
    ]  # fmt: skip
    return pipe_table(["seed/subject", "kind", "items", *TASKS, "offered", "s"], rows, n_text=2)


def _cell(task: Results | None) -> str:
    """most people / before / after of one subject; a star where the adapter was offered."""
    if task is None:
        return "–"
    scores = " / ".join(f"{task['scores'][arm]:.2f}" if arm in task["scores"] else "–" for arm in ARMS)
    return scores + (" *" if task["offered"] else "")


def _reading(results: Results) -> str:
    return "\n".join(
        (
            "* *most people*: what most others would have said, without the subject and as of then. *before*: the shared "
            "adapter, with the subject's own earlier items in the prompt. *after*: the same with the subject's own adapter.",
            "* NYM-1: whether a pair holds, NYM-2: which answer came first (both accuracy), NYM-3: the list of answers "
            f"({METRICS['list'][0]}). Measured on the last fifth of a history, on base words that are not in the rest of it; "
            f"with fewer than {MIN_TEST} items a task is not measured.",
            "* By task: mean ± standard deviation over subjects; differences are paired, each subject counts once, and the "
            "interval draws subjects (bootstrap). *p*: paired sign-flip test over subjects, not corrected for six comparisons.",
            f"* An adapter is offered {results['rule']}; no interval decides, so with few items some offers are luck.",
            "* Every subject: most people / before / after, a star where that task's adapter was offered. The first subject of "
            "a seed waits for the shared adapters.",
            "* S_w: likeness of a player's two answers to one base word, a week or more apart; S_b: of their first answers and "
            "others' first answers to it. *clear*: the difference is above 0.05 with its interval above 0.",
            "* A mind of any kind thinks of nearly the same words each time, so that test and retest may be clear where no "
            "taste carries over to other base words, which is what an adapter would have to learn.",
            "* Simulated players are no model of people: this shows what the machinery does with known tastes, and tells "
            "nothing of how real players answer.",
        )
    )
