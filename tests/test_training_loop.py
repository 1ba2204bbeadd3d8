"""Promises of the loop: whenever it dies nothing is trusted wrongly, and how it is computed changes no result."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from training.blocks import blocks_of, checkpoint_activations, compile_blocks
from training.board import Panels, TensorBoard
from training.data.pool import CropConfig
from training.loop import (
    Precision,
    Run,
    RunMismatch,
    Stage,
    TrainConfig,
    add_up_gradients,
    step_generator,
    step_seed,
    train,
)
from training.optimisers import OptimiserConfig, clip_gradients
from training.parallel import World
from training.runs import finished_weights

LENGTH, ITEMS = 64, 4


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(LENGTH, LENGTH)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + torch.tanh(nn.functional.dropout(self.linear(x), 0.2, self.training))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(LENGTH, LENGTH), Block(), Block())


def items(step: int) -> Tensor:
    return torch.randn((ITEMS, LENGTH), generator=torch.Generator().manual_seed(step))


def batches_from(step: int) -> Iterator[Tensor]:
    while True:
        yield items(step)
        step += 1


def stage_of(trained: nn.Module, during: Callable[[], None] = lambda: None) -> Stage:
    """Learns to give back what it is given, with noise and dropout; the score rises and falls with the weights."""

    def loss(batch: Tensor, generator: torch.Generator) -> Tensor:
        during()
        return (trained(batch + 0.1 * torch.randn(batch.shape, generator=generator)) - batch).square().mean()

    def validate(weights: nn.Module) -> dict[str, float]:
        return {"mean": float(next(weights.parameters()).detach()[0, :7].sum())}

    return Stage(trained=trained, loss=loss, validate=validate, blocks=(Block,))


def config(steps: int, **changes: object) -> TrainConfig:
    base = TrainConfig(
        stage="separator",
        steps=steps,
        batch_size=ITEMS,
        micro_batch=2,
        crop=CropConfig(samples=LENGTH),
        optimiser=OptimiserConfig(warmup_steps=1, decay_steps=1, learning_rate=1e-2),
        save_every=2,
        validate_every=1,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def run(folder: Path, settings: TrainConfig, during: Callable[[], None] = lambda: None) -> int:
    stage = stage_of(network(), during)
    return train(stage, copy.deepcopy(stage.trained), batches_from, Run(folder, settings))


def everything(folder: Path) -> dict[str, Tensor]:
    """All that a run leaves: weights, average, optimiser, best weights."""
    state = torch.load(folder / "state.pt", weights_only=True)
    parts = {"trained": state["trained"], "average": state["average"], "best": load_file(folder / "best.safetensors")}
    moments = {f"{index}": value["exp_avg"] for index, value in state["optimiser"]["0"]["state"].items()}
    return {f"{name}.{key}": value for name, part in (parts | {"m": moments}).items() for key, value in part.items()}


def rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(value, right[key]) for key, value in left.items())


def test_micro_batches_add_up_to_the_batch() -> None:
    torch.manual_seed(0)
    gradients = []
    for at_once in (4, 2, 1):
        model = nn.Linear(LENGTH, LENGTH)
        model.load_state_dict({key: torch.full_like(value, 0.01) for key, value in model.state_dict().items()})
        stage = Stage(
            trained=model, loss=lambda x, g, model=model: (model(x) - x).square().mean(), validate=lambda weights: {}
        )
        loss = add_up_gradients(stage, items(0), config(1, micro_batch=at_once), World(), 0)
        gradients.append(torch.cat([model.weight.grad.flatten(), loss[None]]))  # type: ignore[union-attr]
    assert torch.allclose(gradients[0], gradients[1], atol=1e-7)
    assert torch.allclose(gradients[0], gradients[2], atol=1e-7)


def test_a_batch_that_cannot_be_dealt_out_is_refused() -> None:
    assert config(1, batch_size=18, micro_batch=6).items_at_once(3) == 6
    assert config(1, batch_size=18, micro_batch=0).items_at_once(3) == 6
    assert config(1, batch_size=18, micro_batch=9).items_at_once(3) == 6
    for batch, at_once, processes in ((4, 3, 1), (4, 2, 3), (1, 0, 2)):
        with pytest.raises(ValueError, match="cannot share"):
            config(1, batch_size=batch, micro_batch=at_once).items_at_once(processes)


def test_gradients_are_clipped_only_where_that_is_asked_for() -> None:
    layer = nn.Linear(LENGTH, LENGTH)
    layer.weight.grad = torch.ones_like(layer.weight)
    assert float(clip_gradients(layer.parameters(), 0.0)) == LENGTH
    assert torch.equal(layer.weight.grad, torch.ones_like(layer.weight))
    assert float(clip_gradients(layer.parameters(), 1.0)) == LENGTH
    assert float(layer.weight.grad.norm()) == pytest.approx(1.0, abs=1e-4)


def test_seeds_and_micro_batches_draw_differently() -> None:
    places = [(seed, step, number) for seed in (0, 1, 1 << 20) for step in (0, 1) for number in (0, 1)]
    draws = {float(torch.rand((), generator=step_generator(*place))) for place in places}
    assert len(draws) == len(places)
    assert len({step_seed(*place) % (1 << 32) for place in places}) == len(places)


@pytest.mark.parametrize("precision", list(Precision))
def test_a_run_in_parts_is_the_whole_run(tmp_path: Path, precision: Precision) -> None:
    """Accumulated gradients, dropout, average, optimiser, metrics and the best weights, to the bit."""
    run(tmp_path / "whole", config(6, precision=precision))
    for steps in (2, 3, 6):
        run(tmp_path / "parts", config(steps, precision=precision, optimiser=replace(config(1).optimiser)))
    # the learning rate of a last step depends on how many there are to be; here it falls over none but the last
    assert same(everything(tmp_path / "whole"), everything(tmp_path / "parts"))
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")


class Killed(BaseException):
    """What a test throws in place of a SIGKILL, at a moment of its choice."""


def test_death_at_any_rename_loses_nothing_that_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files take their places one after another; a run that dies between any two of them goes on exactly."""
    run(tmp_path / "whole", config(6))
    expected, real, renames = everything(tmp_path / "whole"), Path.replace, 0

    def counted(self: Path, target: Path) -> Path:
        nonlocal renames
        renames += 1
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", counted)
        run(tmp_path / "counted", config(6))
    assert renames > 8
    for last in range(renames):
        folder, left = tmp_path / f"killed{last}", last

        def mortal(self: Path, target: Path) -> Path:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", mortal)
            with pytest.raises(Killed):
                run(folder, config(6))
        run(folder, config(6))
        assert same(everything(folder), expected), last
        assert rows(folder) == rows(tmp_path / "whole")


def test_a_killed_process_goes_on_from_its_last_save(tmp_path: Path) -> None:
    """A real SIGKILL, several times, as soon as it has come a little further: lost is what came after the last save."""
    steps = 60
    program = f"import test_training_loop as t; from pathlib import Path; t.run(Path('killed'), t.config({steps}))"
    search = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1"}
    threads = torch.get_num_threads()
    for kill_at in (5, 23):
        process = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environment)
        until = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < until:
            if reached(tmp_path / "killed") >= kill_at:
                process.kill()
            time.sleep(0.005)
        assert process.wait() == -signal.SIGKILL
        saved = torch.load(tmp_path / "killed" / "state.pt", weights_only=True)["step"]
        assert kill_at - config(steps).save_every < saved < steps
    torch.set_num_threads(1)
    run(tmp_path / "killed", config(steps))
    run(tmp_path / "whole", config(steps))
    torch.set_num_threads(threads)
    assert same(everything(tmp_path / "killed"), everything(tmp_path / "whole"))


def reached(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def test_sigterm_saves_the_step_and_leaves(tmp_path: Path) -> None:
    handlers = signal.getsignal(signal.SIGTERM)
    calls = 0

    def during() -> None:
        nonlocal calls
        calls += 1
        if calls == 2 * 3:  # two micro-batches a step
            os.kill(os.getpid(), signal.SIGTERM)

    assert run(tmp_path, config(100, save_every=1000), during) in (3, 4)
    assert signal.getsignal(signal.SIGTERM) is handlers
    step = int(torch.load(tmp_path / "state.pt", weights_only=True)["step"])
    assert run(tmp_path, config(step)) == step


def test_the_best_weights_are_kept_with_their_score(tmp_path: Path) -> None:
    run(tmp_path, config(12))
    scores = {row["step"]: row["validation"]["mean"] for row in rows(tmp_path) if "validation" in row}  # type: ignore[index]
    best = max(scores, key=lambda step: (scores[step], -int(str(step))))
    with safe_open(tmp_path / "best.safetensors", "pt") as file:
        assert file.metadata() == {"step": str(best), "score": repr(scores[best])}
        assert float(file.get_tensor("0.weight")[0, :7].sum()) == scores[best]
    assert finished_weights(tmp_path).name == "best.safetensors"
    (tmp_path / "best.safetensors").unlink()
    assert finished_weights(tmp_path).name == "average.safetensors"
    (tmp_path / "average.safetensors").unlink()
    with pytest.raises(RunMismatch, match="no weights"):
        finished_weights(tmp_path)


def test_a_row_cut_short_and_rows_of_lost_steps_are_forgotten(tmp_path: Path) -> None:
    run(tmp_path, config(4))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 9, "loss": 1.0}) + '\n{"step": 1')
    run(tmp_path, config(5))
    assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3, 4, 5]


def test_a_loss_that_is_not_finite_ends_the_run_unsaved(tmp_path: Path) -> None:
    trained = network()
    stage = Stage(trained=trained, loss=lambda x, g: trained(x).sum() * torch.nan, validate=lambda weights: {})
    with pytest.raises(FloatingPointError, match="step 0"):
        train(stage, network(), batches_from, Run(tmp_path, config(2)))
    assert not (tmp_path / "state.pt").exists()


def test_checkpointed_blocks_compute_the_same_again(tmp_path: Path) -> None:
    run(tmp_path / "plain", config(3))
    run(tmp_path / "checkpointed", config(3, checkpoint_activations=True))
    assert same(everything(tmp_path / "plain"), everything(tmp_path / "checkpointed"))
    model = network()
    assert checkpoint_activations(model, (Block,)) == 2
    twin = copy.deepcopy(model)
    twin(items(0)).sum().backward()
    blocks = [block for block in blocks_of(twin, (Block,)) if isinstance(block, Block)]
    assert [block.calls for block in blocks] == [2, 2]
    assert all(block.linear.weight.grad is None for block in blocks_of(model, (Block,)))  # type: ignore[union-attr]
    with torch.no_grad():
        twin(items(0))
    assert [block.calls for block in blocks] == [3, 3]


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_blocks_compute_the_same(tmp_path: Path) -> None:
    model = network().eval()
    expected = model(items(0))
    assert compile_blocks(model, (Block,)) == 2
    assert torch.allclose(model(items(0)), expected, atol=1e-6)
    assert model.state_dict().keys() == network().state_dict().keys()


def test_tensorboard_gets_curves_audio_and_spectrograms(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tone = torch.sin(torch.arange(8000) * 0.2).repeat(2, 1).numpy()
    stage = replace(stage_of(network()), panels=lambda weights: Panels(8000, {"bass/truth": tone}))
    run = Run(tmp_path, config(50, validate_every=50))
    train(stage, copy.deepcopy(stage.trained), batches_from, run, board=TensorBoard(tmp_path, 0))
    found = EventAccumulator(str(tmp_path)).Reload()
    assert {"loss", "norm", "rate", "steps_per_s", "validation/mean"} <= set(found.Tags()["scalars"])
    assert found.Tags()["audio"] == found.Tags()["images"] == ["bass/truth"]
    assert found.Audio("bass/truth")[0].sample_rate == 8000
    assert found.Scalars("loss")[0].step == 50
