"""What a released model's card says: how it is run, what it was trained on and for how long, and how well it does."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pyserver.errors import StemlineError
from pyserver.models.band_split import BandSplitConfig
from pyserver.models.card import PriorSettings, RefinerSettings, prior_settings
from pyserver.models.published import BACKBONES
from training.runs import METRICS, finished_weights

WITHOUT_NOISE = ("control", "joint")
"""Stages of refiners that only correct: the control (`Det x2`), and the refiner that a separator is trained with."""
_STEMS = ("bass", "drums", "guitar", "piano", "other")


class BadInput(StemlineError):
    """A run, a manifest or a file of figures that does not fit the model. The message says which and why."""

    reason = "BAD_INPUT"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What the folder of a run says about it."""

    folder: Path
    stage: str
    step: int
    batch_size: int
    crop_samples: int
    stems: tuple[str, ...]
    sample_rate_hz: int
    channels: int
    architecture: str
    network: Mapping[str, Any]
    prior: PriorSettings | None = None
    windows: Mapping[str, Any] = field(default_factory=dict)
    """Lengths and the level, of a model that is not run as a published one is."""

    @classmethod
    def read(cls, folder: Path) -> "RunFacts":
        """Runs from before configurations named their network are of the small model. Raises BadInput."""
        try:
            config = json.loads((folder / "config.json").read_text())
            metrics = folder / METRICS  # a short run may have no rows yet
            rows = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
            with safe_open(finished_weights(folder), "pt") as file:
                rows.append({"step": int((file.metadata() or {}).get("step", 0))})
        except (OSError, ValueError, SafetensorError) as error:
            raise BadInput(f"{folder} is not the folder of a run ({error})", folder=folder) from error
        return cls(
            folder=folder,
            stage=config["stage"],
            step=max((row["step"] for row in rows), default=0),
            batch_size=config["batch_size"],
            crop_samples=config["crop"]["samples"],
            stems=tuple(config.get("stems", _STEMS)),
            sample_rate_hz=config.get("sample_rate_hz", 44100),
            channels=config.get("channels", 2),
            architecture=config.get("architecture", "band_split"),
            network=config.get("network") or asdict(BandSplitConfig(stems=len(_STEMS))),
            prior=prior_settings(config["prior"]) if config.get("prior") else None,
            windows={**config["windows"], "reference_rms": config["reference_rms"]} if "windows" in config else {},
        )

    @property
    def seconds_per_step(self) -> float:
        return self.batch_size * self.crop_samples / self.sample_rate_hz


def window_settings(facts: RunFacts) -> dict[str, Any]:
    """Lengths and levels at which the server runs a run's model; for the published architectures, the published."""
    architecture = facts.architecture
    if facts.prior is not None:
        return {**facts.windows, "complete": True, "prior": facts.prior}
    if architecture == "band_split":  # long enough that the network's reach fits into the margins
        return {
            "window_samples": 441000,
            "margin_samples": 44100,
            "fade_samples": 11025,
            "live_window_samples": 44100,  # more past and more look-ahead buy a tenth of a dB (benchmarks.latency)
            "live_lookahead_samples": 2205,
            "reference_rms": 1.0,
            "complete": True,
        }
    if architecture == "diff_vs":  # 6 s as published; margins and fades are ours
        return {
            "window_samples": 264600,
            "margin_samples": 22050,
            "fade_samples": 22050,
            "live_window_samples": 132300,
            "live_lookahead_samples": 11025,
            "reference_rms": 0.1,  # any: the model brings its peak to 1
            "complete": True,
        }
    published = next(facts for facts in BACKBONES.values() if facts.architecture == architecture)
    keys = ("window_samples", "margin_samples", "fade_samples", "live_window_samples", "live_lookahead_samples",
            "reference_rms", "complete")  # fmt: skip
    return {key: getattr(published, key) for key in keys}


def refiner_settings(refiner: RunFacts, sigma_max: Mapping[int, float], default_steps: int | None) -> RefinerSettings:
    """The sampler that belongs to a stage. What was trained without noise takes one step from none worth the name.

    Raises BadInput for the published networks' controls: they are trained without preconditioning, which no sampler
    of the server does.
    """
    if refiner.architecture == "band_split":
        sigma_min, rho = float(refiner.network["sigma_min"]), 9.0
        published: Mapping[int, float] = {1: 0.03}
        corrections, churn, steps = 1, 0.0, 1
    else:
        if refiner.stage == "control":
            raise BadInput(f"{refiner.folder} is a control of a published network: only its own validation can run it")
        facts = next(facts for facts in BACKBONES.values() if facts.architecture == refiner.architecture)
        known = facts.refiners["diffusion" if refiner.stage == "diffusion" else "cd"]
        sigma_min, rho, published = known.sigma_min, known.rho, known.sigma_max
        corrections, churn, steps = known.corrections, known.churn, known.default_steps
    levels = dict(sigma_max) or dict(published)
    if refiner.stage in WITHOUT_NOISE:
        levels, steps, default_steps = {1: sigma_min}, 1, 1
    return RefinerSettings(
        kind="consistency" if refiner.stage == "consistency" else "edm",
        default_steps=default_steps or (steps if steps in levels else min(levels)),
        sigma_max=levels,
        sigma_min=sigma_min,
        rho=rho,
        corrections=corrections,
        churn=churn,
    )


def generator_settings(run: RunFacts, sampler: Path | None) -> RefinerSettings:
    """How a generative model is sampled: as `training.sweep_rho --json` found best, else 7 steps of Heun's method.

    Raises BadInput.
    """
    sigma_min, sigma_max = float(run.network["sigma_min"]), float(run.network["sigma_max"])
    if sampler is None:
        return RefinerSettings(kind="heun", default_steps=7, sigma_max={7: sigma_max}, sigma_min=sigma_min, rho=7.0)
    try:
        best = json.loads(sampler.read_text())["best"]
        return RefinerSettings(
            kind=best["kind"],
            default_steps=int(best["steps"]),
            sigma_max={int(best["steps"]): float(best["sigma_max"])},
            sigma_min=sigma_min,
            rho=float(best["rho"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{sampler} is not what training.sweep_rho --json writes ({error!r})", path=sampler) from error


def read_sweep(path: Path) -> dict[int, float]:
    """The best sigma_max of each number of steps, out of what `training.sweep --json` wrote. Raises BadInput."""
    try:
        return {int(steps): float(sigma) for steps, sigma in json.loads(path.read_text())["best"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is not what training.sweep --json writes ({error!r})", path=path) from error


def training_text(manifests: Iterable[Mapping[str, Any]], runs: Sequence[RunFacts]) -> str:
    """Data and steps in one paragraph, from the renderer's manifests and the runs' folders."""
    sentences = [_data_sentence(manifest) for manifest in manifests]
    steps = [f"{run.stage} {run.step:,} steps of {run.seconds_per_step:.0f} s of audio" for run in runs]
    if steps:
        sentences.append(", ".join(steps) + ".")
    return " ".join(sentence[:1].upper() + sentence[1:] for sentence in sentences)


def _data_sentence(manifest: Mapping[str, Any]) -> str:
    def listed(items: Mapping[str, Mapping[str, Any]]) -> str:
        return ", ".join(f"{name} ({facts['licence']})" for name, facts in items.items())

    head = f"{manifest['minutes'] / 60:.1f} h, {manifest['tracks']:,} excerpts rendered by training.data.render"
    played = f"songs: {listed(manifest['song_sources'])}; sounds: {listed(manifest['sounds'])}"
    return f"{head} (split {manifest['split']}); {played}."


def read_manifest(path: Path) -> dict[str, Any]:
    """`manifest.json` of a rendered split, or that file itself. Raises BadInput."""
    file = path / "manifest.json" if path.is_dir() else path
    try:
        manifest: dict[str, Any] = json.loads(file.read_text())
        _data_sentence(manifest)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{file} is not a manifest of training.data.render ({error!r})", path=file) from error
    return manifest


def quality_of(documents: Iterable[Mapping[str, Any]], weights_sha256: str) -> dict[str, Any]:
    """Every set's figures out of what `training.evaluate --json` wrote. Raises BadInput for those of other weights."""
    quality: dict[str, Any] = {}
    for document in documents:
        if document.get("weights_sha256") != weights_sha256:
            raise BadInput(f"the figures are of other weights ({document.get('weights_sha256')}): evaluate again")
        quality["metric"] = document["metrics"].get("si_sdr_i", "")
        for name, facts in document["sets"].items():
            quality.setdefault("sets", {})[name] = {"songs": facts["songs"], "minutes": facts["minutes"]}
            for steps, by_metric in facts["steps"].items():
                for metric, figures in by_metric.items():
                    suffix = "" if metric == "si_sdr_i" else f", {metric}"
                    rounded = {stem: None if value is None else round(value, 2) for stem, value in figures.items()}
                    quality[f"{name}, {steps} steps{suffix}"] = rounded
    return quality
