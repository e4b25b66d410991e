"""The pictures of these pages, drawn from specs: python docs/figures.py writes all of them to docs/pictures."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import islice, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

import vvae
from vvae import Signal, evaluation, layers, reach, verify
from vvae.colours import BAND, BLUE, GREY, INK, PAPER, RED
from vvae.evaluation.baseline import linear_subject
from vvae.evaluation.plots import plot_per_frame
from vvae.reach import Reach
from vvae.training import Recipe, journal, train
from vvae.training.sources import ProceduralSpec
from vvae.verify import matrices
from vvae.video import ClipWriter
from vvae.video.demo import FPS, HEIGHT, WIDTH, demo_frames
from vvae.video.dependency import plot_dependency

PICTURES = Path(__file__).parent / "pictures"
BUILD = (Path(__file__).parent / "build.md").read_text()
SHOWN = re.findall(r"^vvae show (\w+)\.json --size (\d+)x", BUILD, re.M)
AMBER = "#e3a63a"
_INCH, _DPI = 8, 120
_FONT = {"font.family": "DejaVu Sans", "font.size": 18, "text.color": INK, "axes.labelcolor": INK}


def dependency(path: Path) -> None:
    """Who depends on whom in IV-VAE, for a clip that is longer than its memory."""
    plot_dependency(path, vvae.arch.iv_vae("z16_dim64"), 49)


def causal(path: Path) -> None:
    """What a causal and a group causal convolution see of 9 frames: a lead and two groups of 4."""
    signal = Signal(channels=1, lead=1, group=4)
    both = {
        "causal, kernel 3": layers.CausalConv3dSpec(channels=1),
        "group causal, kernel 3": layers.GroupCausalConv3dSpec(channels=1),
    }
    figure = _figure(5.1)
    for axes, (title, spec) in zip(figure.subplots(1, 2, sharey=True), both.items(), strict=True):
        _matrix(axes, spec.reach(signal, 9), signal)
        axes.set_title(title, loc="left", fontsize=18)
        axes.set_xlabel("frame that goes in")
    figure.axes[0].set_ylabel("frame that comes out")
    figure.savefig(path)


class Smooth(torch.nn.Module):
    """The layer of the page about verification: it means to be causal."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * x + 0.25 * (x.roll(1, 2) + x.roll(-1, 2))


def verified(path: Path) -> None:
    """What was declared of a layer beside what was measured, as a report shows it."""
    claims = verify.Claims((1, 4, 5, 8, 8), lead=1, group=2, causal=True)
    (part,) = verify.claimed_subject(Smooth(), claims).parts
    matrices.draw(path, matrices.matrices(part), "Smooth")


def groups(path: Path) -> None:
    """A clip of 13 frames on its way through the encoder of IV-VAE: what is a group at each frame rate."""
    spec = vvae.arch.iv_vae("z16_dim64")
    names = {4: "pixels", 2: "halved once", 1: "halved twice, the latents"}
    figure = _figure(4.6)
    axes = _blank(figure, (-0.1, 16.7), (4.9, -0.75))
    for row, (group, name) in enumerate(names.items()):
        signal, top = Signal(channels=1, lead=spec.pixels.lead, group=group), 1.9 * row
        width = spec.pixels.group / group  # a frame stands under the frames at the pixels that it was made of
        for frame, number in enumerate(reach.group_numbers(signal.frames(3), signal.lead, signal.group)):
            left = 0 if number < 0 else signal.lead + (frame - signal.lead) * width + 1.2 * (number + 1)
            _box(axes, left, top, RED if number < 0 else BLUE, width=1 if number < 0 else width, text=str(frame))
        axes.text(0, top - 0.12, f"{name}: lead 1, groups of {group}", va="bottom")
    figure.savefig(path)


def look_ahead(path: Path) -> None:
    """A layer that looks one frame ahead, fed one frame at a time: what has come, what went out, what waits."""
    signal = Signal(channels=1)
    layer = layers.LinearTemporalUpsampleSpec().build(signal)
    chunks = verify.split(torch.randn(1, 1, 5, 1, 1), signal, [1] * 5)
    given = np.cumsum([y.shape[2] for y in verify.stream(layer, chunks)]) // layer.factor
    figure = _figure(5.2)
    axes = _blank(figure, (-2.6, 5.2), (5.9, -0.75))
    for step, out in enumerate(given):
        axes.text(-0.25, step + 0.42, f"step {step + 1}" + (", last" if step == 4 else ""), ha="right", va="center")
        for frame in range(5):
            colour = BAND if frame > step else BLUE if frame < out else AMBER
            _box(axes, frame, step, colour, text=str(frame), ink=PAPER if frame < out else INK)
    axes.text(0, -0.15, "frames of the input", va="bottom")
    _legend(axes, -2.5, 5.45, (BLUE, "given"), (AMBER, "held back"), (BAND, "has not come"))
    figure.savefig(path)


def fill(path: Path) -> None:
    """What "fill" does to 22 frames, by the spec of vvae-small."""
    spec = vvae.load("vvae-small").spec
    true, full = 22, spec.filled_frames(22)
    positions = spec.latent_frames(true)
    figure = _figure(6.4)
    axes = _blank(figure, (-0.2, 31), (10.6, -1))
    rows = (
        f"{true} frames go in",
        f"filled: {full} frames, lead 1 and groups of 4",
        f"{positions} latent positions",
        f"{true} frames come back",
    )
    tops = [2.55 * row for row in range(len(rows))]
    for top, name in zip(tops, rows, strict=True):
        axes.text(0, top - 0.15, name, va="bottom")
    for frame, number in enumerate(reach.group_numbers(full, spec.pixels.lead, spec.pixels.group)):
        left, colour = frame + 0.8 * (number + 1), RED if number < 0 else BLUE
        for top in (tops[0], tops[3]) if frame < true else ():
            _box(axes, left, top, colour)
        _box(axes, left, tops[1], colour if frame < true else AMBER)
    for position, number in enumerate(reach.group_numbers(positions, spec.latents.lead, spec.latents.group)):
        left = position if number < 0 else 1 + 4 * number + 0.8 * (number + 1)
        _box(axes, left, tops[2], RED if number < 0 else BLUE, width=1 if number < 0 else 4)
    _legend(axes, 0, 9.8, (RED, "lead"), (BLUE, "group"), (AMBER, "repeats frame 21"), step=9.2, size=0.9)
    figure.savefig(path)


def latents(path: Path) -> None:
    """The first frame of the demo clip, and the eight of its latent channels that vary most, by vvae-small."""
    model, frame = vvae.load("vvae-small"), next(demo_frames())
    with torch.no_grad():
        mean = model.encode(frame).mode()[0, :, 0]
    chosen = mean.flatten(1).std(1).argsort(descending=True)[:8]
    figure = _figure(3.9)
    for axes, channel in zip(figure.subplots(2, 4).flat, chosen.tolist(), strict=True):
        limit = mean[channel].abs().max().item()
        axes.imshow(mean[channel].numpy(), cmap="gray", vmin=-limit, vmax=limit)
        axes.set_title(f"{channel}: ±{limit:.1f}", fontsize=17, loc="left")
        axes.set_axis_off()
    figure.suptitle("latents of frame 0: channel, and its largest value", fontsize=18, x=0.01, ha="left")
    figure.savefig(path)


def state(path: Path) -> None:
    """What a stream of vvae-small keeps, beside what the clip so far would take, at 256 x 256 pixels."""
    model = vvae.load("vvae-small")
    with torch.device("meta"):
        meta = model.spec.build()
        lead, later = torch.empty(1, 3, 9, 256, 256), torch.empty(1, 3, 8, 256, 256)
    held, frames = None, [0]
    kept, clip = [0.0], [0.0]
    with torch.no_grad():
        for number in range(8):
            chunk = later if number else lead
            _, held = meta.encode_chunk(chunk, held)
            frames.append(held.position)
            kept.append(held.bytes / 2**20)
            clip.append(4 * chunk[:, :, 0].numel() * held.position / 2**20)
    figure = _figure(4.8)
    axes = figure.subplots()
    axes.plot(frames, clip, color=GREY, marker="o", linewidth=2)
    axes.plot(frames, kept, color=BLUE, marker="o", linewidth=2)
    axes.text(frames[5], clip[5] + 3, "the clip so far", ha="right", color=GREY)
    axes.text(frames[-1], kept[-1] + 1.5, f"state of the encoder: {kept[-1]:.1f} MiB", ha="right", color=BLUE)
    axes.set_xlabel("frames that have come")
    axes.set_ylabel("MiB")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def evaluated(path: Path) -> None:
    """vvae-small beside the linear code of its latent shape, on the beginning of the demo clip."""
    protocol, model = evaluation.Protocol(frames=17, size=128), vvae.load("vvae-small")
    with TemporaryDirectory() as place:
        clip = Path(place) / "demo.mkv"
        with ClipWriter(clip, FPS, (HEIGHT, WIDTH)) as writer:
            for frame in islice(demo_frames(), protocol.frames):
                writer.write(frame)
        floor = linear_subject(model.spec, [protocol.clip(clip)])
        plot_per_frame(path, evaluation.evaluate([floor, evaluation.of_model(model)], [clip], protocol))


def first_batch(path: Path) -> None:
    """Two clips as training sees them."""
    clips = ProceduralSpec(clips=40, frames=9, size=64).look()
    rng = np.random.default_rng(0)
    journal.draw_rows([clips.piece(index, 9, 64, rng) for index in (4, 7)], path)


def curves(path: Path) -> None:
    """A short run of a tiny model from random weights."""
    fields = {"encoder_width": 8, "encoder_blocks": 1, "decoder_width": 8, "decoder_blocks": 1}
    recipe = Recipe(
        model={"name": "vvae_small", "fields": fields},
        data={"kind": "procedural", "clips": 8, "frames": 5, "size": 32},
        held_out={"kind": "procedural", "clips": 8, "frames": 5, "size": 32, "held_out": True},
        judge_every=5,
        stages=[
            {
                "steps": 80,
                "batch": {"clips": 4, "frames": [5], "sizes": [16]},
                "objective": {"terms": {"l1": {"kind": "l1"}, "kl": {"kind": "kl", "weight": 1e-6}}},
                "optimizer": {"rate": 3e-3},
                "schedule": {"warmup": 5, "then": "cosine"},
            }
        ],
    )
    with TemporaryDirectory() as folder, matplotlib.rc_context({"font.size": 10}):
        train(recipe, folder, report=lambda line: None)
        shutil.copy(Path(folder) / "curves.png", path)


@cache
def _made_on_page() -> dict[str, Any]:
    """The names that the first Python blocks of build.md define: its specs, up to the last of those that are drawn."""
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", BUILD, re.M | re.S):
        if ">>> " not in block and SHOWN[-1][0] not in names:
            exec(block, names)
    return names


def step(name: str, frames: int, path: Path) -> None:
    """Who depends on whom in time after a step of build.md, as `vvae show` draws it there."""
    plot_dependency(path, _made_on_page()[name], frames)


FIGURES: dict[str, Callable[[Path], None]] = {
    "verify.png": verified,
    "evaluate.png": evaluated,
    "first_batch.png": first_batch,
    "curves.png": curves,
    "dependency.png": dependency,
    "causal.png": causal,
    "groups.png": groups,
    "look_ahead.png": look_ahead,
    "fill.png": fill,
    "latents.png": latents,
    "state.png": state,
    **{f"{name}.png": partial(step, name, int(frames)) for name, frames in SHOWN},
}


def _figure(height: float) -> Figure:
    return Figure(figsize=(_INCH, height), dpi=_DPI, layout="constrained", facecolor=PAPER)


def _blank(figure: Figure, x: tuple[float, float], y: tuple[float, float]) -> Axes:
    axes: Axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(*x)
    axes.set_ylim(*y)
    return axes


def _box(
    axes: Axes, left: float, top: float, colour: str, *, width: float = 1, text: str = "", ink: str = PAPER
) -> None:
    axes.add_patch(Rectangle((left, top), width, 0.85, facecolor=colour, edgecolor=PAPER, linewidth=2.5))
    axes.text(left + width / 2, top + 0.42, text, ha="center", va="center", color=ink, fontsize=15)


def _matrix(axes: Axes, seen: Reach, signal: Signal) -> None:
    for (row, column), filled in np.ndenumerate(seen):
        colour = (RED if column < signal.lead else BLUE) if filled else BAND
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, edgecolor=PAPER, linewidth=1))
    numbers = reach.group_numbers(len(seen), signal.lead, signal.group)
    for edge in [place for place, (a, b) in enumerate(pairwise(numbers), 1) if a != b]:
        axes.axvline(edge - 0.5, color=INK, linewidth=1.5)
        axes.axhline(edge - 0.5, color=INK, linewidth=1.5)
    axes.set_xlim(-0.5, seen.shape[1] - 0.5)
    axes.set_ylim(seen.shape[0] - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.set_xticks([0, 1, 5])
    axes.set_yticks([0, 1, 5])


def _legend(axes: Axes, x: float, y: float, *entries: tuple[str, str], step: float = 2.6, size: float = 0.4) -> None:
    for place, (colour, text) in enumerate(entries):
        left = x + place * step
        axes.add_patch(Rectangle((left, y - size / 2), size, size, facecolor=colour, edgecolor=GREY, linewidth=0.8))
        axes.text(left + 1.4 * size, y, text, va="center")


def _small(drawn: Path, path: Path) -> None:
    """As a PNG of 48 colours, 960 pixels wide: flat colours and letters need no more."""
    with Image.open(drawn) as picture:
        plain = picture.convert("RGB")
    small = plain.resize((960, round(plain.height * 960 / plain.width)), Image.Resampling.LANCZOS)
    small.quantize(48, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)


def draw(folder: Path, names: Sequence[str] = ()) -> None:
    """The pictures of these names, or all."""
    folder.mkdir(exist_ok=True)
    with matplotlib.rc_context(_FONT), TemporaryDirectory() as place:
        for name in names or FIGURES:
            drawn = Path(place) / name
            FIGURES[name](drawn)
            _small(drawn, folder / name)


if __name__ == "__main__":
    draw(PICTURES, sys.argv[1:])
