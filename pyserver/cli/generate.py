"""`generate`: a piece's stems from nothing, and their mix."""

from dataclasses import dataclass

from stems.v1 import models_pb2

from pyserver.cli import generation
from pyserver.cli.client import UsageError
from pyserver.cli.generation import GenerationArgs, Piece


@dataclass(frozen=True, kw_only=True)
class GenerateArgs(GenerationArgs):
    """A piece from nothing."""

    seconds: float = 12.0
    """How long it is to be."""


def generate(args: GenerateArgs) -> int:
    """Make a piece's stems from nothing, and their mix."""
    if not 0 < args.seconds <= 24 * 3600:
        raise UsageError(f"--seconds {args.seconds:g}: a piece is longer than nothing and shorter than a day")

    def plan(model: models_pb2.Model) -> Piece:
        rate = model.native.sample_rate_hz
        return Piece(
            model=model,
            known=(),
            source=None,
            written=tuple(model.stems),
            sample_rate_hz=rate,
            channels=model.native.channels,
            num_samples=max(1, round(args.seconds * rate)),
        )

    return generation.run("generate", "generate", args, plan)
