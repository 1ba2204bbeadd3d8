"""Writes metric files in the format of the golden ones, in other sizes; see golden_tree."""

from pathlib import Path

import golden_tree
import torch

from training import metrics


def write_metrics(folder: Path) -> None:
    """Three stems whose names are not in alphabetical order, stereo, one silent from the middle of the second item."""
    folder.mkdir(parents=True)
    rate, names = 300, ("vocals", "bass", "drums")
    references, noise = (0.3 * torch.randn(2, 3, 2, 2700) for _ in range(2))
    references[1, 1, :, 1200:] = references[0, 2, :, :600] = 0
    estimates = references + 0.2 * noise
    arrays: golden_tree.Arrays = {"reference": references, "estimate": estimates, "sample_rate": torch.tensor(rate)}
    arrays["length"] = torch.tensor(2400)
    cut = [(e[..., :2400].numpy(), r[..., :2400].numpy()) for e, r in zip(estimates, references, strict=True)]
    for kind, include in (("include_silent", True), ("exclude_silent", False)):
        items = [metrics.refiner_scores(*item, rate, include_silent=include) for item in cut]
        for index, name in enumerate(names):
            for metric in metrics.REFINER_METRICS:
                values = [value for item in items for value in item[index][metric]]
                arrays[f"{kind}.{name}.{metric}"] = torch.tensor(values, dtype=torch.float64)
    for name, score in zip(names, metrics.silent_frame_scores(*cut[0], rate), strict=True):
        arrays |= {f"silent_frames.{name}.{metric}": torch.tensor(values) for metric, values in score.items()}
    golden_tree.save(folder / "refiner_metrics.npz", arrays)
    mono, mono_estimates = references[1, :, 0].numpy(), estimates[1, :, 0].numpy()
    scores = metrics.msdm_scores(mono_estimates[:, None], mono[:, None], rate)
    starts = torch.tensor([part.start for part in scores.parts])
    found = {"start_sample": starts, "end_sample": starts + 4 * rate}
    found["si_sdr_improvement"] = torch.from_numpy(scores.improvement_SK)
    protocol = {"reference": references[1, :, 0], "estimate": estimates[1, :, 0], "sample_rate": torch.tensor(rate)}
    golden_tree.save(
        folder / "msdm_metrics.npz", protocol | {f"filtered.{name}": array for name, array in found.items()}
    )
