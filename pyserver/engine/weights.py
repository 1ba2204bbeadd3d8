"""A network with the weights of its files, each put on the device straight from its file."""

from collections.abc import Iterator

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pyserver.engine.errors import ModelNotLoadable
from pyserver.models import registry
from pyserver.models.card import ModelCard
from pyserver.models.catalogue import InstalledModel
from pyserver.models.interface import AnyModel

_CPU = torch.device("cpu")
_LARGE_BYTES = 256e6


def read_network(installed: InstalledModel, device: torch.device = _CPU) -> AnyModel:
    """Strictly: every tensor is used and none is missing. Raises ModelNotLoadable."""
    # Torch takes a second to get ready for building on no device: longer than it takes to fill a small network.
    large = installed.file_bytes > _LARGE_BYTES
    network = _without_weights(installed.card) if large else _built(installed.card)
    try:
        tensors = dict(_tensors(installed, network.state_dict(), device))
        network.load_state_dict(tensors, strict=True, assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelNotLoadable(
            f"the weights of model {installed.card.name} do not fit its network: {error}", model=installed.card.name
        ) from error
    return network.eval()


def _without_weights(card: ModelCard) -> AnyModel:
    """On no device, so that what the files will bring takes no memory twice."""
    with torch.device("meta"):
        network = _built(card)
    if {name for name, _ in network.named_buffers()} <= network.state_dict().keys():
        return network
    return _built(card)  # it has tables of its own, which no file holds


def _built(card: ModelCard) -> AnyModel:
    return registry.build(card.architecture, card.config)


def _tensors(installed: InstalledModel, own: dict[str, Tensor], device: torch.device) -> Iterator[tuple[str, Tensor]]:
    """In the network's own precision, whatever the file's."""
    for path in installed.weight_paths:
        for key, tensor in load_file(path, device=str(device)).items():
            # On a CPU it is a view of the file, and would change or vanish with it.
            yield key, tensor.to(dtype=own[key].dtype if key in own else None, copy=device.type == "cpu")
