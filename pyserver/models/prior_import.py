"""Published checkpoints of MSDM and ISDM as models of ours: which tensor goes where, and what the card says.

MSDM's has its network twice, below `model.unet.` and `model.diffusion.net.`. ISDM comes as one such file a stem, or as
one file with the stem's number before each name.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pyserver.models.card import ModelCard
from pyserver.models.configuration import Shapes, UnknownNetwork, configure, find_value
from pyserver.models.fitting import KeysDoNotFit, Tensors, below, require_exact, shapes, some
from pyserver.models.msdm import MsdmConfig
from pyserver.models.published import PRIORS, PublishedPrior
from pyserver.models.torch_archive import StoredTensor

_NETWORK, _COPY = "model.unet.", "model.diffusion.net."
_NUMBERED = re.compile(r"(\d+)\.(model\..+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorPlan:
    """What of the checkpoints goes where: `parts` under the names of the network, which has exactly `network_keys`."""

    facts: PublishedPrior
    config: MsdmConfig
    parts: Tensors
    network_keys: frozenset[str]
    files: int

    @property
    def default_name(self) -> str:
        return self.facts.name

    def archive_of(self, key: str) -> int:
        """Which of the files holds a part: of ISDM's, that of its stem."""
        return int(key.split(".")[1]) if self.files > 1 else 0

    def card(self, name: str, sha256: Mapping[str, str], licence: str, source: str) -> ModelCard:
        facts, network = self.facts, self.config.network
        full_size = all(network.get(key) == value for key, value in facts.network.items())
        return ModelCard(
            name=name,
            title=facts.title,
            architecture=facts.architecture,
            config=asdict(self.config),
            stems=_stems(facts, self.config.stems),
            sample_rate_hz=facts.sample_rate_hz,
            channels=1,
            window_samples=facts.window_samples,
            margin_samples=facts.margin_samples,
            fade_samples=facts.fade_samples,
            live_window_samples=facts.live_window_samples,
            live_lookahead_samples=facts.live_lookahead_samples,
            reference_rms=facts.reference_rms,
            complete=True,
            refiner=None,
            prior=facts.prior(_stems(facts, self.config.stems)),
            licence=licence,
            weights=tuple(sha256),
            sha256=sha256,
            training_data=facts.training_data if full_size else "",
            quality={"as_published": facts.quality} if full_size else {},
            notes=source,
        )


def is_prior(state: Tensors) -> bool:
    """Whether a state dict is of a U-Net that knows the noise level and no class: not one of DiCoSe's."""
    names = [match[2] if (match := _NUMBERED.fullmatch(key)) else key for key in state]
    return any(name.startswith(_NETWORK + "to_time.") for name in names) and not any(
        ".to_features." in name or name.startswith(("net.", "pre_trained_")) for name in names
    )


def plan_import(states: Sequence[Tensors], saved: Mapping[str, Any], given: Any) -> PriorPlan:
    """Fit every tensor to its place; reads none. `saved` are hyper-parameters, `given` the user's configuration.

    Raises UnknownNetwork, KeysDoNotFit and what `configure` raises.
    """
    networks = [_network_of(state) for state in _one_a_network(states)]
    first = shapes(networks[0])
    stacked = _stacked(first)
    facts = PRIORS["isdm" if stacked == 1 else "msdm"]
    stems = len(networks) if stacked == 1 else stacked
    if stacked == 1 and len(networks) == 1:
        raise UnknownNetwork(
            "this is the network of one stem (ISDM); give the files of all stems at once, the others by --others, "
            f"in the order {', '.join(facts.stems)}"
        )
    if stacked > 1 and len(networks) > 1:
        raise KeysDoNotFit(f"a network over {stacked} stems is a whole model; {len(networks)} of them are none")
    network = configure("unet", facts, first, given, saved)
    sigma_data = float(find_value(given, "sigma_data") or facts.sigma_data)
    config = MsdmConfig(network=network, stems=stems, sigma_data=sigma_data)
    parts: dict[str, StoredTensor] = {}
    for number, tensors in enumerate(networks):
        prefix = "network." if facts.architecture == "msdm" else f"networks.{number}."
        parts |= {prefix + key: tensor for key, tensor in tensors.items()}
    keys = require_exact(facts.architecture, asdict(config), parts)
    return PriorPlan(facts=facts, config=config, parts=parts, network_keys=keys, files=len(states))


def _stacked(network: Shapes) -> int:
    """How many channels go into the network."""
    try:
        return network["to_in.module_list.0.block.block1.project.weight"][1]
    except (KeyError, IndexError) as error:
        raise UnknownNetwork(f"the checkpoint's unet lacks or misshapes {error}") from error


def _one_a_network(states: Sequence[Tensors]) -> list[Tensors]:
    """Files of one network each as they are; a file with numbered networks as one state a number."""
    numbered = {int(match[1]) for key in states[0] if (match := _NUMBERED.fullmatch(key))}
    if not numbered:
        return list(states)
    if len(states) > 1 or numbered != set(range(len(numbered))):
        raise KeysDoNotFit(f"networks are numbered {sorted(numbered)} in the first of {len(states)} files")
    stray = [key for key in states[0] if not _NUMBERED.fullmatch(key)]
    if stray:
        raise KeysDoNotFit(f"the checkpoint has {len(stray)} keys that belong to no network: {some(stray)}")
    return [below(states[0], f"{number}.") for number in sorted(numbered)]


def _network_of(state: Tensors) -> dict[str, StoredTensor]:
    unknown = [key for key in state if not key.startswith((_NETWORK, _COPY))]
    if unknown:
        raise KeysDoNotFit(f"the checkpoint has {len(unknown)} keys that belong to no known copy: {some(unknown)}")
    network, copy = below(state, _NETWORK), below(state, _COPY)
    if copy and shapes(copy) != shapes(network):
        differing = [key for key in copy.keys() | network.keys() if shapes(copy).get(key) != shapes(network).get(key)]
        raise KeysDoNotFit(f"the copy below {_COPY} is of another network: {some(differing)}")
    return network


def _stems(facts: PublishedPrior, count: int) -> tuple[str, ...]:
    return facts.stems if count == len(facts.stems) else tuple(f"stem{index + 1}" for index in range(count))
