"""What each task asks: an item of a history, or a query, becomes an Example.

    item  ──(content, target)──┐
                               ├─→ ask(content) ─→ Example(instruction, content, cue, target)
    query ──(content, gold)────┘

Both ways end in the same `ask`, so a person's adapter is trained on the very words it is served with. The instruction is
constant and stands before the content, so that the prompts of one person (and of one task) share a prefix.

Sources: LaMP, Salemi et al. 2023, arXiv:2304.11406 (tasks, fields, labels, the markers in `input`); OPPU, Tan et al.
2024, arXiv:2402.04401 (how a history item becomes a training pair). The wording of the prompts is our own. The tasks of the
word game are our own too; one history holds items of all of them, and each task takes its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from idiolect.errors import ConfigError, InputError, LabelError, TaskFieldError
from idiolect.types import Example, Item, Query

NEWS_CATEGORIES = (
    "food & drink", "sports", "education", "parents", "religion", "travel", "business", "crime", "science & technology",
    "culture & arts", "entertainment", "politics", "women", "style & beauty", "healthy living",
)  # fmt: skip
MOVIE_TAGS = (
    "sci-fi", "based on a book", "comedy", "action", "twist ending", "dystopia", "dark comedy", "classic", "psychology",
    "fantasy", "romance", "thought-provoking", "social commentary", "violence", "true story",
)  # fmt: skip
SCORES = ("1", "2", "3", "4", "5")
CHOICES = ("[1]", "[2]")
CANDIDATES = ("[1]", "[2]", "[3]", "[4]")


TASK_FIELD = "task"
"""An item may say in this field which task it is of, where one history holds items of several."""


class Asked(NamedTuple):
    """The parts of a prompt, without what is retrieved, and the answer where it is known."""

    instruction: str
    content: str
    cue: str
    target: str | None


@dataclass(frozen=True)
class Task:
    """One kind of question with its fields, labels and wording.

    Attributes:
        name: as LaMP's papers write it, e.g. "LaMP-2N".
        kind: "label" and "rating" choose from `labels`; "text" writes freely, and so does "list", answers with commas between.
        labels: the answers that count, in the order of the prompt; () for "text" and "list".
        fields: what an item must have; the last one is the answer.
        instruction: stands before the content, ends with the content's name.
        content: template of the content in an item's fields.
        cue: stands after the content; the answer follows it.
        indexed: fields that retrieval reads, where an item has them; never the answer of a label or rating.
        opening: how a query's `input` starts when we write one; ends with LaMP's marker.
        marker: regular expression of LaMP's marker; everything after its first match is the content.
        max_new_tokens: room for an answer, in tokens, the end of sequence included.
        paired: whether items hold questions with answers. Where they do not (LaMP-1, LaMP-7), training on them uses
            neither retrieval nor profile, as in OPPU.
    """

    name: str
    kind: Literal["label", "rating", "text", "list"]
    fields: tuple[str, ...]
    instruction: str
    content: str
    cue: str
    indexed: tuple[str, ...]
    opening: str
    marker: str
    labels: tuple[str, ...] = ()
    max_new_tokens: int = 64
    paired: bool = True

    @property
    def target_field(self) -> str:
        return self.fields[-1]

    # ------------------------------------------------------------------ item or query → Example

    def example_from_item(self, item: Item, retrieved: Sequence[Item] = (), profile: str | None = None) -> Example:
        """The training example that one item of a history makes (stage 2).

        Raises:
            TaskFieldError: if a field is missing or blank.
            LabelError: if the answer is not one of the labels, or not a number of the scale.
        """
        if not self.paired:
            retrieved, profile = (), None
        return self._example(item.id, self._asked_by_item(item), retrieved, profile)

    def example_from_query(self, query: Query, retrieved: Sequence[Item] = (), profile: str | None = None) -> Example:
        """The example that a query makes; its target is the gold answer, where known.

        Raises:
            InputError: if `input` lacks the marker after which LaMP puts the content, or nothing follows it.
            LabelError: if the gold answer is not one of the labels, or not a number of the scale.
        """
        return self._example(query.id, self._asked_by_query(query), retrieved, profile)

    def ask(self, content: str, target: str | None = None) -> Asked:
        """The one place where a content becomes a prompt, for training and serving alike."""
        return Asked(self.instruction, content, self.cue, target)

    def query_input(self, content: str) -> str:
        """A query's `input` that asks about this content; `example_from_query` reads it back."""
        return self.opening + content

    def check_item(self, item: Item) -> None:
        """Raise what `example_from_item` would raise, if anything."""
        self._asked_by_item(item)

    def owns(self, item: Item) -> bool:
        """Whether an item is of this task: one that names its task is of that one only, any other is of whichever is asked."""
        return item.fields.get(TASK_FIELD, self.name) == self.name

    def own(self, items: Iterable[Item]) -> tuple[Item, ...]:
        """Those of these items that are of this task, in their order."""
        return tuple(item for item in items if self.owns(item))

    def answer_of(self, item: Item) -> str:
        """What the person answered, in the spelling of the labels. Raises as `example_from_item`."""
        return self._target(item)

    # ------------------------------------------------------------------ retrieval

    def document(self, item: Item) -> str:
        """A retrieved item as the prompt shows it: the content with its answer."""
        asked = self.ask(self._content(item), self._target(item))
        name = asked.instruction.rsplit("\n", 1)[-1]
        return f"{name} {asked.content}\n{asked.cue} {asked.target}"

    def retrieval_text(self, item: Item) -> str:
        """What the index knows of an item."""
        return "\n".join(item.fields[name] for name in self.indexed if item.fields.get(name))

    def retrieval_query(self, source: Item | Query | Example) -> str:
        """What to look for: the content alone. Instruction words would match nothing, or everything."""
        if isinstance(source, Example):
            return source.content
        if isinstance(source, Query):
            return self._asked_by_query(source).content
        return self._content(source)

    # ------------------------------------------------------------------ parts

    def checked_answer(self, answer: str, where: str) -> str:
        """The answer in the spelling of the labels.

        Raises:
            LabelError: "`where`: …", without the answer's text.
        """
        answer = answer.strip()
        if self.kind == "rating":
            return self._checked_rating(answer, where)
        if self.labels and answer not in self.labels:
            raise LabelError(f"{where} is not one of the labels of {self.name}; the labels are: {', '.join(self.labels)}")
        return answer

    def _checked_rating(self, answer: str, where: str) -> str:
        scale = f"{self.name} takes {', '.join(self.labels)}"
        try:
            number = float(answer)
        except ValueError:
            raise LabelError(f"{where} is a rating that is not a number; {scale}") from None
        for label in self.labels:
            if number == int(label):
                return label
        raise LabelError(f"{where} is a number off the scale; {scale}")

    def _example(self, id: str, asked: Asked, retrieved: Sequence[Item], profile: str | None) -> Example:
        documents = tuple(self.document(item) for item in retrieved)
        return Example(id, *asked, retrieved=documents, profile=profile)

    def _asked_by_item(self, item: Item) -> Asked:
        return self.ask(self._content(item), self._target(item))

    def _asked_by_query(self, query: Query) -> Asked:
        return self.ask(self._extract(query), self._gold(query))

    def _content(self, item: Item) -> str:
        return self.content.format_map({name: self._field(item, name) for name in self.fields})

    def _target(self, item: Item) -> str:
        name = self.target_field
        return self.checked_answer(self._field(item, name), f"item {item.id!r}: field {name!r}")

    def _gold(self, query: Query) -> str | None:
        if query.gold is None:
            return None
        if not query.gold.strip():
            raise LabelError(f"query {query.id!r}: gold is blank; {self.name} needs an answer, or none at all")
        return self.checked_answer(query.gold, f"query {query.id!r}: gold")

    def _field(self, item: Item, name: str) -> str:
        value = item.fields.get(name, "").strip()
        if not value:
            problem = "is blank" if name in item.fields else "is missing"
            raise TaskFieldError(f"item {item.id!r}: field {name!r} {problem}; {self.name} needs {', '.join(self.fields)}")
        return value

    def _extract(self, query: Query) -> str:
        found = re.search(self.marker, query.input)
        content = query.input[found.end() :].strip() if found else ""
        if not content:
            problem = "nothing follows the marker" if found else "lacks the marker"
            raise InputError(f"query {query.id!r}: input {problem} of {self.name}; write it as: {self.opening}…")
        return content


class CitationTask(Task):
    """LaMP-1: which of two papers would this author cite?

    The options stand in the cue, which truncation never touches. A history item with a `citation` (OPPU's files) trains
    title → citation. LaMP's own items have none: those train language modelling of title and abstract, both of them
    answer. (Abstract → title would be LaMP-5, and title → abstract, as in LaMP's own PEFT code, would leave the titles,
    which are what a query shows, out of the loss.)
    """

    _OPTIONS = (
        re.compile(r'\[1\]:\s*"(?P<one>.*)"\s*\[2\]:\s*"(?P<two>.*)"', re.DOTALL),
        re.compile(r"\[1\]:(?P<one>.*)\[2\]:(?P<two>.*)", re.DOTALL),
    )

    def query_input(self, content: str, one: str = "…", two: str = "…") -> str:
        return f'{self.opening}"{content}", which reference fits? [1]: "{one}" [2]: "{two}"'

    def document(self, item: Item) -> str:
        return f"paper title: {self._field(item, 'title')}"

    def _content(self, item: Item) -> str:
        return self._field(item, "title")

    def _asked_by_item(self, item: Item) -> Asked:
        title = self._field(item, "title")
        if item.fields.get("citation", "").strip():
            return Asked("paper title:", title, "reference:", self._field(item, "citation"))
        return Asked("", "", "paper title:", f"{title}\nabstract: {self._field(item, 'abstract')}")

    def _asked_by_query(self, query: Query) -> Asked:
        title, one, two = self._parts(query)
        cue = f"[1]: {one}\n[2]: {two}\n{self.cue}"
        return Asked(self.instruction, title, cue, self._gold(query))

    def _parts(self, query: Query) -> tuple[str, str, str]:
        """Title and options. Quotes inside them are kept: each runs to the last quote before the next part."""
        for pattern in self._OPTIONS:
            options = pattern.search(query.input)
            title = re.search(self.marker + r'"(?P<title>.*)"', query.input[: options.start()], re.DOTALL) if options else None
            if options and title:
                parts = (title["title"].strip(), options["one"].strip(), options["two"].strip())
                if all(parts):
                    return parts
        raise InputError(f"query {query.id!r}: input lacks the title or an option; write it as: {self.query_input('…')}")


class TweetTask(Task):
    """LaMP-7: history items are tweets without a question, so they train plain writing after the cue.

    A query gives a sentence to say again in the person's own way; it ends with the same cue.
    """

    def document(self, item: Item) -> str:
        return f"{self.cue} {self._field(item, 'text')}"

    def _asked_by_item(self, item: Item) -> Asked:
        return Asked("", "", self.cue, self._field(item, "text"))


class FirstTask(Task):
    """NYM-2: which of four answers did this player give first? The other three are others' frequent ones.

    The candidates stand in the cue, which truncation never touches, both in training and when asked.
    """

    _ASKED = re.compile(
        r'"(?P<question>.*)", which did they say first\? '
        r"\[1\]: (?P<one>.*) \[2\]: (?P<two>.*) \[3\]: (?P<three>.*) \[4\]: (?P<four>.*)",
        re.DOTALL,
    )

    def query_input(self, content: str, candidates: Sequence[str] = ("…",) * 4) -> str:
        options = " ".join(f"{label}: {one}" for label, one in zip(self.labels, candidates, strict=True))
        return f'{self.opening}"{content}", which did they say first? {options}'

    def document(self, item: Item) -> str:
        return f"{self._name} {self._content(item)}\n{self.cue} {self._field(item, 'output')}"

    @property
    def _name(self) -> str:
        return self.instruction.rsplit("\n", 1)[-1]

    def _content(self, item: Item) -> str:
        return self._field(item, "question")

    def _target(self, item: Item) -> str:
        candidates, chosen = self.candidates(item), self._field(item, "output")
        if len(candidates) != len(self.labels) or chosen not in candidates:
            raise LabelError(
                f"item {item.id!r}: field 'output' is not one of {len(self.labels)} candidates; {self.name} needs it"
            )
        return self.labels[candidates.index(chosen)]

    def candidates(self, item: Item) -> list[str]:
        """The four answers to choose from."""
        return [one.strip() for one in self._field(item, "candidates").split(",")]

    def _asked_by_item(self, item: Item) -> Asked:
        target = self._target(item)
        return Asked(self.instruction, self._content(item), self._options(self.candidates(item)), target)

    def _asked_by_query(self, query: Query) -> Asked:
        found = self._ASKED.search(query.input)
        parts = [part.strip() for part in found.groups()] if found else []
        if not found or not all(parts):
            raise InputError(f"query {query.id!r}: input lacks question or candidates; write it as: {self.query_input('…')}")
        return Asked(self.instruction, parts[0], self._options(parts[1:]), self._gold(query))

    def _options(self, candidates: Sequence[str]) -> str:
        return "\n".join([*(f"{label}: {one}" for label, one in zip(self.labels, candidates, strict=True)), self.cue])


_NEWS = ", ".join(NEWS_CATEGORIES)
_TAGS = ", ".join(MOVIE_TAGS)

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        CitationTask(
            "LaMP-1", "label", ("title", "abstract"),
            instruction="The author of this paper cites one of two references. Answer [1] or [2].\npaper title:",
            content="{title}", cue="reference:", indexed=("title", "abstract"),
            opening="For the author of the paper with the title ", marker=r"\btitle\s+(?=\")",
            labels=CHOICES, max_new_tokens=8, paired=False,
        ),
        Task(
            "LaMP-2N", "label", ("text", "category"),
            instruction=f"Choose the article's category: {_NEWS}.\narticle:",
            content="{text}", cue="category:", indexed=("title", "text"),
            opening=f"Which of these categories fits the article? categories: [{_NEWS}] article: ",
            marker=r"\]\s*article:(?:\s|$)", labels=NEWS_CATEGORIES, max_new_tokens=8,
        ),
        Task(
            "LaMP-2M", "label", ("description", "tag"),
            instruction=f"Choose the movie's tag: {_TAGS}.\ndescription:",
            content="{description}", cue="tag:", indexed=("description",),
            opening=f"Which of these tags fits the movie? tags: [{_TAGS}] description: ",
            marker=r"\]\s*description:(?:\s|$)", labels=MOVIE_TAGS, max_new_tokens=8,
        ),
        Task(
            "LaMP-3", "rating", ("text", "score"),
            instruction="Which score, 1 to 5, goes with the review?\nreview:",
            content="{text}", cue="score:", indexed=("text",),
            opening="Which score, 1 to 5, goes with this? review: ", marker=r"\breview:(?:\s|$)",
            labels=SCORES, max_new_tokens=8,
        ),
        Task(
            "LaMP-4", "text", ("text", "title"),
            instruction="Write the headline of the article.\narticle:",
            content="{text}", cue="headline:", indexed=("title", "text"),
            opening="Write a headline for the following article: ", marker=r"\bfollowing article:(?:\s|$)",
        ),
        Task(
            "LaMP-5", "text", ("abstract", "title"),
            instruction="Write the title of the paper.\nabstract:",
            content="{abstract}", cue="title:", indexed=("title", "abstract"),
            opening="Write a title for this abstract of a paper: ", marker=r"\babstract of a paper:(?:\s|$)",
        ),
        Task(
            "LaMP-6", "text", ("text", "title"),
            instruction="Write the subject of the email.\nemail:",
            content="{text}", cue="subject:", indexed=("title", "text"),
            opening="Write a subject for the following email: ", marker=r"\bfollowing email:(?:\s|$)",
        ),
        TweetTask(
            "LaMP-7", "text", ("text",),
            instruction="Say this again as a tweet.\ntext:",
            content="{text}", cue="tweet:", indexed=("text",),
            opening="Say the following as a tweet, with nothing before or after it: ",
            marker=r"\bbefore or after it:(?:\s|$)", max_new_tokens=128, paired=False,
        ),
        Task(
            "movie-rating", "rating", ("title", "description", "score"),
            instruction="Which score, 1 to 5, would this viewer give the movie?\nmovie:",
            content="{title} description: {description}", cue="score:", indexed=("title", "description"),
            opening="Which score, 1 to 5, would this viewer give? movie: ", marker=r"\bmovie:(?:\s|$)",
            labels=SCORES, max_new_tokens=8,
        ),
        Task(
            "NYM-1", "label", ("claim", "output"),
            instruction="Would this player accept it, yes or no?\nclaim:",
            content="{claim}", cue="accepted:", indexed=("claim",),
            opening="Would this player accept it, yes or no? claim: ", marker=r"\bclaim:(?:\s|$)",
            labels=("yes", "no"), max_new_tokens=8,
        ),
        FirstTask(
            "NYM-2", "label", ("question", "candidates", "output"),
            instruction="Which of the answers did this player give first?\nquestion:",
            content="{question}", cue="first:", indexed=("question", "output"),
            opening="For this player and the question ", marker=r"\bquestion\s+(?=\")",
            labels=CANDIDATES, max_new_tokens=8,
        ),
        Task(
            "NYM-3", "list", ("question", "output"),
            instruction="List this player's answers in order, with commas between them.\nquestion:",
            content="{question}", cue="answers:", indexed=("question", "output"),
            opening="List this player's answers in order, with commas between them. question: ",
            marker=r"\bquestion:(?:\s|$)",
        ),
    )
}  # fmt: skip


def get_task(name: str) -> Task:
    """The task of this name; upper and lower case, `-` and `_` do not matter.

    Raises:
        ConfigError: if there is no such task; the message lists all names.
    """
    wanted = name.casefold().replace("_", "-")
    found = next((task for key, task in TASKS.items() if key.casefold() == wanted), None)
    if found is None:
        raise ConfigError(f"task {name!r} is not known; choose one of: {', '.join(TASKS)}")
    return found
