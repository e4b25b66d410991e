"""`vvae list`, `show` and `convert`: what models there are, what they are, and what can become of their files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vvae.cli import options as o
from vvae.errors import CheckpointError, VideoError

if TYPE_CHECKING:
    from vvae.models.released import Conversion


LPIPS = "lpips"
"""What stands for SOURCE where LPIPS is to be made."""


def list_models(json: o.Json = False) -> None:
    """The models that ship with weights, and the architectures known by name."""
    from vvae.cli.listing import print_models
    from vvae.models.catalogue import catalogue

    found = catalogue()
    if json:
        return o.print_json([entry.to_dict() for entry in found])
    print_models(found)


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
    from vvae.models.truths import DIRECTIONS, in_time, sights
    from vvae.stages import fitting_frames, stages

    spec = spec_of(name)
    summary, parts = spec.summary(clip), stages(spec, clip)
    if picture is not None:
        from vvae.video.dependency import plot_dependency
        from vvae.video.whole import whole_file

        with whole_file(picture) as file:
            plot_dependency(file, spec, clip[0])
    if json:
        rest = {
            "in_time": in_time(spec),
            "layers_in_time": {
                part: [vars(sight) for sight in sights(spec, part) if sight.ahead != 0] for part in DIRECTIONS
            },
            "frames_that_fit": fitting_frames(spec),
            "cell": spec.cell,
            "stages": [s.to_dict() for s in parts],
        }
        return o.print_json({**summary.to_dict(), **rest})
    print_summary(spec, summary, parts)
    if picture is not None:
        print(f"see   {picture}")


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A released checkpoint: a file, a folder, an index of shards; a model; or lpips."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.safetensors", help="A new file  [default: named after the model]")
    ] = None,
    to: Annotated[Literal["vvae", "published"], typer.Option(help="Make a model of vvae, or a released one.")] = "vvae",
    arch: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose checkpoint it is  [default: recognised]")
    ] = None,
    choose: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=ANSWER", help="What no tensor tells, as the refusal asks."),
    ] = None,
    naming: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --to published: whose names, as diffusers or compvis.")
    ] = None,
    backbone: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With SOURCE lpips: VGG16, as torchvision publishes it.")
    ] = None,
    linear: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With SOURCE lpips: its linear layers, vgg.pth.")
    ] = None,
    json: o.Json = False,
) -> None:
    """Turn a released checkpoint into a model of vvae, or back; or make the file that LPIPS is read from."""
    if source == LPIPS:
        return _convert_lpips(backbone, linear, out, json)
    from vvae import checkpoint
    from vvae.models.released import as_published, from_published
    from vvae.video.output import refuse_taken

    _refuse_strangers(to, choose or arch, naming, backbone or linear)
    answers = _answers(choose or [])
    if out is not None:
        refuse_taken(_safetensors(out))
    done = from_published(source, arch, **answers) if to == "vvae" else as_published(source, naming)
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

    for line in _lines(done):
        print(line)
    print_table(kinds_table(done.kinds, to))
    print(f"wrote {len(done.tensors)} tensors, values unchanged: {file}")


def _refuse_strangers(to: str, of_released: object, naming: str | None, of_lpips: object) -> None:
    """Options that say nothing about this conversion."""
    if to == "published" and of_released:
        raise CheckpointError("--choose and --arch belong to released checkpoints; leave them out with --to published")
    if to == "vvae" and naming:
        raise CheckpointError("--naming belongs to --to published; the names of a released checkpoint are recognised")
    if of_lpips:
        raise CheckpointError("--backbone and --linear belong to vvae convert lpips; leave them out")


def _convert_lpips(backbone: Path | None, linear: Path | None, out: Path | None, json: bool) -> None:
    """One file of the two that LPIPS is published as."""
    from vvae import checkpoint
    from vvae.losses.lpips import FETCH, LPIPSFile
    from vvae.losses.lpips import convert as joined
    from vvae.models.sources import read_one
    from vvae.video.output import refuse_taken

    if backbone is None or linear is None:
        raise CheckpointError(f"convert lpips: takes --backbone FILE and --linear FILE; {FETCH}")
    file = _safetensors(out or Path("lpips.safetensors"))
    refuse_taken(file)
    tensors = joined(read_one(backbone).tensors, read_one(linear).tensors)
    checkpoint.save_weights(file, tensors, LPIPSFile().to_json())
    digest = checkpoint.digest(tensors)
    if json:
        return o.print_json({"out": str(file), "tensors": len(tensors), "sha256": digest})
    print(f"wrote {len(tensors)} tensors, values unchanged: {file}")
    print(f"sha256 of the tensors: {digest}")


def _answers(said: Sequence[str]) -> dict[str, str]:
    """NAME=ANSWER, each name once."""
    answers: dict[str, str] = {}
    for text in said:
        name, equals, answer = text.partition("=")
        if not (name.isidentifier() and equals and answer) or name in answers:
            raise CheckpointError(f"--choose {text}: is not NAME=ANSWER, each name once; as variant=sdxl")
        answers[name] = answer
    return answers


def _lines(done: Conversion) -> Iterator[str]:
    found, source = done.recognised, done.source
    variant = f", release {found.variant}" if found.variant and source else ""
    yield f"recognised: {found}{variant}"
    if found.assumed:
        yield f"told by no tensor: {found.assumed}"
    if source is None:
        return
    if source.prefix:
        yield f"dropped: {source.prefix!r} before every name"
    if source.entry:
        yield f"taken: the entry {source.entry}" + (f"; beside it: {', '.join(source.rest)}" if source.rest else "")
    if source.left_out:
        yield f"left out: {', '.join(map(str, source.left_out))}"


def _told(done: Conversion, file: Path) -> dict[str, Any]:
    from vvae.checkpoint import EXTRAS

    found, source = done.recognised, done.source
    return {
        "out": str(file),
        "architecture": found.architecture,
        "variant": found.variant,
        "naming": found.naming,
        "fields": {name: _plain(value) for name, value in found.fields.items()},
        "temporal_factor": found.spec.pixels.group // found.spec.latents.group,
        "told_by_no_tensor": found.assumed,
        "dropped_prefix": source.prefix if source else "",
        "entry": source.entry if source else "",
        "beside_it": list(source.rest) if source else [],
        "left_out": [vars(left) for left in source.left_out] if source else [],
        "parameters": sum(tensor.numel() for name, tensor in done.tensors.items() if not name.startswith(EXTRAS)),
        "tensors": [vars(kind) for kind in done.kinds],
    }


def _plain(value: Any) -> Any:
    """A field as JSON holds it."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | None) else str(value)


def _safetensors(file: Path) -> Path:
    if file.suffix != ".safetensors":
        raise CheckpointError(f"--out {file}: is no .safetensors file; give that ending")
    return file


def _refuse_picture(picture: Path | None) -> None:
    if picture is not None and picture.suffix.lower() != ".png":
        raise VideoError(f"--picture {picture}: is no .png; give that ending")
    if picture is not None and not picture.parent.is_dir():
        raise VideoError(f"--picture {picture}: the folder {picture.parent} does not exist; make it first")
