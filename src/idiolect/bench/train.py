"""People per minute: all together in the fused trainer, and one after another the paper's way."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from idiolect import machine
from idiolect.bench import bases, floor, ours, peers, report, workloads
from idiolect.bench.interleave import interleave, summarise
from idiolect.config import TrainConfig

AGREE = 3e-4
"""Greatest relative difference of a learnt update. Float32 sums in another order differ by 1e-6; AdamW divides by the root
of squared gradients and blows up such differences where gradients are near zero: about 1e-5 over w0's four steps, up to
1e-4 where there are only two. It is rounding and nothing else: in float64, once transformers' own casts to float32 are
taken out, the same runs differ by less than 1e-12 (tests/bench/test_peers.py)."""


def bench_train(
    workload: str = "w0",
    shape: str = "small",
    rounds: int = 5,
    out: Path | None = None,
    people: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Compare `fused` with `trainer` (PEFT + HF Trainer) and `bare` (PEFT + plain loop): same data, order and first A.

    Returns:
        the report: per method, people per minute, seconds, ratios; per person, the FLOP floor; how far the adapters differ.
    """
    threads = machine.set_up_threads(threads)
    load, size = workloads.WORKLOADS[workload], bases.SHAPES[shape]
    config = TrainConfig.build(epochs=load.epochs, batch_size=load.batch_size, seed=seed)
    jobs = workloads.make(load, size.vocab, seed, people)
    with tempfile.TemporaryDirectory() as folder:
        run = _Run(Path(folder), size, jobs, config)
        samples = interleave(run.methods(), rounds, seed, on_sample=report.teller("people/min", 60 * len(jobs), say))
        figures = summarise(samples, ("trainer", "bare"))
    tokens, answers = workloads.count_tokens(jobs, config.epochs)
    _put_beside(figures, len(jobs), floor.training_flop(size, config, tokens, answers)["total"], run.gemm.flop)
    figures.update(
        workload=workload,
        shape=shape,
        people=len(jobs),
        tokens=tokens,
        answer_tokens=answers,
        config=config.model_dump(mode="json"),
        flop=floor.training_flop(size, config, tokens, answers),
        agreement=run.agreement(),
    )
    return report.write(f"train-{workload}-{shape}", figures, out, seed, threads)


class _Run:
    """The methods over one resident base each, and what they learnt last."""

    def __init__(self, folder: Path, size: bases.Shape, jobs: peers.Jobs, config: TrainConfig) -> None:
        self.folder, self.jobs, self.config = folder, jobs, config
        path = bases.random_llama(folder / "base", size, config.seed)
        self.base, self.model = ours.load(path), peers.load_resident(path)
        self.order = ours.order_of(jobs, config)
        self.init = ours.initial(self.base, jobs, config)
        self.gemm = floor.Gemm(size)
        self.learnt: dict[str, Mapping[str, bases.State]] = {}

    def methods(self) -> dict[str, Callable[[], object]]:
        return {"trainer": self.trainer, "bare": self.bare, "fused": self.fused, "gemm": self.gemm}

    def trainer(self) -> None:
        out = self.folder / "trainer"
        self.learnt["trainer"] = peers.train_with_trainer(self.model, self.jobs, self.config, self.order, out, self.init)

    def bare(self) -> None:
        out = self.folder / "bare"
        self.learnt["bare"] = peers.train_with_bare_loop(self.model, self.jobs, self.config, self.order, out, self.init)

    def fused(self) -> None:
        self.learnt["fused"] = ours.train_fused(self.base, self.jobs, self.config, self.folder / "fused")

    def agreement(self) -> dict[str, Any]:
        """The greatest relative difference, over people, between what each method learnt and what `trainer` did."""
        worst = {
            name: max(bases.relative_difference(states[p], self.learnt["trainer"][p], self.init[p]) for p in self.jobs)
            for name, states in self.learnt.items()
            if name != "trainer"
        }
        return {"relative_difference_to_trainer": worst, "bound": AGREE, "agrees": max(worst.values()) <= AGREE}


def _put_beside(figures: dict[str, Any], people: int, flop: float, gemm_flop: float) -> None:
    """Write people per minute, and the floor, beside each method's times; `gemm` is the yardstick and no method."""
    gemm = figures["methods"].pop("gemm")
    figures["gemm"] = {key: gemm[key] for key in ("wall_s", "median_s", "min_s")} | {"flop": gemm_flop}
    for method in figures["methods"].values():
        method["people_per_minute"] = 60 * people / method["median_s"]
        method["floor"] = floor.against_floor(flop / people, method["median_s"] / people, gemm_flop, gemm["median_s"])
