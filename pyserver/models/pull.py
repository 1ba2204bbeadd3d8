"""A published model from the hub to the user's models: look up, download, install. Needs no torch but to install.

Files under way lie in `.downloads` among the user's models, so that the next pull goes on where one has stopped.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pyserver.models import catalogue, hub


@dataclass(frozen=True, slots=True)
class Offer:
    """A published model as the hub has it now."""

    name: str
    published: hub.PublishedFile
    remote: hub.RemoteFile

    @property
    def source(self) -> str:
        """Where the weights are from, for their card."""
        return f"{self.published.repository}/{self.published.path} at {self.remote.commit}, sha256 {self.remote.sha256}"


def published(name: str) -> hub.PublishedFile:
    """Raises ModelNotFound."""
    found = hub.PUBLISHED.get(name)
    if found is None:
        raise catalogue.ModelNotFound(name, list(hub.PUBLISHED))
    return found


def is_installed(name: str) -> bool:
    return any(entry.name == name and entry.installed for entry in catalogue.list_models())


def look_up(name: str) -> Offer:
    file = published(name)
    return Offer(name, file, hub.look_up(file))


def download(offer: Offer, progress: Callable[[int, int], None]) -> Path:
    """The verified file. `progress` may raise to end it; what is there stays for the next time."""
    return hub.download(offer.remote, catalogue.user_models_dir() / ".downloads", progress)


def install(path: Path, offer: Offer, *, replace: bool) -> catalogue.InstalledModel:
    """Imports the download and deletes it."""
    from pyserver.models.lightning import ImportOptions, import_checkpoint  # needs torch, which takes its time

    model = import_checkpoint(path, ImportOptions(name=offer.name, replace=replace, source=offer.source))
    path.unlink()
    return model
