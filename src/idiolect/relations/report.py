"""The report of a study: results.json, report.md and a picture. Figures only; no word of a benchmark or a player is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from idiolect.evals.folder import doing_it_again, pipe_table, publish, seconds_text, write_results, write_text
from idiolect.relations.classifier import TIERS
from idiolect.relations.links import CLASSES
from idiolect.relations.picture import save_picture
from idiolect.relations.study import PUBLISHED

Results = Mapping[str, Any]

_READING = (
    "* Native: a benchmark's own labels, words as written. Shared: oriented to (base, answer), to be told apart from hyper and "
    "holo as well; there macro-F1 is over the labels that are true somewhere, *real* without none.",
    "* The shared labels on the published split leave out training rows whose pair stands in a later part, in either order; "
    "native ones are just as published, repetitions included.",
    "* Lexical: no word of the test was seen in training, as base or as answer; each seed draws other words.",
    "* Direction: of pairs that have one, how often it is the likelier way round; chance is 0.5.",
    "* ECE: confidence against accuracy, 15 bins; a temperature was set on the validation part, and nothing else.",
    "* ± is the standard deviation over seeds; with one seed there is none.",
    "* The embedded base read WordNet's relations between words as plain text when it was trained, and the benchmarks draw on "
    "WordNet too: what tier 2 and 4 know of a pair may be what they read, on either split.",
    "* Published systems saw corpora of billions of words, or had 125 to 355 million parameters. Nothing of that size is here.",
)


def write(results: Results, folder: Path) -> None:
    """Leave results.json, report.md and, where tiers were compared, plot.png in the folder, all or none.

    Raises:
        StoreError: the folder cannot be written.
        DependencyMissing: matplotlib is not installed.
    """

    def fill(staged: Path) -> None:
        write_text(staged / "report.md", [markdown(results)])
        if results["cells"]:
            save_picture(results, staged / "plot.png")
        write_results(staged, results)

    publish(folder, fill)


def markdown(results: Results) -> str:
    """The text of report.md."""
    names = ", ".join(results["benchmarks"])
    parts = [
        f"# Which relation joins two words: {names}",
        f"{seconds_text(results['seconds'])} in all.",
        _gate(results),
        *_published(results),
        *(["![Weighted F1 by tier and split](plot.png)"] if results["cells"] else []),
        *_section(results, "native", "Own labels, both splits"),
        *_section(results, "shared", "Shared labels, both splits"),
        *_by_label(results),
        *_gain(results.get("gain")),
        "## How to read it",
        "\n".join(_READING),
        *doing_it_again(results),
    ]
    return "\n\n".join(parts) + "\n"


def cells(results: Results, labelling: str, split: str | None = None) -> list[Mapping[str, Any]]:
    """The cells of one labelling, and one split where it is named."""
    return [c for c in results["cells"] if c["labelling"] == labelling and split in (None, c["split"])]


def best_macro(results: Results) -> float | None:
    """The best macro-F1 on EVALution, shared labels, published split: what the gate asks for."""
    found = [c["mean"]["macro_f1"]["mean"] for c in cells(results, "shared", "published") if c["benchmark"] == "EVALution"]
    return max(found, default=None)


def _gate(results: Results) -> str:
    from idiolect.relations.candidates import GATE

    best = best_macro(results)
    if best is None:
        return "EVALution was not asked in the shared labels, so nothing can be said of the gate of candidates."
    verdict = "open" if best >= GATE else "shut: no candidate of these models is to be shown to players"
    return f"**Gate of candidates: {verdict}.** The best macro-F1 on EVALution is {best:.3f}; {GATE:.2f} is asked for."


def _published(results: Results) -> list[str]:
    found = cells(results, "native", "published")
    if not found:
        return []
    names = list(results["benchmarks"])
    rows = [[system, *(_plain(scores.get(name)) for name in names)] for system, scores in PUBLISHED.items()]
    mine: dict[str, dict[str, str]] = {}
    for cell in found:
        n = len(cell["seeds"])
        learnt = f"{n} seed{'s' if n > 1 else ''}, {cell['runs'][0]['n_train']:,} rows"
        said = f"{_spread(cell['mean']['weighted_f1'], n)} ({learnt})"
        mine.setdefault(cell["arm"], {})[cell["benchmark"]] = f"**{said}**"
    rows += [[f"tier {TIERS[arm]}", *(of.get(name, "–") for name in names)] for arm, of in mine.items()]
    said = "Weighted F1, the benchmark's own labels, published split."
    return ["## Beside published figures", said, pipe_table(["system", *names], rows)]


def _section(results: Results, labelling: str, title: str) -> list[str]:
    found = cells(results, labelling)
    if not found:
        return []
    shared = labelling == "shared"
    header = ["set", "split", "tier", "seeds", "n", "learnt from", "weighted F1", "macro-F1"]
    header += ["real", "direction", "ECE"] if shared else ["ECE"]
    return [f"## {title}", pipe_table(header, [_row(cell, shared) for cell in found], n_text=3), _dropped(found)]


def _row(cell: Mapping[str, Any], shared: bool) -> list[str]:
    mean, runs, n = cell["mean"], cell["runs"], len(cell["seeds"])
    more = [_spread(mean["macro_f1_real"], n), _spread(mean["direction"], n) if "direction" in mean else "–"] if shared else []
    counts = [f"{sum(run[name] for run in runs) / n:,.0f}" for name in ("n", "n_train")]
    return [
        cell["benchmark"], cell["split"], TIERS[cell["arm"]], str(n), *counts, _spread(mean["weighted_f1"], n),
        _spread(mean["macro_f1"], n), *more, f"{mean['ece']['mean']:.3f}",
    ]  # fmt: skip


def _dropped(found: Sequence[Mapping[str, Any]]) -> str:
    said = {}
    for cell in found:
        dropped = sum(run["dropped"] for run in cell["runs"]) / len(cell["runs"])
        said[f"{cell['benchmark']}, {cell['split']}"] = f"{dropped:,.0f}"
    return "Rows left out (mean over seeds): " + "; ".join(f"{name}: {n}" for name, n in said.items()) + "."


def _by_label(results: Results) -> list[str]:
    found = cells(results, "shared", "published")
    if not found:
        return []
    labels = [label for label in CLASSES if any(label in cell["mean"]["f1"] for cell in found)]
    rows = [
        [cell["benchmark"], TIERS[cell["arm"]], *(_plain(cell["mean"]["f1"].get(label, {}).get("mean")) for label in labels)]
        for cell in found
    ]
    said = "Shared labels, published split, mean over seeds."
    return ["## F1 of each relation", said, pipe_table(["set", "tier", *labels], rows, n_text=2)]


def _gain(gain: Mapping[str, Any] | None) -> list[str]:
    if gain is None:
        return []
    rows = []
    for arm, tests in gain["arms"].items():
        for name, found in tests.items():
            one, two, delta = found["without"], found["with"], found["mero_f1"]
            rows.append([
                TIERS[arm], name, f"{gain['n_tests'][name]:,}", f"{one['mero_f1']:.3f}", f"{two['mero_f1']:.3f}",
                f"{delta['delta']:+.3f} [{delta['low']:+.3f}, {delta['high']:+.3f}]",
                f"{one['mero_recall']:.3f} → {two['mero_recall']:.3f}",
                f"{one['mero_log_loss']:.3f} → {two['mero_log_loss']:.3f}",
                f"{one['macro_f1']:.3f} → {two['macro_f1']:.3f}",
                f"{one['spearman_votes']:.2f} → {two['spearman_votes']:.2f}" if "spearman_votes" in one else "–",
            ])  # fmt: skip
    header = ["tier", "asked", "n", "F1 of parts without", "with", "Δ [95 %]", "recall", "log loss", "macro-F1", "ρ to votes"]
    seeds = len(gain["seeds"])
    return [
        "## Gain from players' pairs",
        f"The same model without and with {gain['n_game_train']:,} pairs that players gave, beside {gain['n_train']:,} rows of "
        f"the benchmarks; {seeds} seeds. *game*: pairs of {gain['held_out_bases']:.0%} of the base words, from which nothing "
        "was learnt, and for each of them one of every kind that does not hold: its answer under another base, turned round, "
        "random. "
        f"{gain['n_left_out']:,} pairs were left out, since they stand in a benchmark. Intervals: paired bootstrap over "
        "base words.",
        pipe_table(header, rows, n_text=2),
    ]  # fmt: skip


def _spread(value: Mapping[str, float], n: int) -> str:
    return f"{value['mean']:.3f}" + (f" ± {value['sd']:.3f}" if n > 1 else "")


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
