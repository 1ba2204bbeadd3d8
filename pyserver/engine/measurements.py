"""What models cost on this machine, kept from one start of the server to the next.

Timing a model takes seconds, and live sessions wait for it: those whose server has just died would wait once more.
"""

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import pyserver
from pyserver.engine.messages import DeviceInfo, LoadedModel
from pyserver.models.card import ModelCard

log = logging.getLogger(__name__)

_KEPT_S = 24 * 3600.0  # a machine that was busy when it was timed is not held to that for long
_MOST_KEPT = 100
_COSTS = ("realtime_factor", "bounce_window_s", "live_base_s", "live_step_s", "live_batch")


class Measurements:
    """Figures in one JSON file, each under a hash of all that it depends on. Without a path nothing is kept."""

    def __init__(self, path: Path | None, device: DeviceInfo) -> None:
        self._path = path
        self._machine = [device.backend, device.name, device.threads, torch.__version__, pyserver.__version__]

    def find(self, card: ModelCard) -> LoadedModel | None:
        """None where nothing is known, or what is known is older than a day."""
        entry = self._read().get(self._key(card))
        if entry is None or not 0 <= time.time() - entry["measured_at"] < _KEPT_S:
            return None
        return LoadedModel(
            name=card.name,
            weights_sha256=card.weights_sha256,
            realtime_factor=entry["realtime_factor"],
            bounce_window_s=entry["bounce_window_s"],
            live_base_s=entry["live_base_s"],
            live_step_s=entry["live_step_s"],
            live_batch=int(entry["live_batch"]),
        )

    def keep(self, card: ModelCard, model: LoadedModel) -> None:
        """Where that cannot be done the model is timed again next time: a reason to say so, not to fail."""
        if self._path is None:
            return
        entry = {"measured_at": time.time()} | {key: getattr(model, key) for key in _COSTS}
        entries = self._read() | {self._key(card): entry}
        newest = sorted(entries.items(), key=lambda item: item[1]["measured_at"])[-_MOST_KEPT:]
        try:
            replace_json(self._path, dict(newest))
        except OSError as error:
            log.warning("cannot keep what model %s costs here: %s", card.name, error)

    def _key(self, card: ModelCard) -> str:
        return hashlib.sha256(json.dumps([self._machine, card.to_json()]).encode()).hexdigest()

    def _read(self) -> dict[str, dict[str, float]]:
        """What is there and whole; a file that someone else has written counts as none."""
        try:
            return {
                key: {name: float(entry[name]) for name in ("measured_at", *_COSTS)}
                for key, entry in read_json(self._path).items()
            }
        except (ValueError, TypeError, KeyError):
            return {}


def read_json(path: Path | None) -> dict[str, Any]:
    """What is there and whole; a file that someone else has written counts as none."""
    try:
        entries = json.loads(path.read_text()) if path else {}
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}


def replace_json(path: Path, entries: Mapping[str, Any]) -> None:
    """Written beside and renamed. Raises OSError."""
    partial = None
    try:
        handle, partial = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w") as file:
            json.dump(entries, file, indent=1)
        Path(partial).replace(path)
    except OSError:
        if partial:
            Path(partial).unlink(missing_ok=True)
        raise
