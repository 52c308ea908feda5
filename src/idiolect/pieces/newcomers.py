"""Assembly from people in a store to adapters in it.

    history ─ rendered as the pool's sharers' were ─▶ assemble ─▶ record ─ publish, citing its pieces ─▶ in use

An adapter is found again instead of assembled again where history, settings and pool are the same. When pieces are withdrawn,
the store has taken away what cited them, and `again` assembles the same people from what is left, in the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from idiolect.errors import EmptyHistory, IdiolectError, InputError
from idiolect.model.base import Base
from idiolect.model.pieces import Pool, Record
from idiolect.pieces.assemble import Newcomer, Settings, assemble
from idiolect.pieces.share import recipe_of
from idiolect.store.records import Affected, Parent
from idiolect.store.store import Store
from idiolect.train.stages import Recipe, history_manifest, render_history
from idiolect.types import AdapterManifest

_TOGETHER = 64
"""People whose records are published together: what a crash costs at most."""

_KEPT = ("max_tokens", "dtype", "tokenizer")
"""Settings of a trained adapter that count for an assembled one too."""


@dataclass(frozen=True)
class Assembled:
    """One person's adapter, assembled now.

    Attributes:
        seconds: their share of the reading, by tokens.
        size_bytes: of the record.
        n_pieces: different pieces that it cites.
        n_examples: items that were read.
    """

    digest: str
    seconds: float
    size_bytes: int
    n_pieces: int
    n_examples: int


@dataclass
class AssemblyReport:
    """What a run did.

    Attributes:
        made: what was assembled.
        kept: digest of each that was already there.
        problems: one line for each person whom there is nothing to assemble for; what they used before, or the base, answers.
        n_short: modules of the pool with fewer pieces than were asked for.
    """

    made: dict[str, Assembled] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    pool: str = ""
    n_short: int = 0
    seconds: float = 0.0

    @property
    def adapters(self) -> dict[str, str]:
        """Everybody's adapter, made now or before."""
        return self.kept | {user: one.digest for user, one in self.made.items()}


@dataclass(frozen=True)
class Order:
    """From what, and how, adapters are assembled.

    Attributes:
        base: with the pool's task adapter merged in.
        version: the store's, of the pool as it was read.
        recipe: how histories are read; its config's rank and targets do not count.
        taught: base people of the task adapter, who get nothing on top of it.
    """

    base: Base
    pool: Pool
    version: str
    recipe: Recipe
    settings: Settings
    taught: frozenset[str] = frozenset()

    @property
    def width(self) -> int:
        """Pieces per module that an adapter has at most."""
        if self.settings.combine == "factor":
            return 1
        return min(self.settings.k, max((len(shelf.ids) for shelf in self.pool.modules.values()), default=0)) or 1

    @property
    def n_short(self) -> int:
        """Modules with fewer pieces than are asked for."""
        names = [site.name for group in self.pool.layout.groups for site in group.sites]
        modules = self.pool.modules
        return sum(len(modules[name].ids) < self.settings.k if name in modules else True for name in names)


def assemble_people(
    store: Store, order: Order, users: Iterable[str], on_progress: Callable[[int], None] | None = None
) -> AssemblyReport:
    """Assemble an adapter for each of these people and put it into use.

    Args:
        on_progress: called with the number of people who are done.
    """
    report = AssemblyReport(pool=order.pool.key.digest, n_short=order.n_short)
    began = time.monotonic()
    queue = iter(users)
    while party := list(islice(queue, _TOGETHER)):
        _party(store, order, party, report)
        if on_progress is not None:
            on_progress(len(report.adapters) + len(report.problems))
    report.seconds = time.monotonic() - began
    return report


def _party(store: Store, order: Order, users: Sequence[str], report: AssemblyReport) -> None:
    manifests: dict[str, AdapterManifest] = {}
    newcomers = list(_newcomers(store, order, users, manifests, report))
    if not newcomers:
        return
    began = time.monotonic()
    records = assemble(order.base, order.pool, newcomers, order.settings)
    seconds = time.monotonic() - began
    sizes = {newcomer.person: sum(len(e.ids) for e in newcomer.examples) for newcomer in newcomers}
    for user, record in records.items():
        share = seconds * sizes[user] / max(1, sum(sizes.values()))
        try:
            report.made[user] = _publish(store, order, manifests[user], record, share)
        except IdiolectError as error:  # deleted meanwhile, or a piece withdrawn: the others go on
            report.problems[user] = str(error)


def _newcomers(
    store: Store, order: Order, users: Sequence[str], manifests: dict[str, AdapterManifest], report: AssemblyReport
) -> Iterator[Newcomer]:
    """Those who are to be assembled; the others are noted in the report."""
    for user in users:
        try:
            person = store.person(user)
            if user in order.taught:
                raise InputError(
                    "a base person of the task adapter under the pool; train a task adapter without them (--exclude)"
                )
            if not person.history:
                raise EmptyHistory("there is no history to assemble from; import one first: idiolect history import")
            manifests[user] = manifest = _manifest(order, history_manifest(order.base, order.recipe, person))
            if (found := store.find(manifest)) is not None:
                store.set_head(found)
                report.kept[user] = found
                continue
            own = {piece.id for piece in store.pieces_of(user)}
            yield Newcomer(user, render_history(order.base, order.recipe, person), own)
        except IdiolectError as error:
            report.problems[user] = str(error)


def _manifest(order: Order, read: AdapterManifest) -> AdapterManifest:
    """The manifest of an adapter to be, from that of one trained on the same history."""
    key, s = order.pool.key, order.settings
    settings: dict[str, Any] = {name: read.settings[name] for name in _KEPT}
    settings |= {"pool": key.digest, "pool_version": order.version, "k": s.k, "temperature": s.temperature}
    settings |= {"combine": s.combine, "choice": s.choice, "max_examples": s.max_examples, "seed": s.seed}
    if s.strength != 1:  # left out at 1, so that adapters of before there was a strength are found again
        settings["strength"] = s.strength
    rank, alpha = order.width * key.rank, order.width * key.alpha
    return replace(read, kind="assembled", rank=rank, alpha=alpha, targets=key.targets, settings=settings)


def _publish(store: Store, order: Order, manifest: AdapterManifest, record: Record, seconds: float) -> Assembled:
    if not record.pieces:
        raise EmptyHistory("there is nothing to assemble from: every piece of the pool is their own, or no item has an answer")
    payload = record.to_bytes(order.base.tokenizer.digest)
    stats = {"seconds": seconds, "pieces": len(record.pieces), "examples": record.n_history}
    parents = [Parent("piece", str(piece)) for piece in record.pieces]
    digest = store.publish(manifest, payload, stats=stats, parents=parents)
    return Assembled(digest, seconds, len(payload), len(record.pieces), record.n_history)


# --------------------------------------------------------------------------------------------------------- once more


@dataclass(frozen=True)
class Once:
    """How an adapter had been assembled: the pool's digest, the settings, and how the history was read."""

    pool: str
    settings: Settings
    recipe: Recipe
    task_adapter: str | None

    @classmethod
    def of(cls, manifest: AdapterManifest) -> Once:
        said: Mapping[str, Any] = manifest.settings
        names = ("k", "temperature", "combine", "choice", "max_examples", "seed")
        settings = Settings(**{name: said[name] for name in names}, strength=said.get("strength", 1.0))
        recipe = replace(recipe_of(manifest), max_history=settings.max_examples)
        return cls(said["pool"], settings, recipe, manifest.task_adapter)


def by_order(affected: Iterable[Affected]) -> Iterator[tuple[Once, list[str]]]:
    """People whose adapter in use was assembled and is gone, those of the same order together."""
    groups: list[tuple[Once, list[str]]] = []
    for one in affected:
        if one.kind != "assembled" or not one.was_head or one.user_id is None:
            continue
        once = Once.of(one.manifest)
        users = next((users for other, users in groups if other == once), None)
        if users is None:
            groups.append((once, users := []))
        users.append(one.user_id)
    yield from groups
