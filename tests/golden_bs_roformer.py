"""Replays a golden folder of the BS-RoFormer backbone. Tolerances are those of the vectors' own description.

Cases are replayed stage by stage: the separator's features are computed from the stored spectrum once the spectrum
itself has been compared, and the refiner is given the stored features once those have been. FFT libraries round
differently (MKL does on Intel and on other processors), by less than 2e-6 here, and the norm of a nearly silent band
magnifies that beyond the tolerance of the features though the network is exact. The separator's estimates, and so the
starts of all samplers, are end to end; tests/test_dicose.py has separator and refiner in one.
"""

from pathlib import Path

import golden_distillation
import torch
from golden_folder import DENOISED, DIFFUSION, Given, GoldenFolder, Raw, Tolerances
from golden_report import Report, Vectors
from torch import Tensor

from pyserver.diffusion.samplers import clamped
from pyserver.diffusion.scalings import edm_scalings, per_item
from pyserver.models.bs_roformer import BSRoformerConfig, BSRoformerRefiner, BSRoformerSeparator
from training.dicose_objectives import l1_and_spectral_error

LOUD_GAIN, LOUD_SIGMA = 40.0, 0.02


class BSRoformerFolder(GoldenFolder):
    """All stems at once, (B, S, C, L), each refined by itself."""

    tolerances = Tolerances(feature=2e-5, output=2e-6, raw=2e-5, denoised=2e-6, walk=2e-6, loud=4e-5)

    @property
    def sigma_data(self) -> float:
        return float(self.settings.get("refiner", {}).get("diffusion_sigma_data", 0.0))

    def make(self, stage: str) -> BSRoformerSeparator | BSRoformerRefiner:
        if stage == "det":
            return BSRoformerSeparator(BSRoformerConfig.from_published(self.settings["deterministic"]))
        return BSRoformerRefiner(BSRoformerConfig.from_published(self.settings["refiner"]))

    @property
    def separator(self) -> BSRoformerSeparator:
        return self.network(("det", "model.unet."))  # type: ignore[no-any-return]

    def start(self, source: Vectors, vectors: Vectors, items: int | None = None) -> tuple[Given, Tensor]:
        names = [f"feature{index:02d}" for index in range(self.separator.config.injected_features)]
        x_det, _ = self.separator(source["mixture"][:items])
        return Given([source[name][:items] for name in names]), x_det

    def raw(self, which: tuple[str, str], given: Given) -> Raw:
        def all_stems(x_BSCL: Tensor, c_noise: Tensor) -> Tensor:
            stems = range(x_BSCL.shape[1])
            return torch.stack([self.one_stem(which, given, k)(x_BSCL[:, k], c_noise) for k in stems], dim=1)

        return all_stems

    def one_stem(self, which: tuple[str, str], given: Given, stem: int) -> Raw:
        network = self.network(which)
        return lambda x_BCL, c_noise: network(x_BCL, c_noise, stem, given.features)

    def case_raw(self, which: tuple[str, str], given: Given, vectors: Vectors, case: str) -> Raw:
        """A case is about one stem, stored as (B, 1, C, L)."""
        raw = self.one_stem(which, given, int(vectors[f"{case}.stem"]))
        return lambda x_B1CL, c_noise: raw(x_B1CL[:, 0], c_noise)[:, None]

    def separator_stages(self, mixture: Tensor, spectrum: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """The estimate and all features, those after the spectrum computed from the given one."""
        output, features = self.separator(mixture)
        masks, inner = self.separator.core(features[0] if spectrum is None else spectrum)
        return output, [features[0], *inner, masks, output]

    def replay_separator(self, vectors: Vectors) -> None:
        output, staged = self.separator_stages(vectors["mixture"], vectors["feature00"])
        tolerances = [self.tolerances.feature] * (len(staged) - 1) + [self.tolerances.output]
        self.compare_features(vectors, staged, tolerances)
        self.compare("det_io", "output", output, vectors.get("output"), self.tolerances.output)
        if "det_loss_l1_plus_mrstft" in vectors:
            resolutions = golden_distillation.network_resolutions(self.settings["deterministic"])
            loss = l1_and_spectral_error(output, vectors["stems"], resolutions).mean()
            wanted, case = vectors["det_loss_l1_plus_mrstft"], f"{self.name}/det_io det_loss_l1_plus_mrstft"
            self.report.compare(case, loss, wanted, golden_distillation.LOSS_TOLERANCE, relative=True)

    def replay_more_of_diffusion(self, vectors: Vectors, given: Given) -> None:
        file, tolerances, network = "diffusion_io", self.tolerances, self.network(DIFFUSION)
        resolutions = golden_distillation.network_resolutions(self.settings["refiner"])
        for case in (match.group(1) for match in vectors.matching(r"(dsm_\w+)\.loss")):
            one = clamped(self.denoiser(self.case_raw(DIFFUSION, given, vectors, case), edm_scalings))
            judged_by = (self.sigma_data, golden_distillation.error_named(case, resolutions))
            name = f"{self.name}/{file}"
            golden_distillation.replay_score_matching(name, vectors, self.report, one, judged_by, case)
        x, sigma = vectors["x_noisy"], vectors["sigma"]
        coefficients = edm_scalings(sigma, self.sigma_data)
        scaled = per_item(coefficients.inp, x) * x
        for match in vectors.matching(r"single_stem(\d+)\.raw_F"):
            stem = int(match.group(1))
            raw = self.one_stem(DIFFUSION, given, stem)
            one_raw = raw(scaled[:, stem], coefficients.noise)[:, None]
            self.compare(file, match.group(), one_raw, vectors.get(match.group()), tolerances.raw)
            one = clamped(self.denoiser(raw, edm_scalings))(x[:, stem], sigma)[:, None]
            name = f"single_stem{stem}.denoised"
            self.compare(file, name, one, vectors.get(name), tolerances.denoised)
        denoise = clamped(self.denoiser(self.raw(DIFFUSION, given), edm_scalings))
        loud = denoise(LOUD_GAIN * x, torch.full_like(sigma, LOUD_SIGMA))
        self.compare(file, "denoised_loud_clamped", loud, vectors.get("denoised_loud_clamped"), tolerances.loud)
        assert given.features is not None
        adapted = network.adapt_spectrum(given.features[0][:1])
        self.compare(file, "stft_adapter_out", adapted, vectors.get("stft_adapter_out"), tolerances.feature)
        c_noise = vectors.get("time_in_c_noise")
        if c_noise is None:
            return
        for match in vectors.matching(r"mapping_stem(\d+)"):
            got = network.mapping(c_noise, int(match.group(1)))
            self.compare(file, match.group(), got, vectors.get(match.group()), tolerances.feature)

    def replay_more_of_consistency(self, vectors: Vectors, given: Given, level: str, x: Tensor) -> None:
        for name, (which, scalings) in DENOISED.items():
            for match in vectors.matching(rf"{level}\.single_stem(\d+)\.{name}"):
                stem = int(match.group(1))
                denoise = self.denoiser(self.one_stem(which, given, stem), scalings)
                got = denoise(x[:, stem], vectors[f"{level}.sigma"])[:, None]
                self.compare("cd_io", match.group(), got, vectors.get(match.group()), self.tolerances.denoised)


def replay(folder: Path, name: str, report: Report) -> None:
    BSRoformerFolder(folder, name, report).replay()
