"""What a clip reads of its content image."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vvae import reach, verify
from vvae.content import ContentEncoder, ContentSpec
from vvae.context import WHOLE_CLIP, Context, StreamStep, WholeClip, module_names
from vvae.errors import SpecError, StreamError, VideoError
from vvae.layers import (
    Chain,
    ContentAttention,
    ContentAttentionSpec,
    FrameConv2d,
    FrameConv2dSpec,
    LoneFramesSpec,
    SpatialDownsampleSpec,
    TemporalRepeatSpec,
    TimePositions,
    TimePositionsSpec,
    WindowedContentAttention,
    WindowedContentAttentionSpec,
    WithContent,
    WithContentSpec,
    chain,
)
from vvae.layers.content import sinusoids
from vvae.signal import Signal
from vvae.spec import LayerSpec

BESIDE = Signal(8, group=2, content={"image": Signal(6), "mark": Signal(2)})
SPECS: dict[str, LayerSpec] = {
    "attention": ContentAttentionSpec(content="image", heads=2, head_width=3, bias=True),
    "windowed": WindowedContentAttentionSpec(content="image", heads=2, head_width=3, window=(2, 3)),
    "skippable": WithContentSpec(layers={"look": ContentAttentionSpec(content="image")}),
}
every_spec = pytest.mark.parametrize("name", list(SPECS))


class Beside(nn.Module):
    """A layer with content beside the clip."""

    def __init__(self, layer: nn.Module, content: dict[str, Tensor]) -> None:
        super().__init__()
        self.layer, self.content = layer, content

    def forward(self, x: Tensor, ctx: Context = WHOLE_CLIP) -> Tensor:
        ctx = copy.copy(ctx)
        ctx.content = self.content
        y: Tensor = self.layer(x, ctx)
        return y


def image(height: int = 4, width: int = 6, channels: int = 6, seed: int = 3) -> Tensor:
    return verify.random_clip(Signal(channels), 1, height, width, batch=2, seed=seed)


def clip(frames: int = 4, height: int = 4, width: int = 6) -> Tensor:
    return verify.random_clip(BESIDE, frames, height, width, batch=2)


def layer(name: str) -> Beside:
    torch.manual_seed(0)
    return Beside(SPECS[name].build(BESIDE).double(), {"image": image()})


# --------------------------------------------------------------------------- attention


@every_spec
def test_layer_keeps_the_shape_and_sees_each_frame_alone(name: str) -> None:
    spec, module = SPECS[name], layer(name)
    assert spec.trace(BESIDE) == BESIDE
    assert module(clip()).shape == clip().shape
    verify.check_reach(module, spec.reach(BESIDE, 4), clip())
    assert (spec.reach(BESIDE, 4) == reach.same_frame(4)).all()


@every_spec
def test_layer_streams_with_its_content(name: str) -> None:
    assert SPECS[name].stream_limit(BESIDE) is None
    verify.check_stream(layer(name), BESIDE, clip(), [[1, 1], [2], [0, 2, 0]])


@every_spec
def test_layer_keeps_channels_last_and_nothing_of_a_past_call(name: str) -> None:
    verify.check_layout(layer(name), clip())
    verify.check_stateless(layer(name), clip())
    verify.check_untouched(layer(name), clip())


@every_spec
def test_layer_depends_on_its_content_and_on_no_other(name: str) -> None:
    module = layer(name)
    with torch.no_grad():
        base = module(clip())
        assert torch.equal(Beside(module.layer, {**module.content, "mark": image(channels=2)})(clip()), base)
        assert verify.difference(Beside(module.layer, {"image": image(seed=5)})(clip()), base) > 1e-3


def test_attention_is_that_of_every_pixel_to_every_position_of_the_content() -> None:
    module, x, content = layer("attention").layer, clip(2, 2, 3), image()
    assert isinstance(module, ContentAttention)
    with torch.no_grad():
        tokens = content.flatten(2).transpose(1, 2)
        for t, i, j in ((0, 0, 0), (0, 1, 2), (1, 0, 1)):
            q, k, v = module.q(x[:, :, t, i, j]), module.k(tokens), module.v(tokens)
            heads = []
            for h in (slice(0, 3), slice(3, 6)):
                weights = torch.einsum("bc,bpc->bp", q[:, h], k[..., h]).div(3**0.5).softmax(1)
                heads.append(torch.einsum("bp,bpc->bc", weights, v[..., h]))
            want = module.out(torch.cat(heads, 1))
            found = module(x, WholeClip(content={"image": content}))[:, :, t, i, j]
            assert verify.difference(found, want) <= 1e-12


def test_keys_and_values_are_made_once_for_all_frames() -> None:
    module, seen = layer("attention"), []
    for linear in (module.layer.k, module.layer.v):
        linear.register_forward_hook(lambda _, given, __: seen.append(tuple(given[0].shape)))
    module(clip(frames=4))
    assert seen == [(2, 4 * 6, 6)] * 2


def test_content_may_have_another_size_and_dtype_than_the_clip() -> None:
    module = layer("attention")
    with torch.no_grad():
        other = Beside(module.layer, {"image": image(3, 9).float()})(clip())
    assert other.shape == clip().shape
    assert other.dtype == torch.float64


@pytest.mark.parametrize("content", [{}, {"image": image()[:1]}, {"image": image().repeat(1, 1, 2, 1, 1)}])
def test_attention_without_one_image_for_each_clip_is_refused(content: dict[str, Tensor]) -> None:
    with pytest.raises(VideoError, match="content 'image'"):
        Beside(layer("attention").layer, content)(clip())


# --------------------------------------------------------------------------- windows


def windowed(window: tuple[int, int]) -> WindowedContentAttention:
    torch.manual_seed(0)
    return WindowedContentAttention(8, 6, "image", window=window, heads=2, head_width=3).double()


def plain_like(module: ContentAttention) -> ContentAttention:
    plain = ContentAttention(8, 6, "image", heads=2, head_width=3).double()
    plain.load_state_dict(module.state_dict())
    return plain


@pytest.mark.parametrize(
    ("window", "size"), [((4, 6), (8, 12)), ((5, 6), (8, 12)), ((3, 3), (2, 4))], ids=["equal", "larger", "small_clip"]
)
def test_no_windows_where_one_holds_the_content_or_is_larger_than_the_clip(
    window: tuple[int, int], size: tuple[int, int]
) -> None:
    module = windowed(window)
    with torch.no_grad():
        whole = Beside(plain_like(module), {"image": image()})(clip(2, *size))
        assert torch.equal(Beside(module, {"image": image()})(clip(2, *size)), whole)


def test_a_window_of_the_clip_looks_at_the_window_in_the_same_place() -> None:
    """The clip is twice as large, its last windows are broken, and the filled positions take part."""
    module, x, content = windowed((3, 4)), clip(2, 8, 12), image(4, 6)
    plain = plain_like(module)
    padded, seen = F.pad(x, (0, 4, 0, 4)), F.pad(content, (0, 2, 0, 2))
    with torch.no_grad():
        found = Beside(module, {"image": content})(x)
        for i in range(2):
            for j in range(2):
                own = padded[..., 6 * i : 6 * i + 6, 8 * j : 8 * j + 8]
                part = seen[..., 3 * i : 3 * i + 3, 4 * j : 4 * j + 4]
                want = Beside(plain, {"image": part})(own)[..., : 8 - 6 * i, : 12 - 8 * j]
                given = found[..., 6 * i : 6 * i + 6, 8 * j : 8 * j + 8]
                assert verify.difference(given, want) <= 1e-12


def test_unlike_numbers_of_windows_are_refused() -> None:
    with pytest.raises(VideoError, match="of the clip's size"):
        Beside(windowed((2, 2)), {"image": image(5, 5)})(clip(1, 4, 7))


# --------------------------------------------------------------------------- positions


def test_rows_of_a_table_are_added_to_their_frames() -> None:
    module, x = TimePositions(8, 4).double(), clip()
    for t in range(4):
        want = x[:, :, t] + sinusoids(4, 8)[t].float().double()[:, None, None]
        assert torch.equal(module(x)[:, :, t], want)


def test_table_is_saved_and_not_trained() -> None:
    module = TimePositions(8, 4)
    assert not list(module.parameters())
    assert module.state_dict()["table"].shape == (1, 4, 1, 8)


def test_positions_take_clips_of_their_length_only() -> None:
    spec, signal = TimePositionsSpec(length=4), Signal(8, group=2)
    assert spec.frames(spec.trace(signal), 4) == 4
    module = spec.build(signal)
    for frames in (1, 2, 6):
        with pytest.raises(SpecError, match="no other length"):
            spec.frames(signal, frames)
        with pytest.raises(VideoError, match="table of positions of 4"):
            module(clip(frames).float())
    with pytest.raises(StreamError, match="whole clip"):
        module(clip().float(), StreamStep(module_names(module), {}))
    assert spec.stream_limit(signal)


def test_sinusoids_start_at_zero_and_one_and_turn_slower_with_the_channel() -> None:
    table = sinusoids(50, 8)
    assert torch.equal(table[0], torch.tensor([0.0, 1.0] * 4, dtype=torch.float64))
    torch.testing.assert_close(table[:, 0], torch.arange(50.0, dtype=torch.float64).sin())
    torch.testing.assert_close(table[:, 7], (torch.arange(50.0, dtype=torch.float64) / 1000).cos())


# --------------------------------------------------------------------------- without content


def test_a_clip_without_content_passes_as_it_is() -> None:
    module = WithContent({"look": ContentAttention(8, 6, "image"), "conv": FrameConv2d(8, 8)}).double()
    assert torch.equal(module(clip()), clip())
    given = Beside(module, {"image": image()})(clip())
    chained = Beside(Chain(dict(module.named_children())), {"image": image()})(clip())
    assert torch.equal(given, chained)


@pytest.mark.parametrize(
    ("spec", "signal", "told"),
    [
        (ContentAttentionSpec(content="imge"), BESIDE, "near it: image"),
        (ContentAttentionSpec(content="image"), Signal(8), "there is none"),
        (WithContentSpec(layers={"look": ContentAttentionSpec(content="level9")}), BESIDE, "look: content 'level9'"),
        (WithContentSpec(layers={"conv": FrameConv2dSpec(channels=4)}), BESIDE, "must keep the signal"),
        (TimePositionsSpec(length=3), BESIDE, "whole groups"),
        (TimePositionsSpec(length=3), Signal(8, lead=1), "lead 1"),
        (LoneFramesSpec(layers={"look": ContentAttentionSpec(content="image")}), BESIDE, "lone frames"),
    ],
)
def test_trace_finds_what_is_wrong(spec: LayerSpec, signal: Signal, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        spec.trace(signal)


def test_a_tree_tells_which_features_are_read() -> None:
    mark = WithContentSpec(layers={"look": ContentAttentionSpec(content="mark")})
    assert chain(a=SPECS["skippable"], b=chain(c=mark), d=FrameConv2dSpec(channels=4)).reads() == {"image", "mark"}


# --------------------------------------------------------------------------- the content itself

STAGES = ContentSpec(
    stages={
        "fine": FrameConv2dSpec(channels=4),
        "coarse": SpatialDownsampleSpec(channels=5),
        "coarsest": SpatialDownsampleSpec(channels=6),
    }
)


def encoder(*read: str) -> ContentEncoder:
    torch.manual_seed(0)
    return STAGES.build(Signal(3), read).double()


def images(count: int) -> Tensor:
    return verify.random_clip(Signal(3), count, 8, 12, batch=2)


def test_every_stage_gives_the_feature_that_is_traced() -> None:
    traced, given = STAGES.trace(Signal(3, group=4)), encoder("fine", "coarse", "coarsest")(images(1))
    assert list(traced) == list(given) == ["fine", "coarse", "coarsest"]
    for name, signal in traced.items():
        side = (8 // signal.stride, 12 // signal.stride)
        assert given[name].shape == (2, signal.channels, 1, *side)


def test_stages_behind_the_last_one_that_is_read_are_not_built() -> None:
    whole, part = encoder("fine", "coarse", "coarsest"), encoder("coarse")
    assert list(dict(part.named_children())) == ["fine", "coarse"]
    given = part(images(1))
    assert list(given) == ["coarse"]
    assert torch.equal(given["coarse"], whole(images(1))["coarse"])
    assert not list(encoder().parameters())


def test_images_of_a_clip_are_encoded_each_alone() -> None:
    module = encoder("coarse")
    several = module(images(3))["coarse"]
    for n in range(3):
        alone = module(images(3)[:, :, n])["coarse"]
        assert verify.difference(several[:, :, n : n + 1], alone) <= 1e-12


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (3, 8, 8), (2, 3, 0, 8, 8)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(VideoError, match="give an image"):
        encoder("fine")(torch.zeros(shape, dtype=torch.float64))


def test_content_frame_is_the_first_the_middle_or_the_last() -> None:
    assert [STAGES.index(frames) for frames in (1, 2, 4, 5, 16, 17)] == [0, 0, 1, 2, 7, 8]
    assert STAGES.replace(frame="first").index(16) == 0
    assert STAGES.replace(frame="last").index(16) == 15


def test_a_stage_that_makes_frames_is_refused() -> None:
    with pytest.raises(SpecError, match="twice: makes 2 frames"):
        ContentSpec(stages={"twice": TemporalRepeatSpec()}).trace(Signal(3))
