"""The one renderer: an Example becomes token ids. Training and serving both call it.

    frame or bos │ profile │ retrieved … │ instruction │ content │ cue │ frame ║ target │ eos
                 └─────────── what may be cut ──────────────────┘       prompt ║ answer

Every piece is encoded on its own and the ids are concatenated, so that the prompt's ids are a prefix of the whole by
construction, whatever the tokenizer merges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from idiolect.data.tasks import Task
from idiolect.errors import AnswerTooLongError, InputError
from idiolect.types import Example, Rendered, Tokenizer

USEFUL_TOKENS = 24
"""A retrieved item cut shorter than this says nothing, and is left out altogether."""


def render(example: Example, tokenizer: Tokenizer, max_tokens: int, *, reserve: int, answer: bool = True) -> Rendered:
    """An example as tokens, cut to fit.

    Why a reserve: the served prompt must be the trained prompt. Were training to leave room for the target and serving for
    the longest answer, the two would cut the same prompt at different places. So both leave the same room, `reserve`
    tokens (see `reserve_for`; at most half of `max_tokens`), and the prompt's ids are identical wherever target and end of
    sequence fit in it. Only a longer target, in training, takes more.

    What is cut, in this order: retrieved items, the least relevant first (the last one that stays may lose its middle);
    the end of the profile; the middle of the content. Instruction, cue, frame and answer never are.

    Args:
        example: what to ask.
        tokenizer: of the base.
        max_tokens: bound of prompt and answer together, in tokens.
        reserve: room kept for the answer, in tokens, its end of sequence included.
        answer: append target and end of sequence (training), or stop after the cue (serving).

    Raises:
        AnswerTooLongError: if what is never cut exceeds `max_tokens`.
        InputError: if an answer is wanted and the example has none.
    """
    pieces = _encode(example, tokenizer)
    ending = _ending(example, tokenizer) if answer else []
    room = max_tokens - max(min(reserve, max_tokens // 2), len(ending))
    n_fixed = pieces.n_fixed
    if n_fixed + max(len(ending), 1) > max_tokens:
        raise AnswerTooLongError(
            f"example {example.id!r}: instruction and cue take {n_fixed} tokens and the answer {max(len(ending), 1)}, "
            f"together more than max_tokens {max_tokens}; raise max_tokens, or leave this item out"
        )
    fitted = pieces.fit(room - n_fixed)
    prompt = fitted.join()
    dropped = pieces.n_loose - fitted.n_loose
    return Rendered(example.id, (*prompt, *ending), len(prompt), dropped)


def render_many(
    examples: Iterable[Example],
    tokenizer: Tokenizer,
    max_tokens: int,
    *,
    reserve: int,
    answer: bool = True,
    dropped: list[str] | None = None,
) -> Iterator[Rendered]:
    """Each example as tokens, in order.

    Where `dropped` is given, examples that cannot fit are left out and their ids appended to it; else they raise.

    Raises:
        AnswerTooLongError, InputError: as `render`.
    """
    for example in examples:
        try:
            yield render(example, tokenizer, max_tokens, reserve=reserve, answer=answer)
        except AnswerTooLongError:
            if dropped is None:
                raise
            dropped.append(example.id)


def answer_ids(target: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The answer as tokens, end of sequence included: what training learns and label scoring compares.

    In raw text one space joins cue and answer; after a chat frame the answer starts the assistant's turn.
    """
    joined = target if tokenizer.chat_frame else f" {target}"
    return (*tokenizer.encode(joined), tokenizer.eos_id)


def reserve_for(task: Task, tokenizer: Tokenizer) -> int:
    """Tokens to keep free for any answer of this task: its limit, or its longest label where a tokenizer splits finely."""
    return max([task.max_new_tokens, *(len(answer_ids(label, tokenizer)) for label in task.labels)])


@dataclass(frozen=True, slots=True)
class _Pieces:
    """A prompt in ids, piece by piece. `head`, `instruction` and `tail` are fixed, the rest may be cut."""

    head: list[int]
    profile: list[int]
    retrieved: tuple[list[int], ...]
    instruction: list[int]
    content: list[int]
    tail: list[int]

    @property
    def n_fixed(self) -> int:
        return len(self.head) + len(self.instruction) + len(self.tail)

    @property
    def n_loose(self) -> int:
        return len(self.profile) + sum(map(len, self.retrieved)) + len(self.content)

    def fit(self, room: int) -> _Pieces:
        """These pieces with at most `room` tokens of what may be cut."""
        content = _shorten(self.content, room, keep_last=max(room, 0) // 2)
        room -= len(content)
        profile = _shorten(self.profile, room, keep_last=1)
        room -= len(profile)
        return _Pieces(self.head, profile, _fit_retrieved(self.retrieved, room), self.instruction, content, self.tail)

    def join(self) -> list[int]:
        ids = self.head + self.profile
        for document in self.retrieved:
            ids += document
        return ids + self.instruction + self.content + self.tail


def _encode(example: Example, tokenizer: Tokenizer) -> _Pieces:
    before, after = _frame(tokenizer)
    spaced = " " if example.instruction else ""
    cue = f"\n{example.cue}" if example.instruction or example.content else example.cue
    return _Pieces(
        head=before,
        profile=_ids(f"{example.profile}\n" if example.profile else "", tokenizer),
        retrieved=tuple(tokenizer.encode(f"{document}\n") for document in example.retrieved),
        instruction=_ids(example.instruction, tokenizer),
        content=_ids(spaced + example.content if example.content else "", tokenizer),
        tail=tokenizer.encode(cue) + after,
    )


def _frame(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    if tokenizer.chat_frame:
        before, after = tokenizer.chat_frame
        return tokenizer.encode_frame(before), tokenizer.encode_frame(after)
    return ([] if tokenizer.bos_id is None else [tokenizer.bos_id]), []


def _ids(text: str, tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode(text) if text else []


def _ending(example: Example, tokenizer: Tokenizer) -> list[int]:
    if example.target is None:
        raise InputError(f"example {example.id!r} has no answer to train on; give the query a gold answer")
    return list(answer_ids(example.target, tokenizer))


def _fit_retrieved(documents: Sequence[list[int]], room: int) -> tuple[list[int], ...]:
    """The most relevant documents that fit; the first that does not is cut, where enough of it is left to be of use."""
    kept = []
    for document in documents:
        if len(document) > room:
            if room >= USEFUL_TOKENS:
                kept.append(_shorten(document, room, keep_last=room // 2))
            break
        kept.append(document)
        room -= len(document)
    return tuple(kept)


def _shorten(ids: list[int], n: int, keep_last: int) -> list[int]:
    """At most `n` ids: the first ones and the last `keep_last`. A document's answer and a line's end stand last."""
    if len(ids) <= n:
        return ids
    if n <= 0:
        return []
    return ids[: n - keep_last] + ids[len(ids) - keep_last :]
