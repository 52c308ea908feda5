"""Seconds from disk to ready for one more adapter, by the number of adapters that are there already."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from idiolect import machine
from idiolect.bench import bases, ours, peers, peers_serve, report
from idiolect.config import TrainConfig

_SLOTS = 16  # what one batch needs; the rest of the people stay on disk


def bench_load(
    shape: str = "small",
    out: Path | None = None,
    people: int = 400,
    peer_people: int = 128,
    seed: int = 0,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Time every load: ours with 1 to `people` adapters on disk, PEFT's `load_adapter` with up to `peer_people` resident.

    Files were just written, so both read from the system's cache.
    """
    threads = machine.set_up_threads(threads)
    size, config = bases.SHAPES[shape], TrainConfig.build(seed=seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = bases.random_llama(folder / "base", size, seed)
        mine = _ours(folder, ours.load(path), size, config, people, say)
        theirs = _peft(folder, peers.load_resident(path), size, config, peer_people, say)
    figures = {
        "shape": shape,
        "load_average": machine.load_average(),
        "methods": {"slot": mine, "peft_load_adapter": theirs},
        "ratio_at_most_people": theirs["by_resident"][-1]["median_s"] / mine["by_resident"][-1]["median_s"],
    }
    return report.write(f"load-{shape}", figures, out, seed, threads)


def _ours(folder: Path, base: Any, size: bases.Shape, config: TrainConfig, people: int, say: Any) -> dict[str, Any]:
    layout = ours.layout_of(base, config)
    files = [folder / f"{number}.safetensors" for number in range(people)]
    for number, file in enumerate(files):
        ours.save_row(layout, layout.row_of(bases.random_adapter(size, config.rank, config.targets, number)), file)
    slots, rng, times = torch.zeros(_SLOTS, layout.size), random.Random(config.seed), []
    for number in range(people):
        file = files[rng.randrange(number + 1)]
        times.append(_timed(lambda file=file, number=number: ours.load_row(file, slots[number % _SLOTS])))
    return _by_resident(times, "slot", files[0].stat().st_size, say)


def _peft(folder: Path, model: Any, size: bases.Shape, config: TrainConfig, people: int, say: Any) -> dict[str, Any]:
    saved = folder / "peft"
    peers_serve.save_adapter(model, bases.random_adapter(size, config.rank, config.targets, 0), config, saved)
    adapted = peers_serve.attach(model, {"first": bases.random_adapter(size, config.rank, config.targets, 0)}, config)
    times = []
    for number in range(people):
        times.append(_timed(lambda number=number: peers_serve.load_one(adapted, saved, f"person-{number}")))
    return _by_resident(times, "peft_load_adapter", sum(f.stat().st_size for f in saved.iterdir()), say)


def _by_resident(times: list[float], name: str, size_bytes: int, say: Any) -> dict[str, Any]:
    """Medians over eighths of the run, by how many adapters there were at the eighth's end."""
    step = max(1, len(times) // 8)
    bins = []
    for end in range(step, len(times) + 1, step):
        part = times[end - step : end]
        bins.append({"adapters": end, "median_s": median(part), "max_s": max(part)})
    if say:
        first, last = (f"{1e3 * b['median_s']:.2f} ms at {b['adapters']} adapters" for b in (bins[0], bins[-1]))
        say(f"{name:<18} {first}, {last}")
    return {"n": len(times), "median_s": median(times), "max_s": max(times), "file_bytes": size_bytes, "by_resident": bins}


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
