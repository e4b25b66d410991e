from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.test_clips import IN_PIECES
from tests.evaluation.conftest import PLAIN, write_clip
from tests.models.tiny import Identity, tiny_model
from tests.video.test_read import two_streams
from vvae.arch import od_vae
from vvae.autoencoder import VideoAutoencoder
from vvae.errors import VideoError, VvaeError
from vvae.evaluation import Evaluation, Protocol, Subject, evaluate, of_function, of_model
from vvae.evaluation.report import markdown, write
from vvae.tiling import steps
from vvae.video import psnr, read_clip


def shift(amount: float) -> Subject:
    return of_function(f"shift {amount}", lambda video: video + amount, group=4)


def without_time(found: Evaluation) -> Any:
    """All of a result but what a clock and the machine say."""
    told = json.loads(found.model_dump_json(exclude={"machine"}))
    for model in told["models"]:
        del model["frames_per_second"]
        for clip in model["clips"]:
            del clip["seconds"]
    return told


def test_what_comes_back_as_it_was_has_the_best_figures(clips: list[Path]) -> None:
    found = evaluate([of_model(Identity()), shift(0.1)], clips, PLAIN)
    same, moved = found.models
    assert same.mean == {"psnr": 100.0, "ssim": pytest.approx(1, abs=1e-6), "flicker": 0.0}
    assert moved.mean["psnr"] == pytest.approx(20 * math.log10(2 / 0.1), abs=1e-3)
    assert moved.mean["flicker"] == pytest.approx(0, abs=1e-4)
    assert (same.systematic.colour, moved.systematic.colour) == (0, pytest.approx(0.1 * 255 / 2, abs=1e-3))
    assert moved.systematic.borders is None, "a function has no cells"
    (gap,) = (d for d in found.differences if d.metric == "psnr")
    assert (gap.a, gap.b) == ("shift 0.1", "identity")
    assert gap.mean == pytest.approx(moved.mean["psnr"] - 100, abs=1e-4)
    assert [len(clip.per_frame["psnr"]) for clip in same.clips] == [9, 9, 9]


def test_a_model_is_measured_on_the_float_frames_that_it_gives(clips: list[Path]) -> None:
    model = tiny_model()
    (found,) = evaluate([of_model(model)], clips[:1], PLAIN).models
    video = torch.cat(list(read_clip(clips[0])), 2)
    with torch.inference_mode():
        expected = psnr(video, model.decode(model.encode(video)))[0]
    assert found.clips[0].per_frame["psnr"] == pytest.approx(expected.tolist(), abs=1e-3)
    assert (found.lead_frames, found.group) == (1, 4)
    assert found.positions["psnr"][0] == pytest.approx((expected[1] + expected[5]).item() / 2, abs=1e-3)
    assert found.rate == 16 * 3 * 4 * 6 / (3 * 9 * 32 * 48)
    with torch.inference_mode():
        errors = (model.decode(model.encode(video)).clamp(-1, 1) - video).double() * 255 / 2
    assert found.systematic.shift == pytest.approx(errors.mean((0, 2, 3, 4)).tolist(), abs=1e-4)
    inner = errors[..., 8:-8, 8:-8].square()  # rows 8 to 23, columns 8 to 39
    cells = inner.unflatten(3, (2, 8)).unflatten(5, (4, 8))
    deep = cells[..., 1:7, :, 1:7].sum()
    border = (inner.sum() - deep) / (64 - 36), deep / 36
    assert found.systematic.borders == pytest.approx((border[0] / border[1]).item(), rel=1e-4)


@pytest.mark.parametrize("name", ["open_sora", "reducio", "od_vae"])
def test_models_in_pieces_with_content_and_without_a_stream_are_measured(clips: list[Path], name: str) -> None:
    torch.manual_seed(0)
    spec = IN_PIECES[name]() if name in IN_PIECES else od_vae("v1_2", width=4, groups=2, blocks=1)
    model = spec.build().eval()
    (found,) = evaluate([of_model(model)], clips[:1], PLAIN).models
    video = torch.cat(list(read_clip(clips[0])), 2)
    with torch.inference_mode():
        expected = psnr(video, model.decode(model.encode(video)))[0]
    assert found.clips[0].per_frame["psnr"] == pytest.approx(expected.tolist(), abs=1e-3)
    assert (found.lead_frames, found.group) == {"open_sora": (0, 5), "reducio": (0, 4), "od_vae": (1, 4)}[name]


def test_the_same_call_gives_the_same_figures_by_any_exact_way(clips: list[Path]) -> None:
    model = tiny_model()
    first, again, stepwise = (
        evaluate([of_model(model, plans=plans), shift(0.2)], clips, PLAIN)
        for plans in (None, None, lambda frames, pixels: steps(1, 1))
    )
    assert without_time(first) == without_time(again)
    for a, b in zip(first.models[0].clips, stepwise.models[0].clips, strict=True):
        assert a.per_frame["psnr"] == pytest.approx(b.per_frame["psnr"], abs=1e-3)


def test_figures_of_a_clip_do_not_depend_on_the_others(clips: list[Path]) -> None:
    forth, back = (evaluate([of_model(tiny_model())], order, PLAIN) for order in (clips, clips[::-1]))
    alone = evaluate([of_model(tiny_model())], clips[1:2], PLAIN)
    assert forth.models[0].mean == back.models[0].mean
    assert forth.models[0].clips[1].per_frame == alone.models[0].clips[0].per_frame
    assert all(difference.low is None for difference in alone.differences)


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"crop": 1}, (32, 48)),
        ({"crop": 20}, (20, 40)),
        ({"crop": (16, 24)}, (16, 24)),
        ({"size": 16, "crop": 8}, (16, 24)),
    ],
)
def test_frames_are_cropped_around_the_centre(clips: list[Path], fields: dict[str, Any], size: tuple[int, int]) -> None:
    protocol = Protocol(**{"frames": 2, "size": None, **fields})
    seen = torch.cat([frame for frame, _ in protocol.clip(clips[0]).shown()], 2)
    whole = torch.cat(list(read_clip(clips[0], frames=2, size=protocol.size)), 2)
    top, left = (whole.shape[3] - size[0]) // 2, (whole.shape[4] - size[1]) // 2
    assert torch.equal(seen, whole[..., top : top + size[0], left : left + size[1]])
    found = evaluate([shift(0)], clips[:1], protocol)
    assert (found.clips[0]["height"], found.clips[0]["width"]) == size


def test_the_start_leaves_frames_out(clips: list[Path]) -> None:
    from_four = PLAIN.replace(start=4)
    seen = torch.cat([frame for frame, _ in from_four.clip(clips[2]).shown()], 2)
    assert torch.equal(seen, torch.cat(list(read_clip(clips[2])), 2)[:, :, 4:])


def test_a_stream_of_a_file_can_be_chosen(tmp_path: Path) -> None:
    path, protocol = two_streams(tmp_path / "two.mp4"), PLAIN.replace(frames=3)
    for stream, side in ((1, 32), (2, 64)):
        found = evaluate([shift(0)], [path], protocol.replace(stream=stream))
        assert (found.clips[0]["height"], found.clips[0]["width"]) == (side, side)
        assert f"| stream | {stream} |" in markdown(found)
    page = markdown(evaluate([shift(0)], [path], protocol))
    assert "| stream | the best video stream |" in page
    assert "| size | as it is |" in page


def test_a_frechet_distance_compares_features_of_sources_and_results(clips: list[Path]) -> None:
    calls = []

    def features(video: torch.Tensor) -> torch.Tensor:
        calls.append(video.shape)
        return video.mean(dim=(2, 3, 4))

    found = evaluate([shift(0.0), shift(0.2)], clips, PLAIN, features=features)
    assert found.models[0].frechet == pytest.approx(0, abs=1e-9)
    assert found.models[1].frechet == pytest.approx(3 * 0.2**2, rel=1e-3)
    assert calls == [(1, 3, 9, 32, 48)] * 9, "the sources once, and the results of both"


def test_lpips_stands_beside_the_other_figures(clips: list[Path]) -> None:
    found = evaluate([shift(0.1)], clips[:1], PLAIN, lpips=lambda a, b: (a - b).abs().mean(dim=(1, 3, 4), keepdim=True))
    assert found.models[0].mean["lpips"] == pytest.approx(0.1, abs=1e-5)
    assert found.lpips_sha256 is None, "a function has no digest"


def test_progress_counts_the_frames_of_all_models(clips: list[Path]) -> None:
    told = []
    evaluate([shift(0), shift(1)], clips[:2], PLAIN, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 36) for done in range(1, 37)]
    evaluate([shift(0)], clips[:1], PLAIN.replace(frames=None), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (9, None), "this file does not say how many it has"


def test_seconds_are_those_of_the_model_alone(clips: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only frames that are read, and the model, move on."""
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    real = Protocol.clip

    def slow_clip(self: Protocol, path: Path) -> Any:
        clip = real(self, path)
        object.__setattr__(clip, "shown", lambda: _slow(real(self, path).shown(), clock))
        return clip

    def run(video: torch.Tensor) -> torch.Tensor:
        clock[0] += 3
        return video

    monkeypatch.setattr(Protocol, "clip", slow_clip)
    (found,) = evaluate([of_function("slow", run)], clips[:2], PLAIN).models
    assert [clip.seconds for clip in found.clips] == [3, 3]
    assert found.frames_per_second == 3


def _slow(frames: Any, clock: list[float]) -> Any:
    for frame in frames:
        clock[0] += 10
        yield frame


def test_a_result_can_be_read_again_and_an_unknown_protocol_cannot(clips: list[Path]) -> None:
    found = evaluate([of_model(tiny_model())], clips[:2], PLAIN)
    text = found.model_dump_json()
    assert Evaluation.model_validate_json(text) == found
    assert {"frames", "size", "filter", "crop", "range", "dtype", "output"} <= set(json.loads(text)["protocol"])
    with pytest.raises(ValueError, match="filter"):
        Evaluation.model_validate_json(text.replace("lanczos, 8 bit", "bicubic"))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"frames": 10}, "has 9 frames, the protocol takes 10"),
        ({"frames": 6, "start": 4}, "has 5 frames after the first 4"),
        ({"crop": 40}, "32x48 pixels cannot be cropped by 40"),
        ({"crop": (32, 50)}, "cannot be cropped"),
        ({"crop": (10, 10)}, "need sides of 11 or more"),
        ({"dtype": "bfloat16"}, "identity: computes in float32, the protocol says bfloat16"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_before_anything_runs(tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    clips = [write_clip(tmp_path / f"{frames}.mp4", 0, frames) for frames in (13, 9)]

    def never(video: torch.Tensor) -> torch.Tensor:
        raise AssertionError("it ran")

    protocol = PLAIN.replace(**fields)
    with pytest.raises(VvaeError, match=told):
        evaluate([of_function("f", never), of_model(Identity())], clips, protocol)


@pytest.mark.parametrize(("subjects", "told"), [([], "0 models"), ([shift(1), shift(1)], "stands for two models")])
def test_models_must_be_there_and_be_told_apart(clips: list[Path], subjects: list[Subject], told: str) -> None:
    with pytest.raises(VvaeError, match=told):
        evaluate(subjects, clips, PLAIN)


def test_one_clip_has_no_frechet_distance(clips: list[Path]) -> None:
    with pytest.raises(VvaeError, match="two clips or more"):
        evaluate([shift(0)], clips[:1], PLAIN, features=lambda video: video.mean(dim=(2, 3, 4)))


@pytest.mark.parametrize(
    ("run", "told"), [(lambda v: v[:, :, 1:], "same shape"), (lambda v: v / 0, "not finite")], ids=["shape", "finite"]
)
def test_a_function_must_give_a_clip_of_the_same_shape(clips: list[Path], run: Any, told: str) -> None:
    with pytest.raises(VideoError, match=told):
        evaluate([of_function("f", run)], clips, PLAIN)


def test_a_report_is_a_folder_that_is_whole_or_not_there(
    clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = evaluate([shift(0.1), of_model(tiny_model(), "a|b")], clips[:2], PLAIN)
    write(found, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "evaluation.json",
        "evaluation.md",
        "per_frame.png",
        "rate.png",
    ]
    page = (tmp_path / "out" / "evaluation.md").read_text()
    assert f"| shift 0.1 | {found.models[0].mean['psnr']:.2f} |" in page
    assert "| shift 0.1 | - | +12.75 | +12.75 | +12.75 | 12.75 |" in page
    assert f"| a\\|b | {found.models[1].systematic.borders:.3f} |" in page
    tables = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]
    widths = [{line.replace("\\|", "").count("|") for line in table} for table in tables]
    assert len(widths) == 6
    assert all(len(width) == 1 for width in widths)
    assert Evaluation.model_validate_json((tmp_path / "out" / "evaluation.json").read_text()) == found
    with pytest.raises(VideoError, match="not an empty folder"):
        write(found, tmp_path / "out")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vvae.evaluation.report.plot_rate", full)
    with pytest.raises(VideoError, match="No space"):
        write(found, tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_short_clip_whose_file_does_not_say_so_is_refused_at_its_end(clips: list[Path]) -> None:
    protocol = PLAIN.replace(frames=10)
    protocol.clip(clips[0]).check()
    with pytest.raises(VideoError, match="has 9 frames, the protocol takes 10"):
        evaluate([shift(0)], clips, protocol)


def test_a_damaged_clip_stops_the_evaluation(tmp_path: Path, clips: list[Path]) -> None:
    bad = tmp_path / "bad.mkv"
    bad.write_bytes(clips[2].read_bytes()[: clips[2].stat().st_size * 2 // 3])
    with pytest.raises(VideoError, match=r"bad\.mkv"):
        evaluate([shift(0)], [clips[0], bad], PLAIN.replace(frames=None))


def test_a_model_that_gives_no_number_is_named(clips: list[Path]) -> None:
    model: VideoAutoencoder = tiny_model()
    with torch.no_grad():
        next(model.decoder.parameters()).fill_(math.nan)
    with pytest.raises(VideoError, match="vvae-small"):
        evaluate([of_model(model)], clips, PLAIN)
