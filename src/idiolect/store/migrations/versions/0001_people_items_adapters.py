"""People, items, queries, runs, adapters, heads, lineage.

Written out in full, not taken from `tables`: a migration must do the same for ever, while the tables move on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _person(nullable: bool = False) -> sa.Column[int]:
    return sa.Column("person", RowId, sa.ForeignKey("people.id", ondelete="CASCADE"), nullable=nullable)


def _histories() -> None:
    op.create_table(
        "people",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("user_id", Name, nullable=False, unique=True),
        sa.Column("n_items", sa.Integer, nullable=False, server_default="0"),
        sa.Column("n_queries", sa.Integer, nullable=False, server_default="0"),
    )
    op.create_index("ix_people_n_items", "people", ["n_items"])
    op.create_table(
        "items",
        sa.Column("seq", RowId, primary_key=True),
        _person(),
        sa.Column("item_id", Name, nullable=False),
        sa.Column("date", Name),
        sa.Column("date_key", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.UniqueConstraint("person", "item_id", name="uq_items_person_item_id"),
    )
    op.create_index("ix_items_order", "items", ["person", "date_key", "seq"])
    op.create_table(
        "queries",
        sa.Column("seq", RowId, primary_key=True),
        _person(),
        sa.Column("query_id", Name, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.UniqueConstraint("person", "query_id", name="uq_queries_person_query_id"),
    )


def _adapters() -> None:
    op.create_table(
        "runs",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("run_id", Name, nullable=False, unique=True),
        sa.Column("kind", Name, nullable=False),
        sa.Column("status", Name, nullable=False),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("summary", sa.Text),
        sa.Column("started", sa.Float(53), nullable=False),
        sa.Column("ended", sa.Float(53)),
    )
    op.create_table(
        "adapters",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("digest", Name, nullable=False, unique=True),
        sa.Column("manifest_hash", Name, nullable=False, unique=True),
        sa.Column("manifest", sa.Text, nullable=False),
        sa.Column("kind", Name, nullable=False),
        _person(nullable=True),
        sa.Column("task", Name, nullable=False),
        sa.Column("base", Name, nullable=False),
        sa.Column("base_name", Name, nullable=False),
        sa.Column("variant", Name, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("run", RowId, sa.ForeignKey("runs.id", ondelete="SET NULL")),
        sa.Column("stats", sa.Text),
        sa.CheckConstraint("(kind = 'task') = (person IS NULL)", name="ck_adapters_owner"),
    )
    op.create_index("ix_adapters_key", "adapters", ["person", "task", "base", "variant"])
    op.create_index("ix_adapters_run", "adapters", ["run"])


def _pointers() -> None:
    op.create_table(
        "heads",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("adapter", RowId, sa.ForeignKey("adapters.id", ondelete="CASCADE"), nullable=False),
    )
    op.create_index("ix_heads_adapter", "heads", ["adapter"])
    op.create_table(
        "lineage",
        sa.Column("child", RowId, sa.ForeignKey("adapters.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
        sa.Column("kind", Name, primary_key=True),
        sa.Column("parent", Name, primary_key=True),
        sa.Column("owner", Name, primary_key=True, server_default=""),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_lineage_parent", "lineage", ["parent", "kind", "owner"])
    op.create_index("ix_lineage_owner", "lineage", ["owner"])
    op.create_table("doomed", sa.Column("digest", Name, primary_key=True))


def upgrade() -> None:
    _histories()
    _adapters()
    _pointers()


def downgrade() -> None:
    for table in ("doomed", "lineage", "heads", "adapters", "runs", "queries", "items", "people"):
        op.drop_table(table)
