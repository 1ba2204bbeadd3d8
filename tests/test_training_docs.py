"""Every command that docs/training.md names is one that its program takes."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import tyro

from training.data.render.__main__ import parsed
from training.experiments.registry import EXPERIMENTS

TEXT = (Path(__file__).parent.parent / "docs" / "training.md").read_text()


def commands() -> list[list[str]]:
    """Module and arguments of each `-m MODULE ...` in blocks of code and at the beginning of quoted text."""
    blocks = re.findall(r"^```$(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += [quoted.replace("\n", " ") for quoted in re.findall(r"`(python -m [^`]+)`", TEXT)]
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[line.index("-m") + 1 :] for line in words if "-m" in line]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_a_documented_command_is_understood(command: list[str]) -> None:
    module, *arguments = command
    arguments = [argument for argument in arguments if argument != "&"]
    if module == "training.data.render":
        assert parsed(arguments).out == Path("rendered")
        return
    given = tyro.cli(import_module(module).Arguments, args=arguments)
    if module == "training.train" and not given.list:
        assert (given.experiment or given.name) in EXPERIMENTS
        assert given.data is not None
        assert given.out is not None


def test_all_programs_of_the_training_code_are_documented() -> None:
    programs = {"train", "data.render", "evaluate", "sweep", "export", "figures"}
    assert {f"training.{name}" for name in programs} <= {command[0] for command in commands()}
