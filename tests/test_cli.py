"""What holds for every command of the command line."""

import os
import subprocess

import pytest
from cli_tools import ROOT, command

from pyserver.cli.exits import Exit


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["models", "--help"], ["models", "list"]])
def test_a_reader_that_has_gone_away_is_no_reason_for_a_traceback(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as `head` does when it has seen enough
    try:
        result = subprocess.run(
            command(*arguments), stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=60, check=False
        )
    finally:
        os.close(writer)
    assert result.stderr == ""
    assert result.returncode == Exit.READER_GONE == 141
