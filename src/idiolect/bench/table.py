"""bench/RESULTS.md from bench/results/*.json: what was measured, on what, and which targets it meets or misses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from idiolect.bench.report import UNITS

TARGETS: Mapping[tuple[str, str], float] = {
    ("train-w0-small", "trainer"): 2.0,
    ("train-short-small", "trainer"): 5.0,
    ("train-w0-135m", "trainer"): 1.6,
    ("serve-small", "peft_switch"): 8.0,
    ("serve-small", "peft_mixed"): 2.5,
    ("serve-135m", "peft_switch"): 8.0,
    ("serve-135m", "peft_mixed"): 2.5,
    ("assemble-template-small", "train"): 6.0,
    ("assemble-w0-small", "train"): 6.0,
    ("pool-small", "lora"): 0.8,
}
"""(file, baseline): how many times faster by the clock the median round should be."""
LOAD_TARGET_S = 0.010
_RATES: Mapping[str, str] = {
    "train-": "fused",
    "serve-": "mixed",
    "assemble-": "assemble",
    "pool-": "pool",
    "unlearn-": "one_base",
}
"""Reports of rates by the start of their name, and which of their methods is ours."""
QUIET = 0.15
"""Cores that others may use while a sample still counts as clean."""


def write_table(folder: Path, out: Path) -> str:
    """Read every report in `folder` and write the table to `out`; returns its text."""
    reports = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    ours = {name: report for name, report in reports.items() if name.startswith((*_RATES, "load-", "memory-", "play-"))}
    parts = [_head(ours), _rates(ours), _loads(ours), _memory(ours), _unlearning(ours), _playing(ours)]
    text = "\n".join(line for part in parts for line in part) + "\n"
    out.write_text(text, encoding="utf-8")
    return text


def _head(reports: Mapping[str, Any]) -> list[str]:
    lines = [
        "# Measured",
        "",
        "Made by `python -m idiolect.bench table` from `results/*.json`; `README.md` says how it is measured.",
        "",
    ]
    for kind in sorted({_machine(report) for report in reports.values()}):
        lines.append(f"- {kind}")
    return [*lines, ""]


def _machine(report: Mapping[str, Any]) -> str:
    hardware, versions = report["hardware"], report["versions"]
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "numpy")
    return f"{hardware['cpu']}, {report['threads']} threads ({', '.join(hardware['flags'])}); {libraries}"


def _rates(reports: Mapping[str, Any]) -> list[str]:
    """One line for each of our methods and each baseline."""
    rows = [line for name, report in reports.items() if name.startswith(tuple(_RATES)) for line in _against(name, report)]
    if not rows:
        return []
    head = "| run | people | n | ours (median) | against | times faster: median (range) | by core-seconds | target | load | others |"  # noqa: E501
    return [
        "## Training, serving, assembling, unlearning",
        "",
        head,
        "|---|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        "`n`: interleaved rounds. `load`: runnable processes, minute average at the end. `others`: cores that the rest of the",
        f"machine used during our samples, median; above {QUIET} the clock measures the neighbours too: read the core-seconds.",
        "",
        *_floors(reports),
    ]


def _against(name: str, report: Mapping[str, Any]) -> Iterable[str]:
    method = report["methods"][_RATES[name.split("-")[0] + "-"]]
    rate, unit = next((method[key], unit) for key, unit in UNITS.items() if key in method)
    others = sorted(method["others"])[len(method["others"]) // 2]
    people = report.get("people", "–")
    for baseline, ratio in method["vs"].items():
        aim = TARGETS.get((name, baseline))
        verdict = "–" if aim is None else f"≥ {aim:g}: {_verdict(ratio, aim)}"
        yield (
            f"| {name} | {people} | {report['rounds']} | {rate:.1f} {unit} | {baseline} | {ratio['median']:.2f} "
            f"({ratio['min']:.2f}–{ratio['max']:.2f}) | {ratio['median_cpu']:.2f} | {verdict} | "
            f"{(report['load_average'] or ['?'])[0]} | {others:.2f} |"
        )


def _verdict(ratio: Mapping[str, Any], aim: float) -> str:
    if ratio["median"] < aim:
        return "**missed**"
    return "met" if ratio["min"] >= aim else "met by the median, not by every round"


def _floors(reports: Mapping[str, Any]) -> list[str]:
    """How far above the FLOP floor each training method runs, and whether they learnt the same."""
    lines = [
        "| run | FLOP a person | floor, people/min | fused | bare | trainer | greatest difference to trainer |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, report in reports.items():
        if not name.startswith("train-"):
            continue
        floors = {method: figures["floor"] for method, figures in report["methods"].items()}
        one = floors["fused"]
        above = " | ".join(f"{floors[method]['times_above_floor']:.2f} ×" for method in ("fused", "bare", "trainer"))
        gap = report["agreement"]["relative_difference_to_trainer"]["fused"]
        lines.append(f"| {name} | {one['flop_per_person']:.2e} | {one['floor_people_per_minute']:.1f} | {above} | {gap:.1e} |")
    return [*lines, ""] if len(lines) > 2 else []


def _loads(reports: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, report in reports.items():
        if not name.startswith("load-"):
            continue
        for method, figures in report["methods"].items():
            steps = ", ".join(f"{1e3 * part['median_s']:.2f} at {part['adapters']}" for part in figures["by_resident"])
            worst = max(part["median_s"] for part in figures["by_resident"])
            verdict = "–" if method != "bank" else "met" if worst <= LOAD_TARGET_S else "**missed**"
            lines.append(f"| {name} | {method} | {figures['n']} | {steps} | {1e3 * figures['max_s']:.1f} | {verdict} |")
    if not lines:
        return []
    head = ["| run | method | n | median ms, by adapters there are | greatest ms | ≤ 10 ms |", "|---|---|---|---|---|---|"]
    return ["## From disk to ready", "", *head, *lines, ""]


def _memory(reports: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, report in reports.items():
        if name.startswith("memory-"):
            sizes = (report["second_quarter_bytes"], report["last_quarter_bytes"], report["peak_bytes"])
            mib = " | ".join(f"{size / 2**20:.0f}" for size in sizes)
            growth, load = report["growth_bytes_per_person"], report["load_average"][0]
            lines.append(f"| {name} | {report['people']} | {mib} | {growth:.0f} | {report['people_per_minute']:.0f} | {load} |")
    if not lines:
        return []
    head = "| run | people | resident MiB, 2nd quarter | last quarter | peak | growth, bytes a person | people/min | load |"
    return ["## Memory", "", head, "|---|---|---|---|---|---|---|---|", *lines]


def _unlearning(reports: Mapping[str, Any]) -> list[str]:
    """What each side of the unlearning benchmark had in memory, in a process of its own."""
    lines = []
    for name, report in reports.items():
        if not name.startswith("unlearn-"):
            continue
        least = report["floor_bytes"]["total"]
        for side, method in report["methods"].items():
            mib = [method[key] / 2**20 for key in ("bare_bytes", "loaded_bytes", "peak_bytes")]
            # What libraries take is no part of what there is to compare.
            own = method["peak_bytes"] - method["bare_bytes"]
            gap = report["agreement"]["relative_difference"]["last"]
            told = " | ".join(f"{size:.0f}" for size in mib)
            above = method["floor"]["times_above_floor"]
            lines.append(f"| {name} | {side} | {told} | {own / least:.2f} × | {above:.2f} × | {gap:.1e} |")
    if not lines:
        return []
    head = [
        "| run | side | MiB, libraries alone | loaded | peak | peak less libraries, against one base and adapter | time, FLOP floor | greatest difference of the last losses |",  # noqa: E501
        "|---|---|---|---|---|---|---|---|",
    ]
    return ["", "## Unlearning", "", *head, *lines]


def _playing(reports: Mapping[str, Any]) -> list[str]:
    """The game's server on each database: how long reports took, and how much of the processor it all was."""
    lines = []
    for name, report in reports.items():
        if not name.startswith("play-"):
            continue
        for database, method in report["methods"].items():
            asked = method["by_request"]
            p95 = [asked[kind]["p95_ms"] for kind in ("report", "report_json", "answer", "finish")]
            verdict = "met" if max(p95[:2]) <= 1e3 * report["target_s"] else "**missed**"
            busy = sum(method["cpu_s"].values()) / method["seconds"]
            told = f"{name} | {database} {method['version']} | {report['filled']['answers']:,} | {method['rounds']}"
            times = " | ".join(f"{ms:.0f}" for ms in p95)
            held = method["rounds_per_minute_held"]
            shown = f"{held:g}" if held else "–"
            load = report["load_average"][0]
            lines.append(f"| {told} | {method['errors']} | {times} | {busy:.2f} | {shown} | {load} | {verdict} |")
    if not lines:
        return []
    head = [
        "| run | database | answers there | rounds | errors | report p95 ms | as JSON | answer | finish | cores busy | rounds/min held | load | report ≤ 150 ms |",  # noqa: E501
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    return ["", "## The game's server", "", *head, *lines]
