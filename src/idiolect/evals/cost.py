"""What pieces cost against an adapter for everybody, by population: bytes as measured, FLOP as counted.

    storage   N · adapter                              against   pool + N · record
    compute   N · (epochs of forward and backward)     against   sharers' adapters and gates + N · (one forward)

Both ratios depend on the number of people and on nothing that a single figure could stand for, so the curve is the result: it
says from how many people on a claim such as "38 times less storage, 7 times less compute" holds, if it ever does.

FLOP per token: 2·W forward and 2·W for the gradient of the input, W the base's weights in linear modules (frozen, so without
gradients of their own); the head, 2·V·D each way, at answer tokens where there is a loss; 2·R·(D + O) forward and 4·R·(D + O)
backward per adapted module (2 where the adapter is frozen). Attention's own products are left out on both sides, as is whatever
a trainer may skip. Claims: Tan et al. 2024 (Per-Pcs), arXiv:2406.10471.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from idiolect.config import TrainConfig
from idiolect.errors import DependencyMissing, EmptyHistory
from idiolect.evals.assembling import Kitchen
from idiolect.evals.folder import doing_it_again, pipe_table, publish, seconds_text, write_results, write_text
from idiolect.evals.harness import kitchen
from idiolect.evals.plan import OnStage, Plan, said_of, silent
from idiolect.model.adapter import Layout
from idiolect.model.base import Base
from idiolect.model.files import to_record
from idiolect.store.store import Store
from idiolect.train.schedule import steps_per_epoch, total_steps
from idiolect.train.stages import newest, rendered_items
from idiolect.types import Rendered

POPULATIONS = (10, 30, 100, 300, 1_000, 2_000, 3_000, 10_000, 100_000)
CLAIMED_STORAGE, CLAIMED_COMPUTE = 38.0, 7.0


@dataclass(frozen=True)
class Sizes:
    """What FLOP are counted from.

    Attributes:
        weights: in the base's linear modules, W.
        head: V·D.
        widths: Σ (D + O) over the adapted modules.
        inputs: Σ D over the adapted modules: what a gate has numbers for.
    """

    weights: int
    head: int
    widths: int
    inputs: int

    @classmethod
    def of(cls, base: Base, layout: Layout) -> Sizes:
        sites = [site for group in layout.groups for site in group.sites]
        return cls(
            sum(site.d_in * site.d_out for site in base.model.sites()),
            base.model.head.numel(),
            sum(site.d_in + site.d_out for site in sites),
            sum(site.d_in for site in sites),
        )

    def training(self, rank: int, tokens: float, answers: float) -> float:
        """An adapter's, over these tokens."""
        return 4.0 * self.weights * tokens + 4.0 * self.head * answers + 6.0 * rank * self.widths * tokens

    def gating(self, rank: int, tokens: float, answers: float) -> float:
        """Gates' on a frozen adapter: no gradients of A and B; 2·D each for the gate, its gradient and what flows on."""
        return self.training(rank, tokens, answers) - 2.0 * rank * self.widths * tokens + 6.0 * self.inputs * tokens

    def assembling(self, rank: int, k: int, sharers: int, tokens: float) -> float:
        """One forward pass with k pieces in each module, no head, and a score of every sharer's gate."""
        return 2.0 * self.weights * tokens + 2.0 * k * rank * self.widths * tokens + 2.0 * sharers * self.inputs


def seen(examples: Sequence[Rendered], config: TrainConfig) -> tuple[float, float]:
    """(tokens, answer tokens) that a training run over these examples reads; parts of an epoch by the mean."""
    n = len(examples)
    epochs = total_steps(n, config) / steps_per_epoch(n, config.batch_size)
    return epochs * sum(len(e.ids) for e in examples), epochs * sum(e.n_answer for e in examples)


@dataclass(frozen=True)
class Costs:
    """Bytes and FLOP: of a pool, and of one more person with and without it.

    Attributes:
        adapter_bytes, record_bytes, adapter_flop, record_flop: of one person, the mean.
        pool_bytes, pool_flop: once for everybody.
    """

    adapter_bytes: float
    record_bytes: float
    pool_bytes: float
    adapter_flop: float
    record_flop: float
    pool_flop: float

    def storage(self, people: float) -> float:
        """How many times less is stored."""
        return people * self.adapter_bytes / (self.pool_bytes + people * self.record_bytes)

    def compute(self, people: float) -> float:
        """How many times less is computed, the making of the pool included."""
        return people * self.adapter_flop / (self.pool_flop + people * self.record_flop)

    def storage_reaches(self, ratio: float) -> int | None:
        """The number of people from which on; None: never."""
        return _reaches(ratio, self.adapter_bytes, self.pool_bytes, self.record_bytes)

    def compute_reaches(self, ratio: float) -> int | None:
        return _reaches(ratio, self.adapter_flop, self.pool_flop, self.record_flop)

    def to_dict(self) -> dict[str, Any]:
        """Everything that `results.json` says of it."""
        return {
            "storage": {
                "adapter_bytes": self.adapter_bytes,
                "record_bytes": self.record_bytes,
                "pool_bytes": self.pool_bytes,
                "limit": self.adapter_bytes / self.record_bytes,
                "claimed": CLAIMED_STORAGE,
                "people_for_claim": self.storage_reaches(CLAIMED_STORAGE),
                "people_for_one": self.storage_reaches(1.0),
            },
            "flop": {
                "adapter": self.adapter_flop,
                "record": self.record_flop,
                "pool": self.pool_flop,
                "limit": self.adapter_flop / self.record_flop,
                "claimed": CLAIMED_COMPUTE,
                "people_for_claim": self.compute_reaches(CLAIMED_COMPUTE),
                "people_for_one": self.compute_reaches(1.0),
            },
            "curve": [{"people": n, "storage_ratio": self.storage(n), "flop_ratio": self.compute(n)} for n in POPULATIONS],
        }


def _reaches(ratio: float, each: float, once: float, more: float) -> int | None:
    # ratio ≤ n · each / (once + n · more)
    gain = each - ratio * more
    return math.ceil(ratio * once / gain) if gain > 0 else None


def run(
    base: Base, store: Store, plan: Plan, *, on_stage: OnStage = silent, about: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Make the pool, where it is not there yet, and count: the content of `results.json`.

    Raises:
        EmptyHistory: nobody has items enough to share.
    """
    began = time.monotonic()
    made = kitchen(base, store, plan, on_stage=on_stage)
    found = measure(made).to_dict()
    said = said_of(base, plan, about or {}, time.monotonic() - began)
    return said | {"sharers": len(made.shared.adapters), "k": plan.pieces.assembly.k} | found


def measure(made: Kitchen) -> Costs:
    """What this pool, its records and the targets' own adapters would cost; trains nothing.

    Raises:
        EmptyHistory: no target has an item that fits.
    """
    base, recipe, plan, pool = made.base, made.recipe, made.plan, made.shared.pool
    sizes, layout, n_sharers = Sizes.of(base, pool.layout), pool.layout, len(made.shared.adapters)
    records, _ = made.assembled()
    row = torch.zeros(layout.size)
    read = [examples[-(plan.assembly.max_examples or 0) :] for examples in made.examples.values()]
    pieces = [sizes.assembling(layout.rank, plan.assembly.k, n_sharers, sum(len(e.ids) for e in mine)) for mine in read]
    own = [sizes.training(layout.rank, *seen(mine, recipe.config)) for mine in made.examples.values() if mine]
    if not own:
        raise EmptyHistory("no target has an item that an adapter could be trained on; choose others, or raise --max-tokens")
    shared = 0.0
    for user in made.shared.adapters:
        person = made.workshop.store.person(user)
        mine = rendered_items(base, recipe, person, newest(person, plan.max_history))
        shared += sizes.training(layout.rank, *seen(mine, recipe.config)) + sizes.gating(layout.rank, *seen(mine, plan.gates))
    return Costs(
        adapter_bytes=len(to_record(layout, row, base.origin)),
        record_bytes=float(np.mean([len(record.to_bytes(base.tokenizer.digest)) for record in records.values()])),
        pool_bytes=pool.size_bytes,
        adapter_flop=float(np.mean(own)),
        record_flop=float(np.mean(pieces)),
        pool_flop=shared,
    )


# ------------------------------------------------------------------------------------------------------------- report


def write(results: Mapping[str, Any], folder: Path) -> None:
    """Leave results.json, report.md and plot.png in the folder.

    Raises:
        StoreError: the folder cannot be written.
        DependencyMissing: matplotlib is not installed.
    """

    def fill(staged: Path) -> None:
        write_text(staged / "report.md", [markdown(results)])
        _plot(results, staged / "plot.png")
        write_results(staged, results)

    publish(folder, fill)


def markdown(results: Mapping[str, Any]) -> str:
    """The text of `report.md`."""
    storage, flop = results["storage"], results["flop"]
    rows = [[f"{at['people']:,}", f"{at['storage_ratio']:.2f}", f"{at['flop_ratio']:.2f}"] for at in results["curve"]]
    one = [
        [
            "storage, bytes",
            f"{storage['adapter_bytes']:,.0f}",
            f"{storage['record_bytes']:,.0f}",
            f"{storage['pool_bytes']:,.0f}",
        ],
        ["compute, GFLOP", *(f"{flop[name] / 1e9:,.2f}" for name in ("adapter", "record", "pool"))],
    ]
    parts = [
        f"# Cost of pieces against one adapter each: {results['task']} on {results['base']}",
        f"Measured on {results['n_people']} people and {results['sharers']} sharers, k = {results['k']}; "
        f"{seconds_text(results['seconds'])}.",
        pipe_table(["", "adapter, each person", "record, each person", "pool, once"], one),
        _claim("storage", storage),
        _claim("compute", flop),
        pipe_table(["people", "times less storage", "times less compute"], rows, n_text=0),
        "![The same as curves](plot.png)",
        _READING,
        *doing_it_again(results),
    ]
    return "\n\n".join(parts) + "\n"


def _claim(what: str, found: Mapping[str, Any]) -> str:
    people = found["people_for_claim"]
    said = f"from {people:,} people on" if people is not None else "never"
    even = found["people_for_one"]
    return (
        f"* {what.capitalize()}: {found['claimed']:g} times less {said}; as much as one adapter each at "
        f"{f'{even:,} people' if even is not None else 'no number of people'}; at most {found['limit']:.1f} times less."
    )


_READING = (
    "Bytes are of files as they are kept: an adapter's record, an assembly record, the pool's tensors. FLOP are counted from "
    "tokens and the sizes of the base; the pool's hold the training of the sharers' adapters and gates. What sharers gain from "
    "their own adapters is not set against it; the reading of histories by which sharers are chosen is left out."
)


def _plot(results: Mapping[str, Any], path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise DependencyMissing("the plot needs matplotlib: pip install 'idiolect[local]'") from None
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2)
    people = [at["people"] for at in results["curve"]]
    for axes, key, part in ((panels[0], "storage_ratio", "storage"), (panels[1], "flop_ratio", "flop")):
        axes.plot(people, [at[key] for at in results["curve"]], "o-", color="#0072B2")
        axes.axhline(results[part]["claimed"], color="#D55E00", linestyle="--", label=f"claimed: {results[part]['claimed']:g}")
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set(xscale="log", yscale="log", xlabel="people", ylabel=f"times less {'compute' if part == 'flop' else part}")
        axes.grid(color="#dddddd", linewidth=0.8)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=150, format="png")
