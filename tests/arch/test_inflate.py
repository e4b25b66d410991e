"""An image VAE as the start of a video VAE: exact where the publications' rules make it so, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from vvae import CheckpointError, SpecError, verify
from vvae.arch.image_vae import image_vae
from vvae.arch.inflate import INFLATIONS, TAE, one_half
from vvae.arch.iv_vae import iv_vae
from vvae.arch.od_vae import VARIANTS as OD_VARIANTS
from vvae.arch.od_vae import od_vae
from vvae.arch.open_sora import open_sora
from vvae.arch.tae import VARIANTS as TAE_VARIANTS
from vvae.arch.tae import tae
from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.published.inflate import inflate
from vvae.published.inflation import Inflation

WIDTHS, STILL = (4, 4, 8, 8), 9
EXACT, NOT = 1e-12, 1e-3


@dataclass(frozen=True)
class Start:
    """A video VAE and the image VAE that starts it.

    `exact`: where it gives what the image VAE gives: one frame encoded, a still clip, one latent decoded, equal ones.
    """

    arch: str
    image: Callable[[], VideoAutoencoderSpec]
    video: Callable[[], VideoAutoencoderSpec]
    exact: tuple[bool, bool, bool, bool]
    copies: int = 1
    """How many times the image's latent stands in that of the video VAE."""


def image_of(latent_channels: int, convs: bool) -> VideoAutoencoderSpec:
    return image_vae(
        widths=WIDTHS, blocks=1, groups=2, latent_channels=latent_channels, moments_conv=convs, latent_conv=convs
    )


def od_start(variant: str, *exact: bool) -> Start:
    sizes = {"width": 4, "multipliers": (1, 1, 2, 2), "blocks": 1, "groups": 2, "latent_channels": 3}
    return Start("od_vae", lambda: image_of(3, convs=True), lambda: od_vae(variant, **sizes), exact)  # type: ignore[arg-type]


def tae_start(variant: str, temporal_attention: bool, *exact: bool) -> Start:
    def video() -> VideoAutoencoderSpec:
        sizes = {"widths": WIDTHS, "blocks": 1, "groups": 2, "latent_channels": 2}
        return tae(variant, **sizes, temporal_attention=temporal_attention)

    return Start("tae", lambda: image_of(2, convs=False), video, exact)  # type: ignore[arg-type]


def iv_start() -> Start:
    def video() -> VideoAutoencoderSpec:
        return iv_vae(width=4, latent_channels=4, blocks=1, encoder_attention=(1,), decoder_attention=(2,))

    return Start("iv_vae", lambda: one_half(video()), video, (True, False, True, False), copies=2)


STARTS: Mapping[str, Start] = {
    "od_vae_v1_0": od_start("v1_0", True, False, True, False),
    "od_vae_v1_1": od_start("v1_1", False, False, False, False),
    "od_vae_v1_2": od_start("v1_2", True, True, False, False),
    **{f"tae_{name}_frames_only": tae_start(name, False, True, True, True, True) for name in TAE_VARIANTS},
    **{f"tae_{name}": tae_start(name, True, False, False, False, False) for name in TAE_VARIANTS},
    "iv_vae": iv_start(),
}

every_start = pytest.mark.parametrize("name", list(STARTS))


def models(start: Start) -> tuple[VideoAutoencoder, VideoAutoencoder]:
    """The image VAE with random weights, biases and norms too, and the video VAE made of it."""
    torch.manual_seed(0)
    image, video = start.image().build().double(), start.video().build().double()
    for parameter in image.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, 0.3)
    video.load_state_dict(inflate(INFLATIONS[start.arch], image.state_dict(), video.state_dict()))
    return image, video


def picture() -> Tensor:
    return torch.randn(1, 3, 1, 16, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def moments(model: VideoAutoencoder, x: Tensor) -> Tensor:
    posterior = model.encode(x)
    return torch.stack([posterior.mean, posterior.logvar])


@torch.no_grad()
def differences(start: Start) -> tuple[float, float, float, float]:
    image, video = models(start)
    x = picture()
    z = torch.randn(image.encode(x).mean.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    latent, decoded = moments(image, x), image.decode(z)
    latent, z = latent.repeat(1, 1, start.copies, 1, 1, 1), z.repeat(1, start.copies, 1, 1, 1)

    def far(found: Tensor, want: Tensor, axis: int) -> float:
        """From the image VAE's, at every position of time."""
        return verify.difference(found, want.expand_as(found) if found.shape[axis] > 1 else want)

    return (
        far(moments(video, x), latent, 3),
        far(moments(video, x.expand(-1, -1, STILL, -1, -1)), latent, 3),
        far(video.decode(z), decoded, 2),
        far(video.decode(z.expand(-1, -1, 2, -1, -1)), decoded, 2),
    )


@every_start
def test_start_is_exact_where_the_table_says_and_nowhere_else(name: str) -> None:
    start = STARTS[name]
    for what, exact, found in zip(
        ("one frame", "still clip", "one latent", "equal latents"), start.exact, differences(start), strict=True
    ):
        assert found <= EXACT if exact else found > NOT, f"{what}: {found:.2e} from the image VAE"


@torch.no_grad()
def test_one_latent_of_tae_gives_the_image_in_all_eight_frames() -> None:
    image, video = models(STARTS["tae_zero_frames_only"])
    z = torch.randn(1, 2, 1, 2, 3, dtype=torch.float64)
    assert video.decode(z).shape[2] == 8
    assert verify.difference(video.decode(z), image.decode(z).expand(-1, -1, 8, -1, -1)) <= EXACT


def test_every_release_of_the_table_is_there() -> None:
    assert {f"od_vae_{variant}" for variant in OD_VARIANTS} <= STARTS.keys()
    assert {start.arch for start in STARTS.values()} | {"open_sora"} == INFLATIONS.keys()


@pytest.mark.parametrize("variant", list(iv_vae.variants))
def test_half_of_a_release_has_half_the_latent_channels(variant: str) -> None:
    spec = iv_vae(variant)
    half = one_half(spec)
    assert 2 * half.latents.channels == spec.latents.channels
    assert (half.latents.stride, half.framing.group) == (spec.latents.stride, 1)
    assert half.dependency(3).tolist() == torch.eye(3, dtype=torch.bool).tolist()


# --------------------------------------------------------------------------- what cannot be


def test_an_image_vae_is_the_part_of_open_sora_that_sees_frames() -> None:
    sizes: dict[str, Any] = {"widths": (4, 4), "blocks": 1, "groups": 2}
    image = image_vae(**sizes, latent_channels=4).build()
    video = open_sora(width=4, blocks=1, groups=2, spatial=sizes).build()
    own = {name: tensor.clone() for name, tensor in video.state_dict().items()}
    video.load_state_dict(inflate(INFLATIONS["open_sora"], image.state_dict(), video.state_dict()))
    for name, tensor in video.state_dict().items():
        given = image.state_dict()[name.replace(".spatial.image", "")] if ".spatial." in name else own[name]
        assert torch.equal(tensor, given), name


def test_image_vae_of_other_widths_is_refused() -> None:
    image = image_vae(widths=(8, 8, 8, 8), blocks=1, groups=2, latent_channels=2, moments_conv=False, latent_conv=False)
    video = tae(widths=(4, 12, 12, 12), blocks=1, groups=2, latent_channels=2)
    with pytest.raises(CheckpointError, match=r"cannot be filled from .* take one of the same widths"):
        inflate(TAE, image.build().state_dict(), video.build().state_dict())


def test_image_vae_with_more_or_less_is_refused() -> None:
    weights, fresh = (spec().build().state_dict() for spec in (STARTS["tae_zero"].image, STARTS["tae_zero"].video))
    with pytest.raises(CheckpointError, match=r"the image VAE's more has no place"):
        inflate(TAE, {**weights, "more": torch.zeros(1)}, fresh)
    gone = {name: value for name, value in weights.items() if name != "encoder.conv_in.weight"}
    with pytest.raises(CheckpointError, match=r"made of the image VAE's encoder\.conv_in\.weight, which it does not"):
        inflate(TAE, gone, fresh)


def test_tensor_that_no_row_names_is_refused() -> None:
    with pytest.raises(SpecError, match=r"no row of the inflation says where b\.weight comes from"):
        inflate([Inflation("a.", None, "fresh")], {}, {"b.weight": torch.zeros(1)})


@pytest.mark.parametrize("spec", [tae, lambda: iv_vae(temporal=(False,) * 3, grouping="published")])
def test_what_has_no_halves_is_refused(spec: Callable[[], VideoAutoencoderSpec]) -> None:
    with pytest.raises(SpecError, match="IV-VAE with groups; take one"):
        one_half(spec())
