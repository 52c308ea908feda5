"""The demo's last chapter: the word game is served, simulated players play it over HTTP, and a newcomer plays one round."""

from __future__ import annotations

import asyncio
import random
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from idiolect.cli.output import count, duration, note, table
from idiolect.types import seed_of

if TYPE_CHECKING:
    from idiolect.cli.progress import Step
    from idiolect.store.store import Store

PICTURE = "round.svg"
NEEDS = ("argon2", "fastapi", "httpx", "jinja2", "uvicorn")
PLAYERS, ROUNDS, WORDS = 16, 3, 40


@dataclass(frozen=True)
class Chapter:
    """What happened.

    Attributes:
        n_company: simulated players who had played before.
        n_rounds: rounds that simulated players played over HTTP.
        seconds: what those took.
        word: the newcomer's base word, as it was asked.
        n_others: whom the newcomer is compared with, all simulated.
        answers: text, percent of others, points.
    """

    n_company: int
    n_rounds: int
    seconds: float
    word: str
    n_others: int
    score: int
    answers: tuple[tuple[str, int | None, int], ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def tell(store: Store, seed: int, folder: Path, on_stage: Any) -> Chapter | None:
    """Tell the chapter; None, with a note, where what serves is not installed.

    Args:
        folder: the newcomer's picture goes here.
        on_stage: name and number of steps → what is called after each.
    """
    if lacking := [name for name in NEEDS if find_spec(name) is None]:
        note(f"the word game is left out: it needs {', '.join(lacking)}; pip install 'idiolect[serve]'")
        return None
    from idiolect.bench.crowd_http import send_crowd
    from idiolect.game.crowd import COMPANY, cast_of, crowd_key, populate
    from idiolect.game.desk import Game
    from idiolect.serve.app import Settings, create_app
    from idiolect.serve.running import beside

    with store.game.read() as books:
        n_there = sum(books.n_players_by_kind().values())
    # Told again in the same folder, players are others, with names of their own.
    game = Game(store, rng=random.Random(seed_of("demo", seed, n_there)))
    game.prepare()
    populate(game, PLAYERS, WORDS, seed=seed)
    minds = cast_of(PLAYERS, game.words, COMPANY, seed + 1)
    step: Step = on_stage("simulated players play", PLAYERS * ROUNDS)
    began = game.clock()
    with beside(create_app(game, Settings(keeps=False))) as address:
        key = crowd_key(game.accounts.secret())
        tally = asyncio.run(
            send_crowd(
                address, minds, ROUNDS, key=key, seed=seed, on_round=lambda t: step(t.rounds + t.judged + t.failed, "", None)
            )
        )
        seconds = game.clock() - began
        report, drawn = asyncio.run(_newcomer(address, game, seed))
    (folder / PICTURE).touch(mode=0o600)
    (folder / PICTURE).write_text(drawn, encoding="utf-8")
    answers = tuple((line["text"], line["percent"], line["points"]) for line in report["answers"])
    word = game.words.words[report["prompt"]].text
    return Chapter(PLAYERS, tally.rounds + tally.judged, seconds, word, report["n_others"], report["score"], answers)


async def _newcomer(address: str, game: Any, seed: int) -> tuple[dict[str, Any], str]:
    """One round of a guest; the report, and the picture."""
    from idiolect.bench.crowd_http import HttpPlayer, open_client
    from idiolect.game.minds import Mind

    async with open_client(address) as client:
        player = HttpPlayer(client, Mind("honest", seed + 77, game.words))
        await player.come()
        report = await player.play(["hypo"], "classic")
        drawn = await player.look("picture", f"/rounds/{report['round']}/picture.svg")
    return report, drawn


def show(console: Console, chapter: Chapter, folder: Path | None) -> None:
    """The newcomer's report. folder: where everything is kept, if it is."""
    console.print()
    console.print(Text("The word game is played", style="bold"))
    console.print(
        Text(
            f"{chapter.n_company} simulated players gave their answers beforehand; {chapter.n_company} others played "
            f"{count(chapter.n_rounds, 'round')} over HTTP in {duration(chapter.seconds)}. Then a guest was asked: "
            f"{chapter.word}"
        ),
        soft_wrap=True,
    )
    rows = [(text, "–" if percent is None else f"{percent} %", f"{points}") for text, percent, points in chapter.answers]
    columns = ("answer", f"of {chapter.n_others} simulated players", "points")
    console.print(table(columns, rows, right=columns[1:]))
    kept = f" Their picture: {folder / PICTURE}." if folder is not None else ""
    console.print(Text(f"{chapter.score} points.{kept} Play it yourself: idiolect play"), soft_wrap=True)
