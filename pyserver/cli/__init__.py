"""The command line. Each command is a module here with a function of its own name that takes its arguments as one
dataclass (or a union of them, for sub-commands) and returns an exit code:

    def bounce(args: BounceArgs) -> int: ...

A module is imported only when its command is asked for, so that `stemline doctor` starts fast and none needs torch.
"""

import importlib
import os
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any

import pyserver
from pyserver.cli.exits import Exit, exit_code
from pyserver.errors import StemlineError

COMMANDS = {
    "serve": "run the server (the default)",
    "bounce": "separate songs into stems",
    "generate": "make a piece's stems from nothing",
    "accompany": "make the stems that go with given ones",
    "models": "list, pull, import and describe models",
    "live": "separate what comes in through the sound card",
    "doctor": "say what works on this machine and what does not",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code; errors of ours become one line on stderr."""
    try:
        try:
            return _answer(list(sys.argv[1:] if argv is None else argv))
        finally:
            print(end="", flush=True)  # or the interpreter would do it on its way out, where nobody can catch an error
    except BrokenPipeError:  # `stemline models list | head`
        _write_no_more()
        return Exit.READER_GONE


def _answer(args: list[str]) -> int:
    if args[:1] in (["-h"], ["--help"], ["help"]):
        print(_overview())
        return Exit.OK
    if args[:1] in (["-V"], ["--version"]):
        print(f"stemline {pyserver.__version__}")
        return Exit.OK
    name = args.pop(0) if args and not args[0].startswith("-") else "serve"
    if name not in COMMANDS:
        print(f"stemline: there is no command {name!r}\n\n{_overview()}", file=sys.stderr)
        return Exit.USAGE
    try:
        return _run(name, args)
    except StemlineError as error:
        print(f"stemline {name}: {error}", file=sys.stderr)
        return exit_code(error.reason)
    except KeyboardInterrupt:
        print(f"stemline {name}: cancelled", file=sys.stderr)
        return Exit.CANCELLED


def _write_no_more() -> None:
    """What still lies in the buffers of a pipe that nobody reads goes nowhere, without a word."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _run(name: str, args: Sequence[str]) -> int:
    import tyro

    function: Callable[[Any], int] = getattr(importlib.import_module(f"pyserver.cli.{name}"), name)
    hints = typing.get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    (args_type,) = hints.values()
    prog = f"stemline {name}"
    return function(tyro.cli(args_type, prog=prog, args=args, description=function.__doc__))


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(["usage: stemline [COMMAND] [OPTIONS]", "", *lines, "", "stemline COMMAND --help tells more."])
