"""Vowpal Wabbit's contextual bandits behind the policy contract.

VW learns the quality of an arm as the cost -quality and answers with its own distribution, which is the propensity. It
knows one cost; the metered channels are therefore learned beside it, by the ridge regressions that the linear policies
use, and priced at decision time: an arm's penalty and its expected metered cost, in units of quality, are added to the
cost that VW predicts for it before VW explores. Nothing has to be relearned when a price moves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from bandit_router.arrays import F64, Index
from bandit_router.declared import POSITIVE, setting, within
from bandit_router.errors import InvalidInput
from bandit_router.policies.base import Estimate, Merges, Policy
from bandit_router.policies.compiled import ridge_statistics
from bandit_router.policies.linear import sums_of, unpack
from bandit_router.policies.state import Form
from bandit_router.policies.vw_workspace import LARGEST, Workspace, dense_layout, unseal
from bandit_router.reading.dsjson_lines import Malformed, choice_of
from bandit_router.reading.files import read_text


class Estimator(IntEnum):
    """How VW learns costs from the outcome of the played arm alone."""

    MTR = 0
    """Multi-task regression: importance-weighted regression on the played arm. VW's default and least noisy."""
    DR = 1
    """Doubly robust: a regression for all arms, corrected by inverse propensity on the played one."""
    IPS = 2
    """Inverse propensity scoring: unbiased, and noisy for small propensities."""


class VWPolicy(Policy):
    """Base of the policies that Vowpal Wabbit runs; a subclass names the exploration.

    Args:
        n_arms, dim, channels: sizes, see `Policy`. Quality is learned by VW from -S, A and S x A features (VW's
            `-q SA`), further channels by one ridge regression per arm.
        learning_rate: VW's `--learning_rate`.
        bits: VW's `--bit_precision`; 2^bits weights of 16 bytes, shared by all arms and sub-models.
        seed: VW's `--random_seed`; bagging and RND draw from it.

    Probabilities are VW's, in float32 and then divided by their sum. `learn` reads the propensity. Prices: quality must
    not earn negatively (prices[0] >= 0). VW updates shared weights one by one, so the order of outcomes matters. VW's
    normalised updates are replaced by `--adaptive --invariant` where sub-models share a workspace, because a VW model
    saves the scale of the first sub-model alone, and a reloaded one would learn differently.
    """

    order_free: ClassVar[bool] = False
    reads_propensity: ClassVar[bool] = True
    merges: ClassVar[Merges] = "models"
    forms: ClassVar[Mapping[str, Form]] = {"model": "variable", "layout": "variable", "inverse": "packed"}

    learning_rate: float = setting(default=0.5, check=POSITIVE)
    bits: int = setting(default=18, check=within(8, 28), unit="bits")
    seed: int = setting(default=0)

    def _start(self) -> None:
        super()._start()
        self.workspace = Workspace(self._command_line(), layout=dense_layout(self.n_arms, self.dim), dim=self.dim)
        sizes = (self.n_arms, self.dim, self.channels - 1)
        self.metered = ridge_statistics(*sizes, ridge=1.0) if self.channels > 1 else None

    def _command_line(self) -> list[str]:
        words = ["--cb_explore_adf", "--quadratic", "SA", "--bit_precision", str(self.bits)]
        words += ["--learning_rate", str(self.learning_rate), "--random_seed", str(self.seed)]
        return [*words, "--cb_type", self._estimator().name.lower(), *self._exploration()]

    def _estimator(self) -> Estimator:
        return Estimator.MTR

    def _exploration(self) -> list[str]:
        """VW's words for the exploration."""
        return []

    # -- the two verbs ------------------------------------------------------------------------------------------

    def _distribution(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64:
        self._representable("context", x)
        offset = self._offset(x, arms, prices, penalty)
        if offset is not None:
            self._representable("penalty and priced channels", offset)
        return self.workspace.predict(x, arms.tolist(), offset)

    def _offset(self, x: F64, arms: Index, prices: F64, penalty: F64) -> F64 | None:
        """What each arm costs beside its quality, in units of quality, the cheapest at 0; None if all cost the same."""
        if prices[0] < 0:
            raise InvalidInput(f"Vowpal Wabbit maximises the quality: prices[0] must be at least 0, got {prices[0]}")
        cost = penalty
        if self.metered is not None and prices[1:].any():
            cost = penalty - (self.metered.theta @ x @ prices[1:])[arms]
        if (cost == cost[0]).all():
            return None
        return np.asarray((cost - cost.min()) / max(float(prices[0]), 1e-6))

    def _learn(self, x: F64, arm: int, y: F64, weight: float, propensity: float) -> None:
        self._representable("context", x)
        if abs(y[0]) > LARGEST:
            raise InvalidInput(f"quality must stay below {LARGEST:g} for Vowpal Wabbit's float32, got {y[0]}")
        self.workspace.learn(x, arm, -float(y[0]), propensity, weight)
        if self.metered is not None:
            self.metered.learn(arm, x, y[1:], weight)

    @staticmethod
    def _representable(name: str, values: F64) -> None:
        if values.dot(values) > LARGEST**2:
            raise InvalidInput(f"{name} must stay below {LARGEST:g} for Vowpal Wabbit's float32; rescale it")

    def _estimate(self, x: F64) -> Estimate:
        mean = np.full((self.n_arms, self.channels), np.nan)
        if self.metered is not None:
            mean[:, 1:] = self.metered.theta @ x
        return Estimate(mean, np.zeros(self.n_arms))

    # -- arms and state -----------------------------------------------------------------------------------------

    def _add_arm(self, like: int | None, strength: float) -> None:
        """The new arm's own weights start at 0; VW cannot copy another arm's, so `like` serves the metered channels."""
        self.workspace = self.workspace.with_arm()
        if self.metered is not None:
            self.metered.add_arm(like, strength)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        layout = np.frombuffer("\n".join(self.workspace.layout).encode(), dtype=np.uint8)
        metered = {} if self.metered is None else self.metered.arrays()
        return {"model": self.workspace.serialize(), "layout": layout, **metered}

    def _restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        layout = arrays["layout"].astype(np.uint8).tobytes().decode().split("\n")
        self.workspace = Workspace([], layout=layout, dim=self.dim, model=unseal(arrays["model"]))
        if self.metered is not None:
            self.metered.restore(arrays)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_state, (self.state(),)

    def delta(self, since: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """What was learned since `since`, an earlier `state()` of this policy."""
        self._check_mergeable()
        steps = np.asarray(self.steps - int(since["steps"]))
        learned = {"model": self.workspace.delta(since["model"]), "steps": steps}
        if self.metered is None:
            return learned
        gram, moment = sums_of(unpack(since["inverse"], self.dim), since["theta"])
        return learned | self.metered.delta({"gram": gram, "moment": moment, "counts": since["counts"]})

    def merge(self, deltas: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        """Apply the deltas of replicas that all started from this policy's state.

        VW averages the weights of the replicas by how often each was updated; it does not replay the outcomes.
        """
        self._check_mergeable()
        if not deltas:
            return
        self.workspace.merge([delta["model"] for delta in deltas])
        for delta in deltas:
            self.steps += int(delta["steps"])
            if self.metered is not None:
                self.metered.merge(delta)

    def _check_mergeable(self) -> None:
        if self.merges is None:
            raise InvalidInput(
                f"{type(self).__name__} counts its steps where VW's deltas do not reach; replay the logs"
            )


class VWModel(VWPolicy):
    """A model of the `vw` command line, whatever its options, learning on inside the engine.

    Make it with `from_vw_model`; `learn_dsjson` feeds it the logs that VW users keep. Exact resumption after a save is
    VW's: models with sub-models (bag, cover, RND, DR) and normalised updates resume with the scale of the first one.

    Source: Bietti, Agarwal & Langford 2021 (arXiv 1802.04064) describe and compare the explorations; Bottou et al.
    and the VW wiki the dsjson format.
    """

    @classmethod
    def from_vw_model(
        cls,
        model: bytes | Path,
        *,
        n_arms: int,
        dim: int,
        channels: int = 1,
        layout: Sequence[str] | None = None,
    ) -> Self:
        """Go on from a `.vw` model file or its bytes.

        Args:
            model: as saved by `vw --cb_explore_adf ... -f model`.
            n_arms, dim, channels: sizes, see `Policy`.
            layout: how context and arms are written in the features the model knows: a `shared` line of VW text with
                `dim` features in one namespace, then one line per arm. Default: `shared |S 0:1 1:1 ...`, `|A 0`, ...

        Raises:
            InvalidInput: not a model of cb_explore_adf, or a layout that does not fit the sizes.
        """
        policy = cls(n_arms=n_arms, dim=dim, channels=channels)
        lines = dense_layout(n_arms, dim) if layout is None else list(layout)
        if len(lines) != n_arms + 1:
            raise InvalidInput(f"layout must have a shared line and {n_arms} arm lines, got {len(lines)} lines")
        data = model if isinstance(model, bytes) else model.read_bytes()
        policy.workspace = Workspace([], layout=lines, dim=dim, model=data)
        return policy

    def learn_dsjson(self, path: Path) -> int:
        """Learn the labelled decisions of a dsjson log, with the features written in it; returns their number.

        Lines without `_label_cost` (dangling outcomes, observations) or probability, and those marked `_skipLearn`, are
        passed over, as by `vw --dsjson`. Costs are used as logged. What a decision is, is what `read_dsjson` takes for
        one; the file may be compressed and in any encoding.

        Raises:
            InvalidInput: a line is no JSON or no decision; those before it are learned.
        """
        learned = 0
        text = read_text(path)[0].replace("\r\n", "\n").replace("\r", "\n")
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip() and (labelled := self._labelled(line, f"{path.name}:{number}")) is not None:
                self.workspace.learn_dsjson(labelled)
                self.steps += 1
                learned += 1
        return learned

    @staticmethod
    def _labelled(line: str, where: str) -> str | None:
        """The line in VW's own order and spelling, None where there is nothing to learn.

        VW reads the label by position, and passes over one that stands behind the actions.
        """
        try:
            event = json.loads(line)
        except ValueError as error:
            raise InvalidInput(f"{where} is not JSON: {error}; the lines before it are learned") from None
        if not isinstance(event, dict) or "c" not in event or "_label_cost" not in event or event.get("_skipLearn"):
            return None
        try:
            choice = choice_of(event)
        except Malformed as error:
            raise InvalidInput(f"{where} is no decision: {error}; the lines before it are learned") from None
        if choice.probability is None:
            return None
        label = {"cost": choice.cost, "probability": choice.probability, "Action": choice.chosen + 1}
        head = {f"_label_{name}": value for name, value in label.items()}
        return json.dumps({**head, "_labelIndex": choice.chosen, "c": event["c"]})
