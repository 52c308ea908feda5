"""A receipt held against the store, and what was trained again held against a training of now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from idiolect.forget import receipt
from idiolect.forget.planning import Means

if TYPE_CHECKING:
    from idiolect.forget.rebuilding import Compared


@dataclass(frozen=True)
class Verified:
    """What a look at a receipt found.

    Attributes:
        ours: whether this store's key signed it; else it is only as its writer left it.
        problems: what in it, or in the store, is not as it says.
        compared: adapters that were trained once more beside those in the store.
        not_compared: new adapters that were not, because they are not trained for one person.
        assembled_since: adapters of others that were assembled again then, and have been replaced since.
    """

    receipt: receipt.Receipt
    ours: bool
    problems: tuple[str, ...]
    compared: tuple[Compared, ...] = ()
    not_compared: int = 0
    assembled_since: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing contradicts it."""
        return not self.problems and all(one.equal for one in self.compared)


def verify(means: Means, file: Path, *, rebuild: bool = False) -> Verified:
    """Check a receipt against itself and against the store.

    Args:
        rebuild: train the people's adapters that took others' places once more, and compare them number by number.

    Raises:
        FileFormatError: the file is no receipt.
        StoreError: the keys of the store are not there.
    """
    found = receipt.read(file)
    means.store.require_keys()
    wrong = tuple(receipt.problems(found, means.store))
    compared: list[Compared] = []
    skipped = 0
    for digest in dict.fromkeys(found.body["new"].values()) if rebuild else ():
        if not means.store.has_adapter(digest):
            continue
        manifest = means.store.manifest(digest)
        if manifest.kind != "user":
            skipped += 1
            continue
        from idiolect.forget.rebuilding import compare

        compared.append(compare(means.based(manifest.task_adapter), means.store, digest))
    since = tuple(receipt.assembled_since(found, means.store))
    return Verified(found, receipt.is_of(found, means.store), wrong, tuple(compared), skipped, since)
