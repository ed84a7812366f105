"""Units of other people's columns, by hand."""

import pytest

from bandit_router.errors import InvalidInput
from bandit_router.reading.expressions import parse_expression

COLUMNS = ["stars", "time_ms", "acc", "gpt-4", "cost/1k", "a+b", "error rate"]


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("stars", 4.0, 4.0),
        ("stars/5", 3.0, 0.6),
        ("(stars-1)/4", 3.0, 0.5),
        ("( stars - 1 ) / 4", 5.0, 1.0),
        ("time_ms/1000", 250.0, 0.25),
        ("time_ms*1e-3", 250.0, 0.25),
        ("acc%", 85.0, 0.85),
        ("time_ms:ms", 250.0, 0.25),
        ("acc:percent", 85.0, 0.85),
        ("a+b:cents", 85.0, 0.85),
        ("1-error rate", 0.25, 0.75),
        ("1-acc%", 25.0, 0.75),
        ("1-acc/100", 25.0, 0.75),
        ("5-stars-1", 3.0, 1.0),
        ("5-(stars-1)", 3.0, 3.0),
        ("(5-stars)/4", 3.0, 0.5),
        ("gpt-4", 2.0, 2.0),
        ("gpt-4*2", 2.0, 4.0),
        ("cost/1k/1000", 5.0, 0.005),
        ("a+b-1", 5.0, 4.0),
    ],
)
def test_an_expression_gives_the_hand_calculation(text, value, expected):
    assert parse_expression(text, COLUMNS)(value) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("star", "did you mean 'stars'"),
        ("STARS/5", "did you mean 'stars'"),
        ("nothing", "no column 'nothing'; there are stars"),
        ("stars/0", "divides by 0"),
        ("stars-1/4", "brackets"),
        ("stars-1%", "brackets"),
        ("stars/time_ms", "no column"),
        ("", "no column"),
    ],
)
def test_what_is_no_expression_is_refused_with_the_way_out(text, message):
    with pytest.raises(InvalidInput, match=message):
        parse_expression(text, COLUMNS)
