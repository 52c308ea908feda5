"""A small adapter of one's own on top of an assembled one, for newcomers with history enough to train it.

    A = [A assembled | A residual],  B = [B assembled; B residual]      only the residual's numbers are trained

The residual starts as any new adapter does, so that nothing is changed before its first step, and what was assembled stays bit
for bit. All newcomers are trained together, each as if alone. Kept are the record and the residual's own numbers.

Source: "MTA", arXiv:2511.20072: an ultra-low-rank adapter on merged anchors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from idiolect.config import Settings, TrainConfig
from idiolect.model.adapter import Layout
from idiolect.model.base import Base
from idiolect.model.pieces import Pool, Record
from idiolect.train.slots import Subject
from idiolect.train.trainer import Finished, Job, Progress, train
from idiolect.types import Rendered


class Residual(Settings):
    """What is trained on top.

    Attributes:
        rank: of the residual, 1 or 2.
        min_items: whoever has fewer keeps the assembled adapter alone.
    """

    rank: int = 1
    min_items: int = 20


def residuals(
    base: Base,
    pool: Pool,
    records: Mapping[str, Record],
    examples: Mapping[str, Sequence[Rendered]],
    config: TrainConfig,
    settings: Residual | None = None,
    *,
    on_done: Callable[[Finished], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, tuple[Layout, Tensor]]:
    """The whole adapter, (layout, row), of everybody with history enough; the others are left out.

    Args:
        base: with the task adapter merged in that the pool's pieces were trained on.
        config: how to train; its rank, alpha and targets do not count.

    Raises:
        PieceNotFound: a cited piece is gone.
    """
    settings = settings or Residual()
    jobs: dict[str, tuple[Layout, list[Job]]] = {}
    for user, record in records.items():
        mine = [example for example in examples[user] if example.n_answer > 0]
        if len(mine) >= settings.min_items and record.pieces:
            layout, row = widened(base, *pool.adapter(record.entries, record.combine), settings.rank, config.seed, user)
            jobs.setdefault(layout.key, (layout, []))[1].append(Job(user, mine, start=row))
    found: dict[str, tuple[Layout, Tensor]] = {}
    for layout, group in jobs.values():

        def keep(done: Finished, layout: Layout = layout) -> None:
            found[done.person] = layout, done.row
            if on_done is not None:
                on_done(done)

        train(base, group, config, keep, on_progress, Subject(layout, part=added(layout, settings.rank)))
    return found


def widened(base: Base, layout: Layout, row: Tensor, rank: int, seed: int, person: str) -> tuple[Layout, Tensor]:
    """The adapter with `rank` more, a fresh one's: the same update, and room to learn. Scale and numbers stay as they are."""
    wide = base.layout(layout.rank + rank, layout.scale * (layout.rank + rank), layout.targets)
    whole = wide.init_row(seed, person)
    given = layout.matrices(row)
    for name, (a, b) in wide.matrices(whole).items():
        a[:, : layout.rank], b[: layout.rank] = given[name]
    return wide, whole


def added(layout: Layout, rank: int) -> Tensor:
    """Which of a widened adapter's numbers are the residual's, (P,): 1 or 0."""
    part = torch.zeros(layout.size)
    for a, b in layout.matrices(part).values():
        a[:, -rank:], b[-rank:] = 1, 1
    return part


def residual_bytes(layout: Layout, rank: int) -> int:
    """Bytes of the residual's own numbers, float32."""
    return 4 * rank * sum(site.d_in + site.d_out for group in layout.groups for site in group.sites)
