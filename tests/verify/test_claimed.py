"""What has no spec: habits of other people's code that break no law raise no alarm, and hide none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from examples.sound import Decoded, Encoded, Sound
from vvae.verify import (
    Claims,
    Finding,
    LawError,
    check,
    check_gradients,
    check_threads,
    claimed_subject,
    laws,
    verify,
)
from vvae.verify.findings import RefusalError
from vvae.verify.measure import tensor_of

CLAIMS = Claims((1, 3, 3, 8, 8), lead=1, causal=True)


def found(target: Any, law: str, claims: Claims = CLAIMS) -> list[Finding]:
    """What a law finds where it is claimed."""
    return [one for one in verify(claimed_subject(target, claims), only=[law]) if one.verdict != "not claimed"]


def verdicts(target: Any, law: str) -> set[str]:
    return {finding.verdict for finding in found(target, law)}


def clip(frames: int = 3) -> Tensor:
    return torch.randn(1, 3, frames, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


# --------------------------------------------------------------------------- posteriors


def test_a_posterior_that_has_a_mode_alone_is_read() -> None:
    latents = clip()
    assert tensor_of(SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latents))) is latents


# --------------------------------------------------------------------------- sizes


class Even(Sound):
    """Drops the last frame of 3, 5, 7, ...; refuses 4; takes rows of whole 4 alone."""

    def encode(self, clip: Tensor) -> Encoded:
        if clip.shape[2] == 4 or clip.shape[3] % 4:
            raise ValueError("no")
        whole = clip.shape[2] // 2 * 2 if clip.shape[2] > 1 else 1
        return super().encode(clip[:, :, :whole])


class Blind(Sound):
    """Gives back as many frames as it was given, and reads all but the last."""

    def encode(self, clip: Tensor) -> Encoded:
        return super().encode(torch.cat([clip[:, :, :-1], torch.zeros_like(clip[:, :, -1:])], 2))


class Undifferentiable(Sound):
    @torch.no_grad()
    def encode(self, clip: Tensor) -> Encoded:
        return super().encode(clip)


def test_all_sizes_that_change_or_are_refused_are_told() -> None:
    (finding,) = found(Even(), "accounting", Claims((1, 3, 2, 8, 8), lead=1))
    told = "comes back in another size: frames 3 -> 2, 5 -> 4, 7 -> 6, 9 -> 8; refused: frames 4; height 9, 13"
    assert (finding.verdict, finding.message, finding.figure) == ("violated", told, 1.0)
    assert (finding.case["frames"], finding.where) == (3, {"changed": {"frames": [3, 2]}})


def test_a_size_that_is_refused_is_no_violation() -> None:
    claims = Claims((1, 3, 3, 8, 8), lead=1, group=2)
    (finding,) = found(Sound(group=2), "accounting", claims)
    assert (finding.verdict, finding.message) == ("holds", "refused: frames 2, 4, 6, 8")
    with pytest.raises(RefusalError, match="refused: frames 4"):
        check(claimed_subject(Sound(group=2), claims), "accounting", "model", frames=4, height=8, width=8)


def test_frames_without_a_latent_are_told() -> None:
    (finding,) = found(Blind(), "accounting")
    assert finding.message.startswith("of 1 frames [0] move no latent; of 2 frames [1] move no latent;")


def test_frames_are_seen_without_gradients() -> None:
    assert verdicts(Undifferentiable(), "accounting") == {"holds"}


# --------------------------------------------------------------------------- gradients


class Rounded(nn.Module):
    """Its upsampling goes by way of float32, as that of many does, whatever the model's format."""

    def __init__(self, slope: float = 1.0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.before, self.after = nn.Conv3d(3, 8, 3, padding=1), nn.Conv3d(8, 3, 3, padding=1)
        self.slope = slope

    def forward(self, clip: Tensor) -> Tensor:
        read = self.before(clip).float().double()
        return self.after(torch.sin(self.slope * read + (1 - self.slope) * read.detach()))


def test_rounding_inside_is_no_wrong_gradient() -> None:
    assert verdicts(Rounded(), "gradients") == {"holds"}
    with pytest.raises(LawError, match="finite difference"):
        check_gradients(Rounded().double(), clip())


def test_a_wrong_gradient_is_found_beside_rounding() -> None:
    assert verdicts(Rounded(slope=0.9), "gradients") == {"violated"}


def test_a_bias_that_a_norm_takes_away_has_the_gradient_of_none() -> None:
    layer = nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.InstanceNorm3d(4))
    assert verdicts(layer, "gradients") == {"holds"}
    assert check_gradients(layer.double(), clip()) < 1e-5


def test_an_unused_parameter_of_a_layer_is_found() -> None:
    layer = nn.Conv3d(3, 4, 1)
    layer.spare = nn.Linear(2, 2)
    (finding,) = found(layer, "parameters")
    assert "spare.weight" in finding.message


# --------------------------------------------------------------------------- threads, compilers, files


class Remembering(nn.Module):
    """Keeps its input on itself between two layers; a lock keeps other threads out."""

    def __init__(self, locked: bool) -> None:
        super().__init__()
        self.inner, self.lock = nn.Identity(), threading.Lock()
        self.kept, self.locked = torch.zeros(()), locked

    def forward(self, clip: Tensor) -> Tensor:
        if not self.locked:
            return self.answer(clip)
        with self.lock:
            return self.answer(clip)

    def answer(self, clip: Tensor) -> Tensor:
        self.kept = clip
        self.inner(clip)
        return self.kept


class Failing(nn.Module):
    """Fails for a bright clip while another one is inside."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.inside = nn.Identity(), 0

    def forward(self, clip: Tensor) -> Tensor:
        self.inside += 1
        self.inner(clip)
        if self.inside > 1 and clip.mean() > 0.5:
            raise RuntimeError("two are inside")
        self.inner(clip)
        self.inside -= 1
        return clip


def held(module: Remembering | Failing) -> Callable[[], float]:
    runs = [partial(module, clip()), partial(module, clip() + 1)]
    return partial(check_threads, module.inner, runs, patience=0.2)


def test_a_model_that_locks_itself_is_sound_in_threads() -> None:
    assert held(Remembering(locked=True))() == 0.0
    with pytest.raises(LawError, match="differs by"):
        held(Remembering(locked=False))()


def test_the_thread_that_fails_is_told_and_not_the_one_that_waited_for_it() -> None:
    with pytest.raises(LawError, match=r"thread 1 fails .*two are inside"):
        held(Failing())()


def test_a_backend_for_tests_that_fails_says_nothing_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> float:
        raise RuntimeError("expected other strides\nmore of it")

    monkeypatch.setattr(laws, "check_compiled", fail)
    subject = claimed_subject(nn.Identity(), CLAIMS)
    told = {effort: next(verify(subject, effort=effort, only=["compiled"])) for effort in ("quick", "thorough")}
    assert told["quick"].message == "torch cannot do it here: aot_eager fails: expected other strides"
    assert {effort: finding.verdict for effort, finding in told.items()} == {
        "quick": "not claimed",
        "thorough": "crashed",
    }


class Filtering(Sound):
    """A filter that is made with the module and not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", torch.ones(3, 1, 1, 1) / 4, persistent=False)

    def decode(self, latents: Tensor) -> Decoded:
        return Decoded(super().decode(latents).sample * self.filter)


def test_a_buffer_that_is_not_saved_comes_with_the_module() -> None:
    assert verdicts(Filtering(), "saved") == {"holds"}


class Careful(nn.Module):
    """Warns of its own `to`, as models of diffusers do."""

    def forward(self, clip: Tensor) -> Tensor:
        return clip * 2

    def to(self, *_: Any) -> Careful:
        raise AssertionError("called")


def test_a_module_is_not_asked_to_cast_itself() -> None:
    assert verdicts(Careful(), "bfloat16") == {"holds"}
