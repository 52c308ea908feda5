"""What assembling saves: seconds per newcomer against training them, and throughput when all are served from one pool."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from idiolect import machine
from idiolect.bench import bases, ours, report
from idiolect.bench.interleave import interleave, summarise
from idiolect.bench.workloads import WORKLOADS, count_tokens, make
from idiolect.config import TrainConfig


def bench_assemble(
    workload: str = "template",
    shape: str = "small",
    rounds: int = 5,
    out: Path | None = None,
    people: int = 16,
    seed: int = 0,
    threads: int | None = None,
    sharers: int = 20,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Compare `assemble` with `train` (the fused trainer, `default` preset's two epochs): same people, same histories.

    Everybody's examples begin with the same tokens as far as the workload says; assembling reads those once a person.
    """
    from idiolect.pieces.assemble import Newcomer, assemble
    from idiolect.train.trainer import Job, train

    threads = machine.set_up_threads(threads)
    size, config = bases.SHAPES[shape], TrainConfig.build(seed=seed)
    chosen = WORKLOADS[workload]
    data = make(chosen, size.vocab, seed, people)
    with tempfile.TemporaryDirectory() as folder:
        base = ours.load(bases.random_llama(Path(folder) / "base", size, seed))
        pool = pool_of(base, size, config, sharers)
        newcomers = [Newcomer(person, rows) for person, rows in data.items()]
        jobs = [Job(person, rows) for person, rows in data.items()]
        sizes: dict[str, int] = {}

        def run_assemble() -> None:
            sizes["record"] = max(len(record.to_bytes()) for record in assemble(base, pool, newcomers).values())

        methods = {"train": lambda: train(base, jobs, config, lambda done: None), "assemble": run_assemble}
        samples = interleave(methods, rounds, seed, on_sample=report.teller("people/min", 60 * people, say))
        figures = summarise(samples, ("train",))
    for method in figures["methods"].values():
        method["people_per_minute"] = 60 * people / method["median_s"]
    tokens, _ = count_tokens(data, 1)
    figures.update(
        shape=shape,
        workload=workload,
        people=people,
        sharers=sharers,
        tokens_per_person=tokens / people,
        epochs=config.epochs,
        flop_ratio_without_prefix=2.0 * config.epochs,
        pool_bytes=pool.size_bytes,
        record_bytes=sizes["record"],
        adapter_bytes=4 * ours.layout_of(base, config).size,
    )
    return report.write(f"assemble-{workload}-{shape}", figures, out, seed, threads)


def bench_pool(
    shape: str = "small",
    rounds: int = 5,
    out: Path | None = None,
    people: int = 64,
    seed: int = 0,
    threads: int | None = None,
    sharers: int = 20,
    k: int = 3,
    n_prompt: int = 48,
    n_new: int = 32,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Compare `pool` (everybody's pieces from one pool) with `lora` (the same adapters as rows of their own, rank k·R).

    One mixed batch each, greedy, exactly `n_new` tokens; what is resident when the clock starts: records, or rows.
    """
    from idiolect.engine.local import Engine
    from idiolect.model.bank import Bank
    from idiolect.pieces.assemble import Newcomer, Settings, assemble

    threads = machine.set_up_threads(threads)
    size, config = bases.SHAPES[shape], TrainConfig.build(seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        base = ours.load(bases.random_llama(Path(folder) / "base", size, seed))
        pool = pool_of(base, size, config, sharers)
        data = make(WORKLOADS["short"], size.vocab, seed, people)
        records = assemble(base, pool, [Newcomer(person, rows) for person, rows in data.items()], Settings(k=k))
        bank = Bank(base.model.sites(), base.device, base.dtype, pools=lambda key: pool)
        plain = Bank(base.model.sites(), base.device, base.dtype)
        for person, record in records.items():
            bank.cite(person, pool.key, record.entries)
            plain.put(person, *pool.adapter(record.entries))
        rng = random.Random(seed)
        prompts = {person: [rng.randrange(16, size.vocab) for _ in range(n_prompt)] for person in records}
        engines = {"lora": Engine(base, plain), "pool": Engine(base, bank)}
        answers: dict[str, dict[str, list[int]]] = {}

        def serve(name: str) -> None:
            answers[name] = ours.serve_batch(engines[name], prompts, n_new)

        methods = {name: (lambda name=name: serve(name)) for name in engines}
        samples = interleave(methods, rounds, seed, on_sample=report.teller("tokens/s", people * n_new, say))
    figures = summarise(samples, ("lora",))
    for method in figures["methods"].values():
        method["tokens_per_s"] = people * n_new / method["median_s"]
    same = sum(answers["pool"][person] == answers["lora"][person] for person in records) / people
    layout = pool.adapter(records[next(iter(records))].entries)[0]
    figures.update(
        shape=shape,
        people=people,
        sharers=sharers,
        k=k,
        n_prompt=n_prompt,
        n_new=n_new,
        bytes_per_person={"pool": max(len(r.to_bytes()) for r in records.values()), "lora": 4 * layout.size},
        agreement={"same_answers_as_lora": same, "agrees": same == 1.0},
    )
    return report.write(f"pool-{shape}", figures, out, seed, threads)


def pool_of(base: Any, size: bases.Shape, config: TrainConfig, sharers: int) -> Any:
    """A pool of random adapters with random gates: what they say costs the same as what trained ones say."""
    import torch

    from idiolect.model.adapter import GateLayout
    from idiolect.model.pieces import Pool, PoolKey, cut

    layout = ours.layout_of(base, config)
    key = PoolKey("bench", base.fingerprint, None, config.rank, config.alpha, config.targets)
    bodies: list[tuple[int, str, bytes]] = []
    for number in range(sharers):
        row = layout.row_of(bases.random_adapter(size, config.rank, config.targets, number))
        gates = torch.randn(GateLayout(layout).size, generator=torch.Generator().manual_seed(number))
        for module, body in cut(layout, row, gates).items():
            bodies.append((len(bodies) + 1, module, body))
    return Pool(key, base.model.sites(), bodies)
