"""The desk where pieces are given and taken: sharers, newcomers, pools in memory, pools as files.

with Idiolect.open("my-store") as house:
    house.pieces.share(["ana", "ben"], "LaMP-3", Consent(ratio=0.5))
    house.pieces.assemble(["zoe"], "LaMP-3")      # from now on `house.generate("zoe", …)` answers with it
    house.pieces.revoke(user="ana")               # and zoe's adapter is assembled anew, from what is left
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from idiolect.config import TrainConfig
from idiolect.data.tasks import Task, get_task
from idiolect.errors import (
    BaseMismatch,
    ConfigError,
    EmptyHistory,
    IdiolectError,
    InputError,
    PieceNotFound,
    TaskAdapterNotFound,
)
from idiolect.model.base import Base
from idiolect.model.pieces import Pool, PoolKey
from idiolect.pieces import pool_files, views
from idiolect.pieces.assemble import Settings
from idiolect.pieces.consent import Consent
from idiolect.pieces.gates import GATES
from idiolect.pieces.newcomers import AssemblyReport, Once, Order, assemble_people, by_order
from idiolect.pieces.select import Encoder, Selection, Sharers, base_encoder, choose_sharers
from idiolect.pieces.share import Based, OnProgress, ShareReport, Terms, recipe_of, share
from idiolect.store.adapters import PLAIN
from idiolect.store.records import Affected, ExportRow, PiecesImported, PoolRow, Revocation
from idiolect.store.store import Store
from idiolect.train.stages import Recipe


@dataclass
class Revoked:
    """What became of a withdrawal.

    Attributes:
        revocation: pieces, adapters that cited them (all unpublished), and exports that hold them.
        again: what was assembled anew from what is left.
    """

    revocation: Revocation
    again: list[AssemblyReport] = field(default_factory=list)


@dataclass(frozen=True)
class Preview:
    """What a withdrawal would do. exports: those that may hold the pieces."""

    pieces: tuple[int, ...]
    adapters: tuple[str, ...]
    exports: tuple[ExportRow, ...]


@dataclass(frozen=True)
class PoolImport:
    """What an import brought. usable: whether the task adapter under the pool is in this store."""

    pool: str
    counts: PiecesImported
    note: str
    usable: bool


class Pieces:
    """Share, list, withdraw, assemble, export, import and look into pieces.

    Args:
        based: the base with a task adapter merged in, by digest; None: the bare base. Called when it is first needed.
        forget: called with digests of adapters that are no more, so that nobody goes on answering with them.
        forget_pool: called with the digest of a pool that has changed, for the same reason.
    """

    def __init__(
        self,
        store: Store,
        based: Based,
        forget: Callable[[Sequence[str]], None] = lambda digests: None,
        forget_pool: Callable[[str], None] = lambda pool: None,
    ) -> None:
        self.store, self._based, self._forget, self._forget_pool = store, based, forget, forget_pool
        self._pools: dict[str, tuple[str, Pool]] = {}

    @property
    def base(self) -> Base:
        """The bare base."""
        return self._based(None)

    # -- pools in memory -------------------------------------------------------------------------------------------

    def pool(self, key: PoolKey) -> Pool:
        """The pool of a key as it was when it was last looked at (see `refresh`): what a bank serves from."""
        if key.digest not in self._pools:
            self._pools[key.digest] = self._load(key)
        return self._pools[key.digest][1]

    def refresh(self) -> None:
        """Forget pools that somebody, here or in another process, has changed, and let banks forget what they have of them."""
        changed = [d for d, (version, _) in self._pools.items() if self.store.pool_version(d) != version]
        for digest in changed:
            del self._pools[digest]
            self._forget_pool(digest)

    def _load(self, key: PoolKey) -> tuple[str, Pool]:
        while True:
            version = self.store.pool_version(key.digest)
            bodies = [(piece.id, piece.module, piece.body) for piece in self.store.pool_pieces(key.digest)]
            if self.store.pool_version(key.digest) == version:
                return version, Pool(key, self.base.model.sites(), bodies, self.base.device)

    def _find(self, prefix: str) -> PoolRow:
        """The pool whose digest starts like this."""
        found = [row for row in self.store.pools() if row.digest.startswith(prefix.lower())] if prefix else []
        if len(found) != 1:
            what = "no pool's digest starts" if not found else f"{len(found)} pools' digests start"
            raise PieceNotFound(f"{what} with {prefix[:64]!r}; see which there are: idiolect pieces list")
        return found[0]

    # -- sharing ---------------------------------------------------------------------------------------------------

    def share(
        self,
        users: Iterable[str],
        task: str,
        consent: Consent | None = None,
        *,
        variant: str = PLAIN,
        gates: TrainConfig = GATES,
        direction_only: bool = False,
        again: bool = False,
        on_progress: OnProgress | None = None,
    ) -> tuple[ShareReport, list[AssemblyReport]]:
        """Share pieces of the adapters that these people use, and nothing else of theirs in these pools any more.

        Where that withdraws pieces, what cited them is assembled anew.

        Args:
            gates, direction_only, again: see `Terms`.

        Raises:
            PersonNotFound: there is no such person; what else keeps one from sharing is in the report.
        """
        chosen = list(dict.fromkeys(users))
        for user in chosen:
            self.store.require_person(user)
        terms = Terms(consent or Consent(), gates, direction_only, again)
        with self.store.lock():
            self.store.sweep()
            report = share(self.store, self._based, chosen, get_task(task), variant, terms, on_progress)
        affected = [one for revocation in report.revocations for one in revocation.affected]
        self._forget([one.digest for one in affected])
        return report, self.reassemble(affected)

    def select_sharers(
        self,
        task: str,
        selection: Selection,
        *,
        variant: str = PLAIN,
        encode: Encoder | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> Sharers:
        """Choose who is to share among those who use an adapter that was trained.

        Args:
            encode: texts to vectors; None: the base itself.

        Raises:
            EmptyHistory: nobody has such an adapter, or a history that is long enough.
        """
        users = self.trained(task, variant)
        if not users:
            raise EmptyHistory(
                f"nobody uses an adapter of their own for {task} that they could share; train some: "
                f"idiolect train --all --task {task}"
            )
        people = list(self.store.iter_people(users))
        return choose_sharers(people, get_task(task), selection, encode or base_encoder(self.base), on_progress)

    def trained(self, task: str, variant: str = PLAIN) -> list[str]:
        """Everybody who uses an adapter that was trained for this task: who can share."""
        rows = self.store.adapters(kind="user", task=get_task(task).name, base=self.base.fingerprint)
        return sorted(row.user_id for row in rows if row.is_head and row.variant == variant and row.user_id)

    # -- assembling ------------------------------------------------------------------------------------------------

    def assemble(
        self,
        users: Iterable[str] | None,
        task: str,
        settings: Settings | None = None,
        *,
        variant: str = PLAIN,
        pool: str | None = None,
        bare: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> AssemblyReport:
        """Assemble an adapter for each of these people from a pool, and put it into use. Nothing is trained.

        Args:
            users: None: everybody who uses no adapter that was trained, base people left out.
            pool: digest of the pool, or how it begins; None: the only one for this task, base and task adapter.
            bare: from a pool of the base itself, without a task adapter.

        Raises:
            PersonNotFound: there is no such person.
            PieceNotFound: there is no such pool.
            InputError: there are several.
            BaseMismatch, TaskAdapterNotFound: the pool is of another base, or its task adapter is not here.
        """
        chosen = get_task(task)
        people = self.newcomers(task, variant, bare=bare) if users is None else list(dict.fromkeys(users))
        for user in people:
            self.store.require_person(user)
        settings = settings or Settings()
        row = self._find(pool) if pool is not None else self._only(chosen, variant, bare)
        key = PoolKey.from_dict(row.key)
        self._check(key, chosen)
        recipe = self._recipe(key, chosen, variant, settings)
        return assemble_people(self.store, self._order(key, recipe, settings), people, on_progress)

    def newcomers(self, task: str, variant: str = PLAIN, *, bare: bool = False) -> list[str]:
        """Everybody who uses no adapter that was trained for this task, base people of the task adapter left out."""
        found = self.store.adapters(kind="task", task=get_task(task).name, base=self.base.fingerprint)
        under = next((row.digest for row in found if row.is_head and row.variant == variant), None)
        others = {*self.trained(task, variant), *(() if bare else self._taught(under))}
        return [person.id for person in self.store.people() if person.id not in others]

    def _taught(self, task_adapter: str | None) -> frozenset[str]:
        """Base people of a task adapter, who must get nothing on top of it."""
        if task_adapter is None:
            return frozenset()
        return frozenset(parent.id for parent in self.store.parents(task_adapter) if parent.kind == "person")

    def _only(self, task: Task, variant: str, bare: bool) -> PoolRow:
        """The one pool there is for this task, base and the task adapter in use."""
        under = None if bare else self.store.task_head(task.name, self.base.fingerprint, variant)
        mine = [row for row in self.store.pools() if (row.key["task"], row.key["base"]) == (task.name, self.base.fingerprint)]
        found = [row for row in mine if row.key["task_adapter"] == under]
        if len(found) == 1:
            return found[0]
        on = "the base itself" if under is None else f"task adapter {under[:12]}"
        if found:
            names = ", ".join(f"{row.digest[:12]} (rank {row.key['rank']})" for row in found)
            raise InputError(f"there are {len(found)} pools for {task.name} on {on}: {names}; choose one with --pool")
        others = f"; those on others: {', '.join(row.digest[:12] for row in mine)} (--pool)" if mine else ""
        raise PieceNotFound(
            f"there is no pool for {task.name} on {on} of {self.base.name!r}{others}; let somebody share first: "
            f"idiolect pieces share USER --task {shlex.quote(task.name)}"
        )

    def _check(self, key: PoolKey, task: Task) -> None:
        if key.task != task.name:
            raise InputError(f"the pool {key.digest[:12]} is for {key.task}, not for {task.name}; give --task {key.task}")
        self._check_base(key)
        if key.task_adapter is not None and not self._has(key.task_adapter):
            raise TaskAdapterNotFound(
                f"the pool {key.digest[:12]} was made on task adapter {key.task_adapter[:12]}, which is not in this store; "
                "train the same one, or use another pool"
            )

    def _check_base(self, key: PoolKey) -> None:
        if key.base != self.base.fingerprint:
            raise BaseMismatch(
                f"the pool {key.digest[:12]} was made on another base than {self.base.name!r}; its pieces cannot be used here; "
                "give its own with --base"
            )

    def _has(self, task_adapter: str) -> bool:
        return any(row.digest == task_adapter for row in self.store.adapters(kind="task"))

    def _recipe(self, key: PoolKey, task: Task, variant: str, settings: Settings) -> Recipe:
        """How newcomers' histories are read: as the prompts of the task adapter under the pool were made."""
        if key.task_adapter is not None:
            read = recipe_of(self.store.manifest(key.task_adapter))
            return Recipe(task, read.config, read.retriever, read.k, settings.max_examples)
        if variant != PLAIN:
            raise ConfigError(f"a pool on the base itself has prompts without retrieval, not {variant!r}; leave --variant out")
        return Recipe(task, GATES, max_history=settings.max_examples)

    def _order(self, key: PoolKey, recipe: Recipe, settings: Settings) -> Order:
        self.refresh()
        pool = self.pool(key)
        version, taught = self._pools[key.digest][0], self._taught(key.task_adapter)
        return Order(self._based(key.task_adapter), pool, version, recipe, settings, taught)

    # -- withdrawing -----------------------------------------------------------------------------------------------

    def revoke(
        self,
        pieces: Iterable[int] | None = None,
        *,
        user: str | None = None,
        pool: str | None = None,
        reassemble: bool = True,
        on_revoked: Callable[[Revocation], None] = lambda revocation: None,
    ) -> Revoked:
        """Withdraw pieces, and assemble anew, in the same way and from what is left, what was in use and cited them.

        The withdrawal itself needs no base. Where the run is cut off after it, `assemble` for the affected does the rest.

        Args:
            pieces: ids; None: all for which the others hold.
            user: this person's; pool: those in this pool.
            on_revoked: called when the pieces are gone, before anything is assembled.

        Raises:
            PieceNotFound, PersonNotFound: nothing was changed.
        """
        digest = self._find(pool).digest if pool is not None else None
        revocation = self.store.revoke(pieces, user_id=user, pool=digest)
        self._forget([one.digest for one in revocation.affected])
        self.refresh()
        on_revoked(revocation)
        return Revoked(revocation, self.reassemble(revocation.affected) if reassemble else [])

    def preview(self, pieces: Iterable[int] | None = None, *, user: str | None = None, pool: str | None = None) -> Preview:
        """What `revoke` would do. Changes nothing."""
        digest = self._find(pool).digest if pool is not None else None
        ids = self._eligible(user, digest)
        if pieces is not None:
            wanted = list(pieces)
            self.store.read_pieces(wanted)
            if missing := [piece for piece in wanted if piece not in ids]:
                raise PieceNotFound(f"piece {missing[0]} is not among those; see which there are: idiolect pieces list")
            ids = wanted
        gone = sorted(set(ids))
        adapters = dict.fromkeys(a for piece in gone for a in self.store.derived_from("piece", str(piece)))
        pools = {row.digest for row in self.store.pools()} if digest is None else {digest}
        exports = [e for e in self.store.exports() if e.digest in adapters or (e.kind == "pool" and e.digest in pools)]
        return Preview(tuple(gone), tuple(adapters), tuple(exports))

    def _eligible(self, user: str | None, pool: str | None) -> list[int]:
        if user is not None:
            return [row.id for row in self.store.pieces_of(user) if pool in (None, row.pool)]
        pools = [pool] if pool is not None else [row.digest for row in self.store.pools()]
        return [piece.id for digest in pools for piece in self.store.pool_pieces(digest)]

    def reassemble(self, affected: Sequence[Affected]) -> list[AssemblyReport]:
        """Assemble anew, in the same way and from what is left, what was in use and is gone with others' pieces.

        Where that cannot be, e.g. on another base, the reports say why for each person.
        """
        return [self._once_more(once, users) for once, users in by_order(affected)]

    def _once_more(self, once: Once, users: Sequence[str]) -> AssemblyReport:
        try:
            return self._in_the_same_way(once, users)
        except IdiolectError as error:
            return AssemblyReport(problems=dict.fromkeys(users, str(error)), pool=once.pool)

    def _in_the_same_way(self, once: Once, users: Sequence[str]) -> AssemblyReport:
        row = next((row for row in self.store.pools() if row.digest == once.pool), None)
        why = f"nothing is left in pool {once.pool[:12]} to assemble from; what was in use before, or the base, answers"
        if row is None:
            return AssemblyReport(problems=dict.fromkeys(users, why), pool=once.pool)
        key = PoolKey.from_dict(row.key)
        self._check(key, once.recipe.task)
        return assemble_people(self.store, self._order(key, once.recipe, once.settings), users)

    # -- looking, giving away, taking in ---------------------------------------------------------------------------

    def list(self) -> list[PoolRow]:
        """Pools, the oldest first."""
        return self.store.pools()

    def inspect(self, which: str, task: str | None = None, variant: str = PLAIN) -> views.AdapterView | views.PoolView:
        """What an assembled adapter cites, or what a pool costs.

        Args:
            which: a person (with `task`), or the digest of an adapter or a pool, or how it begins.
        """
        if task is not None:
            name = get_task(task).name
            digest = self.store.head(which, task=name, base=self.base.fingerprint, variant=variant)
            return views.adapter_view(self.store, digest, self.base.model.sites())
        if which and (rows := [row for row in self.store.pools() if row.digest.startswith(which.lower())]):
            if len(rows) > 1:
                raise InputError(f"{which!r} is the start of {len(rows)} pools' digests; give more of it")
            key = PoolKey.from_dict(rows[0].key)
            self._check_base(key)
            self.refresh()
            return views.pool_view(self.store, rows[0], self.pool(key))
        return views.adapter_view(self.store, self.store.resolve(which), self.base.model.sites())

    def export(self, pool: str, file: str | Path, note: str = "") -> ExportRow:
        """Write a pool as one file, and remember that it was given away.

        Args:
            note: free text that goes into the file, e.g. the terms that sharers agreed to.

        Raises:
            PieceNotFound: there is no such pool, or a piece was withdrawn meanwhile; nothing stays at the place.
            InputError: see `pool_files.write_pool`.
        """
        row = self._find(pool)
        key = PoolKey.from_dict(row.key)
        self._check_base(key)
        self.refresh()
        held = self.pool(key)
        path = Path(file).expanduser().absolute()
        inside = [piece for piece, _, _ in held.bodies()]
        return self.store.export(
            row.digest, str(path), "pool", inside, lambda: pool_files.write_pool(path, held, self.base, note)
        )

    def import_pool(self, file: str | Path) -> PoolImport:
        """Take a pool's file in: all of it, or nothing. Pieces that were withdrawn from this store stay away.

        Raises:
            FileFormatError, BaseMismatch, ShapeError, TargetMismatch: it is no pool for this base.
            InputError: a piece's id is there already, as something else.
        """
        found = pool_files.read_pool(Path(file), self.base)
        key = found.pool.key
        counts = self.store.import_pieces(key.to_dict(), found.digest, found.pool.bodies())
        usable = key.task_adapter is None or self._has(key.task_adapter)
        self.refresh()
        return PoolImport(key.digest, counts, found.note, usable)
