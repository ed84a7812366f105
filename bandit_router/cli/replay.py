"""`bandit-router replay`: what another policy would have earned on a log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bandit_router.cli import log_options as options
from bandit_router.cli.common import INVALID_DATA, USAGE, fail, invalid_as, print_json
from bandit_router.cli.replay_output import leave, save, show
from bandit_router.cli.replay_stream import check_options, streamed

if TYPE_CHECKING:
    from bandit_router.simulators.logs import LoggedEvents
    from bandit_router.simulators.ope.comparison import Target


def replay(
    context: typer.Context,
    logs: options.Logs,
    policy: Annotated[str, typer.Option(help="Policy name, saved state (.npz), uniform, or arm=ID.")],
    baseline: Annotated[str | None, typer.Option(help="What to compare with; default the logging policy.")] = None,
    estimator: Annotated[list[str] | None, typer.Option(help="Estimator; repeat for several, all for all.")] = None,
    gate: Annotated[str | None, typer.Option(help="Condition such as 'utility > baseline'; exit 3 if not met.")] = None,
    learn: Annotated[str, typer.Option(help="Rows a named policy learns from: accepted or every.")] = "accepted",
    set: Annotated[list[str] | None, typer.Option("--set", help="Setting of the policy, NAME=VALUE.")] = None,
    price: options.Prices = None,
    scale: options.Scales = None,
    bound: options.Bounds = None,
    alpha: options.Alpha = 0.05,
    slice: Annotated[list[str] | None, typer.Option(help="Feature, policy or mode to split the value by.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="ARM=GROUP for the estimator mips.")] = None,
    cache: Annotated[str | None, typer.Option(help="LRU:5, LFU:5 or GDSF:5; value under this cache instead.")] = None,
    paging: Annotated[str, typer.Option(help="Paging profile for --cache.")] = "peft-local",
    size: Annotated[list[str] | None, typer.Option(help="ARM=BYTES for --cache; others are always resident.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="One pass over Parquet of any size; fixed arms.")] = False,
    moments: Annotated[Path | None, typer.Option(help="With --stream: save the sums; pass such files as LOGS.")] = None,
    format: options.Format = None,
    columns: options.Columns = None,
    arms: options.Arms = None,
    strict: options.Strict = False,
    json: options.Json = False,
    out: Annotated[Path | None, typer.Option(help="Folder for replay.json and replay.html.")] = None,
) -> None:
    """Value of another policy on a log, with intervals, and whether a gate lets it through.

    Exit codes: 0 answered (and the gate met), 3 the gate is not met or the log cannot answer, 4 no usable log.
    """
    utility, bounds = options.utility(price, scale), options.ranges(bound)
    if learn not in ("accepted", "every"):
        fail(f"--learn must be accepted or every, got {learn!r}", USAGE)
    if moments is not None and not stream:
        fail("--moments needs --stream", USAGE)
    if stream:
        check_options(context, policy)
        document = streamed(logs, policy, utility, bounds, alpha, gate, moments)
    else:
        log, intake = options.read(logs, format, columns, arms, strict=strict)
        from bandit_router.simulators.ope import comparison as ope

        _check(gate, policy, baseline)
        chosen = {key: values[0] for key, values in options.settings(set).items()}
        with invalid_as(USAGE):
            one: dict[str, Any] = {"utility": utility, "learning": learn}
            target = ope.make_target(policy, log, settings=chosen, **one)
            other = None if baseline is None else ope.make_target(baseline, log, **one)
        with invalid_as(INVALID_DATA):
            log, notes = _recached(log, target, cache, paging, options.numbers("--size", size))
            document = ope.compare(
                log,
                target,
                baseline=other,
                utility=utility,
                estimators=_estimators(estimator),
                bounds=bounds,
                alpha=alpha,
                gate=gate,
                slices=slice or (),
                groups=dict(pair.split("=", 1) for pair in group or () if "=" in pair) or None,
            )
        document |= {"files": [str(path) for path in logs], "intake": intake.summary(), **notes}
    if json:
        print_json(document)
    else:
        show(document)
    if out is not None:
        save(document, out)
    leave(document)


def _check(gate: str | None, policy: str, baseline: str | None) -> None:
    """Fail on what does not need the log before a long replay starts."""
    from bandit_router.policies import policy_class
    from bandit_router.simulators.ope.comparison import parse_gate

    with invalid_as(USAGE):
        if gate is not None:
            parse_gate(gate)
        for name in filter(None, (policy, baseline)):
            if not name.startswith("arm=") and not name.endswith(".npz") and name != "uniform":
                policy_class(name)


def _estimators(names: list[str] | None) -> tuple[str, ...]:
    from bandit_router.simulators.ope import ESTIMATORS
    from bandit_router.simulators.ope.evaluate import DEFAULT_ESTIMATORS

    if not names:
        return DEFAULT_ESTIMATORS
    for name in names:
        if name not in (*ESTIMATORS, "mips", "all"):
            fail(f"unknown estimator {name!r}; there are all, mips, {', '.join(ESTIMATORS)}", USAGE)
    return tuple(ESTIMATORS) if "all" in names else tuple(names)


def _recached(
    log: LoggedEvents, target: Target, cache: str | None, profile: str, sizes: dict[str, float]
) -> tuple[LoggedEvents, dict[str, Any]]:
    """The log at another cache's latencies, and what to say about it."""
    if cache is None:
        return log, {}
    import numpy as np

    from bandit_router.policies.caching.base import CacheController, Capacity
    from bandit_router.policies.caching.eviction import GDSF, LFU, LRU
    from bandit_router.residency import Residency
    from bandit_router.simulators.ope.residency import ASSUMPTION, reprice, resident_under
    from bandit_router.simulators.paging import PagingModel

    kinds: dict[str, type[CacheController]] = {"LRU": LRU, "LFU": LFU, "GDSF": GDSF}
    name, _, slots = cache.partition(":")
    if name not in kinds or not slots.isdigit():
        fail(f"--cache must be {', '.join(kinds)} with slots, such as LRU:5, got {cache!r}", USAGE)
    model = PagingModel.load(profile)
    bytes_of = np.zeros(len(log.arms))
    for arm, size in sizes.items():
        bytes_of[log.index(arm)] = size
    load_ms = model.expected_ms(bytes_of)
    capacity = Capacity(sizes=bytes_of, slots=int(slots))
    residency = Residency(capacity=capacity, costs=load_ms / 1000.0)
    controller = kinds[name](capacity=capacity, costs=load_ms / 1000.0)
    resident = resident_under(log, target.table, residency, controller, load_ms)
    new = reprice(log, target.table, resident, bytes_of, model.expected_ms)
    notes = {
        "assumptions": [ASSUMPTION, f"cache {cache}, paging model {profile}"],
        "paging_ms": {"logged_cache": new.logged_ms, "new_cache": new.new_ms, "rows_below_zero": new.below_zero},
    }
    return new.log, notes
