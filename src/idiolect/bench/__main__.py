"""`python -m idiolect.bench NAME`: run one benchmark, print its figures, write them as JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from idiolect import machine
from idiolect.bench.report import UNITS
from idiolect.errors import IdiolectError

NAMES = ("train", "serve", "load", "memory", "assemble", "pool", "unlearn", "play", "table")
SHAPES = ("small", "135m", "tiny")
WORKLOADS = ("w0", "short", "template")


def main(argv: Sequence[str] | None = None) -> int:
    """0 where every method gave the same results, 1 where they differed: speed without agreement counts for nothing."""
    options = _parser().parse_args(argv)
    if options.name == "table":
        from idiolect.bench.table import write_table

        folder = options.out or Path("bench/results")
        print(write_table(folder, folder.parent / "RESULTS.md"), end="")
        return 0
    names = workloads_of(options.name, options.workload)
    try:
        results = [run(options.name, workload, **_given(options)) for workload in names]
    except IdiolectError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for result in results:
        print("\n".join(lines(result)))
    return 0 if all(result.get("agreement", {}).get("agrees", True) for result in results) else 1


def run(name: str, workload: str | None = None, **options: Any) -> dict[str, Any]:
    """One benchmark by name; threads are set before torch is loaded, which is why the imports are here."""
    machine.set_up_threads(options.get("threads"))
    if name == "train":
        from idiolect.bench.train import bench_train

        options.pop("peer_people", None)
        return bench_train(workload or "w0", **options)
    bench = _others()[name]
    if name == "assemble":
        options["workload"] = workload or "template"
    if name not in ("serve", "assemble", "pool", "unlearn"):
        options.pop("rounds", None)
    if name in ("unlearn", "play"):
        options.pop("people", None)
    if name != "play":
        options.pop("kept", None)
    if name != "load":
        options.pop("peer_people", None)
    return bench(**options)


def workloads_of(name: str, wanted: Sequence[str] | None) -> list[str | None]:
    """The workloads a benchmark runs on: what was asked for, or all that tell something; [None] where it has its own."""
    known = {"train": WORKLOADS, "assemble": ("template", "w0")}.get(name)
    return list(dict.fromkeys(wanted or known)) if known else [None]


def lines(result: dict[str, Any]) -> list[str]:
    """The figures as a few lines of text, ratios with the spread over rounds."""
    told = [f"{result['bench']}  ({result['hardware']['cpu']}, {result['threads']} threads, load {result['load_average'][:1]})"]
    for name, method in result.get("methods", {}).items():
        if "by_request" in method:
            told += _under_load(name, method)
            continue
        if name in ("bank", "peft_load_adapter"):
            steps = ", ".join(f"{1e3 * b['median_s']:.2f} at {b['adapters']}" for b in method["by_resident"])
            told.append(f"  {name:<18} median {1e3 * method['median_s']:.2f} ms, by adapters there are: {steps}")
            continue
        rate, unit = next((method[key], unit) for key, unit in UNITS.items() if key in method)
        ratios = [f"{r['median']:.2f}x {base} ({r['min']:.2f}–{r['max']:.2f})" for base, r in method["vs"].items()]
        above = f"; {method['floor']['times_above_floor']:.2f} × the FLOP floor" if "floor" in method else ""
        told.append(f"  {name:<12} {rate:9.1f} {unit}  {', '.join(ratios)}{above}")
        if "loaded_bytes" in method:
            sizes = [method[key] / 2**20 for key in ("loaded_bytes", "peak_bytes")]
            told.append(f"  {'':<12} {sizes[0]:9.1f} MiB loaded, peak {sizes[1]:.1f} MiB")
    if "peak_bytes" in result:
        growth = result["growth_bytes_per_person"]
        told.append(f"  peak {result['peak_bytes'] / 2**20:.1f} MiB, growth {growth:.0f} bytes a person")
    if "agreement" in result:
        told.append(f"  agreement: {result['agreement']}")
    return told


def _under_load(name: str, method: dict[str, Any]) -> list[str]:
    """Latencies of a server under load."""
    cpu = ", ".join(f"{who} {seconds:.1f}" for who, seconds in method["cpu_s"].items())
    held = method["rounds_per_minute_held"]
    head = f"  {name:<12} {method['rounds']} rounds, {method['errors']} errors; CPU seconds: {cpu}; held: "
    told = [head + (f"{held:g} rounds/min" if held else "no rate that was tried")]
    for request, spread in method["by_request"].items():
        shown = ", ".join(f"{key.removesuffix('_ms')} {spread[key]:.0f}" for key in ("p50_ms", "p95_ms", "p99_ms"))
        told.append(f"  {'':<12} {request:<15} {spread['n']:6d}  {shown} ms")
    return told


def _others() -> dict[str, Callable[..., dict[str, Any]]]:
    from idiolect.bench.load import bench_load
    from idiolect.bench.memory import bench_memory
    from idiolect.bench.pieces import bench_assemble, bench_pool
    from idiolect.bench.play import bench_play
    from idiolect.bench.serve import bench_serve
    from idiolect.bench.unlearn import bench_unlearn

    return {
        "serve": bench_serve,
        "load": bench_load,
        "memory": bench_memory,
        "assemble": bench_assemble,
        "pool": bench_pool,
        "unlearn": bench_unlearn,
        "play": bench_play,
    }


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """What was given on the command line; the rest is left to each benchmark's defaults."""
    names = ("shape", "rounds", "out", "people", "peer_people", "seed", "threads", "kept")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return {**given, "say": lambda line: print(line, file=sys.stderr, flush=True)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m idiolect.bench", description="Speed and memory against the peers.")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument(
        "--workload", action="append", choices=WORKLOADS, help="train, assemble; may be repeated (default: all)"
    )
    parser.add_argument("--shape", choices=SHAPES, help="sizes of the random base (default: small, 256 × 6 layers)")
    parser.add_argument("--people", type=int)
    parser.add_argument("--peers", dest="peer_people", type=int, help="load only: adapters that PEFT loads (default: 128)")
    parser.add_argument("--kept", type=Path, help="play only: folder of the filled store, made or used again")
    parser.add_argument("--rounds", type=int, help="interleaved rounds after one warm-up (default: 5)")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--threads", type=int, help="of torch (default: the cores that may be used)")
    parser.add_argument(
        "--out", type=Path, help="folder for NAME.json (default: nothing is written); table: the folder to read"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
