import hashlib

import numpy as np
import pytest

from bandit_router.errors import InvalidInput
from bandit_router.records.decisions import event_uniform


def test_the_uniform_number_is_the_keyed_hash_in_53_bits():
    digest = hashlib.blake2b("réq-1".encode(), key=b"secret", digest_size=8).hexdigest()
    assert event_uniform(b"secret", "réq-1") == (int(digest, 16) // 2**11) / 2**53


def test_another_key_or_another_event_gives_another_number():
    assert len({event_uniform(key, event) for key in (b"k", b"l") for event in ("r-1", "r-2", "")}) == 6


def test_the_numbers_are_uniform():
    """Chi-square over 100 cells, 99 degrees of freedom: 99.9 % of uniform samples stay below 148.2."""
    numbers = [event_uniform(b"key", f"request-{i}") for i in range(20_000)]
    assert 0 <= min(numbers) <= max(numbers) < 1
    counts = np.histogram(numbers, bins=100, range=(0, 1))[0]
    assert ((counts - 200) ** 2 / 200).sum() < 148.2


@pytest.mark.parametrize("wrong", [5, None, b"bytes", "\ud800"])
def test_an_id_that_is_no_text_is_refused(wrong):
    with pytest.raises(InvalidInput, match="event_id"):
        event_uniform(b"key", wrong)


def test_a_key_that_blake2_cannot_use_is_refused():
    with pytest.raises(ValueError, match="key"):
        event_uniform(b"k" * 65, "r-1")
