"""How often a player, or an address, may do something.

Counters are in the database, so that restarting the server gives nobody another try, in fixed windows. An address stands in
them only as a keyed hash that lasts as long as its window; the key is the server's secret.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from idiolect.game.clock import Clock
from idiolect.game.refusals import TooMany
from idiolect.store.game.books import Books, GameBooks

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


@dataclass(frozen=True)
class Limit:
    """At most `n` in `per_s` seconds.

    `by_address`: of an address, behind which a family may sit, so that an operator may allow more.
    """

    name: str
    n: int
    per_s: float
    by_address: bool = False


LOGIN: Final = Limit("login", 5, MINUTE)
LOGIN_ADDRESS: Final = Limit("login-address", 30, MINUTE, by_address=True)
"""Beside LOGIN, which is of address and handle: against one that tries many handles."""
SIGN_UP: Final = Limit("sign-up", 3, HOUR, by_address=True)
SIGN_UP_TRY: Final = Limit("sign-up-try", 60, HOUR, by_address=True)
"""Forms that were sent, right or wrong: nobody is to try out which handles there are."""
GUEST: Final = Limit("guest", 10, HOUR, by_address=True)
ROUNDS_MINUTE: Final = Limit("rounds-minute", 20, MINUTE)
ROUNDS_DAY: Final = Limit("rounds-day", 400, DAY)
COMPLAINTS: Final = Limit("complaints", 20, DAY)
DELETE: Final = Limit("delete", 5, HOUR)


class Limits:
    """Spends.

    Args:
        key: of the hash; from the server's secret.
        address_factor: how many times more an address may do, where many people are behind one.
    """

    def __init__(self, books: GameBooks, clock: Clock, key: bytes, address_factor: float = 1.0) -> None:
        self._books = books
        self._clock = clock
        self._key = key
        self._factor = address_factor

    def spend(self, limit: Limit, *who: str, books: Books | None = None) -> None:
        """Count one more.

        Args:
            who: of whom it is counted, e.g. an address and a folded handle; only their hash is kept.
            books: a transaction that it belongs to: what is rolled back was not spent. Without one it counts at once.

        Raises:
            TooMany: the window is full; nothing was counted.
        """
        if books is not None:
            wait_s = self._spent(books, limit, who)
        else:
            with self._books.write() as own:
                wait_s = self._spent(own, limit, who)
        if wait_s is not None:
            raise TooMany(retry_after_s=wait_s)

    def spend_each(self, limits: Sequence[Limit], *who: str) -> None:
        """Count one more against each of several limits, up to the first that is used up; one transaction.

        Raises:
            TooMany: a window is full; it was not counted there, nor against the limits that follow.
        """
        with self._books.write() as books:
            waits = (self._spent(books, limit, who) for limit in limits)
            wait_s = next((wait for wait in waits if wait is not None), None)
        if wait_s is not None:
            raise TooMany(retry_after_s=wait_s)

    def _spent(self, books: Books, limit: Limit, who: Sequence[str]) -> float | None:
        n = round(limit.n * self._factor) if limit.by_address else limit.n
        return books.spend(f"{limit.name}:{self._hashed(*who)}", n, limit.per_s, self._clock())

    def origin(self, network: str) -> str | None:
        """What is kept of where somebody came from: a keyed hash of the /24 or /64; None of this machine, and of no address."""
        try:
            ip = ipaddress.ip_network(network)
        except ValueError:
            return None
        if ip.is_loopback or (ip.version == 6 and ipaddress.IPv6Address(1) in ip):
            return None
        return self._hashed("origin", str(ip.supernet(new_prefix=24) if ip.version == 4 else ip))

    def purge(self) -> int:
        """Delete counters whose time is over; how many those were."""
        with self._books.write() as books:
            return books.drop_limits(self._clock())

    def _hashed(self, *who: str) -> str:
        return hmac.new(self._key, "\0".join(who).encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]


def network_of(address: str | None) -> str:
    """Whom an address stands for: itself, or its /64 where it is IPv6, of which one customer has 2^64."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return "nowhere"  # a Unix socket has none
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((int(ip) >> 64 << 64, 64)))
    return str(ip)
