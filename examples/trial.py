"""What the examples of whole models share: a spec is compared with its JSON, built, verified and trained a little."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import vvae
from vvae import verify
from vvae.models.truths import in_time
from vvae.training import material

STEPS, SIDE = 6, 24


def run(spec: vvae.VideoAutoencoderSpec, file: Path, groups: int = 2) -> None:
    """All of it on a clip of so many groups, told line by line; a LawError says which law the model breaks."""
    if vvae.VideoAutoencoderSpec.from_json(file.read_bytes()) != spec:
        raise verify.LawError("spec_json", f"{file.name} is another model than the Python beside it")
    torch.manual_seed(0)
    model = spec.build().double()
    frames, side = spec.pixels.frames(groups), 2 * spec.cell
    whole = video(frames)
    clip = whole[..., :side, :side].double()
    print(f"{spec.name}: {sum(p.numel() for p in model.parameters()):,} parameters; {file.name} says the same")
    print(f"in time   {in_time(spec)}")
    check_reach(model, clip)
    print(f"reach     of {frames} frames and {spec.latent_frames(frames)} latents: declared = measured")
    stream, gradients = check_stream(model, clip), check_gradients(model, clip)
    print(f"stream    chunks of 1 and 5 frames give the whole clip: {stream:.0e} apart, gradients {gradients:.0e}")
    before, after = train(model.float(), whole)
    print(f"training  {STEPS} steps: loss {before:.3f} -> {after:.3f}")


def video(frames: int) -> Tensor:
    """A procedural clip, `1 3 t 24 24` in [-1, 1]."""
    return torch.from_numpy(material.clip(7, frames, (SIDE, SIDE)))[None]


def check_reach(model: vvae.VideoAutoencoder, clip: Tensor) -> None:
    """Who depends on whom in time, encoding and decoding, is what the spec declares; a content image stays as it is."""
    posterior, frames = model.encode(clip), clip.shape[2]
    content = None if posterior.content is None else model.content(posterior.content)
    passes: dict[str, tuple[Tensor, Callable[[Tensor], Tensor]]] = {
        "encode": (clip, lambda x: model.encode(x).mean),
        "decode": (posterior.mean.detach(), lambda z: model.decode(z, content=content)),
    }
    for direction, (x, forward) in passes.items():
        verify.check_reach(forward, model.spec.dependency(frames, direction), x)


def streamed(model: vvae.VideoAutoencoder, clip: Tensor, length: int) -> Tensor:
    """The clip as it comes back from a stream that took it in chunks of so many frames."""
    return torch.cat(list(model.decode_stream(model.encode_stream(clip.split(length, dim=2)))), dim=2)


@torch.no_grad()
def check_stream(model: vvae.VideoAutoencoder, clip: Tensor) -> float:
    """Chunks give what the whole clip gives, also where it ends inside a group. The largest difference."""
    found = []
    for x in (clip, clip[:, :, :-2]):
        whole = model(x)
        found += [verify.difference(streamed(model, x, length), whole) for length in (1, 5)]
    return _within("stream", max(found), 1e-12)


def check_gradients(model: vvae.VideoAutoencoder, clip: Tensor) -> float:
    """So do their gradients, for every parameter. The largest difference, as a part of the largest gradient."""
    weights = verify.random_clip(model.spec.pixels, *clip.shape[2:])
    parameters = list(model.parameters())
    whole, chunks = (
        torch.autograd.grad((result * weights).sum(), parameters, allow_unused=True)
        for result in (model(clip), streamed(model, clip, 5))
    )
    pairs = [(a, b) for a, b in zip(chunks, whole, strict=True) if b is not None]
    largest = max(b.abs().max().item() for _, b in pairs)
    return _within("gradients", max((a - b).abs().max().item() for a, b in pairs) / largest, 1e-11)


def _within(law: str, found: float, allowed: float) -> float:
    if not found <= allowed:
        raise verify.LawError(law, f"differs by {found:.1e} (allowed {allowed:.0e})")
    return found


def train(model: vvae.VideoAutoencoder, clip: Tensor, rate: float = 3e-3) -> tuple[float, float]:
    """The mean absolute error before some steps, and after them."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    losses = []
    for _ in range(STEPS + 1):
        loss = (model(clip) - clip).abs().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses[0], losses[-1]
