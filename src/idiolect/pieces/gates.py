"""Gates: one vector per piece, trained after the fact, that says for which inputs the piece is good.

    y = x W + σ(x · g) · scale · x A B          base, A and B frozen, only g is trained, from zero

Minimising the person's own loss turns g towards inputs on which the piece helps. When a newcomer's adapter is assembled, g is
what their inputs are compared with (assemble.py); it is not used when the adapter answers. All sharers' gates are trained
together by the fused trainer, each as if alone.

Source: Muqeeth et al. 2024 (PHATGOOSE), arXiv:2402.05859, §3.1; Tan et al. 2024 (Per-Pcs), arXiv:2406.10471, stage 3. The rate
is PHATGOOSE's: at the reference code's 2e-5 a gate hardly leaves zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from idiolect.config import TrainConfig
from idiolect.model.adapter import Layout
from idiolect.model.base import Base
from idiolect.train.slots import Subject
from idiolect.train.trainer import Finished, Job, Progress, train

GATES = TrainConfig(
    learning_rate=5e-3, steps=100, batch_size=8, weight_decay=0.0, schedule="cosine", warm_up=0.0, clip=1.0, max_tokens=512
)
"""Settings of gate training. No dropout: what it would regularise is frozen."""


def train_gates(
    base: Base,
    layout: Layout,
    sharers: Iterable[Job],
    config: TrainConfig = GATES,
    *,
    on_done: Callable[[Finished], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, Tensor]:
    """Train everybody's gates; each sharer's row of the layout's `GateLayout`.

    Args:
        base: with the task adapter merged in that the adapters were trained on.
        layout: of the sharers' adapters, the same for all.
        sharers: person, examples, and as `start` the row of their adapter.

    Raises:
        EmptyHistory: a sharer without examples.
    """
    rows: dict[str, Tensor] = {}

    def keep(done: Finished) -> None:
        rows[done.person] = done.row
        if on_done is not None:
            on_done(done)

    train(base, sharers, config, keep, on_progress, subject=Subject(layout, gates=True))
    return rows
