"""Compares names and shapes of the full-size published checkpoints with the models built at full size."""

import json
from pathlib import Path

import torch
from golden_report import Report
from torch import nn

from pyserver.models.dicose import DicoseBSRoformer, DicoseUNet, published_bs_roformer, published_unet


def full_size_networks() -> dict[str, nn.Module]:
    """By the names of the subtrees in checkpoint_keys.json; on the meta device, so without memory."""
    with torch.device("meta"):
        unet, bs_roformer = DicoseUNet(published_unet()), DicoseBSRoformer(published_bs_roformer())
    networks = {
        "unet_separator": unet.separator,
        "unet_refiner": unet.refiner,
        "bs_roformer_separator": bs_roformer.separator,
        "bs_roformer_refiner": bs_roformer.refiner,
    }
    return {name: network for name, network in networks.items() if network is not None}


def shapes(network: nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in network.state_dict().items()}


def replay(path: Path, name: str, report: Report) -> None:
    listing = json.loads(path.read_text(encoding="utf-8"))
    networks = full_size_networks()
    for subtree, wanted in listing["subtrees"].items():
        if subtree not in networks:
            report.later(f"{name} {subtree}", "a network of no known kind")
            continue
        got, want = shapes(networks[subtree]), {key: list(shape) for key, shape in dict(wanted).items()}
        differing = sum(got.get(key) != want.get(key) for key in got.keys() | want.keys())
        case = f"{name} {subtree}: {len(want)} names and shapes"
        report.compare(case, torch.tensor(differing), torch.tensor(0), 0.0)
    for checkpoint, entry in listing["checkpoints"].items():
        keys = sum(len(networks[subtree].state_dict()) for subtree in entry["prefixes"].values())
        report.compare(f"{name} {checkpoint}: keys", torch.tensor(keys), torch.tensor(entry["total_keys"]), 0.0)
