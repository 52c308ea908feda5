"""Small benchmarks made of the shipped vocabulary and of made-up words, as links and as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from idiolect.game.vocabulary import vocabulary
from idiolect.relations.links import Link

REAL = Path(__file__).parents[3] / "shared" / "data"
"""Where real benchmarks are, on machines that have them."""


def made_up(n: int, start: int = 0) -> list[Link]:
    """Links that their letters tell: un-words are opposites, compounds are kinds, the rest is nothing."""
    stems = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("ck", "mp", "nt", "rd", "lk")]
    links = []
    for i in range(start, start + n):
        stem, other = stems[i % len(stems)], stems[(7 * i + 3) % len(stems)]
        links += [Link(stem, f"un{stem}", "ant"), Link(stem, f"{other} {stem}", "hypo"), Link(stem, f"{other}ly", "none")]
    return links


def of_vocabulary(n: int) -> list[Link]:
    """Pairs of WordNet's seeds at depth 1, the same number of each relation."""
    words = vocabulary()
    return [
        Link(word.key, min(key for key, depth in words.seeds[word.id].items() if depth == 1), word.relation)
        for relation in ("syn", "ant", "hypo", "mero")
        for word in [w for w in words.of(relation) if 1 in words.seeds[w.id].values()][:n]
    ]


def write_evalution(folder: Path, links: Sequence[Link], held: int = 5) -> Path:
    """Links as EVALution writes them; every so-many-th is asked, the one after it sets the temperature."""
    native = {"syn": "Synonym", "ant": "Antonym", "hypo": "IsA", "mero": "PartOf", "none": "HasProperty"}
    parts: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for i, link in enumerate(links):
        first, second = (link.answer, link.base) if link.label in ("hypo", "mero") else link.words
        part = {0: "test", 1: "val"}.get((i // 3) % held, "train")
        parts[part].append(f"{first}\t{second}\t{native[link.label]}")
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in parts.items():
        (folder / f"{name}.tsv").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return folder
