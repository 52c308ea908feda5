"""Small people and manifests for the store's tests."""

from __future__ import annotations

from typing import Any

from idiolect.types import AdapterManifest, Item, Person, Query

BASE = "f" * 64


def item(id: str = "1", text: str = "a text", date: str | None = None) -> Item:
    return Item(id, {"text": text, "title": "a title"}, date)


def person(id: str = "ana", n_items: int = 2, n_queries: int = 1) -> Person:
    history = tuple(item(str(n), f"{id} wrote {n}", f"2020-01-{n + 1:02}") for n in range(n_items))
    return Person(id, history, tuple(Query(f"q{n}", f"{id} asks {n}", "gold") for n in range(n_queries)))


def manifest(user_id: str | None = "ana", **changes: Any) -> AdapterManifest:
    values: dict[str, Any] = {
        "kind": "task" if user_id is None else "user",
        "task": "LaMP-2N",
        "base": BASE,
        "base_name": "idiolect-tiny",
        "rank": 8,
        "alpha": 16.0,
        "targets": ("q_proj", "v_proj"),
        "user_id": user_id,
        "item_ids": ("0", "1"),
        "settings": {"epochs": 3, "targets": ["q_proj"]},
    }
    return AdapterManifest(**{**values, **changes})
