"""What the pages are given: frozen values, one class a page, and `Page`, which every page has.

    router ──makes──▶ (Page, a view) ──rendering.render──▶ HTML

A view holds plain text and numbers only, and text as people typed it: escaping is the templates' work. Everything that a page
may show is decided here by who makes the view; a template never hides a word that it was given.

What pages send, besides `csrf` (forms: hidden field; scripts: header X-CSRF-Token):

    POST /rounds                         relations (repeated), mode, timing
    POST /rounds/{id}/start              nothing
    POST /rounds/{id}/answers            JSON {"seq", "text", "ms", "pasted"}, or {"seq", "remove": true}; ms since the
                                         round began. The reply is JSON {"status": …}; any 2xx means that it arrived
    POST /rounds/{id}/finish             text (repeated; empty ones mean nothing): answers that were not sent before
    POST /rounds/{id}/skip               nothing
    POST /rounds/{id}/judgements         verdict_{seq} = yes, no or unsure; ms_{seq} where scripts run; left out: not judged
    POST /rounds/{id}/correct            seq: the player meant what "did you mean" says
    POST /pairs/{id}/challenge           sentence, round (the report to go back to)
    POST /pairs/{id}/report              round
    POST /signup                         handle, password, consent_aggregate, consent_personal
    POST /login                          handle, password
    POST /me                             timing, listed (present: yes)
    POST /me/consents                    consent_aggregate, consent_personal (present: yes)
    POST /me/delete                      confirm: the handle, typed; "guest" for guests
    POST /me/adapter, POST /logout       nothing
    POST /mod/{section}/{id}             decision: one of the words that `ModView` names
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from idiolect.game.normalise import RELATIONS, Relation
from idiolect.game.score import MIN_OTHERS, Verdict

PlayMode = Literal["classic", "fresh", "nym_or_not", "my_view"]
ChosenMode = Literal["surprise", "classic", "fresh", "nym_or_not", "my_view"]
Timing = Literal["1x", "2x", "10x", "off"]
TIMINGS: tuple[Timing, ...] = ("1x", "2x", "10x", "off")

AnswerStatus = Literal["accepted", "too_long", "malformed", "echo", "blocked", "hidden", "duplicate", "late", "taboo", "pasted"]
"""What a report says of an answer. `taboo` and `pasted` ones are accepted and earn nothing; ignored ones are not shown."""


@dataclass(frozen=True)
class PlayerView:
    """Who looks at the page. A guest's handle is "guest"."""

    handle: str = "guest"
    kind: Literal["guest", "account"] = "guest"
    is_moderator: bool = False


@dataclass(frozen=True)
class Page:
    """What every page has.

    Attributes:
        csrf: the token of this session's forms.
        player: None for somebody who has not played yet.
        notices: one sentence each, shown once, above everything else.
        simulated: some of the other players here are programs; every page says so.
    """

    title: str
    path: str
    csrf: str
    player: PlayerView | None = None
    notices: tuple[str, ...] = ()
    simulated: bool = False


@dataclass(frozen=True)
class Choices:
    """What a player last chose; no relation chosen means all four.

    `may_view`: the player allowed a personal adapter, so that My view can be chosen.
    """

    relations: tuple[Relation, ...] = RELATIONS
    mode: ChosenMode = "surprise"
    timing: Timing = "1x"
    may_view: bool = False


@dataclass(frozen=True)
class HomeView:
    """`open_round`: the id of a round that is issued or open, to go on with."""

    choices: Choices = Choices()
    open_round: str | None = None


@dataclass(frozen=True)
class QuestionView:
    """A base word and what is asked of it.

    Attributes:
        word: the base word as it is shown.
        hint: its gloss, where it has more than one frequent sense.
        repeat: the player had this word before.
    """

    relation: Relation
    word: str
    mode: PlayMode = "classic"
    hint: str | None = None
    repeat: bool = False


@dataclass(frozen=True)
class ReadyView:
    """A round that was issued and not started. It does not know the word: nobody sees it before the clock runs.

    Attributes:
        seconds: that the player will have; None without a limit.
        n_items: pairs to judge, in Nym or Not.
    """

    round_id: str
    relation: Relation
    mode: PlayMode
    timing: Timing
    seconds: int | None
    n_items: int = 0


@dataclass(frozen=True)
class EnteredView:
    """An answer that has arrived, of a round that is still open (the page was loaded again)."""

    seq: int
    text: str


@dataclass(frozen=True)
class RoundView:
    """An open round.

    Attributes:
        seconds: allowed in all; None without a limit.
        remaining_ms: until the deadline, when the page is made; None without a limit.
        answers: what has arrived so far.
        next_seq: one more than the greatest `seq` that was ever used in this round.
        taboo: what a Fresh round lists.
        max_answers: the rate limit of one round.
    """

    round_id: str
    question: QuestionView
    seconds: int | None
    remaining_ms: int | None
    answers: tuple[EnteredView, ...] = ()
    next_seq: int = 0
    taboo: tuple[str, ...] = ()
    max_answers: int = 40


@dataclass(frozen=True)
class BonusView:
    """Points of an answer beside agreement."""

    kind: Literal["dictionary", "rare", "challenge"]
    points: int


@dataclass(frozen=True)
class AnswerView:
    """A row of the player's own answers.

    Attributes:
        percent: of others who gave it; None while the round is provisional, and where it says nothing (My view, echo, ...).
        pair_id: what a challenge names; None where there is no pair.
        may_challenge: 0 points, accepted, and the player has challenges left.
        challenge: what became of the player's challenge.
        meant: "did you mean", offered and not yet taken.
    """

    seq: int
    text: str
    status: AnswerStatus = "accepted"
    percent: int | None = None
    bonuses: tuple[BonusView, ...] = ()
    points: int = 0
    pair_id: str | None = None
    may_challenge: bool = False
    challenge: Literal["open", "accepted", "denied"] | None = None
    meant: str | None = None


@dataclass(frozen=True)
class CrowdAnswerView:
    """What others answered, in its most frequent form; only such as may be shown to others."""

    text: str
    percent: int
    mine: bool = False
    pair_id: str | None = None
    reported: bool = False


@dataclass(frozen=True)
class ReportView:
    """A closed round.

    Attributes:
        score: in all, as it stands now.
        pioneer: points for being among the first on this word; part of the score.
        view_points: My view's flat points; part of the score.
        provisional: to be settled when `needed` others have played.
        n_others: real others.
        n_simulated: simulated players that stand in for them while there are too few.
        answers: best first; those that earn nothing last.
        top: up to eight, most frequent first; none below `needed` others, simulated ones included.
        missed: frequent answers that the player did not give.
        only_you: accepted answers of the player that nobody else gave.
        guessed: how many of the player's answers the player's own adapter guessed, and of how many.
        capped: the day's points are used up, so this round adds nothing to the total.
        next: what the button "Next" asks for.
    """

    round_id: str
    question: QuestionView
    score: int
    answers: tuple[AnswerView, ...] = ()
    pioneer: int = 0
    view_points: int = 0
    provisional: bool = False
    n_others: int = 0
    needed: int = MIN_OTHERS
    n_simulated: int = 0
    top: tuple[CrowdAnswerView, ...] = ()
    missed: tuple[CrowdAnswerView, ...] = ()
    only_you: tuple[str, ...] = ()
    guessed: tuple[int, int] | None = None
    capped: bool = False
    next: Choices = Choices()


@dataclass(frozen=True)
class JudgeItem:
    """One pair of Nym or Not: is `text` a … of `word`? The base word changes from pair to pair."""

    seq: int
    text: str
    word: str


@dataclass(frozen=True)
class JudgeView:
    """An open round of Nym or Not, on one relation."""

    round_id: str
    relation: Relation
    items: tuple[JudgeItem, ...]
    seconds: int | None
    remaining_ms: int | None


@dataclass(frozen=True)
class JudgedView:
    """One judgement, and what others say.

    Attributes:
        yes_percent: of others' weighted votes; None without any.
        checked: scored against an answer that was checked by hand.
        provisional: points that are looked at again when there are enough votes.
    """

    seq: int
    text: str
    word: str
    verdict: Verdict
    points: int
    yes_percent: int | None = None
    n_votes: int = 0
    checked: bool = False
    provisional: bool = False


@dataclass(frozen=True)
class JudgeReportView:
    """A closed round of Nym or Not. `agreed` of `n_judged` earned points; "unsure" is not among the judged."""

    round_id: str
    relation: Relation
    score: int
    n_judged: int
    agreed: int
    rows: tuple[JudgedView, ...] = ()
    capped: bool = False
    next: Choices = Choices()


@dataclass(frozen=True)
class RankView:
    """A line of a leaderboard. Equal values share a rank; `value` is as it is shown."""

    rank: int
    handle: str
    value: str
    mine: bool = False


@dataclass(frozen=True)
class BoardView:
    """One list, and where the player stands in it (None: not in it)."""

    kind: Literal["mean", "total", "rounds", "streak"]
    rows: tuple[RankView, ...] = ()
    own: RankView | None = None
    n_players: int = 0


@dataclass(frozen=True)
class HardWordView:
    """A base word with its mean score."""

    relation: Relation
    word: str
    mean: int
    n_rounds: int


@dataclass(frozen=True)
class LeaderboardView:
    """`listed`: the player agreed to stand here; None for guests, who cannot."""

    boards: tuple[BoardView, ...]
    hardest: tuple[HardWordView, ...] = ()
    listed: bool | None = None


@dataclass(frozen=True)
class FormError:
    """What is wrong with one field, in a sentence; `field` "" is the form as a whole."""

    field: str
    text: str


@dataclass(frozen=True)
class SignupView:
    """`n_guest_rounds`: rounds that this browser's guest played, which the account would take over."""

    handle: str = ""
    errors: tuple[FormError, ...] = ()
    n_guest_rounds: int = 0
    min_password: int = 10


@dataclass(frozen=True)
class LoginView:
    """`handle`: as it was typed before."""

    handle: str = ""
    errors: tuple[FormError, ...] = ()


@dataclass(frozen=True)
class ConsentView:
    """One consent. `locked`: why it cannot be changed here, in a sentence."""

    name: Literal["play", "aggregate", "personal", "sharing"]
    given: bool
    locked: str | None = None


@dataclass(frozen=True)
class AdapterView:
    """A player's own adapter.

    Attributes:
        state: no_consent; too_little (fewer than `needed` items); possible (may be asked for); waiting and training (asked
            for); offered (it beats what most people say, and is used); not_better (it does not, so it is not used); failed.
        n_items: of the player's history.
        personal, population: share of held-out answers that the adapter, and that most people's answers, get right, in percent.
    """

    state: Literal["no_consent", "too_little", "possible", "waiting", "training", "offered", "not_better", "failed"]
    n_items: int = 0
    needed: int = 100
    personal: int | None = None
    population: int | None = None


@dataclass(frozen=True)
class MeView:
    """The player's own page. `expires`: the day on which a guest's data is deleted, as it is shown; None for accounts."""

    handle: str
    kind: Literal["guest", "account"]
    timing: Timing
    listed: bool
    consents: tuple[ConsentView, ...]
    adapter: AdapterView
    n_rounds: int = 0
    total: int = 0
    streak: int = 0
    expires: str | None = None
    errors: tuple[FormError, ...] = ()


@dataclass(frozen=True)
class OwnWordsView:
    """A base word, the player's answers that (almost) nobody else gives, and those that many share."""

    question: QuestionView
    only_mine: tuple[str, ...]
    shared: tuple[str, ...] = ()


@dataclass(frozen=True)
class GuessView:
    """What was guessed of the player for one question, without and with the adapter.

    `before`, `after`: (text, whether the player said it); `after` is empty without an adapter.
    """

    question: QuestionView
    own: tuple[str, ...]
    before: tuple[tuple[str, bool], ...]
    after: tuple[tuple[str, bool], ...] = ()


@dataclass(frozen=True)
class RetestView:
    """How alike two rounds on one word are, in percent (mean Jaccard): of the player twice, and of two players.

    `is_clear`: the difference holds beyond chance.
    """

    n_pairs: int
    own: int
    others: int
    is_clear: bool


@dataclass(frozen=True)
class MirrorView:
    """How the player sees words. Empty where nothing is known yet."""

    adapter: AdapterView
    words: tuple[OwnWordsView, ...] = ()
    guesses: tuple[GuessView, ...] = ()
    retest: RetestView | None = None
    n_rounds: int = 0


@dataclass(frozen=True)
class HowView:
    """How to play. No fields: the rules are the page."""


@dataclass(frozen=True)
class AboutView:
    """About and privacy. `contact`: where a person answers, as the operator gave it; None if they gave none."""

    contact: str | None = None


@dataclass(frozen=True)
class ModChallenge:
    """Decisions: accept, deny."""

    id: str
    relation: Relation
    word: str
    answer: str
    sentence: str
    by: str
    at: str


@dataclass(frozen=True)
class ModReport:
    """A pair that players reported. Decisions: keep, block."""

    id: str
    relation: Relation
    word: str
    answer: str
    n_reports: int
    hidden: bool


@dataclass(frozen=True)
class ModWord:
    """A display form that waits to be shown to others. Decisions: show, block, slur."""

    id: str
    relation: Relation
    word: str
    display: str
    key: str
    n_players: int


@dataclass(frozen=True)
class ModCandidate:
    """A base word that is skipped a lot. Decisions: retire, keep."""

    id: str
    relation: Relation
    word: str
    n_passes: int
    n_plays: int


@dataclass(frozen=True)
class ModPlayer:
    """A player with flags. Decisions: limit, ban, clear. `trust` in percent."""

    id: str
    handle: str
    state: Literal["ok", "limited", "banned"]
    trust: int
    n_rounds: int
    flags: tuple[str, ...]


@dataclass(frozen=True)
class ModAudit:
    """One line of the audit log."""

    at: str
    actor: str
    action: str
    object: str
    detail: str


ModSection = Literal["challenges", "reports", "words", "candidates", "players", "audit"]
MOD_SECTIONS: tuple[ModSection, ...] = ("challenges", "reports", "words", "candidates", "players", "audit")
ModItem = ModChallenge | ModReport | ModWord | ModCandidate | ModPlayer | ModAudit


@dataclass(frozen=True)
class ModView:
    """One section of moderation (GET /mod is "challenges", GET /mod/{section} any), and how much waits in each.

    All items are of the section's class: ModChallenge, ModReport, ModWord, ModCandidate, ModPlayer, ModAudit, in that order.
    """

    section: ModSection
    items: tuple[ModItem, ...] = ()
    waiting: dict[ModSection, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ErrorView:
    """Something went wrong. `sentence` says what, for a person; `wording.error_view` has one for every status."""

    status: int
    heading: str
    sentence: str
    href: str = "/"
    label: str = "Back to the start"
