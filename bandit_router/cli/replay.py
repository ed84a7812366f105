"""`bandit-router replay`: what another policy would have earned on a log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bandit_router.cli import log_options as options
from bandit_router.cli.common import INVALID_DATA, USAGE, assigned, fail, invalid_as, print_json
from bandit_router.cli.replay_output import leave, save, show
from bandit_router.cli.replay_stream import check_options, collected, keep, streamed

if TYPE_CHECKING:
    from bandit_router.replay.compare import Target
    from bandit_router.replay.logs import LoggedEvents
    from bandit_router.routing.config import RouterConfig


def replay(
    context: typer.Context,
    logs: options.Logs,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="Policy name, saved state (.safetensors), uniform, or arm=ID; repeat to compare several."),
    ] = None,
    router: Annotated[
        Path | None, typer.Option(help="TOML file of a router, instead of --policy, --set, --price and --scale.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="What to compare with; default the logging policy.")] = None,
    estimator: Annotated[list[str] | None, typer.Option(help="Estimator; repeat for several, all for all.")] = None,
    gate: Annotated[str | None, typer.Option(help="Condition such as 'utility > baseline'; exit 3 if not met.")] = None,
    learn: Annotated[str, typer.Option(help="Rows a named policy learns from: accepted or every.")] = "accepted",
    set: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE, a setting of every named policy.")] = None,
    price: options.Prices = None,
    scale: options.Scales = None,
    bound: options.Bounds = None,
    mode: options.Modes = None,
    alpha: options.Alpha = 0.05,
    interval: Annotated[
        str, typer.Option(help="anytime, or fixed for a log that is looked at once; of differences and the gate.")
    ] = "anytime",
    slice: Annotated[list[str] | None, typer.Option(help="Feature, policy or mode to split the value by.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="ARM=GROUP for the estimator mips.")] = None,
    cache: Annotated[str | None, typer.Option(help="LRU:5, LFU:5 or GDSF:5; value under this cache instead.")] = None,
    paging: Annotated[str, typer.Option(help="Paging profile for --cache.")] = "peft-local",
    size: Annotated[list[str] | None, typer.Option(help="ARM=BYTES for --cache; others are always resident.")] = None,
    key_file: options.KeyFile = None,
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

    Exit codes: 0 answered (and the gate met), 1 a file could not be written, 2 the command is wrong, 3 the gate is not
    met or the log cannot answer, 4 no usable log.
    """
    config, policies = _router(context, router), list(dict.fromkeys(policy or ()))
    if config is not None:
        policies, utility = [config.policy.name], config.objective.utility
    elif not policies:
        fail("give --policy, or a router's file with --router", USAGE)
    else:
        utility = options.utility(price, scale)
    bounds, sizes = options.ranges(bound), options.numbers("--size", size)
    _check_words(learn, interval)
    if moments is not None and not stream:
        fail("--moments needs --stream", USAGE)
    if len(policies) > 1 and (stream or cache is not None):
        fail(
            f"{'--stream' if stream else '--cache'} takes one --policy, got {len(policies)}; ask for one at a time",
            USAGE,
        )
    if stream:
        check_options(context, policies[0])
    _check_names(gate, policies, baseline)
    chosen, groups, slots = _settings(policies, set), _groups(group), _slots(cache)
    shared: dict[str, Any] = {"utility": utility, "bounds": bounds, "alpha": alpha, "gate": gate, "modes": mode}
    shared["interval"] = interval
    names = _estimators(estimator, grouped=groups is not None)
    if stream:
        sums = collected(logs, policies[0], utility, mode)
        document = {**streamed(sums, policies[0], shared), "files": logs, "intake": None}
    else:
        log, intake = options.read(logs, format, columns, arms, strict=strict)
        from bandit_router.replay import compare as ope
        from bandit_router.replay import routed
        from bandit_router.replay.logs.store import shown
        from bandit_router.replay.several import compare_several

        with invalid_as(USAGE):
            learning: Any = learn
            one: dict[str, Any] = {"utility": utility, "learning": learning}
            one["key"] = None if key_file is None else key_file.read_bytes()
            if config is None:
                targets = [ope.make_target(name, log, settings=chosen.get(name), **one) for name in policies]
            else:
                targets = [routed.routed_target(config, log, learning=learning)]
            other = None if baseline is None else ope.make_target(baseline, log, **one)
        with invalid_as(INVALID_DATA):
            log, notes = (log, {}) if slots is None else _recached(log, targets[0], *slots, paging, sizes)
            shared |= {"baseline": other, "estimators": names, "slices": slice or (), "groups": groups}
            if len(targets) == 1:
                document = ope.compare(log, targets[0], **shared)
            else:
                document = compare_several(log, targets, **shared)
        left_out = [] if config is None else routed.left_out(config)
        notes["assumptions"] = document["assumptions"] + notes.get("assumptions", []) + left_out
        document |= {"files": [shown(path) for path in logs], "intake": intake.summary(), **notes}
    if json:
        print_json(document)
    else:
        show(document)
    if moments is not None:
        keep(sums, moments)
    if out is not None:
        save(document, out)
    leave(document)


def _router(context: typer.Context, path: Path | None) -> RouterConfig | None:
    """The router of a file; with it goes no option that says again what stands in it."""
    if path is None:
        return None
    from bandit_router.routing.config import load_config

    for name in ("policy", "set", "price", "scale", "stream"):
        if context.get_parameter_source(name) is not None and context.params.get(name):
            fail(f"--{name} does not go with --router, whose file says it", USAGE)
    with invalid_as(USAGE):
        return load_config(path)


# -- what can be refused before a log is read ----------------------------------------------------------------------


def _check_words(learn: str, interval: str) -> None:
    for flag, given, words in (
        ("--learn", learn, ("accepted", "every")),
        ("--interval", interval, ("anytime", "fixed")),
    ):
        if given not in words:
            fail(f"{flag} must be {words[0]} or {words[1]}, got {given!r}", USAGE)


def _check_names(gate: str | None, policies: list[str], baseline: str | None) -> None:
    from bandit_router.policies import policy_class
    from bandit_router.replay.compare import is_fixed
    from bandit_router.replay.gate import parse_gate

    with invalid_as(USAGE):
        if gate is not None:
            parse_gate(gate)
        for name in filter(None, (*policies, baseline)):
            if not is_fixed(name):
                policy_class(name)


def _settings(policies: list[str], texts: list[str] | None) -> dict[str, dict[str, Any]]:
    """One value of each setting, by the policy that has settings."""
    from bandit_router.policies import read_settings
    from bandit_router.replay.compare import is_fixed

    found, named = assigned("--set", texts), [name for name in policies if not is_fixed(name)]
    if found and not named:
        fail(f"{policies[0]} takes no --set; it goes with the name of a policy, such as LinUCB", USAGE)
    for name, value in found.items():
        if "," in value:
            fail(f"replay takes one value of {name}, got {value}; tune tries several", USAGE)
    with invalid_as(USAGE):
        return {name: read_settings(name, found) for name in named}


def _estimators(names: list[str] | None, *, grouped: bool) -> tuple[str, ...]:
    from bandit_router.declared import named
    from bandit_router.replay.estimators import ESTIMATORS, GROUPED
    from bandit_router.replay.evaluate import DEFAULT_ESTIMATORS

    if not names:
        return DEFAULT_ESTIMATORS
    with invalid_as(USAGE):
        for name in names:
            named("estimator", name, {"all": None, **ESTIMATORS})
    possible = tuple(name for name in ESTIMATORS if grouped or name not in GROUPED)
    return possible if "all" in names else tuple(names)


def _groups(pairs: list[str] | None) -> dict[str, str] | None:
    for pair in pairs or ():
        if "=" not in pair:
            fail(f"--group must be ARM=GROUP, got {pair!r}", USAGE)
    return dict(pair.split("=", 1) for pair in pairs or ()) or None


def _slots(cache: str | None) -> tuple[str, int] | None:
    """Kind and size of the cache."""
    if cache is None:
        return None
    from bandit_router.policies.caching.eviction import CACHES

    name, _, slots = cache.partition(":")
    if name not in CACHES or not slots.isdigit():
        fail(f"--cache must be {', '.join(CACHES)} with slots, such as LRU:5, got {cache!r}", USAGE)
    return name, int(slots)


def _recached(
    log: LoggedEvents, target: Target, kind: str, slots: int, profile: str, sizes: dict[str, float]
) -> tuple[LoggedEvents, dict[str, Any]]:
    """The log at another cache's latencies, and what to say about it."""
    from bandit_router.paging.model import PagingModel
    from bandit_router.replay.residency import ASSUMPTION, recached

    new = recached(log, target.table, kind, slots=slots, sizes=sizes, model=PagingModel.load(profile))
    notes = {
        "assumptions": [ASSUMPTION, f"cache {kind}:{slots}, paging model {profile}"],
        "paging_ms": {"logged_cache": new.logged_ms, "new_cache": new.new_ms, "rows_below_zero": new.below_zero},
    }
    return new.log, notes
