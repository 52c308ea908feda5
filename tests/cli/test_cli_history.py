"""Histories from the command line: in, listed, shown, gone; and every way a file can be wrong."""

from __future__ import annotations

import json

import pytest
from cli_running import documents, error_of, people, shell, write_lines

from idiolect.store.records import Parent
from idiolect.store.store import Store
from idiolect.types import AdapterManifest


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def file(tmp_path):
    return write_lines(tmp_path / "users.jsonl", people(3))


def test_import_says_what_came_in(run, store, file):
    result = run("history", "import", file, "--task", "LaMP-2N", "--store", store)
    assert "3 people (3 new): 12 new items, 6 new queries, 0 duplicates" in result.stdout
    assert documents(run("history", "import", file, "--store", store, "--json"))["n_duplicates"] == 12


def test_shared_options_stand_before_or_after_the_command(run, store, file):
    run("--store", store, "history", "import", file)
    before = documents(run("--store", store, "--json", "history", "list"))
    after = documents(run("history", "list", "--store", store, "--json"))
    assert before == after
    assert [p["id"] for p in before] == ["p00", "p01", "p02"]


def test_the_store_may_come_from_the_environment(run, store, file, monkeypatch):
    monkeypatch.setenv("IDIOLECT_STORE", str(store))
    run("history", "import", file)
    assert store.exists()
    assert len(documents(run("history", "list", "--json"))) == 3


def test_list_shows_a_part_and_says_so(run, store, file):
    run("history", "import", file, "--store", store)
    result = run("history", "list", "--limit", "2", "--store", store)
    assert "p01" in result.stdout
    assert "p02" not in result.stdout
    assert "2 of 3 people" in result.stderr


def test_show_gives_the_newest_items(run, store, file):
    run("history", "import", file, "--store", store)
    shown = documents(run("history", "show", "p00", "--limit", "2", "--store", store, "--json"))
    assert shown["n_items"] == 4
    assert [item["id"] for item in shown["items"]] == ["p00-2", "p00-3"]
    text = run("history", "show", "p00", "--store", store).stdout
    assert "2020-01-01" in text
    assert max(map(len, text.splitlines())) <= 160


def test_what_people_wrote_cannot_steer_the_terminal(run, store, tmp_path):
    item = {"user_id": "eve", "id": "1", "text": "red \x1b[31m [bold]now[/bold]\nnext", "category": "sports"}
    run("history", "import", write_lines(tmp_path / "i.jsonl", [item]), "--store", store)
    shown = run("history", "show", "eve", "--store", store).stdout
    assert "\x1b" not in shown
    assert "[bold]now[/bold] next" in shown


def test_delete_needs_a_yes(run, store, file):
    run("history", "import", file, "--store", store)
    assert error_of(run("history", "delete", "p00", "--store", store, code=2)).startswith("InputError: ")
    assert len(documents(run("history", "list", "--store", store, "--json"))) == 3
    gone = documents(run("history", "delete", "p00", "--yes", "--store", store, "--json"))
    assert (gone["n_items"], gone["n_queries"], gone["made_from"]) == (4, 2, [])
    assert len(documents(run("history", "list", "--store", store, "--json"))) == 2


@pytest.mark.parametrize("json", [True, False])
def test_delete_says_what_goes_with_the_person(run, store, file, json):
    """Others' adapters that cite the person's pieces go too, and folders outside the store are named for the last time."""
    run("history", "import", file, "--store", store)
    with Store.open(store) as opened:
        on = {"task": "LaMP-2N", "base": "f" * 64, "base_name": "a base", "rank": 2, "alpha": 2.0, "targets": ("q_proj",)}
        own = opened.publish(AdapterManifest("user", user_id="p00", **on), b"own")
        (piece,) = opened.share_pieces(on, "p00", own, [("layers.0.q_proj", b"a body")]).ids
        other = AdapterManifest("assembled", user_id="p01", item_ids=("p01-0",), **on)
        made = opened.publish(other, b"made", parents=[Parent("piece", str(piece))])
        copy = opened.publish(AdapterManifest("user", user_id="p02", **on), b"own", parents=[Parent("adapter", own)])
        opened.export(own, "/somewhere/else", "adapter", (), lambda: None)
    words = ("history", "delete", "p00", "--yes", "--no-reassemble", "--store", store)
    result = run(*words, *(["--json"] if json else []))
    if json:
        gone = documents(result)
        affected = {"user_id": "p01", "digest": made, "kind": "assembled", "task": "LaMP-2N", "variant": "k0", "was_head": True}
        assert (gone["n_pieces"], gone["affected"]) == (1, [affected])
        assert [export["place"] for export in gone["stale_exports"]] == ["/somewhere/else"]
        assert gone["made_from"] == [{"digest": copy, "task": "LaMP-2N", "kind": "user", "user": "p02"}]
        assert gone["reassembled"] == []
    else:
        assert "1 piece withdrawn, 1 adapter of others with them" in result.stdout
        assert f"p01 · LaMP-2N · {made[:12]}, which was in use" in result.stdout
        assert "idiolect pieces assemble p01 --task LaMP-2N" in result.stderr
        assert "/somewhere/else" in result.stderr
        assert f"user adapter {copy[:12]} (LaMP-2N) of p02 is a copy of theirs, and still is there" in result.stdout
        assert "    idiolect train p02 --task LaMP-2N\n" in result.stdout


@pytest.mark.parametrize("command", [("show",), ("delete", "--yes")])
def test_unknown_person(run, store, command):
    assert error_of(run("history", *command, "nobody", "--store", store, code=3)).startswith("PersonNotFound: ")


LAMP = [{"id": "1", "input": "x", "profile": [{"id": "a", "text": "t", "category": "sports"}]}]
BROKEN = {
    "truncated LaMP": (json.dumps(LAMP)[:-9].encode(), "FileFormatError"),
    "LaMP without a profile": (b'[{"id": "1", "input": "x"}]', "FileFormatError"),
    "LaMP of the wrong type": (b'[{"id": "1", "input": "x", "profile": 3}]', "FileFormatError"),
    "not UTF-8": (b'{"user_id": "a", "id": "1", "text": "caf\xe9", "category": "sports"}\n', "FileFormatError"),
    "not JSON": (b"hello\n", "FileFormatError"),
    "empty": (b"", "FileFormatError"),
    "without the task's field": (b'{"user_id": "a", "id": "1", "text": "t"}\n', "FileFormatError"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_import_nothing(run, store, tmp_path, name):
    content, error = BROKEN[name]
    good = b'{"user_id": "good", "id": "0", "text": "t", "category": "sports"}\n'
    path = tmp_path / "broken_questions.json"
    path.write_bytes(content if content.startswith((b"[", b"hello")) or not content else good + content)
    line = error_of(run("history", "import", path, "--task", "LaMP-2N", "--store", store, code=2))
    assert line.startswith(f"{error}: ")
    assert "broken_questions.json" in line
    assert documents(run("history", "list", "--store", store, "--json")) == []


def test_rating_that_is_not_a_number(run, store, tmp_path):
    path = write_lines(tmp_path / "r.jsonl", [{"user_id": "a", "id": "1", "text": "secret text", "score": "good"}])
    line = error_of(run("history", "import", path, "--task", "LaMP-3", "--store", store, code=2))
    assert "not a number" in line
    assert "line 1" in line
    assert "secret" not in line


def test_missing_file_and_unknown_task(run, store, tmp_path, file):
    missing = run("history", "import", tmp_path / "none.jsonl", "--store", store, code=2)
    assert "none.jsonl" in error_of(missing)
    assert error_of(run("history", "import", file, "--task", "LaMP-9", "--store", store, code=2)).startswith("ConfigError: ")


def test_streams_and_exit_codes_of_a_real_process(store, file):
    done = shell("history", "import", file, "--store", store, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["n_people"] == 3
    assert done.stderr == ""
    failed = shell("history", "show", "nobody", "--store", store)
    assert failed.returncode == 3
    assert error_of(failed).startswith("PersonNotFound: ")
    assert shell("history", "show").returncode == 2
    assert shell("--version").stdout.startswith("idiolect ")


@pytest.mark.parametrize(
    "words",
    [
        ("history", "show", "caf\udce9"),
        ("history", "delete", "caf\udce9", "--yes"),
        ("history", "import", "x.jsonl", "--user", "caf\udce9"),
        ("train", "caf\udce9", "--task", "LaMP-3"),
        ("generate", "ana", "caf\udce9", "--task", "LaMP-3"),
        ("adapters", "list", "--user", "caf\udce9"),
    ],
)
def test_words_that_are_not_utf8_are_one_line(run, words):
    number = next(i for i, word in enumerate(words, 1) if "\udce9" in word)
    line = error_of(run(*words, code=2))
    assert line.startswith(f"InputError: argument {number} is not UTF-8; ")
    assert "caf" not in line


def test_bytes_of_a_real_terminal_that_are_not_utf8(store):
    failed = shell("history", "show", "caf\udce9", "--store", store)
    assert failed.returncode == 2
    assert error_of(failed).startswith("InputError: argument 3 is not UTF-8; ")


def test_a_store_that_cannot_be(run, tmp_path, file):
    (tmp_path / "taken").write_text("a file")
    assert error_of(run("history", "list", "--store", tmp_path / "taken", code=5)).startswith("StoreError: ")
    assert error_of(run("history", "list", "--store", "mysql://x/y", code=2)).startswith("ConfigError: ")
