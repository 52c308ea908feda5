"""Prompts and answers to be learnt, forgotten or kept: what unlearning reads, from whatever file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and its answer.

    Attributes:
        group: what it belongs with, e.g. a person or a question: pairs of one group are never split between sets. "" alone.
        paraphrases: the right answer in other words.
        wrong: answers of the same form that are not right.
    """

    id: str
    prompt: str
    answer: str
    group: str = ""
    paraphrases: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
