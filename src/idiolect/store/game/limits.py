"""How often something was done in a stretch of time, as rows."""

from __future__ import annotations

from sqlalchemy import delete, select, update

from idiolect.store.game.ledger import Ledger
from idiolect.store.game.tables import limits


class LimitBook(Ledger):
    """Counters in fixed windows: window k of a limit is [k · per_s, (k + 1) · per_s)."""

    def spend(self, bucket: str, limit: int, per_s: float, at: float) -> float | None:
        """Count one more, unless the window is full.

        Args:
            bucket: what is counted of whom; holds no address and nobody's text.

        Returns:
            None, or how many seconds it is until the next window.
        """
        slot = int(at // per_s)
        c = limits.c
        here = (c.bucket == bucket, c.slot == slot)
        if self.connection.execute(update(limits).where(*here, c.n < limit).values(n=c.n + 1)).rowcount:
            return None
        ends = (slot + 1) * per_s
        if limit < 1 or self.connection.execute(select(c.n).where(*here)).first() is not None:
            return ends - at
        self.connection.execute(limits.insert().values(bucket=bucket, slot=slot, n=1, ends=ends))
        return None

    def drop_limits(self, before: float) -> int:
        """Delete the counters of windows that were over by then; how many those were."""
        return self.connection.execute(delete(limits).where(limits.c.ends <= before)).rowcount
