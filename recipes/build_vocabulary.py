"""Build the word game's vocabulary from WordNet's database files: base words, seed pairs, lexicon.

What flows where, top to bottom of this file:

    data, index, *.exc, cntlist.rev ──wndb──▶ lexicon ──▶ candidates of a relation, ranked ──review──▶ 300 base words
                                                 └──▶ seeds of each base word, as keys ──▶ TSV, packed; checksums

Nothing but WordNet goes in, and two lists that are kept by hand in the same folder: `invariant.txt` and `blocked.tsv`. The same
input gives the same bytes. The database is Debian's package wordnet-base, or WordNet 3.0 from anywhere.

    python recipes/build_vocabulary.py --wordnet /usr/share/wordnet --out src/idiolect/assets/vocabulary
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import wndb
from vocabulary_review import EXCLUDED, GOOD_KINDS
from wndb import Place, WordNet

from idiolect.game.lexicon import COMMON_NOUN, Lexicon, key_form
from idiolect.game.normalise import RELATIONS, Question, Relation, fold, key_of, normalise
from idiolect.game.vocabulary import COLUMNS, read_invariant, read_severity

VERSION = "v1"
WORDS_PER_RELATION = 300
MIN_TAGS = 5
PARTS = {"syn": "nva", "ant": "nva", "hypo": "n", "mero": "n"}
MIN_SEEDS = {"syn": 2, "ant": 1, "hypo": 5, "mero": 3}
# Of these, from the commonest sense alone and one pointer away: it is the sense that players think of.
MIN_OF_FIRST_SENSE = {"syn": 1, "ant": 1, "hypo": 5, "mero": 0}
HYPONYM_DEPTH, PART_DEPTH = 6, 3
READ = [f"{kind}.{name}" for kind in ("data", "index") for name in wndb.FILES.values()]
READ += [*(f"{name}.exc" for name in wndb.FILES.values()), "cntlist.rev"]

_LET_IN = frozenset(Question("hypo", word, "n") for word in GOOD_KINDS.split())

Depths = dict[str, int]
"""Lemma → how many pointers lead from the base word to it, at least."""


# ---- the lexicon ---------------------------------------------------------------------------------------------------------


def lexicon_of(wordnet: WordNet, invariant: frozenset[str], severity: Mapping) -> Lexicon:
    """All words of WordNet in key form, and the keys that answers get where these differ (united state)."""
    marks: dict[str, set[str]] = defaultdict(set)
    tags: dict[str, int] = defaultdict(int)
    for lemma, senses in wordnet.senses.items():
        key = key_form(lemma)
        marks[key] |= set(senses) | ({COMMON_NOUN} if _is_common_noun(wordnet, lemma) else set())
        tags[key] += sum(wordnet.tag_count(lemma, pos) for pos in senses)
    irregular = {pos: _irregular(forms) for pos, forms in wordnet.irregular.items()}
    words = {key: "".join(sorted(mark, key="nvarN".index)) for key, mark in marks.items()}
    lexicon = Lexicon(words, {k: n for k, n in tags.items() if n}, irregular, invariant, severity)
    folded = [fold(lemma) for lemma in wordnet.senses]
    keys = {key_of(lemma, lexicon, of_nouns=True) for lemma in folded}
    keys |= {key_of(lemma, lexicon, of_nouns=False) for lemma in folded if not lemma.isalpha()}
    words.update(dict.fromkeys(keys - words.keys() - {""}, ""))
    return lexicon


def _is_common_noun(wordnet: WordNet, lemma: str) -> bool:
    return any(lemma in wordnet.synsets[place].words for place in wordnet.senses[lemma].get("n", ()))


def _irregular(forms: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    keyed = ((key_form(form), tuple(dict.fromkeys(map(key_form, bases)))) for form, bases in forms.items())
    return {form: bases for form, bases in keyed if bases[0] != form}


# ---- seeds: what WordNet would answer ------------------------------------------------------------------------------------


def synonyms(wordnet: WordNet, base: str, pos: str) -> Depths:
    """Words that share a synset with the base word."""
    return {word: 1 for place in wordnet.senses[base][pos] for word in wordnet.synsets[place].words}


def antonyms(wordnet: WordNet, base: str, pos: str) -> Depths:
    """The word's own antonyms; for an adjective that stands with a head, the head's too."""
    found: Depths = {}
    for synset in (wordnet.synsets[place] for place in wordnet.senses[base][pos]):
        heads = [wordnet.synsets[place] for place in synset.to(wndb.SIMILAR)] if synset.satellite else []
        for head in heads:
            found.update(dict.fromkeys(_opposites(wordnet, head, head.words), 2))
        found.update(dict.fromkeys(_opposites(wordnet, synset, [w for w in synset.words if w.lower() == base]), 1))
    return found


def _opposites(wordnet: WordNet, synset: wndb.Synset, words: Iterable[str]) -> Iterator[str]:
    wanted = {synset.words.index(word) + 1 for word in words}
    for p in synset.pointers:
        if p.symbol == wndb.ANTONYM and p.source in wanted:
            yield wordnet.synsets[p.to].words[p.target - 1]


def hyponyms(wordnet: WordNet, places: Iterable[Place]) -> Depths:
    """Kinds, and kinds of kinds to depth 6, names (written with a capital) left out."""
    return {word: n for word, n in _words(wordnet, reach(wordnet, places, HYPONYM_DEPTH, wndb.HYPONYM)) if word.islower()}


def meronyms(wordnet: WordNet, places: Iterable[Place]) -> Depths:
    """Parts, members and substances of the word and of all that it is a kind of, and parts of parts to depth 3."""
    found: Depths = {}
    for place, up in reach(wordnet, places, None, wndb.HYPERNYM).items():
        for word, down in _words(wordnet, reach(wordnet, [place], PART_DEPTH, *wndb.MERONYMS)):
            found[word] = min(up + down, found.get(word, up + down))
    return found


def reach(wordnet: WordNet, places: Iterable[Place], depth: int | None, *symbols: str) -> dict[Place, int]:
    """Synsets that pointers lead to, with how many it takes; those one starts from with 0."""
    found = dict.fromkeys(places, 0)
    front, steps = list(found), 0
    while front and steps != depth:
        steps += 1
        onward = dict.fromkeys(to for place in front for to in wordnet.synsets[place].to(*symbols))
        front = [place for place in onward if place not in found]
        found.update(dict.fromkeys(front, steps))
    return found


def _words(wordnet: WordNet, places: Mapping[Place, int]) -> Iterator[tuple[str, int]]:
    """Words of the synsets but those one started from, the nearest occurrence of each."""
    nearest: Depths = {}
    for place, steps in places.items():
        if steps:
            for word in wordnet.synsets[place].words:
                nearest.setdefault(word, steps)
    yield from nearest.items()


def usual_senses(wordnet: WordNet, base: str) -> list[Place]:
    """Senses of a noun that were ever tagged, and the first two in any case: further ones make odd kinds and parts."""
    counts = wordnet.tags_by_sense(base, "n")
    return [place for n, place in enumerate(wordnet.senses[base]["n"]) if n < 2 or counts[n]]


SEEDS: Mapping[Relation, Callable[[WordNet, str, str], Depths]] = {
    "syn": synonyms,
    "ant": antonyms,
    "hypo": lambda wordnet, base, _: hyponyms(wordnet, usual_senses(wordnet, base)),
    "mero": lambda wordnet, base, _: meronyms(wordnet, usual_senses(wordnet, base)),
}


def seeds(wordnet: WordNet, lexicon: Lexicon, question: Question) -> Depths:
    """The seeds of a base word, as keys."""
    return seed_keys(SEEDS[question.relation](wordnet, question.key, question.pos), question, lexicon)


def seed_keys(found: Depths, question: Question, lexicon: Lexicon) -> Depths:
    """The seeds as keys: what a player who typed them would be credited for. Echoes and blocked words are none."""
    keys: Depths = {}
    for word, depth in found.items():
        reading = normalise(word, question, lexicon)
        if reading.status == "accepted":
            keys[reading.key] = min(depth, keys.get(reading.key, depth))
    return keys


# ---- base words ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """A word that could be asked for, as that part of speech."""

    question: Question
    tags: int

    @property
    def rank(self) -> tuple[int, str]:
        return -self.tags, self.question.key


def candidates(wordnet: WordNet, lexicon: Lexicon, relation: Relation) -> list[Candidate]:
    """Words fit to be asked for, the most frequent first; each as the part of speech in which it is most frequent."""
    best: dict[str, Candidate] = {}
    for lemma, pos, tags in _frequent_words(wordnet, PARTS[relation]):
        if _is_fit(wordnet, lexicon, question := Question(relation, lemma, pos)):
            found = Candidate(question, tags)
            best[lemma] = max(found, best.get(lemma, found), key=lambda c: c.tags)
    return sorted(best.values(), key=lambda c: c.rank)


def _frequent_words(wordnet: WordNet, parts: str) -> Iterator[tuple[str, str, int]]:
    for lemma, senses in wordnet.senses.items():
        if re.fullmatch("[a-z]{3,15}", lemma):
            counts = ((pos, wordnet.tag_count(lemma, pos)) for pos in parts if pos in senses)
            yield from ((lemma, pos, tags) for pos, tags in counts if tags >= MIN_TAGS)


def _is_fit(wordnet: WordNet, lexicon: Lexicon, question: Question) -> bool:
    lemma, pos = question.key, question.pos
    first = wordnet.synsets[wordnet.senses[lemma][pos][0]]
    is_name = lemma not in first.words or any(first.to(wndb.INSTANCE_OF))
    if is_name or lemma in lexicon.severity or key_of(lemma, lexicon, of_nouns=question.of_nouns) != lemma:
        return False
    if question.relation in ("hypo", "mero") and concreteness(first) != "concrete" and question not in _LET_IN:
        return False
    own = seed_keys(_first_answers(wordnet, first, question), question, lexicon)
    if len(own) < MIN_OF_FIRST_SENSE[question.relation]:
        return False
    least = MIN_SEEDS[question.relation]
    return len(own) >= least or len(seeds(wordnet, lexicon, question)) >= least


def _first_answers(wordnet: WordNet, first: wndb.Synset, question: Question) -> Depths:
    if question.relation == "syn":
        return dict.fromkeys(first.words, 1)
    if question.relation == "ant":
        return dict.fromkeys(_opposites(wordnet, first, [w for w in first.words if w.lower() == question.key]), 1)
    symbols = (wndb.HYPONYM,) if question.relation == "hypo" else wndb.MERONYMS
    return {word: n for word, n in _words(wordnet, reach(wordnet, [first.place], 1, *symbols)) if word.islower()}


def concreteness(synset: wndb.Synset) -> str:
    """By the lexicographer's file of a noun; nothing for other words."""
    if synset.place[0] != "n":
        return ""
    return "concrete" if synset.file in wndb.LEXICOGRAPHER_FILES else "abstract"


def choose(found: list[Candidate], relation: Relation) -> list[Question]:
    """The first 300 that the review left."""
    kept = [c.question for c in found if c.question.key not in EXCLUDED[relation].split()]
    if len(kept) < WORDS_PER_RELATION:
        raise SystemExit(f"{relation}: {len(kept)} words are left, {WORDS_PER_RELATION} are needed; exclude fewer")
    return kept[:WORDS_PER_RELATION]


def row(wordnet: WordNet, question: Question) -> tuple[str, ...]:
    """The columns of a base word's line."""
    key, pos = question.key, question.pos
    first = wordnet.synsets[wordnet.senses[key][pos][0]]
    largest, second, *_ = [*sorted(wordnet.tags_by_sense(key, pos), reverse=True), 0]
    gloss = first.gloss.split('; "')[0].strip()
    sense = f"wn30:{first.place[1]}-{pos}"
    ambiguous = "1" if 3 * second >= largest else "0"
    return f"{question.relation}:{key}", key, key, pos, sense, concreteness(first), ambiguous, gloss


# ---- files ---------------------------------------------------------------------------------------------------------------


def build(wordnet: WordNet, folder: Path) -> dict[str, str]:
    """File name → text of all that the recipe makes but `vocabulary.json`; `folder` has the lists that are kept by hand."""
    lexicon = lexicon_of(wordnet, read_invariant(folder), read_severity(folder))
    made = {"lexicon.tsv.gz": _lexicon_text(lexicon), "irregular.tsv.gz": _irregular_text(lexicon), "seeds.tsv.gz": ""}
    for relation in RELATIONS:
        questions = choose(candidates(wordnet, lexicon, relation), relation)
        made[f"{relation}.tsv"] = _table([COLUMNS, *(row(wordnet, question) for question in questions)])
        made["seeds.tsv.gz"] += _table(line for q in questions for line in _seed_rows(wordnet, lexicon, q))
    return made


def _lexicon_text(lexicon: Lexicon) -> str:
    return _table((key, lexicon.marks[key], str(lexicon.tags.get(key, ""))) for key in sorted(lexicon.marks))


def _irregular_text(lexicon: Lexicon) -> str:
    return _table((pos, form, *bases) for pos in "nvar" for form, bases in sorted(lexicon.irregular[pos].items()))


def _seed_rows(wordnet: WordNet, lexicon: Lexicon, question: Question) -> Iterator[tuple[str, ...]]:
    found = seeds(wordnet, lexicon, question)
    for depth in sorted(set(found.values())):
        keys = sorted(key for key, n in found.items() if n == depth)
        yield f"{question.relation}:{question.key}", str(depth), "|".join(keys)


def _table(rows: Iterable[Iterable[str]]) -> str:
    return "".join("\t".join(cells) + "\n" for cells in rows)


def notice(wordnet_folder: Path) -> str:
    """WordNet's licence, as every database file has it on top, without the line numbers."""
    head = (wordnet_folder / "data.noun").read_text(encoding="utf-8").split("\n00001740 ")[0]
    return "\n".join(re.sub(r"^ +\d+ ?", "", line).rstrip() for line in head.split("\n")).strip() + "\n"


def describe(made: Mapping[str, str], wordnet_folder: Path) -> str:
    """`vocabulary.json`: from what, how, how much, and checksums. Those of packed files are of what is in them."""
    lines = {name: text.count("\n") for name, text in made.items()}
    found = {
        "version": VERSION,
        "source": {
            "name": "WordNet 3.0",
            "package": "wordnet-base 1:3.0-37 (Debian)",
            "licence": "LICENSE-WordNet",
            "sha256": {name: hashlib.sha256((wordnet_folder / name).read_bytes()).hexdigest() for name in READ},
        },
        "command": "python recipes/build_vocabulary.py --wordnet /usr/share/wordnet --out src/idiolect/assets/vocabulary",
        "base_words": {relation: lines[f"{relation}.tsv"] - 1 for relation in RELATIONS},
        "seeds": sum(line.count("|") + 1 for line in made["seeds.tsv.gz"].splitlines()),
        "words": lines["lexicon.tsv.gz"],
        "sha256": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in sorted(made.items())},
    }
    return json.dumps(found, indent=1) + "\n"


def write(made: Mapping[str, str], folder: Path) -> None:
    """Packed without name and time, so that equal contents are equal bytes."""
    for name, text in made.items():
        data = text.encode()
        (folder / name).write_bytes(gzip.compress(data, 9, mtime=0) if name.endswith(".gz") else data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="folder of WordNet's database files")
    parser.add_argument("--out", type=Path, required=True, help="folder of the vocabulary, with invariant.txt and blocked.tsv")
    given = parser.parse_args()
    made = build(wndb.read(given.wordnet), given.out)
    written = {**made, "LICENSE-WordNet": notice(given.wordnet), "vocabulary.json": describe(made, given.wordnet)}
    write(written, given.out)
    print(f"{given.out}: {', '.join(sorted(written))}")


if __name__ == "__main__":
    main()
