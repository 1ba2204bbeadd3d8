"""The core networks of a model: the parts that take and give real tensors alone, so that another runtime can have them.

STFT, spatial filter, preconditioning and whatever else is done with spectra and levels stay where they are: a core is
replaced in its place (`put`), and the model around it notices nothing. Whatever arguments a core is called with, nested
lists of tensors too, become one flat list here, by a `Structure`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pyserver.diffusion.scalings import consistency_scalings
from pyserver.errors import StemlineError
from pyserver.models.interface import AnyModel, SeparationModel

Structure = Any
"""What is left of nested lists and mappings of tensors when the tensors are taken out: JSON."""
_TENSOR, _NONE = "tensor", "none"

_SAMPLES, _BATCHES = (16384, 32768), (2, 3)
"""Two calls that differ in every axis that may differ. Whatever is the same in both is fixed in the network."""


class NoCores(StemlineError):
    """A model of which no part is known to run elsewhere than in PyTorch."""

    reason = "MODEL_NEEDS_TORCH"

    def __init__(self, model: str, architecture: str) -> None:
        super().__init__(
            f"model {model} ({architecture}) is computed by PyTorch only; ONNX Runtime can have models of the "
            f"architectures {', '.join(sorted(_CORES))}",
            model=model,
        )


@dataclass(frozen=True, slots=True)
class Core:
    """A place in a model. A `*` stands for every entry of a list. `holds` are the neighbours that only a method in this
    place uses, and that go when it is replaced; `first_only` where callers use the first output alone."""

    path: str
    holds: tuple[str, ...] = ()
    first_only: bool = False


_TRUNK = ("layers", "final_norm", "band_split")
_CORES: Mapping[str, tuple[Core, ...]] = {
    "band_split": (Core("separator"), Core("refiner")),
    "dicose_unet": (Core("separator"), Core("refiner", first_only=True)),
    "dicose_bs_roformer": (
        Core("separator.core", holds=(*_TRUNK, "mask_estimators")),
        Core("refiner.adapt_spectrum", holds=("stft_feature_adapter",)),
        Core("refiner.tokens", holds=(*_TRUNK, "band_split_feature_adapter", "transformer_feature_adapters")),
        Core("refiner.mask_estimators.*"),
    ),
}


def has_cores(architecture: str) -> bool:
    return architecture in _CORES


def cores(model: AnyModel, architecture: str) -> tuple[Core, ...]:
    """Those that this model has: one without a refiner has fewer."""
    found: list[Core] = []
    for core in _CORES.get(architecture, ()):
        if getattr(model, core.path.partition(".")[0]) is None:
            continue
        if core.path.endswith(".*"):
            listed = core.path.removesuffix(".*")
            entries = model.get_submodule(listed)
            assert isinstance(entries, nn.ModuleList)
            found += [Core(f"{listed}.{index}") for index in range(len(entries))]
        else:
            found.append(core)
    return tuple(found)


def put(model: nn.Module, core: Core, network: nn.Module) -> None:
    """In the core's place; what was there, and all its weights, is let go."""
    owner, name = _owner(model, core)
    _assign(owner, name, network)
    for neighbour in core.holds:
        delattr(owner, neighbour)


def is_replaced(owner: nn.Module, method: str) -> bool:
    """Whether a network stands in the place of this method."""
    return method in vars(owner)


def own_modules(model: nn.Module, core: Core) -> list[nn.Module]:
    """Those whose weights only this core computes with."""
    owner, name = _owner(model, core)
    own = getattr(owner, name)
    return [own] if isinstance(own, nn.Module) else [getattr(owner, held) for held in core.holds]


def surround(model: nn.Module, core: Core, around: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Puts something around what a core computes; its weights stay where they are."""
    owner, name = _owner(model, core)
    own = getattr(owner, name)
    holder, name = (own, "forward") if isinstance(own, nn.Module) else (owner, name)
    object.__setattr__(holder, name, around(getattr(holder, name)))


def take_apart(value: object, tensors: list[Tensor]) -> Structure:
    """Appends the tensors of a nested value to the list; returns what is needed to put them together again."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return _TENSOR
    if value is None:
        return _NONE
    if isinstance(value, Mapping):
        return {key: take_apart(item, tensors) for key, item in value.items()}
    assert isinstance(value, Sequence), f"a core takes tensors and nothing else, not {type(value).__name__}"
    return [take_apart(item, tensors) for item in value]


def put_together(structure: Structure, tensors: Iterator[Tensor]) -> Any:
    if structure == _TENSOR:
        return next(tensors)
    if structure == _NONE:
        return None
    if isinstance(structure, Mapping):
        return {key: put_together(item, tensors) for key, item in structure.items()}
    return [put_together(item, tensors) for item in structure]


class Flat(nn.Module):
    """A core that takes its tensors one after the other and gives a tuple of them."""

    def __init__(self, model: nn.Module, core: Core, arguments: Structure) -> None:
        super().__init__()
        owner, self._name = _owner(model, core)
        own = getattr(owner, self._name)
        self.network, self._is_method = (own, False) if isinstance(own, nn.Module) else (owner, True)
        self._arguments, self._first_only = arguments, core.first_only

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        positional, named = put_together(self._arguments, iter(tensors))
        network = getattr(self.network, self._name) if self._is_method else self.network
        given = network(*positional, **named)
        flat: list[Tensor] = []
        take_apart(given[:1] if self._first_only else given, flat)
        return tuple(flat)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a core was called with and what it gave, in two calls that differ in batch and length."""

    core: Core
    arguments: Structure
    outputs: Structure
    given: tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
    made: tuple[tuple[Tensor, ...], tuple[Tensor, ...]]

    @property
    def free_axes(self) -> tuple[tuple[int, ...], ...]:
        """Of every input, the axes whose length is not fixed."""
        return tuple(
            tuple(axis for axis, (a, b) in enumerate(zip(one.shape, other.shape, strict=True)) if a != b)
            for one, other in zip(*self.given, strict=True)
        )

    def output_shapes(self) -> list[list[int | list[int]]]:
        """Of every output each axis: a length, or [input, axis, times, over] that it follows from."""
        return [
            [self._follows(a, b) for a, b in zip(one.shape, other.shape, strict=True)]
            for one, other in zip(*self.made, strict=True)
        ]

    def _follows(self, first: int, second: int) -> int | list[int]:
        if first == second:
            return first
        one, other = self.given
        for index, axes in enumerate(self.free_axes):
            for axis in axes:
                a, b = one[index].shape[axis], other[index].shape[axis]
                if first * b == second * a:
                    return [index, axis, first, a]
        raise AssertionError(f"{self.core.path} gives an axis of {first} and {second} that no input has a part in")


def shape_of(rule: Sequence[int | Sequence[int]], inputs: Sequence[Tensor]) -> list[int]:
    """A shape out of what `Recorded.output_shapes` says and the inputs at hand."""
    found = []
    for axis in rule:
        if isinstance(axis, int):
            found.append(axis)
        else:
            source, of, times, over = axis
            found.append(inputs[source].shape[of] * times // over)
    return found


def record(model: AnyModel, architecture: str, channels: int) -> list[Recorded]:
    """Runs separator and refiner on noise and notes what the cores see. The model is as before afterwards."""
    assert isinstance(model, SeparationModel)
    recorders = [(core, _Recorder(model, core)) for core in cores(model, architecture)]
    for core, recorder in recorders:
        _assign(*_owner(model, core), recorder)
    generator = torch.Generator().manual_seed(0)
    try:
        with torch.no_grad():
            for batch, samples in zip(_BATCHES, _SAMPLES, strict=True):
                mixture = torch.randn(batch, channels, samples, generator=generator) * 0.1
                stems, features = model.separate(mixture)
                if model.has_refiner:
                    model.denoise(stems, torch.full((batch,), 0.1), features, consistency_scalings)
    finally:
        for core, recorder in recorders:
            recorder.undo(*_owner(model, core))
    return [recorder.recorded(core) for core, recorder in recorders]


class _Recorder(nn.Module):
    """Stands in the place of a core and listens. Of repeated calls with one batch the first counts."""

    def __init__(self, model: nn.Module, core: Core) -> None:
        super().__init__()
        owner, name = _owner(model, core)
        self.own, self._first_only = getattr(owner, name), core.first_only
        self.calls: dict[tuple[int, ...], tuple[Structure, Structure, tuple[Tensor, ...], tuple[Tensor, ...]]] = {}

    def forward(self, *positional: Any, **named: Any) -> Any:
        made = self.own(*positional, **named)
        given, outputs = [], []  # type: list[Tensor], list[Tensor]
        arguments = take_apart((positional, named), given)
        structure = take_apart(made[:1] if self._first_only else made, outputs)
        self.calls.setdefault(tuple(given[0].shape), (arguments, structure, tuple(given), tuple(outputs)))
        return made

    def undo(self, owner: nn.Module, name: str) -> None:
        if isinstance(self.own, nn.Module):
            setattr(owner, name, self.own)
        else:
            delattr(owner, name)

    def recorded(self, core: Core) -> Recorded:
        one, other = self.calls.values()
        assert one[:2] == other[:2], f"{core.path} is called in different ways"
        return Recorded(core, one[0], one[1], (one[2], other[2]), (one[3], other[3]))


def _owner(model: nn.Module, core: Core) -> tuple[nn.Module, str]:
    path, _, name = core.path.rpartition(".")
    return model.get_submodule(path), name


def _assign(owner: nn.Module, name: str, network: nn.Module) -> None:
    if name in owner._modules:
        setattr(owner, name, network)
    else:
        object.__setattr__(owner, name, network)  # before the method of that name, as no module is registered under it
