"""Rows of the benchmark table: what is compared with what, and the ratio."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """`ratio` is measured / reference; `limit` is what it must not exceed, if anything was promised."""

    what: str
    against: str
    ratio: float
    limit: float | None = None


def machine() -> str:
    name = platform.processor() or platform.machine()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {psutil.cpu_count(logical=False)} cores, torch {torch.__version__}"


def show(sections: Mapping[str, Sequence[Row]]) -> None:
    """Rows by the command that measures them alone."""
    table = Table(title=f"Ratios on {machine()}", title_justify="left")
    for column in ("what", "against", "ratio", "limit"):
        table.add_column(column, justify="left" if column in ("what", "against") else "right")
    for command, rows in sections.items():
        table.add_row(f"[bold]{command}[/bold]")
        for row in rows:
            limit = "" if row.limit is None else f"≤ {row.limit:g}"
            table.add_row(row.what, row.against, f"{row.ratio:.3f}", limit)
        table.add_section()
    Console(width=120).print(table)
