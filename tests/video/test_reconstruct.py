from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.models.tiny import Identity
from vvae.autoencoder import VideoAutoencoder
from vvae.context import StreamState
from vvae.errors import VideoError
from vvae.tiling import steps
from vvae.video import ClipWriter, probe, reconstruct_clip
from vvae.video.reconstruct import paired
from vvae.video.selection import Selection

MakeClip = Callable[..., Path]
FILES = {"contact_sheet.png", "figures.json", "per_frame.png", "reconstruction.mp4", "side_by_side.mp4"}


class Spoiling(Identity):
    """`spoil(frames, first)` changes what comes back; `first` is the number of the first of these frames."""

    def __init__(self, lead: int = 1, group: int = 4) -> None:
        super().__init__(lead, group)
        self.spoil: Callable[[torch.Tensor, int], torch.Tensor] = lambda frames, first: frames

    def decode_chunk(self, latents: Any, state: StreamState | None = None, **options: Any) -> Any:
        frames, after = super().decode_chunk(latents, state, **options)
        return self.spoil(frames, 0 if state is None else state.given), after


@pytest.fixture
def identity() -> Spoiling:
    return Spoiling()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_folder_holds_five_files(identity: Any, make_clip: MakeClip, tmp_path: Path) -> None:
    clip, out = make_clip(11, 48, 64), tmp_path / "out"
    figures = reconstruct_clip(identity, clip, out)
    assert names(tmp_path) == {clip.name, "out"}
    assert names(out) == FILES
    assert json.loads((out / "figures.json").read_text()) == figures
    result, beside = probe(out / "reconstruction.mp4"), probe(out / "side_by_side.mp4")
    assert (result.frames, result.fitted(), result.fps) == (11, (48, 64), 25)
    assert (beside.frames, beside.width) == (11, 3 * 64)
    for picture in ("contact_sheet.png", "per_frame.png"):
        with Image.open(out / picture) as image:
            assert image.format == "PNG"


def test_a_model_that_changes_nothing_gets_the_best_figures(identity: Any, make_clip: MakeClip, tmp_path: Path) -> None:
    figures = reconstruct_clip(identity, make_clip(11, 48, 64), tmp_path / "out")
    assert (figures["model"], figures["frames"], figures["height"], figures["width"]) == ("identity", 11, 48, 64)
    assert figures["psnr"] == figures["psnr_lead"] == 100
    assert figures["psnr_per_position"] == [100] * 4
    assert figures["ssim"] == pytest.approx(1)
    assert figures["seconds"] > 0


@pytest.mark.parametrize("lead", [0, 1])
def test_figures_tell_the_lead_from_each_position_in_a_group(make_clip: MakeClip, tmp_path: Path, lead: int) -> None:
    identity = Spoiling(lead=lead)

    def spoil(frames: torch.Tensor, first: int) -> torch.Tensor:
        index = torch.arange(first, first + frames.shape[2]).view(1, 1, -1, 1, 1)
        return torch.where((index >= lead) & ((index - lead) % 4 == 2), frames * 0.9, frames)

    identity.spoil = spoil
    figures = reconstruct_clip(identity, make_clip(14), tmp_path / "out")
    at_positions = figures["psnr_per_position"]
    assert figures["psnr_lead"] == (100 if lead else None)
    assert [value == 100 for value in at_positions] == [True, True, False, True]
    assert figures["psnr"] == pytest.approx(sum(figures["psnr_per_frame"]) / 14, abs=1e-3)


def test_frames_and_size_are_those_asked_for(identity: Any, make_clip: MakeClip, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    figures = reconstruct_clip(
        identity, make_clip(11), tmp_path / "out", frames=6, size=31, progress=lambda *step: seen.append(step)
    )
    assert (figures["frames"], figures["height"], figures["width"]) == (6, 31, 41)
    assert seen == [(done, 6) for done in range(1, 7)]


def test_a_clip_of_one_frame_has_no_figures_for_groups(identity: Any, make_clip: MakeClip, tmp_path: Path) -> None:
    figures = reconstruct_clip(identity, make_clip(1), tmp_path / "out")
    assert figures["psnr_per_position"] == [None] * 4


@pytest.mark.parametrize("groups", [1, 2])
def test_sources_are_read_only_as_far_as_the_stream_asks(
    identity: VideoAutoencoder, make_clip: MakeClip, groups: int
) -> None:
    given = 0

    def shown() -> Iterator[Any]:
        nonlocal given
        for one in Selection(make_clip(20)).shown():
            given += 1
            yield one

    for done, (source, result, time) in enumerate(paired(identity, shown(), steps(groups, groups)), start=1):
        assert torch.equal(source, result)
        assert time is None
        assert given <= done + 2 * (1 + 4 * groups)
    assert given == done == 20


def test_start_leaves_out_the_first_frames(identity: Any, make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(11)
    whole = [source for source, _, _ in paired(identity, Selection(clip).shown(), steps(2, 2))]
    later = [source for source, _, _ in paired(identity, Selection(clip, start=4, frames=3).shown(), steps(2, 2))]
    assert torch.equal(torch.cat(later), torch.cat(whole[4:7]))
    assert reconstruct_clip(identity, Selection(clip, start=4), tmp_path / "out")["frames"] == 7


def test_a_broken_clip_leaves_nothing(identity: Any, broken: Path, tmp_path: Path) -> None:
    before = names(tmp_path)
    with pytest.raises(VideoError, match=r"broken\.mp4"):
        reconstruct_clip(identity, broken, tmp_path / "out")
    assert names(tmp_path) == before


def _drop(frames: torch.Tensor, first: int) -> torch.Tensor:
    return frames[:, :, 1:]


def _repeat(frames: torch.Tensor, first: int) -> torch.Tensor:
    return torch.cat([frames, frames[:, :, :1]], dim=2)


def _not_finite(frames: torch.Tensor, first: int) -> torch.Tensor:
    return frames / 0


@pytest.mark.parametrize(
    ("spoil", "message"), [(_drop, "did not come back"), (_repeat, "more frames"), (_not_finite, "not finite")]
)
def test_a_model_that_fails_is_named_and_leaves_nothing(
    identity: Any, make_clip: MakeClip, tmp_path: Path, spoil: Callable[..., torch.Tensor], message: str
) -> None:
    clip, identity.spoil = make_clip(11), spoil
    with pytest.raises(VideoError, match=f"identity: .*{message}"):
        reconstruct_clip(identity, clip, tmp_path / "out")
    assert names(tmp_path) == {clip.name}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_nothing(
    identity: Any, make_clip: MakeClip, tmp_path: Path, error: type[BaseException]
) -> None:
    def stop(done: int, promised: int | None) -> None:
        if done == 9:
            raise error

    clip = make_clip(11)
    with pytest.raises(error):
        reconstruct_clip(identity, clip, tmp_path / "out", progress=stop)
    assert names(tmp_path) == {clip.name}


def test_a_folder_that_holds_something_is_refused_untouched(identity: Any, make_clip: MakeClip, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(VideoError, match=r"out: exists already .* --out"):
        reconstruct_clip(identity, make_clip(2), out)
    assert names(out) == {"mine.txt"}


def test_an_empty_folder_is_filled(identity: Any, make_clip: MakeClip, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    reconstruct_clip(identity, make_clip(2), tmp_path / "out")
    assert names(tmp_path / "out") == FILES


def test_frames_too_small_to_measure_are_refused(identity: Any, tmp_path: Path) -> None:
    with ClipWriter(tmp_path / "tiny.mp4", 25, (10, 64)) as clip:
        clip.write(torch.zeros(1, 3, 2, 10, 64))
    with pytest.raises(VideoError, match="10x64 pixels are too small"):
        reconstruct_clip(identity, tmp_path / "tiny.mp4", tmp_path / "out")
    assert names(tmp_path) == {"tiny.mp4"}


def test_the_smallest_frames_are_measured(identity: Any, tmp_path: Path) -> None:
    with ClipWriter(tmp_path / "small.mp4", 25, (12, 12)) as clip:
        clip.write(torch.zeros(1, 3, 2, 12, 12))
    assert reconstruct_clip(identity, tmp_path / "small.mp4", tmp_path / "out", size=11)["height"] == 11


@pytest.fixture(autouse=True)
def _no_gradients_are_kept() -> Iterator[None]:
    yield
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
