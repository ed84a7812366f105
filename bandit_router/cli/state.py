"""`bandit-router state`: look at what a store has learned, prove it, rebuild it, carry it elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bandit_router.cli.common import (
    FAILED,
    GATE,
    INVALID_DATA,
    STORE_UNAVAILABLE,
    USAGE,
    fail,
    invalid_as,
    plain,
    print_json,
    writing,
)

if TYPE_CHECKING:
    from bandit_router.store.corrections import Corrected
    from bandit_router.store.inspection import Inspection

_SHOWN = 10
_HELP = "What a store has learned: show, operations, verify, rebuild, repair, prune, forget, export, import."
app = typer.Typer(help=_HELP, no_args_is_help=True)

Url = Annotated[str, typer.Argument(help="sqlite:////path/events.db or postgresql://user@host/name")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
KeyFile = Annotated[
    Path | None, typer.Option("--key-file", exists=True, dir_okay=False, help="File with the snapshot key.")
]
Exported = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="File that `export` wrote.")]
PolicyName = Annotated[str | None, typer.Option("--policy", help="Policy as `show` names it; default the only one.")]


@contextmanager
def _open(url: str, key_file: Path | None) -> Iterator[Inspection]:
    """The store, with its errors turned into messages and exit codes."""
    from sqlalchemy.exc import SQLAlchemyError

    from bandit_router.errors import InvalidInput
    from bandit_router.store.engine import store_url
    from bandit_router.store.inspection import Inspection

    with invalid_as(USAGE):
        store_url(url)
    store: Inspection | None = None
    try:
        store = Inspection(url, key=None if key_file is None else key_file.read_bytes())
        yield store
    except InvalidInput as error:
        fail(str(error), INVALID_DATA)
    except ImportError as error:
        fail(str(error), STORE_UNAVAILABLE if store is None else FAILED)
    except (SQLAlchemyError, OSError) as error:
        fail(f"the store is not available: {error}", STORE_UNAVAILABLE)
    finally:
        if store is not None:
            store.close()


@app.command()
def show(url: Url, key_file: KeyFile = None, json: Json = False) -> None:
    """Rows per table, end of the log, arms, quarantined rewards, and every snapshot with its faults."""
    with _open(url, key_file) as store:
        report = store.report()
    if json:
        return print_json(report)
    typer.echo(f"log position {report.position}, schema version {report.schema_version}")
    for title, counts in (("rows", report.rows), ("log", report.settled), ("quarantine", report.quarantine)):
        typer.echo(f"{title}: " + (", ".join(f"{name} {count}" for name, count in counts.items()) or "empty"))
    for arm in report.arms:
        typer.echo(plain(f"arm {arm.id}: {arm.status}, {arm.learned} learned"))
    for snapshot in report.snapshots:
        typer.echo(f"snapshot at {snapshot.position}: {snapshot.policy}: {snapshot.fault or 'valid'}")
    return None


@app.command()
def operations(url: Url, json: Json = False) -> None:
    """Who changed prices, rollout, limits, bills or an arm's status, when, and the value before and after."""
    with _open(url, None) as store:
        made = store.operations()
    if json:
        return print_json(made)
    import msgspec

    for one in made:
        when = datetime.fromtimestamp(one.at_s, UTC).isoformat(timespec="seconds")
        before, after = (msgspec.json.encode(value).decode() for value in (one.before, one.after))
        typer.echo(f"{when} {one.by}: {one.name}: {before} -> {after}")
    return None


@app.command()
def verify(url: Url, policy: PolicyName = None, key_file: KeyFile = None, json: Json = False) -> None:
    """Learn the whole log again and compare every snapshot with the result; exit code 3 when one differs."""
    with _open(url, key_file) as store:
        checks, lost = store.verify(policy), store.unreadable()
    if json:
        print_json(checks)
    else:
        for check in checks:
            typer.echo(f"snapshot at {check.position}: {check.fault or 'is what the log gives'}")
    _tell_unreadable(lost)
    if lost:
        fail(f"{len(lost)} log entries cannot be read; `state repair` marks them as lost", GATE)
    if any(check.fault for check in checks):
        fail("a snapshot is not what the log gives; `state rebuild` replaces it", GATE)


@app.command()
def rebuild(url: Url, policy: PolicyName = None, key_file: KeyFile = None, json: Json = False) -> None:
    """Learn the whole log from the beginning and replace the policy's snapshots by the result."""
    with _open(url, key_file) as store:
        made, lost = store.rebuild(policy), store.unreadable()
    _tell_unreadable(lost)
    print_json(made) if json else typer.echo(f"rebuilt {made.policy} at position {made.position}")


@app.command()
def repair(url: Url, json: Json = False) -> None:
    """Mark log entries that cannot be read, or have no decision, as lost: they keep their places and teach nothing."""
    with _open(url, None) as store:
        lost = store.repair()
    _tell_unreadable(lost)
    print_json({"lost": sorted(lost)}) if json else typer.echo(f"marked {len(lost)} log entries as lost")


@app.command("prune")
def prune_(
    url: Url,
    before: Annotated[datetime, typer.Option(help="Windows that closed before this day, or moment, UTC.")],
    vacuum: Annotated[bool, typer.Option("--vacuum", help="Give the room back to the disk; locks the store.")] = False,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """Drop decisions, rewards and log entries that closed before a moment; what was learned stays in the snapshots."""
    with _open(url, key_file) as store:
        done = store.prune(before.replace(tzinfo=UTC).timestamp(), vacuum=vacuum)
    if done.held_by is not None:
        typer.echo(f"more is kept for {done.held_by}: `state rebuild` gives it a newer snapshot", err=True)
    if json:
        return print_json({"dropped": done.dropped, "held_by": done.held_by})
    gone = ", ".join(f"{name} {count}" for name, count in done.dropped.items() if count)
    typer.echo(f"dropped: {gone or 'nothing'}")
    return None


@app.command()
def forget(
    url: Url,
    unit: Annotated[str, typer.Option(help="Whose decisions, as `decide(unit=)` had it.")],
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """Drop everything recorded of one unit. Sums that learned from it stay; stop or restart the routers first."""
    with _open(url, key_file) as store:
        count = store.forget(unit)
    print_json({"decisions": count}) if json else typer.echo(f"dropped {count} decisions of the unit")


@app.command("quarantine")
def quarantine_(url: Url, json: Json = False) -> None:
    """Outcomes far beyond all that was learned (suspect), and refused rewards, with the reasons."""
    with _open(url, None) as store:
        found = store.held()
    if json:
        return print_json(found)
    for one in found:
        said = {} if one.outcome is None else {name: getattr(one.outcome, name) for name in one.outcome.metered()}
        whose = "" if one.source is None else f" from {one.source!r}"
        typer.echo(f"{one.event_id!r}: {one.reason}{whose}: {said or 'unreadable'}")
    return None


@app.command()
def release(
    url: Url,
    events: Annotated[list[str], typer.Argument(help="Event ids, as `quarantine` shows them.")],
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """Learn suspect or unlearned outcomes after all; routers that run take the result over."""
    with _open(url, key_file) as store:
        _tell_corrected(store.release(events), json)


@app.command()
def unlearn(
    url: Url,
    source: Annotated[str | None, typer.Option(help="Whose rewards, as `observe(source=)` had it.")] = None,
    events: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File with one event id a line.")
    ] = None,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """Learn everything anew without some outcomes; routers that run take the result over. `release` undoes it."""
    if (source is None) == (events is None):
        fail("name --source or --events, one of them", USAGE)
    ids = [] if events is None else [line for line in events.read_text().splitlines() if line]
    with _open(url, key_file) as store:
        _tell_corrected(store.unlearn(ids, source=source), json)


def _tell_corrected(done: Corrected, json: bool) -> None:
    told = f"changed {done.changed} entries; learned anew at position {done.position}"
    print_json(done) if json else typer.echo(told)


def _tell_unreadable(lost: dict[int, str]) -> None:
    for why in list(lost.values())[:_SHOWN]:
        typer.echo(plain(why), err=True)
    if len(lost) > _SHOWN:
        typer.echo(f"and {len(lost) - _SHOWN} more", err=True)


@app.command("export")
def export_(url: Url, file: Path, policy: PolicyName = None, key_file: KeyFile = None, json: Json = False) -> None:
    """Write what the log gives to a file (safetensors, checksummed; signed with --key-file)."""
    with _open(url, key_file) as store, writing(file):
        made = store.export(file, policy)
    print_json(made) if json else typer.echo(f"wrote {made.policy} at position {made.position} to {file}")


@app.command("import")
def import_(url: Url, file: Exported, key_file: KeyFile = None, json: Json = False) -> None:
    """Replace what is learned by an exported state; an entry of the log, so that a rebuild repeats it."""
    with _open(url, key_file) as store:
        made = store.import_(file)
    if json:
        return print_json(made)
    typer.echo(f"imported at position {made.position}")
    for arm, reason in made.quarantined.items():
        typer.echo(plain(f"arm {arm} starts at its prior: {reason}"), err=True)
    return None
