"""The tables, as the newest migration leaves them.

    people ─┬─< items            a person's history, in order of (date_key, seq)
            ├─< queries
            └─< adapters ─┬─< heads      a stack: the newest row of a person, task, base and variant is the head
                 runs ─<──┘ └─< lineage  what each adapter was made from
    doomed                               blobs and keys whose rows are gone and whose files still have to go

    pools ──< pieces >── people          what people share of their adapters; lineage says who was assembled from it
    withdrawn                            ids of pieces that somebody took back, so that no old file brings them in again
    exports ──< export_pieces            what was written to places outside the store, and would have to be removed there
    evaluations >── people               folders outside the store that hold answers to a person's queries

    person_keys >── people               which key a person's files are encrypted with; the keys themselves lie elsewhere
    settings                             what holds for the whole store, e.g. whether files are encrypted
    forgettings                          requests to forget: what is still to be done, and of finished ones only that they were

The word game has tables of its own, in game/tables.py, which hang on these.

Text that sorts is compared byte by byte on every database (PostgreSQL's "C" collation, SQLite's default), so that the
same store gives the same order everywhere.
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
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

REVISION = "0004"
"""The migration that these tables are the outcome of."""

metadata = MetaData()

# SQLite numbers rows by itself only where the key's type is spelled INTEGER.
RowId = BigInteger().with_variant(Integer(), "sqlite")
# Ids, dates and digests: compared by code point.
Name = Text().with_variant(Text(collation="C"), "postgresql")

people = Table(
    "people",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("user_id", Name, nullable=False, unique=True),
    # Kept beside the person, so that listing a million people counts no items.
    Column("n_items", Integer, nullable=False, server_default="0"),
    Column("n_queries", Integer, nullable=False, server_default="0"),
)
Index("ix_people_n_items", people.c.n_items)


def _owner(nullable: bool = False) -> Column[int]:
    return Column("person", RowId, ForeignKey("people.id", ondelete="CASCADE"), nullable=nullable)


items = Table(
    "items",
    metadata,
    Column("seq", RowId, primary_key=True),  # arrival
    _owner(),
    Column("item_id", Name, nullable=False),
    Column("date", Name),
    Column("date_key", LargeBinary, nullable=False),
    Column("body", Text, nullable=False),  # canonical JSON of the fields
    UniqueConstraint("person", "item_id", name="uq_items_person_item_id"),
)
Index("ix_items_order", items.c.person, items.c.date_key, items.c.seq)

queries = Table(
    "queries",
    metadata,
    Column("seq", RowId, primary_key=True),
    _owner(),
    Column("query_id", Name, nullable=False),
    Column("body", Text, nullable=False),  # canonical JSON of input and gold
    UniqueConstraint("person", "query_id", name="uq_queries_person_query_id"),
)

runs = Table(
    "runs",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("run_id", Name, nullable=False, unique=True),
    Column("kind", Name, nullable=False),
    Column("status", Name, nullable=False),
    Column("settings", Text, nullable=False),
    Column("summary", Text),
    Column("started", Float(53), nullable=False),  # seconds since 1970, UTC
    Column("ended", Float(53)),
)

adapters = Table(
    "adapters",
    metadata,
    Column("id", RowId, primary_key=True),  # order of publication
    Column("digest", Name, nullable=False, unique=True),
    # Two trainings of the same manifest are the same work: the first one published stays.
    Column("manifest_hash", Name, nullable=False, unique=True),
    Column("manifest", Text, nullable=False),
    Column("kind", Name, nullable=False),  # "user", "assembled": somebody's; "task": nobody's, a pooled control too
    _owner(nullable=True),
    Column("task", Name, nullable=False),
    Column("base", Name, nullable=False),
    Column("base_name", Name, nullable=False),
    Column("variant", Name, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created", Float(53), nullable=False),  # seconds since 1970, UTC
    Column("run", RowId, ForeignKey("runs.id", ondelete="SET NULL")),
    Column("stats", Text),
    CheckConstraint("(kind = 'task') = (person IS NULL)", name="ck_adapters_owner"),
)
Index("ix_adapters_key", adapters.c.person, adapters.c.task, adapters.c.base, adapters.c.variant)
Index("ix_adapters_run", adapters.c.run)

heads = Table(
    "heads",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("adapter", RowId, ForeignKey("adapters.id", ondelete="CASCADE"), nullable=False),
)
Index("ix_heads_adapter", heads.c.adapter)

lineage = Table(
    "lineage",
    metadata,
    Column("child", RowId, ForeignKey("adapters.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("kind", Name, primary_key=True),
    Column("parent", Name, primary_key=True),
    Column("owner", Name, primary_key=True, server_default=""),  # whose item it is; "" where the parent is nobody's
    sqlite_with_rowid=False,
)
Index("ix_lineage_parent", lineage.c.parent, lineage.c.kind, lineage.c.owner)
Index("ix_lineage_owner", lineage.c.owner)

doomed = Table("doomed", metadata, Column("digest", Name, primary_key=True))

pools = Table(
    "pools",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("digest", Name, nullable=False, unique=True),  # of the key
    Column("key", Text, nullable=False),  # canonical JSON of what all its pieces have in common
)

pieces = Table(
    "pieces",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("piece", BigInteger, nullable=False, unique=True),  # 63 random bits: the name by which it is shared
    Column("pool", RowId, ForeignKey("pools.id", ondelete="CASCADE"), nullable=False),
    _owner(nullable=True),
    Column("origin", Name),  # of a piece from elsewhere: digest of the file that it came in
    # Not CASCADE: a piece goes by being withdrawn, and then everything goes that was made of it.
    Column("adapter", RowId, ForeignKey("adapters.id", ondelete="SET NULL")),
    Column("module", Name, nullable=False),
    Column("digest", Name, nullable=False),  # of the body
    Column("created", Float(53), nullable=False),  # seconds since 1970, UTC
    # The last one: SQLite reads through a large value to get at what comes after it.
    Column("body", LargeBinary, nullable=False),  # float32, little-endian: A, B, gate
    CheckConstraint("(person IS NULL) <> (origin IS NULL)", name="ck_pieces_owner"),
)
Index("ix_pieces_pool", pieces.c.pool, pieces.c.module)
Index("ix_pieces_person", pieces.c.person)
Index("ix_pieces_adapter", pieces.c.adapter)

# Without row ids: kept in order of the numbers, so that neighbours tell nothing of who withdrew them together.
withdrawn = Table(
    "withdrawn",
    metadata,
    Column("piece", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

exports = Table(
    "exports",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("kind", Name, nullable=False),
    Column("digest", Name, nullable=False),  # an adapter's or a pool's; it may be gone since
    _owner(nullable=True),  # the adapter's: its export goes with the person, whatever became of the adapter
    Column("place", Text, nullable=False),
    Column("created", Float(53), nullable=False),  # seconds since 1970, UTC
    Column("stale", Integer, nullable=False, server_default="0"),  # 1: holds what was withdrawn
    CheckConstraint("kind IN ('adapter', 'pool')", name="ck_exports_kind"),
)
Index("ix_exports_digest", exports.c.digest)
Index("ix_exports_person", exports.c.person)

export_pieces = Table(
    "export_pieces",
    metadata,
    Column("export", RowId, ForeignKey("exports.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("piece", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
Index("ix_export_pieces_piece", export_pieces.c.piece)

evaluations = Table(
    "evaluations",
    metadata,
    Column("id", RowId, primary_key=True),
    _owner(),
    Column("place", Text, nullable=False),
    Column("created", Float(53), nullable=False),  # seconds since 1970, UTC
)
Index("ix_evaluations_person", evaluations.c.person)

person_keys = Table(
    "person_keys",
    metadata,
    Column("person", RowId, ForeignKey("people.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("key", Name, nullable=False, unique=True),  # names a file of the keyring
)

settings = Table(
    "settings",
    metadata,
    Column("name", Name, primary_key=True),
    Column("value", Text, nullable=False),
)

forgettings = Table(
    "forgettings",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("request", Name, nullable=False, unique=True),  # random
    # Whom and what: only while it is not finished, or nobody could go on with it.
    Column("user_id", Name),
    Column("item_id", Name),
    Column("state", Name, nullable=False),
    Column("plan", Text),
    Column("receipt", Name),  # SHA-256 of the file
    Column("began", Float(53), nullable=False),  # seconds since 1970, UTC
    Column("ended", Float(53)),
    CheckConstraint("(state = 'done') = (user_id IS NULL)", name="ck_forgettings_names"),
)
