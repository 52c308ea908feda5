"""`idiolect demo`: a made-up population gets an adapter each, newcomers theirs from pieces, one person is forgotten, and the
word game is played.

Nobody knows from a text alone how these people file it: one calls a senator's cookbook politics, another food. So whoever
does not know the person is right half the time on such texts, and another person's adapter helps nobody.
"""

from __future__ import annotations

import json as codec
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from idiolect.cli import demo_forgetting, demo_game, demo_newcomers
from idiolect.cli.options import (
    BaseOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModulesOption,
    given,
    module_names,
    open_house,
    settings,
    tell_modules,
    wants_json,
)
from idiolect.cli.output import count, emit, note, out, private_folder, table
from idiolect.cli.progress import stages
from idiolect.data.synthetic import TASK_OF, population
from idiolect.data.tasks import get_task
from idiolect.errors import InputError
from idiolect.types import Person, Query

if TYPE_CHECKING:
    from idiolect.evals.results import Evaluation
    from idiolect.house import TrainingOptions

TASK = TASK_OF["labels"]
ARMS = ("majority", "nonpers", "oppu", "stranger")
SURE = 0.01
"""The demo claims a gain where p is below this."""
_SHOWN = 5


@dataclass(frozen=True)
class Sizes:
    """How large the population is; base people are those that stage 1 learns the task from."""

    people: int = 24
    items: int = 40
    queries: int = 10
    base_people: int = 36


FAST = Sizes(people=12, items=20, queries=8, base_people=24)


def demo(
    ctx: typer.Context,
    people: Annotated[int | None, typer.Option("--people", min=2, help="People who get an adapter (24).")] = None,
    items: Annotated[int | None, typer.Option("--items", min=1, help="Items of each person (40).")] = None,
    queries: Annotated[int | None, typer.Option("--queries", min=1, help="Queries of each person (10).")] = None,
    base_people: Annotated[int | None, typer.Option("--base-people", min=1, help="People of stage 1 (36).")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of population and training.")] = 0,
    out_: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Keep population, store and report here.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="A smaller population.")] = False,
    modules: ModulesOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Give a made-up population an adapter each, show what that brings, and forget one of them. A few minutes, no network."""
    usual = FAST if fast else Sizes()
    sizes = Sizes(people or usual.people, items or usual.items, queries or usual.queries, base_people or usual.base_people)
    with _folder(out_) as folder:
        targets, taught = population(seed, sizes.people, sizes.items, sizes.queries, sizes.base_people)
        file = folder / "population.jsonl"
        others = [Person(person.id, person.history) for person in taught]  # whoever has queries is a target
        sharers = targets[: demo_newcomers.SHARERS]
        leaves = demo_forgetting.who(sharers)
        _write(file, [*targets, *others], leaves)
        note(
            f"{count(sizes.people, 'person', 'people')} with {count(sizes.items, 'item')} each, {sizes.base_people} base "
            "people; everybody files ambiguous articles by a rule of their own"
        )
        options = _options(seed, module_names(modules))
        with open_house(ctx, str(folder / "store"), base, device, dtype) as house:
            for stage in ("task", "user"):
                tell_modules(house, stage, options, "--modules")
            demo_forgetting.go_on(house, folder)
            demo_newcomers.send_home(house)
            with stages() as progress:
                evaluation = house.evaluate(
                    file, TASK, folder, targets=sizes.people, arms=ARMS, options=options, task_overrides=options.overrides,
                    command="idiolect demo", on_stage=progress,
                )  # fmt: skip
                chapter = demo_newcomers.tell(house, TASK, sharers, seed, folder, progress)
                forgetting = demo_forgetting.tell(house, TASK, leaves, targets, folder, progress)
                demo_forgetting.redraw(house, chapter.picture, forgetting, folder)
                played = demo_game.tell(house.store, seed, folder, progress)
        results = codec.loads((folder / "results.json").read_text(encoding="utf-8"))
    example = _example(evaluation, targets)
    verdict = _verdict(results)
    if wants_json(ctx, json):
        where = {"folder": str(out_) if out_ else None}
        chapters = {"newcomers": chapter.to_dict(), "forgetting": forgetting.to_dict()}
        chapters |= {"game": played.to_dict()} if played is not None else {}
        return emit({"verdict": verdict, "example": example, **chapters, "results": results, **where})
    _show(results, example, verdict)
    demo_newcomers.show(out(), chapter, out_)
    demo_forgetting.show(out(), forgetting, out_)
    if played is not None:
        demo_game.show(out(), played, out_)
    _next_steps(out_, targets[0], base or given(ctx).base)


def _options(seed: int, modules: tuple[str, ...] | None) -> TrainingOptions:
    """The same for both stages."""
    from idiolect.house import TrainingOptions

    return TrainingOptions(overrides=settings(seed=seed, targets=modules))


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """The folder that is kept, or one that goes when the demo ends, however it ends."""
    if out is not None:
        private_folder(out)
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="idiolect-demo-") as folder:
        yield Path(folder)


def _write(path: Path, people: Iterable[Person], leaves: str) -> None:
    """The population as users.jsonl. leaves: whom an earlier run has forgotten."""
    lines = {person.id: codec.dumps(_record(person)) + "\n" for person in people}
    text, left = "".join(lines.values()), "".join(line for user, line in lines.items() if user != leaves)
    # The store in this folder keeps who came first: another population under the same names would be mixed with it.
    if path.exists() and path.read_text(encoding="utf-8") not in (text, left):
        raise InputError(f"{path.parent} holds the demo of another population; choose another --out")
    path.touch(mode=0o600)
    path.chmod(0o600)  # also one that was there
    path.write_text(text, encoding="utf-8")


def _record(person: Person) -> dict[str, Any]:
    profile = [{"id": item.id, "date": item.date, **item.fields} for item in person.history]
    queries = [{"id": query.id, "input": query.input, "gold": query.gold} for query in person.queries]
    return {"user_id": person.id, "profile": profile, "query": queries}


# ------------------------------------------------------------------------------------------------------------ results


def _verdict(results: Mapping[str, Any]) -> dict[str, Any]:
    """What the adapters brought, against none and against a stranger's; whether it is more than chance."""
    versus = results["arms"]["oppu"]["vs"]
    gains = {name: {key: versus[name][key] for key in ("delta", "p_query", "p_person")} for name in ("nonpers", "stranger")}
    holds = all(gain["delta"] > 0 and gain["p_person"] < SURE for gain in gains.values())
    return {**gains, "holds": holds}


def _example(evaluation: Evaluation, targets: list[Person]) -> dict[str, Any]:
    """One person and the queries that their adapter answers otherwise."""
    gains = evaluation.person_gains()
    ranked = sorted(targets, key=lambda person: -gains.get(person.id, 0.0))
    person = ranked[len(ranked) // 4]  # well served, and not the best case
    task = get_task(TASK)
    rows = []
    for query in person.queries:
        key = next(asked.key for asked in evaluation.queries if (asked.user_id, asked.id) == (person.id, query.id))
        answers = {name: evaluation.arms[name].predictions[key] for name in ("oppu", "nonpers", "stranger")}
        rows.append({"text": _content(query, task), "gold": query.gold, **answers})
    differing = [row for row in rows if len({row["oppu"], row["nonpers"], row["stranger"]}) > 1]
    return {"user": person.id, "answers": (differing or rows)[:_SHOWN], "n_differing": len(differing), "n_queries": len(rows)}


def _content(query: Query, task: Any) -> str:
    return task.example_from_query(query).content


def _show(results: Mapping[str, Any], example: Mapping[str, Any], verdict: Mapping[str, Any]) -> None:
    from idiolect.evals.report import table as arms_table

    console = out()
    console.print(arms_table(results))
    console.print()
    console.print(
        Text(
            f"{example['user']}: {example['n_differing']} of {example['n_queries']} queries get different answers; "
            f"{min(_SHOWN, len(example['answers']))} of them:"
        )
    )
    console.print(_answers(example))
    console.print()
    lead = "Verdict: " if verdict["holds"] else f"Verdict: not proven (p < {SURE} is asked for). "
    console.print(Text(lead, style="bold").append(Text(_words(verdict), style="")))


def _answers(example: Mapping[str, Any]) -> Table:
    """Text, true answer and three answers; right ones are marked."""

    def marked(row: Mapping[str, Any], name: str) -> str:
        return f"{'✓' if row[name] == row['gold'] else '✗'} {row[name]}"

    rows = ([r["text"], r["gold"], *(marked(r, name) for name in ("oppu", "nonpers", "stranger"))] for r in example["answers"])
    return table(("article", "true answer", "own adapter", "no adapter", "a stranger's"), rows, flexible=("article",))


def _words(verdict: Mapping[str, Any]) -> str:
    against = {"nonpers": "no adapter", "stranger": "a stranger's adapter"}
    return "an adapter of one's own brings " + ", ".join(
        f"{100 * verdict[name]['delta']:+.1f} points of accuracy over {words} (p = {verdict[name]['p_person']:.4f})"
        for name, words in against.items()
    )


def _next_steps(folder: Path | None, person: Person, base: str | None) -> None:
    """Commands that work as they stand."""
    console = out()
    with_base = f" --base {shlex.quote(base)}" if base else ""
    console.print()
    if folder is None:
        console.print(Text("Where to go next (nothing of this run was kept):", style="bold"))
        lines = [f"idiolect demo --out demo{with_base}   # the same, kept: report, store and adapters"]
    else:
        store = f" --store {shlex.quote(str(folder / 'store'))}"
        text = shlex.quote(_content(person.queries[0], get_task(TASK)))
        console.print(Text("Where to go next:", style="bold"))
        lines = [
            f"idiolect generate {person.id} {text} --task {TASK} --compare{store}{with_base}",
            f"idiolect adapters list --user {person.id}{store}",
            f"idiolect pieces inspect {demo_newcomers.NAMES[0]} --task {TASK}{store}{with_base}",
            f"idiolect history show {person.id}{store}",
        ]
    own = [
        "idiolect history import FILE   # your own people: LaMP, OPPU or JSONL",
        f"idiolect train --stage task --task {TASK} --data BASE_PEOPLE",
        f"idiolect train --all --task {TASK}",
    ]
    for line in (*lines, *own):
        console.print(Text(f"    {line}"), soft_wrap=True)
