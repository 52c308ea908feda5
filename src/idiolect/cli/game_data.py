"""`idiolect game export`, `history`, `retest` and `portrait`: what comes of the word game's answers."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from idiolect.cli.options import (
    BaseOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    StoreOption,
    open_house,
    wants_json,
)
from idiolect.cli.output import count, emit, note, out, say, table
from idiolect.cli.progress import busy
from idiolect.errors import IdiolectError, InputError, PersonNotFound, StoreBusy

if TYPE_CHECKING:
    from idiolect.game.desk import Game
    from idiolect.portraits.drawing import Portrait
    from idiolect.service import Idiolect

PlayerArgument = Annotated[str, typer.Argument(metavar="PLAYER", help="A player's handle, or the random name.")]


def _game(house: Idiolect) -> Game:
    from idiolect.game.desk import Game

    return Game(house.store, forget=house.forget)


def _player(game: Game, name: str) -> int:
    """The row of a player by handle or random name."""
    from idiolect.game.passwords import folded

    with game.books.read() as books:
        found = books.player_named(name) or books.player_by_handle(folded(name))
    if found is None:
        raise PersonNotFound("there is no such player; give a handle, or the random name that `idiolect game history` writes")
    return found.key


def export(
    ctx: typer.Context,
    out_: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the release's own new folder goes.")],
    k: Annotated[int, typer.Option("--k", help="Fewest different players behind anything published; at least 5.")] = 5,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Publish what at least five real players who agreed to it gave: pairs, negatives, distributions and a data card."""
    with open_house(ctx, store) as house:
        made = _game(house).exports.release(out_, k=k)
    if wants_json(ctx, json):
        return emit({"release": made.release, "folder": str(made.folder), "rows": made.rows, "sha256": made.digest})
    say(f"{made.release} is in {made.folder}")
    out().print(table(("file", "rows"), ((name, f"{n:,}") for name, n in made.rows.items()), right=("rows",)))


def history(
    ctx: typer.Context,
    player: PlayerArgument,
    out_: Annotated[Path, typer.Option("--out", metavar="FILE", help="JSON lines: what `idiolect history import` reads.")],
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="TASK", help="NYM-1, NYM-2 or NYM-3: a person with held-out queries, for `evals run`."),
    ] = None,
    sync: Annotated[bool, typer.Option("--sync", help="Add it to the player's own history in the store, too.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Write a player's history, one event a line; with --task, split in time for an evaluation."""
    from idiolect.game.histories import person_of, profile, split

    with open_house(ctx, store) as house:
        game = _game(house)
        key = _player(game, player)
        events = game.histories.events(key)
        with game.books.read() as books:
            user = person_of(books.player(key).player)
        n_new = game.histories.sync(key).n_new if sync else None
    lines: list[Any] = events
    if task is not None:
        of_task = [event for event in events if event["task"] == task.upper()]
        if not of_task:
            raise InputError(f"this history holds nothing of task {task!r}; give one of: NYM-1, NYM-2, NYM-3")
        lines = [profile(user, *([e for e in part if e["task"] == task.upper()] for part in split(events)))]
    _write(out_, lines)
    if wants_json(ctx, json):
        return emit({"user": user, "n_events": len(events), "n_new": n_new, "file": str(out_)})
    say(f"{count(len(events), 'event')} of {user} in {out_}")
    if n_new is not None:
        say(f"{count(n_new, 'new item')} in the store")


def _write(file: Path, lines: list[Any]) -> None:
    """A person's words: for the owner of the file alone."""
    text = "".join(json_module.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    try:
        file.touch(mode=0o600)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {str(file)!r}: {error.strerror}; choose another --out") from None


def retest(
    ctx: typer.Context,
    player: Annotated[
        str | None, typer.Option("--player", metavar="PLAYER", help="One player's; without it, everybody's.")
    ] = None,
    simulated: Annotated[bool, typer.Option("--simulated", help="Of simulated players instead of real ones.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the bootstrap.")] = 0,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Do players answer like themselves? Repeated base words, held against other players' answers to them."""
    from idiolect.game.retest import document, find

    with open_house(ctx, store) as house:
        game = _game(house)
        key = None if player is None else _player(game, player)
        report = document(find(game.books, player=key, simulated=simulated), seed)
    if wants_json(ctx, json):
        return emit(report)
    if report["all"] is None:
        return note("no base word has come back to a player yet, a week or more after the first time")
    rows = [(name, one) for name, one in {"all": report["all"], **report["modes"]}.items()]
    columns = ("mode", "words", "players", "S_w", "S_b", "S_w - S_b", "95 % interval")
    cells = (
        (
            name, str(one["n_pairs"]), str(one["n_players"]), f"{one['within']:.3f}", f"{one['between']:.3f}",
            f"{one['difference']:+.3f}", "–" if one["low"] is None else f"{one['low']:+.3f} … {one['high']:+.3f}",
        )
        for name, one in rows
    )  # fmt: skip
    out().print(table(columns, cells, right=columns[1:]))
    say(report["all"]["verdict"])


def portrait(
    ctx: typer.Context,
    player: Annotated[str | None, typer.Argument(metavar="[PLAYER]", help="Whose; or --waiting.")] = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="Everybody's who has asked for one, until nobody waits.")] = False,
    store: StoreOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Draw a player's portrait: train an adapter on their history, and offer it only if it beats what most people say."""
    if waiting == (player is not None):
        raise InputError("say whose portrait to draw: PLAYER, or --waiting for all who have asked")
    with open_house(ctx, store, base, device, dtype) as house:
        game = _game(house)
        made = [_draw(house, game, _player(game, player))] if player is not None else _drawn(house, game)
    if wants_json(ctx, json):
        return emit([{"person": one.person, **one.body} for one in made])
    if not made:
        return note("nobody waits for a portrait")
    for one in made:
        _say_portrait(one)


def _draw(house: Idiolect, game: Game, player: int) -> Portrait:
    from idiolect.portraits.drawing import draw

    return draw(house.base, house.store, game, player, say=busy)


def _drawn(house: Idiolect, game: Game) -> list[Portrait]:
    """The portraits of all who wait; one that cannot be drawn is noted, and does not hold up the others."""
    from idiolect.game.mirror import Mirrors

    mirrors, made = Mirrors(game.books, game.words, game.clock), []
    if not mirrors.is_anybody_waiting():
        return made
    _ = house.base  # before anybody's turn: where it cannot be loaded, all go on waiting
    while (player := mirrors.next_waiting()) is not None:
        try:
            made.append(_draw(house, game, player))
        except StoreBusy:
            raise
        except IdiolectError as error:
            note(f"a portrait could not be drawn: {error}")
    return made


def _say_portrait(one: Portrait) -> None:
    body = one.body
    what = (
        "its adapter is in use" if body["offered"] else "no adapter is in use" if body["trained"] else "no adapter was trained"
    )
    say(f"{one.person}: {count(body['n_items'], 'item')}; {what}")
    columns = ("task", "train", "test", "most people", "before", "after", "gain over most people", "offered")
    cells = []
    for task, found in body["tasks"].items():
        scores = [f"{found['scores'][arm]:.3f}" if arm in found["scores"] else "–" for arm in ("population", "before", "after")]
        cells.append((task, found["n_train"], found["n_test"], *scores, _gain(found), "yes" if found["offered"] else "no"))
    out().print(table(columns, cells, right=columns[1:6]))


def _gain(found: dict[str, Any]) -> str:
    gain = found["over_population"]
    if gain is None:
        return "–"
    span = "" if gain["low"] is None else f" ({gain['low']:+.3f} … {gain['high']:+.3f})"
    return f"{gain['delta']:+.3f}{span}"
