"""Draws a player's portrait, and keeps it beside the player.

    sync ─▶ split by time ─▶ each task: others' shared adapter ─▶ own adapter ─▶ measured on what came later ─▶ in use or not
         └▶ own words, those that nobody else gave, what was guessed before and after, and how alike two rounds are

Everything in it is the player's own: their words, and what was guessed for their own questions. Others are in it as counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from idiolect.config import TrainConfig, preset
from idiolect.data.tasks import get_task
from idiolect.errors import IdiolectError, StoreBusy
from idiolect.evals.metrics import listed
from idiolect.game import retest
from idiolect.game.desk import Game
from idiolect.game.histories import Event, n_counted, split
from idiolect.game.mirror import NEEDED, own_words
from idiolect.game.population import crowd
from idiolect.game.refusals import NotAllowed
from idiolect.game.score import MIN_OTHERS
from idiolect.game.showing import showable_texts
from idiolect.model.adapter import modules_of
from idiolect.model.base import Base
from idiolect.portraits.measuring import Measured, measure
from idiolect.portraits.teachers import Teachers, teachers
from idiolect.store.game.records import PlayerRow
from idiolect.store.store import Store
from idiolect.train.stages import Recipe, stage_one, with_task_adapter

TASKS = ("NYM-1", "NYM-2", "NYM-3")
_ARMS = ("before", "after")
"""Whose guesses are shown: without the player's adapter, and with it."""
N_GUESSED = 8
"""Questions whose guesses are shown."""
RULE = "by task, in mean over held-out items: personal - population > 0, personal - before > 0, and personal above chance"


@dataclass(frozen=True)
class Settings:
    """How portraits are drawn.

    Attributes:
        k: the player's most relevant earlier items in every prompt.
        max_examples: of the teachers, for each task; a seeded sample.
        task, user: settings of the two stages.
    """

    k: int = 4
    max_examples: int = 1_500
    task: TrainConfig = field(default_factory=lambda: preset("default", "task"))
    user: TrainConfig = field(default_factory=lambda: preset("default", "user"))

    def recipe(self, base: Base, task: str, config: TrainConfig) -> Recipe:
        """The recipe of a stage on this base, which may lack some of the modules."""
        modules = modules_of(base.model.sites(), config.targets)
        return Recipe(get_task(task), config.but(targets=modules), "bm25" if self.k else "none", self.k)


@dataclass(frozen=True)
class Portrait:
    """What was drawn; `body` is what is kept."""

    player: int
    person: str
    body: Mapping[str, Any]

    @property
    def offered(self) -> bool:
        return self.body["offered"]


def draw(
    base: Base,
    store: Store,
    game: Game,
    player: int,
    settings: Settings | None = None,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> Portrait:
    """Draw a player's portrait and keep it; adapters that beat what most people say are put into use, others are not.

    Args:
        base: the bare base.
        say: told what begins.

    Raises:
        NotAllowed: the player did not agree to personal use, or took it back meanwhile; nothing is kept.
        StoreBusy: another run holds the store; the portrait waits.
        EmptyHistory: nobody can teach. The portrait is kept as failed, with the reason, and shows what it showed before.
    """
    with game.books.read() as books:
        row, before = books.player(player), books.portrait(player)
    shown = {} if before is None else dict(before.body)
    try:
        with store.lock():
            made = _Drawing(base, store, game, player, settings or Settings(), say).draw()
    except NotAllowed:
        with game.books.write() as books:
            books.drop_portrait(player)
        raise
    except StoreBusy:  # somebody else trains; it is drawn another time
        _keep(game, row, "waiting", shown)
        raise
    except IdiolectError as error:
        _keep(game, row, "failed", {**shown, "reason": str(error)})
        raise
    except BaseException:
        _keep(game, row, "failed", {**shown, "reason": "drawing was cut off"})
        raise
    if not _keep(game, row, "done", made.body):
        raise NotAllowed("the player took the consent back while the portrait was drawn; nothing of it was kept")
    for digest in (one["adapter"] for one in made.body["tasks"].values() if one["offered"]):
        store.set_head(digest)
    return made


def _keep(game: Game, player: PlayerRow, state: str, body: Mapping[str, Any]) -> bool:
    """Keep a portrait, if the player is still there, and the consent that it was drawn under; whether they are.

    A consent that was taken back and given again is another one: what was made before is being forgotten.
    """
    with game.books.write() as books:
        row = books.find_player(player.key)
        if row is None or row.consent_personal is None:
            return False
        if (row.player, row.consent_personal) != (player.player, player.consent_personal):
            return False
        books.put_portrait(player.key, state, game.clock(), body)
        return True


class _Drawing:
    """One portrait."""

    def __init__(
        self, base: Base, store: Store, game: Game, player: int, settings: Settings, say: Callable[[str], None]
    ) -> None:
        self._base, self._store, self._game, self._player = base, store, game, player
        self._settings, self._say = settings, say
        self._n_played = 0

    def draw(self) -> Portrait:
        self._say("reading the history")
        histories = self._game.histories
        synced = histories.sync(self._player)
        with self._game.books.read() as books:
            name, self._n_played = books.player(self._player).player, books.n_items(self._player)
        events = histories.events(self._player)
        train, test = split(events)
        personal = n_counted(events) >= NEEDED
        others = teachers(self._game.books, histories, name, self._game.clock())
        population = histories.population_answers(self._player, test)
        found: dict[str, Measured] = {}
        for task in TASKS:
            mine, later = ([event for event in part if event["task"] == task] for part in (train, test))
            base = self._shared(task, others) if later else self._base
            self._say(f"{task}: {len(mine)} items to learn from, {len(later)} to measure by")
            recipe = self._settings.recipe(base, task, self._settings.user)
            one = measure(base, self._store, recipe, synced.person, mine, later, population, personal=personal)
            found |= {} if one is None else {task: one}
        return Portrait(self._player, synced.person, self._body(events, test, others, found))

    def _shared(self, task: str, others: Teachers) -> Base:
        """The base with the adapter merged in that others taught; made where it is not there yet."""
        how = self._settings
        self._say(f"{task}: the shared adapter, from {len(others.people)} others")
        recipe = how.recipe(self._base, task, how.task)
        digest = stage_one(self._base, self._store, recipe, others.people, max_examples=how.max_examples)
        return with_task_adapter(self._base, self._store, digest)

    def _body(
        self, events: Sequence[Event], test: Sequence[Event], others: Teachers, found: Mapping[str, Measured]
    ) -> dict[str, Any]:
        trained = [one for one in found.values() if one.adapter is not None]
        offered = [one for one in trained if one.offered]
        rounds = [event for event in events if event["task"] == "NYM-3"]
        return {
            "v": 1,
            "n_items": n_counted(events),
            "n_played": self._n_played,
            "n_rounds": len(rounds),
            "needed": NEEDED,
            "base": self._base.name,
            "teachers": {"n": len(others.people), "simulated": others.simulated},
            "trained": bool(trained),
            "offered": bool(offered),
            **_overall(offered or trained),
            "rule": RULE,
            "tasks": {task: one.document() for task, one in found.items()},
            "words": own_words([event for event in rounds if not event["repeat"]], self._alone(rounds)),
            "guesses": shown_guesses(self._game, _guesses(test, found.get("NYM-3"))),
            "retest": retest.document(retest.find(self._game.books, player=self._player))["all"],
        }

    def _alone(self, rounds: Sequence[Event]) -> dict[str, list[str]]:
        """Answers of each round that nobody else gave, where enough others answered to tell."""
        found = {}
        with self._game.books.read() as books:
            for event in rounds:
                prompt = books.prompt_named(f"{event['relation']}:{event['base']}")
                if prompt is None or crowd(books.given(prompt.key, without=self._player)).n < MIN_OTHERS:
                    continue
                theirs = books.given_by_others(prompt.key, self._player, event["output"])
                found[event["id"]] = [key for key in event["output"] if key not in theirs]
        return found


def _overall(measured: Sequence[Measured]) -> dict[str, float | None]:
    """Mean score over all held-out items of these tasks: with the adapter, and of what most people say."""
    n = sum(one.n_test for one in measured)
    arms = (("personal", "after"), ("population", "population"))
    return {name: round(sum(one.totals[arm] for one in measured) / n, 4) if n else None for name, arm in arms}


def shown_guesses(game: Game, guesses: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Guesses without words that the player may not be shown: a model may say what it learnt from others."""
    found = []
    with game.books.read() as books:
        for guess in guesses:
            word = game.words.words[f"{guess['relation']}:{guess['base']}"]
            prompt = books.prompt_named(word.id)
            assert prompt is not None  # it was asked
            kept = {arm: showable_texts(books, game.words, prompt.key, word, guess[arm], guess["own"]) for arm in _ARMS}
            found.append({**guess, **kept})
    return found


def _guesses(test: Sequence[Event], lists: Measured | None) -> list[dict[str, Any]]:
    """What was guessed for the player's own later questions."""
    if lists is None:
        return []
    asked = [event for event in test if event["task"] == "NYM-3" and not event["repeat"]][:N_GUESSED]
    return [
        {
            "relation": event["relation"],
            "base": event["base"],
            "mode": event["mode"],
            "own": event["output"],
            **{arm: list(listed(lists.answers.get(arm, {}).get(event["id"], ""))) for arm in _ARMS},
        }
        for event in asked
    ]
