"""idiolect: an adapter of their own for every user of a language model.

Names are resolved on first use, so that `import idiolect` loads neither torch nor a database.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "IdiolectError": "idiolect.errors",
    "Item": "idiolect.types",
    "Query": "idiolect.types",
    "Person": "idiolect.types",
    "Completion": "idiolect.types",
    "AdapterManifest": "idiolect.types",
    "TrainConfig": "idiolect.config",
    "preset": "idiolect.config",
    "Store": "idiolect.store.store",
    "Idiolect": "idiolect.service",
}

__all__ = [
    "AdapterManifest",
    "Completion",
    "Idiolect",
    "IdiolectError",
    "Item",
    "Person",
    "Query",
    "Store",
    "TrainConfig",
    "__version__",
    "preset",
]  # spelt out for type checkers; a test holds it equal to _HOMES

if TYPE_CHECKING:
    from idiolect.config import TrainConfig, preset
    from idiolect.errors import IdiolectError
    from idiolect.service import Idiolect
    from idiolect.store.store import Store
    from idiolect.types import AdapterManifest, Completion, Item, Person, Query


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'idiolect' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
