"""Pools of pieces, what was withdrawn from them, and what was exported.

Written out in full, not taken from `tables`: a migration must do the same for ever, while the tables move on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _pools() -> None:
    op.create_table(
        "pools",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("digest", Name, nullable=False, unique=True),
        sa.Column("key", sa.Text, nullable=False),
    )
    op.create_table(
        "pieces",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("piece", sa.BigInteger, nullable=False, unique=True),
        sa.Column("pool", RowId, sa.ForeignKey("pools.id", ondelete="CASCADE"), nullable=False),
        sa.Column("person", RowId, sa.ForeignKey("people.id", ondelete="CASCADE")),
        sa.Column("origin", Name),
        sa.Column("adapter", RowId, sa.ForeignKey("adapters.id", ondelete="SET NULL")),
        sa.Column("module", Name, nullable=False),
        sa.Column("digest", Name, nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.CheckConstraint("(person IS NULL) <> (origin IS NULL)", name="ck_pieces_owner"),
    )
    op.create_index("ix_pieces_pool", "pieces", ["pool", "module"])
    op.create_index("ix_pieces_person", "pieces", ["person"])
    op.create_index("ix_pieces_adapter", "pieces", ["adapter"])
    op.create_table(
        "withdrawn",
        sa.Column("piece", sa.BigInteger, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )


def _exports() -> None:
    op.create_table(
        "exports",
        sa.Column("id", RowId, primary_key=True),
        sa.Column("kind", Name, nullable=False),
        sa.Column("digest", Name, nullable=False),
        sa.Column("person", RowId, sa.ForeignKey("people.id", ondelete="CASCADE")),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("stale", sa.Integer, nullable=False, server_default="0"),
        sa.CheckConstraint("kind IN ('adapter', 'pool')", name="ck_exports_kind"),
    )
    op.create_index("ix_exports_digest", "exports", ["digest"])
    op.create_index("ix_exports_person", "exports", ["person"])
    op.create_table(
        "export_pieces",
        sa.Column("export", RowId, sa.ForeignKey("exports.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
        sa.Column("piece", sa.BigInteger, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_export_pieces_piece", "export_pieces", ["piece"])


def upgrade() -> None:
    _pools()
    _exports()


def downgrade() -> None:
    op.execute("DELETE FROM adapters WHERE kind = 'assembled'")  # nothing that 0001 could name or remake
    for table in ("export_pieces", "exports", "withdrawn", "pieces", "pools"):
        op.drop_table(table)
