"""`vvae eval` and `calibrate`: what models are worth, and the shift and scale of their latents."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vvae.cli import options as o
from vvae.errors import VideoError, VvaeError

if TYPE_CHECKING:
    from vvae.evaluation.protocol import Protocol
    from vvae.evaluation.results import Evaluation
    from vvae.evaluation.subjects import Subject

Clips = Annotated[
    list[Path], typer.Option(metavar="CLIP_OR_FOLDER", help="A clip, or a folder of clips and of further folders.")
]
ProtocolFrames = Annotated[
    int, typer.Option(min=0, help="So many of each clip; one that has fewer is refused. 0: all.")
]
ProtocolSize = Annotated[int, typer.Option(min=0, help="Resize the short side to this many pixels. 0: as it is.")]
Crop = Annotated[
    str, typer.Option(metavar="N_OR_HxW", help="Crop around the centre: to multiples of N, or to HxW pixels.")
]


def evaluate(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Names or files of models.")],
    clips: Clips,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder for the result.")] = Path("evaluation"),
    frames: ProtocolFrames = 65,
    start: o.Start = 0,
    stream: o.Stream = None,
    size: ProtocolSize = 256,
    crop: Crop = "32",
    baseline: Annotated[
        Literal["linear"] | None, typer.Option(help="Beside each latent shape, the best linear code of it.")
    ] = None,
    baseline_clips: Annotated[
        list[Path] | None,
        typer.Option(metavar="CLIP_OR_FOLDER", help="Fit it to these clips  [default: those that are evaluated]"),
    ] = None,
    lpips: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measure LPIPS, by what vvae convert lpips wrote.")
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FUNCTION", help="For a Fréchet distance: from clips b,3,t,h,w to features b,d."),
    ] = None,
    device: o.Device = "cpu",
    dtype: o.Dtype = "float32",
    memory: o.Memory = None,
    json: o.Json = False,
) -> None:
    """Evaluate models on clips by one protocol: PSNR, SSIM, flicker, speed, paired differences."""
    from vvae.evaluation.report import write
    from vvae.evaluation.run import evaluate as run
    from vvae.losses import LPIPS
    from vvae.video.output import refuse_taken

    refuse_taken(out)
    protocol = _protocol(frames, start, stream, size, crop, dtype)
    taken = _clips(clips)
    function = None if features is None else _function(features)
    distance = None if lpips is None else LPIPS.load(lpips).to(device)
    subjects = _subjects(models, device, dtype, memory)
    if baseline is not None:
        subjects = [*_baselines(models, protocol, _clips(baseline_clips or clips)), *subjects]
    elif baseline_clips:
        raise VvaeError("--baseline-clips: say --baseline linear as well")
    with o.progress("eval") as report:
        found = run(subjects, taken, protocol, lpips=distance, features=function, progress=report)
    write(found, out)
    if json:
        return o.print_json({"folder": str(out), **json_.loads(found.model_dump_json())})
    _print(found, out)


def calibrate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name or file.")],
    clips: Clips,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="A new model (.safetensors), or the numbers alone (.json).")
    ],
    frames: ProtocolFrames = 65,
    start: o.Start = 0,
    stream: o.Stream = None,
    size: ProtocolSize = 256,
    crop: Crop = "32",
    of: Annotated[Literal["mode", "sample"], typer.Option(help="Of the posterior's mode, or of samples.")] = "mode",
    scalar: Annotated[bool, typer.Option("--scalar", help="One shift and scale for all channels.")] = False,
    device: o.Device = "cpu",
    dtype: o.Dtype = "float32",
    json: o.Json = False,
) -> None:
    """Find the shift and scale of a model's latents over clips; stopped and called again, it goes on where it was."""
    from vvae.evaluation.calibrate import calibrate as run
    from vvae.evaluation.calibrate import scaling_of, write_model
    from vvae.video.output import refuse_taken
    from vvae.video.whole import whole_file

    if out.suffix not in (".safetensors", ".json"):
        raise VideoError(f"--out {out}: a model is a .safetensors file, the numbers a .json file; give such an ending")
    refuse_taken(out)
    taken, part = _clips(clips), out.with_name(f"{out.name}.part")
    opened = o.open_model(model, device, dtype)
    protocol = _protocol(frames, start, stream, size, crop, dtype)
    with o.progress("calibrate") as report:
        held = run(opened.model, taken, part, protocol, of=of, weights=opened.weights, progress=report)
    scaling = scaling_of(held.moments, one_for_all=scalar)
    told = {
        "shift": scaling.shift,
        "scale": scaling.scale,
        "positions": held.moments.count,
        "frames": sum(held.frames),
        "clips": held.clips,
        **held.fingerprint,
    }
    if out.suffix == ".json":
        with whole_file(out) as fresh:
            fresh.write_text(json_.dumps(told, indent=1) + "\n")
    else:
        write_model(model, scaling, out)
    part.unlink()
    if json:
        return o.print_json({"out": str(out), **told})
    counted = f"latent positions {held.moments.count}, frames {sum(held.frames)}, clips {len(held.clips)}"
    print(f"{opened.model.spec.name}: {counted}")
    for name, values in (("shift", scaling.shift), ("scale", scaling.scale)):
        numbers = values if isinstance(values, tuple) else (values,)
        print(f"{name}  {'  '.join(f'{value:.4f}' for value in numbers)}")
    print(f"see    {out}")


def _protocol(frames: int, start: int, stream: int | None, size: int, crop: str, dtype: Any) -> Protocol:
    from vvae.evaluation.protocol import Protocol

    sides = [side for side in crop.split("x") if side.isdecimal() and int(side)]
    if len(sides) != crop.count("x") + 1 or len(sides) > 2:
        raise VvaeError(f"--crop {crop}: is no number of pixels and no HxW; write it as 32 or 256x256")
    given = int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))
    return Protocol(frames=frames or None, start=start, stream=stream, size=size or None, crop=given, dtype=dtype)


def _clips(places: list[Path]) -> list[Path]:
    """All clips at these places, each once."""
    from vvae.video.clips import clips_in

    return list(dict.fromkeys(clip for place in places for clip in clips_in(place).clips))


def _subjects(names: list[str], device: str, dtype: str, memory: str | None) -> list[Subject]:
    from vvae.evaluation.subjects import of_model

    found, stems = [], [Path(name).stem for name in names]
    for name in names:
        opened = o.open_model(name, device, dtype)

        def plans(frames: int | None, pixels: tuple[int, int], opened: o.Opened = opened) -> Any:
            return o.plan_for(memory, opened, frames, pixels, "encode", "decode")

        label = name if stems.count(Path(name).stem) > 1 else Path(name).stem
        found.append(of_model(opened.model, label, weights=opened.weights, plans=plans))
    return found


def _baselines(names: list[str], protocol: Protocol, clips: list[Path]) -> list[Subject]:
    """A floor for every latent shape among the models."""
    from vvae.evaluation.baseline import linear_subject, refuse_large
    from vvae.models.names import spec_of

    specs = [spec_of(name) for name in names]
    for spec in specs:
        refuse_large(spec)
    taken = [protocol.clip(clip) for clip in clips]
    for clip in taken:
        clip.check()
    found: dict[str, Subject] = {}
    for spec in specs:
        with o.progress("baseline", "clips") as report:
            subject = linear_subject(spec, taken, report)
        found.setdefault(subject.name, subject)
    return list(found.values())


def _function(name: str) -> Any:
    """The function behind package.module:function, found in the current folder or elsewhere."""
    from vvae.verify.targets import imported

    module, _, path = name.partition(":")
    found = imported(module, path)
    if not callable(found):
        raise VvaeError(f"--features {name}: is a {type(found).__name__}; give a function from clips to features")
    return found


def _print(found: Evaluation, folder: Path) -> None:
    from rich.console import Console

    from vvae.cli.tables import rows_table
    from vvae.evaluation import report

    protocol, console = found.protocol, Console(highlight=False)
    crop = "x".join(map(str, protocol.crop)) if isinstance(protocol.crop, tuple) else f"multiples of {protocol.crop}"
    frames = f"{protocol.frames or 'all'} frames from {protocol.start} on"
    side = "their own size" if protocol.size is None else f"short side {protocol.size}"
    clips = f"{len(found.clips)} clip{'s' * (len(found.clips) != 1)}"
    console.print(f"{clips}, {frames}, {side}, cropped to {crop}, {protocol.dtype}", soft_wrap=True)
    console.print()
    console.print(rows_table(report.models_table(found)))
    console.print()
    console.print(rows_table(report.positions_table(found)))
    console.print()
    console.print(rows_table(report.systematic_table(found)))
    if found.differences:
        console.print()
        console.print(rows_table(report.differences_table(found)))
    console.print()
    console.print(f"see   {folder / 'evaluation.md'}, {folder / 'per_frame.png'}", soft_wrap=True)
