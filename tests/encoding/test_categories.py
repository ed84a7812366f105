"""Categories: every one has its own column, and clusters find what is there."""

from __future__ import annotations

import numpy as np
import pytest

from bandit_router.encoding.categories import ReadabilityBin, SemanticCluster
from bandit_router.encoding.contexts import Request
from bandit_router.encoding.text import TextComplexity
from bandit_router.errors import InvalidInput

EASY = "The cat sat on the mat."
MIDDLE = "A river is a large natural body of water. It is fed by many other little streams on its way."
HARD = "Institutional heterogeneity systematically undermines comparative epidemiological generalisability."


def difficulty(text):
    return 100.0 * (1.0 - TextComplexity()(Request(text=text))[3])


def test_every_readability_bin_and_the_missing_text_have_distinct_columns():
    """GreenServ's code makes one column fewer than there are bins, so its hardest bin is all zeros."""
    assert difficulty(EASY) < 20 <= difficulty(MIDDLE) < 30 <= difficulty(HARD)
    rows = [ReadabilityBin()(Request(text=text)) for text in (EASY, MIDDLE, HARD, None)]
    np.testing.assert_array_equal(rows, np.eye(4))


def greenserv_bins(text, edges=(20, 30)):
    """GreenServ's encoding as its code has it: as many columns as edges."""
    columns = np.zeros(len(edges))
    number = int(np.digitize(difficulty(text), edges))
    if number < len(edges):
        columns[number] = 1.0
    return columns


def test_the_encoding_it_replaces_gives_the_hardest_bin_no_column():
    assert greenserv_bins(EASY).tolist() == [1.0, 0.0]
    assert greenserv_bins(HARD).tolist() == [0.0, 0.0]
    assert ReadabilityBin()(Request(text=HARD)).sum() == 1.0


def test_a_difficulty_on_an_edge_belongs_to_the_harder_bin():
    edge = difficulty(MIDDLE)
    assert ReadabilityBin([edge])(Request(text=MIDDLE)).tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("edges", [(), (30.0, 20.0), (1.0, 1.0), (float("nan"),)])
def test_edges_that_do_not_increase_are_refused(edges):
    with pytest.raises(InvalidInput):
        ReadabilityBin(edges)


def blobs(texts):
    """Text "k-seed": a noisy copy of axis k."""
    out = []
    for text in texts:
        axis, seed = text.split("-")
        out.append(np.eye(4)[int(axis)] + 0.2 * np.random.default_rng(int(seed)).normal(size=4))
    return np.array(out)


def trained(order, clusters=3):
    encode = SemanticCluster(clusters, embed=blobs)
    for text in order:
        encode.update(Request(text=text))
    return encode


def test_three_separate_groups_end_in_three_clusters():
    encode = trained([f"{n % 3}-{n}" for n in range(90)])
    labels = [int(encode(Request(text=f"{n % 3}-{1000 + n}")).argmax()) for n in range(60)]
    assert [len(set(labels[group::3])) for group in range(3)] == [1, 1, 1]
    assert set(labels) == {0, 1, 2}


def test_a_centroid_is_the_mean_of_what_it_was_given():
    encode = trained(["0-1", "1-2", "0-3", "0-4"], clusters=2)
    np.testing.assert_allclose(encode.centroids[0], blobs(["0-1", "0-3", "0-4"]).mean(axis=0))
    assert encode.counts.tolist() == [3.0, 1.0]


def test_equal_embeddings_do_not_begin_two_clusters():
    assert trained(["0-1", "0-1", "1-2"], clusters=2).counts.tolist() == [2.0, 1.0]


def test_encoding_changes_nothing_and_no_cluster_is_a_column():
    """Encoding changes nothing and a text without a cluster has its own column."""
    encode = SemanticCluster(2, embed=blobs)
    assert encode(Request(text="0-1")).tolist() == [0.0, 0.0, 1.0]
    assert encode(Request()).tolist() == [0.0, 0.0, 1.0]
    encode.update(Request(text=" "))
    assert len(encode.counts) == 0
    assert encode.dim == 3


def test_a_restored_state_encodes_as_before_and_a_foreign_one_is_refused():
    encode = trained([f"{n % 3}-{n}" for n in range(30)])
    other = SemanticCluster(3, embed=blobs)
    other.restore(encode.state())
    for n in range(10):
        request = Request(text=f"{n % 3}-{n}")
        np.testing.assert_array_equal(encode(request), other(request))
        encode.update(request)
        other.update(request)
    for state in (
        {},
        {"centroids": np.zeros((4, 4)), "counts": np.ones(4)},
        {"centroids": np.zeros(3), "counts": np.ones(3)},
    ):
        with pytest.raises(InvalidInput):
            other.restore(state)
    with pytest.raises(InvalidInput, match="at least 1, got 0"):
        SemanticCluster(0, embed=blobs)
