"""`idiolect generate`: answer a text as a person would, with and without their adapter."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from idiolect.cli.options import (
    BaseOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    StoreOption,
    TaskOption,
    VariantOption,
    open_house,
    wants_json,
)
from idiolect.cli.output import emit, one_line, out, say
from idiolect.cli.progress import busy
from idiolect.data.tasks import Task, get_task
from idiolect.errors import InputError
from idiolect.types import has_surrogate

if TYPE_CHECKING:
    from idiolect.types import Completion

_TOP = 3
"""Labels shown with their probabilities."""


def generate(
    ctx: typer.Context,
    user_and_text: Annotated[
        list[str], typer.Argument(metavar="USER TEXT", help="Whose adapter, and the text asked about; - reads stdin.")
    ],
    task: TaskOption,
    nobody: Annotated[bool, typer.Option("--nobody", help="Nobody's adapter: give TEXT alone.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="The person's prompt without their adapter.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="With and without the adapter, side by side.")] = False,
    free: Annotated[bool, typer.Option("--free", help="Decode a label token by token instead of scoring the set.")] = False,
    variant: VariantOption = "k0",
    sampling: Annotated[
        str, typer.Option("--sampling", metavar="NAME", help="greedy, or paper: temperature 0.1, top k 10, top p 0.9.")
    ] = "greedy",
    temperature: Annotated[float | None, typer.Option("--temperature", help="0 is greedy.")] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", help="Sample from the k most likely; 0: from all.")] = None,
    top_p: Annotated[float | None, typer.Option("--top-p", help="Sample from the most likely that reach p together.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of sampling (0).")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option("--max-new-tokens", min=1, help="Default: the task's own limit.")
    ] = None,
    store: StoreOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Answer TEXT as USER would: `idiolect generate ana "A quiet film about …" --task LaMP-3`."""
    user, text = _asked(user_and_text, nobody)
    if compare and (nobody or plain):
        raise InputError("--compare shows a person's answer with and without their adapter; leave --nobody and --plain out")
    chosen = get_task(task)
    with open_house(ctx, store, base, device, dtype) as house:
        if user is not None:
            house.store.require_person(user)
        busy(f"loading {house.base_name} …")
        from idiolect.engine.sampling import sampling as named

        chosen_sampling = named(sampling).but(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
        options: dict[str, Any] = {"task": task, "variant": variant, "free": free, "sampling": chosen_sampling}
        options["max_new_tokens"] = max_new_tokens
        answer = house.generate(user, text, plain=plain, **options)
        other = house.generate(user, text, plain=True, **options) if compare else None
    if wants_json(ctx, json):
        return emit(_document(chosen, user, answer, other))
    if user is not None and other is not None:
        return out().print(_side_by_side(chosen, user, answer, other))
    say(answer.text)
    if answer.scores:
        out().print(_labels(chosen, answer))


def _asked(words: list[str], nobody: bool) -> tuple[str | None, str]:
    """(person, text) from the arguments; the text may come from stdin."""
    if len(words) != (1 if nobody else 2):
        wanted = "TEXT alone" if nobody else "USER and TEXT (in quotation marks)"
        raise InputError(f"expected {wanted}, got {len(words)} argument(s); give - as TEXT to read it from stdin")
    text = words[-1]
    if text == "-":
        try:
            text = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise InputError(f"stdin is not UTF-8 (byte {error.start}); convert it first: iconv -t UTF-8") from None
    if has_surrogate(text):  # the same bytes, read under LANG=C
        raise InputError("stdin is not UTF-8; convert it first: iconv -t UTF-8")
    if not text.strip():
        raise InputError("the text is empty; there is nothing to answer")
    return (None if nobody else words[0]), text.strip()


def probabilities(answer: Completion, task: Task) -> dict[str, float]:
    """How likely each label is among the labels, the most likely first; empty where the answer was decoded freely."""
    if not answer.scores:
        return {}
    top = max(answer.scores)
    weights = [math.exp(score - top) for score in answer.scores]
    shares = {label: weight / sum(weights) for label, weight in zip(task.labels, weights, strict=True)}
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))


def _labels(task: Task, answer: Completion) -> RenderableType:
    rows = list(probabilities(answer, task).items())[:_TOP]
    made = Table.grid(padding=(0, 2))
    for label, share in rows:
        made.add_row(Text(f"  {label}"), Text(f"{100 * share:5.1f} %", style="dim"))
    return made


def _side_by_side(task: Task, user: str, mine: Completion, plain: Completion) -> Table:
    made = Table(box=SIMPLE_HEAD, padding=(0, 2, 0, 0), show_edge=False)
    made.add_column(Text(f"with {one_line(user)}'s adapter"), ratio=1)
    made.add_column("without", ratio=1)
    made.add_row(*(Group(Text(one_line(a.text), style="bold"), _labels(task, a)) for a in (mine, plain)))
    return made


def _document(task: Task, user: str | None, answer: Completion, other: Completion | None) -> dict[str, Any]:
    document = {"user": user, "task": task.name, **_answer(task, answer)}
    return document if other is None else {**document, "without": _answer(task, other)}


def _answer(task: Task, answer: Completion) -> dict[str, Any]:
    kept = {name: value for name, value in asdict(answer).items() if name in ("text", "n_prompt", "n_answer", "finish")}
    return {**kept, "probabilities": probabilities(answer, task)}
