"""Answering a task's queries: query → prompt (the trained one) → engine → answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from idiolect.data.prompts import answer_ids, render, reserve_for
from idiolect.data.tasks import Task
from idiolect.engine.local import Engine, Request
from idiolect.engine.sampling import GREEDY, Sampling
from idiolect.types import Completion, Example


@dataclass(frozen=True)
class Question:
    """A query of one person as the renderer takes it, and whose adapter answers."""

    key: str
    example: Example
    adapter: str | None = None


def median_label(log_probabilities: Sequence[float]) -> int:
    """The index of the median of a distribution over an ordered scale: the answer with the least expected absolute error.

    The most probable score is right most often; the median is wrong by least, which is what MAE counts.
    """
    top = max(log_probabilities)
    weights = [math.exp(value - top) for value in log_probabilities]
    half, total = sum(weights) / 2, 0.0
    for i, weight in enumerate(weights):
        total += weight
        if total >= half:
            return i
    return len(weights) - 1


def answer(
    engine: Engine,
    task: Task,
    questions: Sequence[Question],
    max_tokens: int,
    *,
    free: bool = False,
    sampling: Sampling = GREEDY,
    max_new_tokens: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> dict[str, Completion]:
    """Answer every question; completions by key.

    Label tasks score the whole label set (ratings answer with its median), so no answer is invalid. `free` decodes token by
    token there too. Text tasks always do.

    Args:
        max_tokens: what the prompts were cut to in training.
        max_new_tokens: None: the task's own limit.
    """
    tokenizer = engine.base.tokenizer
    reserve = reserve_for(task, tokenizer)
    limit = max_new_tokens or (reserve if task.labels else task.max_new_tokens)
    requests = []
    for question in questions:
        prompt = render(question.example, tokenizer, max_tokens, reserve=reserve, answer=False)
        requests.append(Request(question.key, prompt.ids, question.adapter, limit, sampling))
    if task.labels and not free:
        decide = median_label if task.kind == "rating" else None
        label_ids = [answer_ids(label, tokenizer) for label in task.labels]
        completions = engine.choose(requests, task.labels, label_ids, decide=decide, on_done=on_done)
    else:
        completions = engine.generate(requests, on_done=on_done)
    return {completion.id: completion for completion in completions}
