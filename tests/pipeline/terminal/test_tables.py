"""Tables on standard output: in a pipe every number is one that a program reads."""

from __future__ import annotations

import pytest

from pipeline.terminal import tables


def test_numbers_in_a_pipe_have_no_thousands_separators(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(("rack", "w", "share", "none", "nan"), [("R\t1", 132_014.0, 0.12345, None, float("nan"))])
    head, row = capsys.readouterr().out.splitlines()
    assert head == "rack\tw\tshare\tnone\tnan"
    assert row == "R\\t1\t132014.00\t0.1235\t\t"
