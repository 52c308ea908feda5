"""Files → links: benchmarks of three columns, the counts of the first game, and this game's own releases.

    folder/{train,val,test}.tsv   word, word, label                                        a benchmark
    BASE_WORD INPUT_WORD RELATION_ID CNT                                                   parts that players gave, and how many
    relation base answer n_players U freq n_yes n_no p_valid …                             pairs.tsv
    relation base answer n_yes n_no p_valid kind …                                         negatives.tsv

Words are read in key form, so that every source spells them as the lexicon does. Messages name file, line and column, never a
word: some of it is what people typed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from idiolect.errors import FileFormatError, InputError
from idiolect.game.lexicon import key_form
from idiolect.game.normalise import RELATIONS, fold
from idiolect.relations.links import BENCHMARKS, Label, Link, orient, softened

PARTS = ("train", "val", "test")

_COUNTS = ("BASE_WORD", "INPUT_WORD", "RELATION_ID", "CNT")
_PAIRS = ("relation", "base", "answer", "n_players", "U", "freq", "n_yes", "n_no", "p_valid")
_NEGATIVES = ("relation", "base", "answer", "n_yes", "n_no", "p_valid", "kind")


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as published. `val` may be empty (CogALex-V has none)."""

    name: str
    train: tuple[Link, ...]
    val: tuple[Link, ...]
    test: tuple[Link, ...]

    @property
    def links(self) -> tuple[Link, ...]:
        return (*self.train, *self.val, *self.test)

    @property
    def natives(self) -> tuple[str, ...]:
        """Its own labels, by alphabet."""
        return tuple(sorted({link.native for link in self.links}))


def read_benchmark(name: str, folder: Path) -> Benchmark:
    """A benchmark's folder, every row oriented.

    Raises:
        InputError: a benchmark whose columns nobody described (`links.BENCHMARKS`).
        FileFormatError: a file is missing or not what it should be.
    """
    if name not in BENCHMARKS:
        raise InputError(f"benchmark {name!r} is not known; choose one of: {', '.join(BENCHMARKS)}")
    parts = {}
    for part in PARTS:
        path = folder / f"{part}.tsv"
        parts[part] = () if part == "val" and not path.is_file() else tuple(_benchmark_rows(name, path))
    return Benchmark(name, **parts)


def read_game(path: Path) -> list[Link]:
    """Links of a file that players made; its first line says which of the three kinds it is.

    * counts: everything is a part that five or more gave; `votes` says how many.
    * pairs: counts as its relation with probability p_valid where it was judged, else 1; weighs its `freq`, the share of
      players who said it.
    * negatives: counts as none with probability 1 - p_valid; the rest as its relation.

    Raises:
        FileFormatError: none of the three, or a row that is not what it should be.
    """
    lines = _lines(path)
    header = tuple(lines[0].split("\t")) if lines else ()
    for columns, read in _KINDS.items():
        if set(columns) <= set(header):
            return [link for row in _rows(path, lines, header) for link in read(row)]
    raise FileFormatError(
        f"{path.name}: line 1 has none of the headers that are read here; give pairs.tsv, negatives.tsv, or counts "
        f"({' '.join(_COUNTS)})"
    )


@dataclass(frozen=True)
class _Row:
    """A line of a file with a header; what is wrong with it is said by line and column."""

    file: str
    line: int
    fields: Mapping[str, str]

    def word(self, column: str) -> str:
        key = word_key(self.fields[column])
        if not key:
            raise self._error(column, "holds no word")
        return key

    def number(self, column: str, low: float = 0, high: float = float("inf")) -> float:
        try:
            value = float(self.fields[column])
        except ValueError:
            raise self._error(column, "is not a number") from None
        if not low <= value <= high:
            raise self._error(column, f"is not between {low:g} and {high:g}")
        return value

    def relation(self) -> Label:
        if self.fields["relation"] not in RELATIONS:
            raise self._error("relation", f"is none of {', '.join(RELATIONS)}")
        return cast(Label, self.fields["relation"])

    def share(self, column: str, otherwise: float) -> float:
        return self.number(column, 0, 1) if self.fields[column] else otherwise

    def _error(self, column: str, problem: str) -> FileFormatError:
        return FileFormatError(f"{self.file}: line {self.line}: column {column} {problem}; mend the file, or export it again")


def word_key(text: str) -> str:
    """A word as the lexicon spells it."""
    return key_form(fold(text))


def _counted(row: _Row) -> Sequence[Link]:
    return [Link(row.word("BASE_WORD"), row.word("INPUT_WORD"), "mero", votes=int(row.number("CNT", 1)))]


def _given(row: _Row) -> Sequence[Link]:
    judged = row.fields["n_yes"] != "" and row.number("n_yes") + row.number("n_no") > 0
    p = row.share("p_valid", 1.0) if judged else 1.0
    votes = int(row.number("n_players"))
    return softened(row.word("base"), row.word("answer"), row.relation(), p, row.number("freq", 0, 1), votes)


def _refused(row: _Row) -> Sequence[Link]:
    return softened(row.word("base"), row.word("answer"), row.relation(), row.share("p_valid", 0.0))


_KINDS: Mapping[tuple[str, ...], Callable[[_Row], Sequence[Link]]] = {
    _COUNTS: _counted, _PAIRS: _given, _NEGATIVES: _refused,
}  # fmt: skip


def _benchmark_rows(name: str, path: Path) -> Iterator[Link]:
    known = BENCHMARKS[name]
    for number, line in enumerate(_lines(path), 1):
        fields = line.split("\t")
        if len(fields) != 3:
            raise FileFormatError(f"{path.name}: line {number}: {len(fields)} columns; {name} has word, word, label")
        first, second = map(word_key, fields[:2])
        if not first or not second:
            raise FileFormatError(f"{path.name}: line {number}: a word is blank; {name} has word, word, label")
        if fields[2] not in known:
            raise FileFormatError(f"{path.name}: line {number}: the label is none of {name}'s: {', '.join(known)}")
        yield orient(name, first, second, fields[2])


def _rows(path: Path, lines: Sequence[str], header: Sequence[str]) -> Iterator[_Row]:
    for number, line in enumerate(lines[1:], 2):
        fields = line.split("\t")
        if len(fields) != len(header):
            raise FileFormatError(f"{path.name}: line {number}: {len(fields)} columns, and the header has {len(header)}")
        yield _Row(path.name, number, dict(zip(header, fields, strict=True)))


def _lines(path: Path) -> list[str]:
    try:
        found = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise FileFormatError(f"{str(path)!r} is no UTF-8 text; give a file of tab-separated columns") from None
    except OSError as error:
        raise FileFormatError(f"{str(path)!r} cannot be read: {error.strerror}; give a file or folder that is there") from None
    if not any(found):
        raise FileFormatError(f"{str(path)!r} is empty")
    return [line for line in found if line.strip()]
