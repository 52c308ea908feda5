"""Sharing: people's trained adapters become pieces of a pool, with gates trained beside them.

    adapter in use ─ its own history, as it was trained ─ train_gates, all sharers together ─▶ cut ─ consent ─▶ store

What a person shares already is neither trained nor named anew: a smaller consent withdraws pieces, and only a greater one
trains. A sharer's pieces are in the store as soon as their gates are done.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from idiolect.config import TrainConfig
from idiolect.data.tasks import Task, get_task
from idiolect.errors import ConfigError, EmptyHistory, IdiolectError, InputError
from idiolect.model.adapter import Layout
from idiolect.model.base import Base
from idiolect.model.files import layout_of, read_record
from idiolect.model.pieces import PoolKey, cut, directions
from idiolect.pieces.consent import Consent
from idiolect.pieces.gates import GATES, train_gates
from idiolect.store.records import Revocation
from idiolect.store.store import Store
from idiolect.train.stages import Recipe, render_history
from idiolect.train.trainer import Finished, Job, Progress
from idiolect.types import AdapterManifest, Person, Rendered

Based = Callable[[str | None], Base]
"""The base with a task adapter merged in, by its digest; None: the bare base."""

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Terms:
    """What is shared, and how its gates are made.

    Attributes:
        gates: settings of gate training.
        direction_only: gates leave the person with mean 0 and standard deviation 1; choosing pieces needs no more of them.
        again: train gates even where they are there already, e.g. with other settings.
    """

    consent: Consent = field(default_factory=Consent)
    gates: TrainConfig = GATES
    direction_only: bool = False
    again: bool = False


@dataclass
class ShareReport:
    """What a run did.

    Attributes:
        shared: pieces of each person whose gates were trained now.
        kept: pieces of each whose gates were there already.
        problems: one line for each person who could not share.
        pools: digests of the pools that people share in now.
        revocations: what was withdrawn because people share something else now.
    """

    shared: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    pools: list[str] = field(default_factory=list)
    revocations: list[Revocation] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Sharer:
    """A person and the adapter that they share. bodies: by module, what of it is shared already, fit to be kept."""

    user: str
    digest: str
    manifest: AdapterManifest
    key: PoolKey
    modules: tuple[str, ...]
    bodies: dict[str, bytes]


def share(
    store: Store,
    based: Based,
    users: Iterable[str],
    task: Task,
    variant: str,
    terms: Terms,
    on_progress: OnProgress | None = None,
) -> ShareReport:
    """Share the adapters that these people use. One who cannot is reported, and does not stop the others."""
    report = ShareReport()
    todo: dict[PoolKey, list[Sharer]] = {}
    for user in users:
        try:
            sharer = _sharer(store, based(None), user, task, variant, terms)
            if set(sharer.modules) <= sharer.bodies.keys():
                report.kept[user] = _publish(store, sharer, sharer.bodies, report)
            else:
                todo.setdefault(sharer.key, []).append(sharer)
        except IdiolectError as error:
            report.problems[user] = str(error)
    ahead = _Ahead(report, sum(map(len, todo.values())), terms.gates.steps, on_progress)
    for key, sharers in todo.items():
        _train(store, based(key.task_adapter), key, sharers, terms, report, ahead)
    return report


def key_of(manifest: AdapterManifest) -> PoolKey:
    """The pool that an adapter's pieces belong to."""
    m = manifest
    return PoolKey(m.task, m.base, m.task_adapter, m.rank, float(m.alpha), tuple(m.targets))


def _sharer(store: Store, base: Base, user: str, task: Task, variant: str, terms: Terms) -> Sharer:
    digest = store.head(user, task=task.name, base=base.fingerprint, variant=variant)
    manifest = store.manifest(digest)
    if manifest.kind != "user":
        raise InputError(
            f"user {user!r} uses an adapter that was assembled from others' pieces, and has nothing of their own to share; "
            f"train one: idiolect train {shlex.quote(user)} --task {task.name}"
        )
    if manifest.settings.get("start") != "shared":
        raise InputError(
            f"the adapter of user {user!r} began with numbers drawn by name, or nobody knows how: its pieces could be told to "
            f"be theirs; train it anew: idiolect train {shlex.quote(user)} --task {task.name}"
        )
    key = key_of(manifest)
    layout = base.layout(key.rank, key.alpha, key.targets)
    names = [site.name for group in layout.groups for site in group.sites]
    modules = tuple(terms.consent.chosen(user, names))
    bodies = {} if terms.again else _shared_already(store, user, digest, key, layout, terms.direction_only)
    return Sharer(user, digest, manifest, key, modules, bodies)


def _shared_already(
    store: Store, user: str, digest: str, key: PoolKey, layout: Layout, direction_only: bool
) -> dict[str, bytes]:
    """By module: the pieces of this adapter in this pool, as far as their gates say as much, or as little, as is wanted."""
    rows = [row for row in store.pieces_of(user) if (row.pool, row.adapter) == (key.digest, digest)]
    widths = {site.name: site.d_in for group in layout.groups for site in group.sites}
    found = {piece.module: piece.body for piece in store.read_pieces(row.id for row in rows).values()}
    return {name: body for name, body in found.items() if _is_direction(body, widths[name]) == direction_only}


def _is_direction(body: bytes, width: int) -> bool:
    gate = np.frombuffer(body, dtype="<f4")[-width:].astype(np.float64)
    return bool(abs(gate.mean()) < 1e-3 and (abs(gate.std() - 1) < 1e-3 or not gate.any()))


def _train(
    store: Store, base: Base, key: PoolKey, sharers: Sequence[Sharer], terms: Terms, report: ShareReport, ahead: _Ahead
) -> None:
    """Train the gates of one pool's sharers together; each is published when done."""
    layout = base.layout(key.rank, key.alpha, key.targets)
    waiting: dict[str, tuple[Sharer, Tensor]] = {}

    def jobs() -> Iterator[Job]:
        for sharer in sharers:
            try:
                job = _job(store, base, layout, sharer)
            except IdiolectError as error:
                report.problems[sharer.user] = str(error)
                continue
            assert job.start is not None
            waiting[sharer.user] = (sharer, job.start)
            yield job

    def publish(done: Finished) -> None:
        sharer, row = waiting.pop(done.person)
        try:
            bodies = _bodies(layout, row, done, terms.direction_only)
            report.shared[sharer.user] = _publish(store, sharer, bodies | sharer.bodies, report)
        except IdiolectError as error:  # deleted meanwhile, or diverged: the others go on
            report.problems[sharer.user] = str(error)
            return
        report.tokens += done.tokens
        report.seconds += done.seconds

    config = terms.gates.but(rank=key.rank, alpha=key.alpha, targets=key.targets)
    train_gates(base, layout, jobs(), config, on_done=publish, on_progress=ahead.progress)
    ahead.past()


def _job(store: Store, base: Base, layout: Layout, sharer: Sharer) -> Job:
    base.accept(sharer.manifest, sharer.digest)
    record = read_record(store.record(sharer.digest))
    base.accept_origin(record.origin, sharer.digest)
    if layout_of(record.layout, base.model.sites()).key != layout.key:
        raise ConfigError(f"adapter {sharer.digest[:12]} is not of the shape that its manifest names; train it again")
    return Job(sharer.user, _trained_on(base, sharer.manifest, store.person(sharer.user)), record.row)


def recipe_of(manifest: AdapterManifest) -> Recipe:
    """How a person's history was read for an adapter of theirs."""
    most = manifest.settings.get("max_tokens", GATES.max_tokens)
    config = GATES.but(max_tokens=most, seed=manifest.seed)
    return Recipe(get_task(manifest.task), config, manifest.retriever, manifest.k)


def _trained_on(base: Base, manifest: AdapterManifest, person: Person) -> list[Rendered]:
    """The examples that an adapter was trained on; all of the person's where it was imported."""
    rendered = render_history(base, recipe_of(manifest), person)
    kept = set(manifest.item_ids)
    found = [example for example in rendered if example.id in kept] if kept else rendered
    if not found:
        raise EmptyHistory(f"user {person.id!r}: nothing that their adapter was trained on is there any more; train it again")
    return found


def _bodies(layout: Layout, row: Tensor, done: Finished, direction_only: bool) -> dict[str, bytes]:
    gates = done.row.float()
    if not bool(gates.isfinite().all()):
        raise ConfigError(f"gates of user {done.person!r} diverged (numbers that are not finite); choose a smaller --gate-lr")
    return cut(layout, row, directions(layout, gates) if direction_only else gates)


def _publish(store: Store, sharer: Sharer, bodies: dict[str, bytes], report: ShareReport) -> int:
    given = [(module, bodies[module]) for module in sharer.modules]
    done = store.share_pieces(sharer.key.to_dict(), sharer.user, sharer.digest, given)
    if done.revoked is not None:
        report.revocations.append(done.revoked)
    if sharer.key.digest not in report.pools:
        report.pools.append(sharer.key.digest)
    return len(done.ids)


class _Ahead:
    """Progress over all pools: people done, and optimiser steps where their number is known."""

    def __init__(self, report: ShareReport, n: int, steps: int | None, show: OnProgress | None) -> None:
        self._report, self._total = report, None if steps is None else n * steps
        self._show = show
        self._latest: Progress | None = None
        self._steps, self._tokens, self._seconds = 0, 0, 0.0

    def progress(self, at: Progress) -> None:
        self._latest = at
        if self._show is not None:
            done = len(self._report.shared) + len(self._report.kept) + len(self._report.problems)
            self._show(
                replace(
                    at,
                    done=done,
                    steps_done=self._steps + at.steps_done,
                    steps_total=self._total,
                    tokens=self._tokens + at.tokens,
                    seconds=self._seconds + at.seconds,
                )
            )

    def past(self) -> None:
        """One pool is done."""
        if (at := self._latest) is not None:
            self._steps, self._tokens = self._steps + at.steps_done, self._tokens + at.tokens
            self._seconds += at.seconds
        self._latest = None
