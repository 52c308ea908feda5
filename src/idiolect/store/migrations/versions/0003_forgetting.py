"""Requests to forget, keys of people's files, and folders that evaluations were written to.

Written out in full, not taken from `tables`: a migration must do the same for ever, while the tables move on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "evaluations",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("person", RowId, sa.ForeignKey("people.id", ondelete="CASCADE"), nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
    )
    op.create_index("ix_evaluations_person", "evaluations", ["person"])
    op.create_table(
        "person_keys",
        sa.Column("person", RowId, sa.ForeignKey("people.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
        sa.Column("key", Name, nullable=False, unique=True),
    )
    op.create_table("settings", sa.Column("name", Name, primary_key=True), sa.Column("value", sa.Text, nullable=False))
    op.create_table(
        "forgettings",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("request", Name, nullable=False, unique=True),
        sa.Column("user_id", Name),
        sa.Column("item_id", Name),
        sa.Column("state", Name, nullable=False),
        sa.Column("plan", sa.Text),
        sa.Column("receipt", Name),
        sa.Column("began", sa.Float(53), nullable=False),
        sa.Column("ended", sa.Float(53)),
        sa.CheckConstraint("(state = 'done') = (user_id IS NULL)", name="ck_forgettings_names"),
    )


def downgrade() -> None:
    for table in ("forgettings", "settings", "person_keys", "evaluations"):
        op.drop_table(table)
