"""Every error that a user can meet has its exit code and its gRPC code."""

import importlib
import pkgutil

import pytest

import pyserver
from pyserver.cli.exits import Exit
from pyserver.errors import StemlineError
from pyserver.service.errors import CODES


def below(kind: type[StemlineError]) -> set[type[StemlineError]]:
    return {kind}.union(*map(below, kind.__subclasses__()))


@pytest.fixture(scope="module")
def reasons() -> dict[str, type[StemlineError]]:
    """All reasons of the package, each with an error that has it."""
    for module in pkgutil.walk_packages(pyserver.__path__, "pyserver."):
        importlib.import_module(module.name)
    return {kind.reason: kind for kind in below(StemlineError) if kind.__module__.startswith("pyserver.")}


def test_every_error_has_an_exit_code(reasons: dict[str, type[StemlineError]]) -> None:
    assert len(reasons) > 60
    assert {reason: kind for reason, kind in reasons.items() if reason not in Exit.__members__} == {}


def test_every_error_has_a_grpc_code(reasons: dict[str, type[StemlineError]]) -> None:
    assert {reason: kind for reason, kind in reasons.items() if reason not in CODES} == {}


def test_no_grpc_code_is_kept_for_an_error_that_is_gone(reasons: dict[str, type[StemlineError]]) -> None:
    assert CODES.keys() - reasons.keys() == set()
