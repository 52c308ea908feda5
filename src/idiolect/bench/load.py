"""Seconds from disk to ready for one more adapter, by the number of adapters that are there already."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from idiolect import machine
from idiolect.bench import bases, ours, peers, peers_serve, report
from idiolect.config import TrainConfig

_STEPS = (10, 50, 100, 200, 400)  # adapters, at which the times of the last few are told


def bench_load(
    shape: str = "small",
    out: Path | None = None,
    people: int = 400,
    peer_people: int = 128,
    seed: int = 0,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Time every load: ours into a bank that has 0 to `people` − 1 adapters, PEFT's `load_adapter` up to `peer_people`.

    Ours counts everything from a digest to a stack that a batch can use. Files were just written, so both read from the
    system's cache.
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
        "methods": {"bank": mine, "peft_load_adapter": theirs},
        "ratio_at_most_people": theirs["by_resident"][-1]["median_s"] / mine["by_resident"][-1]["median_s"],
    }
    return report.write(f"load-{shape}", figures, out, seed, threads)


def _ours(folder: Path, base: Any, size: bases.Shape, config: TrainConfig, people: int, say: Any) -> dict[str, Any]:
    """A bank that finds its records where the store keeps them. Every person's first request is a load from disk."""
    from idiolect.model.bank import Bank
    from idiolect.store.blobs import Blobs

    layout, blobs = ours.layout_of(base, config), Blobs(folder / "adapters")
    bank = Bank(base.model.sites(), base.device, base.dtype, find=blobs.path)
    times: list[float] = []
    digest = ""
    for number in range(people):
        digest = ours.publish(blobs, layout, layout.row_of(bases.random_adapter(size, config.rank, config.targets, number)))
        times.append(_timed(lambda digest=digest: bank.stack([digest])))
    return _by_resident(times, "bank", blobs.path(digest).stat().st_size, say)


def _peft(folder: Path, model: Any, size: bases.Shape, config: TrainConfig, people: int, say: Any) -> dict[str, Any]:
    saved = folder / "peft"
    peers_serve.save_adapter(model, bases.random_adapter(size, config.rank, config.targets, 0), config, saved)
    adapted = peers_serve.attach(model, {"first": bases.random_adapter(size, config.rank, config.targets, 0)}, config)
    times = []
    for number in range(people):
        times.append(_timed(lambda number=number: peers_serve.load_one(adapted, saved, f"person-{number}")))
    return _by_resident(times, "peft_load_adapter", sum(f.stat().st_size for f in saved.iterdir()), say)


def _by_resident(times: list[float], name: str, size_bytes: int, say: Any) -> dict[str, Any]:
    """Medians of the last ten loads (the last half, of fewer) before each number of adapters that is told."""
    bins = []
    for end in [step for step in _STEPS if step < len(times)] + [len(times)]:
        part = times[max(end - 10, end // 2) : end]
        bins.append({"adapters": end, "n": len(part), "median_s": median(part), "max_s": max(part)})
    if say:
        say(f"{name:<18} " + ", ".join(f"{1e3 * b['median_s']:.2f} ms at {b['adapters']}" for b in bins))
    return {"n": len(times), "median_s": median(times), "max_s": max(times), "file_bytes": size_bytes, "by_resident": bins}


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
