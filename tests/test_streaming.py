"""Streams through whole models: chunks are the clip, states are values, memory stays level."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vvae import CheckpointError, StreamError, StreamState, VideoError, checkpoint, load_state, save_state, verify
from vvae.arch import iv_vae
from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.cost import flops
from vvae.layers import (
    AfterLeadSpec,
    FrameConv2dSpec,
    GroupCausalConv3dSpec,
    LinearTemporalUpsampleSpec,
    SpatialUpsampleSpec,
    chain,
)
from vvae.verify.strategies import plans

SPEC = iv_vae(width=2, latent_channels=2, blocks=1)


@pytest.fixture(scope="module")
def model() -> VideoAutoencoder:
    torch.manual_seed(0)
    return SPEC.build().double()


def looking_ahead() -> VideoAutoencoder:
    """A model whose decoder looks two latents ahead."""
    up = AfterLeadSpec(layers={"up": LinearTemporalUpsampleSpec()})
    conv = GroupCausalConv3dSpec(channels=4)
    decoder = chain(conv_in=conv, up_a=up, conv_b=conv, up_b=up, out=GroupCausalConv3dSpec(channels=3))
    encoder = iv_vae(width=2, latent_channels=2, blocks=1, multipliers=(1, 1, 1), temporal=(True, True)).encoder
    big = chain(decode=decoder, grow_a=SpatialUpsampleSpec(channels=3), grow_b=SpatialUpsampleSpec(channels=3))
    spec = VideoAutoencoderSpec(
        name="ahead", encoder=encoder, decoder=big, framing=iv_vae(temporal=(False, True, True)).framing
    )
    torch.manual_seed(0)
    return spec.build().double()


@pytest.fixture(scope="module")
def ahead() -> VideoAutoencoder:
    return looking_ahead()


def clip(frames: int, height: int = 8, width: int = 8, seed: int = 0) -> Tensor:
    return (
        torch.rand(1, 3, frames, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2
        - 1
    )


def encode_chunks(
    model: VideoAutoencoder, chunks: list[Tensor], state: StreamState | None = None
) -> tuple[Tensor, list[StreamState]]:
    given, states = [], []
    for number, chunk in enumerate(chunks):
        posterior, state = model.encode_chunk(chunk, state, last=number == len(chunks) - 1)
        given.append(torch.cat([posterior.mean, posterior.logvar], 1))
        states.append(state)
    return torch.cat(given, 2), states


def decode_chunks(model: VideoAutoencoder, chunks: list[Tensor]) -> Tensor:
    given, state = [], None
    for number, chunk in enumerate(chunks):
        frames, state = model.decode_chunk(chunk, state, last=number == len(chunks) - 1)
        given.append(frames)
    return torch.cat(given, 2)


@given(plan=st.integers(0, 4).flatmap(plans))
def test_chunks_are_the_whole_clip_for_every_plan(model: VideoAutoencoder, plan: list[int]) -> None:
    x = clip(1 + 4 * sum(n for n in plan if n > 0))
    with torch.no_grad():
        whole = model.encode(x)
        moments, _ = encode_chunks(model, verify.split(x, SPEC.pixels, plan))
        assert verify.difference(moments, torch.cat([whole.mean, whole.logvar], 1)) <= 1e-12
        given = decode_chunks(model, verify.split(whole.mean, SPEC.latents, plan))
        assert verify.difference(given, model.decode(whole)) <= 1e-12


@given(plan=st.integers(0, 4).flatmap(plans))
def test_a_decoder_that_looks_ahead_streams_too(ahead: VideoAutoencoder, plan: list[int]) -> None:
    x = clip(1 + 4 * sum(n for n in plan if n > 0))
    with torch.no_grad():
        z = ahead.encode(x).mode()
        given = decode_chunks(ahead, verify.split(z, ahead.spec.latents, plan))
        assert verify.difference(given, ahead.decode(z)) <= 1e-12


@pytest.mark.parametrize("name", ["model", "ahead"])
@pytest.mark.parametrize("frames", [1, 2, 5, 12, 13])
@pytest.mark.parametrize("length", [1, 3, 4, 20])
@torch.no_grad()
def test_streams_of_chunks_of_any_length_give_the_clip_in_its_size(
    name: str, frames: int, length: int, request: pytest.FixtureRequest
) -> None:
    model, x = request.getfixturevalue(name), clip(frames, 7, 9)
    posteriors = list(model.encode_stream(x.split(length, 2)))
    assert sum(p.fit.frames for p in posteriors) == frames
    back = torch.cat(list(model.decode_stream(posteriors)), 2)
    assert back.shape == x.shape
    assert verify.difference(back, model(x)) <= 1e-12
    plain = [p.mode() for p in posteriors if p.mean.shape[2]]
    again = torch.cat(list(model.decode_stream(plain, frames=frames, size=(7, 9))), 2)
    assert torch.equal(again, back)


def test_gradients_flow_through_the_state(model: VideoAutoencoder) -> None:
    x, weights = clip(13), clip(13, seed=1)

    def gradients(run: Callable[[Tensor], Tensor]) -> list[Tensor]:
        model.zero_grad()
        leaf = x.clone().requires_grad_()
        (run(leaf) * weights).sum().backward()
        return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in (leaf, *model.parameters())]

    def streamed(video: Tensor) -> Tensor:
        return torch.cat(list(model.decode_stream(model.encode_stream(video.split(4, 2)))), 2)

    want = gradients(model)
    # 1e-11: a weight's gradient is a sum over all pixels, which chunks add up in another order
    assert all(verify.difference(g, w) <= 1e-11 for g, w in zip(gradients(streamed), want, strict=True))
    assert any(w.abs().max() > 0 for w in want)


@torch.no_grad()
def test_a_state_is_saved_loaded_and_forked(model: VideoAutoencoder, tmp_path: Path) -> None:
    x, other = clip(13), clip(13, seed=5)
    chunks = verify.split(x, SPEC.pixels, [1, 1, 1])
    whole, states = encode_chunks(model, chunks)
    save_state(states[0], tmp_path / "state.safetensors")
    loaded = load_state(tmp_path / "state.safetensors")
    assert (loaded.position, loaded.given, loaded.direction, loaded.digest) == (5, 2, "encode", SPEC.digest)
    rest, _ = encode_chunks(model, chunks[1:], loaded)
    assert torch.equal(rest, whole[:, :, 2:])
    forked, _ = encode_chunks(model, verify.split(other, SPEC.pixels, [1, 1, 1])[1:], states[0])
    again, _ = encode_chunks(model, chunks[1:], states[0])
    assert not torch.equal(forked, rest)
    assert torch.equal(again, rest)


def test_a_file_that_is_no_state_is_refused(model: VideoAutoencoder, tmp_path: Path) -> None:
    model.save(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="holds no state"):
        load_state(tmp_path / "model.safetensors")


@torch.no_grad()
def test_a_chunk_that_fails_leaves_the_old_state_whole(model: VideoAutoencoder) -> None:
    chunks = verify.split(clip(13), SPEC.pixels, [1, 1, 1])
    whole, states = encode_chunks(model, chunks)

    def fail(*_: object) -> None:
        raise RuntimeError("planted")

    copies = {path: tuple(t.clone() for t in kept) for path, kept in states[0].tensors.items()}
    hook = model.encoder.get_submodule("level2").register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="planted"):
        model.encode_chunk(chunks[1], states[0])
    hook.remove()
    assert copies.keys() == states[0].tensors.keys()
    assert all(torch.equal(a, b) for p in copies for a, b in zip(copies[p], states[0].tensors[p], strict=True))
    rest, _ = encode_chunks(model, chunks[1:], states[0])
    assert torch.equal(rest, whole[:, :, 2:])


@torch.no_grad()
def test_cost_and_state_do_not_grow_with_the_number_of_chunks(model: VideoAutoencoder) -> None:
    posterior, state = model.encode_chunk(clip(5))
    _, decoding = model.decode_chunk(posterior)
    sizes, costs = [], []
    for seed in range(6):
        chunk = clip(4, seed=seed)
        costs.append(flops(lambda c=chunk, s=state: model.encode_chunk(c, s))["Global"])
        posterior, state = model.encode_chunk(chunk, state)
        _, decoding = model.decode_chunk(posterior, decoding)
        sizes.append((state.bytes, decoding.bytes))
    assert len(set(costs)) == 1
    assert len(set(sizes)) == 1


@torch.no_grad()
def test_kept_frames_are_copies_of_one_frame(model: VideoAutoencoder) -> None:
    _, state = model.encode_chunk(clip(41))
    for path, kept in state.tensors.items():
        for tensor in kept:
            assert tensor.shape[2] <= 1, path
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size(), path


@torch.no_grad()
def test_two_threads_share_a_model(model: VideoAutoencoder) -> None:
    def stream(seed: int) -> Tensor:
        with torch.no_grad():  # a thread has its own gradient mode
            return encode_chunks(model, verify.split(clip(13, seed=seed), SPEC.pixels, [1, 1, 1]))[0]

    inside = model.encoder.get_submodule("level1.block0.conv_b.motion")
    verify.check_threads(inside, [partial(stream, 1), partial(stream, 2)])


def test_what_does_not_continue_a_stream_is_refused(model: VideoAutoencoder) -> None:
    with pytest.raises(StreamError, match="inside a group: give 2 more"):
        model.encode_chunk(clip(3))
    with pytest.raises(StreamError, match="without a frame"):
        model.encode_chunk(clip(1)[:, :, :0], last=True)
    with pytest.raises(StreamError, match="without a latent"):
        model.decode_chunk(torch.zeros(1, 2, 0, 1, 1, dtype=torch.float64), last=True)
    with pytest.raises(StreamError, match="holds nothing"):
        list(model.encode_stream([]))
    with pytest.raises(StreamError, match="holds nothing"):
        list(model.decode_stream([]))
    posterior, state = model.encode_chunk(clip(5))
    with pytest.raises(StreamError, match="start a new stream"):
        model.decode_chunk(posterior, state)
    with pytest.raises(StreamError, match="start a new stream"):
        model.encode_chunk(clip(4), replace(state, digest="another"))
    with pytest.raises(StreamError, match="only the last chunk may be cropped"):
        model.decode_chunk(posterior, frames=3)


@torch.no_grad()
def test_a_stream_ends_and_keeps_its_frame_size(model: VideoAutoencoder) -> None:
    posterior, ended = model.encode_chunk(clip(3), last=True)
    with pytest.raises(StreamError, match="has had its last chunk"):
        model.encode_chunk(clip(4), ended)
    _, decoded = model.decode_chunk(posterior, last=True)
    with pytest.raises(StreamError, match="has had its last chunk"):
        model.decode_chunk(posterior, decoded)
    _, state = model.encode_chunk(clip(5))
    for other in (clip(4, 16, 8), clip(4, 7, 8), clip(4).repeat(2, 1, 1, 1, 1)):
        with pytest.raises(StreamError, match="does not continue a stream"):
            model.encode_chunk(other, state)
    with pytest.raises(VideoError, match="b c t h w"):
        list(model.encode_stream([clip(1)[0]]))


@torch.no_grad()
def test_a_stream_of_latents_is_cropped_to_the_frames_asked_for(model: VideoAutoencoder) -> None:
    posteriors = list(model.encode_stream(clip(9).split(5, 2)))
    whole = torch.cat(list(model.decode_stream(posteriors)), 2)
    for latents in (posteriors, [p.mode() for p in posteriors]):
        for frames in (0, 3, 5, 7, 9):
            given = torch.cat(list(model.decode_stream(latents, frames=frames)), 2)
            assert torch.equal(given, whole[:, :, :frames])
        with pytest.raises(VideoError, match="end 1 frames before the 10"):
            list(model.decode_stream(latents, frames=10))


def test_a_state_file_that_was_changed_is_refused(model: VideoAutoencoder, tmp_path: Path) -> None:
    _, state = model.encode_chunk(clip(5))
    save_state(state, tmp_path / "state.safetensors")
    tensors, metadata = checkpoint.read_file(tmp_path / "state.safetensors")
    checkpoint.write_file(tmp_path / "changed.safetensors", tensors, {**metadata, "vvae.position": "9"})
    with pytest.raises(CheckpointError, match="not what was saved"):
        load_state(tmp_path / "changed.safetensors")


def test_a_layer_that_cannot_stream_is_named() -> None:
    from vvae.layers import opaque

    spec = SPEC.replace_at("encoder.level1.block0.act_a", opaque(torch.nn.SiLU(), 4))
    assert spec.stream_limit("encode") == "encoder.level1.block0.act_a: a module without a spec, not said to stream"
    with pytest.raises(StreamError, match=r"level1\.block0\.act_a"):
        spec.build().double().encode_chunk(clip(5))


_MEMORY = """
import resource, sys, torch
from vvae.arch import iv_vae
torch.set_num_threads(1)
torch.manual_seed(0)
model = iv_vae(width=2, latent_channels=2, blocks=1, multipliers=(1, 1, 1), temporal=(True, True)).build()
def rss():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
loaded, kept = rss(), []
frames, keep = int(sys.argv[1]), sys.argv[2] == "keep"
chunks = (torch.rand(1, 3, min(16, frames - start), 128, 128) for start in range(0, frames, 16))
with torch.inference_mode():
    for video in model.decode_stream(model.encode_stream(chunks)):
        if keep:
            kept.append(video)
print(loaded, rss())
"""


def _peak(frames: int, keep: str = "drop") -> tuple[int, int]:
    # every larger block goes back to the system when it is freed, so that the peak is ours and not the allocator's
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", _MEMORY, str(frames), keep]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    loaded, peak = run.stdout.split()
    return int(loaded), int(peak)


@pytest.mark.thorough
@pytest.mark.parametrize("frames", [130, 650])
def test_memory_does_not_grow_with_the_clip(frames: int) -> None:
    loaded, short = _peak(65)
    allowed = 0.05 * (short - loaded)
    assert _peak(frames)[1] - short <= allowed
    assert _peak(130, "keep")[1] - short > allowed, "a planted list of all outputs must be noticed"


def test_fork_by_replace_keeps_states_immutable(model: VideoAutoencoder) -> None:
    _, state = model.encode_chunk(clip(5))
    with pytest.raises(AttributeError):
        state.position = 7  # type: ignore[misc]
    assert not state.detach().tensors["encoder.conv_in.motion"][0].requires_grad


def test_frame_layers_keep_nothing() -> None:
    spec = SPEC.replace_at("encoder.conv_in.motion", FrameConv2dSpec(channels=2))
    _, state = spec.build().double().encode_chunk(clip(5))
    assert "encoder.conv_in.motion" not in state.tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@torch.no_grad()
def test_chunks_are_the_whole_clip_in_lower_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    spec = iv_vae(width=8, latent_channels=4, blocks=1)  # norms over 2 channels, as in SPEC, magnify rounding
    model, x = spec.build().to(dtype), clip(13, 16, 16).to(dtype)
    whole = model.encode(x)
    moments, _ = encode_chunks(model, verify.split(x, spec.pixels, [1, 0, 2]))
    assert verify.difference(moments, torch.cat([whole.mean, whole.logvar], 1)) <= verify.TOLERANCE[dtype]
    given = decode_chunks(model, verify.split(whole.mean, spec.latents, [1, 0, 2]))
    assert verify.difference(given, model.decode(whole)) <= verify.TOLERANCE[dtype]
