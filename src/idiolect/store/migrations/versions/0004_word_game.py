"""The word game: players, rounds, answers, pairs, judgements and what goes with them.

Written out in full, not taken from the tables: a migration must do the same for ever, while the tables move on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "game_players",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("player", Name, nullable=False, unique=True),
        sa.Column("kind", Name, nullable=False),
        sa.Column("handle", Name),
        sa.Column("handle_key", Name, unique=True),
        sa.Column("password", sa.Text),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("last_played", sa.Float(53)),
        sa.Column("timing", Name, nullable=False, server_default="1x"),
        sa.Column("consent_aggregate", sa.Float(53)),
        sa.Column("consent_personal", sa.Float(53)),
        sa.Column("consent_pieces", sa.Float(53)),
        sa.Column("adult", sa.Integer, nullable=False, server_default="0"),
        sa.Column("listed", sa.Integer, nullable=False, server_default="0"),
        sa.Column("keys", sa.Integer, nullable=False, server_default="1"),
        sa.Column("trust_a", sa.Float(53), nullable=False, server_default="4"),
        sa.Column("trust_b", sa.Float(53), nullable=False, server_default="1"),
        sa.Column("state", Name, nullable=False, server_default="ok"),
        sa.Column("moderator", sa.Integer, nullable=False, server_default="0"),
        sa.Column("origin", Name),
        sa.Column("person", RowId, sa.ForeignKey("people.id", ondelete="CASCADE")),
        sa.CheckConstraint("kind IN ('guest', 'account', 'simulated')", name="ck_game_players_kind"),
        sa.CheckConstraint("(kind = 'account') = (password IS NOT NULL)", name="ck_game_players_password"),
        sa.CheckConstraint("state IN ('ok', 'limited', 'banned')", name="ck_game_players_state"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_game_players_kind", "game_players", ["kind", "created"])
    op.create_index("ix_game_players_person", "game_players", ["person"], unique=True)
    op.create_table(
        "game_sessions",
        sa.Column("token", Name, primary_key=True),
        sa.Column("player", RowId, sa.ForeignKey("game_players.id", ondelete="CASCADE"), nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("seen", sa.Float(53), nullable=False),
    )
    op.create_index("ix_game_sessions_player", "game_sessions", ["player"])
    op.create_table(
        "game_prompts",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("prompt", Name, nullable=False, unique=True),
        sa.Column("relation", Name, nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("version", Name, nullable=False),
        sa.Column("concrete", sa.Integer, nullable=False, server_default="0"),
        sa.Column("status", Name, nullable=False, server_default="active"),
        sa.Column("n_players", sa.Integer, nullable=False, server_default="0"),
        sa.Column("n_rounds", sa.Integer, nullable=False, server_default="0"),
        sa.Column("score_sum", sa.Float(53), nullable=False, server_default="0"),
        sa.Column("score_squares", sa.Float(53), nullable=False, server_default="0"),
        sa.CheckConstraint("status IN ('active', 'paused', 'retired')", name="ck_game_prompts_status"),
    )
    op.create_index("ix_game_prompts_relation", "game_prompts", ["relation", "place"])
    op.create_table(
        "game_rounds",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("round", Name, nullable=False, unique=True),
        sa.Column("player", RowId, sa.ForeignKey("game_players.id", ondelete="CASCADE"), nullable=False),
        sa.Column("prompt", RowId, sa.ForeignKey("game_prompts.id", ondelete="CASCADE")),
        sa.Column("relation", Name, nullable=False),
        sa.Column("mode", Name, nullable=False),
        sa.Column("timing", Name, nullable=False),
        sa.Column("seconds", sa.Float(53)),
        sa.Column("served_at", sa.Float(53), nullable=False),
        sa.Column("started_at", sa.Float(53)),
        sa.Column("deadline_at", sa.Float(53)),
        sa.Column("closed_at", sa.Float(53)),
        sa.Column("close_reason", Name),
        sa.Column("repeat", sa.Integer, nullable=False, server_default="0"),
        sa.Column("counts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("n_accepted", sa.Integer, nullable=False, server_default="0"),
        sa.Column("n_closed", sa.Integer),
        sa.Column("score_provisional", sa.Integer),
        sa.Column("score_final", sa.Integer),
        sa.Column("settled_at", sa.Float(53)),
        sa.Column("gained", sa.Integer, nullable=False, server_default="0"),
        sa.Column("n_agreed", sa.Integer, nullable=False, server_default="0"),
        sa.Column("bonus", sa.Integer, nullable=False, server_default="0"),
        sa.Column("beyond", sa.Integer, nullable=False, server_default="0"),
        sa.Column("rules", Name, nullable=False),
        sa.Column("flags", sa.Text, nullable=False, server_default="{}"),
        sa.CheckConstraint("(closed_at IS NULL) = (close_reason IS NULL)", name="ck_game_rounds_closed"),
        sa.CheckConstraint("mode IN ('classic', 'fresh', 'judge', 'my_view')", name="ck_game_rounds_mode"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_game_rounds_closed", "game_rounds", ["closed_at"])
    op.create_index(
        "ix_game_rounds_counts",
        "game_rounds",
        ["prompt", "player"],
        sqlite_where=sa.text("counts = 1"),
        postgresql_where=sa.text("counts = 1"),
    )
    op.create_index(
        "ix_game_rounds_open",
        "game_rounds",
        ["player"],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_index("ix_game_rounds_player", "game_rounds", ["player", "closed_at"])
    op.create_index("ix_game_rounds_prompt", "game_rounds", ["prompt", "closed_at"])
    op.create_index(
        "ix_game_rounds_unsettled",
        "game_rounds",
        ["prompt"],
        sqlite_where=sa.text("closed_at IS NOT NULL AND score_final IS NULL"),
        postgresql_where=sa.text("closed_at IS NOT NULL AND score_final IS NULL"),
    )
    op.create_table(
        "game_answers",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("round", RowId, sa.ForeignKey("game_rounds.id", ondelete="CASCADE"), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("received_at", sa.Float(53), nullable=False),
        sa.Column("ms", sa.Integer),
        sa.Column("raw", sa.Text, nullable=False),
        sa.Column("display", sa.Text, nullable=False),
        sa.Column("key", Name, nullable=False),
        sa.Column("status", Name, nullable=False),
        sa.Column("oov", sa.Integer, nullable=False, server_default="0"),
        sa.Column("review", sa.Integer, nullable=False, server_default="0"),
        sa.Column("pasted", sa.Integer, nullable=False, server_default="0"),
        sa.Column("agree", sa.Integer, nullable=False, server_default="0"),
        sa.Column("seed", sa.Integer, nullable=False, server_default="0"),
        sa.Column("rare", sa.Integer, nullable=False, server_default="0"),
        sa.Column("points", sa.Integer, nullable=False, server_default="0"),
        sa.UniqueConstraint("round", "seq", name="uq_game_answers_round_seq"),
    )
    op.create_index(
        "ix_game_answers_accepted",
        "game_answers",
        ["round", "key"],
        unique=True,
        sqlite_where=sa.text("status = 'accepted'"),
        postgresql_where=sa.text("status = 'accepted'"),
    )
    op.create_table(
        "game_pairs",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("prompt", RowId, sa.ForeignKey("game_prompts.id", ondelete="CASCADE"), nullable=False),
        sa.Column("key", Name, nullable=False),
        sa.Column("display", sa.Text, nullable=False),
        sa.Column("n_players", sa.Integer, nullable=False, server_default="0"),
        sa.Column("first_at", sa.Float(53), nullable=False),
        sa.Column("state", Name, nullable=False, server_default="candidate"),
        sa.Column("decided", Name),
        sa.Column("challenged", sa.Integer, nullable=False, server_default="0"),
        sa.Column("oov", sa.Integer, nullable=False, server_default="0"),
        sa.Column("review", sa.Integer, nullable=False, server_default="0"),
        sa.Column("yes_w", sa.Float(53), nullable=False, server_default="0"),
        sa.Column("no_w", sa.Float(53), nullable=False, server_default="0"),
        sa.Column("n_judges", sa.Integer, nullable=False, server_default="0"),
        sa.Column("p_valid", sa.Float(53), nullable=False, server_default="0.5"),
        sa.CheckConstraint("state IN ('candidate', 'validated', 'rejected', 'blocked')", name="ck_game_pairs_state"),
        sa.UniqueConstraint("prompt", "key", name="uq_game_pairs_prompt_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_game_pairs_state", "game_pairs", ["state", "n_players"])
    op.create_table(
        "game_judgements",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("round", RowId, sa.ForeignKey("game_rounds.id", ondelete="CASCADE"), nullable=False),
        sa.Column("player", RowId, sa.ForeignKey("game_players.id", ondelete="CASCADE"), nullable=False),
        sa.Column("prompt", RowId, sa.ForeignKey("game_prompts.id", ondelete="CASCADE"), nullable=False),
        sa.Column("key", Name, nullable=False),
        sa.Column("display", sa.Text, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("kind", Name, nullable=False),
        sa.Column("verdict", Name),
        sa.Column("judged_at", sa.Float(53)),
        sa.Column("ms", sa.Integer),
        sa.Column("points", sa.Integer, nullable=False, server_default="0"),
        sa.Column("provisional", sa.Integer, nullable=False, server_default="0"),
        sa.CheckConstraint(
            "kind IN ('game', 'model', 'seed', 'distractor', 'gold_pos', 'gold_neg')", name="ck_game_judgements_kind"
        ),
        sa.CheckConstraint("verdict IN ('yes', 'no', 'unsure')", name="ck_game_judgements_verdict"),
        sa.UniqueConstraint("player", "prompt", "key", name="uq_game_judgements_pair"),
        sa.UniqueConstraint("round", "seq", name="uq_game_judgements_round_seq"),
    )
    op.create_index("ix_game_judgements_pair", "game_judgements", ["prompt", "key"])
    op.create_table(
        "game_passes",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("player", RowId, sa.ForeignKey("game_players.id", ondelete="CASCADE"), nullable=False),
        sa.Column("prompt", RowId, sa.ForeignKey("game_prompts.id", ondelete="CASCADE"), nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("ms", sa.Integer),
    )
    op.create_index("ix_game_passes_player", "game_passes", ["player", "prompt"])
    op.create_index("ix_game_passes_prompt", "game_passes", ["prompt", "player"])
    op.create_table(
        "game_challenges",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("pair", RowId, sa.ForeignKey("game_pairs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("player", RowId, sa.ForeignKey("game_players.id", ondelete="CASCADE"), nullable=False),
        sa.Column("sentence", sa.Text, nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("status", Name, nullable=False, server_default="open"),
        sa.Column("decided_at", sa.Float(53)),
        sa.CheckConstraint("status IN ('open', 'accepted', 'denied')", name="ck_game_challenges_status"),
        sa.UniqueConstraint("pair", "player", name="uq_game_challenges_pair_player"),
    )
    op.create_index("ix_game_challenges_player", "game_challenges", ["player"])
    op.create_table(
        "game_complaints",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("pair", RowId, sa.ForeignKey("game_pairs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("player", RowId, sa.ForeignKey("game_players.id", ondelete="CASCADE"), nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("status", Name, nullable=False, server_default="open"),
        sa.CheckConstraint("status IN ('open', 'upheld', 'dismissed')", name="ck_game_complaints_status"),
        sa.UniqueConstraint("pair", "player", name="uq_game_complaints_pair_player"),
    )
    op.create_index("ix_game_complaints_player", "game_complaints", ["player"])
    op.create_table(
        "game_notices",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("player", RowId, sa.ForeignKey("game_players.id", ondelete="CASCADE"), nullable=False),
        sa.Column("kind", Name, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("seen_at", sa.Float(53)),
    )
    op.create_index("ix_game_notices_player", "game_notices", ["player"])
    op.create_table(
        "game_portraits",
        sa.Column("player", RowId, sa.ForeignKey("game_players.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("body", sa.Text, nullable=False, server_default="{}"),
        sa.CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')", name="ck_game_portraits_state"),
    )
    op.create_table(
        "game_removals",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("at", sa.Float(53), nullable=False),
    )
    op.create_table(
        "game_releases",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("release", Name, nullable=False, unique=True),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("rules", Name, nullable=False),
        sa.Column("k_min", sa.Integer, nullable=False),
        sa.Column("n_rows", sa.BigInteger, nullable=False),
        sa.Column("digest", Name, nullable=False),
    )
    op.create_table(
        "game_audit",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("actor", Name, nullable=False),
        sa.Column("action", Name, nullable=False),
        sa.Column("subject", Name, nullable=False),
        sa.Column("detail", sa.Text, nullable=False, server_default=""),
    )
    op.create_table(
        "game_limits",
        sa.Column("bucket", Name, primary_key=True),
        sa.Column("slot", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("ends", sa.Float(53), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_game_limits_ends", "game_limits", ["ends"])


def downgrade() -> None:
    for table in (
        "game_limits",
        "game_audit",
        "game_releases",
        "game_removals",
        "game_portraits",
        "game_notices",
        "game_complaints",
        "game_challenges",
        "game_passes",
        "game_judgements",
        "game_pairs",
        "game_answers",
        "game_rounds",
        "game_prompts",
        "game_sessions",
        "game_players",
    ):
        op.drop_table(table)
