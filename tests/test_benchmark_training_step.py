"""The benchmark of a training step: what it counts is right, and the whole command runs."""

import os
import re
import subprocess
import sys

import pytest
import torch

from benchmarks.training_step import counted_flop, group_of


def test_matrix_products_and_attention_are_counted_on_a_cpu() -> None:
    left, right = torch.ones(30, 40, requires_grad=True), torch.ones(40, 50, requires_grad=True)
    product = 2 * 30 * 40 * 50
    assert counted_flop(lambda: torch.mm(left, right)) == product
    assert counted_flop(lambda: torch.mm(left, right).sum().backward()) == 3 * product
    q, k, v = (torch.ones(2, 3, 16, 8, requires_grad=True) for _ in range(3))
    attend = torch.nn.functional.scaled_dot_product_attention
    forward = 2 * 3 * (2 * 2 * 16 * 16 * 8)  # two products a head
    assert counted_flop(lambda: attend(q, k, v)) == forward
    assert counted_flop(lambda: attend(q, k, v).sum().backward()) == pytest.approx(3.5 * forward)


@pytest.mark.parametrize(
    ("operation", "group"),
    [
        ("addmm", "matrix products"),
        ("_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("mkldnn_convolution", "convolutions"),
        ("_fft_r2c", "Fourier transforms"),
        ("native_group_norm_backward", "normalisation"),
        ("gelu_backward", "activations, dropout, softmax"),
        ("copy_", "copies, precision"),
        ("_fused_adam_", "optimiser"),
        ("add_", "sums and elements"),
    ],
)
def test_operations_are_found_in_their_group(operation: str, group: str) -> None:
    assert group_of(operation) == group


def test_the_command_says_time_speed_and_shares() -> None:
    command = [sys.executable, "-m", "benchmarks.training_step", "--experiment", "dicose_unet_slakh_diffusion"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--smoke", "--device", "cpu", "--steps", "1"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "1 crops of 0.19 s, fp32" in done.stdout
    assert float(re.search(r"a step takes (\S+) s", done.stdout)[1]) > 0  # type: ignore[index]
    assert 0 < int(re.search(r"(\d+)% of a matrix product's", done.stdout)[1]) <= 100  # type: ignore[index]
    shares = [float(share) for share in re.findall(r"│ *([\d.]+)% *│", done.stdout)]
    assert sum(shares) == pytest.approx(100, abs=1)
    assert shares == sorted(shares, reverse=True)
