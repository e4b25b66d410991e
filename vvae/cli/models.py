"""`vvae list`, `show` and `convert`: what models there are, what they are, and what can become of their files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vvae.cli import options as o
from vvae.errors import CheckpointError, VideoError

if TYPE_CHECKING:
    from vvae.models.released import Conversion


def list_models(json: o.Json = False) -> None:
    """The models that ship with weights, and the architectures known by name."""
    from vvae.cli.tables import models_table, print_table
    from vvae.models.catalogue import catalogue

    found = catalogue()
    if json:
        return o.print_json([entry.to_dict() for entry in found])
    print_table(models_table(found))
    print("cell: frames x rows x columns of a latent position; z: its channels; frames: what fits")
    print("causal: no group of frames sees a later one; without weights: vvae convert makes a model of a release")


def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME_OR_FILE", help="A model's name or file, ARCHITECTURE:VARIANT, or SPEC.json.")
    ],
    size: Annotated[str, typer.Option(metavar="TxHxW", help="Frames, height and width to count costs for.")] = (
        "17x256x256"
    ),
    picture: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw who depends on whom in time.")] = None,
    json: o.Json = False,
) -> None:
    """What a model is: stage by stage, in time, what it costs."""
    clip = o.clip_size(size)
    if clip is None:
        raise VideoError(f"--size {size}: is not FRAMESxHEIGHTxWIDTH; write it as 17x256x256")
    _refuse_picture(picture)
    from vvae.cli.tables import print_summary
    from vvae.models.names import spec_of
    from vvae.stages import fitting_frames, stages

    spec = spec_of(name)
    summary, parts = spec.summary(clip), stages(spec, clip)
    if picture is not None:
        from vvae.video.dependency import plot_dependency
        from vvae.video.whole import whole_file

        with whole_file(picture) as file:
            plot_dependency(file, spec, clip[0])
    if json:
        rest = {"frames_that_fit": fitting_frames(spec), "cell": spec.cell, "stages": [s.to_dict() for s in parts]}
        return o.print_json({**summary.to_dict(), **rest})
    print_summary(spec, summary, parts)
    if picture is not None:
        print(f"see   {picture}")


def convert(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A released checkpoint (.pth, .safetensors, folder), or a model.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.safetensors", help="A new file  [default: named after the model]")
    ] = None,
    to: Annotated[Literal["vvae", "published"], typer.Option(help="Make a model of vvae, or a released one.")] = "vvae",
    variant: Annotated[
        str | None,
        typer.Option(metavar="VARIANT", help="Whose scale and shift it has, if its shapes do not tell."),
    ] = None,
    json: o.Json = False,
) -> None:
    """Turn a released checkpoint into a model of vvae, or back."""
    from vvae import checkpoint
    from vvae.models.released import as_published, from_published
    from vvae.video.output import refuse_taken

    if to == "published" and variant is not None:
        raise CheckpointError("--variant belongs to released checkpoints; leave it out with --to published")
    if out is not None:
        refuse_taken(_safetensors(out))
    done = from_published(source, variant) if to == "vvae" else as_published(source)
    name = done.recognised.spec.name
    file = out or Path(f"{name}.safetensors" if to == "vvae" else f"{name}_published.safetensors")
    refuse_taken(file)
    if to == "vvae":
        checkpoint.save_weights(file, done.tensors, done.recognised.spec.to_json())
    else:
        checkpoint.write_file(file, done.tensors, {"format": "pt"})
    if json:
        return o.print_json(_told(done, file))
    from vvae.cli.tables import kinds_table, print_table

    print(f"recognised: {done.recognised}")
    print(f"constants: {done.recognised.assumed}")
    if done.dropped_prefix:
        print(f"dropped: {done.dropped_prefix!r} before every name")
    print_table(kinds_table(done.kinds, to))
    print(f"wrote {len(done.tensors)} tensors, values unchanged: {file}")


def _told(done: Conversion, file: Path) -> dict[str, Any]:
    found = done.recognised
    return {
        "out": str(file),
        "architecture": found.architecture,
        "variant": found.variant,
        "fields": dict(found.fields),
        "temporal_factor": found.spec.pixels.group // found.spec.latents.group,
        "constants": found.assumed,
        "dropped_prefix": done.dropped_prefix,
        "parameters": sum(tensor.numel() for tensor in done.tensors.values()),
        "tensors": [vars(kind) for kind in done.kinds],
    }


def _safetensors(file: Path) -> Path:
    if file.suffix != ".safetensors":
        raise CheckpointError(f"--out {file}: is no .safetensors file; give that ending")
    return file


def _refuse_picture(picture: Path | None) -> None:
    if picture is not None and picture.suffix.lower() != ".png":
        raise VideoError(f"--picture {picture}: is no .png; give that ending")
    if picture is not None and not picture.parent.is_dir():
        raise VideoError(f"--picture {picture}: the folder {picture.parent} does not exist; make it first")
