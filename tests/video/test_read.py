from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.bitstream import BitStreamFilterContext
from av.stream import Disposition
from PIL import Image

from vvae.errors import VideoError
from vvae.video import ClipWriter, probe, read_clip

MakeClip = Callable[..., Path]


def read_all(path: Path, **options: int | None) -> torch.Tensor:
    return torch.cat(list(read_clip(path, **options)), dim=2)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_probe_states_what_was_written(make_clip: MakeClip) -> None:
    info = probe(make_clip(11, 48, 64))
    assert (info.stream, info.height, info.width, info.fps, info.frames) == (0, 48, 64, Fraction(25), 11)


def test_read_clip_gives_float32_in_range(make_clip: MakeClip) -> None:
    clip = read_all(make_clip(5, 48, 64))
    assert clip.shape == (1, 3, 5, 48, 64)
    assert clip.dtype == torch.float32
    assert -1 <= clip.min() < -0.9
    assert 0.9 < clip.max() <= 1


@pytest.mark.parametrize("chunk", [1, 3, 4, 11, 16])
def test_read_clip_gives_the_same_frames_in_chunks_of_any_size(make_clip: MakeClip, chunk: int) -> None:
    path = make_clip(11)
    chunks = list(read_clip(path, chunk=chunk))
    assert [x.shape[2] for x in chunks[:-1]] == [chunk] * (len(chunks) - 1)
    assert 1 <= chunks[-1].shape[2] <= chunk
    assert torch.equal(torch.cat(chunks, dim=2), read_all(path, chunk=100))


@pytest.mark.parametrize("frames", [1, 7, 11, 50])
def test_read_clip_stops_after_frames(make_clip: MakeClip, frames: int) -> None:
    path = make_clip(11)
    assert torch.equal(read_all(path, frames=frames, chunk=4), read_all(path)[:, :, :frames])


def test_read_clip_keeps_colours(tmp_path: Path) -> None:
    colours = torch.tensor([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 40)])
    frames = (colours / 127.5 - 1).T.reshape(1, 3, 6, 1, 1).expand(-1, -1, -1, 32, 32)
    with ClipWriter(tmp_path / "colours.mp4", 25, (32, 32)) as clip:
        clip.write(frames)
    assert (read_all(tmp_path / "colours.mp4") - frames).abs().max() < 5 / 127.5


@pytest.mark.parametrize(("side", "found"), [(24, (24, 32)), (96, (96, 128)), (17, (17, 23))])
def test_size_is_the_short_side_and_keeps_the_aspect(make_clip: MakeClip, side: int, found: tuple[int, int]) -> None:
    path = make_clip(2, 48, 64)
    assert read_all(path, size=side).shape[-2:] == found
    assert probe(path).fitted(side) == found


def test_size_resizes_with_lanczos(make_clip: MakeClip) -> None:
    path = make_clip(1, 48, 64)
    whole = ((read_all(path)[0, :, 0] + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    expected = np.asarray(Image.fromarray(whole).resize((32, 24), Image.Resampling.LANCZOS))
    found = (read_all(path, size=24)[0, :, 0] + 1) * 127.5
    assert torch.equal(found.round().to(torch.uint8), torch.tensor(expected).permute(2, 0, 1))


def test_crop_takes_the_centre(make_clip: MakeClip) -> None:
    path = make_clip(2, 50, 64)
    assert torch.equal(read_all(path, crop=20), read_all(path)[..., 5:45, 2:62])
    assert probe(path).fitted(crop=20) == (40, 60)


@pytest.mark.parametrize("name", ["frames", "size", "crop", "chunk"])
def test_read_clip_refuses_values_below_one(make_clip: MakeClip, name: str) -> None:
    with pytest.raises(VideoError, match=f"{name} is 0"):
        list(read_clip(make_clip(2), **{name: 0}))


def test_read_clip_refuses_a_crop_larger_than_the_clip(make_clip: MakeClip) -> None:
    with pytest.raises(VideoError, match="48x64 pixels cannot be cropped to multiples of 49"):
        list(read_clip(make_clip(2, 48, 64), crop=49))


def two_streams(path: Path) -> Path:
    """Sound, a video of 32x32 and one of 64x64."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000)
        videos = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for video, side in zip(videos, (32, 64), strict=True):
            video.width = video.height = side
            video.pix_fmt = "yuv420p"
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.rate = 16000
        container.mux(sound.encode(silence))
        for video in videos:
            for _ in range(3):
                container.mux(video.encode(av.VideoFrame(video.width, video.width, "yuv420p")))
        for stream in (sound, *videos):
            container.mux(stream.encode(None))
    return path


def test_stream_chooses_among_the_streams_of_the_file(tmp_path: Path) -> None:
    path = two_streams(tmp_path / "two.mp4")
    assert read_all(path, stream=1).shape == (1, 3, 3, 32, 32)
    assert read_all(path, stream=2).shape == (1, 3, 3, 64, 64)
    assert probe(path).stream in (1, 2)
    assert read_all(path).shape[-1] == probe(path).width


@pytest.mark.parametrize("stream", [0, 3, -1])
def test_stream_refuses_what_is_no_video(tmp_path: Path, stream: int) -> None:
    path = two_streams(tmp_path / "two.mp4")
    with pytest.raises(VideoError, match=r"choose one of \[1, 2\]"):
        probe(path, stream)


def test_a_file_without_video_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=16000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.rate = 16000
        container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    with pytest.raises(VideoError, match=r"no video stream \(found: audio\)"):
        list(read_clip(tmp_path / "sound.mp4"))


def test_a_broken_clip_is_refused_in_one_line_and_closed(broken: Path) -> None:
    before = open_files()
    with pytest.raises(VideoError) as caught:
        list(read_clip(broken))
    assert str(caught.value).startswith(f"{broken}: ")
    assert "\n" not in str(caught.value)
    assert open_files() == before


def test_a_clip_read_in_part_is_closed(make_clip: MakeClip) -> None:
    path, before = make_clip(), open_files()
    chunks = read_clip(path, chunk=1)
    next(chunks)
    assert open_files() > before
    chunks.close()
    assert open_files() == before


def copied(source: Path, target: Path, skip: int = 0, bitstream_filter: str = "null") -> Path:
    """The packets of a clip without decoding, the first `skip` frames before time zero."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy, change = new.add_stream_from_template(stream), BitStreamFilterContext(bitstream_filter, stream)
        offset = int(skip / 25 / stream.time_base)
        for packet in old.demux(stream):
            for changed in change.filter(packet) if packet.dts is not None else ():
                changed.pts, changed.dts, changed.stream = changed.pts - offset, changed.dts - offset, copy
                new.mux(changed)
    return target


def test_a_clip_that_was_trimmed_without_encoding_is_whole(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(40)
    trimmed = copied(path, tmp_path / "trimmed.mp4", skip=10)
    assert torch.equal(read_all(trimmed), read_all(path)[:, :, 10:])


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (270, 3)])
def test_a_rotated_clip_is_upright(make_clip: MakeClip, tmp_path: Path, degrees: int, turns: int) -> None:
    path = make_clip(3, 48, 64)
    rotation = f"h264_metadata=rotate={degrees}:display_orientation=insert"
    rotated = copied(path, tmp_path / "rotated.mp4", bitstream_filter=rotation)
    expected = read_all(path).rot90(turns, (3, 4))
    assert torch.equal(read_all(rotated), expected)
    assert probe(rotated).fitted() == expected.shape[-2:]


def with_cover(clip: Path, target: Path, kinds: tuple[str, ...] = ("cover", "video")) -> Path:
    """The packets of a clip and a picture of 80x80 pixels that is said to be its cover."""
    with av.open(str(clip)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        streams = {}
        for kind in kinds:
            streams[kind] = new.add_stream_from_template(stream) if kind == "video" else new.add_stream("mjpeg", 1)
        cover = streams["cover"]
        cover.width, cover.height, cover.pix_fmt = 80, 80, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        frame = av.VideoFrame(80, 80, "yuvj420p")
        frame.pts = 0
        new.mux([*cover.encode(frame), *cover.encode(None)])
        for packet in old.demux(stream) if "video" in streams else ():
            if packet.dts is not None:
                packet.stream = streams["video"]
                new.mux(packet)
    return target


@pytest.mark.parametrize("kinds", [("cover", "video"), ("video", "cover")])
def test_a_cover_is_not_the_clip(make_clip: MakeClip, tmp_path: Path, kinds: tuple[str, ...]) -> None:
    path = make_clip(3, 32, 48)
    covered = with_cover(path, tmp_path / "covered.mp4", kinds)
    assert torch.equal(read_all(covered), read_all(path))
    cover = 1 - probe(covered).stream
    with pytest.raises(VideoError, match=rf"stream {cover} is not a video stream, choose one of \[{1 - cover}\]"):
        probe(covered, cover)


def test_a_cover_alone_is_no_clip(make_clip: MakeClip, tmp_path: Path) -> None:
    covered = with_cover(make_clip(3, 32, 48), tmp_path / "covered.mp4", ("cover",))
    with pytest.raises(VideoError, match=r"no video stream \(found: cover picture\)"):
        probe(covered)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif", ""])
@pytest.mark.parametrize("chunk", [1, 4, 5, 16])
def test_every_format_gives_the_same_frames_in_chunks_of_any_size(make_clip: MakeClip, suffix: str, chunk: int) -> None:
    path = make_clip(9, 32, 48, f"clip{suffix}")
    chunks = list(read_clip(path, chunk=chunk))
    assert [x.shape[2] for x in chunks] == [chunk] * (9 // chunk) + [9 % chunk] * (9 % chunk > 0)
    assert torch.equal(torch.cat(chunks, dim=2), read_all(path, chunk=100))


def test_probe_tells_of_sound(make_clip: MakeClip, tmp_path: Path) -> None:
    assert probe(two_streams(tmp_path / "two.mp4")).audio
    assert not probe(make_clip(2)).audio
