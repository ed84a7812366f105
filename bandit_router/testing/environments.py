"""The laws of an environment, functions of the environment itself."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np

from bandit_router.simulators.environment import BLOCK, Block, Environment
from bandit_router.testing.laws import check, expect

HORIZON = BLOCK + 100


def check_environment(environment: Environment) -> None:
    """Check every law; raises AssertionError naming the first that is broken.

    Example:
        >>> from bandit_router import LinearAdapters
        >>> check_environment(LinearAdapters(n_adapters=3))
    """
    check(ENVIRONMENT_LAWS, environment)


def arms_and_channels_are_named_once(environment: Environment) -> None:
    """Distinct arms, quality first, and a positive reference amount for each channel that has one."""
    ids = [arm.id for arm in environment.arms]
    expect(len(ids) > 0 and len(set(ids)) == len(ids), f"arms must be one or more, each id once, got {ids}")
    channels = list(environment.channels)
    expect(channels[:1] == ["quality"], f"channels must begin with quality, got {channels}")
    expect(len(set(channels)) == len(channels), f"channels must be named once, got {channels}")
    for name, scale in environment.scales.items():
        expect(name in channels[1:], f"scales name {name!r}, which is not a metered channel of {channels}")
        expect(0 < scale < float("inf"), f"the scale of {name} must be finite and greater than 0, got {scale}")
    expect(environment.horizon >= 1, f"horizon must be at least 1, got {environment.horizon}")


def blocks_have_the_declared_shapes(environment: Environment) -> None:
    """Blocks of `BLOCK` steps, the last one shorter, of finite contexts and outcomes; NaN only where not metered.

    Quality is NaN where an arm cannot be played, and only there; at least one can at every step.
    """
    arms, channels = len(environment.arms), len(environment.channels)
    sizes = []
    for i, block in enumerate(environment.blocks(0, HORIZON)):
        steps = len(block.contexts)
        sizes.append(steps)
        for name, array, shape in (
            ("contexts", block.contexts, (steps, environment.dim)),
            ("outcomes", block.outcomes, (steps, arms, channels)),
            ("means", block.means, (steps, arms, channels)),
        ):
            expect(array.shape == shape, f"{name} of block {i} must have shape {shape}, got {array.shape}")
            known = array[:, :, 1:] if name != "contexts" else array[:, :0]
            must = array if name == "contexts" else array[:, :, 0]
            if name != "contexts" and block.playable is not None:
                expect(
                    bool((np.isfinite(must) == block.playable).all()), f"{name} of block {i}: NaN where not playable"
                )
                expect(bool(block.playable.any(axis=1).all()), f"block {i} has a step at which no arm can be played")
                continue
            expect(bool(np.isfinite(must).all()), f"{name} of block {i}: contexts and quality must be finite")
            expect(not np.isinf(known).any(), f"{name} of block {i}: a channel is infinite")
    expected = [BLOCK, HORIZON - BLOCK]
    expect(sizes == expected, f"{HORIZON} steps must come in blocks of {expected}, got {sizes}")


def a_seed_is_a_stream(environment: Environment) -> None:
    """The same seed gives the same stream to the byte, whoever reads another one meanwhile; another seed another."""
    first = [_copy(block) for block in environment.blocks(1, HORIZON)]
    mixed = [ours for ours, _ in zip(environment.blocks(1, HORIZON), environment.blocks(2, HORIZON), strict=True)]
    expect(all(map(_same, first, mixed)), "two readings of seed 1 differ; draw from `generator(name, purpose, seed)`")
    other = environment.blocks(2, HORIZON)
    expect(not all(map(_same, first, other)), "seeds 1 and 2 give the same stream: intervals over seeds would be empty")


def a_reader_cannot_spoil_it(environment: Environment) -> None:
    """Writing into a block changes no later reading."""
    first = [_copy(block) for block in environment.blocks(3, BLOCK)]
    for block in environment.blocks(3, BLOCK):
        for array in block:
            if array is not None and array.flags.writeable:
                array[:] = 0.25
    again = environment.blocks(3, BLOCK)
    expect(all(map(_same, first, again)), "the stream changed after a reader wrote into a block; hand out copies")


def means_are_what_outcomes_average(environment: Environment) -> None:
    """Outcome minus mean averages to 0 within 5 standard errors for every arm and channel, so that regret is exact."""
    blocks = [_copy(block) for block in environment.blocks(4, HORIZON)]
    error = np.concatenate([block.outcomes - block.means for block in blocks])
    known = [np.isfinite(block.outcomes) == np.isfinite(block.means) for block in blocks]
    expect(all(map(np.all, known)), "outcomes and means must be NaN (not metered) in the same places")
    count = np.isfinite(error).sum(axis=0)
    mean = np.nansum(error, axis=0) / np.maximum(count, 1)
    spread = np.sqrt(np.nansum((error - mean) ** 2, axis=0)) / np.maximum(count, 1)
    off = np.abs(mean) > 5 * spread + 1e-9
    for arm, channel in np.argwhere(off)[:1].tolist():
        raise AssertionError(
            f"{environment.channels[channel]} of {environment.arms[arm].id} averages {mean[arm, channel]:+.4g} from "
            f"its mean, standard error {spread[arm, channel]:.2g}"
        )


def its_description_is_json(environment: Environment) -> None:
    """`describe` can be written into a results file."""
    try:
        json.dumps(environment.describe(), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"describe() cannot be written as JSON: {error}") from None


def _copy(block: Block) -> Block:
    return Block(*(None if array is None else array.copy() for array in block))  # type: ignore[arg-type]


def _same(first: Block, second: Block) -> bool:
    pairs = zip(first, second, strict=True)
    return all(a is b if a is None or b is None else a.tobytes() == b.tobytes() for a, b in pairs)


ENVIRONMENT_LAWS: tuple[Callable[[Environment], None], ...] = (
    arms_and_channels_are_named_once,
    blocks_have_the_declared_shapes,
    a_seed_is_a_stream,
    a_reader_cannot_spoil_it,
    means_are_what_outcomes_average,
    its_description_is_json,
)
