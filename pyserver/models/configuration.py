"""The configuration of a network, found again from its weights.

Most settings show in the shapes of the tensors. The rest (how many attention heads share a matrix, the hop of an STFT)
come from a file the user gives, from the hyper-parameters inside the checkpoint, or, if all that shows is that of the
published network, from its published configuration.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyserver.errors import StemlineError
from pyserver.models.published import Backbone, PublishedPrior
from pyserver.models.torch_archive import Foreign

Shapes = Mapping[str, tuple[int, ...]]
Config = dict[str, Any]

_HIDDEN_IN_UNET = ("resnet_groups", "attention_heads", "attention_features", "use_skip_scale")
_HIDDEN_IN_BS_ROFORMER = ("stft_hop_length",)


class UnknownNetwork(StemlineError):
    reason = "UNKNOWN_NETWORK"


class ConfigurationNeeded(StemlineError):
    reason = "CONFIGURATION_NEEDED"

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__(
            f"the weights do not show {', '.join(missing)}, and they are not of the published size; give the network's "
            "configuration with --config FILE (JSON)",
            missing=", ".join(missing),
        )


class ConfigurationContradicted(StemlineError):
    reason = "CONFIGURATION_CONTRADICTED"


def backbone_of(keys: Mapping[str, Any]) -> str:
    """Which of the two families a network of these parameters belongs to."""
    if any(key.startswith("band_split.to_features.") for key in keys):
        return "bs_roformer"
    if any(key.startswith("to_in.module_list.0.") for key in keys):
        return "unet"
    raise UnknownNetwork("the checkpoint holds neither a U-Net nor a BS-RoFormer of DiCoSe")


def configure(backbone: str, facts: Backbone | PublishedPrior, shapes: Shapes, given: Any, saved: Any) -> Config:
    """Settings of the network with these parameters, named as in the published configurations.

    `given` is what the user's file says, `saved` the checkpoint's hyper-parameters: trees of any depth. Raises
    ConfigurationNeeded, ConfigurationContradicted or UnknownNetwork.
    """
    try:
        config = _unet(shapes) if backbone == "unet" else _bs_roformer(shapes)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise UnknownNetwork(f"the checkpoint's {backbone} lacks or misshapes {error}") from error
    _require_agreement(config, given)
    shared = set(config) & set(facts.network)
    published = facts.network if all(config[name] == facts.network[name] for name in shared) else {}
    hidden = _HIDDEN_IN_UNET if backbone == "unet" else _HIDDEN_IN_BS_ROFORMER
    config |= {name: _first(find_value(given, name), find_value(saved, name), published.get(name)) for name in hidden}
    missing = [name for name in hidden if config[name] is None]
    if missing:
        raise ConfigurationNeeded(missing)
    if backbone == "unet":
        config.setdefault("attention_multiplier", 1)  # shown, and needed, only where a level has a transformer
        _require_heads(config, shapes)
    return config


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def find_value(tree: Any, name: str) -> Any:
    """The one value that `tree` has under `name`, at whatever depth; None if it has none, or several that differ."""
    found: list[Any] = []
    for value in _values(tree, name):
        plain = list(value) if isinstance(value, tuple) else value
        if plain not in found:
            found.append(plain)
    return found[0] if len(found) == 1 else None


def _values(tree: Any, name: str) -> Iterator[Any]:
    """What stands under `name` anywhere in a tree, which may refer to itself, or to one part from many places."""
    seen: set[int] = set()
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        match part:
            case Mapping():
                if isinstance(part.get(name), bool | int | float | str | list | tuple):
                    yield part[name]
                waiting.extend(part.values())
            case Foreign():
                waiting += [part.state, part.mapping]
            case list() | tuple():
                waiting.extend(part)


def _require_agreement(config: Config, given: Any) -> None:
    for name, value in config.items():
        said = find_value(given, name)
        if said is not None and said != value:
            raise ConfigurationContradicted(f"the configuration says {name} = {said}, but the weights show {value}")


def _require_heads(config: Config, shapes: Shapes) -> None:
    rows = next((shape[0] for key, shape in shapes.items() if key.endswith("attention.fn.to_q.weight")), None)
    heads, features = config["attention_heads"], config["attention_features"]
    if rows is not None and heads * features != rows:
        raise ConfigurationContradicted(
            f"{heads} heads of {features} features are not the {rows} that the weights show"
        )


def _count(shapes: Shapes, prefix: str) -> int:
    indices = {match[1] for key in shapes if (match := re.match(re.escape(prefix) + r"(\d+)\.", key))}
    return len(indices)


def _unet(shapes: Shapes) -> Config:
    levels = _count(shapes, "downsamples.")
    embedding = "to_features.0.weight" if "to_features.0.weight" in shapes else "to_time.0.1.weight"
    channels = shapes[embedding][0] // 4
    first = shapes["to_in.module_list.0.block.block1.project.weight"]
    down = [shapes[f"downsamples.{level}.downsample.weight"] for level in range(levels)]
    factors = [shapes[f"upsamples.{levels - 1 - level}.upsample.weight"][2] // 2 for level in range(levels)]
    attentions = [f"downsamples.{level}.transformer.attention.fn.to_q.weight" in shapes for level in range(levels)]
    config: Config = {
        "in_channels": first[1],
        "channels": channels,
        "patch_factor": down[0][1] // first[0],
        "kernel_multiplier_downsample": (down[0][2] - 1) // factors[0],
        "multipliers": [down[0][1] // channels, *(shape[0] // channels for shape in down)],
        "factors": factors,
        "num_blocks": [_count(shapes, f"downsamples.{level}.blocks.") for level in range(levels)],
        "attentions": attentions,
        "use_attention_bottleneck": "bottleneck.attention.fn.to_q.weight" in shapes,
    }
    if "to_features.0.weight" in shapes:
        config["context_features"] = shapes["to_features.0.weight"][1]
    if any(attentions):
        wide = shapes[f"downsamples.{attentions.index(True)}.transformer.feed_forward.1.weight"]
        config["attention_multiplier"] = wide[0] // wide[1]
    return config


def _bs_roformer(shapes: Shapes) -> Config:
    bands = [
        shapes[f"band_split.to_features.{band}.0.gamma"][0] for band in range(_count(shapes, "band_split.to_features."))
    ]
    channels = _audio_channels(shapes, sum(bands))
    dim = shapes["band_split.to_features.0.1.weight"][0]
    heads = shapes["layers.0.0.layers.0.0.to_gates.weight"][0]
    head = "mask_estimators.0.to_freqs.0.0."
    n_fft = 2 * (sum(bands) // (2 * channels) - 1)
    config: Config = {
        "dim": dim,
        "depth": _count(shapes, "layers."),
        "stereo": channels == 2,
        "num_stems": _count(shapes, "mask_estimators."),
        "time_transformer_depth": _count(shapes, "layers.0.0.layers."),
        "freq_transformer_depth": _count(shapes, "layers.0.1.layers."),
        "freqs_per_bands": [width // (2 * channels) for width in bands],
        "dim_head": shapes["layers.0.0.layers.0.0.to_qkv.weight"][0] // (3 * heads),
        "heads": heads,
        "stft_n_fft": n_fft,
        "stft_win_length": n_fft,
        "mask_estimator_depth": _count(shapes, head),
        "mlp_expansion_factor": shapes[f"{head}0.weight"][0] // dim,
    }
    if "stft_feature_adapter.1.weight" in shapes:
        config["stft_adapter_hidden"] = shapes["stft_feature_adapter.1.weight"][0]
    return config


def _audio_channels(shapes: Shapes, values_in_frame: int) -> int:
    """From the refiner's spectrum adapter, else the count with which the transform has a power of two for its size."""
    if "stft_feature_adapter.1.weight" in shapes:
        return shapes["stft_feature_adapter.1.weight"][1] // 2
    for channels in (2, 1):
        bins, rest = divmod(values_in_frame, 2 * channels)
        if rest == 0 and bins > 1 and math.log2(bins - 1).is_integer():
            return channels
    raise ValueError("the band split")
