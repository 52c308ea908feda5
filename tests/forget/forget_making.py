"""People, a store in which everybody is downstream of somebody, and ways to compare what is left of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from idiolect.house import TrainingOptions
from idiolect.pieces.gates import GATES
from idiolect.service import Idiolect

TASK = "LaMP-3"
FAST = TrainingOptions(
    overrides=(("epochs", 1), ("rank", 2), ("targets", ("q_proj", "v_proj")), ("max_tokens", 160), ("learning_rate", 2e-2))
)
QUICK = GATES.but(steps=2, batch_size=4)
SHARERS = ("ana-canary-77", "ben")
ANA, BEN = SHARERS
ITEM = f"{ANA}-item-2"
WORDS = "xylophone-marmalade-4711"


def record(user: str, n: int, words: str = "saw a film about the sea", without: str = "") -> dict[str, Any]:
    items = [
        {"id": f"{user}-item-{i}", "date": f"2020-01-{i + 1:02}", "text": f"{words} {i} of {user}", "score": 1 + i % 5}
        for i in range(n)
    ]
    return {"user_id": user, "profile": [item for item in items if item["id"] != without], "query": []}


def people(without: str = "") -> list[dict[str, Any]]:
    return [record(ANA, 4, WORDS, without), record(BEN, 3), record("zoe", 2)]


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def build(folder: Path, base: Path, without: str = "") -> None:
    """A store: two sharers, a newcomer assembled from both, and a task adapter that two others taught."""
    folder.mkdir(exist_ok=True)
    with Idiolect.open(folder / "store", base, device="cpu") as house:
        house.import_history(write(folder / "people.jsonl", *people(without)))
        house.train_task(TASK, write(folder / "base.jsonl", record("otto", 2), record("paula", 2)), FAST)
        for user in SHARERS:
            house.train([user], TASK, FAST)
        house.pieces.share(SHARERS, TASK, gates=QUICK)
        house.pieces.assemble(["zoe"], TASK)


def traces(folder: Path, *words: str) -> list[tuple[str, str]]:
    """(file, word) of every file below that has one of the words in its name or its bytes."""
    return [
        (str(path.relative_to(folder)), word)
        for path in folder.rglob("*")
        if path.is_file()
        for word in words
        if word in path.name or word.encode() in path.read_bytes()
    ]


def heads(house: Idiolect) -> dict[tuple[str | None, str], str]:
    """What is in use, by person and kind."""
    return {(row.user_id, row.kind): row.digest for row in house.adapters() if row.is_head}


def state(house: Idiolect) -> dict[str, Any]:
    """All that an interruption must not change: people, items, adapters, which are in use, whose pieces are, journal."""
    store = house.store
    owners = {one.id: len(store.pieces_of(one.id)) for one in store.people()}
    adapters = sorted((row.digest, row.is_head) for row in store.adapters())
    journal = [(row.state, row.user_id, row.item_id, dict(row.plan)) for row in store.forgettings()]
    histories = {one.id: [item.id for item in store.history(one.id)] for one in store.people()}
    return {"people": histories, "pieces": owners, "adapters": adapters, "journal": journal}
