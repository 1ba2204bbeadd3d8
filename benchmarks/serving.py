"""A server of a benchmark's own, and a model that costs next to nothing."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from safetensors.torch import save_file

from pyserver import paths
from pyserver.models import catalogue, registry
from pyserver.models.card import ModelCard
from pyserver.service.channel import Target

INSTANT = "instant"
"""With live windows as short as hops of 100 ms allow."""
INSTANT_LONG = "instant-long"
"""With live windows like the shipped model's."""
STOP_LIMIT_S = 20


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is ready."""

    process: psutil.Process
    target: Target
    started: float
    """`time.monotonic` right before the process was started."""

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds since the start of the API process and of the engine's."""
        engine = [child for child in self.process.children() if "spawn_main" in " ".join(child.cmdline())]
        used = {"API process": [self.process], "engine": engine}
        return {role: sum(_cpu_s(each) for each in processes) for role, processes in used.items()}

    def unique_bytes(self) -> int:
        """Memory of all its processes that is not shared with others."""
        found = 0
        for process in (self.process, *self.process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                found += process.memory_full_info().uss
        return found


@contextmanager
def serving(
    folder: Path, options: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """A server that keeps all it has in `folder`, from the line on in which it says that it is ready."""
    command = [sys.executable, "-m", "pyserver", "--cpu", *options]
    home = {"STEMLINE_HOME": str(folder), **(environment or {})}
    started = time.monotonic()
    with subprocess.Popen(command, env=os.environ | home, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            if not server.stdout.readline():
                raise SystemExit("the server did not start")
            record = paths.read_server_record(folder)
            assert record is not None, "it is ready"
            target = Target(address=record.address, token=paths.read_token(Path(record.token_file)))
            yield Running(psutil.Process(server.pid), target, started)
        finally:
            server.terminate()
            server.wait(STOP_LIMIT_S)


def write_instant_models(models: Path) -> Mapping[str, str]:
    """Fixed shares for stems; gives the environment that finds them."""
    _write_instant_model(models, INSTANT, live_window_samples=8192, live_lookahead_samples=1024)
    _write_instant_model(models, INSTANT_LONG, live_window_samples=44100, live_lookahead_samples=2205)
    return {"STEMLINE_MODELS": str(models)}


def _write_instant_model(models: Path, name: str, *, live_window_samples: int, live_lookahead_samples: int) -> None:
    config = {"stems": 5}
    network, folder = registry.build("fixed_shares", config), models / name
    folder.mkdir(parents=True)
    weights = folder / "model.safetensors"
    save_file(network.state_dict(), weights)
    card = ModelCard(
        name=name,
        title="Fixed shares of the mixture",
        architecture="fixed_shares",
        config=config,
        stems=("bass", "drums", "guitar", "piano", "other"),
        sample_rate_hz=44100,
        channels=2,
        window_samples=262144,
        margin_samples=8192,
        fade_samples=2048,
        live_window_samples=live_window_samples,
        live_lookahead_samples=live_lookahead_samples,
        reference_rms=0.1,
        complete=False,
        refiner=None,
        licence="none",
        weights=(weights.name,),
        sha256={weights.name: catalogue.sha256_of(weights)},
    )
    (folder / catalogue.CARD_FILE).write_text(card.to_json(), encoding="utf-8")


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
