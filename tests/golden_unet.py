"""Replays a golden folder of the U-Net backbone. Tolerances are those of the vectors' own description."""

from pathlib import Path

import torch
from golden_distillation import LOSS_TOLERANCE
from golden_folder import DIFFUSION, Given, GoldenFolder, Raw, Tolerances
from golden_report import Report, Vectors
from torch import Tensor

from pyserver.diffusion.samplers import clamped
from pyserver.diffusion.scalings import edm_scalings
from pyserver.models.unet import UNet, UNetConfig
from training.dicose_objectives import NoiseConfig, Noising, lognormal_sigmas, score_matching_error, squared_error

LOUD_SIGMA = 0.05


class UNetFolder(GoldenFolder):
    """One network for all stems, told which by its class."""

    tolerances = Tolerances(feature=5e-5, output=5e-5, raw=1e-4, denoised=3e-5, walk=1e-4, loud=2e-4)

    @property
    def sigma_data(self) -> float:
        return float(self.settings["diffusion"]["sigma_data"])

    def make(self, stage: str) -> UNet:
        return UNet(UNetConfig.from_published(self.settings["model"]), timed=stage != "det")

    def separate(self, mixture: Tensor, class_BK: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.network(("det", "model.unet."))(mixture, class_BK=class_BK)  # type: ignore[no-any-return]

    def start(self, source: Vectors, vectors: Vectors, items: int | None = None) -> tuple[Given, Tensor]:
        class_BK = (vectors if "class_onehot" in vectors else source)["class_onehot"][:items]
        x_det, features = self.separate(source["mixture"][:items], class_BK)
        return Given(features, class_BK), x_det

    def raw(self, which: tuple[str, str], given: Given) -> Raw:
        network = self.network(which)
        return lambda x, c_noise: network(x, c_noise_B=c_noise, class_BK=given.class_BK, injected=given.features)[0]

    def usual_start(self, source: Vectors, vectors: Vectors) -> Tensor | None:
        """The clean stem of each item's class."""
        class_BK = (vectors if "class_onehot" in vectors else source)["class_onehot"]
        return torch.einsum("bk,bkcl->bcl", class_BK, source["stems"])

    def replay_separator(self, vectors: Vectors) -> None:
        mixture, class_BK, tolerance = vectors["mixture"], vectors["class_onehot"], self.tolerances.feature
        output, features = self.separate(mixture, class_BK)
        self.compare_features(vectors, features, [tolerance] * len(features))
        self.compare("det_io", "output", output, vectors.get("output"), tolerance)
        for match in vectors.matching(r"output_class(\d+)"):
            one_class = torch.zeros_like(class_BK)
            one_class[:, int(match.group(1))] = 1
            output, _ = self.separate(mixture, one_class)
            self.compare("det_io", match.group(), output, vectors.get(match.group()), tolerance)

    def replay_more_of_diffusion(self, vectors: Vectors, given: Given) -> None:
        file = "diffusion_io"
        self._replay_score_matching(file, vectors, given)
        if "x_noisy_loud" in vectors:
            denoise = clamped(self.denoiser(self.raw(DIFFUSION, given), edm_scalings))
            loud = denoise(vectors["x_noisy_loud"], torch.full_like(vectors["sigma"], LOUD_SIGMA))
            wanted = vectors.get("denoised_loud_clamped")
            self.compare(file, "denoised_loud_clamped", loud, wanted, self.tolerances.loud)
        c_noise = vectors.get("time_in_c_noise")
        if c_noise is None:
            return
        for match in vectors.matching(r"mapping_class(\d+)"):
            one_class = torch.eye(vectors["class_onehot"].shape[1])[[int(match.group(1))] * len(c_noise)]
            got = self.network(DIFFUSION).mapping(c_noise, one_class)
            self.compare(file, match.group(), got, vectors.get(match.group()), self.tolerances.feature)

    def _replay_score_matching(self, file: str, vectors: Vectors, given: Given) -> None:
        if "dsm_loss" not in vectors:
            return
        if "dsm_sigma_normal" in vectors:
            drawn = lognormal_sigmas(vectors["dsm_sigma_normal"], NoiseConfig())
            self.coefficient(file, "dsm_sigma", drawn, vectors["dsm_sigma"])
        noising = Noising(vectors["dsm_x_start"], vectors["dsm_sigma"], vectors["dsm_noise"])
        denoise = clamped(self.denoiser(self.raw(DIFFUSION, given), edm_scalings))
        loss = score_matching_error(denoise, noising, noising.start, self.sigma_data, squared_error).mean()
        self.report.compare(f"{self.name}/{file} dsm_loss", loss, vectors["dsm_loss"], LOSS_TOLERANCE, relative=True)


def replay(folder: Path, name: str, report: Report) -> None:
    UNetFolder(folder, name, report).replay()
