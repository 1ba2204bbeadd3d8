"""What the catalogue promises: models are found by name, errors say what to do, no wrong weights pass as right."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from pyserver.models import catalogue
from pyserver.models.card import ModelCard

CARD = ModelCard(
    name="toy",
    title="Toy",
    architecture="band_split",
    config={},
    stems=("bass", "other"),
    sample_rate_hz=8000,
    channels=1,
    window_samples=4000,
    margin_samples=200,
    fade_samples=100,
    live_window_samples=2000,
    live_lookahead_samples=100,
    reference_rms=0.1,
    complete=True,
    refiner=None,
    licence="CC0-1.0",
    weights=("toy.safetensors",),
    sha256={"toy.safetensors": hashlib.sha256(b"weights").hexdigest()},
)


def install(root: Path, card: ModelCard = CARD, weights: bytes = b"weights") -> Path:
    directory = root / card.name
    directory.mkdir(parents=True)
    (directory / "card.json").write_text(card.to_json(), encoding="utf-8")
    for name in card.weights:
        (directory / name).write_bytes(weights)
    return directory


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEMLINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STEMLINE_MODELS", str(tmp_path / "extra"))
    return tmp_path


def test_installed_model_is_found_and_verified(places: Path) -> None:
    install(places / "extra")
    model = catalogue.find("toy")
    assert model.card == CARD
    catalogue.verify(model)


def test_extra_directory_comes_before_the_users(places: Path) -> None:
    install(places / "extra")
    install(places / "home" / "models", replace(CARD, title="Older"))
    assert catalogue.find("toy").directory == places / "extra" / "toy"


def test_directory_of_one_model_may_be_named_itself(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMLINE_MODELS", str(install(places / "extra")))
    assert catalogue.find("toy").card.name == "toy"


def test_misspelt_name_suggests_the_nearest(places: Path) -> None:
    install(places / "extra")
    with pytest.raises(catalogue.ModelNotFound, match='did you mean "toy"') as caught:
        catalogue.find("Toyy")
    assert caught.value.metadata["nearest"] == "toy"
    with pytest.raises(catalogue.ModelNotFound, match='"dicose-unet"'):
        catalogue.find("dicose-unit")


def test_published_model_that_is_absent_names_the_command() -> None:
    with pytest.raises(catalogue.ModelNotDownloaded, match="python -m pyserver models pull dicose-unet"):
        catalogue.find("dicose-unet")


def test_changed_weights_are_refused(places: Path) -> None:
    install(places / "extra", weights=b"weightz")
    with pytest.raises(catalogue.ChecksumMismatch, match=r"toy\.safetensors"):
        catalogue.verify(catalogue.find("toy"))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"name": "toy"}', "not json"])
def test_broken_card_is_listed_and_explained(places: Path, text: str) -> None:
    directory = install(places / "extra")
    (directory / "card.json").write_text(text, encoding="utf-8")
    entry = next(entry for entry in catalogue.list_models() if entry.name == "toy")
    assert entry.installed is None
    assert "card.json" in entry.problem
    with pytest.raises(catalogue.BrokenCard, match=r"card\.json"):
        catalogue.find("toy")


def test_missing_weight_file_is_a_broken_model(places: Path) -> None:
    (install(places / "extra") / "toy.safetensors").unlink()
    with pytest.raises(catalogue.BrokenCard, match=r"toy\.safetensors is missing"):
        catalogue.find("toy")


def test_card_cannot_point_outside_its_directory(places: Path) -> None:
    name = "../toy.safetensors"
    card = replace(CARD, weights=(name,), sha256={name: CARD.sha256["toy.safetensors"]})
    install(places / "extra", card)
    with pytest.raises(catalogue.BrokenCard, match="plain file name"):
        catalogue.find("toy")


def test_list_has_installed_and_pullable_models(places: Path) -> None:
    install(places / "extra")
    entries = {entry.name: entry for entry in catalogue.list_models()}
    assert entries["toy"].installed is not None
    assert entries["dicose-unet"].installed is None
    assert not entries["dicose-unet"].problem
