"""Rows of the word game as its rules see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["guest", "account", "simulated"]


@dataclass(frozen=True, slots=True)
class PlayerRow:
    """A player. `key` is the row, `player` the random name; consents say since when they were given."""

    key: int
    player: str
    kind: Kind
    handle: str | None
    password: str | None
    created: float
    last_played: float | None
    timing: str
    consent_aggregate: float | None
    consent_personal: float | None
    consent_pieces: float | None
    adult: bool
    listed: bool
    keys: bool
    trust_a: float
    trust_b: float
    state: Literal["ok", "limited", "banned"]
    moderator: bool
    person: int | None

    @property
    def trust(self) -> float:
        return self.trust_a / (self.trust_a + self.trust_b)

    @property
    def is_real(self) -> bool:
        return self.kind != "simulated"


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A base word of one relation, and how it was played by real players."""

    key: int
    prompt: str
    relation: str
    place: int
    concrete: bool
    status: Literal["active", "paused", "retired"]
    n_players: int
    n_rounds: int
    score_sum: float
    score_squares: float

    @property
    def mean(self) -> float:
        return self.score_sum / self.n_rounds if self.n_rounds else 0.0


@dataclass(frozen=True, slots=True)
class RoundRow:
    """A round; `prompt` is None in Nym or Not. Times are seconds since 1970, UTC."""

    key: int
    round: str
    player: int
    prompt: int | None
    relation: str
    mode: Literal["classic", "fresh", "judge", "my_view"]
    timing: str
    seconds: float | None
    served_at: float
    started_at: float | None
    deadline_at: float | None
    closed_at: float | None
    close_reason: str | None
    repeat: bool
    counts: bool
    n_accepted: int
    n_closed: int | None
    score_provisional: int | None
    score_final: int | None
    settled_at: float | None
    gained: int
    n_agreed: int
    bonus: int
    beyond: bool
    rules: str
    flags: Mapping[str, Any]

    @property
    def score(self) -> int:
        """What stands now."""
        return (self.score_final if self.score_final is not None else self.score_provisional or 0) + self.bonus


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """One answer of a round."""

    key_: int
    seq: int
    received_at: float
    ms: int | None
    raw: str
    display: str
    key: str
    status: str
    oov: bool
    review: bool
    pasted: bool
    agree: int
    seed: int
    rare: int
    points: int


@dataclass(frozen=True, slots=True)
class PairRow:
    """A base word and an answer to it, with what is known of the two."""

    key_: int
    prompt: int
    key: str
    display: str
    n_players: int
    first_at: float
    state: Literal["candidate", "validated", "rejected", "blocked"]
    decided: str | None
    challenged: bool
    oov: bool
    review: bool
    yes_w: float
    no_w: float
    n_judges: int
    p_valid: float


@dataclass(frozen=True, slots=True)
class Given:
    """What others answered on one base word: how many real and simulated players, and how many of each gave a key."""

    n_real: int
    n_simulated: int
    real: Mapping[str, int]
    simulated: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class NoticeRow:
    """Something that happened to a player while they were away; numbers and ids only."""

    key: int
    kind: str
    body: Mapping[str, Any]
    at: float
