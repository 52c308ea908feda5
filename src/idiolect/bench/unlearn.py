"""Acquiring with one base in memory, against the same with a second copy for what is frozen: seconds, and peak memory.

Both learn SKU's three terms from the same rows in the same order, from the same first numbers. Time is taken with both in this
process, in turns; memory with each in a process of its own (`python -m idiolect.bench.unlearn SIDE FOLDER SHAPE SEED THREADS`),
for a process keeps what it once took.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from idiolect import machine
from idiolect.bench import bases, floor, ours, report, workloads
from idiolect.bench.interleave import interleave, summarise
from idiolect.types import digest_of

SIDES = ("two_copies", "one_base")
STEPS = {"tiny": 3, "small": 12, "135m": 2}
BATCH = {"tiny": 2, "small": 2, "135m": 1}
"""Forget rows a step, and as many normal rows; each forget row five times more with foreign answers."""
_ROWS = workloads.Workload("unlearn", people=2, items=48, own=(32, 64), answer=12)
"""The first of the two is the forget set, the second the retain set."""
AGREE_FIRST, AGREE_LAST = 1e-4, 1e-3
"""Greatest relative difference of a loss at the first step, where the adapters are the same, and at the last: what rounding
differs by, AdamW divides by gradients that are nearly zero, as the divergence's are in the first steps."""


def bench_unlearn(
    shape: str = "small",
    rounds: int = 5,
    out: Path | None = None,
    seed: int = 0,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Compare `one_base` (ours: adapters off for P) with `two_copies` (PEFT, and a frozen second model for P).

    Returns:
        the report: per side, steps per minute, peak and loaded bytes, FLOP floor; how far losses differ, first and last.
    """
    threads = machine.set_up_threads(threads)
    size = bases.SHAPES[shape]
    with tempfile.TemporaryDirectory() as folder:
        path = bases.random_llama(Path(folder) / "base", size, seed)
        sides = {name: Side(name, path, shape, seed) for name in SIDES}
        gemm = floor.Gemm(size)
        methods = {**{name: side.acquire for name, side in sides.items()}, "gemm": gemm}
        samples = interleave(methods, rounds, seed, on_sample=report.teller("steps/min", 60 * STEPS[shape], say))
        figures = summarise(samples, SIDES[:1])
        memory = {name: _in_a_process_of_its_own(name, path, shape, seed, threads) for name in SIDES}
    found = figures["methods"].pop("gemm")
    figures["gemm"] = {key: found[key] for key in ("wall_s", "median_s", "min_s")} | {"flop": gemm.flop}
    flop = step_flop(sides["one_base"])
    for name, method in figures["methods"].items():
        method["steps_per_minute"] = 60 * STEPS[shape] / method["median_s"]
        method["floor"] = _above(flop["total"], method["median_s"] / STEPS[shape], gemm.flop / found["median_s"])
        method |= memory[name]
    figures.update(
        shape=shape,
        steps=STEPS[shape],
        batch_size=BATCH[shape],
        config=sides["one_base"].config.model_dump(mode="json"),
        flop_per_step=flop,
        floor_bytes=floor_bytes(sides["one_base"]),
        agreement=_agreement(*(sides[name].log for name in SIDES)),
    )
    return report.write(f"unlearn-{shape}", figures, out, seed, threads)


class Side:
    """One way to acquire: what it holds in memory, and the losses of its last run."""

    def __init__(self, name: str, path: Path, shape: str, seed: int) -> None:
        from idiolect.unlearn.acquire import targets_of
        from idiolect.unlearn.config import unlearning
        from idiolect.unlearn.methods import Schedule

        self.name, self.size = name, bases.SHAPES[shape]
        self.config = unlearning("sku", steps=STEPS[shape], batch_size=BATCH[shape], seed=seed)
        self.material = material_of(self.size.vocab, seed)
        schedule = Schedule(self.config, self.material, self.config.max_tokens)
        self.plan = [schedule.terms(step) for step in range(schedule.n_steps)]
        self.log: list[dict[str, float]] = []
        if name == "one_base":
            self.models = [ours.load(path)]
            self.config = self.config.but(targets=targets_of(self.models[0], self.config))
        else:
            from idiolect.bench import peers

            self.models = [peers.load_resident(path) for _ in range(2)]
            self.config = self.config.but(targets=tuple(self.size.projections))
        assert self.config.targets is not None
        self.training = self.config.training(self.config.targets)

    def acquire(self) -> None:
        """All steps, once."""
        if self.name == "one_base":
            from idiolect.unlearn.acquire import acquire

            (done,) = acquire(self.models[0], self.material, [self.config])
            self.log = [step.losses for step in done.log]
            return
        from idiolect.bench.peers_unlearn import acquire_with_two_copies

        state = first_numbers(self.size, self.training)
        model, frozen = self.models
        _, self.log = acquire_with_two_copies(model, frozen, self.plan, self.training, self.config.pd_cap, state)


def material_of(vocab: int, seed: int) -> Any:
    """A forget set and a retain set of random tokens."""
    from idiolect.unlearn.material import Entry, Material

    sets = workloads.make(_ROWS, vocab, seed).values()
    forget, retain = ([Entry(row, row.id, digest_of(list(row.ids[row.n_prompt :]))) for row in rows] for rows in sets)
    return Material(tuple(forget), tuple(retain))


def first_numbers(size: bases.Shape, training: Any) -> bases.State:
    """The adapter that our side begins with, without a base of ours in memory."""
    from idiolect.model.adapter import Layout, Site

    paths = [
        (bases.module_path(layer, name), widths) for layer in range(size.layers) for name, widths in size.projections.items()
    ]
    sites = [Site(path, path, d, o) for path, (d, o) in paths]
    layout = Layout.of(sites, training.rank, training.alpha, training.targets)
    return ours.copy(layout.matrices(layout.init_row(training.seed, "")))


def step_flop(side: Side) -> dict[str, float]:
    """The least that a mean step can cost: three terms with gradients, and the frozen model's pass over the normal rows."""
    trained = [row for terms in side.plan for term in terms for row in term.rows]
    compared = [row for terms in side.plan for term in terms if term.kind in ("away", "stay") for row in term.rows]
    tokens, answers = (sum(count(row) for row in trained) for count in (lambda row: len(row.ids), lambda row: row.n_answer))
    parts = floor.training_flop(side.size, side.training, tokens, answers)
    parts["frozen"] = 2.0 * side.size.n_weights * sum(len(row.ids) for row in compared)
    parts["frozen"] += 2.0 * side.size.vocab * side.size.hidden * sum(row.n_answer for row in compared)
    parts["total"] += parts["frozen"]
    return {name: value / len(side.plan) for name, value in parts.items()}


def floor_bytes(side: Side) -> dict[str, int]:
    """What cannot but be in memory, in float32: the base once, and an adapter with gradient and two moments."""
    size = side.size
    norms = size.hidden * (2 * size.layers + 1)
    base = 4 * (size.n_weights + size.vocab * size.hidden + norms)
    widths = sum(sum(size.projections[target]) for target in side.training.targets)
    adapter = 16 * side.training.rank * widths * size.layers
    return {"base": base, "adapter": adapter, "total": base + adapter, "second_copy": base}


def _above(flop: float, seconds: float, rate: float) -> dict[str, float]:
    """The floor of a step in seconds at the rate of the machine's own products, and how far above it a side runs."""
    return {
        "flop_per_step": flop,
        "gemm_gflop_per_s": rate / 1e9,
        "floor_s_per_step": flop / rate,
        "times_above_floor": seconds * rate / flop,
        "useful_gflop_per_s": flop / seconds / 1e9,
    }


def _agreement(theirs: list[dict[str, float]], mine: list[dict[str, float]]) -> dict[str, Any]:
    """The greatest relative difference between the two sides' losses, over terms, at the first and at the last step."""

    def gap(at: int) -> float:
        # The divergence of a fresh adapter is zero, whatever the rounding.
        return max(abs(mine[at][name] - theirs[at][name]) / max(abs(theirs[at][name]), 1e-3) for name in theirs[at])

    agrees = len(mine) == len(theirs) and gap(0) <= AGREE_FIRST and gap(-1) <= AGREE_LAST
    return {
        "first_losses": {"two_copies": theirs[0], "one_base": mine[0]},
        "last_losses": {"two_copies": theirs[-1], "one_base": mine[-1]},
        "relative_difference": {"first": gap(0), "last": gap(-1)},
        "bounds": {"first": AGREE_FIRST, "last": AGREE_LAST},
        "agrees": agrees,
    }


# --------------------------------------------------------------------------------------------- a process of its own


def _in_a_process_of_its_own(name: str, path: Path, shape: str, seed: int, threads: int) -> dict[str, int]:
    words = [sys.executable, "-m", "idiolect.bench.unlearn", name, str(path), shape, str(seed), str(threads)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    return json.loads(done.stdout.splitlines()[-1])


def measure(name: str, path: Path, shape: str, seed: int, threads: int) -> dict[str, int]:
    """Resident bytes of this process: with what the side needs loaded, and the most while it acquired.

    Returns:
        bare_bytes (libraries alone), loaded_bytes, peak_bytes.
    """
    import psutil

    machine.set_up_threads(threads)
    import peft  # noqa: F401  # both sides with the same libraries
    import transformers  # noqa: F401

    process = psutil.Process()
    bare = process.memory_info().rss
    side = Side(name, path, shape, seed)
    loaded = process.memory_info().rss
    side.acquire()
    return {"bare_bytes": bare, "loaded_bytes": loaded, "peak_bytes": _peak(process)}


def _peak(process: Any) -> int:
    """The most that was resident. Linux's own figure for this program: getrusage's may be that of the one that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        words = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:")).split()
        return int(words[1]) * 1024
    info = process.memory_info()
    return int(getattr(info, "peak_wset", info.rss))


if __name__ == "__main__":
    where = sys.argv[1:]
    print(json.dumps(measure(where[0], Path(where[1]), where[2], int(where[3]), int(where[4]))))
