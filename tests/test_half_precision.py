"""Half precision around the cores, on a CPU, which computes as a GPU would."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx_parts import BAND_SPLIT, MODELS, install, window

from pyserver.engine.half_precision import HalfPrecision, signal_to_error_db
from pyserver.engine.messages import Audio
from pyserver.engine.pipeline import Pipeline
from pyserver.engine.weights import read_network
from pyserver.models import catalogue

CPU = torch.device("cpu")
Made = tuple[HalfPrecision, Callable[[], Audio], Pipeline]


@pytest.fixture(params=MODELS)
def made(request: pytest.FixtureRequest, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """The switch, what separates a window, and the pipeline of it."""
    install(tmp_path, tiny_model_dir)
    monkeypatch.setenv("STEMLINE_MODELS", str(tmp_path))
    model = catalogue.find(request.param)
    pipeline = Pipeline(read_network(model), model.card, CPU)
    asked = window(request.param, channels=model.card.channels, rate=model.card.sample_rate_hz)
    half = HalfPrecision(pipeline.model, model.card.architecture, CPU)
    return half, lambda: pipeline.run(asked).stems_SCN, pipeline


def test_the_cores_compute_in_half_precision_and_what_is_around_them_does_not(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    half, separate, pipeline = made
    seen: set[torch.dtype] = set()
    stft = torch.stft
    for name, module in pipeline.model.named_modules():
        of_the_level = "to_mapping" in name or "to_time" in name  # the RoFormer embeds it outside of its cores
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d)) and not of_the_level:
            module.register_forward_hook(lambda _module, _given, out: seen.add(out.dtype))
    spectra: set[torch.dtype] = set()

    def noted(x: torch.Tensor, *rest: object, **named: object) -> torch.Tensor:
        spectra.add(x.dtype)
        return stft(x, *rest, **named)

    monkeypatch.setattr(torch, "stft", noted)
    whole = separate()
    assert seen == {torch.float32}
    seen.clear()
    half.dtype = torch.bfloat16
    found = separate()
    assert seen == {torch.bfloat16}
    assert spectra <= {torch.float32}
    assert found.dtype == np.float32
    assert 20 < signal_to_error_db(whole, found) < 100
    with half.off():
        assert np.array_equal(separate(), whole)
    assert np.array_equal(separate(), found)


def test_a_precision_is_chosen_by_what_it_does_to_the_stems(made: Made) -> None:
    half, separate, _ = made
    whole = separate()
    chosen = half.choose(separate, least_db=20)
    assert chosen is not None
    assert signal_to_error_db(whole, separate()) >= 20
    assert half.choose(separate, least_db=200) is None
    assert np.array_equal(separate(), whole)


def test_kept_weights_give_the_same_bits_from_less_memory(made: Made) -> None:
    half, separate, pipeline = made
    before = sum(parameter.nbytes for parameter in pipeline.model.parameters())
    assert half.choose(separate, least_db=20) is torch.bfloat16
    by_autocast = separate()
    half.keep()
    assert np.array_equal(separate(), by_autocast)
    after = sum(parameter.nbytes for parameter in pipeline.model.parameters())
    # Those of the band-split network's bands are none of a layer's; they are small.
    assert after < before * (1.0 if pipeline.card.name == BAND_SPLIT else 0.6)


def test_stems_that_are_no_numbers_are_never_close_enough() -> None:
    stems = np.ones((2, 1, 8), np.float32)
    found = stems.copy()
    assert signal_to_error_db(stems, found) > 100
    found[0, 0, 0] = np.inf
    assert signal_to_error_db(stems, found) == -np.inf
