"""Releases for everybody: what at least five real players who agreed to it gave, never what one of them did.

    nyms-3/  pairs.tsv  negatives.tsv  distributions.jsonl  card.md  SHA256SUMS

A release is written into a folder beside its place and put there in one step, together with its record. One base word is in
memory at a time. Whoever takes their consent back, leaves, has something forgotten or is banned while a release is written
makes it be written again, and so does a pair that is blocked.
"""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from idiolect.errors import ConfigError, StoreBusy, StoreError
from idiolect.game import card
from idiolect.game.clock import Clock
from idiolect.game.normalise import Relation
from idiolect.game.rules import RULES
from idiolect.game.showing import showable
from idiolect.game.vocabulary import BaseWord, Vocabulary
from idiolect.store.game.books import Books, GameBooks
from idiolect.store.game.owning import OWN_KINDS
from idiolect.store.game.publishing import PublicPair, Published, Standing
from idiolect.store.game.records import PlayerRow, PromptRow
from idiolect.types import canonical_json

K_MIN = 5
"""Fewest different players behind anything that is published."""

REFUSED, JUDGES = 0.2, 5
DRAWN_FROM = 2_000
"""Published answers of a relation that distractors are drawn from; a sample, where there are more."""
_TRIES = 3

PAIRS = (
    "relation", "base", "answer", "n_players", "U", "freq", "n_yes", "n_no", "p_valid", "in_wn30", "depth", "oov",
    "first_month", "rules_version",
)  # fmt: skip
NEGATIVES = ("relation", "base", "answer", "n_yes", "n_no", "p_valid", "kind", "rules_version")
FILES = ("pairs.tsv", "negatives.tsv", "distributions.jsonl")


@dataclass(frozen=True)
class Release:
    """What was written, and where."""

    release: str
    folder: Path
    rows: dict[str, int]
    digest: str


class Exports:
    """Where releases are made, and where players get everything of theirs.

    Args:
        rng: draws distractors; by default from the system. Whoever could draw them again would learn what was passed over.
    """

    def __init__(self, books: GameBooks, words: Vocabulary, clock: Clock, rng: random.Random | None = None) -> None:
        self._books, self._words, self._clock, self._rng = books, words, clock, rng or random.SystemRandom()

    # -- releases --------------------------------------------------------------------------------------------------

    def release(self, out: str | Path, *, k: int = K_MIN) -> Release:
        """Write a release into a new folder in `out`.

        Raises:
            ConfigError: fewer than five players are asked for.
            StoreBusy: what may be published changed each time that it was tried, or another release came between.
            StoreError: the folder is there already, or cannot be written.
        """
        if k < K_MIN:
            raise ConfigError(f"k is {k}; nothing is published that fewer than {K_MIN} players gave, so give {K_MIN} or more")
        place = Path(out)
        for _ in range(_TRIES):
            made = self._try(place, k)
            if made is not None:
                return made
        raise StoreBusy("what may be published changed each time that a release was written; nothing was kept: try again")

    def _try(self, place: Path, k: int) -> Release | None:
        """A release, or None if the store changed so that it must not be kept."""
        part = place / f".release-{secrets.token_hex(8)}"
        try:
            part.mkdir(parents=True)
            with self._books.read() as books:
                at = self._clock()
                before = books.standing(at)
                name = f"nyms-{before.n_releases + 1}"
                rows = _Writer(books, self._words, part, k, at, name, self._rng).write()
            made = Release(name, place / name, rows, _checksums(part))
            return made if self._put(part, made, k, at, before) else None
        except OSError as error:
            raise StoreError(f"cannot write a release in {str(place)!r}: {error.strerror}; choose another --out") from None
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _put(self, part: Path, made: Release, k: int, at: float, before: Standing) -> bool:
        """Put a release in its place and on record, both or neither; whether that was still right to do."""
        if made.folder.exists():
            raise StoreError(f"there is a {made.release!r} in {str(made.folder.parent)!r} already; choose another --out")
        try:
            with self._books.write() as books:
                if books.standing(at) != before:
                    return False
                values = {"k_min": k, "n_rows": sum(made.rows.values()), "digest": made.digest}
                books.add_release(release=made.release, at=at, rules=RULES, **values)
                os.replace(part, made.folder)
        except BaseException:
            if not part.exists():  # it was put there, and is not on record
                shutil.rmtree(made.folder, ignore_errors=True)
            raise
        return True

    # -- a player's own --------------------------------------------------------------------------------------------

    def everything(self, player: int) -> Iterator[bytes]:
        """All that is kept of a player, as one JSON document in parts: settings, consents, rounds with what was typed …

        A page is read at a time, each by itself, so that a slow reader holds nothing up. Not the password's hash, and no
        session's token: they are secrets and say nothing about the player.
        """
        with self._books.read() as books:
            row = books.player(player)
        yield b'{"version":1,"player":' + _json(_about(row))
        for kind in OWN_KINDS:
            yield f',"{kind}":['.encode()
            first = True
            for page in self._pages(player, kind):
                yield (b"" if first else b",") + b",".join(map(_json, page))
                first = False
            yield b"]"
        yield b"}\n"

    def _pages(self, player: int, kind: str) -> Iterator[list[dict[str, Any]]]:
        after = 0
        while True:
            with self._books.read() as books:
                page = books.own_rows(player, kind, after)
                page = [self._without_hidden(books, row) for row in page] if kind == "complaints" else page
            if not page:
                return
            after = page[-1]["row"]
            yield page

    def _without_hidden(self, books: Books, row: dict[str, Any]) -> dict[str, Any]:
        """A complaint without the answer that it is about, where that is not shown (any more): it is somebody else's word."""
        asked = books.prompt_named(row["prompt"])
        assert asked is not None  # it has a row, and a complaint
        shown = showable(books, self._words, asked.key, self._words.words[row["prompt"]], [row["answer"]])
        return row if shown else {**row, "answer": None}


def _about(row: PlayerRow) -> dict[str, Any]:
    return {one.name: getattr(row, one.name) for one in fields(row) if one.name not in ("key", "password", "person")}


def _json(value: Any) -> bytes:
    return canonical_json(value).encode("utf-8", "replace")


def _checksums(folder: Path) -> str:
    """Write SHA256SUMS, as `sha256sum -c` reads it; its own SHA-256."""
    lines = []
    for file in sorted(folder.iterdir()):
        with file.open("rb") as opened:
            lines.append(f"{hashlib.file_digest(opened, 'sha256').hexdigest()}  {file.name}\n")
    sums = "".join(lines).encode()
    (folder / "SHA256SUMS").write_bytes(sums)
    return hashlib.sha256(sums).hexdigest()


class _Writer:
    """One release, in the transaction that it is read in."""

    def __init__(self, books: Books, words: Vocabulary, folder: Path, k: int, at: float, name: str, rng: random.Random) -> None:
        self._books, self._words, self._folder, self._k, self._at, self._name = books, words, folder, k, at, name
        self._rng = rng
        self._answered = books.answered_prompts(at)
        self._drawn: dict[str, list[tuple[str, str]]] = {}
        self._n: Counter[str] = Counter()
        self._relations: Counter[str] = Counter()

    def write(self) -> dict[str, int]:
        """Write all files; how many rows each has."""
        with self._open("pairs.tsv") as pairs, self._open("distributions.jsonl") as distributions:
            pairs.write(_row(PAIRS))
            for prompt, word in self._prompts():
                self._write_prompt(pairs, distributions, word, self._books.published(prompt.key, self._at))
        with self._open("negatives.tsv") as negatives:
            negatives.write(_row(NEGATIVES))
            for prompt, word in self._prompts():
                for row in self._negatives(word, self._books.published(prompt.key, self._at)):
                    negatives.write(_row(row))
                    self._n["negatives.tsv"] += 1
        (self._folder / "card.md").write_text(card.text(self._card()), encoding="utf-8")
        return {file: self._n[file] for file in FILES}

    def _open(self, name: str) -> TextIO:
        return (self._folder / name).open("w", encoding="utf-8", newline="\n")

    def _prompts(self) -> Iterator[tuple[PromptRow, BaseWord]]:
        """Base words that anybody answered or judged, in their order."""
        for prompt in self._books.prompts():
            word = self._words.words.get(prompt.prompt)
            if word is not None and prompt.key in self._answered:
                yield prompt, word

    # -- what was given --------------------------------------------------------------------------------------------

    def _write_prompt(self, pairs: TextIO, distributions: TextIO, word: BaseWord, found: Published) -> None:
        shown = self._frequent(found)
        for pair in shown:
            pairs.write(_row(self._pair(word, found, pair)))
            self._keep(word.relation, word.key, pair.key)
        self._n["pairs.tsv"] += len(shown)
        self._relations[word.relation] += len(shown)
        if shown:
            given = {pair.key: pair.n_players for pair in shown}
            other = sum(pair.n_players for pair in found.pairs.values()) - sum(given.values())
            line = {"relation": word.relation, "base": word.key, "U": found.n_players, "given": given, "other": other}
            distributions.write(canonical_json({**line, "rules_version": RULES}) + "\n")
            self._n["distributions.jsonl"] += 1

    def _frequent(self, found: Published) -> list[PublicPair]:
        """Pairs that may be published, most frequent first."""
        kept = [pair for pair in found.pairs.values() if pair.n_players >= self._k and pair.open]
        return sorted(kept, key=lambda pair: (-pair.n_players, pair.key))

    def _pair(self, word: BaseWord, found: Published, pair: PublicPair) -> tuple[object, ...]:
        depth = self._words.seeds[word.id].get(pair.key)
        month = "" if pair.first_at is None else datetime.fromtimestamp(pair.first_at, UTC).strftime("%Y-%m")
        freq = f"{pair.n_players / found.n_players:.4f}"
        return (
            word.relation, word.key, pair.key, pair.n_players, found.n_players, freq, *self._votes(pair),
            int(depth is not None), "" if depth is None else depth, int(pair.oov), month, RULES,
        )  # fmt: skip

    def _votes(self, pair: PublicPair) -> tuple[object, object, object]:
        """n_yes, n_no and p_valid; blank where fewer judged than may be published, whose verdicts and trust they would tell."""
        if pair.yes + pair.no < self._k:
            return "", "", ""
        return pair.yes, pair.no, f"{_valid(pair):.4f}"

    # -- what is none of it ----------------------------------------------------------------------------------------

    def _negatives(self, word: BaseWord, found: Published) -> Iterator[tuple[object, ...]]:
        refused = [pair for pair in found.pairs.values() if self._is_refused(pair)]
        for pair in refused:
            yield word.relation, word.key, pair.key, *self._votes(pair), "judged", RULES
        shown = self._frequent(found)
        for key in self._distractors(word, len(shown), {pair.key for pair in (*shown, *refused)}):
            yield word.relation, word.key, key, 0, 0, "", "distractor", RULES

    def _is_refused(self, pair: PublicPair) -> bool:
        """Enough judges said no. A word that only few gave, and no dictionary knows, stays theirs whatever others say of it."""
        known = pair.n_players >= self._k or pair.key in self._words.lexicon
        return known and pair.open and pair.yes + pair.no >= max(JUDGES, self._k) and _valid(pair) <= REFUSED

    def _distractors(self, word: BaseWord, n: int, published: set[str]) -> list[str]:
        """As many as there are pairs, if there are so many: other base words' published answers, by lot.

        What is passed over is in the release or in WordNet. Passing over what few gave would tell that somebody did.

        Args:
            published: answers to this base word that are in the release.
        """
        near = {word.key, *self._words.seeds[word.id], *published}
        drawn = self._drawn.get(word.relation, [])
        far = sorted({key for base, key in drawn if base != word.key and key not in near and base not in near})
        return sorted(self._rng.sample(far, min(n, len(far))))

    def _keep(self, relation: Relation, base: str, key: str) -> None:
        """Remember a published pair to draw from, or by lot one of them in its place."""
        kept = self._drawn.setdefault(relation, [])
        n = self._n[f"seen {relation}"] = self._n[f"seen {relation}"] + 1
        if len(kept) < DRAWN_FROM:
            kept.append((base, key))
        elif (place := self._rng.randrange(n)) < DRAWN_FROM:
            kept[place] = (base, key)

    # -- what is said of it ----------------------------------------------------------------------------------------

    def _card(self) -> card.Card:
        books = self._books
        return card.Card(
            release=self._name,
            date=datetime.fromtimestamp(self._at, UTC).strftime("%Y-%m-%d"),
            rules=RULES,
            vocabulary=self._words.version,
            k=self._k,
            rows={file: self._n[file] for file in FILES},
            relations=dict(self._relations),
            players=books.n_consenting(self._at),
            rounds=books.rules_played(self._at),
            removed=[(release, books.removals_since(release.at)) for release in books.releases()],
        )


def _valid(pair: PublicPair) -> float:
    """(1 + Y) / (2 + Y + N), votes weighed by trust."""
    return (1 + pair.yes_w) / (2 + pair.yes_w + pair.no_w)


def _row(values: Iterable[object]) -> str:
    """A line of tab-separated values. Keys hold letters, digits, spaces and '-&. only; that no cell can break the table, or be
    read as a formula by a spreadsheet, does not rest on it.
    """
    return "\t".join(map(_cell, values)) + "\n"


def _cell(value: object) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split(" "))
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
