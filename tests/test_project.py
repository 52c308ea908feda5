"""The project's own promises: light imports, safe loading, a README that tells where everything is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import idiolect

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "idiolect"
SOURCES = sorted(PACKAGE.rglob("*.py"))
HELP = """
import sys
sys.argv = ["idiolect", "--help"]
from idiolect.cli.app import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
HEAVY = ("torch", "transformers", "tokenizers", "scipy", "matplotlib", "peft")


def loaded_after(code: str) -> list[str]:
    """The heavy packages that a fresh interpreter holds after `code`."""
    show = f"import sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return ast.literal_eval(done.stdout.strip().splitlines()[-1])


def test_import_is_light():
    assert loaded_after("import idiolect") == []


def test_help_is_light():
    assert loaded_after(HELP) == []


def test_version_is_a_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+([.a-z0-9]+)?", idiolect.__version__)
    assert idiolect.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_public_names_resolve():
    missing = [name for name in idiolect.__all__ if not hasattr(idiolect, name)]
    assert missing == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_unpickles(path):
    """Adapters come from strangers: a pickle would run their code."""
    assert unsafe_loads(ast.parse(path.read_text())) == []


def unsafe_loads(tree: ast.Module) -> list[str]:
    """Imports of pickling modules, `torch.load` without weights_only=True, trust_remote_code that is not False."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name in ("pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")]
        elif isinstance(node, ast.ImportFrom) and node.module in ("pickle", "dill", "cloudpickle", "joblib", "shelve"):
            found.append(node.module)
        elif isinstance(node, ast.Call):
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if ast.unparse(node.func) == "torch.load" and given.get("weights_only") != "True":
                found.append(f"torch.load at line {node.lineno}")
            if given.get("trust_remote_code", "False") != "False":
                found.append(f"trust_remote_code at line {node.lineno}")
    return found


def test_unsafe_loads_are_noticed():
    bad = "import pickle\nimport torch\ntorch.load('x')\nf(trust_remote_code=True)"
    assert len(unsafe_loads(ast.parse(bad))) == 3
    assert unsafe_loads(ast.parse("import torch\ntorch.load('x', weights_only=True)")) == []


def readme_tree() -> list[str]:
    """The paths that the README's tree names, relative to the repository.

    The tree is the fenced block with box-drawing branches; a line's depth is where its name stands, a folder ends in `/`.
    """
    blocks = re.findall(r"```[a-z]*\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    lines = next((b.splitlines() for b in blocks if "├──" in b and "idiolect" in b), [])
    paths, parents = [], []
    for line in lines:
        match = re.match(r"^([│├└─\s]*)([\w.\-/*]+)", line)
        if not match or not match[2].strip("."):
            continue
        depth, name = len(match[1]), match[2]
        while parents and parents[-1][0] >= depth:
            parents.pop()
        path = "/".join([*(p for _, p in parents), name.rstrip("/")])
        paths.append(path)
        if name.endswith("/"):
            parents.append((depth, name.rstrip("/")))
    return paths


def test_readme_tree_is_true():
    paths = readme_tree()
    assert paths, "README.md has no tree of the source"
    absent = [p for p in paths if not any(base.joinpath(p).exists() for base in (ROOT, ROOT / "src", ROOT.parent))]
    assert absent == []


def test_readme_tree_is_complete():
    listed = {path.rsplit("/", 1)[-1] for path in readme_tree()}
    modules = {p.name for p in PACKAGE.glob("*.py")}
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    assert modules | folders <= listed, f"README.md's tree does not list: {sorted((modules | folders) - listed)}"


def test_public_names_are_spelt_out():
    import idiolect

    assert set(idiolect.__all__) == {*idiolect._HOMES, "__version__"}
