"""`accompany`: the stems that go with given ones."""

from dataclasses import dataclass
from typing import Annotated

import tyro
from stems.v1 import models_pb2

from pyserver.cli import generation
from pyserver.cli.client import UsageError
from pyserver.cli.generation import GenerationArgs, Piece, require_stem
from pyserver.cli.known_stems import KnownStems, named_files


@dataclass(frozen=True, kw_only=True)
class AccompanyArgs(GenerationArgs):
    """The stems that are there, and those that are to go with them."""

    stems: tyro.conf.Positional[tuple[str, ...]]
    """Audio files of one rate, length and channel count. Which stem one is says its name, or drums=FILE."""
    write: Annotated[str, tyro.conf.arg(metavar="STEM,STEM")] = ""
    """Only these, separated by commas; default: all that are not given."""


def accompany(args: AccompanyArgs) -> int:
    """Make the stems that go with given ones."""
    if not args.stems:
        raise UsageError("no stems were given; see stemline accompany --help")

    def plan(model: models_pb2.Model) -> Piece:
        files = named_files(model, args.stems)
        written = _written(model, tuple(files), args.write)
        source = KnownStems(files)
        return Piece(
            model=model,
            known=tuple(files),
            source=source,
            written=written,
            sample_rate_hz=source.sample_rate_hz,
            channels=source.stem_channels,
            num_samples=source.num_samples,
        )

    return generation.run("accompany", "accompany", args, plan)


def _written(model: models_pb2.Model, known: tuple[str, ...], given: str) -> tuple[str, ...]:
    """In the model's order. Raises StemUnknown, UsageError."""
    asked = [name.strip() for name in given.split(",") if name.strip()]
    for stem in asked:
        require_stem(model, stem)
        if stem in known:
            raise UsageError(f'stem "{stem}" is given, so it cannot be asked for as well')
    written = tuple(stem for stem in model.stems if (stem in asked if asked else stem not in known))
    if not written:
        raise UsageError(f"all stems of model {model.name} are given ({', '.join(model.stems)}): nothing is missing")
    return written
