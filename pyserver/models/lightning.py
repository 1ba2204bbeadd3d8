"""Turns a published Lightning checkpoint into our weights and card, strictly and without running anything in it.

A checkpoint of a refiner holds the frozen separator it was trained with, so any of the two gives a complete model.
Consistency checkpoints also hold the diffusion teacher and a moving average of the student; what was scored, and is
taken here, is `net.`. Tensors go from the one file to the other one by one: memory stays at the largest tensor.
"""

import contextlib
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyserver.audio.files import writing_to
from pyserver.errors import StemlineError
from pyserver.models import catalogue, prior_import
from pyserver.models.card import ModelCard
from pyserver.models.configuration import UnknownNetwork, backbone_of, configure, find_value
from pyserver.models.dicose import PUBLISHED_PREFIXES, DicoseConfig
from pyserver.models.fitting import KeysDoNotFit, Tensors, below, require_exact, shapes, some
from pyserver.models.published import BACKBONES, Backbone
from pyserver.models.torch_archive import NotACheckpoint, StoredTensor, TorchArchive

WEIGHTS_FILE = "model.safetensors"
# Copies that a checkpoint may hold besides those we take; any other key is an error.
_OTHER_COPIES = {
    "det": ("model.diffusion.net.",),
    "diffusion": ("model.diffusion.net.",),
    "cd": (
        "net.model.diffusion.net.",
        "target_model.model.unet.",
        "target_model.model.diffusion.net.",
        "teacher_model.model.unet.",
        "teacher_model.model.diffusion.net.",
    ),
}
_STAGE_TITLES = {"det": "separator", "diffusion": "diffusion refiner", "cd": "consistency refiner"}
_STAGE_SUFFIXES = {"det": "-separator", "diffusion": "-diffusion", "cd": ""}
_LEVEL_NOTE = (
    "reference_rms was measured on mixtures made like those of the training set; the authors do not state their level."
)


class ModelExists(StemlineError):
    reason = "MODEL_EXISTS"


class BadModelName(StemlineError):
    reason = "BAD_MODEL_NAME"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """`name`: None for the published one. `configuration`: a tree of settings, see `configuration.configure`.

    `others` are files that belong to the same model: of ISDM, which has one a stem, all but the first.
    """

    name: str | None = None
    configuration: Any = None
    replace: bool = False
    source: str = ""
    others: tuple[Path, ...] = ()
    licence: str = "unknown (the authors' code is MIT)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportPlan:
    """What of a checkpoint goes where: `parts` under the names of the network, which has exactly `network_keys`."""

    stage: str
    facts: Backbone
    config: DicoseConfig
    parts: Tensors
    network_keys: frozenset[str]

    @property
    def default_name(self) -> str:
        return self.facts.name + _STAGE_SUFFIXES[self.stage]

    def archive_of(self, key: str) -> int:
        """All is in the one file."""
        return 0


def import_checkpoint(path: Path, options: ImportOptions) -> catalogue.InstalledModel:
    """Install the model that the checkpoint `path` holds into the user's model directory.

    Raises the errors of `torch_archive` and `configuration`, KeysDoNotFit, ModelExists, BadModelName, DiskFull.
    """
    with contextlib.ExitStack() as opened:
        archives = [opened.enter_context(TorchArchive(each)) for each in (path, *options.others)]
        saved = archives[0].root if isinstance(archives[0].root, Mapping) else {}
        states = [_state_dict(archive) for archive in archives]
        hyper_parameters = {key: value for key, value in saved.items() if key != "state_dict"}
        plan: ImportPlan | prior_import.PriorPlan
        if prior_import.is_prior(states[0]):
            plan = prior_import.plan_import(states, hyper_parameters, options.configuration)
        elif options.others:
            raise UnknownNetwork(f"{path} is a model by itself: no other file goes with it")
        else:
            plan = plan_import(states[0], hyper_parameters, options.configuration)
        name = plan.default_name if options.name is None else options.name
        _require_free(name, options.replace)
        with _directory_for(name) as directory:
            sha256 = _write_safetensors(directory / WEIGHTS_FILE, archives, plan)
            card = _card(name, plan, sha256, options)
            (directory / catalogue.CARD_FILE).write_text(card.to_json(), encoding="utf-8")
    return catalogue.load_installed(catalogue.user_models_dir() / name)


def plan_import(state: Tensors, saved: Mapping[str, Any], given: Any) -> ImportPlan:
    """Recognise the stage, the backbone and the size, and fit every tensor to its place. Reads no tensor.

    `saved` holds the checkpoint's hyper-parameters, `given` the user's configuration.
    """
    stage = _stage_of(state)
    parts = _select(state, stage)
    backbone = backbone_of(below(parts, "separator."))
    facts = BACKBONES[backbone]
    config = _configure(backbone, facts, parts, given, saved)
    network_keys = require_exact(facts.architecture, asdict(config), parts)
    return ImportPlan(stage=stage, facts=facts, config=config, parts=parts, network_keys=network_keys)


def _state_dict(archive: TorchArchive) -> Tensors:
    state = archive.root.get("state_dict") if isinstance(archive.root, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise NotACheckpoint(f"{archive.path} has no state_dict, so it is no Lightning checkpoint", path=archive.path)
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, StoredTensor):
            raise NotACheckpoint(f"{archive.path}: {key!r} in its state_dict is not a tensor", path=archive.path)
    return state


def _stage_of(state: Tensors) -> str:
    prefixes = {key.partition("unet.")[0] for key in state}
    if "net.model." in prefixes:
        return "cd"
    if "pre_trained_mixture_feature_extractor_model.model." in prefixes:
        return "diffusion"
    if "model." in prefixes:
        return "det"
    raise UnknownNetwork(f"no DiCoSe network is stored under such names as {some(list(state))}")


def _select(state: Tensors, stage: str) -> dict[str, StoredTensor]:
    """The tensors to keep, under our names. Other copies of the refiner must be of the same network as the kept one."""
    taken = PUBLISHED_PREFIXES[stage]
    parts = {ours + key: value for ours, theirs in taken.items() for key, value in below(state, theirs).items()}
    prefixes = (*taken.values(), *_OTHER_COPIES[stage])
    unknown = [key for key in state if not key.startswith(prefixes)]
    if unknown:
        raise KeysDoNotFit(f"the checkpoint has {len(unknown)} keys that belong to no known copy: {some(unknown)}")
    kept = shapes(below(state, taken.get("refiner.", taken["separator."])))
    for prefix in _OTHER_COPIES[stage]:
        copy = shapes(below(state, prefix))
        if copy and copy != kept:
            differing = [key for key in copy.keys() | kept.keys() if copy.get(key) != kept.get(key)]
            raise KeysDoNotFit(f"the copy below {prefix} is of another network: {some(differing)}")
    return parts


def _configure(backbone: str, facts: Backbone, parts: Tensors, given: Any, saved: Any) -> DicoseConfig:
    first, second = (shapes(below(parts, part)) for part in ("separator.", "refiner."))
    separator = configure(backbone, facts, first, given, saved)
    refiner = configure(backbone, facts, second, given, saved) if second else None
    sigma_data = find_value(given, "sigma_data") or find_value(given, "diffusion_sigma_data") or facts.sigma_data
    return DicoseConfig(separator=separator, refiner=refiner, sigma_data=float(sigma_data))


def _write_safetensors(path: Path, archives: Sequence[TorchArchive], plan: ImportPlan | prior_import.PriorPlan) -> str:
    """Write the tensors in safetensors' format; returns the file's sha256."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key, tensor in plan.parts.items():
        start, end = end, end + tensor.num_bytes
        header[key] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in (len(text).to_bytes(8, "little"), text):
            digest.update(piece)
            file.write(piece)
        for key, tensor in plan.parts.items():
            data = archives[plan.archive_of(key)].read(tensor)
            digest.update(data)
            file.write(data)
    return digest.hexdigest()


def _card(name: str, plan: ImportPlan | prior_import.PriorPlan, sha256: str, options: ImportOptions) -> ModelCard:
    source = f"Imported from {options.source}." if options.source else ""
    if isinstance(plan, prior_import.PriorPlan):
        return plan.card(name, {WEIGHTS_FILE: sha256}, options.licence, source)
    stage, facts, config = plan.stage, plan.facts, plan.config
    separator = config.separator
    count = separator.get("context_features") or separator["num_stems"]
    stems = facts.stems if count == len(facts.stems) else tuple(f"stem{index + 1}" for index in range(count))
    full_size = all(separator.get(key) == value for key, value in facts.network.items() if key in separator)
    return ModelCard(
        name=name,
        title=f"{facts.title}, {_STAGE_TITLES[stage]}",
        architecture=facts.architecture,
        config=asdict(config),
        stems=stems,
        sample_rate_hz=facts.sample_rate_hz,
        channels=separator["in_channels"] if "in_channels" in separator else 1 + separator["stereo"],
        window_samples=facts.window_samples,
        margin_samples=facts.margin_samples,
        fade_samples=facts.fade_samples,
        live_window_samples=facts.live_window_samples,
        live_lookahead_samples=facts.live_lookahead_samples,
        reference_rms=facts.reference_rms,
        complete=facts.complete,
        refiner=facts.refiners.get(stage),
        licence=options.licence,
        weights=(WEIGHTS_FILE,),
        sha256={WEIGHTS_FILE: sha256},
        training_data=facts.training_data if full_size else "",
        quality={"as_published": facts.quality[stage]} if full_size else {},
        notes=" ".join(filter(None, [source, _LEVEL_NOTE])),
    )


def _require_free(name: str, replace: bool) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise BadModelName(f'"{name}" cannot name a model: use letters, digits, ".", "_" and "-"', name=name)
    if (catalogue.user_models_dir() / name).exists() and not replace:
        raise ModelExists(f'there already is a model "{name}"; give --replace, or another --name', name=name)


@contextlib.contextmanager
def _directory_for(name: str) -> Iterator[Path]:
    """A new directory that becomes the model's when all in it is written, in place of an older one."""
    root = catalogue.user_models_dir()
    with writing_to(root / name):
        root.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".import-", dir=root))
        try:
            yield fresh
            fresh.chmod(0o755)
            old = root / name
            if old.exists():
                aside = Path(tempfile.mkdtemp(prefix=".replaced-", dir=root))
                old.replace(aside / name)
                fresh.replace(old)
                shutil.rmtree(aside)
            else:
                fresh.replace(old)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
