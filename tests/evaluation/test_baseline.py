from __future__ import annotations

from pathlib import Path

import pytest
import torch
from einops import rearrange

from tests.evaluation.conftest import PLAIN
from tests.models.tiny import Identity
from vvae.arch import image_vae, od_vae, open_sora, reducio, tae
from vvae.errors import VvaeError
from vvae.evaluation import evaluate, floor
from vvae.evaluation.baseline import linear_subject, refuse_large
from vvae.models.small import vvae_small
from vvae.video import read_clip

TINY = vvae_small(encoder_width=8, decoder_width=8, decoder_blocks=1)


def best_linear(video: torch.Tensor, code: floor.Components, count: int) -> torch.Tensor:
    """`b c t h w` by the `count` principal components of its own blocks, by a singular value decomposition."""
    t, p = code.frames, code.side
    blocks = rearrange(video.double(), "b c (n t) (h p) (w q) -> (b n h w) (c t p q)", t=t, p=p, q=p)
    mean = blocks.mean(0)
    u, s, v = torch.linalg.svd(blocks - mean, full_matrices=False)
    kept = (u[:, :count] * s[:count]) @ v[:count] + mean
    sizes = {"n": video.shape[2] // t, "h": video.shape[3] // p, "w": video.shape[4] // p}
    return rearrange(kept, "(n h w) (c t p q) -> 1 c (n t) (h p) (w q)", t=t, p=p, q=p, c=3, **sizes)


def test_the_baseline_is_the_best_linear_code_of_its_own_clips(clips: list[Path]) -> None:
    spec = open_sora("v1_2")
    protocol = PLAIN.replace(frames=8)
    video = torch.cat(list(read_clip(clips[0], frames=8)), 2)
    subject = linear_subject(spec, [protocol.clip(clips[0])])
    ours = torch.cat([result for _, result in subject.passes(protocol.clip(clips[0]).shown(), None)], 2)
    fitted = floor.fit([video], 4, 4, 8)
    best = best_linear(video, fitted.group, 4).clamp(-1, 1)
    assert (ours - best).abs().max() < 1e-4
    assert (ours - video).abs().max() > 0.01, "it must lose something"


@pytest.mark.parametrize(("channels", "group", "side"), [(2, 1, 8), (16, 4, 8), (5, 2, 4), (12, 1, 16), (500, 1, 2)])
def test_components_of_any_block_are_orthonormal_and_reach_their_limit(channels: int, group: int, side: int) -> None:
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(2, 3, 8, 32, 32, generator=generator) - 0.5
    fitted = floor.fit([video], channels, group, side).group
    flat = fitted.basis.flatten(1)
    kept = min(channels, 3 * group * side**2)
    assert fitted.basis.shape == (kept, 3, group, side, side)
    assert torch.allclose(flat @ flat.T, torch.eye(kept), atol=1e-5)
    latents = fitted.encode(video)
    assert latents.shape == (2, kept, 8 // group, 32 // side, 32 // side)
    if kept == 3 * group * side**2:
        assert torch.allclose(fitted.decode(latents), video, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 13])
@pytest.mark.parametrize(
    "spec",
    [TINY, Identity().spec, image_vae("sd"), od_vae("v1_2"), open_sora("v1_2"), tae("zero")],
    ids=lambda spec: spec.name,
)
def test_the_baseline_takes_any_clip_and_has_the_numbers_of_the_model(spec, frames: int, clips: list[Path]) -> None:
    protocol = PLAIN.replace(frames=frames)
    subject = linear_subject(spec, [protocol.clip(clips[2])])
    (found,) = evaluate([subject], clips[2:], protocol).models
    assert found.clips[0].frames == frames
    group = spec.pixels.group // spec.latents.group
    assert spec.latent_frames(frames) == spec.pixels.lead + -(-(frames - spec.pixels.lead) // group)
    assert found.rate == pytest.approx(torch.tensor(spec.latent_shape(frames, 32, 48)).prod().item() / (frames * 4608))
    assert found.mean["psnr"] > 15


def test_more_channels_lose_less(clips: list[Path]) -> None:
    protocol = PLAIN.replace(frames=4)
    taken = [protocol.clip(clip) for clip in clips]
    subjects = [linear_subject(image_vae("sd", latent_channels=channels), taken) for channels in (1, 4, 16)]
    found = [model.mean["psnr"] for model in evaluate(subjects, clips, protocol).models]
    assert found == sorted(found)
    assert found[0] + 3 < found[2]


def test_a_baseline_of_other_clips_is_no_better_than_one_of_the_own(clips: list[Path]) -> None:
    own, other = (linear_subject(TINY, [PLAIN.clip(clip)]) for clip in clips[:2])
    assert own.about["fitted_to"] != other.about["fitted_to"]
    values = [evaluate([subject], clips[:1], PLAIN).models[0].mean["psnr"] for subject in (own, other)]
    assert values[0] > values[1] + 1


def test_a_block_that_is_too_large_is_refused() -> None:
    with pytest.raises(VvaeError, match=r"4x32x32 pixels, 12288 numbers"):
        refuse_large(reducio("ft4"))
