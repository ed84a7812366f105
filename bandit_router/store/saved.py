"""One file for what was learned: the policy with its settings, the ids of its arms and the names of its channels.

`bandit-router state export` and `save_state` write it; `state import`, `replay --policy` and `load_state` read it. Arms
and channels are matched by their names, never by their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bandit_router.errors import InvalidInput
from bandit_router.policies import policy_class
from bandit_router.policies.base import Policy
from bandit_router.settling.learner import Learner
from bandit_router.store.snapshot import Snapshot, channels_of, class_of, decode, encode, policy_key, write_file


class SavedState(NamedTuple):
    """What a file holds.

    Attributes:
        policy: as it had learned. arms: ids, in the policy's order. channels: names, in its order.
        position: log entries that were folded in.
    """

    policy: Policy
    arms: tuple[str, ...]
    channels: tuple[str, ...]
    position: int

    def policy_for(self, arms: Sequence[str], channels: Sequence[str]) -> Policy:
        """The policy for a `Router` with these arms and channels, matched by name; further arms start at their prior.

        Raises:
            InvalidInput: the router has other channels, or lacks an arm; or the arms would have to change places, and
                the policy does not let them (see `Policy.per_arm`).
        """
        if tuple(channels) != self.channels:
            raise InvalidInput(
                f"the state has the channels {', '.join(self.channels)}, here they are {', '.join(channels)}"
            )
        return by_id(self.policy, self.arms, arms)


def by_id(policy: Policy, saved: Sequence[str], arms: Sequence[str]) -> Policy:
    """The policy that learned of the arms `saved`, for `arms`; those it did not know start at their prior.

    Raises:
        InvalidInput: an arm is missing, or they would have to change places and the policy does not let them.
    """
    check_arms(saved, arms)
    grown = [*saved, *(arm for arm in arms if arm not in saved)]
    order = [grown.index(arm) for arm in arms]
    moves = order != sorted(order)
    if moves and policy.per_arm is None:
        raise InvalidInput(
            f"{_both(saved, arms)}, and {type(policy).__name__} cannot take them in another order; give the state's "
            "first, in theirs, and new ones after them"
        )
    while policy.n_arms < len(arms):
        policy.add_arm()
    return policy.in_order(order) if moves else policy


def check_arms(saved: Sequence[str], arms: Sequence[str]) -> None:
    """Raise InvalidInput where an arm of a state is missing."""
    if missing := [arm for arm in saved if arm not in arms]:
        raise InvalidInput(f"{_both(saved, arms)}; keep {', '.join(missing)}, paused if it shall not be played")


def _both(saved: Sequence[str], arms: Sequence[str]) -> str:
    return f"the state has the arms {', '.join(saved)}, here they are {', '.join(arms)}"


def save_state(learner: Learner, path: Path, *, key: bytes | None = None) -> None:
    """Write what a router has learned: `save_state(router.learner, path)`.

    Args:
        learner: of the router. path: the file; ".safetensors" by custom. key: secret that signs it; default unsigned.

    Example:
        >>> import tempfile
        >>> from bandit_router import Arm, Outcome, Router
        >>> router = Router(arms=[Arm(id="small"), Arm(id="large")], context=1, policy="LinUCB")
        >>> decision = router.decide([1.0], event_id="r-1")
        >>> settled = router.observe("r-1", Outcome(quality=0.9))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "state.safetensors"
        ...     save_state(router.learner, path)
        ...     saved = load_state(path)
        >>> saved.arms, saved.policy.steps
        (('small', 'large'), 1)
        >>> policy = saved.policy_for(["small", "large", "new"], saved.channels)
        >>> again = Router(arms=[*router.catalogue, Arm(id="new")], context=1, policy=policy)
    """
    with learner.lock:
        write_file(path, exported(learner, key=key))


def exported(learner: Learner, *, policy: str | None = None, key: bytes | None = None) -> bytes:
    """What `save_state` writes; `policy` is the key that a store knows it by."""
    name = policy_key(learner.policy, learner.channels, learner.monitor) if policy is None else policy
    position, state = learner.capture()
    return encode(position, state, policy=name, arms=learner.catalogue.ids[: learner.policy.n_arms], key=key)


def load_state(path: Path, *, key: bytes | None = None) -> SavedState:
    """Read what `save_state` or `state export` wrote.

    Raises:
        InvalidInput: no such file, it is damaged or signed with another key, or it does not name its arms.
    """
    try:
        found = decode(path.read_bytes(), key=key)
        policy = policy_class(class_of(found.policy)).from_state(found.state)
        arms = arms_of(found)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot read a saved state: {error.strerror or error}") from None
    except InvalidInput as error:
        raise InvalidInput(f"{path}: expected a saved state; {error}") from None
    return SavedState(policy, arms, channels_of(found.policy), found.position)


def arms_of(found: Snapshot) -> tuple[str, ...]:
    """The ids of a state's arms; raises InvalidInput where it does not name each of them."""
    count = np.asarray(found.state.get("parameter.n_arms", np.nan))
    if count.shape or count != len(found.arms):
        raise InvalidInput(f"the state is of {count} arms and names {len(found.arms)}; export it again")
    return found.arms
