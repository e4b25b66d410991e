"""Who published an architecture, under which licence, and which released file fits which variant.

vvae downloads nothing and ships none of these files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

NOT_STATED = "not stated"


@dataclass(frozen=True)
class Release:
    """The publication of an architecture.

    place: where the files of the weights are; files: the one for each variant (a file, or a folder). Licences as their
    authors state them.
    """

    paper: str
    code: str
    code_licence: str
    weights_licence: str
    place: str
    files: Mapping[str, str] = field(default_factory=dict)


RELEASES: Mapping[str, Release] = MappingProxyType(
    {
        "image_vae": Release(
            paper="arXiv 2112.10752 (SD), 2307.01952 (SDXL), 2403.03206 (SD3)",
            code="github.com/CompVis/latent-diffusion, github.com/huggingface/diffusers",
            code_licence="MIT, Apache-2.0",
            weights_licence="MIT (sd, sdxl), Stability AI community licence (sd3)",
            place="Hugging Face, stabilityai",
            files={"sd": "sd-vae-ft-mse", "sdxl": "sdxl-vae", "sd3": "vae folder of SD3 and SD3.5"},
        ),
        "iv_vae": Release(
            paper="arXiv 2411.06449",
            code="github.com/ali-vilab/iv-vae",
            code_licence="MIT",
            weights_licence=NOT_STATED,
            place="ModelScope, wpy1999/iv-vae",
            files={name: f"ivvae_{name}.pth" for name in ("z4_dim64", "z8_dim64", "z16_dim64", "z16_dim96")},
        ),
        "od_vae": Release(
            paper="arXiv 2409.01199 (v1.2)",
            code="github.com/PKU-YuanGroup/Open-Sora-Plan",
            code_licence="MIT",
            weights_licence="MIT",
            place="Hugging Face, LanguageBind",
            files={f"v1_{minor}": f"Open-Sora-Plan-v1.{minor}.0/vae" for minor in (0, 1, 2)},
        ),
        "open_sora": Release(
            paper="none; github.com/hpcaitech/Open-Sora, docs/report_03.md",
            code="github.com/hpcaitech/Open-Sora, tag v1.2.0",
            code_licence="Apache-2.0",
            weights_licence="Apache-2.0",
            place="Hugging Face, hpcai-tech",
            files={"v1_2": "OpenSora-VAE-v1.2"},
        ),
        "reducio": Release(
            paper="arXiv 2411.13552",
            code="github.com/microsoft/Reducio-VAE",
            code_licence="MIT",
            weights_licence="MIT",
            place="Hugging Face, microsoft/Reducio-VAE",
            files={name: f"reducio-{name}-fs32-attn23.ckpt" for name in ("ft4", "ft2")},
        ),
        "tae": Release(
            paper="arXiv 2410.13720, section 3.1.1",
            code="github.com/mindspore-lab/mindone, examples/moviegen",
            code_licence="Apache-2.0",
            weights_licence=NOT_STATED,
            place="download.mindspore.cn/toolkits/mindone/moviegen",
            files=dict.fromkeys(("zero", "replicate", "tail"), "tae_ucf101pt_mixkitft-b3b2e364.ckpt"),
        ),
        "wan": Release(
            paper="arXiv 2503.20314",
            code="github.com/Wan-Video/Wan2.1, github.com/huggingface/diffusers",
            code_licence="Apache-2.0",
            weights_licence="Apache-2.0",
            place="Hugging Face, Wan-AI",
            files={"2.1": "Wan2.1_VAE.pth"},
        ),
    }
)
"""Architecture -> its publication. The paddings of TAE share one file: no tensor tells which of them is its own."""

OWN = Release(
    paper="none", code="vvae", code_licence="Apache-2.0", weights_licence="Apache-2.0", place="ships with vvae"
)
"""The models that ship."""
UNRELEASED = Release(paper="none", code="vvae", code_licence="Apache-2.0", weights_licence="none", place="no weights")
"""Spec functions of vvae that no one has published weights for."""
