"""Every page with rich, empty and hostile views, served under the real policy so that a browser can look at them.

python tests/serve/gallery.py FOLDER   writes every page and a picture of it at 360, 768 and 1280 px, by day and by night
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from idiolect.serve import picture, rendering, wording
from idiolect.serve.views import (
    AboutView,
    AdapterView,
    AnswerView,
    BoardView,
    BonusView,
    Choices,
    ConsentView,
    CrowdAnswerView,
    EnteredView,
    FormError,
    GuessView,
    HardWordView,
    HomeView,
    HowView,
    JudgedView,
    JudgeItem,
    JudgeReportView,
    JudgeView,
    LeaderboardView,
    LoginView,
    MeView,
    MirrorView,
    ModAudit,
    ModCandidate,
    ModChallenge,
    ModPlayer,
    ModReport,
    ModView,
    ModWord,
    OwnWordsView,
    Page,
    PlayerView,
    QuestionView,
    RankView,
    ReadyView,
    ReportView,
    RetestView,
    RoundView,
    SignupView,
)

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

HOSTILE = (
    "<script>document.title='owned'</script>",
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=document.title='owned'>",
    "\"><svg onload=document.title='owned'>",
    "' autofocus onfocus='document.title=`owned`",
    "javascript:document.title='owned'",
    "{{ 7 * 7 }}{% raw %}${7*7}",
    "<!--<script>",
    "]]><script>document.title='owned'</script>",
    "&lt;b&gt;&#60;script&#62;",
    "</title></textarea></style><b onclick=alert(1)>",
    "\u202egnihton\u202c",
)
"""Text that must stay text, wherever it is shown."""


@dataclass(frozen=True)
class Shown:
    """A page of the gallery."""

    name: str
    page: Page
    view: Any

    def html(self) -> str:
        return rendering.render(self.page, self.view)


GUEST, ANNA = PlayerView(), PlayerView("anna_words", "account")
MODERATOR = PlayerView("mo", "account", is_moderator=True)


def page(title: str, path: str = "/", player: PlayerView | None = GUEST, **more: Any) -> Page:
    return Page(title, path, "c5f-token", player, **more)


BICYCLE = QuestionView("mero", "bicycle")
ROUND = "0d0a6a1e-1111-4222-8333-444455556666"


def report() -> ReportView:
    answers = (
        AnswerView(0, "Wheels", "accepted", 100, (BonusView("dictionary", 50),), 150, "p1"),
        AnswerView(1, "the seat", "accepted", 75, (), 75, "p2"),
        AnswerView(4, "spokes", "accepted", 0, (BonusView("dictionary", 50),), 50, "p3"),
        AnswerView(6, "dynamo", "accepted", 4, (BonusView("rare", 30),), 34, "p4"),
        AnswerView(5, "soul", "accepted", 0, (), 0, "p5", may_challenge=True),
        AnswerView(7, "pedall", "accepted", 0, (), 0, "p6", meant="pedal"),
        AnswerView(8, "freedom", "accepted", 0, (), 0, "p7", challenge="open"),
        AnswerView(2, "wheel", "duplicate"),
        AnswerView(3, "bicycle", "echo"),
        AnswerView(9, "brakes", "late"),
    )
    top = tuple(
        CrowdAnswerView(text, percent, mine, f"c{percent}", percent == 38)
        for text, percent, mine in [
            ("wheel", 100, True), ("seat", 75, True), ("handlebars", 69, False), ("chain", 63, False),
            ("pedal", 50, False), ("brake", 38, False), ("frame", 31, False), ("bell", 13, False),
        ]
    )  # fmt: skip
    missed = tuple(answer for answer in top if not answer.mine)[:4]
    return ReportView(ROUND, BICYCLE, 309, answers, 0, 0, False, 26, 5, 0, top, missed, ("soul", "freedom"), (4, 6))


def judged() -> JudgeReportView:
    rows = (
        JudgedView(0, "wheel", "bicycle", "yes", 7, 97, 31),
        JudgedView(1, "gearshift", "car", "yes", 7, None, 0, False, True),
        JudgedView(2, "keyboard", "meadow", "no", 7, checked=True),
        JudgedView(3, "engine", "bicycle", "yes", 0, 18, 22),
        JudgedView(4, "saddlebag", "horse", "unsure", 0, 52, 9),
    )
    return JudgeReportView(ROUND, "mero", 21, 4, 3, rows)


def leaderboard() -> LeaderboardView:
    names = ["otter", "anna_words", "quince", "lexa", "norbert"]
    means = tuple(RankView(n + 1, name, str(312 - 17 * n), name == "anna_words") for n, name in enumerate(names))
    rounds = tuple(
        RankView(max(n, 1), name, str(410 - 30 * max(n - 1, 0))) for n, name in zip((0, 1, 3, 4, 5), names, strict=True)
    )
    boards = (
        BoardView("mean", means, means[1], 214),
        BoardView("total", rounds, RankView(17, "anna_words", "8 214", True), 214),
        BoardView("rounds", rounds),
        BoardView("streak"),
    )
    return LeaderboardView(boards, (HardWordView("ant", "relative", 31, 44), HardWordView("syn", "taut", 38, 61)), False)


CONSENTS = (
    ConsentView("play", True, "Playing needs it."),
    ConsentView("aggregate", True),
    ConsentView("personal", False),
    ConsentView("sharing", False, "This needs a model part of your own first."),
)


def mirror() -> MirrorView:
    sea = QuestionView("hypo", "seafood", "my_view")
    return MirrorView(
        AdapterView("offered", 412, personal=64, population=57),
        (
            OwnWordsView(BICYCLE, ("freedom", "basket", "rust"), ("wheel", "seat")),
            OwnWordsView(sea, ("whelk", "samphire"), ("shrimp",)),
            OwnWordsView(QuestionView("ant", "loud"), ("peaceful",)),
        ),
        (
            GuessView(
                sea,
                ("whelk", "shrimp", "mussel"),
                (("fish", False), ("shrimp", True), ("crab", False)),
                (("mussel", True), ("shrimp", True), ("oyster", False)),
            ),
            GuessView(BICYCLE, ("wheel", "rust"), (("wheel", True), ("seat", False))),
        ),
        RetestView(14, 61, 38, True),
        96,
    )


def mod_views() -> dict[str, ModView]:
    waiting = {"challenges": 2, "reports": 1, "words": 12, "players": 1}
    challenges = (
        ModChallenge("1", "mero", "bicycle", "soul", "A bicycle that is ridden grows a soul.", "anna_words", "3 March"),
        ModChallenge("2", "hypo", "sport", "chess", "It has a world championship.", "quince", "2 March"),
    )
    players = (ModPlayer("p-1", "speedy", "limited", 31, 240, ("median of 210 ms a judgement", "always yes")),)
    items: dict[str, tuple[Any, ...]] = {
        "challenges": challenges,
        "reports": (ModReport("9", "syn", "mean", "spiteful so-and-so", 2, True),),
        "words": (ModWord("4", "mero", "body", "Lungs", "lung", 3), ModWord("5", "syn", "drunk", "sozzled", "sozzled", 1)),
        "candidates": (ModCandidate("7", "ant", "parallel", 61, 9),),
        "players": players,
        "audit": (ModAudit("3 March, 14:02", "mo", "deny", "challenge 12", "no reason given"),),
    }
    return {name: ModView(name, value, waiting) for name, value in items.items()}  # type: ignore[arg-type]


def gallery() -> list[Shown]:
    """Every class of view, full and empty."""
    return [*_playing(), *_reports(), *_people(), *_standing(), *_moderating()]


LONG = QuestionView("syn", "counterrevolutionary", "fresh", "of or relating to or characteristic of a counterrevolution")
VIEWED = QuestionView("hypo", "bird", "my_view", repeat=True)


def _playing() -> Iterator[Shown]:
    settled = ("Two players agreed with you on “bicycle”: +80.",)
    choices = Choices(("mero", "hypo"), "classic", "2x", may_view=True)
    pairs = tuple(
        JudgeItem(n, text, "bicycle") for n, text in enumerate(["wheel", "keyboard", "saddlebag", "engine", "gear"] * 5)
    )
    entered = (EnteredView(0, "rebel"), EnteredView(1, "reactionary"))
    here = page("Your round", "/rounds/x")
    yield Shown("home", page("Play", player=None), HomeView())
    yield Shown("home-known", page("Play", simulated=True, notices=settled), HomeView(choices, ROUND))
    yield Shown("ready", page("Ready?", "/rounds/x", None, simulated=True), ReadyView(ROUND, "mero", "classic", "1x", 20))
    yield Shown("ready-judge", here, ReadyView(ROUND, "syn", "nym_or_not", "off", None, 25))
    yield Shown("ready-fresh", here, ReadyView(ROUND, "hypo", "fresh", "10x", 150))
    yield Shown("ready-view", here, ReadyView(ROUND, "ant", "my_view", "2x", 20))
    yield Shown("round", here, RoundView(ROUND, BICYCLE, 200, 200_000))
    yield Shown("round-fresh", here, RoundView(ROUND, LONG, 100, 73_000, entered, 2, ("radical", "rebel")))
    yield Shown("round-view", here, RoundView(ROUND, VIEWED, None, None))
    yield Shown("round-hint", here, RoundView(ROUND, QuestionView("ant", "light", hint="of little weight"), 100, 90_000))
    yield Shown("judge", here, JudgeView(ROUND, "mero", pairs, 200, 200_000))
    yield Shown("judge-calm", here, JudgeView(ROUND, "syn", pairs[:2], None, None))


def _reports() -> Iterator[Shown]:
    here = page("Your round", "/rounds/x/report")
    first = replace(
        report(), pioneer=40, provisional=True, n_others=2, top=(), missed=(), only_you=(), guessed=None, capped=True
    )
    yield Shown("report", replace(here, simulated=True), report())
    yield Shown("report-first", here, first)
    yield Shown("report-view", here, ReportView(ROUND, VIEWED, 20, (AnswerView(0, "robin"),), view_points=20))
    yield Shown("report-nothing", here, ReportView(ROUND, LONG, 0))
    yield Shown("judge-report", here, judged())
    yield Shown("judge-nothing", here, JudgeReportView(ROUND, "mero", 0, 0, 0, capped=True))


def _people() -> Iterator[Shown]:
    taken = (FormError("handle", "Somebody has this name already; try another."),)
    refused = (FormError("", "That name and password do not belong together."),)
    unsaid = (FormError("confirm", "That was not the word."),)
    me = MeView("anna_words", "account", "1x", True, CONSENTS, AdapterView("too_little", 63), 96, 18214, 7)
    guest = MeView("guest", "guest", "10x", False, CONSENTS[:3], AdapterView("no_consent"), expires="2 April", errors=unsaid)
    seen = page("How you see words", "/me/words", ANNA)
    yield Shown("leaderboard", page("Ranks", "/leaderboard", ANNA), leaderboard())
    yield Shown("leaderboard-listed", page("Ranks", "/leaderboard", ANNA), replace(leaderboard(), listed=True))
    yield Shown("leaderboard-empty", page("Ranks", "/leaderboard", None), LeaderboardView((BoardView("mean"),)))
    yield Shown("signup", page("Sign up", "/signup"), SignupView("mo", taken, 3))
    yield Shown("login", page("Log in", "/login", None), LoginView("mo", refused))
    yield Shown("me", page("You", "/me", ANNA, notices=("Saved.",)), me)
    yield Shown("me-guest", page("You", "/me"), guest)
    yield Shown("mirror", seen, mirror())
    yield Shown("mirror-empty", seen, MirrorView(AdapterView("no_consent"), n_rounds=3))
    for state in ("possible", "waiting", "training", "not_better", "failed"):
        adapter = AdapterView(state, 130, personal=48, population=52)
        yield Shown(f"mirror-{state}", seen, MirrorView(adapter, retest=RetestView(3, 40, 38, False)))


def _standing() -> Iterator[Shown]:
    yield Shown("how", page("How to play", "/how", None), HowView())
    yield Shown("about", page("About & privacy", "/about", None), AboutView("The people of idiolect, mail@example.org"))
    for status in (400, 403, 404, 405, 409, 410, 413, 422, 429, 500, 503):
        yield Shown(f"error-{status}", page(str(status), "/x"), wording.error_view(status))


def _moderating() -> Iterator[Shown]:
    yield Shown("mod-empty", page("Moderation", "/mod", MODERATOR), ModView("audit"))
    for name, view in mod_views().items():
        yield Shown(f"mod-{name}", page("Moderation", f"/mod/{name}", MODERATOR), view)


_LITERAL = {"kind", "state", "relation", "mode", "timing", "status", "verdict", "section", "name", "challenge", "href", "field"}
_IN_ADDRESSES = {"round_id", "pair_id", "id", "path", "open_round"}


def hostile(shown: Shown, text: str) -> Shown:
    """The same page with this text in place of every text that a person or a word list could have written."""
    return Shown(f"{shown.name}-hostile", _with(shown.page, text), _with(shown.view, text))


def _with(value: Any, text: str) -> Any:
    if isinstance(value, str):
        return text
    if isinstance(value, tuple):
        return tuple(_with(item, text) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        kept = _LITERAL | _IN_ADDRESSES | {"relations", "waiting"}
        changed = {f.name: _with(getattr(value, f.name), text) for f in fields(value) if f.name not in kept}
        return replace(value, **changed)
    return value


@contextmanager
def served(pages: list[Shown]) -> Iterator[str]:
    """A little server of these pages under the real policy; every other address answers with a page that says so."""
    documents = {f"/{shown.name}": shown.html() for shown in pages}
    image = picture.draw(picture.picture_of(report()))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path.startswith("/static/"):
                self._send(_static(path.removeprefix("/static/")))
            elif path.endswith("/picture.svg"):
                self._send((image.encode(), "image/svg+xml"))
            else:
                self._send((documents.get(path, "<!doctype html><title>none</title>").encode(), "text/html; charset=utf-8"))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
            received.append((self.path, body))
            json = ('{"status": "accepted"}', "application/json")
            reply = json if self.path.endswith("/answers") else ("<!doctype html><title>posted</title>", "text/html")
            self._send((reply[0].encode(), reply[1]))

        def _send(self, found: tuple[bytes, str]) -> None:
            self.send_response(200)
            self.send_header("Content-Type", found[1])
            self.send_header("Content-Length", str(len(found[0])))
            self.send_header("Content-Security-Policy", rendering.CSP)
            self.end_headers()
            with suppress(ConnectionError):  # The browser has gone on to the next page.
                self.wfile.write(found[0])

        def log_message(self, format: str, *args: Any) -> None:
            pass

    received.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


received: list[tuple[str, str]] = []
"""(address, body) of what was posted to `served`."""


def _static(name: str) -> tuple[bytes, str]:
    kinds = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    file: Traversable = rendering.STATIC / name
    return file.read_bytes(), kinds[name.rpartition(".")[2]]


def main(folder: Path, only: list[str]) -> None:
    from playwright.sync_api import sync_playwright

    pages = [shown for shown in gallery() if not only or shown.name in only]
    folder.mkdir(parents=True, exist_ok=True)
    with served(pages) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for scheme in ("light", "dark"):
            for width, height in ((360, 740), (768, 1024), (1280, 800)):
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
                tab = context.new_page()
                for shown in pages:
                    tab.goto(f"{address}/{shown.name}")
                    tab.screenshot(path=folder / f"{shown.name}-{width}-{scheme}.png", full_page=True, animations="disabled")
                context.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
