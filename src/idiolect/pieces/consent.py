"""Which of their pieces a person shares: a share of them by lot, or the layers they name."""

from __future__ import annotations

import re
from collections.abc import Iterable

from idiolect.config import Settings
from idiolect.errors import ConfigError
from idiolect.types import seed_of

_LAYER = re.compile(r"\.(\d+)\.")


class Consent(Settings):
    """What a person agrees to share of one adapter.

    Attributes:
        ratio: each piece is shared with this probability, decided once by (seed, person, module): a greater ratio shares all
            that a smaller one does, and more.
        layers: only pieces of these layers; None: of any.
    """

    ratio: float = 1.0
    layers: tuple[int, ...] | None = None
    seed: int = 0

    def chosen(self, person: str, modules: Iterable[str]) -> list[str]:
        """The modules whose pieces are shared, in order.

        Raises:
            ConfigError: a ratio outside 0…1, or a layer that the adapter does not have.
        """
        if not 0 <= self.ratio <= 1:
            raise ConfigError(f"the share ratio is {self.ratio}; it must be between 0 and 1")
        names = list(modules)
        known = {layer_of(name) for name in names}
        if self.layers is not None and (missing := sorted(set(self.layers) - known)):
            raise ConfigError(f"layer {missing[0]} has no piece; this adapter has layers {min(known)} to {max(known)}")
        wanted = known if self.layers is None else set(self.layers)
        lots = ((name, seed_of("share", self.seed, person, name) % 10**9 / 10**9) for name in names)
        return [name for name, lot in lots if layer_of(name) in wanted and lot < self.ratio]


def layer_of(module: str) -> int:
    """The layer that a module belongs to: the first number in its name."""
    found = _LAYER.search(module)
    return int(found[1]) if found else 0
