"""Our side of every comparison, spelt once: the same calls that `idiolect train` and `idiolect generate` make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idiolect.bench.bases import State
from idiolect.config import TrainConfig
from idiolect.types import Rendered

if TYPE_CHECKING:
    from torch import Tensor

Jobs = Mapping[str, Sequence[Rendered]]


def load(folder: Path) -> Any:
    """The base in float32 on the CPU, as the peers have it."""
    from idiolect.model.base import load_base

    return load_base(folder, device="cpu", dtype="float32")


def layout_of(base: Any, config: TrainConfig) -> Any:
    """Where each module's A and B stand in a row."""
    return base.layout(config.rank, config.alpha, config.targets)


def initial(base: Any, people: Iterable[str], config: TrainConfig) -> dict[str, State]:
    """The adapters that training starts from, for the peers to start from as well."""
    layout = layout_of(base, config)
    whose = (person if config.start == "own" else "" for person in people)
    return {person: copy(layout.matrices(layout.init_row(config.seed, one))) for person, one in zip(people, whose, strict=True)}


def order_of(jobs: Jobs, config: TrainConfig) -> dict[str, list[list[int]]]:
    """Each person's batches, over all epochs, as the trainer takes them."""
    from idiolect.train.schedule import epoch_order

    order: dict[str, list[list[int]]] = {}
    for person, examples in jobs.items():
        order[person] = []
        for epoch in range(config.epochs):
            drawn = epoch_order(config.seed, person, epoch, len(examples))
            order[person] += [list(drawn[i : i + config.batch_size]) for i in range(0, len(drawn), config.batch_size)]
    return order


def train_fused(base: Any, jobs: Jobs, config: TrainConfig, out: Path) -> dict[str, State]:
    """All people in one run; the adapters, each also saved under `out`."""
    layout = layout_of(base, config)
    states: dict[str, State] = {}

    def keep(person: str, row: Tensor) -> None:
        save_row(layout, row, out / f"{person}.safetensors")
        states[person] = copy(layout.matrices(row))

    out.mkdir(parents=True, exist_ok=True)
    train_stream(base, jobs.items(), config, keep)
    return states


def train_stream(
    base: Any,
    jobs: Iterable[tuple[str, Sequence[Rendered]]],
    config: TrainConfig,
    keep: Callable[[str, Tensor], None],
) -> None:
    """Train people as they come; `keep` is called with each finished row."""
    from idiolect.train.trainer import Job, train

    train(base, (Job(person, tuple(rows)) for person, rows in jobs), config, lambda done: keep(done.person, done.row))


def engine_for(base: Any, layout: Any, rows: Mapping[str, Tensor]) -> Any:
    """An engine whose bank holds every person's adapter under their name."""
    from idiolect.engine.local import Engine

    engine = Engine(base)
    for person, row in rows.items():
        engine.bank.put(person, layout, row)
    return engine


def serve_batch(engine: Any, prompts: Mapping[str, Sequence[int]], n_new: int) -> dict[str, list[int]]:
    """All people in one batch, each with their own adapter; greedy, exactly `n_new` tokens."""
    from idiolect.engine.local import Request

    requests = [Request(person, tuple(ids), adapter=person, max_new_tokens=n_new) for person, ids in prompts.items()]
    return {done.id: list(done.ids) for done in engine.generate(requests, ignore_eos=True)}


def save_row(layout: Any, row: Tensor, path: Path) -> None:
    """Write the flat record that the store keeps."""
    from idiolect.model.files import to_record

    path.write_bytes(to_record(layout, row))


def publish(blobs: Any, layout: Any, row: Tensor) -> str:
    """Put a row where the store would; its digest."""
    from idiolect.model.files import to_record
    from idiolect.types import digest_of

    record = to_record(layout, row)
    digest = digest_of(record)
    blobs.write(digest, record)
    return digest


def copy(matrices: Mapping[str, tuple[Tensor, Tensor]]) -> State:
    """Matrices that no longer share memory with a row."""
    return {name: (a.detach().clone(), b.detach().clone()) for name, (a, b) in matrices.items()}
