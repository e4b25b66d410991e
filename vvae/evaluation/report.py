"""An evaluation as a folder: JSON, a page with tables, two pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap

from vvae.evaluation.bootstrap import Difference
from vvae.evaluation.meter import METRICS
from vvae.evaluation.plots import plot_per_frame, plot_rate
from vvae.evaluation.results import Evaluation
from vvae.video.whole import whole_folder

LEGEND = (
    "PSNR and its spread over the positions in a group are in dB; flicker, the shifts of channels and the largest of "
    "them, colour, are of 255 levels. Borders: the squared error at borders between latent cells over that elsewhere. "
    "Numbers: those of a clip per number of its latents. Differences are paired by clip; the interval is a bootstrap "
    "over clips."
)


def write(found: Evaluation, folder: str | Path) -> None:
    """`evaluation.json`, `evaluation.md`, `per_frame.png` and, where a rate is known, `rate.png` in a new folder.

    Errors: VideoError where the folder is not new or empty, or cannot be written; then nothing is left behind.
    """
    with whole_folder(Path(folder)) as part:
        (part / "evaluation.json").write_text(found.model_dump_json(indent=1) + "\n")
        (part / "evaluation.md").write_text(markdown(found))
        plot_per_frame(part / "per_frame.png", found)
        if any(model.rate is not None for model in found.models):
            plot_rate(part / "rate.png", found)


def markdown(found: Evaluation) -> str:
    """The page: all tables, the protocol, the clips and the machine."""
    machine, sections = found.machine, []
    sections.append(("Models", models_table(found)))
    sections.append(("By position in the group", positions_table(found)))
    sections.append(("Grid and colour", systematic_table(found)))
    if found.differences:
        sections.append(("Differences", differences_table(found)))
    sections.append(("Clips", clips_table(found)))
    sections.append(("Protocol", [("", ""), *((k, _told(k, v)) for k, v in found.protocol.model_dump().items())]))
    lines = ["# Evaluation", "", *wrap(LEGEND, 120), ""]
    for title, rows in sections:
        lines += [f"## {title}", "", *_table(rows), ""]
    if found.lpips_sha256:
        lines += [f"LPIPS by the weights of sha256 {found.lpips_sha256}.", ""]
    gpu = f", {machine.gpu}" if machine.gpu else ""
    lines.append(f"vvae {found.vvae}, torch {machine.torch}, {machine.cpu}, {machine.threads} threads{gpu}.")
    return "\n".join(lines) + "\n"


Rows = Sequence[Sequence[str]]


def models_table(found: Evaluation) -> Rows:
    """A row per model: means, spread of PSNR over positions, numbers of a clip per number of its latents, speed."""
    metrics = _metrics(found)
    with_frechet = any(model.frechet is not None for model in found.models)
    head = ["model", *map(_heading, metrics), "spread", "numbers", "frames/s", *(["Fréchet"] * with_frechet)]
    rows = [head]
    for model in found.models:
        rate = "-" if model.rate is None else f"{1 / model.rate:.3g}"
        last = ["-" if model.frechet is None else f"{model.frechet:.4g}"] if with_frechet else []
        means = [number(name, model.mean.get(name)) for name in metrics]
        spread = number("psnr", model.spread.get("psnr"))
        rows.append([model.name, *means, spread, rate, f"{model.frames_per_second:.3g}", *last])
    return rows


def positions_table(found: Evaluation) -> Rows:
    """A row per model and metric: the lead, then each position of a group."""
    most = max(model.group for model in found.models)
    rows = [["model", "metric", "lead", *(str(place + 1) for place in range(most))]]
    for model in found.models:
        for name in _metrics(found):
            places = [number(name, value) for value in model.positions.get(name, ())]
            lead = number(name, model.lead.get(name))
            rows.append([model.name, METRICS[name].title, lead, *places, *([""] * (most - len(places)))])
    return rows


def systematic_table(found: Evaluation) -> Rows:
    """A row per model: the error at borders between latent cells over that elsewhere, shifts of channels."""
    rows = [["model", "borders", "red", "green", "blue", "colour"]]
    for model in found.models:
        of = model.systematic
        borders = "-" if of.borders is None else f"{of.borders:.3f}"
        rows.append([model.name, borders, *(f"{value:+.2f}" for value in of.shift), f"{of.colour:.2f}"])
    return rows


def differences_table(found: Evaluation) -> Rows:
    """A row per pair of models and metric."""
    rows = [["model", "against", "metric", "mean", f"{found.protocol.confidence:.0%} interval", "is"]]
    for one in found.differences:
        interval = "-" if one.low is None else f"{signed(one.metric, one.low)} to {signed(one.metric, one.high)}"
        title, mean = METRICS[one.metric].title, signed(one.metric, one.mean)
        rows.append([one.a, one.b, title, mean, interval, verdict(one)])
    return rows


def verdict(one: Difference) -> str:
    """Whether the first of the two is better or worse, where the interval leaves zero out."""
    if not one.is_clear:
        return "unclear"
    return "better" if one.mean * METRICS[one.metric].sign > 0 else "worse"


def clips_table(found: Evaluation) -> Rows:
    """A row per clip: its size, and PSNR of each model."""
    rows = [["clip", "frames", "size", *(f"{model.name}, dB" for model in found.models), "sha256"]]
    for place, clip in enumerate(found.clips):
        frames = str(found.models[0].clips[place].frames)
        values = [number("psnr", model.clips[place].mean["psnr"]) for model in found.models]
        rows.append([clip["name"], frames, f"{clip['height']}x{clip['width']}", *values, clip["sha256"][:12]])
    return rows


def number(metric: str, value: float | None) -> str:
    """A figure with the digits of its metric; "-" for none."""
    return "-" if value is None else f"{value:.{METRICS[metric].digits}f}"


def signed(metric: str, value: float | None) -> str:
    """The same with its sign."""
    return "-" if value is None else f"{value:+.{METRICS[metric].digits}f}"


def _metrics(found: Evaluation) -> list[str]:
    return [name for name in METRICS if any(name in model.mean for model in found.models)]


def _heading(metric: str) -> str:
    return f"{METRICS[metric].title} {'↑' if METRICS[metric].sign > 0 else '↓'}"


def _told(field: str, value: object) -> str:
    """A field of the protocol in words."""
    if value is None:
        return {"frames": "all", "stream": "the best video stream", "size": "as it is"}[field]
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _table(rows: Rows) -> Iterator[str]:
    head, *rest = rows
    yield _row(head)
    yield _row(["---"] * len(head))
    for row in rest:
        yield _row(row)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
