"""Methods run in turns, in shuffled rounds, so that a machine whose speed drifts is unfair to none of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from idiolect.machine import load_average

Method = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one method.

    Attributes:
        wall_s: seconds by the clock.
        cpu_s: core-seconds of this process, all threads; robust to neighbours where `wall_s` is not.
        others: cores that everything else on the machine used meanwhile; a clean sample has less than 0.15.
    """

    method: str
    round: int
    wall_s: float
    cpu_s: float
    others: float


def interleave(
    methods: Mapping[str, Method],
    rounds: int,
    seed: int = 0,
    warm_up: int = 1,
    on_sample: Callable[[Sample], None] | None = None,
) -> list[Sample]:
    """Run every method once a round, in an order shuffled by `seed`; the `warm_up` rounds are run and not kept."""
    rng = random.Random(seed)
    samples: list[Sample] = []
    for number in range(-warm_up, rounds):
        names = list(methods)
        rng.shuffle(names)
        for name in names:
            sample = _measure(name, number, methods[name])
            if number >= 0:
                samples.append(sample)
            if on_sample:
                on_sample(sample)
    return samples


def summarise(samples: Sequence[Sample], baselines: Sequence[str]) -> dict[str, Any]:
    """Times of each method and, round by round, how many times faster than each baseline it was.

    Returns:
        rounds, load_average and methods: NAME → wall_s, cpu_s, others (one value a round), median_s, min_s, max_s,
        median_cpu_s and `vs`: BASELINE → ratios of each round's pair of wall times, their median, least and greatest,
        and the median ratio of core-seconds.
    """
    methods = {name: _figures([s for s in samples if s.method == name]) for name in dict.fromkeys(s.method for s in samples)}
    for name, figures in methods.items():
        figures["vs"] = {b: _ratios(methods[b], figures) for b in baselines if b in methods and b != name}
    return {
        "rounds": max((s.round for s in samples), default=-1) + 1,
        "load_average": load_average(),
        "methods": methods,
    }


def _figures(samples: Sequence[Sample]) -> dict[str, Any]:
    mine = sorted(samples, key=lambda s: s.round)
    walls = [s.wall_s for s in mine]
    return {
        "wall_s": [round(v, 5) for v in walls],
        "cpu_s": [round(s.cpu_s, 5) for s in mine],
        "others": [round(s.others, 2) for s in mine],
        "median_s": median(walls),
        "min_s": min(walls),
        "max_s": max(walls),
        "median_cpu_s": median(s.cpu_s for s in mine),
    }


def _ratios(baseline: Mapping[str, Any], method: Mapping[str, Any]) -> dict[str, Any]:
    """How many times faster than the baseline, from the pairs of each round."""
    wall = [a / b for a, b in zip(baseline["wall_s"], method["wall_s"], strict=True)]
    cpu = [a / b if b else 0.0 for a, b in zip(baseline["cpu_s"], method["cpu_s"], strict=True)]
    return {
        "wall": [round(v, 3) for v in wall],
        "median": median(wall),
        "min": min(wall),
        "max": max(wall),
        "median_cpu": median(cpu),
    }


def _measure(name: str, number: int, method: Method) -> Sample:
    busy, cpu, wall = _busy_s(), time.process_time(), time.perf_counter()
    method()
    wall = time.perf_counter() - wall
    cpu = time.process_time() - cpu
    others = max(0.0, (_busy_s() - busy - cpu) / max(wall, 1e-9))
    return Sample(name, number, max(wall, 1e-9), cpu, others)


def _busy_s() -> float:
    """Core-seconds that the whole machine has worked since it started; its clock ticks in hundredths."""
    import psutil

    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
