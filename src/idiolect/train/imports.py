"""A PEFT folder becomes a person's adapter: read, checked, and published as a new version of theirs.

    folder ──read_folder──▶ layout, row, what an export of ours said ──binding──▶ task adapter or none ──publish──▶ store

PEFT knows only raw bases, so a folder of somebody else's does not say what it was trained on top of; one of ours does, in
`idiolect.json`, and then that counts.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field
from torch import Tensor

from idiolect.config import Settings
from idiolect.data.tasks import Task
from idiolect.errors import BaseMismatch, ConfigError, FileFormatError, InputError, NotFoundError, TaskAdapterNotFound
from idiolect.model.adapter import Layout
from idiolect.model.base import Base
from idiolect.model.files import EXPORTED, read_peft, to_record
from idiolect.store.records import Parent
from idiolect.store.store import Store
from idiolect.types import AdapterKind, AdapterManifest, Retriever, digest_of

_DIGEST = r"^[0-9a-f]{64}$"


class Exported(Settings):
    """What `idiolect.json` says of an adapter that was exported: its manifest, as far as it matters here, and its digest."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    kind: AdapterKind
    task: str
    base: str
    base_name: str
    user_id: str | None
    task_adapter: str | None = Field(pattern=_DIGEST)
    digest: str = Field(pattern=_DIGEST)
    includes_task_adapter: bool
    retriever: Retriever
    k: int = Field(ge=0)
    profile: bool
    seed: int = Field(ge=0)
    settings: dict[str, Any]


@dataclass(frozen=True)
class Folder:
    """An adapter as it was found. exported: None where the folder is none of ours."""

    name: str
    layout: Layout
    row: Tensor
    exported: Exported | None

    def check(self, base: Base, user: str, task: Task) -> None:
        """Refuse what was exported for another person, task or base.

        Raises:
            InputError: another person's, another task's, or nobody's.
            BaseMismatch: another base's.
        """
        said = self.exported
        if said is None:
            return
        if said.kind == "assembled":
            raise InputError(
                f"{self.name}: was assembled from others' pieces, who may withdraw them; assemble it here: "
                f"idiolect pieces assemble {shlex.quote(user)} --task {task.name}"
            )
        if said.kind != "user":
            raise InputError(f"{self.name}: holds a {said.kind} adapter, which is nobody's; export a person's")
        if said.user_id != user:
            raise InputError(
                f"{self.name}: was exported for user {said.user_id!r}, not for {user!r}; if these are one person, change "
                f"user_id in its {EXPORTED}"
            )
        if said.task != task.name:
            raise InputError(f"{self.name}: was made for {said.task}, not for {task.name}; give --task {said.task}")
        if said.base != base.fingerprint:
            raise BaseMismatch(
                f"{self.name}: was made for base {said.base_name!r} ({said.base[:12]}), not for {base.name!r} "
                f"({base.fingerprint[:12]}); give its own with --base"
            )

    def binding(self, base: Base, store: Store, task: Task, bare: bool) -> str | None:
        """Digest of the task adapter that it goes on top of; None: the base itself.

        An export of ours says it (with the task adapter written into it, it goes on the base). Anything else goes where
        `train` would put it: on the task adapter in use, or with `bare` on the base.

        Raises:
            TaskAdapterNotFound: there is none in use.
            BaseMismatch: it was made on a task adapter that is not here.
        """
        said = self.exported
        if said is None:
            return None if bare else _in_use(base, store, task)
        if said.includes_task_adapter or said.task_adapter is None:
            return None
        try:
            known = store.manifest(said.task_adapter)
        except NotFoundError:
            known = None
        if bare or known is None or known.kind != "task":
            where = "which is not in this store; export it without --alone" if not bare else "not on the base; leave out --bare"
            raise BaseMismatch(f"{self.name}: was made on task adapter {said.task_adapter[:12]}, {where}")
        base.accept(known, said.task_adapter)
        return said.task_adapter

    def manifest(self, base: Base, user: str, task: Task, under: str | None) -> AdapterManifest:
        """Says that it was imported, and of which numbers: another row is another adapter."""
        said, layout = self.exported, self.layout
        row = digest_of(self.row.numpy().tobytes())
        settings: dict[str, Any] = {"imported": "peft", "row": row, "tokenizer": base.tokenizer.digest}
        if said is not None:
            # What prompts were cut to, so that they are cut alike; the rest is known where it was trained.
            kept = {"max_tokens": n} if isinstance(n := said.settings.get("max_tokens"), int) and n > 0 else {}
            settings |= {"exported_as": said.digest, **kept}
        return AdapterManifest(
            kind="user",
            task=task.name,
            base=base.fingerprint,
            base_name=base.name,
            rank=layout.rank,
            alpha=layout.alpha,
            targets=layout.targets,
            user_id=user,
            task_adapter=under,
            retriever=said.retriever if said else "none",
            k=said.k if said else 0,
            profile=said.profile if said else False,
            seed=said.seed if said else 0,
            settings=settings,
        )


def read_folder(folder: Path, base: Base) -> Folder:
    """A PEFT folder, on this base.

    Raises:
        FileFormatError: a file is missing, pickled or unreadable, or the adapter is of a kind not read here.
        TargetMismatch, ShapeError: modules or widths that this base does not have.
    """
    exported = _exported(folder)
    return Folder(folder.name, *read_peft(folder, base.model.sites()), exported)


def publish(folder: Folder, base: Base, store: Store, user: str, task: Task, under: str | None) -> str:
    """Keep it as a new version of this person's adapter and put it into use; its digest. All of it or nothing."""
    origin = base.origin | {"task_adapter": under or ""}
    parents = [Parent("adapter", folder.exported.digest)] if folder.exported else []
    record = to_record(folder.layout, folder.row, origin)
    return store.publish(folder.manifest(base, user, task, under), record, parents=parents)


def _exported(folder: Path) -> Exported | None:
    file = folder / EXPORTED
    if not file.is_file():
        return None
    try:
        return Exported.build(**json.loads(file.read_text(encoding="utf-8")))
    except (ConfigError, ValueError, TypeError, OSError) as error:
        why = str(error) if isinstance(error, ConfigError) else type(error).__name__
        raise FileFormatError(f"{folder.name}: {EXPORTED} is not as an export writes it ({why}); export it again") from None


def _in_use(base: Base, store: Store, task: Task) -> str:
    try:
        return store.task_head(task.name, base.fingerprint)
    except TaskAdapterNotFound:
        raise TaskAdapterNotFound(
            f"there is no task adapter for {task.name} on {base.name!r} to put it on; make one: idiolect train --stage task "
            f"--task {task.name} --data FILE, or import it for the base itself with --bare"
        ) from None
