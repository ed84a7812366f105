"""The tables of the event store, the same on SQLite and PostgreSQL.

decisions    one row per decision; `record` is the whole of it (see `wire`), the other columns are for queries
rewards      one row per counted reward, unique by (event_id, reward_id)
early        rewards that wait for their decision
quarantine   rewards that did not count, and records of any kind that could not be written, with the reason
log          the settled log: positions from 1 without gaps, one entry per settled decision or other change of state
arms         the catalogue in order; `position` is the log entry that added the arm, 0 for the first ones
cooldowns    one row per arm that was left alone after failures; the greatest version counts
snapshots    captured states with their log position
spending     what budgets booked and were billed, in order; rows are dropped once old states of the budgets hold them
operations   what operators changed: who, when, the value before and after, and what the configuration said then
budget_states  captured states of the budgets with the id of the last row of `spending` they hold
deltas       statistics that replicas publish, unique by (policy, replica, sequence)
head         one row: where the log ends; `origin`, where it begins (what is up to there may be gone, and is in
             a snapshot of every policy); up to when windows have been closed; its row lock orders all writers
schema_version  one row

`crc` is the CRC-32 of what a row says (see `entries`), null in rows from before it was kept.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()
_Position = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER PRIMARY KEY counts up by itself in SQLite

decisions = Table(
    "decisions",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("at_s", Float(53), nullable=False),
    Column("closes_s", Float(53), nullable=False),
    Column("arm", Text, nullable=False),
    Column("propensity", Float(53), nullable=False),
    Column("mode", Text, nullable=False),
    Column("tenant", Text),
    Column("unit", Text),
    Column("record", LargeBinary, nullable=False),
    Column("crc", BigInteger),
    Index("decisions_closes", "closes_s"),
)

rewards = Table(
    "rewards",
    metadata,
    Column("id", _Position, primary_key=True, autoincrement=True),
    Column("event_id", Text, nullable=False),
    Column("reward_id", Text, nullable=False),
    Column("at_s", Float(53), nullable=False),
    Column("outcome", LargeBinary, nullable=False),
    Column("source", Text),
    UniqueConstraint("event_id", "reward_id"),
)

early = Table(
    "early",
    metadata,
    Column("id", _Position, primary_key=True, autoincrement=True),
    Column("event_id", Text, nullable=False),
    Column("at_s", Float(53), nullable=False),
    Column("reward", LargeBinary, nullable=False),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", _Position, primary_key=True, autoincrement=True),
    Column("event_id", Text, nullable=False),
    Column("reason", String(32), nullable=False),
    Column("at_s", Float(53), nullable=False),
    Column("reward", LargeBinary, nullable=False),
)

log = Table(
    "log",
    metadata,
    Column("position", _Position, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("event_id", Text, unique=True),
    Column("replica", Text, nullable=False),
    Column("learned", Boolean, nullable=False),
    Column("reward", Float(53)),
    Column("body", LargeBinary, nullable=False),
    Column("crc", BigInteger),
)

arms = Table(
    "arms",
    metadata,
    Column("index", Integer, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False, unique=True),
    Column("position", BigInteger, nullable=False),
    Column("status", String(16), nullable=False),
    Column("spec", LargeBinary, nullable=False),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("id", _Position, primary_key=True, autoincrement=True),
    Column("policy", Text, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("policy", "position"),
)

cooldowns = Table(
    "cooldowns",
    metadata,
    Column("arm", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

deltas = Table(
    "deltas",
    metadata,
    Column("policy", Text, primary_key=True),
    Column("replica", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

spending = Table(
    "spending",
    metadata,
    Column("id", _Position, primary_key=True, autoincrement=True),
    Column("event_id", Text, nullable=False),
    Column("channels", Text, nullable=False),
    Column("process", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("event_id", "channels"),
    sqlite_autoincrement=True,  # the id of a dropped row is not given out again
)

budget_states = Table(
    "budget_states",
    metadata,
    Column("position", _Position, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)

operations = Table(
    "operations",
    metadata,
    Column("id", _Position, primary_key=True, autoincrement=True),
    Column("at_s", Float(53), nullable=False),
    Column("by", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("before", Text),
    Column("after", Text, nullable=False),
    Column("configuration", Text),
)

head = Table(
    "head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, nullable=False),
    Column("closed_s", Float(53), nullable=False),
    Column("origin", BigInteger, nullable=False, server_default="0"),
)

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True, autoincrement=False))
