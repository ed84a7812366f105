"""Encoders that read the text: complexity figures, PCA whitening, WordLlama embeddings."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh

from bandit_router.encoding.contexts import Request
from bandit_router.encoding.text import (
    LONGEST,
    Embedding,
    TextComplexity,
    Whitening,
    _load_wordllama,
    count_syllables,
    fit_pca,
    wordllama,
)
from bandit_router.errors import InvalidInput

LENGTH, WORD, SENTENCE, EASE, DIGITS, CODE, MISSING = range(7)
PLATYPUS = "The Australian platypus is seemingly a hybrid of a mammal and reptilian creature."
BLANK = [None, "", " \n\t "]


def complexity(text):
    return TextComplexity()(Request(text=text))


def vectors(n=60, width=8, seed=0):
    """Correlated vectors with a mean away from 0."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)


def length_and_vowels(texts):
    """A stand-in for a language model."""
    return np.array([[len(text), sum(map(text.count, "aeiou"))] for text in texts], dtype=float)


def test_reading_ease_of_a_sentence_with_a_published_score():
    # 13 words and 24 syllables: 37.5 in the usual rounding.
    assert complexity(PLATYPUS)[EASE] * 100 == pytest.approx(206.835 - 1.015 * 13 - 84.6 * 24 / 13)


@pytest.mark.parametrize(
    ("word", "syllables"),
    [
        ("cat", 1),
        ("the", 1),
        ("platypus", 3),
        ("creature", 2),
        ("table", 2),
        ("tree", 1),
        ("hmm", 1),
        ("2024", 1),
    ],
)
def test_syllables_are_counted_as_an_english_reader_would(word, syllables):
    assert count_syllables(word) == syllables


def test_lengths_are_counted_by_hand():
    x = complexity('He said "no." Then 3.5 years went by... Why?')
    assert x[LENGTH] == pytest.approx(np.log(44) / np.log(1e6))
    assert x[WORD] == pytest.approx((2 + 4 + 2 + 4 + 1 + 1 + 5 + 4 + 2 + 3) / 10 / 10)
    assert x[SENTENCE] == pytest.approx(10 / 3 / 50)
    assert x[DIGITS] == pytest.approx(2 / 44)


def test_sentences_end_at_full_stops_of_chinese_and_at_blank_lines():
    assert complexity("你好。再见。")[SENTENCE] == pytest.approx(2 / 2 / 50)
    assert complexity("one two\n \nthree four")[SENTENCE] == pytest.approx(4 / 2 / 50)


def test_code_is_told_from_prose():
    assert complexity("for (i = 0; i < n; i++) { a[i] = b[i] & 0xff; }")[CODE] > 0.2
    assert complexity(PLATYPUS)[CODE] == 0.0


def test_harder_text_has_the_lower_reading_ease():
    simple = "The dog ran. It was fun. We all sat down."
    difficult = "Institutional heterogeneity necessitates multidimensional characterisation of organisations."
    assert complexity(simple)[EASE] > complexity(PLATYPUS)[EASE] > complexity(difficult)[EASE]


@pytest.mark.parametrize("text", BLANK)
def test_missing_text_has_a_complexity_column_of_its_own(text):
    assert complexity(text).tolist() == [0.0] * 6 + [1.0]


@given(text=st.text(st.characters(), min_size=1, max_size=200))
@settings(deadline=None)
def test_complexity_of_any_text_is_bounded_and_never_looks_missing(text):
    x = complexity(text)
    assert x.shape == (7,)
    assert ((x >= 0) & (x <= 1)).all()
    assert x[MISSING] == (not text.strip())
    assert x.tolist() == complexity(text).tolist()


def test_a_very_long_text_is_read_in_part_and_counted_whole():
    """Only the beginning of a very long text is read but its length counts."""
    text = "A short sentence. " * LONGEST
    longer = complexity(text + "{" * LONGEST)
    assert longer[LENGTH] > complexity(text)[LENGTH]
    assert longer[1:].tolist() == complexity(text)[1:].tolist()


def test_pca_agrees_with_the_eigenvectors_of_the_covariance():
    matrix = vectors()
    values, axes = eigh(np.cov(matrix, rowvar=False))
    expected = (matrix - matrix.mean(axis=0)) @ axes[:, ::-1][:, :3] / np.sqrt(values[::-1][:3])
    components = fit_pca(matrix, components=3)(matrix)
    np.testing.assert_allclose(np.abs(components), np.abs(expected), atol=1e-9)


@given(seed=st.integers(0, 2**32 - 1), components=st.integers(1, 8))
@settings(deadline=None, max_examples=30)
def test_whitened_columns_are_uncorrelated_with_unit_variance(seed, components):
    matrix = vectors(seed=seed)
    whitened = fit_pca(matrix, components=components)(matrix)
    np.testing.assert_allclose(whitened.mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(whitened.T @ whitened / (len(matrix) - 1), np.eye(components), atol=1e-6)


def test_the_largest_loading_of_every_component_is_positive():
    projection = fit_pca(vectors(), components=8).projection
    assert (projection[np.abs(projection).argmax(axis=0), np.arange(8)] > 0).all()


@pytest.mark.parametrize(
    ("matrix", "components", "message"),
    [
        (vectors(n=3), 3, "more rows than 3 components"),
        (vectors(), 0, "more rows than 0 components"),
        (np.zeros(5), 1, "must be a matrix"),
        (np.ones((9, 4)), 1, "span only 0 directions"),
        (np.outer(np.arange(9.0), np.ones(4)), 2, "span only 1 directions"),
        (vectors(width=2), 3, "span only 2 directions"),
        (np.full((9, 4), np.nan), 1, "must be finite"),
        ([["a"] * 4] * 9, 1, "must be numbers"),
    ],
)
def test_vectors_that_cannot_be_fitted_are_refused(matrix, components, message):
    with pytest.raises(InvalidInput, match=message):
        fit_pca(matrix, components=components)


def test_a_whitening_is_frozen_and_independent_of_what_it_was_made_from():
    mean = np.zeros(2)
    whitening = Whitening(mean, np.eye(2), 5)
    mean += 1.0
    assert whitening.mean.tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="read-only"):
        whitening.projection[0, 0] = 9.0
    with pytest.raises(AttributeError):
        whitening.fitted_on = 6


def test_a_saved_whitening_maps_exactly_as_before(tmp_path):
    matrix, file = vectors(), tmp_path / "whitening.npz"
    whitening = fit_pca(matrix, components=4)
    np.savez(file, **whitening.state())
    with np.load(file, allow_pickle=False) as state:
        again = Whitening.from_state(state)
    assert again(matrix).tolist() == whitening(matrix).tolist()
    assert (again.components, again.fitted_on) == (4, 60)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": np.zeros(3)}, "mean must have shape"),
        ({"mean": np.zeros((2, 2))}, "mean must have shape"),
        ({"projection": np.full((2, 2), np.inf)}, "projection must be finite"),
        ({"mean": np.zeros(0), "projection": np.zeros((0, 2))}, "a matrix that is not empty"),
        ({"fitted_on": None}, "lacks 'fitted_on'"),
    ],
)
def test_a_whitening_that_does_not_fit_together_is_refused(change, message):
    state = {**Whitening(np.zeros(2), np.eye(2), 5).state(), **change}
    with pytest.raises(InvalidInput, match=message):
        Whitening.from_state({name: value for name, value in state.items() if value is not None})


def test_embedding_gives_whitened_components_and_says_that_text_is_there():
    whitening = Whitening(np.array([3.0, 1.0]), np.array([[0.5], [0.0]]), 9)
    encode = Embedding(whitening=whitening, embed=length_and_vowels)
    assert encode.dim == 2
    assert encode(Request(text="seven77")).tolist() == [2.0, 0.0]


@pytest.mark.parametrize("text", BLANK)
def test_missing_text_has_an_embedding_column_of_its_own(text):
    whitening = Whitening(np.array([3.0, 1.0]), np.eye(2), 9)
    assert Embedding(whitening=whitening, embed=length_and_vowels)(Request(text=text)).tolist() == [
        0.0,
        0.0,
        1.0,
    ]


def test_a_whitening_of_another_embedding_is_refused_at_construction():
    with pytest.raises(InvalidInput, match=r"shape \(1, 3\) to fit the whitening, got \(1, 2\)"):
        Embedding(whitening=Whitening(np.zeros(3), np.eye(3), 9), embed=length_and_vowels)


def test_wordllama_gives_unit_vectors_that_lie_closer_for_closer_meanings():
    river, stream, code = wordllama(
        ["The river flooded the town.", "Water from the stream covered the village.", "def f(x): return x"]
    )
    assert river.shape == (256,)
    assert np.linalg.norm(river) == pytest.approx(1.0)
    assert river @ stream > river @ code + 0.1


def test_wordllama_gives_a_text_the_same_vector_alone_and_among_others():
    texts = ["hi", PLATYPUS * 3, "def f(x): return x"]
    assert np.array_equal(wordllama(texts)[0], wordllama(["hi"])[0])


def test_a_text_with_half_a_surrogate_pair_is_embedded():
    assert np.isfinite(wordllama(["broken \ud83d emoji"])).all()


def test_embedding_of_real_text_ends_at_the_longest_prefix():
    texts = [f"{subject} {verb} today" for subject in ("cats", "rivers", "models") for verb in ("sleep", "run", "win")]
    encode = Embedding(whitening=fit_pca(wordllama(texts), components=3))
    filler = "word " * (LONGEST // 5)
    assert encode.dim == 4
    assert encode(Request(text=filler + "rivers")).tolist() == encode(Request(text=filler + "models")).tolist()
    assert encode(Request(text="rivers")).tolist() != encode(Request(text="models")).tolist()


@pytest.mark.real_data
@pytest.mark.skipif("BANDIT_ROUTER_DATA" not in os.environ, reason="set BANDIT_ROUTER_DATA to run on real prompts")
@pytest.mark.parametrize("name", ["paretobandit_val_k4", "routerbench_zs", "adapters7", "mmlu_pro", "greenserv"])
def test_real_prompts_are_encoded_into_bounded_numbers(name):
    file = Path(os.environ["BANDIT_ROUTER_DATA"]) / "outcomes" / name / "queries.parquet"
    prompts = pl.read_parquet(file)["prompt"].sample(1500, seed=0, shuffle=True).to_list()
    encode = Embedding(whitening=fit_pca(wordllama(prompts[:512])))
    embedded = np.array([encode(Request(text=prompt)) for prompt in prompts])
    figures = np.array([complexity(prompt) for prompt in prompts])
    np.testing.assert_allclose(np.cov(embedded[:512, :-1], rowvar=False), np.eye(24), atol=1e-6)
    assert np.abs(embedded).max() < 30
    assert (figures.min(), figures.max(), figures[:, MISSING].max()) == (0.0, figures.clip(0, 1).max(), 0.0)
    assert (figures[:, :EASE].std(axis=0) > 0.01).all()


def test_the_embedding_loads_on_use_and_leaves_logging_alone():
    """Embedding is loaded on use and leaves the logging of the program alone."""
    program = """
import logging, sys
from bandit_router.encoding.text import wordllama
assert "wordllama" not in sys.modules
wordllama(["hello"])
assert "wordllama" in sys.modules
assert logging.getLogger().handlers == [] and logging.getLogger().level == logging.WARNING
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "wordllama", None)
    _load_wordllama.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'bandit-router\[text\]'"):
        wordllama(["hello"])
