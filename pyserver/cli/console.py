"""What commands show a person: progress and remarks on stderr, so that stdout holds results alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TransferSpeedColumn
from rich.progress import TimeRemainingColumn as TimeRemaining


class _Stdout(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # for `main`, instead of rich's own exit code


stderr = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
stdout = _Stdout(markup=False, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A remark for a person."""
    stderr.print(text)


@contextmanager
def separation_progress() -> Iterator[Progress]:
    """Bars with the speed in songs' seconds a second, and the time left; fields `speed` and `left` are text."""
    columns: tuple[Any, ...] = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[speed]}", markup=False),
        TextColumn("{task.fields[left]}", markup=False),
    )
    with Progress(*columns, console=stderr, transient=True) as progress:
        yield progress


@contextmanager
def download_progress() -> Iterator[Progress]:
    """Bars for files that come over a network."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemaining(),
    )
    with Progress(*columns, console=stderr) as progress:
        yield progress


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def size(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:,.0f} MiB" if num_bytes >= 1 << 20 else f"{num_bytes / 2**10:,.0f} KiB"
