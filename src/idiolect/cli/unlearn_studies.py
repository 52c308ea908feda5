"""`idiolect unlearn audit`, `harm` and `study`: what is left of what was unlearned, and of everything else."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from idiolect.cli.evals import need_report, typed
from idiolect.cli.options import BaseOption, DeviceOption, DtypeOption, JsonOption, wants_json
from idiolect.cli.output import count, duration, emit, note, out, say, table
from idiolect.cli.progress import stages
from idiolect.cli.unlearn import app, check_folder, loaded_base, read
from idiolect.errors import ConfigError, FileFormatError, InputError

if TYPE_CHECKING:
    from idiolect.data.pairs import Pair
    from idiolect.model.base import Base
    from idiolect.unlearn.variants import Variant

OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the report goes.")]
SeedsOption = Annotated[str, typer.Option("--seeds", metavar="N,N…", help="Seeds; three at least make a spread.")]
MethodsOption = Annotated[
    str | None, typer.Option("--methods", metavar="NAMES", help="sku, task-vector, ga, npo … (all of them).")
]
StepsOption = Annotated[int | None, typer.Option("--steps", min=1, help="Optimiser steps of unlearning.")]
JudgeOption = Annotated[
    list[str] | None,
    typer.Option("--judge", metavar="JUDGE", help="keyword, endpoint:URL#MODEL or classifier:FOLDER; again for a second."),
]


# -------------------------------------------------------------------------------------------------------------- audit


@app.command()
def audit(
    ctx: typer.Context,
    out_: OutOption,
    run: Annotated[list[Path], typer.Option("--run", metavar="DIR", help="A result of unlearn run; again for more.")],
    forget: Annotated[Path, typer.Option("--forget", metavar="FILE", help="What was unlearned.")],
    retain: Annotated[Path, typer.Option("--retain", metavar="FILE", help="What was to stay.")],
    holdout: Annotated[Path, typer.Option("--holdout", metavar="FILE", help="Pairs like the forget set, never learnt.")],
    before: Annotated[
        str | None,
        typer.Option("--before", metavar="BASE", help="The base before it was taught: the reference is trained on it."),
    ] = None,
    taught: Annotated[
        list[Path] | None, typer.Option("--taught", metavar="FILE", help="All that the base was taught (forget and retain).")
    ] = None,
    retrained: Annotated[
        str | None, typer.Option("--retrained", metavar="BASE", help="A reference that is there, in place of --before.")
    ] = None,
    neighbours: Annotated[Path | None, typer.Option("--neighbours", metavar="FILE", help="Kept pairs close by.")] = None,
    world: Annotated[Path | None, typer.Option("--world", metavar="FILE", help="What everybody knows.")] = None,
    texts: Annotated[Path | None, typer.Option("--texts", metavar="FILE", help="Plain texts, a line each: perplexity.")] = None,
    steps: Annotated[str, typer.Option("--relearn", metavar="N,N…", help="Steps of relearning.")] = "1,5,20,100",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed.")] = 0,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Hold results of unlearning against a model that never learnt it. The reference is trained here, unless it is there."""
    need_report("text")
    from idiolect.machine import hardware, versions
    from idiolect.unlearn.audit import audit as audited
    from idiolect.unlearn.findings import AuditSettings
    from idiolect.unlearn.report import headline, write
    from idiolect.unlearn.sets import Sets
    from idiolect.unlearn.variants import Variant

    check_folder(out_)
    relearn = _steps(steps)
    if (before is None) == (retrained is None):
        raise InputError("say what the reference is: --before BASE to train it here, or --retrained BASE")
    pairs = {name: read(file) if file else [] for name, file in _files(forget, retain, holdout, neighbours, world).items()}
    plain = _lines(texts) if texts else []
    sets = Sets(**pairs, texts=plain)
    sets.check()
    loaded = loaded_base(ctx, base, device, dtype)
    candidates = [_result(folder, loaded) for folder in run]
    with stages() as shown:
        if retrained is not None:
            reference = Variant("retrained", loaded_base(ctx, retrained, device, dtype))
        else:
            assert before is not None
            all_taught = [pair for file in taught or [] for pair in read(file)] or [*pairs["retain"], *pairs["world"]]
            reference = _retrained(loaded_base(ctx, before, device, dtype), loaded, all_taught, pairs["forget"], shown)
        settings = AuditSettings.build(steps=relearn, seed=seed, max_tokens=min(512, loaded.context))
        found = audited(Variant("original", loaded), reference, candidates, sets, settings, shown)
    about = {"command": typed(ctx), "hardware": hardware(), "versions": versions()}
    write([found], out_, about)
    if wants_json(ctx, json):
        verdicts = {name: found.verdict(name) for name in found.candidates}
        return emit({"out": str(out_), "verdicts": verdicts, "summaries": {n: found.summary(n) for n in found.candidates}})
    say(headline([found]))
    rows = [[name, " and ".join(found.verdict(name)["words"])] for name in found.candidates]
    out().print(table(["result", "verdict"], rows))
    say(f"report: {out_ / 'report.md'}")


def _steps(text: str) -> tuple[int, ...]:
    """`1,5,20` → counts of steps; which there may be, settings say."""
    try:
        return tuple(int(word) for word in text.split(",") if word.strip())
    except ValueError:
        raise ConfigError(f"steps {text!r} are not numbers; write them as 1,5,20") from None


def _files(forget: Path, retain: Path, holdout: Path, neighbours: Path | None, world: Path | None) -> dict[str, Path | None]:
    return {"forget": forget, "retain": retain, "holdout": holdout, "neighbours": neighbours, "world": world}


def _lines(file: Path) -> list[str]:
    try:
        found = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{file.name} cannot be read as UTF-8 text ({type(error).__name__})") from None
    if not found:
        raise FileFormatError(f"{file.name} holds no text; give a file with a text on each line")
    return found


def _result(folder: Path, base: Base) -> Variant:
    """What a run came to, as a variant of the base that it was run on; merged weights are a base of their own."""
    from idiolect.model.base import load_base
    from idiolect.model.files import read_peft
    from idiolect.unlearn.desk import ADAPTER, RESULT
    from idiolect.unlearn.variants import Variant

    try:
        note_ = json_module.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise FileFormatError(f"{str(folder)!r} holds no whole result of unlearn run ({RESULT} is missing)") from None
    if not isinstance(note_, dict) or "target" not in note_:
        raise FileFormatError(f"{str(folder)!r}: {RESULT} is not that of unlearn run; give a folder that it wrote")
    if (folder / "config.json").is_file():
        dtype = str(base.dtype).removeprefix("torch.")
        return Variant(folder.name, load_base(str(folder), device=str(base.device), dtype=dtype))
    if note_.get("base") != base.fingerprint:
        raise InputError(f"{str(folder)!r} was unlearned on another base than {base.name!r}; give its own with --base")
    if note_.get("target") != "base":
        raise InputError(
            f"{str(folder)!r} changes an adapter, and this is of bases: have it written as one (unlearn run --merge FOLDER), "
            "and give that; the adapter as it was becomes one with --strength 0"
        )
    layout, row = read_peft(folder / ADAPTER, base.model.sites())
    return Variant(folder.name, base, layout, row)


def _retrained(before: Base, taught: Base, pairs: list[Pair], forget: list[Pair], shown: Any) -> Variant:
    """The reference: the base before, taught the same way, without the forget set."""
    from dataclasses import replace

    from idiolect.unlearn.teaching import TEACHING, read_taught, teach

    gone = {(pair.prompt, pair.answer) for pair in forget}
    kept = [pair for pair in pairs if (pair.prompt, pair.answer) not in gone]
    config = TEACHING
    try:
        said, config = read_taught(taught.path)
    except FileFormatError as error:
        note(f"idiolect: {error}; the reference is taught by the defaults")
    else:
        if said.get("base") != before.fingerprint:
            raise InputError(f"{taught.name!r} was taught on another base than {before.name!r}; give that with --before")
    step = shown("teaching the reference", 1)
    done = teach(before, kept, config, on_progress=lambda at: step(at.done, f"loss {at.loss:.3f}", at.left_s))
    return replace(done.variant, name="retrained")


# --------------------------------------------------------------------------------------------------------------- harm


@app.command()
def harm(
    ctx: typer.Context,
    prompts: Annotated[Path, typer.Option("--prompts", metavar="FILE", help="Requests that ask for harm.")],
    judge: JudgeOption = None,
    run: Annotated[
        list[Path] | None, typer.Option("--run", metavar="DIR", help="Results of unlearn run, beside the base.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Requests that are asked, the first ones.")] = 100,
    room: Annotated[int, typer.Option("--max-new-tokens", min=2, help="Tokens of an answer.")] = 64,
    texts: Annotated[
        Path | None, typer.Option("--texts", metavar="FILE", help="Keep answers and verdicts, for your eyes.")
    ] = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """How often a base answers harmful requests, by judges that you name."""
    from idiolect.unlearn.harm import harmful_rate
    from idiolect.unlearn.judges import get_judge
    from idiolect.unlearn.variants import Variant

    if texts is not None and run:
        raise InputError("--texts keeps one model's answers; leave --run out, or ask for each by itself")
    judges = [get_judge(spec) for spec in judge or ["keyword"]]
    asked = read(prompts)[:n]
    loaded = loaded_base(ctx, base, device, dtype)
    variants = [Variant(loaded.name, loaded), *(_result(folder, loaded) for folder in run or [])]
    found = []
    with stages() as shown:
        for variant in variants:
            step = shown(f"answers · {variant.name}", len(asked))
            found.append(
                harmful_rate(
                    variant, {"asked": asked}, judges, original=loaded, max_new_tokens=room, texts=texts,
                    on_done=lambda done, step=step: step(done, "", None),
                )
            )  # fmt: skip
    if wants_json(ctx, json):
        return emit(found)
    names = [one.name for one in judges]
    out().print(table(["model", *(f"harmful ({name})" for name in names), "refused", "gibberish"], map(_harm_row, found)))
    for one in judges:
        say(f"{one.name}: {one.says}")


def _harm_row(figures: Any) -> list[str]:
    mine = figures["sets"]["asked"]
    shares = [*mine["harmful"].values(), mine["refused"], mine["gibberish"]]
    return [figures["variant"], *(f"{one['share']:.0%} ({one['low']:.0%}–{one['high']:.0%})" for one in shares)]


# -------------------------------------------------------------------------------------------------------------- study


@app.command()
def study(
    ctx: typer.Context,
    name: Annotated[Literal["planted", "safety"], typer.Argument(metavar="NAME", help="planted or safety.")],
    out_: OutOption,
    seeds: SeedsOption = "0,1,2",
    methods: MethodsOption = None,
    steps: StepsOption = None,
    people: Annotated[int | None, typer.Option("--people", min=4, help="planted: people (30).")] = None,
    facts: Annotated[int | None, typer.Option("--facts", min=1, help="planted: facts about each (8).")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Epochs of teaching.")] = None,
    ablations: Annotated[
        bool, typer.Option("--ablations/--no-ablations", help="planted: SKU without each of its parts.")
    ] = True,
    relearn: Annotated[str | None, typer.Option("--relearn", metavar="N,N…", help="planted: steps of relearning.")] = None,
    requests: Annotated[Path | None, typer.Option("--requests", metavar="FILE", help="safety: AdvBench.")] = None,
    questions: Annotated[Path | None, typer.Option("--questions", metavar="FILE", help="safety: TruthfulQA.")] = None,
    n: Annotated[
        int | None, typer.Option("--n", min=2, help="safety: requests and questions that are taught, of each.")
    ] = None,
    judge: JudgeOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Teach a base something, unlearn it by every method, and report: made-up people, or harmful requests."""
    need_report("text")
    from idiolect.cli.evaluating import read_seeds
    from idiolect.machine import hardware, versions
    from idiolect.unlearn.config import METHODS, unlearning

    chosen = tuple(word.strip() for word in methods.split(",") if word.strip()) if methods else METHODS
    for one in chosen:
        unlearning(one)  # says which there are, before anything is loaded
    check_folder(out_)
    if name == "safety" and (requests is None or questions is None):
        raise InputError("the study 'safety' needs --requests FILE and --questions FILE")
    about = {"command": typed(ctx), "hardware": hardware(), "versions": versions()}
    asked: dict[str, Any] = {"seeds": read_seeds(seeds), "methods": chosen}
    asked |= {} if steps is None else {"steps": steps}
    loaded = loaded_base(ctx, base, device, dtype)
    with stages() as shown:
        if name == "planted":
            more = {"people": people, "facts": facts, "ablations": ablations}
            seconds = _planted(loaded, {**asked, **more}, epochs, relearn, out_, about, shown)
        else:
            assert requests is not None
            assert questions is not None
            seconds = _safety(loaded, asked, epochs, n, (read(requests), read(questions)), judge, out_, about, shown)
    if wants_json(ctx, json):
        return emit({"out": str(out_), "seconds": seconds, "seeds": list(asked["seeds"])})
    say(f"{count(len(asked['seeds']), 'seed')} in {duration(seconds)}; report: {out_ / 'report.md'}")


def _planted(
    base: Base, asked: dict[str, Any], epochs: int | None, relearn: str | None, folder: Path, about: Any, shown: Any
) -> float:
    from idiolect.unlearn.findings import AuditSettings
    from idiolect.unlearn.study import Planting, timed
    from idiolect.unlearn.teaching import TEACHING

    auditing = AuditSettings() if relearn is None else AuditSettings.build(steps=_steps(relearn))
    kept = {key: value for key, value in asked.items() if value is not None}
    planting = Planting.build(**kept, teaching=TEACHING.but(epochs=epochs), auditing=auditing)
    return timed(base, planting, folder, about, shown)


def _safety(
    base: Base,
    asked: dict[str, Any],
    epochs: int | None,
    n: int | None,
    sets: tuple[list[Pair], list[Pair]],
    judge: list[str] | None,
    folder: Path,
    about: Any,
    shown: Any,
) -> float:
    from idiolect.unlearn.judges import get_judge
    from idiolect.unlearn.safety import Safety, timed

    judges = [get_judge(spec) for spec in judge or ["keyword"]]
    more = {} if n is None else {"seen": n, "questions": n}
    settings = Safety.build(**asked, **more)
    settings = settings.but(teaching=settings.teaching.but(epochs=epochs))
    return timed(base, *sets, judges, settings, folder, about, shown)
