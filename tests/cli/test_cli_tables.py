"""Tables for people: at any width every name and every digit is there."""

import pytest

from bandit_router.cli.tables import print_table

NAMES = ["EvidenceThompson (default)", "oblivious LinUCB + LRU", "uniform random"]
NUMBERS = [["0.8556 ± 0.1101", "-118.6 ± 19.3"], ["0.9067 ± 0.1107", "3.3"], ["0.8128"]]


@pytest.mark.parametrize("width", [20, 40, 50, 60, 80, 120])
def test_no_number_is_cut_or_broken_at_any_width(width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    rows = [[name, *cells] for name, cells in zip(NAMES, NUMBERS, strict=True)]
    print_table("three policies", ("policy", "utility\n± 95 %", "regret to\nbest fixed"), [*rows[:2], (), rows[2]])
    output = capsys.readouterr().out
    assert "…" not in output
    assert all(cell in output for cells in NUMBERS for cell in cells)
    assert all(word in output for name in NAMES for word in name.split())


def test_a_narrow_terminal_gets_a_paragraph_for_each_name(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "20")
    print_table(
        "one policy", ("policy", "miss\nrate", "ms"), [("LRU", "0.25", "17.3"), (), ("none", "1.00")], caption="end"
    )
    assert capsys.readouterr().out == (
        "one policy\n\npolicy: LRU\n  miss rate 0.25\n  ms        17.3\n\npolicy: none\n  miss rate 1.00\n\nend\n"
    )


def test_control_characters_in_names_are_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    for width in ("200", "20"):
        with pytest.MonkeyPatch.context() as terminal:
            terminal.setenv("COLUMNS", width)
            print_table("t", ["arm", "n"], [["evil\x1b[2J\x07\x9b1m", "1"]])
        out = capsys.readouterr().out
        assert "\\x1b" in out
        assert not set(out) & set("\x1b\x07\x9b")
