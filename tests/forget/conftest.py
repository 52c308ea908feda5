from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forget_making import ITEM, build

from idiolect.model.base import Base, load_base
from idiolect.service import Idiolect


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Receipts without a name of their own lie in the test's folder, and nobody's keys are found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IDIOLECT_KEYS", raising=False)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, base_folder: Any) -> Path:
    """The folder of a store with everybody in it."""
    folder = tmp_path_factory.mktemp("whole")
    build(folder, base_folder("llama"))
    return folder


@pytest.fixture(scope="session")
def reduced(tmp_path_factory: pytest.TempPathFactory, base_folder: Any) -> Path:
    """The same, made by people who never had one of the items."""
    folder = tmp_path_factory.mktemp("reduced")
    build(folder, base_folder("llama"), without=ITEM)
    return folder


@pytest.fixture
def place(whole: Path, tmp_path: Path) -> Path:
    """A copy of the store, to be forgotten in."""
    shutil.copytree(whole / "store", tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture(scope="session")
def base(base_folder: Any) -> Base:
    """The base of all these stores, loaded once: nobody changes it."""
    return load_base(base_folder("llama"), device="cpu")


@pytest.fixture
def opened(base_folder: Any, base: Base) -> Iterator[Callable[[Path], Idiolect]]:
    """Open a store; it is closed at the end."""
    houses: list[Idiolect] = []

    def open_(place: Path) -> Idiolect:
        houses.append(Idiolect.open(place, base_folder("llama"), device="cpu"))
        houses[-1].base = base
        return houses[-1]

    yield open_
    for house in houses:
        house.store.close()


@pytest.fixture
def house(place: Path, opened: Callable[[Path], Idiolect]) -> Idiolect:
    return opened(place)
