"""Which models this machine has, and which it could fetch. Needs no torch.

A model is a directory with a `card.json` and the weight files the card names. Directories are searched in this order,
and the first model of a name wins: those in STEMLINE_MODELS, the user's own, the ones that come with the package.
"""

import difflib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from pyserver.errors import StemlineError
from pyserver.models.card import ModelCard

DEFAULT_MODEL = "stemline-small"
CARD_FILE = "card.json"
PACKAGED = Path(__file__).resolve().parent.parent / "checkpoints"
_READ_BYTES = 1 << 20


class ModelNotFound(StemlineError):
    reason = "UNKNOWN_MODEL"

    def __init__(self, name: str, known: list[str]) -> None:
        near = nearest_name(name, known)
        hint = f'did you mean "{near}"?' if near else f"known models: {', '.join(known) or 'none'}"
        super().__init__(f'there is no model called "{name}"; {hint}', name=name, nearest=near)


class ModelNotDownloaded(StemlineError):
    reason = "MODEL_NOT_DOWNLOADED"

    def __init__(self, name: str) -> None:
        command = f"python -m pyserver models pull {name}"
        super().__init__(f'model "{name}" is not on this machine; fetch it with: {command}', name=name, command=command)


class ChecksumMismatch(StemlineError):
    reason = "WRONG_CHECKSUM"

    def __init__(self, path: Path, expected: str, actual: str) -> None:
        super().__init__(
            f"{path} is not the file its card describes (sha256 {actual[:12]}…, expected {expected[:12]}…); "
            "pull or import the model again",
            path=path,
            expected=expected,
            actual=actual,
        )


class BrokenCard(StemlineError):
    reason = "BROKEN_CARD"

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}", path=path, problem=problem)


@dataclass(frozen=True, slots=True)
class Pullable:
    """A published model that `models pull` can fetch."""

    name: str
    title: str


PULLABLE = {
    model.name: model
    for model in (
        Pullable("dicose-unet", "DiCoSe U-Net (mono 22.05 kHz: bass, drums, guitar, piano)"),
        Pullable("dicose-bs-roformer", "DiCoSe BS-RoFormer (stereo 44.1 kHz: drums, bass, other, vocals)"),
    )
}


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model on this machine; its weights are files in `directory`."""

    card: ModelCard
    directory: Path

    @property
    def weight_paths(self) -> tuple[Path, ...]:
        return tuple(self.directory / name for name in self.card.weights)

    @property
    def file_bytes(self) -> int:
        """Size of the weights that are present."""
        return sum(path.stat().st_size for path in self.weight_paths if path.is_file())


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One line of the catalogue: installed, broken (`problem` says why) or, with neither, only to be pulled."""

    name: str
    title: str
    installed: InstalledModel | None
    problem: str = ""


def user_models_dir() -> Path:
    """Where `models pull` and `models import` put what they make."""
    home = os.environ.get("STEMLINE_HOME")
    base = Path(home).expanduser().absolute() if home else Path(platformdirs.user_data_dir("stemline", appauthor=False))
    return base / "models"


def search_path() -> tuple[Path, ...]:
    """The directories in which models are looked for, in order of precedence."""
    extra = os.environ.get("STEMLINE_MODELS", "")
    return (*(Path(item) for item in extra.split(os.pathsep) if item), user_models_dir(), PACKAGED)


def list_models() -> list[CatalogueEntry]:
    """Every model by name: installed ones, broken ones, and published ones not yet downloaded. Never raises."""
    entries: dict[str, CatalogueEntry] = {}
    for directory in _model_directories():
        try:
            model = load_installed(directory)
        except BrokenCard as error:
            entries.setdefault(directory.name, CatalogueEntry(directory.name, "", None, str(error)))
        else:
            entries.setdefault(model.card.name, CatalogueEntry(model.card.name, model.card.title, model))
    for name, published in PULLABLE.items():
        entries.setdefault(name, CatalogueEntry(name, published.title, None))
    return sorted(
        entries.values(), key=lambda entry: (entry.name != DEFAULT_MODEL, entry.installed is None, entry.name)
    )


def find(name: str) -> InstalledModel:
    """The installed model of that name. Raises ModelNotFound, ModelNotDownloaded or BrokenCard."""
    entries = {entry.name: entry for entry in list_models()}
    entry = entries.get(name)
    if entry is None:
        raise ModelNotFound(name, list(entries))
    if entry.installed is not None:
        return entry.installed
    if entry.problem:
        raise _broken_card_of(name)
    raise ModelNotDownloaded(name)


def load_installed(directory: Path) -> InstalledModel:
    """The model in `directory`, its weights present but not yet verified. Raises BrokenCard."""
    path = directory / CARD_FILE
    try:
        card = ModelCard.load(path)
    except OSError as error:
        raise BrokenCard(path, f"cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BrokenCard(path, f"is not a model card ({error})") from error
    for name in card.weights:
        if Path(name).name != name or name in {"", ".", ".."}:
            raise BrokenCard(path, f'weight file "{name}" is not a plain file name')
        if not (directory / name).is_file():
            raise BrokenCard(path, f"weight file {name} is missing; pull or import the model again")
    return InstalledModel(card, directory)


def verify(model: InstalledModel) -> None:
    """Read every weight file and compare its sha256 with the card's. Raises ChecksumMismatch or BrokenCard."""
    for name, path in zip(model.card.weights, model.weight_paths, strict=True):
        try:
            actual = sha256_of(path)
        except OSError as error:
            raise BrokenCard(path, f"cannot be read ({error.strerror})") from error
        if actual != model.card.sha256[name]:
            raise ChecksumMismatch(path, model.card.sha256[name], actual)


def sha256_of(path: Path) -> str:
    """Hex digest of a file of any size, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def nearest_name(name: str, known: list[str]) -> str:
    """The known name that `name` most likely meant, or an empty string."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[close[0]] if close else ""


def _model_directories() -> Iterator[Path]:
    for root in search_path():
        if (root / CARD_FILE).is_file():
            yield root
        elif root.is_dir():
            # Names that begin with a dot are imports under way.
            yield from sorted(path.parent for path in root.glob(f"[!.]*/{CARD_FILE}"))


def _broken_card_of(name: str) -> BrokenCard:
    for directory in _model_directories():
        if directory.name == name:
            try:
                load_installed(directory)
            except BrokenCard as error:
                return error
    return BrokenCard(Path(name), "vanished while it was read")
