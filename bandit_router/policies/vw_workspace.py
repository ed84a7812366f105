"""One Vowpal Wabbit workspace, fed with dense contexts and numbered arms.

The examples are built once: an arm's example never changes, and of the shared example only the feature values do, so a
decision costs one `push_many_features` and one VW call; both go to vowpal-wabbit-next's compiled module, because its
Python layer checks the label type of every example on every call, which takes longer than VW itself. Their layout is
given in VW's own text format, so models and logs are interchangeable with the command line.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64
from bandit_router.errors import InvalidInput

Bytes = NDArray[np.uint8]

LARGEST = 1e15  # float32 holds its square
UNIT = 2.0**-20
CERTAIN = 1e30
BLOCK = 4096
_SHIFT = 1  # a namespace that no parser can have seen, so that no wildcard interaction includes it


def dense_layout(n_arms: int, dim: int) -> list[str]:
    """The shared line and one line per arm for a plain vector and numbered arms.

    Example:
        >>> dense_layout(2, 3)
        ['shared |S 0:1 1:1 2:1', '|A 0', '|A 1']
    """
    return ["shared |S " + " ".join(f"{j}:1" for j in range(dim)), *(f"|A {arm}" for arm in range(n_arms))]


class Workspace:
    """A cb_explore_adf learner over a shared context and one example per arm.

    Args:
        arguments: VW command line, one word per item. With `model`, only what the model does not already say.
        layout: VW text lines: the shared one, whose features stand for the coordinates of the context in their order
            (one namespace; the values are placeholders), then one per arm.
        dim: length of the context.
        model: a saved VW model to go on from.

    VW's own messages reach the loggers `vowpal_wabbit_next.log` and `vowpal_wabbit_next.driver`.
    """

    def __init__(
        self, arguments: Sequence[str], *, layout: Sequence[str], dim: int, model: bytes | None = None
    ) -> None:
        try:
            import vowpal_wabbit_next as vw
        except ImportError:
            raise ImportError("this policy needs Vowpal Wabbit: pip install 'bandit-router[vw]'") from None
        self._vw = vw
        try:
            self.inner: Any = vw.Workspace(list(arguments), model_data=model)
        except RuntimeError as error:
            raise InvalidInput(f"Vowpal Wabbit refused {list(arguments)} or the model: {error}") from None
        if self.inner.prediction_type != vw.PredictionType.ActionProbs:
            raise InvalidInput(f"expected a model of --cb_explore_adf, got one for {self.inner.prediction_type}")
        self.layout = list(layout)
        self._asking, self._taught, *self._arms = [self._parse(line) for line in (layout[0], *layout)]
        self._asking._set_label(vw.CBLabel(shared=True, weight=0.0))  # VW's clock counts outcomes, not decisions
        self._every = [self._taught, *self._arms]
        self._group, self._index = self._coordinates(dim)
        self._unlabelled = vw.CBLabel()
        self._skip = 1

    def _parse(self, line: str) -> Any:
        try:
            return self._vw.TextFormatParser(self.inner).parse_line(line)._example
        except RuntimeError as error:
            raise InvalidInput(f"Vowpal Wabbit cannot read the layout line {line!r}: {error}") from None

    def _coordinates(self, dim: int) -> tuple[int, NDArray[np.uint64]]:
        """Namespace and feature hashes of the shared line."""
        groups = self._asking._feat_group_indices
        indices = [index for group in groups for index in self._asking[group].indices]
        if len(groups) != 1 or len(indices) != dim:
            raise InvalidInput(
                f"the shared line must have {dim} features in one namespace, "
                f"got {len(indices)} in {len(groups)}: {self.layout[0]!r}"
            )
        return groups[0], np.array(indices, dtype=np.uint64)

    def with_arm(self) -> Workspace:
        """This workspace with one more arm, whose features are new to the model.

        It is loaded from the saved model, as after a restart: with more actions than it began with, a workspace that
        trained sub-models itself learns differently from one that has loaded them.
        """
        layout = [*self.layout, f"|A {len(self._arms)}"]
        return Workspace([], layout=layout, dim=len(self._index), model=unseal(self.serialize()))

    # -- predict and learn --------------------------------------------------------------------------------------

    def predict(self, x: F64, arms: Sequence[int], offset: F64 | None) -> F64:
        """VW's own distribution over `arms`, with `offset` added to their predicted costs; changes nothing."""
        actions = [self._arms[arm] for arm in arms]
        self._fill(self._asking, x)
        if offset is None:
            return self._probabilities(actions)
        return self._predict_shifted(actions, offset)

    def _probabilities(self, actions: list[Any]) -> F64:
        p = [0.0] * len(actions)
        for action, probability in self.inner._workspace.predict_multi_ex_one([self._asking, *actions]):
            p[action] = probability
        return np.array(p) / sum(p)  # float32 sums to 1 within 1e-7; regcbopt gives every arm of a tie 1

    def _predict_shifted(self, actions: list[Any], offset: F64) -> F64:
        """Predict with one more feature per action, of value offset / UNIT, that every sub-model weighs with UNIT.

        The weight exists for this call only, in a slot that no training has touched, so neither the model nor a saved
        copy ever sees it. UNIT is small so that an arm whose features hash onto the slot is moved by 1e-6 at most; its
        gradient sum is large so that RegCB takes the cost for known.
        """
        slot, row = self._free_slot()
        row[:, 0], row[:, 1] = UNIT, CERTAIN
        try:
            for action, value in zip(actions, (offset / UNIT).tolist(), strict=True):
                action[_SHIFT].push_feature(slot, value)
            return self._probabilities(actions)
        finally:
            row[:, :2] = 0.0
            for action in actions:
                del action[_SHIFT]

    def _free_slot(self) -> tuple[int, NDArray[np.float32]]:
        """The last slot that no training has touched, and a view of its weights, one row per sub-model."""
        weights = self.inner.weights()
        # The view promises its rows to each sub-model, but they share VW's memory: the rest of it is foreign.
        last = weights.shape[0] // weights.shape[1]
        while weights[last - self._skip, :, :3].any():
            self._skip += 1
            if self._skip > last:
                raise InvalidInput("every weight of the Vowpal Wabbit model is in use; raise bits to honour penalties")
        return last - self._skip, weights[last - self._skip]

    def learn(self, x: F64, arm: int, cost: float, propensity: float, weight: float) -> None:
        """Fold in the cost of the arm that was played."""
        self._fill(self._taught, x)
        played = self._arms[arm]
        played._set_label(self._vw.CBLabel(label=(0, cost, propensity), weight=weight))
        try:
            self.inner._workspace.learn_multi_ex_one(self._every)
        finally:
            played._set_label(self._unlabelled)

    def _fill(self, shared: Any, x: F64) -> None:
        """Write the context into a shared example, without its zeros: VW's parsers drop them and its scales mind."""
        values = x.astype(np.float32)
        group = shared[self._group]
        group.truncate_to(0)
        if np.count_nonzero(values) == len(values):
            group.push_many_features(self._index, values)
        else:
            present = values.nonzero()[0]
            group.push_many_features(self._index[present], values[present])

    def learn_dsjson(self, line: str) -> None:
        """Fold in one labelled line of a dsjson log, with whatever namespaces it has."""
        parser = self._vw.DSJsonFormatParser(self.inner)
        try:
            self.inner.learn_one(parser.parse_json(line))
        except RuntimeError as error:
            raise InvalidInput(
                f"Vowpal Wabbit refused a dsjson line: {error}; the lines before it are learned"
            ) from None

    # -- models as values ---------------------------------------------------------------------------------------

    def serialize(self) -> Bytes:
        """The VW model as saved by a workspace that has only loaded it, without the totals of VW's progress report."""
        return seal(self._vw.Workspace([], model_data=self.inner.serialize()).serialize())

    def delta(self, since: Bytes) -> Bytes:
        """What was learned since the saved model `since`."""
        base = self._vw.Workspace([], model_data=unseal(since))
        return seal(self._vw.calculate_delta(base, self.inner).serialize())

    def merge(self, deltas: Sequence[Bytes]) -> None:
        """Apply the deltas of replicas that all began at this workspace's model, weighted as VW weighs them."""
        parts = [self._vw.ModelDelta(unseal(delta)) for delta in deltas]
        merged = self._vw.merge_deltas(parts) if len(parts) > 1 else parts[0]
        self.inner = self._vw.apply_delta(self.inner, merged)


def seal(data: bytes) -> Bytes:
    """Bytes as an array: CRC-32, length, bytes, zeros up to a whole block, so that sizes stay while weights fill in.

    The checksum is there because VW loads a truncated model without a word.
    """
    head = zlib.crc32(data).to_bytes(4, "little") + len(data).to_bytes(4, "little")
    whole = -(-(8 + len(data)) // BLOCK) * BLOCK
    return np.frombuffer((head + data).ljust(whole, b"\0"), dtype=np.uint8)


def unseal(array: Bytes) -> bytes:
    """The bytes inside `seal`; raises InvalidInput when one of them has changed."""
    raw = np.asarray(array).astype(np.uint8).tobytes()
    checksum, length = (int.from_bytes(raw[i : i + 4], "little") for i in (0, 4))
    data = raw[8 : 8 + length]
    if len(data) < length or len(raw) < 8 or zlib.crc32(data) != checksum:
        raise InvalidInput("the saved Vowpal Wabbit model is damaged: its checksum differs; load another snapshot")
    return data
