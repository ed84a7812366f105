"""The schema's version, and the steps that bring an older database up to date."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    insert,
    inspect,
    select,
    update,
)

from bandit_router.errors import InvalidInput
from bandit_router.store.schema import head, metadata, schema_version


def _create(connection: Connection) -> None:
    """Version 1: everything."""
    metadata.create_all(connection)
    connection.execute(insert(schema_version).values(version=1))
    connection.execute(insert(head).values(id=1, position=0, closed_s=0.0))


def _spending(connection: Connection) -> None:
    """Version 2: what budgets spend. Does nothing where version 1 was created with it."""
    added, number = MetaData(), BigInteger().with_variant(Integer, "sqlite")
    Table(
        "spending",
        added,
        Column("id", number, primary_key=True, autoincrement=True),
        *(Column(name, Text, nullable=False) for name in ("event_id", "channels", "process")),
        Column("body", LargeBinary, nullable=False),
        UniqueConstraint("event_id", "channels"),
        sqlite_autoincrement=True,
    )
    Table(
        "budget_states",
        added,
        Column("position", number, primary_key=True, autoincrement=False),
        Column("body", LargeBinary, nullable=False),
    )
    added.create_all(connection)


def _whose(connection: Connection) -> None:
    """Version 3: whose request a decision was, for queries. Does nothing where version 1 was created with it."""
    there = {column["name"] for column in inspect(connection).get_columns("decisions")}
    for name in {"tenant", "unit"} - there:
        connection.exec_driver_sql(f"ALTER TABLE decisions ADD COLUMN {name} TEXT")


def _origin(connection: Connection) -> None:
    """Version 4: checksums of rows, and where the log begins. Does nothing where version 1 was created with it."""
    for table, column in (("decisions", "crc"), ("log", "crc"), ("head", "origin")):
        there = {found["name"] for found in inspect(connection).get_columns(table)}
        if column not in there:
            rule = " NOT NULL DEFAULT 0" if column == "origin" else ""
            connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {column} BIGINT{rule}")


def _operations(connection: Connection) -> None:
    """Version 5: what operators changed. Does nothing where version 1 was created with it."""
    added, number = MetaData(), BigInteger().with_variant(Integer, "sqlite")
    Table(
        "operations",
        added,
        Column("id", number, primary_key=True, autoincrement=True),
        Column("at_s", Float(53), nullable=False),
        *(Column(name, Text, nullable=False) for name in ("by", "name")),
        Column("before", Text),
        Column("after", Text, nullable=False),
        Column("configuration", Text),
    )
    added.create_all(connection)


def _source(connection: Connection) -> None:
    """Version 6: who reported a reward. Does nothing where version 1 was created with it."""
    if "source" not in {column["name"] for column in inspect(connection).get_columns("rewards")}:
        connection.exec_driver_sql("ALTER TABLE rewards ADD COLUMN source TEXT")


def _cooldowns(connection: Connection) -> None:
    """Version 7: arms that are left alone after failures. Does nothing where version 1 was created with it."""
    added = MetaData()
    Table(
        "cooldowns",
        added,
        Column("arm", Text, primary_key=True),
        Column("version", BigInteger, nullable=False),
        Column("body", LargeBinary, nullable=False),
    )
    added.create_all(connection)


# Step n (from 0) brings version n to n + 1. Later steps spell out their tables: `metadata` is the newest
# schema only.
STEPS: tuple[Callable[[Connection], None], ...] = (
    _create,
    _spending,
    _whose,
    _origin,
    _operations,
    _source,
    _cooldowns,
)
VERSION = len(STEPS)


def migrate(connection: Connection) -> None:
    """Create the schema or bring it up to date, in the caller's transaction.

    Raises:
        InvalidInput: the database is newer than this code.
    """
    found = version(connection)
    if found > VERSION:
        raise InvalidInput(
            f"the store has schema version {found}, this code knows {VERSION}; use a newer bandit-router"
        )
    for step in STEPS[found:]:
        step(connection)
    if found < VERSION:
        connection.execute(update(schema_version).values(version=VERSION))


def version(connection: Connection) -> int:
    """The schema version of a database, 0 for an empty one."""
    if not inspect(connection).has_table(schema_version.name):
        return 0
    return int(connection.execute(select(schema_version.c.version)).scalar_one())
