"""The report of an audit: report.md, results.json and two pictures. Verdicts in plain words come first.

There is one table, and in it no forget score stands without utility, PrivLeak, relearning and 8 bits beside it: whoever hides
an answer scores well on the first, and only the others tell. Where one of them is missing, nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from idiolect.errors import ConfigError
from idiolect.evals.folder import doing_it_again, pipe_table, publish, seconds_text, write_results, write_text
from idiolect.unlearn.findings import UTILITY, Audit, combine
from idiolect.unlearn.membership import ATTACKS
from idiolect.unlearn.picture import save_relearning, save_tradeoff, worst

BESIDE = {
    "utility": ("utility", "utility_kept"),
    "PrivLeak": ("privleak",),
    "relearning": ("relearn_excess", "relearn_error"),
    "8-bit quantisation": ("quantised_memorisation", "quantised_quality", "quantised_excess", "quantised_error"),
}
"""What stands beside every forget score, and the figures of a summary that say it."""

Figures = Mapping[str, Mapping[str, Any]]


def write(audits: Sequence[Audit], folder: Path, about: Mapping[str, Any] | None = None) -> None:
    """Leave results.json, report.md, tradeoff.png and relearning.png in the folder.

    Args:
        audits: of the same models, one for each seed.
        about: "command", "hardware", "versions", where known.

    Raises:
        ConfigError: no audit, or a model without one of the figures that no forget score may stand without.
        MismatchError: audits of different models.
        StoreError: the folder cannot be written.
        DependencyMissing: matplotlib is not installed.
    """
    text, results = markdown(audits, about), to_results(audits, about)

    def fill(staged: Path) -> None:
        write_text(staged / "report.md", [text])
        save_tradeoff(audits, staged / "tradeoff.png")
        save_relearning(audits, staged / "relearning.png")
        write_results(staged, results)

    publish(folder, fill)


def to_results(audits: Sequence[Audit], about: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The content of results.json: figures over all audits, and every audit whole."""
    return {**_about(audits, about), "figures": combine(audits), "audits": [a.results for a in audits]}


def markdown(audits: Sequence[Audit], about: Mapping[str, Any] | None = None) -> str:
    """The text of report.md.

    Raises:
        ConfigError: no audit, or figures missing.
        MismatchError: audits of different models.
    """
    figures = combine(audits)
    _refuse_alone(audits, figures)
    parts = [
        f"# {headline(audits)}",
        "\n".join(_verdict_line(audits, name) for name in audits[0].candidates),
        _about_sets(audits),
        _table(audits, figures),
        *_warnings(audits),
        "![Distance to the retrained reference against utility](tradeoff.png)",
        "![Memorisation after relearning](relearning.png)",
        "## How to read it",
        _READING,
        "## Utility, part by part",
        _utility_table(audits),
        "## Membership inference",
        _membership_table(audits),
        *doing_it_again(_about(audits, about)),
    ]
    return "\n\n".join(parts) + "\n"


def headline(audits: Sequence[Audit]) -> str:
    """The verdict on all candidates in one line."""
    names = audits[0].candidates
    forgotten = sum(worst(audits, name).verdict(name)["words"] == ["forgotten"] for name in names)
    if len(names) == 1:
        return f"Verdict: {_words(audits, names[0])}"
    return f"Verdict: {forgotten or 'none'} of {len(names)} candidates {'has' if forgotten in (0, 1) else 'have'} forgotten"


def _words(audits: Sequence[Audit], name: str) -> str:
    return " and ".join(worst(audits, name).verdict(name)["words"])


def _verdict_line(audits: Sequence[Audit], name: str) -> str:
    """The worst over seeds, with its reasons."""
    chosen = worst(audits, name)
    verdict = chosen.verdict(name)
    line = f"* **{_cell(name)}: {_words(audits, name)}.** " + " ".join(_sentence(reason) for reason in verdict["reasons"])
    if len(audits) > 1:
        same = sum(a.verdict(name)["words"] == verdict["words"] for a in audits)
        line += f" ({same} of {len(audits)} seeds; figures of seed {chosen.results['seed']}.)"
    return line


def _sentence(reason: str) -> str:
    return reason[0].upper() + reason[1:]


def _refuse_alone(audits: Sequence[Audit], figures: Mapping[str, Figures]) -> None:
    for name in audits[0].results["models"]:
        lacking = [what for what, keys in BESIDE.items() if any(not _known(audits, figures, name, key) for key in keys)]
        if lacking:
            raise ConfigError(
                f"report: model {name!r} has a forget score without {', '.join(lacking)} beside it, and none is printed "
                "alone; run the whole audit"
            )


def _known(audits: Sequence[Audit], figures: Mapping[str, Figures], name: str, key: str) -> bool:
    found = figures[name].get(key)
    return found is not None and found["mean"] is not None and all(a.summary(name).get(key) is not None for a in audits)


def _about_sets(audits: Sequence[Audit]) -> str:
    first = audits[0].results
    sizes = ", ".join(f"{n:,} {name}" for name, n in first["sets"].items() if n)
    seeds = ", ".join(str(a.results["seed"]) for a in audits)
    seconds = sum(a.results["seconds"] for a in audits)
    said = f"Seeds {seeds}; mean (least – greatest) over them" if len(audits) > 1 else f"Seed {seeds}"
    return f"On {first['base']}. Pairs and texts: {sizes}. {said}; {seconds_text(seconds)}."


def _table(audits: Sequence[Audit], figures: Mapping[str, Figures]) -> str:
    first = audits[0]
    header = [
        "model", "verdict", "forget quality (p)", "distance (KS)", "memorised", "extracted", "ROUGE-L", "utility",
        "of original's", "perplexity", "PrivLeak", "half back after steps", "relearning above reference", "memorised at 8 bits",
        "forget quality at 8 bits",
    ]  # fmt: skip
    rows = []
    for name in (first.original, first.retrained, *first.candidates):
        one = figures[name]
        verdict = _words(audits, name) if name in first.candidates else first.model(name)["role"]
        keys = (
            ("forget_quality", ".2g"), ("distance", ".2f"), ("memorisation", ".2f"), ("extraction", ".2f"), ("rouge", ".2f"),
            ("utility", ".3f"), ("utility_kept", ".0%"), ("perplexity", ".1f"), ("privleak", "+.0f"),
        )  # fmt: skip
        cells = [_figure(one, key, how) for key, how in keys]
        cells += [_half_way(audits, name), _figure(one, "relearn_excess", "+.0%")]
        cells += [_figure(one, "quantised_memorisation", ".2f"), _figure(one, "quantised_quality", ".2g")]
        rows.append([name, verdict, *cells])
    return pipe_table(header, rows, n_text=2)


def _figure(figures: Figures, key: str, how: str) -> str:
    """A mean, with the least and the greatest over seeds."""
    found = figures.get(key)
    if found is None or found["mean"] is None:
        return "–"
    mean, low, high = (format(found[part], how) for part in ("mean", "min", "max"))
    return mean if found["n"] == 1 else f"{mean} ({low} – {high})"


def _half_way(audits: Sequence[Audit], name: str) -> str:
    """Counts of steps, one for each seed where they differ."""
    last = audits[0].results["settings"]["steps"][-1]
    said = [f"not by {last}" if (n := a.summary(name)["relearn_half_way"]) is None else str(n) for a in audits]
    return said[0] if len(set(said)) == 1 else ", ".join(said)


def _warnings(audits: Sequence[Audit]) -> list[str]:
    """What else has to be said before a figure is believed."""
    first, lines = audits[0], []
    zero = {name: {part for a in audits for part in a.model(name)["zero_parts"]} for name in first.results["models"]}
    none = zero[first.original]
    if none:
        lines.append(f"* Utility leaves out what the original has none of, and cannot lose: {', '.join(sorted(none))}.")
    lines += [
        f"* Utility of {_cell(name)} is 0 because a part of it is: {', '.join(sorted(parts - none))}. The others stand below."
        for name, parts in zero.items()
        if parts - none
    ]
    if left_out := {name: len(ids) for name, ids in first.results["left_out"].items()}:
        lines.append(f"* Left out, because an answer does not fit: {', '.join(f'{n} {name}' for name, n in left_out.items())}.")
    if drawn := first.results["wrong_drawn"]:
        said = ", ".join(f"{n} {name}" for name, n in drawn.items())
        lines.append(f"* Pairs without wrong answers of their own were held against answers of other pairs: {said}.")
    return ["\n".join(lines)] if lines else []


def _utility_table(audits: Sequence[Audit]) -> str:
    first, rows = audits[0], []
    kept = list(first.model(first.original)["utility"])
    header = ["model", *(f"{name}: {said}" for name in kept for said in UTILITY.values()), "KL to the original (nats a token)"]
    for name in first.results["models"]:
        parts = [_mean([a.model(name)["utility"][s][part] for a in audits]) for s in kept for part in UTILITY]
        rows.append([name, *(f"{value:.3f}" for value in parts), f"{_mean([a.model(name)['divergence'] for a in audits]):.3f}"])
    return pipe_table(header, rows)


def _membership_table(audits: Sequence[Audit]) -> str:
    """AUC and PrivLeak of every attack; intervals where there is one audit, means where there are several."""
    rows = []
    for name in audits[0].results["models"]:
        for attack in ATTACKS:
            found = [a.model(name)["membership"][attack] for a in audits]
            leak = [one["privleak"] for one in found]
            interval = f"{found[0]['low']:.2f} – {found[0]['high']:.2f}" if len(found) == 1 else f"{len(found)} seeds"
            rows.append(
                [
                    name,
                    attack,
                    f"{_mean([one['auc'] for one in found]):.3f}",
                    interval,
                    "–" if None in leak else f"{_mean(leak):+.1f}",
                ]
            )
    return pipe_table(["model", "attack", "AUC", "95 %", "PrivLeak"], rows, n_text=2)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _cell(name: str) -> str:
    return " ".join(name.replace("*", r"\*").split())


def _about(audits: Sequence[Audit], about: Mapping[str, Any] | None) -> dict[str, Any]:
    given = about or {}
    settings = audits[0].results["settings"] | {"seed": [a.results["seed"] for a in audits]}
    return {
        "command": given.get("command", ""),
        "hardware": dict(given.get("hardware", {})),
        "versions": dict(given.get("versions", {})),
        "settings": settings,
    }


_READING = "\n".join(
    (
        "* Approximate unlearning is taken for suppression until it has passed all of this, and even then nothing proves that "
        "what was learnt is gone. Only a model that never saw it is sure: the *retrained reference*, which every figure is "
        "held against. Good is *like the reference*, not *as low as possible*.",
        "* *Forget quality*: p of a Kolmogorov-Smirnov test that truth ratios are those of the reference; 1: no difference, "
        "below 0.05: told apart. It falls with the number of pairs; *distance* does not.",
        "* *Memorised*: share of the answer's tokens that the model names, given those before. *Extracted*: share of the "
        "answer, from its end, named without a miss. *ROUGE-L*: recall of the greedy answer.",
        "* *Utility*: harmonic mean of probability, ROUGE-L recall and 1 - truth ratio over the sets that should stay.",
        "* *PrivLeak*: 0: membership is told as badly as on the reference. Large and negative: under-unlearned. Large and "
        "positive: over-unlearned, which gives the forget set away as well.",
        "* *Half back after steps*: of relearning part of the forget set, until half of the original's lead is back. "
        "*Relearning above reference*: the most that a candidate stands above the reference given the same steps, as a "
        "share of the original's lead.",
        "* *At 8 bits*: the same model with its linear weights rounded to 8 bits.",
        "* The rules of the verdict stand in `unlearn/verdict.py`; their thresholds in the settings below.",
    )
)
