"""Promises of the evaluator and of the sweep: whose figures, from what, and that test songs are not tuned on."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import TINY_STEMS

from training import evaluate, figures, sweep
from training.evaluate import Arguments
from training.plots import NoSuchSong
from training.scores import (
    RATE_HZ,
    bss_scores,
    headline,
    mean_scores,
    median_scores,
    museval_bss_eval,
    own_bss_eval,
    published_scores,
    score_set,
    score_song,
)

STEMS = ("bass", "drums", "guitar")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A split of two songs of 5 s, the second without a piano."""
    root = tmp_path_factory.mktemp("rendered") / "val"
    for index in range(2):
        track = root / f"Track{index:05d}"
        track.mkdir(parents=True)
        for number, stem in enumerate(TINY_STEMS):
            if (index, stem) != (1, "piano"):
                audio = noise(5 * RATE_HZ, 2, seed=10 * index + number)
                soundfile.write(track / f"{stem}.flac", audio, RATE_HZ, "PCM_16")
    return root


def test_silent_targets_are_left_out_of_one_protocol_and_kept_in_the_other() -> None:
    stems, error = noise(3, 2, 10 * RATE_HZ), noise(3, 2, 10 * RATE_HZ, seed=1)
    stems[2] = 0
    estimates = stems + 0.1 * error
    left_out, kept = (score(stems, estimates, STEMS) for score in (score_song, published_scores))
    assert left_out["guitar"] == []
    assert len(kept["guitar"]) == len(kept["bass"]) == 4
    assert kept["bass"] == pytest.approx(left_out["bass"])
    assert kept["guitar"][0] > 15  # an almost silent estimate of silence is praised


def test_the_headline_is_of_the_four_or_of_all() -> None:
    assert headline(("bass", "drums", "guitar", "piano", "other")) == ["bass", "drums", "guitar", "piano"]
    assert headline(("drums", "bass", "other", "vocals")) == ["drums", "bass", "other", "vocals"]


def test_means_are_over_chunks_and_medians_over_songs() -> None:
    songs = [{"bass": [1.0, 2.0, 9.0]}, {"bass": [5.0]}, {"bass": []}]
    assert mean_scores(songs, ["bass"]) == {"bass": 4.25, "mean": 4.25}
    assert median_scores(songs, ["bass"]) == {"bass": 3.5, "mean": 3.5}
    assert math.isnan(median_scores(songs[2:], ["bass"])["bass"])


def test_stems_that_never_sound_are_left_out_of_bss_eval() -> None:
    rate = 2000
    stems = noise(3, 2, 3 * rate)
    stems[1] = 0
    better, worse = (stems + level * noise(3, 2, 3 * rate, seed=1) for level in (0.1, 0.3))
    ours = bss_scores(stems, [better, worse], STEMS, rate, own_bss_eval)
    assert ours[0]["sdr"]["drums"] == []
    assert np.median(ours[0]["sdr"]["bass"]) == pytest.approx(20, abs=0.5)
    assert np.median(ours[1]["sdr"]["bass"]) == pytest.approx(10.5, abs=0.5)
    try:
        theirs = bss_scores(stems, [better], STEMS, rate, museval_bss_eval)
    except (ImportError, RuntimeError) as missing:
        pytest.skip(f"museval is not to be had: {missing}")
    for key, scores in ours[0].items():
        for stem, values in scores.items():
            assert values == pytest.approx(theirs[0][key][stem], abs=1e-4)


def test_each_way_to_separate_is_judged_on_the_same_songs() -> None:
    songs = [("one", noise(2, 2, 5 * RATE_HZ)), ("two", noise(2, 2, 5 * RATE_HZ, seed=5))]
    truth = iter([stems for _, stems in songs])
    ways = {"perfect": lambda _: next(truth), "mixture": lambda mixture: np.stack([mixture, mixture])}
    found = score_set(ways, songs, STEMS[:2])
    assert found["mixture"].summary()["si_sdr_i"]["mean"] == pytest.approx(0, abs=1e-9)
    assert found["perfect"].summary()["si_sdr_i"]["mean"] > 60
    assert set(found["perfect"].by_song()) == {"one", "two"}


def test_table_json_and_pictures(
    songs: Path, tiny_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, plots = tmp_path / "figures.json", tmp_path / "plots"
    evaluate.main(Arguments(data=(songs,), json=report, plots=plots, seconds=4.5, plot_song="Track00000"))
    printed = capsys.readouterr().out
    assert "silent targets left out; stemline-small" in printed
    assert "val, 1 steps" in printed
    read = json.loads(report.read_text())
    assert read["sets"]["val"]["songs"] == 2
    assert read["sets"]["val"]["minutes"] == pytest.approx(0.15, abs=0.05)
    by_steps = read["sets"]["val"]["steps"]
    assert list(by_steps) == ["0", "1"]
    assert list(by_steps["0"]) == list(read["metrics"]) == ["si_sdr_i", "si_sdr_i_published"]
    assert list(by_steps["0"]["si_sdr_i"]) == [*TINY_STEMS, "mean"]
    assert read["sets"]["val"]["by_song"]["0"]["Track00001"]["si_sdr_i"]["piano"] is None
    names = {path.name for path in plots.iterdir()}
    assert names == {"by-song-si_sdr_i.png", "by-song-si_sdr_i_published.png", "spectrograms.png"}
    assert all(path.stat().st_size > 5000 for path in plots.iterdir())


def test_a_model_in_a_folder_is_judged_too(songs: Path, tiny_model_dir: Path) -> None:
    report = evaluate.evaluate(Arguments(data=(songs,), model=str(tiny_model_dir / "tiny-two"), steps=(0,), limit=1))
    assert report.model == "tiny-two"
    assert report.metrics() == ["si_sdr_i", "si_sdr_i_published"]


def test_a_song_that_is_not_there_is_named(songs: Path, tiny_models: Path, tmp_path: Path) -> None:
    with pytest.raises(NoSuchSong, match="Nowhere"):
        evaluate.evaluate(Arguments(data=(songs,), steps=(0,), limit=1, plots=tmp_path, plot_song="Nowhere"))


def test_a_sweep_finds_the_best_sigma_and_says_so(
    songs: Path, tiny_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, plot = tmp_path / "sweep.json", tmp_path / "sweep.png"
    sweep.main(sweep.Arguments(data=songs, sigma=(0.3, 0.001), steps=(1, 2), limit=1, json=report, plot=plot))
    read = json.loads(report.read_text())
    assert [(point["steps"], point["sigma_max"]) for point in read["points"]] == [
        (1, 0.001), (1, 0.3), (2, 0.001), (2, 0.3),
    ]  # fmt: skip
    means = {(point["steps"], point["sigma_max"]): point["si_sdr_i"]["mean"] for point in read["points"]}
    for steps, sigma in read["best"].items():
        assert means[int(steps), sigma] == max(means[int(steps), other] for other in (0.001, 0.3))
    # an untrained refiner is the separator with noise added: the less of it, the better
    assert means[1, 0.001] == pytest.approx(read["separator"]["mean"], abs=0.05)
    assert means[1, 0.3] < means[1, 0.001] - 0.1
    assert "best with T = 1: sigma_max 0.001" in capsys.readouterr().out
    assert plot.stat().st_size > 5000


@pytest.mark.parametrize("name", ["test", "test-font"])
def test_test_songs_are_not_tuned_on(songs: Path, tiny_models: Path, tmp_path: Path, name: str) -> None:
    """Neither as a split, nor inside a data set."""
    shutil.copytree(songs, tmp_path / "rendered" / name)
    for data in (tmp_path / "rendered" / name, tmp_path / "rendered"):
        with pytest.raises(sweep.TunesOnTest, match="--allow-test"):
            sweep.sweep(sweep.Arguments(data=data, sigma=(0.01,), steps=(1,), limit=1))
    allowed = sweep.Arguments(data=data, sigma=(0.01,), steps=(1,), limit=1, seconds=4.5, allow_test=True)
    assert sweep.sweep(allowed).songs == 1


def test_sweeps_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        sweep.Arguments(data=Path("val"), steps=(0, 1))


def test_the_readmes_pictures_come_from_runs_and_a_model(songs: Path, tiny_models: Path, tmp_path: Path) -> None:
    rows = [{"step": step, "loss": 1 / step} for step in (50, 100)]
    validations = {"separator": {"bass": 1.0, "mean": 1.0}, "consistency": {"separator": 1.0, "sigma 0.03": 1.2}}
    for name, validation in validations.items():
        (tmp_path / name).mkdir()
        lines = [json.dumps(row) + "\n" for row in (*rows, {"step": 100, "validation": validation})]
        (tmp_path / name / "metrics.jsonl").write_text("".join(lines))
    runs = tuple(tmp_path / name for name in validations)
    made = figures.draw(figures.Arguments(out=tmp_path / "images", runs=runs, data=songs, seconds=2.0))
    assert [path.name for path in made] == ["training-loss.png", "training-spectrograms.png"]
    assert all(path.stat().st_size > 5000 for path in made)
    with pytest.raises(figures.NotARun, match="nowhere"):
        figures.draw(figures.Arguments(out=tmp_path / "images", runs=(tmp_path / "nowhere",)))
