"""The desk where forgetting is asked for.

with Idiolect.open("my-store") as house:
    house.forgetting.preview("ana", "review-17")                   # what would become of what
    done = house.forget("ana", "review-17")                        # the same as house.forgetting.forget
    house.forgetting.verify(done.receipt)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from idiolect.forget import checking, forgetting
from idiolect.forget.checking import Verified
from idiolect.forget.closure import Closure
from idiolect.forget.forgetting import Forgotten
from idiolect.forget.planning import Means, OnStep, Options


class Forgetting:
    """Forget exactly, look before it, finish what was cut off, and check receipts."""

    def __init__(self, means: Means) -> None:
        self.means = means

    def forget(
        self, user: str, item: str | None = None, options: Options | None = None, *, on_step: OnStep | None = None
    ) -> Forgotten:
        """Forget a person, or one item of theirs, and everything that was made from it; make again what was in use.

        Unlike `Idiolect.delete_person` it goes on to task adapters that the person taught and to copies, leaves a signed
        receipt, and goes on where it was cut off, when it is asked for again.

        Raises:
            PersonNotFound, NotFoundError, InputError, MismatchError: it cannot be done so; nothing was changed.
            StoreBusy, StoreError: another run holds the store, or another forgetting was cut off and comes first.
        """
        return forgetting.forget(self._showing(on_step), user, item, options)

    def preview(self, user: str, item: str | None = None, options: Options | None = None) -> Closure:
        """What `forget` would do. Changes nothing; raises what it would raise, but for a store that is busy."""
        return forgetting.preview(self.means, user, item, options)

    def resume(self, options: Options | None = None, *, on_step: OnStep | None = None) -> list[Forgotten]:
        """Finish every forgetting that was cut off; nothing where there is none. What is given counts instead of what was
        given the first time.
        """
        return forgetting.resume(self._showing(on_step), options)

    def verify(self, file: str | Path, *, rebuild: bool = False) -> Verified:
        """Check a receipt's signature, and what it says against this store.

        Args:
            rebuild: train people's adapters that took others' places once more, and compare them number by number.

        Raises:
            FileFormatError: the file is no receipt.
        """
        return checking.verify(self.means, Path(file), rebuild=rebuild)

    def _showing(self, on_step: OnStep | None) -> Means:
        return self.means if on_step is None else replace(self.means, on_step=on_step)
