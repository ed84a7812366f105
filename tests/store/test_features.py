"""Contexts of another length or order: refused, taken along by name, or begun anew in so many words."""

import numpy as np
import pytest

from bandit_router import Arm, InvalidInput, Outcome, Router, Store
from bandit_router.policies import LinUCB
from bandit_router.store.inspection import Inspection

ARMS = [Arm(id="small"), Arm(id="large")]


def make(folder, context, **arguments):
    store = Store(f"sqlite:///{folder}/events.db", wait_s=20.0, **arguments)
    return Router(arms=ARMS, context=context, policy="LinUCB", key=b"k", store=store)


def serve(router, dim, n=20, prefix="a"):
    rng = np.random.default_rng(dim)
    for i in range(n):
        router.decide(rng.normal(size=dim), event_id=f"{prefix}{i}")
        router.observe(f"{prefix}{i}", Outcome(quality=float(rng.random())))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (2, 3, r"contexts with 2 features, this router has 3 features; keep .*fresh=True"),
        (3, 2, "contexts with 3 features, this router has 2 features"),
        (
            ("one", "length"),
            ("length", "one"),
            r"2 features \(one, length\), this router has 2 features \(length, one\)",
        ),
        (("one", "length"), ("one",), r"this router has 1 features \(one\)"),
        (("one", "length"), 3, "this router has 3 features"),
    ],
)
def test_other_features_are_refused_at_the_start_with_the_way_out(tmp_path, before, after, message):
    with make(tmp_path, before) as router:
        serve(router, router.policy.dim)
    with pytest.raises(InvalidInput, match=message):
        make(tmp_path, after)
    with make(tmp_path, before) as router:
        assert router.policy.steps == 20, "nothing was lost"


def test_appended_names_take_along_exactly_what_was_learned(tmp_path):
    """The wider statistics are the old ones with rows and columns of the prior for the new feature."""
    with make(tmp_path, ("one", "length")) as router:
        serve(router, 2)
        old = router.policy.state()
    with make(tmp_path, ("one", "length", "tools")) as router:
        assert router.policy.steps == 20
        wide = router.policy.state()
        x = np.array([0.3, -0.7])
        mean = router.policy.estimate(np.append(x, 0.0)).mean
        np.testing.assert_allclose(mean, LinUCB.from_state(old).estimate(x).mean, rtol=1e-12)
        assert wide.keys() == old.keys()
        serve(router, 3, prefix="b")
    store = Inspection(f"sqlite:///{tmp_path}/events.db")
    name = next(check.policy for check in store.report().snapshots if "dim=3" in check.policy)
    assert all(check.fault is None for check in store.verify(name)), "the command line learns the same"
    store.close()


def test_a_fresh_start_is_asked_for_once(tmp_path):
    with make(tmp_path, 2) as router:
        serve(router, 2)
    with make(tmp_path, 3, fresh=True) as router:
        assert router.policy.steps == 0
        serve(router, 3, prefix="b")
    with make(tmp_path, 3) as router:
        assert router.policy.steps == 20


def test_a_store_that_has_learned_nothing_takes_any_features(tmp_path):
    with make(tmp_path, 2) as router:
        router.decide([1.0, 0.0], event_id="open")
    with make(tmp_path, 3) as router:
        assert router.policy.dim == 3


@pytest.mark.parametrize("context", [(), ("a", "a"), ("a", ""), ("a", 3), "ab"])
def test_names_that_are_no_names_are_refused(context):
    with pytest.raises(InvalidInput, match="list of distinct names"):
        Router(arms=ARMS, context=context)


def test_names_give_the_length_of_the_context():
    router = Router(arms=ARMS, context=("one", "length"))
    assert router.decide([1.0, 0.5], event_id="e").context.tolist() == [1.0, 0.5]
    with pytest.raises(InvalidInput, match=r"shape \(2,\)"):
        router.decide([1.0], event_id="f")
