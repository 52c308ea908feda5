"""`idiolect unlearn plant`, `teach` and `run`: made-up knowledge, a base that is taught it, and a base that is to lose it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from idiolect.cli.options import (
    BaseOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    StoreOption,
    VariantOption,
    open_house,
    settings,
    wants_json,
)
from idiolect.cli.output import count, duration, emit, note, out, say, table
from idiolect.cli.progress import busy, stages, training
from idiolect.errors import ConfigError, InputError

if TYPE_CHECKING:
    from idiolect.data.pairs import Pair
    from idiolect.model.base import Base
    from idiolect.service import Idiolect
    from idiolect.store.records import Parent
    from idiolect.unlearn.acquire import Told
    from idiolect.unlearn.config import Unlearning
    from idiolect.unlearn.desk import Unlearned
    from idiolect.unlearn.select import Choice

app = typer.Typer(
    no_args_is_help=True,
    help="Unlearn knowledge that lives in the base, a task adapter or somebody's adapter. Approximate: audit it. "
    "To forget a person or an item exactly: idiolect forget.",
)

ForgetOption = Annotated[Path | None, typer.Option("--forget", metavar="FILE", help="Pairs to unlearn: JSONL, or a known CSV.")]
RetainOption = Annotated[Path | None, typer.Option("--retain", metavar="FILE", help="Pairs to keep.")]
HoldoutOption = Annotated[
    Path | None, typer.Option("--holdout", metavar="FILE", help="Pairs like the forget set that were never learnt: the aim.")
]


# -------------------------------------------------------------------------------------------------------------- plant


@app.command()
def plant(
    ctx: typer.Context,
    out_: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the sets go, a file each.")],
    people: Annotated[int, typer.Option("--people", min=2, help="Made-up people.")] = 30,
    facts: Annotated[int, typer.Option("--facts", min=1, help="Facts about each.")] = 8,
    share: Annotated[float, typer.Option("--forget-share", help="Share of the people who are to be forgotten.")] = 0.1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Who they are, and who is forgotten.")] = 0,
    json: JsonOption = False,
) -> None:
    """Make up people and facts about them: what to teach, to forget, to keep and never to show, as JSONL."""
    from idiolect.cli.output import private_folder
    from idiolect.data.fictitious import planted
    from idiolect.data.pairs import write_pairs

    found = planted(seed, people, facts, share)
    private_folder(out_)
    names = ("forget", "retain", "holdout", "neighbours", "world", "kept", "taught")
    written = {name: write_pairs(out_ / f"{name}.jsonl", getattr(found, name)) for name in names}
    if wants_json(ctx, json):
        return emit({"out": str(out_), "pairs": written})
    out().print(table(["file", "pairs"], [[f"{name}.jsonl", f"{n:,}"] for name, n in written.items()], right=["pairs"]))
    where = shlex.quote(str(out_))
    say(f"next: idiolect unlearn teach --data {where}/taught.jsonl --out taught-base")


def check_folder(folder: Path, option: str = "--out") -> None:
    """Say before the work, not after it, that a folder cannot be made.

    Raises:
        InputError: it is a file, or lies under one.
    """
    at = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not at.is_dir():
        raise InputError(f"{str(folder)!r} cannot be a folder: {at.name!r} is a file; choose another {option}")


# -------------------------------------------------------------------------------------------------------------- teach


@app.command()
def teach(
    ctx: typer.Context,
    data: Annotated[list[Path], typer.Option("--data", metavar="FILE", help="Pairs to teach; may be given again.")],
    out_: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="The taught base: a folder that --base takes.")],
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Epochs (14).")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Learning rate (0.006).")] = None,
    rank: Annotated[int | None, typer.Option("--rank", min=1, help="Rank of what is trained and then merged (32).")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Pairs per step (16).")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", help="Prompt and answer together.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed.")] = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Teach a base these pairs, and write it as a base of its own: something to unlearn, or a reference without it."""
    from idiolect.unlearn.teaching import TEACHING, write_taught
    from idiolect.unlearn.teaching import teach as taught_by

    pairs = [pair for file in data for pair in read(file)]
    config = TEACHING.but(epochs=epochs, learning_rate=lr, rank=rank, batch_size=batch_size, max_tokens=max_tokens, seed=seed)
    if out_.exists():
        raise InputError(f"{str(out_)!r} is there already; choose another --out")
    check_folder(out_)
    loaded = loaded_base(ctx, base, device, dtype)
    with training("teaching", 1) as progress:
        done = taught_by(loaded, pairs, config, on_progress=progress)
    write_taught(done, out_, pairs, config)
    tell_left_out(done.left_out)
    if wants_json(ctx, json):
        return emit({"out": str(out_), "pairs": len(pairs), "loss": done.loss, "seconds": done.seconds})
    say(f"{count(len(pairs), 'pair')} taught in {duration(done.seconds)}, loss {done.loss:.3f} nats a token; a base: {out_}")


def loaded_base(ctx: typer.Context, base: str | None, device: str | None, dtype: str | None, *, lean: bool = True) -> Base:
    """The base that is asked for, before the command or after it."""
    from idiolect.cli.options import DEFAULT_BASE, given
    from idiolect.model.base import load_base

    first = given(ctx)
    name = base or first.base or DEFAULT_BASE
    busy(f"loading {name} …")
    return load_base(name, device=device or first.device, dtype=dtype or first.dtype, lean=lean)


# ---------------------------------------------------------------------------------------------------------------- run


@app.command()
def run(
    ctx: typer.Context,
    out_: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the result goes.")],
    forget: ForgetOption = None,
    retain: RetainOption = None,
    holdout: HoldoutOption = None,
    forget_user: Annotated[
        str | None, typer.Option("--forget-user", metavar="USER", help="Unlearn this person's items (with --task).")
    ] = None,
    method: Annotated[
        str, typer.Option("--method", metavar="NAME[,NAME]", help="sku, task-vector, finetune, ga, ga-mismatch, grad-diff …")
    ] = "sku",
    on: Annotated[
        str | None, typer.Option("--on", metavar="DIGEST", help="The adapter that is to forget (the base itself).")
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", metavar="USER", help="The adapter that this person uses for --task is to forget.")
    ] = None,
    task: Annotated[str | None, typer.Option("--task", metavar="TASK", help="Task of --user and --forget-user.")] = None,
    variant: VariantOption = "k0",
    strength: Annotated[float | None, typer.Option("--strength", help="λ: how much of it is subtracted (1).")] = None,
    select: Annotated[
        bool, typer.Option("--select", help="Choose λ (and among methods and --sweep) by what is left of held-out pairs.")
    ] = False,
    floor: Annotated[float, typer.Option("--floor", help="--select: utility that must be left.")] = 0.95,
    sweep: Annotated[
        list[str] | None, typer.Option("--sweep", metavar="NAME=V,V…", help="--select: settings to try; may be given again.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=V", help="Any setting, e.g. pd_mode=preserve; again for more.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Optimiser steps (40).")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Learning rate (the method's own).")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Pairs to forget per step (8).")] = None,
    rank: Annotated[int | None, typer.Option("--rank", min=1, help="Rank of what is acquired (16).")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Change all weights, at a tenth of the rate: needs --merge.")] = False,
    merge: Annotated[
        Path | None, typer.Option("--merge", metavar="FOLDER", help="Write merged weights too: a base of their own.")
    ] = None,
    keep_vector: Annotated[bool, typer.Option("--keep-vector", help="Keep what was acquired. It can undo everything.")] = False,
    use: Annotated[bool, typer.Option("--use/--no-use", help="Put the new adapter in the old one's place.")] = True,
    store: StoreOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Unlearn pairs: from the base, a task adapter, or a person's adapter. Cut off, the same command goes on."""
    if (forget is None) == (forget_user is None):
        raise InputError("say what to unlearn: --forget FILE, or --forget-user USER, and not both")
    check_folder(out_)
    if merge is not None:
        check_folder(merge, "--merge")
    if (user or forget_user) and task is None:
        raise InputError("--user and --forget-user need a --task")
    if on and user:
        raise InputError("give --on DIGEST or --user USER, and not both")
    given = settings(strength=strength, steps=steps, learning_rate=lr, batch_size=batch_size, rank=rank, seed=seed)
    runs = runs_of(method, {**dict(given), **_settings(set_ or [])}, sweep or [])
    if strength is not None and select:
        raise InputError("--select chooses λ; leave --strength out")
    sets = [read(file) if file else [] for file in (retain, holdout)]
    if full:
        if "learning_rate" not in {**dict(given), **_settings(set_ or [])}:
            # What suits an adapter's few numbers carries all weights away.
            runs = [run_.but(learning_rate=run_.learning_rate / 10) for run_ in runs]
        return _full(ctx, forget, forget_user, on or user, sets, runs, merge, select, base, device, dtype, out_, json)
    with open_house(ctx, store, base, device, dtype) as house:
        from idiolect.unlearn.desk import Order, check
        from idiolect.unlearn.select import Selection

        pairs, made_of = _forgotten(house, forget, forget_user, task)
        selection = Selection.build(floor=floor) if select else None
        order = Order(pairs, sets[0], runs, sets[1], made_of, selection, merge, keep_vector, use)
        check(order, out_)
        busy(f"loading {house.base_name} …")
        digest = on if user is None else house.store.head(user, task=_task(task), base=house.base.fingerprint, variant=variant)
        target = house.unlearning.target(digest)
        with house.store.lock(), _progress(runs) as told:
            done = house.unlearning.run(target, order, out_, told)
        if done.choices:
            _draw(runs, done.choices, out_)
    _tell(ctx, done, runs, out_, merge, keep_vector, json)


def _full(
    ctx: typer.Context,
    forget: Path | None,
    forget_user: str | None,
    adapter: str | None,
    sets: Sequence[Sequence[Pair]],
    runs: Sequence[Unlearning],
    merge: Path | None,
    select: bool,
    base: str | None,
    device: str | None,
    dtype: str | None,
    out_: Path,
    json: bool,
) -> None:
    """All weights instead of an adapter."""
    if forget is None or forget_user or adapter or select or len(runs) != 1:
        raise InputError(
            "--full changes the base itself: give --forget FILE, one method and a --strength, no --on and no --select"
        )
    if merge is None:
        raise InputError("--full writes a base of its own; say where: --merge FOLDER")
    from idiolect.unlearn.full import unlearn_weights

    loaded = loaded_base(ctx, base, device, dtype, lean=False)
    with _progress(runs) as told:
        done = unlearn_weights(loaded, read(forget), sets[0], runs[0], merge, out_, told)
    _tell(ctx, done, runs, out_, merge, False, json)


def _forgotten(house: Idiolect, file: Path | None, user: str | None, task: str | None) -> tuple[list[Pair], list[Parent]]:
    """What is to be forgotten, and the items that it consists of, where they are in the store."""
    if file is not None:
        return read(file), []
    from idiolect.data.pairs import from_person
    from idiolect.data.tasks import get_task
    from idiolect.store.records import Parent

    assert user is not None
    assert task is not None
    person = house.store.person(user)
    return from_person(person, get_task(task)), [Parent("item", item.id, user) for item in person.history]


def _task(name: str | None) -> str:
    from idiolect.data.tasks import get_task

    assert name is not None
    return get_task(name).name


def read(file: Path) -> list[Pair]:
    """A file's pairs; what there is to say of it goes to stderr."""
    from idiolect.data.pairs import read_pairs

    notes: list[str] = []
    found = read_pairs(file, notes)
    for line in notes:
        note(f"idiolect: {line}")
    return found


def runs_of(methods: str, given: dict[str, Any], sweeps: Sequence[str]) -> list[Unlearning]:
    """Every combination of methods and swept settings.

    Raises:
        ConfigError: an unknown method or setting, or a value that cannot be.
    """
    from idiolect.unlearn.config import unlearning

    names = [name.strip() for name in methods.split(",") if name.strip()] or [methods]
    varied = [[(name, value) for value in values] for name, values in map(_sweep, sweeps)]
    return [unlearning(name, **{**given, **dict(chosen)}) for name in names for chosen in product(*varied)]


def _settings(given: Sequence[str]) -> dict[str, Any]:
    """`targets` alone has several values: NAME=V,V."""
    found = [_sweep(one, most=None if one.split("=")[0].strip() == "targets" else 1) for one in given]
    return {name: tuple(values) if name == "targets" else values[0] for name, values in found}


def _sweep(text: str, most: int | None = None) -> tuple[str, list[str]]:
    """`pd_weight=1,2` → its name and values."""
    name, found, values = text.partition("=")
    parts = [part.strip() for part in values.split(",") if part.strip()]
    if not found or not name.strip() or not parts or (most is not None and len(parts) > most):
        raise ConfigError(f"{text!r} is no setting; write NAME=VALUE" + ("" if most else " or NAME=VALUE,VALUE"))
    return name.strip(), parts


@contextmanager
def _progress(runs: Sequence[Unlearning]) -> Iterator[Any]:
    with stages() as shown:
        title = f"unlearning · {runs[0].method}" if len(runs) == 1 else f"unlearning · {count(len(runs), 'run')}"
        step: Any = None

        def told(at: Told) -> None:
            nonlocal step
            if step is None or at.step == 1:  # runs of other steps or rates are trained after the first ones
                step = shown(title, at.steps)
            step(at.step, " · ".join(f"{name} {loss:.2f}" for name, loss in at.losses.items()), None)

        yield told


def name_of(config: Unlearning, runs: Sequence[Unlearning]) -> str:
    """What tells a run from the others: its method, and the settings in which they differ."""
    mine = config.model_dump(mode="json")
    alike = [run for run in runs if run.method == config.method]
    differ = [key for key in mine if len({str(run.model_dump(mode="json")[key]) for run in alike}) > 1]
    return " ".join([config.method, *(f"{key}={mine[key]}" for key in differ)])


def _draw(runs: Sequence[Unlearning], choices: Sequence[Choice], folder: Path) -> None:
    from idiolect.unlearn.curves import save_curves

    save_curves({name_of(run, runs): [choice] for run, choice in zip(runs, choices, strict=True)}, folder / "curves.png")


def tell_left_out(ids: Sequence[str]) -> None:
    """Say so where pairs did not fit."""
    if ids:
        note(f"idiolect: {count(len(ids), 'pair')} left out, which do not fit (the first: {ids[0]}); raise max_tokens")


def _tell(
    ctx: typer.Context, done: Unlearned, runs: Sequence[Unlearning], folder: Path, merge: Path | None, kept: bool, json: bool
) -> None:
    from idiolect.unlearn.negate import WARNING

    tell_left_out(done.left_out)
    if done.config.negated and (kept or merge is not None or done.digest is None):
        note(f"idiolect: {WARNING}")
    if wants_json(ctx, json):
        return emit(_facts(done, folder, merge))
    if done.choices:
        out().print(_curves(runs, done))
    strength = f"λ = {done.config.strength:g}"
    say(f"{done.config.method}, {strength}, {count(done.steps, 'step')}, unlearned from {done.target}; in {folder}")
    if done.stopped_at is not None:
        note(f"idiolect: stopped at step {done.stopped_at}, where the loss was no longer finite; the last good state was kept")
    if done.choices and done.config.strength == 0:
        note("idiolect: nothing forgets within the floor: the result changes nothing; lower --floor, or try another --method")
    if done.digest is not None:
        say(f"adapter {done.digest[:12]} in the store")
    if done.downstream:
        note(
            f"idiolect: {count(len(done.downstream), 'adapter')} in the store were made on the target as it was, and still "
            "know; train them again: idiolect train"
        )
    say("what it is worth tells only an audit: idiolect unlearn audit")


def _curves(runs: Sequence[Unlearning], done: Unlearned) -> Any:
    rows = []
    for run_, choice in zip(runs, done.choices, strict=True):
        for point in choice.points:
            mark = "chosen" if point == choice.chosen else ""
            rows.append([name_of(run_, runs), f"{point.strength:g}", f"{point.forget:.3f}", f"{point.utility:.3f}", mark])
    columns = ["run", "λ", "forget probability", "utility", ""]
    return table(columns, rows, right=["λ", "forget probability", "utility"])


def _facts(done: Unlearned, folder: Path, merge: Path | None) -> dict[str, Any]:
    return {
        "method": done.config.method,
        "strength": done.config.strength,
        "target": done.target,
        "steps": done.steps,
        "stopped_at": done.stopped_at,
        "digest": done.digest,
        "downstream": done.downstream,
        "left_out": done.left_out,
        "choices": [choice.to_dict() for choice in done.choices],
        "out": str(folder),
        "merged": None if merge is None else str(merge),
    }
