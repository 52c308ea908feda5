"""The folder that an evaluation leaves behind, and the table in the terminal.

    results.json        every figure, with seed, settings, versions, hardware and command
    predictions.jsonl   every answer; holds people's text, so folder and files are made for their owner only
    report.md           the same figures for reading
    plot.png            the same figures for looking at

The folder is made whole or not at all; see folder.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from idiolect.evals.arms import ARMS, NONPERS, PERPCS, RANDOM_GATES, title
from idiolect.evals.folder import doing_it_again, pipe_table, publish, seconds_text, write_results, write_text
from idiolect.evals.metrics import LOWER_IS_BETTER
from idiolect.evals.plot import save_plot
from idiolect.evals.results import Evaluation, headline, prediction_records, summarize

_CLEAR = 0.05
_TRIED = ("sharers", "strategy", "share_ratio", "k", "temperature", "combine")
_SHARERS_NOTE = (
    "Sharers are none of the targets, and not in the task adapter either. The pool is kept once for everybody, so neither its "
    "bytes nor its making stand in *bytes/person* and *s/person*."
)

_STUDY_NOTE = (
    "A seed decides the clusters that sharers are chosen from, the lots of sharing, the order in which gates are trained, and "
    "noise. The task adapter, and what each person's own adapter became, are the same in all conditions."
)

_LOSS_NOTE = (
    "Mean loss per token of the answer that the person gave, end of sequence included, under the model that answers for them. "
    "It tells arms apart where answers do not: where a small base's texts share hardly a word with the true ones, or where "
    "the likeliest answer stays the same."
)

Results = Mapping[str, Any]
"""The content of `results.json`."""

_NAMES = {
    "accuracy": "accuracy", "f1": "macro-F1", "mae": "MAE", "rmse": "RMSE", "rouge1": "ROUGE-1", "rougeL": "ROUGE-L",
    "recall@5": "recall@5", "jaccard": "Jaccard",
}  # fmt: skip


def write(evaluation: Evaluation, folder: Path) -> dict[str, Any]:
    """Write all files of the report, all or none, and return what `results.json` holds.

    Raises:
        StoreError: if the folder cannot be written.
        InputError, LabelError, MismatchError: where an arm cannot be scored; see `metrics.score`.
        DependencyMissing: if matplotlib or rouge-score is not installed.
    """
    results = summarize(evaluation)
    publish(folder, lambda staged: _fill(evaluation, results, staged))
    return results


def _fill(evaluation: Evaluation, results: Results, folder: Path) -> None:
    lines = (json.dumps(record, ensure_ascii=False, allow_nan=False) for record in prediction_records(evaluation))
    write_text(folder / "predictions.jsonl", (line + "\n" for line in lines))
    write_text(folder / "report.md", [markdown(results)])
    save_plot(evaluation, folder / "plot.png")
    write_results(folder, results)


def table(results: Results) -> Table:
    """The table of arms for the terminal: short names; no n (the title has it), intervals or bytes, to fit 80 columns."""
    made = Table(
        title=Text(_headline(results)),
        caption=Text("Δ: mean difference over queries, against non-personalised"),
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    columns = [column for column in _columns(results, interval=False) if column[0] not in ("n", "bytes/person")]
    for index, (header, _) in enumerate(columns):
        stacked = header.replace(" ", "\n").replace("/", "/\n")
        made.add_column(Text(stacked), justify="right" if index else "left", no_wrap=True, min_width=0 if index else 8)
    for name, arm in _ordered(results):
        made.add_row(Text(name), *(Text(cell(name, arm)) for _, cell in columns[1:]))
    return made


def markdown(results: Results) -> str:
    """The text of `report.md`."""
    parts = [
        *_gating_verdict(results),
        f"# {_headline(results)}",
        f"Seed {results['seed']}, {seconds_text(results['seconds'])} in all.",
        _arm_table(results),
        "![Arms, and the gain of each person](plot.png)",
        "## Every comparison",
        _versus_table(results),
        *_loss_section(results),
        *_floor_section(results["floors"]),
        *_pool_section(results["settings"].get("pieces", {})),
        *_study_section(results),
        "## How to read it",
        _reading(results),
        *doing_it_again(results),
    ]
    return "\n\n".join(parts) + "\n"


def _gating_verdict(results: Results) -> list[str]:
    """What the control says, where it was run: gates no better than random ones added nothing, and that stands first."""
    versus = results["arms"].get(PERPCS, {}).get("vs", {}).get(RANDOM_GATES)
    if versus is None:
        return []
    better = versus["delta"] < 0 if _metrics(results)[0] in LOWER_IS_BETTER else versus["delta"] > 0
    if better and versus["p_query"] < _CLEAR:
        return []
    tried = results["settings"].get("pieces", {}).get(ARMS[PERPCS].task_adapter, {})
    said = ", ".join(f"{name.replace('_', ' ')} {tried[name]}" for name in _TRIED if name in tried)
    if tried.get("strength", 1) != 1:
        said += f", strength {tried['strength']:g}"
    if "gates" in tried:
        said += f", gates of {tried['gates']['steps']} steps at {tried['gates']['learning_rate']:g}"
    figures = f"Δ {_delta(versus)}, p {_p(versus, 'p_query')} per query"
    cost = results["arms"][PERPCS].get("answer_loss", {}).get("vs", {}).get(RANDOM_GATES)
    if cost is not None:
        likelier = cost["delta"] < 0 and cost["p_query"] < _CLEAR
        figures += f"; {'but ' if likelier else ''}the true answers cost {_delta(cost)} nats a token, p {_p(cost, 'p_query')}"
    return [
        f"**Gating added nothing here**: Per-Pcs is not clearly better than random gates ({figures}). Tried: {said or '–'}."
    ]


def _pool_section(pieces: Mapping[str, Any]) -> list[str]:
    """What the arms of pieces were made from."""
    pools = [(name, pool) for name, pool in pieces.items() if "pool_bytes" in pool]
    if not pools:
        return []
    rows = [
        [name, f"{pool['sharers']} of {pool['sharers_wanted']}", f"{pool['candidates']:,}", f"{pool['pieces']:,}",
         f"{pool['pool_mib']:.2f}", f"{pool['k']}", f"{pool['temperature']:g}", f"{sum(pool['seconds'].values()):.1f}"]
        for name, pool in pools
    ]  # fmt: skip
    header = ["on", "sharers", "of candidates", "pieces", "pool MiB", "k", "T", "s to make"]
    return ["## Sharers", pipe_table(header, rows), _SHARERS_NOTE]


def _study_section(results: Results) -> list[str]:
    """What each condition of a study was run with."""
    study = results["settings"].get("study")
    if study is None:
        return []
    rows = []
    for name, pools in study["conditions"].items():
        arm, seeds = results["arms"][name], len(pools)
        low, high = arm.get("spread", [arm["metrics"][_metrics(results)[0]]] * 2)
        counts = sorted({pool["sharers"] for pool in pools})
        sharers = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"
        size = sum(pool["pool_mib"] for pool in pools) / seeds
        rows.append([name, f"{results['n_queries']:,}", f"{seeds}", sharers, f"{size:.2f}", f"{low:.3f}", f"{high:.3f}"])
    header = ["condition", "n", "seeds", "sharers", "pool MiB", "least of a seed", "greatest"]
    return ["## Conditions", pipe_table(header, rows), _STUDY_NOTE]


def _headline(results: Results) -> str:
    study = results["settings"].get("study")
    said = f"Study of {study['of']} · " if study else ""
    return said + headline(results["task"], results["base"], results["n_people"], results["n_queries"])


_Arm = Mapping[str, Any]
_Column = tuple[str, Callable[[str, _Arm], str]]


def _columns(results: Results, interval: bool = True) -> list[_Column]:
    """Header of each column, and what it makes of (name, arm)."""
    metrics = _metrics(results)
    return [
        ("arm", lambda name, arm: title(name)),
        ("n", lambda name, arm: f"{results['n_queries']:,}"),
        *((_metric_header(metric), _metric_cell(metric, interval and metric == metrics[0])) for metric in metrics),
        ("per person", lambda name, arm: f"{arm['per_person_mean']:.3f}"),
        ("Δ [95 %]" if interval else "Δ", lambda name, arm: _delta(arm["vs"].get(NONPERS), interval)),
        ("p query", lambda name, arm: _p(arm["vs"].get(NONPERS), "p_query")),
        ("p person", lambda name, arm: _p(arm["vs"].get(NONPERS), "p_person")),
        ("s/person", lambda name, arm: f"{arm['seconds'] / results['n_people']:.2f}"),
        ("bytes/person", lambda name, arm: f"{arm['bytes_per_person']:,.0f}"),
        ("invalid", lambda name, arm: f"{100 * arm['invalid_share']:.1f} %"),
    ]


def _metrics(results: Results) -> list[str]:
    return list(next(iter(results["arms"].values()))["metrics"])


def _metric_header(metric: str) -> str:
    return f"{_NAMES[metric]} {'↓' if metric in LOWER_IS_BETTER else '↑'}"


def _metric_cell(metric: str, spread: bool = False) -> Callable[[str, _Arm], str]:
    def cell(name: str, arm: _Arm) -> str:
        low_high = f" ({arm['spread'][0]:.3f}–{arm['spread'][1]:.3f})" if spread and "spread" in arm else ""
        return f"{arm['metrics'][metric]:.3f}{low_high}"

    return cell


def _ordered(results: Results) -> list[tuple[str, _Arm]]:
    """Arms in the order of the registry, then those of other names."""
    arms: Mapping[str, _Arm] = results["arms"]
    names = [name for name in ARMS if name in arms] + [name for name in arms if name not in ARMS]
    return [(name, arms[name]) for name in names]


def _arm_table(results: Results) -> str:
    columns = _columns(results)
    rows = [[cell(name, arm) for _, cell in columns] for name, arm in _ordered(results)]
    return pipe_table([header for header, _ in columns], rows)


def _versus_table(results: Results) -> str:
    rows = [
        [title(name), title(other), _delta(versus), _p(versus, "p_query"), _p(versus, "p_person")]
        for name, arm in _ordered(results)
        for other, versus in arm["vs"].items()
    ]
    return (
        pipe_table(["arm", "against", "Δ [95 %]", "p query", "p person"], rows, n_text=2) if rows else "Only one arm was run."
    )


def _loss_section(results: Results) -> list[str]:
    """What the true answers cost each arm."""
    found = [(name, arm["answer_loss"]) for name, arm in _ordered(results) if "answer_loss" in arm]
    if not found:
        return []
    rows = [
        [title(name), f"{loss['mean']:.3f}", title(other), _delta(versus), _p(versus, "p_query"), _p(versus, "p_person")]
        for name, loss in found
        for other, versus in (loss["vs"].items() or [("–", None)])
    ]
    header = ["arm", "nats per token ↓", "against", "Δ [95 %]", "p query", "p person"]
    return ["## What the true answers cost", pipe_table(header, rows), _LOSS_NOTE]


def _floor_section(floors: Mapping[str, Any]) -> list[str]:
    if not floors:
        return []
    return [
        "## Floors",
        "What is reached without any model:",
        "\n".join(f"* {name}: {_figures(value)}" for name, value in floors.items()),
    ]


def _figures(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{_NAMES.get(name, name)} {_figures(figure)}" for name, figure in value.items())
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _reading(results: Results) -> str:
    primary = _metrics(results)[0]
    direction = "lower is better, so a negative Δ is a gain" if primary in LOWER_IS_BETTER else "higher is better"
    return "\n".join(
        (
            f"* {_NAMES[primary]}: {direction}. Metrics pool all queries; *per person* averages within people, then over them.",
            "* Δ is the mean difference over queries, in the metric's own units; in the first table against non-personalised.",
            "* In brackets, the 95 % bootstrap interval of Δ, people drawn together with all their queries.",
            "* *p query*: paired sign-flip test over queries, for these people. *p person*: the same over people's mean "
            "differences; the one to trust for people not seen here. Two-sided, not corrected for the number of "
            "comparisons; 0.0002 is the smallest value that the resamples can give.",
            "* Intervals in the plot are of each arm alone. All arms answer the same queries, so judge by Δ, not by overlap.",
            "* An OPPU arm and its control share the task adapter and differ only in the user adapter. "
            "A gain over the stranger's adapter shows that it is this person's adapter that helps, not more training.",
            "* Arms that hang on a lot are means over seeds; in brackets, the least and the greatest of a seed.",
            "* *s/person*: seconds of training and answering, divided by people. *invalid*: answers that could not be read.",
            "* `predictions.jsonl` holds what people wrote: keep this folder as private as their histories.",
        )
    )


def _delta(versus: Mapping[str, Any] | None, interval: bool = True) -> str:
    if versus is None:
        return "–"
    ends = f" [{versus['ci'][0]:+.3f}, {versus['ci'][1]:+.3f}]" if interval and versus["ci"] else ""
    return f"{versus['delta']:+.3f}{ends}"


def _p(versus: Mapping[str, Any] | None, which: str) -> str:
    return "–" if versus is None else f"{versus[which]:.4f}"
