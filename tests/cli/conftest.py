"""Fixtures: a quiet machine, a tiny random base with a tokenizer of its own, and the command in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cli_running import make_base
from typer.testing import CliRunner, Result


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the user's own store, colours or width."""
    monkeypatch.setenv("IDIOLECT_STORE", str(tmp_path / "default-store"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer Llama on a byte-level BPE, as a folder."""
    return make_base(tmp_path_factory.mktemp("base") / "tiny", seed=0)


@pytest.fixture(scope="session")
def other_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same shape with other weights: every adapter of `tiny_base` is foreign to it."""
    return make_base(tmp_path_factory.mktemp("base") / "other", seed=1)


Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Run the command in this process: `run("history", "list")`."""
    from idiolect.cli.app import app

    runner = CliRunner()

    def call(*words: str | Path, input: str | None = None, code: int | None = 0) -> Result:
        result = runner.invoke(app, [str(word) for word in words], input=input, catch_exceptions=False)
        if code is not None:
            assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
        return result

    return call
