"""Promises of models with a joint prior: their cards, their networks, and what the pipeline makes of them."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pyserver.diffusion.joint import Known
from pyserver.diffusion.noise import normal_stream
from pyserver.engine import prior
from pyserver.engine.errors import ModelCannot
from pyserver.engine.messages import Audio, SeparationSettings, WindowRequest
from pyserver.engine.pipeline import Pipeline
from pyserver.engine.timing import measured
from pyserver.models import registry
from pyserver.models.card import ModelCard, PriorSettings, RefinerSettings, WalkSettings
from pyserver.models.interface import JointModel
from pyserver.models.msdm import IndependentSources, JointSources, MsdmConfig, published_isdm, published_msdm

STEMS = ("bass", "drums", "guitar")
SMALL: dict[str, Any] = {
    "in_channels": 3,
    "channels": 12,
    "patch_factor": 4,
    "resnet_groups": 4,
    "kernel_multiplier_downsample": 2,
    "multipliers": [1, 2, 2],
    "factors": [4, 2],
    "num_blocks": [1, 1],
    "attentions": [False, True],
    "attention_heads": 2,
    "attention_features": 8,
    "attention_multiplier": 2,
}
LENGTH_MULTIPLE = 32


def config_of(architecture: str) -> dict[str, Any]:
    network = SMALL if architecture == "msdm" else SMALL | {"in_channels": 1}
    return {"network": network, "stems": 3, "sigma_data": 0.2}


def card_of(architecture: str) -> ModelCard:
    walk = WalkSettings(
        default_steps=6, sigma_min=0.01, sigma_max=1.0, rho=7.0, corrections=2, churn=1.0, fewest_steps=2
    )
    joint = architecture == "msdm"
    generation = replace(walk, sigma_max=20.0)
    return ModelCard(
        name="tiny",
        title="tiny",
        architecture=architecture,
        config=config_of(architecture),
        stems=STEMS,
        sample_rate_hz=22050,
        channels=1,
        window_samples=4096,
        margin_samples=512,
        fade_samples=256,
        live_window_samples=2048,
        live_lookahead_samples=256,
        reference_rms=0.1,
        complete=True,
        refiner=None,
        licence="none",
        weights=("w",),
        sha256={"w": "0"},
        prior=PriorSettings(
            separation=walk, posterior="dirac", constrained_stem="bass", generation=generation, accompanies=joint
        ),
    )


def model_of(architecture: str) -> JointModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = registry.build(architecture, config_of(architecture))
    assert isinstance(model, JointModel)
    return model.eval()


def draws(length: int, batch: int = 1, seed: int = 0) -> Iterator[Tensor]:
    return normal_stream(seed, 0, (batch, len(STEMS), length))


def music(channels: int, samples: int) -> Audio:
    return (0.1 * np.random.default_rng(0).standard_normal((channels, samples))).astype(np.float32)


def request(audio: Audio, rate: int = 44100, steps: int = 3, seed: int = 0) -> WindowRequest:
    return WindowRequest("tiny", audio, rate, 0, (0, audio.shape[1]), SeparationSettings(steps, seed))


@pytest.mark.parametrize("architecture", ["msdm", "isdm"])
def test_cards_with_a_prior_come_back_as_they_were(architecture: str) -> None:
    card = card_of(architecture)
    again = ModelCard.from_json(card.to_json())
    assert again == card
    assert json.loads(card.to_json())["version"] == 3
    accompanies = ["accompany"] if architecture == "msdm" else []
    assert json.loads(card.to_json())["abilities"] == ["separate", "generate", *accompanies]
    assert card.evaluations(card.default_steps) == 12


def test_cards_without_a_prior_are_written_as_before_and_say_what_they_can() -> None:
    plain = replace(card_of("msdm"), prior=None)
    assert not {"version", "abilities", "prior"} & json.loads(plain.to_json()).keys()
    assert ModelCard.from_json(plain.to_json()).abilities == ("separate",)
    refiner = RefinerSettings(kind="edm", default_steps=2, sigma_max={2: 0.1}, sigma_min=1e-4, rho=9.0, corrections=2)
    refined = replace(plain, refiner=refiner)
    assert (refined.abilities, refined.default_steps, refined.evaluations(2)) == (("separate", "refine"), 2, 5)
    assert [refined.steps_for(asked) for asked in (None, 0, 3)] == [2, 0, 3]
    assert [plain.steps_for(asked) for asked in (None, 0, 3)] == [0, 0, 0]
    assert [card_of("msdm").steps_for(asked) for asked in (None, 0, 3)] == [6, 2, 3]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 4}, "update"),
        ({"abilities": ["separate", "sing"]}, "claims"),
        ({"surprise": 1}, "surprise"),
        ({"channels": 2}, "mono"),
        ({"stems": ["voice", "drums", "guitar"]}, "bass"),
    ],
)
def test_cards_that_make_no_sense_are_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ModelCard.from_json(json.dumps(json.loads(card_of("msdm").to_json()) | change))


def test_priors_that_make_no_sense_are_refused() -> None:
    settings = card_of("msdm").prior
    assert settings is not None
    for change, told in (
        ({"posterior": "laplace"}, "laplace"),
        ({"posterior": "gaussian"}, "coefficient"),
        ({"generation": None}, "generates"),
        ({"posterior": "projected"}, "exponential"),
        ({"generation": replace(settings.generation, draws=2)}, "mean of several"),
    ):
        with pytest.raises(ValueError, match=told):
            replace(settings, **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one at least"):
        replace(settings.separation, fewest_steps=0)
    with pytest.raises(ValueError, match="one sample at least"):
        replace(settings.separation, draws=0)
    with pytest.raises(ValueError, match="no solver"):
        replace(settings.separation, solver="runge-kutta")


def test_networks_of_another_layout_are_refused() -> None:
    with pytest.raises(ValueError, match="3 stacked channels, not 4"):
        JointSources(MsdmConfig(network=SMALL, stems=4, sigma_data=0.2))
    with pytest.raises(ValueError, match="not conditioned on a class"):
        JointSources(MsdmConfig(network=SMALL | {"context_features": 3}, stems=3, sigma_data=0.2))
    with pytest.raises(ValueError, match="multiple of 32"):
        model_of("msdm").denoise(torch.zeros(1, 3, 100), torch.ones(1))


def test_only_the_joint_network_hears_the_other_stems() -> None:
    x, sigma = next(draws(64)), torch.full((1,), 0.3)
    other = x.clone()
    other[:, 1] += 1
    for architecture, hears in (("msdm", True), ("isdm", False)):
        model = model_of(architecture)
        assert model.knows_context is hears
        with torch.no_grad():
            same = torch.equal(model.denoise(x, sigma)[:, 0], model.denoise(other, sigma)[:, 0])
        assert same is not hears


@pytest.mark.parametrize(("architecture", "millions"), [("msdm", 405), ("isdm", 4 * 405)])
def test_published_sizes(architecture: str, millions: float) -> None:
    config = published_msdm() if architecture == "msdm" else published_isdm()
    with torch.device("meta"):
        model = (JointSources if architecture == "msdm" else IndependentSources)(config)
    assert sum(weight.numel() for weight in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)
    assert 262144 % model.length_multiple == 0


@pytest.mark.parametrize("architecture", ["msdm", "isdm"])
@pytest.mark.parametrize(("channels", "rate"), [(1, 22050), (2, 44100)])
def test_windows_are_separated_into_stems_that_sum_to_them(architecture: str, channels: int, rate: int) -> None:
    """Any length, each channel for itself, at the client's rate."""
    pipeline = Pipeline(model_of(architecture), card_of(architecture), torch.device("cpu"))
    audio = music(channels, 2001)
    stems = pipeline.run(request(audio, rate)).stems_SCN
    assert stems.shape == (3, channels, 2001)
    assert np.abs(audio - stems.sum(0)).max() < 1e-5 * np.abs(stems).max()  # untrained, they are loud
    assert np.array_equal(stems, pipeline.run(request(audio, rate)).stems_SCN)
    for other in (request(audio, rate, seed=1), request(audio, rate, steps=4)):
        assert not np.array_equal(stems, pipeline.run(other).stems_SCN)
    if channels == 2:
        alone = pipeline.run(request(audio[:1], rate)).stems_SCN
        assert np.abs(stems[:, :1] - alone).max() < 1e-4 * np.abs(stems).max()


def test_a_gaussian_posterior_is_run_if_the_card_says_so() -> None:
    card = card_of("msdm")
    assert card.prior is not None
    gaussian = replace(card, complete=False, prior=replace(card.prior, posterior="gaussian", coefficient=1.0))
    audio = music(1, 2048)
    of_dirac, of_gaussian = (
        Pipeline(model_of("msdm"), each, torch.device("cpu")).run(request(audio, 22050)).stems_SCN
        for each in (card, gaussian)
    )
    assert np.isfinite(of_gaussian).all()
    assert np.abs(of_dirac - of_gaussian).max() > 0.01


@pytest.mark.parametrize("posterior", ["dirac", "projected"])
def test_a_separation_may_be_the_mean_of_several_samples(posterior: str) -> None:
    """Of different ones, each with draws of noise of its own; the mean sums to the mixture as they do."""
    card = card_of("msdm")
    assert card.prior is not None
    walk = replace(card.prior.separation, solver="exponential")
    model = model_of("msdm")
    mixture = 0.1 * torch.randn(1, 640, generator=torch.Generator().manual_seed(1))

    def separated(draws: int, noise: Iterator[Tensor]) -> Tensor:
        assert card.prior is not None
        settings = replace(card.prior, separation=replace(walk, draws=draws), posterior=posterior)
        with torch.inference_mode():
            return prior.separate(model, mixture, replace(card, prior=settings), 4, noise)

    one_after_the_other = normal_stream(0, 0, (1, 3, 640))
    first, second = separated(1, one_after_the_other), separated(1, one_after_the_other)
    mean = separated(2, normal_stream(0, 0, (1, 3, 640)))
    assert not torch.allclose(first, second, atol=1e-3)
    assert torch.allclose(mean, (first + second) / 2, atol=1e-6)
    assert torch.allclose(mean.sum(1), mixture, atol=1e-5)
    assert replace(card, prior=replace(card.prior, separation=replace(walk, draws=3))).evaluations(4) == 4 * 2 * 3


def test_a_song_goes_on_from_the_end_of_what_was_made() -> None:
    model, card = model_of("msdm"), card_of("msdm")
    with torch.no_grad():
        first = prior.generate(model, card, 3, draws(256))
        assert first.shape == (1, 3, 256)
        assert torch.equal(first, prior.generate(model, card, 3, draws(256)))
        sources = torch.cat([first[..., 128:], torch.zeros(1, 3, 128)], dim=-1)
        region = (torch.arange(256) < 128).float()
        second = prior.accompany(model, card, Known(sources, region), 3, draws(256, seed=1))
        assert torch.equal(second[..., :128], first[..., 128:])
        stem = torch.tensor([0.0, 1.0, 0.0])[:, None]
        third = prior.accompany(model, card, Known(first, stem), 3, draws(256, seed=1))
        assert torch.equal(third[:, 1], first[:, 1])
        assert not torch.equal(third[:, 0], first[:, 0])


def test_what_a_card_does_not_say_is_not_done() -> None:
    model, card = model_of("isdm"), card_of("isdm")
    with pytest.raises(ModelCannot, match="tiny cannot accompany, only separate, generate"):
        prior.accompany(model, card, Known(torch.zeros(1), torch.zeros(1)), 3, draws(64))
    assert card.prior is not None
    alone = replace(card, prior=replace(card.prior, generation=None))
    with pytest.raises(ModelCannot, match="cannot generate, only separate"):
        prior.generate(model, alone, 3, draws(64))


def test_what_a_prior_costs_is_told_from_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred steps cost fifty times as much as two, which is all that is timed."""
    card = card_of("msdm")
    assert card.prior is not None
    card = replace(card, prior=replace(card.prior, separation=replace(card.prior.separation, default_steps=100)))
    model, asked = model_of("msdm"), 0
    denoise = model.denoise

    def counted(x: Tensor, sigma_B: Tensor) -> Tensor:
        nonlocal asked
        asked += 1
        return denoise(x, sigma_B)

    monkeypatch.setattr(model, "denoise", counted)
    pipeline = Pipeline(model, card, torch.device("cpu"))
    for _ in range(3):
        pipeline.run(request(music(1, 4096), 22050, steps=2))
    asked = 0
    found = measured(pipeline, card)
    in_batches = 2 * (1 + 2 * 3)
    assert asked <= 2 * (3 + 3 * 3 + in_batches)
    assert found.bounce_window_s > found.live_base_s
    assert found.live_step_s >= 0
