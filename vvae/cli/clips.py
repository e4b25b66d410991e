"""`vvae reconstruct`, `encode` and `decode`: clips through a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vvae.cli import options as o
from vvae.errors import VideoError, VvaeError

Out = typer.Option(metavar="FOLDER", help="A new folder  [default: CLIP_vvae]")


def reconstruct(
    clip: o.Clip,
    out: Annotated[Path | None, Out] = None,
    model: o.Model = o.DEFAULT_MODEL,
    frames: o.Frames = None,
    start: o.Start = 0,
    size: o.Size = None,
    stream: o.Stream = None,
    allow_partial: o.AllowPartial = False,
    audio: Annotated[bool, typer.Option("--audio", help="Keep the clip's sound.")] = False,
    device: o.Device = "cpu",
    dtype: o.Dtype = "float32",
    tile: o.Tile = None,
    chunk: o.Chunk = None,
    compare_whole: Annotated[
        bool, typer.Option("--compare-whole", help="With a preset: the whole clip too, and how both differ.")
    ] = False,
    memory: o.Memory = None,
    json: o.Json = False,
) -> None:
    """Send a clip through a model and back: clips, pictures and figures of what came of it."""
    from vvae.video.reconstruct import reconstruct_clip

    folder = out or Path(f"{clip.stem}_vvae")
    chosen = o.selection(clip, frames, start, size, stream, allow_partial)
    opened = o.open_model(model, device, dtype)
    plan = o.chosen_plan(tile, chunk, memory, opened, chosen.promised, chosen.pixels, "encode", "decode")
    if compare_whole and plan.exact:
        raise VvaeError("--compare-whole: the plan is exact and gives what the whole clip gives; take it with a preset")
    with o.progress("reconstruct") as report:
        figures = reconstruct_clip(
            opened.model, chosen, folder, plan=plan, compare_whole=compare_whole, audio=audio, progress=report
        )
    if json:
        return o.print_json({"folder": str(folder), **figures})
    _print_figures(folder, figures)


def encode(
    clip: o.Clip,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.safetensors", help="A new file  [default: CLIP_latents.safetensors]")
    ] = None,
    model: o.Model = o.DEFAULT_MODEL,
    frames: o.Frames = None,
    start: o.Start = 0,
    size: o.Size = None,
    stream: o.Stream = None,
    allow_partial: o.AllowPartial = False,
    device: o.Device = "cpu",
    dtype: o.Dtype = "float32",
    tile: o.Tile = None,
    chunk: o.Chunk = None,
    memory: o.Memory = None,
    json: o.Json = False,
) -> None:
    """Encode a clip to a file of latents; stopped and called again, it goes on where it was."""
    from vvae.video.encode import encode_clip

    file = out or Path(f"{clip.stem}_latents.safetensors")
    if file.suffix != ".safetensors":
        raise VideoError(f"--out {file}: latents are a .safetensors file; give that ending")
    chosen = o.selection(clip, frames, start, size, stream, allow_partial)
    opened = o.open_model(model, device, dtype)
    plan = o.chosen_plan(tile, chunk, memory, opened, chosen.promised, chosen.pixels, "encode")
    with o.progress("encode") as report:
        done = encode_clip(opened.model, chosen, file, plan=plan, weights=opened.weights, progress=report)
    if json:
        return o.print_json(done)
    resumed = f", the first {done['resumed_at']} from an earlier run" if done["resumed_at"] else ""
    print(f"{done['model']}: {done['frames']} frames of {done['height']}x{done['width']} pixels{resumed}")
    print(f"latents {' x '.join(map(str, done['shape'][1:]))} (c t h w), {done['bytes'] / 1e6:.2f} MB: {file}")
    print(f"speed {done['frames_per_second']:.2f} frames per second")


def decode(
    latents: Annotated[Path, typer.Argument(metavar="LATENTS.safetensors", help="A file that vvae encode wrote.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.mp4", help="A new clip: .mp4, .mkv (lossless), ...  [default: LATENTS.mp4]"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME_OR_FILE", help="The model that encoded  [default: found by its weights' digest]"),
    ] = None,
    audio_from: Annotated[
        Path | None, typer.Option(metavar="CLIP", help="Take the sound from this clip, that was encoded.")
    ] = None,
    device: o.Device = "cpu",
    dtype: o.Dtype = "float32",
    tile: o.Tile = None,
    chunk: o.Chunk = None,
    memory: o.Memory = None,
    json: o.Json = False,
) -> None:
    """Decode a file of latents to a clip: the frames that reconstruct gives."""
    from vvae.models.files import made_by
    from vvae.video.decode import decode_clip
    from vvae.video.latents import Latents

    clip = out or latents.with_suffix(".mp4")
    held = Latents(latents)
    opened = o.open_model(model or made_by(held.info.weights, held.spec.name, latents), device, dtype)
    held.check_model(opened.model, opened.weights)
    plan = o.chosen_plan(tile, chunk, memory, opened, held.info.frames, (held.info.height, held.info.width), "decode")
    with o.progress("decode") as report:
        done = decode_clip(opened.model, held, clip, plan=plan, audio_from=audio_from, progress=report)
    if json:
        return o.print_json(done)
    print(f"{done['model']}: {done['frames']} frames of {done['height']}x{done['width']} pixels: {clip}")
    print(f"speed {done['frames_per_second']:.2f} frames per second")


def _print_figures(folder: Path, figures: dict[str, Any]) -> None:
    height, width = figures["height"], figures["width"]
    inside = "  ".join("-" if value is None else f"{value:.2f}" for value in figures["psnr_per_position"])
    print(f"{figures['model']}: {figures['frames']} frames of {height}x{width} pixels")
    print(f"PSNR  {figures['psnr']:.2f} dB", end="")
    if figures["psnr_lead"] is not None:
        print(f"   lead {figures['psnr_lead']:.2f}", end="")
    print(f"   by position in a group {inside}")
    print(f"SSIM  {figures['ssim']:.4f}")
    print(f"speed {figures['frames_per_second']:.2f} frames per second to encode and decode")
    if (found := figures.get("against_whole")) is not None:
        _print_comparison(found)
    print(f"see   {folder / 'contact_sheet.png'}, {folder / 'side_by_side.mp4'}")


def _print_comparison(found: dict[str, Any]) -> None:
    """How a plan that is not exact differs from the whole clip."""
    parts = {"at seams": found["psnr_at_seams"], "inside": found["psnr_inside"]}
    told = "".join(f"   {name} {value:.2f}" for name, value in parts.items() if value is not None)
    print(f"tiles against the whole clip: {found['psnr']:.2f} dB{told}   greatest {found['greatest_difference']:.4f}")
    for border in found["chunk_borders"]:
        print(f"  at the border before frame {border['frame']}: greatest {border['greatest_difference']:.4f}")
