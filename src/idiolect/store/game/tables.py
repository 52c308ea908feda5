"""The word game's tables, as the newest migration leaves them.

    people ──1 players ─┬─< sessions
                        ├─< rounds >── prompts ──< pairs ─┬─< challenges
                        │     ├─< answers                 └─< complaints
                        │     └─< judgements >── prompts
                        ├─< passes >── prompts
                        ├─< notices
                        └─1 portraits
    removals, releases, audit, limits     nobody's: who left (when, not who), what was published, what moderators did, rates

A player who agrees to it is a person too: their rounds become items of that person's history, and whoever deletes the person
deletes the player. Times are seconds since 1970, UTC; truth values are 0 and 1. Rows of players, rounds and pairs never get the
number of one that was deleted, so that whoever holds a number holds the same row. What is counted of a pair (players, votes,
state) can always be counted again from answers and judgements.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from idiolect.store.tables import Name, RowId, metadata


def _key(name: str, parent: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, RowId, ForeignKey(f"{parent}.id", ondelete="CASCADE"), nullable=nullable)


def _flag(name: str, default: int = 0) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=str(default))


def _time(name: str, *, nullable: bool = False) -> Column[float]:
    return Column(name, Float(53), nullable=nullable)


players = Table(
    "game_players",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("player", Name, nullable=False, unique=True),  # random
    Column("kind", Name, nullable=False),
    Column("handle", Name),  # as it is shown
    Column("handle_key", Name, unique=True),  # folded: what has to be unique
    Column("password", Text),  # Argon2id, salt and all
    _time("created"),
    _time("last_played", nullable=True),
    Column("timing", Name, nullable=False, server_default="1x"),
    # Since when each was given; null where it was not.
    _time("consent_aggregate", nullable=True),
    _time("consent_personal", nullable=True),
    _time("consent_pieces", nullable=True),
    _flag("adult"),  # says to be 16 or older; nobody else is offered an adapter
    _flag("listed"),
    _flag("keys", 1),  # single-letter keys in Nym or Not
    Column("trust_a", Float(53), nullable=False, server_default="4"),
    Column("trust_b", Float(53), nullable=False, server_default="1"),
    Column("state", Name, nullable=False, server_default="ok"),
    _flag("moderator"),
    # Where they came from first: a keyed hash of the network; null where it says nothing (this machine's own).
    Column("origin", Name),
    _key("person", "people", nullable=True),
    CheckConstraint("kind IN ('guest', 'account', 'simulated')", name="ck_game_players_kind"),
    CheckConstraint("state IN ('ok', 'limited', 'banned')", name="ck_game_players_state"),
    CheckConstraint("(kind = 'account') = (password IS NOT NULL)", name="ck_game_players_password"),
    sqlite_autoincrement=True,
)
Index("ix_game_players_person", players.c.person, unique=True)
Index("ix_game_players_kind", players.c.kind, players.c.created)

sessions = Table(
    "game_sessions",
    metadata,
    Column("token", Name, primary_key=True),  # SHA-256 of the cookie
    _key("player", "game_players"),
    _time("created"),
    _time("seen"),
)
Index("ix_game_sessions_player", sessions.c.player)

prompts = Table(
    "game_prompts",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("prompt", Name, nullable=False, unique=True),  # relation:key
    Column("relation", Name, nullable=False),
    Column("place", Integer, nullable=False),  # in the relation's list
    Column("version", Name, nullable=False),  # of the vocabulary that brought it
    _flag("concrete"),
    Column("status", Name, nullable=False, server_default="active"),
    # Of real players' rounds, so that choosing a base word counts nothing; `recount` makes them again.
    _flag("n_players"),  # those with a round that counts
    _flag("n_rounds"),  # closed, and not skipped
    Column("score_sum", Float(53), nullable=False, server_default="0"),
    Column("score_squares", Float(53), nullable=False, server_default="0"),
    CheckConstraint("status IN ('active', 'paused', 'retired')", name="ck_game_prompts_status"),
)
Index("ix_game_prompts_relation", prompts.c.relation, prompts.c.place)

rounds = Table(
    "game_rounds",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("round", Name, nullable=False, unique=True),  # random, the name in addresses
    _key("player", "game_players"),
    _key("prompt", "game_prompts", nullable=True),  # null: Nym or Not, which asks about several
    Column("relation", Name, nullable=False),
    Column("mode", Name, nullable=False),
    Column("timing", Name, nullable=False),
    Column("seconds", Float(53)),  # null: no limit
    _time("served_at"),
    _time("started_at", nullable=True),
    _time("deadline_at", nullable=True),
    _time("closed_at", nullable=True),
    Column("close_reason", Name),
    _flag("repeat"),  # a base word that came back: kept to compare, counted for nobody
    _flag("counts"),  # the player's first Classic or Fresh round on it that holds an accepted answer, and not mostly pasted
    _flag("n_accepted"),
    Column("n_closed", Integer),  # rounds on the base word that were closed when this one was
    Column("score_provisional", Integer),
    Column("score_final", Integer),
    _time("settled_at", nullable=True),
    _flag("gained"),
    _flag("n_agreed"),
    _flag("bonus"),  # for accepted challenges
    _flag("beyond"),  # more rounds than count in one day: not in totals
    Column("rules", Name, nullable=False),  # version of the rules
    Column("flags", Text, nullable=False, server_default="{}"),
    CheckConstraint("mode IN ('classic', 'fresh', 'judge', 'my_view')", name="ck_game_rounds_mode"),
    CheckConstraint("(closed_at IS NULL) = (close_reason IS NULL)", name="ck_game_rounds_closed"),
    sqlite_autoincrement=True,
)
Index("ix_game_rounds_prompt", rounds.c.prompt, rounds.c.closed_at)
Index(
    "ix_game_rounds_counts",
    rounds.c.prompt,
    rounds.c.player,
    sqlite_where=text("counts = 1"),
    postgresql_where=text("counts = 1"),
)
Index("ix_game_rounds_player", rounds.c.player, rounds.c.closed_at)
Index("ix_game_rounds_closed", rounds.c.closed_at)
Index(
    "ix_game_rounds_open",
    rounds.c.player,
    unique=True,
    sqlite_where=text("closed_at IS NULL"),
    postgresql_where=text("closed_at IS NULL"),
)
Index(
    "ix_game_rounds_unsettled",
    rounds.c.prompt,
    sqlite_where=text("closed_at IS NOT NULL AND score_final IS NULL"),
    postgresql_where=text("closed_at IS NOT NULL AND score_final IS NULL"),
)

answers = Table(
    "game_answers",
    metadata,
    Column("id", RowId, primary_key=True),
    _key("round", "game_rounds"),
    Column("seq", Integer, nullable=False),
    _time("received_at"),
    Column("ms", Integer),  # since the start, by the player's browser; null without JavaScript
    Column("raw", Text, nullable=False),  # the first 80 characters
    Column("display", Text, nullable=False),
    Column("key", Name, nullable=False),
    Column("status", Name, nullable=False),
    _flag("oov"),
    _flag("review"),
    _flag("pasted"),
    _flag("agree"),
    _flag("seed"),
    _flag("rare"),
    _flag("points"),
    UniqueConstraint("round", "seq", name="uq_game_answers_round_seq"),
)
Index(
    "ix_game_answers_accepted",
    answers.c.round,
    answers.c.key,
    unique=True,
    sqlite_where=text("status = 'accepted'"),
    postgresql_where=text("status = 'accepted'"),
)

pairs = Table(
    "game_pairs",
    metadata,
    Column("id", RowId, primary_key=True),
    _key("prompt", "game_prompts"),
    Column("key", Name, nullable=False),
    Column("display", Text, nullable=False),  # the form that most players gave
    _flag("n_players"),  # real ones
    _time("first_at"),
    Column("state", Name, nullable=False, server_default="candidate"),
    Column("decided", Name),  # how a moderator decided: "shown", "blocked"; null: nobody did
    _flag("challenged"),  # a challenge was accepted
    _flag("oov"),
    _flag("review"),  # waits for a moderator, whoever gave it
    Column("yes_w", Float(53), nullable=False, server_default="0"),
    Column("no_w", Float(53), nullable=False, server_default="0"),
    _flag("n_judges"),
    Column("p_valid", Float(53), nullable=False, server_default="0.5"),
    UniqueConstraint("prompt", "key", name="uq_game_pairs_prompt_key"),
    CheckConstraint("state IN ('candidate', 'validated', 'rejected', 'blocked')", name="ck_game_pairs_state"),
    sqlite_autoincrement=True,
)
Index("ix_game_pairs_state", pairs.c.state, pairs.c.n_players)

judgements = Table(
    "game_judgements",
    metadata,
    Column("id", RowId, primary_key=True),
    _key("round", "game_rounds"),
    _key("player", "game_players"),
    _key("prompt", "game_prompts"),
    Column("key", Name, nullable=False),
    Column("display", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("kind", Name, nullable=False),
    Column("verdict", Name),  # null: not judged yet
    _time("judged_at", nullable=True),
    Column("ms", Integer),
    _flag("points"),
    _flag("provisional"),
    UniqueConstraint("round", "seq", name="uq_game_judgements_round_seq"),
    UniqueConstraint("player", "prompt", "key", name="uq_game_judgements_pair"),
    CheckConstraint("kind IN ('game', 'model', 'seed', 'distractor', 'gold_pos', 'gold_neg')", name="ck_game_judgements_kind"),
    CheckConstraint("verdict IN ('yes', 'no', 'unsure')", name="ck_game_judgements_verdict"),
)
Index("ix_game_judgements_pair", judgements.c.prompt, judgements.c.key)

passes = Table(
    "game_passes",
    metadata,
    Column("id", RowId, primary_key=True),
    _key("player", "game_players"),
    _key("prompt", "game_prompts"),
    _time("at"),
    Column("ms", Integer),
)
Index("ix_game_passes_player", passes.c.player, passes.c.prompt)
Index("ix_game_passes_prompt", passes.c.prompt, passes.c.player)

challenges = Table(
    "game_challenges",
    metadata,
    Column("id", RowId, primary_key=True),
    _key("pair", "game_pairs"),
    _key("player", "game_players"),
    Column("sentence", Text, nullable=False),  # at most 140 characters
    _time("at"),
    Column("status", Name, nullable=False, server_default="open"),
    _time("decided_at", nullable=True),
    UniqueConstraint("pair", "player", name="uq_game_challenges_pair_player"),
    CheckConstraint("status IN ('open', 'accepted', 'denied')", name="ck_game_challenges_status"),
)
Index("ix_game_challenges_player", challenges.c.player)

complaints = Table(
    "game_complaints",
    metadata,
    Column("id", RowId, primary_key=True),
    _key("pair", "game_pairs"),
    _key("player", "game_players"),
    _time("at"),
    Column("status", Name, nullable=False, server_default="open"),
    UniqueConstraint("pair", "player", name="uq_game_complaints_pair_player"),
    CheckConstraint("status IN ('open', 'upheld', 'dismissed')", name="ck_game_complaints_status"),
)
Index("ix_game_complaints_player", complaints.c.player)

notices = Table(
    "game_notices",
    metadata,
    Column("id", RowId, primary_key=True),
    _key("player", "game_players"),
    Column("kind", Name, nullable=False),
    Column("body", Text, nullable=False),  # JSON of numbers and ids, never of anyone's words
    _time("at"),
    _time("seen_at", nullable=True),
)
Index("ix_game_notices_player", notices.c.player)

portraits = Table(
    "game_portraits",
    metadata,
    Column("player", RowId, ForeignKey("game_players.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("state", Name, nullable=False),
    _time("at"),
    Column("body", Text, nullable=False, server_default="{}"),
    CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')", name="ck_game_portraits_state"),
)

removals = Table("game_removals", metadata, Column("id", RowId, primary_key=True), _time("at"))

releases = Table(
    "game_releases",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("release", Name, nullable=False, unique=True),
    _time("at"),
    Column("rules", Name, nullable=False),
    Column("k_min", Integer, nullable=False),
    Column("n_rows", BigInteger, nullable=False),
    Column("digest", Name, nullable=False),  # SHA-256 of its list of checksums
)

audit = Table(
    "game_audit",
    metadata,
    Column("id", RowId, primary_key=True),
    _time("at"),
    Column("actor", Name, nullable=False),  # "player" and a row, or "rules"
    Column("action", Name, nullable=False),
    Column("subject", Name, nullable=False),  # e.g. "pair 12", never words
    Column("detail", Text, nullable=False, server_default=""),
)

limits = Table(
    "game_limits",
    metadata,
    Column("bucket", Name, primary_key=True),  # what and who, hashed where it is an address
    Column("slot", BigInteger, primary_key=True, autoincrement=False),  # which stretch of time
    Column("n", Integer, nullable=False),
    _time("ends"),
    sqlite_with_rowid=False,
)
Index("ix_game_limits_ends", limits.c.ends)

TABLES = (
    players, sessions, prompts, rounds, answers, pairs, judgements, passes, challenges, complaints, notices, portraits,
    removals, releases, audit, limits,
)  # fmt: skip
"""In the order in which they can be made."""
