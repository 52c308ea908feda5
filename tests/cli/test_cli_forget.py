"""`idiolect forget`, `forget verify` and `store`, from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cli_running import documents, error_of, people, write_lines

from idiolect.house import TrainingOptions
from idiolect.service import Idiolect
from idiolect.store.store import Store


@pytest.fixture(scope="module")
def made(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which p00 and p01 have an adapter each, on the base itself."""
    folder = tmp_path_factory.mktemp("made")
    quick = TrainingOptions(overrides=(("epochs", 1), ("rank", 2), ("max_tokens", 192)))
    with Idiolect.open(folder / "store", tiny_base, device="cpu") as house:
        house.import_history(write_lines(folder / "people.jsonl", people(2)))
        house.train(None, "LaMP-2N", quick, bare=True)
    return folder / "store"


@pytest.fixture
def kept(made: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options of a copy of that store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IDIOLECT_KEYS", raising=False)
    shutil.copytree(made, tmp_path / "store")
    return ["--store", str(tmp_path / "store"), "--base", str(tiny_base)]


def test_forgetting_an_item_and_then_the_person(run: Any, kept: list[str], tmp_path: Path) -> None:
    shown = run("forget", "p00", "--item", "p00-1", "--dry-run", *kept, code=0)
    assert "user adapter" in shown.stdout
    assert "retrain" in shown.stdout
    plan = documents(run("forget", "p00", "--item", "p00-1", "--dry-run", "--json", *kept, code=0))
    assert {(node["kind"], node["action"]) for node in plan["closure"]} == {("item", "delete"), ("user adapter", "retrain")}
    done = run("forget", "p00", "--item", "p00-1", "--yes", "--receipt", "item.json", *kept, code=0)
    assert "exact-after-rebuild" in done.stdout
    assert str(tmp_path / "item.json") in done.stdout
    checked = run("forget", "verify", "item.json", "--rebuild", *kept, code=0)
    assert "bit by bit" in checked.stdout
    assert "the receipt holds" in checked.stdout
    found = documents(run("forget", "p00", "--yes", "--json", *kept, code=0))
    assert (found["guarantee"], found["new"]) == ("exact", {})
    written = Path(found["receipt"])
    assert written == tmp_path / f"forget-{found['request']}.json"
    assert documents(run("forget", "verify", written, "--json", *kept, code=0))["holds"]
    written.write_text(written.read_text().replace('"p00"', '"p01"'))
    wrong = run("forget", "verify", written, *kept, code=1)
    assert "does not hold" in wrong.stdout
    assert documents(run("forget", "verify", written, "--json", *kept, code=1))["signed"] is False


def test_what_cannot_be_forgotten(run: Any, kept: list[str], tmp_path: Path) -> None:
    assert "cannot be undone" in error_of(run("forget", "p00", *kept, code=2))
    assert "PersonNotFound" in error_of(run("forget", "nobody", "--yes", *kept, code=3))
    assert "no item" in error_of(run("forget", "p00", "--item", "x", "--yes", *kept, code=3))
    assert "say whom" in error_of(run("forget", *kept, code=2))
    assert "say whom" in error_of(run("forget", "p00", "--resume", *kept, code=2))
    assert "leave --dry-run" in error_of(run("forget", "--resume", "--dry-run", *kept, code=2))
    assert "must not lie in the store" in error_of(
        run("forget", "p00", "--yes", "--receipt", tmp_path / "store" / "r.json", *kept, code=2)
    )
    (tmp_path / "there.json").write_text("mine")
    assert "is there already" in run("forget", "p00", "--yes", "--receipt", "there.json", *kept, code=2).stderr
    assert "not a receipt" in error_of(run("forget", "verify", "there.json", *kept, code=2))
    assert "nothing was cut off" in run("forget", "--resume", *kept, code=0).stderr
    assert run("history", "show", "p00", *kept[:2], code=0).stdout


def test_people_who_are_called_like_a_command(run: Any, tmp_path: Path) -> None:
    store = ["--store", str(tmp_path / "store")]
    records = [{**one, "user_id": name} for one, name in zip(people(2), ("verify", "user"), strict=True)]
    run("history", "import", write_lines(tmp_path / "people.jsonl", records), *store, code=0)
    for name in ("verify", "user"):
        run("forget", "user", name, "--yes", "--receipt", tmp_path / f"{name}.json", *store, code=0)
    assert documents(run("history", "list", "--json", *store, code=0)) == []


def test_what_was_cut_off_is_said_and_finished(run: Any, kept: list[str], tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        options = {"data": None, "receipt": str(tmp_path / "r.json"), "leave_task_adapters": False, "rebuild": True}
        plan = {"closure": {}, "teachings": [], "options": options, "new": {}, "problems": {}, "unchanged": {}}
        store.begin_forgetting("abc", "p00", None, {**plan, "key_destroyed": False})
    checks = documents(run("doctor", "--json", *kept))
    assert [(one["verdict"], one["advice"]) for one in checks if one["name"] == "store"] == [
        ("warn", "go on with it: idiolect forget --resume")
    ]
    assert documents(run("store", "info", "--json", *kept[:2], code=0))["cut_off"] == 1
    assert "--resume" in error_of(run("forget", "p01", "--yes", "--json", *kept, code=5))
    assert "p00 is forgotten" in run("forget", "--resume", *kept, code=0).stdout
    assert run("forget", "verify", "r.json", *kept, code=0)


def test_a_store_is_encrypted_and_answers_as_before(run: Any, kept: list[str], tmp_path: Path) -> None:
    ask = ("generate", "p00", "The bank reports a loss", "--task", "LaMP-2N", "--json", *kept)
    before = documents(run(*ask, code=0))
    done = documents(run("store", "encrypt", "--keys", tmp_path / "keys", "--json", *kept[:2], code=0))
    assert (done["n_sealed"], done["keys"]) == (2, str(tmp_path / "keys"))
    assert "2 were already" in run("store", "encrypt", *kept[:2], code=0).stdout
    assert json.loads(run("store", "info", "--json", *kept[:2], code=0).stdout)["encrypted"] is True
    assert documents(run(*ask, code=0))["text"] == before["text"]
    assert "key of their files was destroyed" in run("forget", "p00", "--yes", *kept, code=0).stderr
