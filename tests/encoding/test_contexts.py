"""Encoders of what a request states: task, features, their composition and standardisation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bandit_router.encoding.contexts import Bias, Concat, OneHotTask, Precomputed, Request, Standardise
from bandit_router.errors import InvalidInput

TASKS = st.lists(st.text(max_size=5), unique=True, max_size=6)
MATRICES = arrays(
    np.float64,
    st.tuples(st.integers(2, 30), st.integers(1, 4)),
    elements=st.floats(-1e6, 1e6, allow_subnormal=False),
)


@pytest.mark.parametrize("field", ["task", "text"])
@pytest.mark.parametrize("value", [3, b"bytes", float("nan"), ["chat"]])
def test_a_request_refuses_labels_and_texts_that_are_not_strings(field, value):
    with pytest.raises(InvalidInput, match=f"{field} must be a string or None, got {type(value).__name__}"):
        Request(**{field: value})


def test_a_request_cannot_be_changed():
    with pytest.raises(AttributeError):
        Request(task="chat").task = "code"


def test_bias_is_one_whatever_the_request():
    assert Bias()(Request()).tolist() == [1.0]


@given(tasks=TASKS, asked=st.none() | st.text(max_size=5))
@settings(deadline=None)
def test_every_task_has_exactly_one_column(tasks, asked):
    """Every task has exactly one column and unknown or missing ones have the last."""
    x = OneHotTask(tasks=tasks)(Request(task=asked))
    assert x.sum() == 1.0
    assert x.argmax() == (tasks.index(asked) if asked in tasks else len(tasks))


@pytest.mark.parametrize("tasks", [["chat", "chat"], "chat", ["chat", None], [1]])
def test_known_tasks_must_be_distinct_strings(tasks):
    with pytest.raises(InvalidInput, match="tasks must be"):
        OneHotTask(tasks=tasks)


def test_a_task_named_like_the_empty_string_is_a_task_of_its_own():
    encode = OneHotTask(tasks=["", "chat"])
    assert encode(Request(task="")).tolist() != encode(Request()).tolist()


def test_precomputed_passes_the_features_on():
    assert Precomputed(dim=3)(Request(features=(1, 2.5, -3))).tolist() == [1.0, 2.5, -3.0]


def test_precomputed_returns_a_copy():
    features = np.array([1.0, 2.0])
    Precomputed(dim=2)(Request(features=features))[:] = 0.0
    assert features.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (None, "the request has no features; pass 2 numbers"),
        ([1.0], r"features must have shape \(2,\), got \(1,\)"),
        ([[1.0, 2.0]], r"features must have shape \(2,\), got \(1, 2\)"),
        ([1.0, float("nan")], "features must be finite"),
        ([1.0, float("inf")], "features must be finite"),
        (["a", "b"], "features must be numbers"),
        ([[1.0], [2.0, 3.0]], "features must be numbers"),
        ([1.0, None], "features must be"),
    ],
)
def test_precomputed_refuses_features_it_cannot_use(features, message):
    with pytest.raises(InvalidInput, match=message):
        Precomputed(dim=2)(Request(features=features))


def test_precomputed_needs_at_least_one_column():
    with pytest.raises(InvalidInput, match="dim must be at least 1, got 0"):
        Precomputed(dim=0)


def test_concat_puts_its_encoders_side_by_side_and_nests():
    encode = Concat(Bias(), Concat(OneHotTask(tasks=["chat"]), Precomputed(dim=2)))
    assert encode.dim == 5
    assert encode(Request(task="chat", features=[7.0, 8.0])).tolist() == [1.0, 1.0, 0.0, 7.0, 8.0]


def test_concat_takes_any_callable_with_a_length():
    class Hour:
        dim = 1

        def __call__(self, request):
            return np.array([13.0])

    assert Concat(Bias(), Hour())(Request()).tolist() == [1.0, 13.0]


def test_concat_of_nothing_is_refused():
    with pytest.raises(InvalidInput, match="at least one encoder"):
        Concat()


@given(matrix=MATRICES)
@settings(deadline=None)
def test_standardise_agrees_with_the_mean_and_deviation_of_numpy(matrix):
    encode = _updated(matrix)
    scale = np.abs(matrix).max() + 1.0
    np.testing.assert_allclose(encode.mean, matrix.mean(axis=0), atol=1e-12 * scale)
    variance = encode.squares / (len(matrix) - 1)
    np.testing.assert_allclose(variance, matrix.var(axis=0, ddof=1), rtol=1e-9, atol=1e-13 * scale**2)


def test_standardised_prefix_has_mean_zero_and_deviation_one():
    matrix = np.random.default_rng(0).normal([5.0, -300.0], [0.1, 40.0], size=(200, 2))
    encode = _updated(matrix)
    encoded = np.array([encode(Request(features=row)) for row in matrix])
    np.testing.assert_allclose(encoded.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(encoded.std(axis=0, ddof=1), 1.0, rtol=1e-12)


def test_standardise_changes_only_when_it_is_updated():
    encode = _updated([[1.0], [2.0], [4.0]])
    before = encode.state()
    first = encode(Request(features=[9.0]))
    second = encode(Request(features=[9.0]))
    assert first.tolist() == second.tolist()
    assert all(np.array_equal(before[name], value) for name, value in encode.state().items())
    encode.update(Request(features=[9.0]))
    assert encode(Request(features=[9.0])).tolist() != first.tolist()


def test_standardise_leaves_values_as_they_are_until_it_has_seen_two():
    encode = Standardise(Precomputed(dim=2))
    assert encode(Request(features=[3.0, 4.0])).tolist() == [3.0, 4.0]
    encode.update(Request(features=[1.0, 1.0]))
    assert encode(Request(features=[3.0, 4.0])).tolist() == [2.0, 3.0]


def test_a_column_that_never_varied_is_centred_and_stays_finite():
    encode = _updated([[0.1, 1.0]] * 7)
    assert encode(Request(features=[0.1, 3.0])).tolist() == [0.0, 2.0]


def test_a_refused_request_leaves_the_standardisation_unchanged():
    encode = _updated([[1.0], [2.0]])
    with pytest.raises(InvalidInput):
        encode.update(Request(features=[float("nan")]))
    assert encode.state()["count"] == 2


@given(matrix=MATRICES)
@settings(deadline=None)
def test_saved_standardisation_encodes_and_goes_on_exactly_as_before(matrix):
    encode, again = _updated(matrix), Standardise(Precomputed(dim=matrix.shape[1]))
    again.restore(encode.state())
    for row in matrix:
        request = Request(features=row)
        assert again(request).tolist() == encode(request).tolist()
        encode.update(request)
        again.update(request)


def test_saved_standardisation_is_not_changed_by_later_updates():
    encode = _updated([[1.0], [2.0]])
    saved = encode.state()
    encode.update(Request(features=[50.0]))
    assert saved["mean"].tolist() == [1.5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": np.zeros(3)}, "mean must have shape"),
        ({"squares": np.array([np.nan, 1.0])}, "squares must be finite"),
        ({"squares": np.array([-1.0, 1.0])}, "count and squares must not be negative"),
        ({"count": np.asarray(-1)}, "count and squares must not be negative"),
        ({"mean": None}, "lacks 'mean'"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(change, message):
    encode = _updated([[1.0, 2.0], [3.0, 5.0]])
    before = encode.state()
    state = {name: value for name, value in {**encode.state(), **change}.items() if value is not None}
    with pytest.raises(InvalidInput, match=message):
        encode.restore(state)
    assert all(np.array_equal(before[name], value) for name, value in encode.state().items())


def _updated(rows) -> Standardise:
    encode = Standardise(Precomputed(dim=len(rows[0])))
    for row in rows:
        encode.update(Request(features=row))
    return encode
