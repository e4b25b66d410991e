"""Plans: predicted bytes are those of real runs, what fits is chosen, every way gives the same."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.golden.golden import MODELS
from tests.models.tiny import tiny_model
from vvae import VideoError
from vvae.arch import image_vae, iv_vae, od_vae_streaming, open_sora, reducio
from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.cost import live_bytes
from vvae.tiling import Plan, Way, plan, preset_plan, steps, usual_plan, within
from vvae.tiling.budget import parse_bytes, told
from vvae.tiling.need import Asked, cost, needed
from vvae.tiling.plan import BOTH, MOST_GROUPS
from vvae.tiling.rules import Direction
from vvae.verify.small import SMALL

SPECS: dict[str, Callable[[], VideoAutoencoderSpec]] = {
    "vvae_small": lambda: tiny_model().spec,
    "iv_vae": lambda: iv_vae(**SMALL["iv_vae"]),
    "od_vae": MODELS["od_vae_v1_2"],
    "od_vae_streaming": lambda: od_vae_streaming("v1_2", width=4, groups=2, blocks=1),  # holds frames back
    "open_sora": lambda: open_sora(**{**SMALL["open_sora"], "multipliers": (1, 1), "temporal": (True,), "piece": 5}),
    "reducio": lambda: reducio(**SMALL["reducio"]),
    "tae": MODELS["tae"],
}
FRAMES, SIDE = 9, 32
DTYPES = (torch.float32, torch.bfloat16)
SIZE = (None, 64, 64)  # tiles of so small a frame would read all of it


@cache
def spec_of(name: str) -> VideoAutoencoderSpec:
    return SPECS[name]()


def model_of(spec: VideoAutoencoderSpec, dtype: torch.dtype) -> VideoAutoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return spec.build().to(dtype).eval().channels_last()


def read(spec: VideoAutoencoderSpec, direction: Direction, length: int, batch: int = 1) -> Tensor:
    """So many frames, or so many positions."""
    channels, _, rows, columns = spec.latent_shape(1, SIDE, SIDE)
    frame = (3, length, SIDE, SIDE) if direction == "encode" else (channels, length, rows, columns)
    return torch.linspace(-1, 1, batch * torch.Size(frame).numel()).reshape(batch, *frame)


def content(spec: VideoAutoencoderSpec, positions: int, batch: int = 1) -> dict[str, Tensor]:
    if spec.content is None:
        return {}
    return {"content": torch.zeros(batch, 3, len(spec.decoded_pieces(positions)), *spec.filled_size(SIDE, SIDE))}


def real_run(model: VideoAutoencoder, direction: Direction, way: Way, files: bool) -> Callable[[], object]:
    """The run that a prediction is about: a clip that is held, or five steps of a stream."""
    spec = model.spec
    if not files and direction == "encode":
        x = read(spec, direction, FRAMES)
        return lambda: way.encoded(model, x)
    if not files:
        z = read(spec, direction, spec.latent_frames(FRAMES))
        shown: dict[str, Any] = {"frames": FRAMES, "size": (SIDE, SIDE), **content(spec, z.shape[2])}
        return lambda: way.decoded(model, z, **shown)
    signal, groups = spec.chunks(direction), way.groups or 1
    step: Callable[..., Any] = model.encode_chunk if direction == "encode" else model.decode_chunk

    def run() -> None:
        state = None
        for length in (signal.frames(groups), *[groups * signal.group] * 4):
            own = content(spec, length) if direction == "decode" else {}
            _given, state = step(read(spec, direction, length), state, **own)

    return run


def agree(name: str, direction: Direction, way: Way, files: bool, dtype: torch.dtype) -> None:
    spec = spec_of(name)
    counter = live_bytes(real_run(model_of(spec, dtype), direction, way, files))
    predicted = cost(Asked(spec, (FRAMES, SIDE, SIDE), dtype, files=files), direction, way)
    assert predicted.tensors == pytest.approx(counter.peak, rel=0.02)
    assert predicted.peak >= predicted.tensors


def streams(name: str) -> bool:
    return spec_of(name).stream_limit("encode") is None


@pytest.mark.parametrize("direction", BOTH)
@pytest.mark.parametrize("name", SPECS)
def test_a_whole_clip_takes_what_is_predicted(name: str, direction: Direction) -> None:
    agree(name, direction, Way(), False, DTYPES[direction == "decode"])


@pytest.mark.parametrize("direction", BOTH)
@pytest.mark.parametrize("name", list(filter(streams, SPECS)))
def test_a_stream_takes_what_is_predicted(name: str, direction: Direction) -> None:
    agree(name, direction, Way(1), True, DTYPES[direction == "encode"])


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("way", [Way(), Way(1), Way(2)], ids=str)
@pytest.mark.parametrize("files", [False, True])
@pytest.mark.parametrize("direction", BOTH)
@pytest.mark.parametrize("name", SPECS)
def test_every_way_takes_what_is_predicted(
    name: str, direction: Direction, files: bool, way: Way, dtype: torch.dtype
) -> None:
    if way.groups is not None and not streams(name):
        way = Way(clips=1)
    agree(name, direction, way, files and way.groups is not None, dtype)


@pytest.mark.parametrize("direction", BOTH)
def test_more_at_once_needs_more(direction: Direction) -> None:
    asked = Asked(spec_of("vvae_small"), SIZE, files=True)
    needs = [needed(asked, direction, Way(groups)) for groups in (1, 2, 5, 16)]
    assert needs == sorted(set(needs))
    assert needed(replace(asked, size=(None, 128, 64)), direction, Way(1)) > needs[0]
    assert needed(replace(asked, dtype=torch.float64), direction, Way(1)) > needs[0]


def long_clip_agrees(name: str, way: Way, size: tuple[int, int, int]) -> None:
    asked = Asked(spec_of(name), size)
    model, x = model_of(asked.spec, torch.float32), read_pixels(size)
    assert cost(asked, "encode", way).tensors == pytest.approx(live_bytes(lambda: way.encoded(model, x)).peak, rel=0.02)


def test_a_long_stream_takes_what_is_predicted() -> None:
    long_clip_agrees("vvae_small", Way(1), (161, SIDE, SIDE))


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["vvae_small", "od_vae", "tae"])
def test_a_long_whole_clip_takes_what_is_predicted(name: str) -> None:
    long_clip_agrees(name, Way(), (161, 128, 128))


def ordered(asked: Asked) -> list[Way]:
    """The ways of two clips that are held, the most efficient first."""
    lengths = [n for n in (16, 8, 4, 2, 1) if asked.frames > asked.spec.chunks("encode").frames(n)]
    return [Way(groups, clips) for clips in (None, 1) for groups in (None, *lengths)]


@pytest.mark.parametrize("direction", BOTH)
def test_the_first_way_that_fits_is_chosen(direction: Direction) -> None:
    asked = Asked(spec_of("vvae_small"), (17, 64, 64), batch=2, directions=(direction,))
    ways = ordered(asked)
    needs = [needed(asked, direction, way) for way in ways]
    for need in sorted(set(needs)):
        chosen = plan(asked.spec, asked.size, need, batch=2, directions=[direction])
        assert chosen.way(direction) == next(way for way, own in zip(ways, needs, strict=True) if own <= need)
        assert chosen.needs is not None
        assert chosen.needs <= need
    with pytest.raises(VideoError, match="no exact way needs less"):
        plan(asked.spec, asked.size, min(needs) - 1, batch=2, directions=[direction])


def test_a_budget_without_end_is_capped() -> None:
    assert plan(spec_of("vvae_small"), SIZE, 2**50, files=True).ways == steps(MOST_GROUPS, MOST_GROUPS).ways


def test_without_a_budget_steps_are_the_usual_ones_unless_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of("vvae_small")
    assert usual_plan(spec).ways == steps(2, 2).ways
    module = sys.modules["vvae.tiling.plan"]
    monkeypatch.setattr(module, "usable", lambda device: None)
    assert plan(spec, SIZE, files=True).ways == steps(2, 2).ways
    short = plan(spec, SIZE, 2**50, files=True, directions=["encode"])
    asked = Asked(spec, SIZE, directions=("encode",), files=True)
    monkeypatch.setattr(module, "usable", lambda device: needed(asked, "encode", Way(1)))
    assert plan(spec, SIZE, files=True, directions=["encode"]).way("encode") == Way(1) != short.way("encode")
    monkeypatch.setattr(module, "usable", lambda device: 2**20)
    with pytest.raises(VideoError, match="but there are 1MiB"):
        plan(spec, SIZE, files=True)


@pytest.mark.parametrize("way", [Way(1), Way(2, tile=32)], ids=str)
def test_a_plan_that_somebody_chose_is_refused_where_it_does_not_fit(way: Way) -> None:
    spec, size = spec_of("vvae_small"), (17, 96, 96)
    chosen = Plan((("encode", way), ("decode", way)))
    found = within(chosen, spec, size, "1TB", files=True)
    assert found == replace(chosen, needs=found.needs)
    asked = Asked(spec, size, files=True)
    assert found.needs is not None
    assert found.needs > max(needed(asked, direction, way) for direction in BOTH)
    assert within(chosen, spec, size, found.needs, files=True) == found
    with pytest.raises(VideoError, match=rf"needs {told(found.needs)} for 17 frames of 96x96 .* give more memory"):
        within(chosen, spec, size, found.needs - 1, files=True)


def test_a_rule_holds_the_clip_beside_its_tile() -> None:
    spec, size = spec_of("od_vae"), (17, 512, 512)
    found = within(preset_plan(spec, "od_vae.v1_2"), spec, size, "1TB")
    whole = plan(spec, size, "1TB")
    assert found.needs is not None
    assert whole.needs is not None
    assert found.needs < whole.needs
    with pytest.raises(VideoError, match=r"under the rule od_vae.v1_2, which is not exact, but there are 1MiB"):
        within(preset_plan(spec, "od_vae.v1_2"), spec, size, "1MiB")


def test_a_model_that_cannot_stream_takes_all_frames() -> None:
    spec = spec_of("od_vae")
    assert usual_plan(spec).ways == (("encode", Way()), ("decode", Way()))
    assert plan(spec, (9, 32, 32), 2**50, files=True).ways == usual_plan(spec).ways
    with pytest.raises(VideoError, match="say how many come"):
        plan(spec, (None, 32, 32), 2**50, files=True)


def test_a_refusal_tells_the_least_that_is_enough_and_what_fits_inexactly() -> None:
    spec = image_vae("sd3", widths=(4, 8, 8, 8), blocks=1, groups=2, latent_channels=4)
    with pytest.raises(VideoError) as caught:
        plan(spec, (1, 2048, 2048), "600MiB", directions=["decode"])
    message = str(caught.value)
    assert "\n" not in message
    least = message.partition("needs ")[2].partition(" ")[0]
    assert plan(spec, (1, 2048, 2048), least, directions=["decode"]).way("decode") == Way()
    assert "not exact, a published tiling that fits: image_vae." in message
    assert parse_bytes(told(parse_bytes(least))) >= parse_bytes(least)


WAYS = [Way(1), Way(2), Way(2, 1), Way(None, 1), Way(None, 2), Way(1, 2, 16), Way(None, None, 16)]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_way_gives_what_the_whole_clip_gives(way: Way) -> None:
    model = tiny_model().double()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        x = torch.rand(3, 3, 14, 44, 60, dtype=torch.float64) * 2 - 1
    chosen = Plan((("encode", way), ("decode", way)))
    with torch.no_grad():
        want, found = model.encode(x), chosen.encode(model, x)
        assert found.fit == want.fit
        for name in ("mean", "logvar"):
            same(getattr(found, name), getattr(want, name))
        same(chosen.decode(model, found), model.decode(want))
        same(chosen.decode(model, found.mean), model.decode(want.mean))


def same(found: Tensor, want: Tensor) -> None:
    assert found.shape == want.shape
    assert (found - want).abs().max() <= 1e-12 * want.abs().max()


def test_some_clips_at_a_time_keep_each_its_own_content() -> None:
    spec = spec_of("reducio")
    model = model_of(spec, torch.float64)
    x = read(spec, "encode", 16, batch=3).double()
    chosen = Plan((("encode", Way(clips=2)), ("decode", Way(clips=2))))
    with torch.no_grad():
        want = model.encode(x)
        same(chosen.decode(model, chosen.encode(model, x)), model.decode(want))
        images = want.content
        same(chosen.decode(model, want.mean, content=images), model.decode(want.mean, content=images))


def test_a_full_gpu_is_told_with_the_plan_that_fits() -> None:
    asked_size = (17, 64, 64)
    model = tiny_model()
    chosen = plan(model.spec, asked_size, 2**50, directions=["encode"])

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    handle = model.encoder.register_forward_pre_hook(full)
    with pytest.raises(VideoError, match="has too little memory for encode: all frames at once") as caught:
        chosen.encode(model, read_pixels(asked_size))
    handle.remove()
    assert "\n" not in str(caught.value)
    assert "encode: 2 groups of frames at a time; needs " in str(caught.value)
    with pytest.raises(VideoError, match="give a budget of memory"), steps(1, 1).guard():
        full()


def read_pixels(size: tuple[int, int, int]) -> Tensor:
    return torch.zeros(1, 3, *size)


def test_the_smallest_plan_that_fills_a_gpu_says_so() -> None:
    spec = spec_of("vvae_small")
    asked = Asked(spec, SIZE, directions=("encode",), files=True)
    least = plan(spec, SIZE, needed(asked, "encode", Way(1)), files=True, directions=["encode"])
    with pytest.raises(VideoError, match="no exact way needs less"), least.guard():
        raise torch.OutOfMemoryError("CUDA out of memory.")


def test_a_plan_is_recorded_with_what_it_does() -> None:
    chosen = plan(spec_of("vvae_small"), SIZE, 2**50, files=True, directions=["decode"])
    way = {"groups": MOST_GROUPS, "clips": None, "tile": None}
    assert chosen.to_dict() == {"exact": True, "needs": chosen.needs, "decode": way}
    with pytest.raises(VideoError, match="does not say how to encode"):
        chosen.way("encode")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="its allocator is measured on a GPU")
@pytest.mark.parametrize("direction", BOTH)
def test_a_gpu_takes_what_is_predicted(direction: Direction) -> None:
    spec = iv_vae("z16_dim64")
    model = spec.build().eval().channels_last().cuda()
    asked = Asked(spec, (17, 256, 256), device="cuda", directions=(direction,))
    shape = (3, 17, 256, 256) if direction == "encode" else spec.latent_shape(17, 256, 256)
    x = torch.zeros(1, *shape, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() - x.numel() * x.element_size()
    with torch.no_grad():
        Way().encoded(model, x) if direction == "encode" else Way().decoded(model, x)
    taken = torch.cuda.max_memory_allocated() - before
    predicted = cost(asked, direction, Way()).peak
    assert 0.6 * predicted <= taken <= 1.1 * predicted + 64 * 2**20
