"""Tokens per second for people with an adapter each: one mixed batch, PEFT's mixed batch, PEFT one after another."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from idiolect import machine
from idiolect.bench import bases, ours, peers, peers_serve, report
from idiolect.bench.interleave import interleave, summarise
from idiolect.config import TrainConfig


def bench_serve(
    shape: str = "small",
    rounds: int = 5,
    out: Path | None = None,
    people: int = 16,
    seed: int = 0,
    threads: int | None = None,
    n_prompt: int = 48,
    n_new: int = 32,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Compare `mixed` (ours) with `peft_switch` (set_adapter, then generate) and `peft_mixed` (adapter_names).

    Greedy, `n_prompt` tokens in and exactly `n_new` out. All of PEFT's adapters are resident before the clock starts.
    """
    threads = machine.set_up_threads(threads)
    size, config = bases.SHAPES[shape], TrainConfig.build(seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        run = _Run(Path(folder), size, config, people, n_prompt, n_new)
        samples = interleave(run.methods(), rounds, seed, on_sample=report.teller("tokens/s", people * n_new, say))
    figures = summarise(samples, ("peft_switch", "peft_mixed"))
    for method in figures["methods"].values():
        method["tokens_per_s"] = people * n_new / method["median_s"]
    figures.update(shape=shape, people=people, n_prompt=n_prompt, n_new=n_new, agreement=run.agreement())
    return report.write(f"serve-{shape}", figures, out, seed, threads)


class _Run:
    """Two bases with the same weights, the same adapters on both, and the last answers."""

    def __init__(self, folder: Path, size: bases.Shape, config: TrainConfig, people: int, n_prompt: int, n_new: int) -> None:
        path = bases.random_llama(folder / "base", size, config.seed)
        names = [f"person-{number:04d}" for number in range(people)]
        states = {
            name: bases.random_adapter(size, config.rank, config.targets, config.seed + i) for i, name in enumerate(names)
        }
        rng = random.Random(config.seed)
        self.prompts = {name: [rng.randrange(16, size.vocab) for _ in range(n_prompt)] for name in names}
        base = ours.load(path)
        layout = ours.layout_of(base, config)
        self.engine = ours.engine_for(base, layout, {name: layout.row_of(state) for name, state in states.items()})
        self.adapted = peers_serve.attach(peers.load_resident(path), states, config)
        self.n_new = n_new
        self.answers: dict[str, dict[str, list[int]]] = {}

    def methods(self) -> dict[str, Callable[[], object]]:
        return {"peft_switch": self.peft_switch, "peft_mixed": self.peft_mixed, "mixed": self.mixed}

    def peft_switch(self) -> None:
        self.answers["peft_switch"] = peers_serve.serve_set_adapter(self.adapted, self.prompts, self.n_new)

    def peft_mixed(self) -> None:
        self.answers["peft_mixed"] = peers_serve.serve_mixed(self.adapted, self.prompts, self.n_new)

    def mixed(self) -> None:
        self.answers["mixed"] = ours.serve_batch(self.engine, self.prompts, self.n_new)

    def agreement(self) -> dict[str, Any]:
        """The share of people who got token for token what `peft_switch` gave them."""
        theirs = self.answers["peft_switch"]
        same = {
            name: sum(answers[person] == theirs[person] for person in theirs) / len(theirs)
            for name, answers in self.answers.items()
            if name != "peft_switch"
        }
        return {"same_answers_as_peft_switch": same, "agrees": min(same.values()) == 1.0}
