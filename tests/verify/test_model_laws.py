"""Each law of whole models rejects a model that breaks it, ours or somebody else's, and only that."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from examples.sound import Encoded, Gaussian, Sound
from tests.verify.breakers import SoundSpec
from vvae import (
    Affine,
    DiagonalGaussian,
    Fit,
    Framing,
    PosteriorSpec,
    VideoAutoencoder,
    VideoAutoencoderSpec,
    arch,
    verify,
)
from vvae.layers import CausalConv3dSpec, ChannelRMSNormSpec, SpatialDownsampleSpec, SpatialUpsampleSpec, chain
from vvae.tiling import blend
from vvae.tiling.blend import ramp
from vvae.tiling.units import Unit
from vvae.verify import Claims, LawError, Model, Subject, claimed_subject, model_subject
from vvae.verify.laws import models as laws_of_models
from vvae.verify.of_models import LAWS
from vvae.verify.of_own_models import LAWS as OF_OWN_MODELS
from vvae.verify.small import SMALL

CLAIMS = Claims((1, 3, 5, 8, 8), lead=1, group=1, causal=True)

# --------------------------------------------------------------------------- models of this library


class HalfWrittenSpec(VideoAutoencoderSpec):
    """Has a field that is not written."""

    gain: float = Field(default=1.0, exclude=True)


def spec_of(made: str = "Sound", kind: type[VideoAutoencoderSpec] = VideoAutoencoderSpec, **fields: Any) -> Any:
    """A small model of one latent per frame, with that layer of the breakers in its encoder."""
    encoder = chain(down=SpatialDownsampleSpec(channels=4), part=SoundSpec(made=made), out=CausalConv3dSpec(channels=4))
    decoder = chain(up=SpatialUpsampleSpec(channels=4), norm=ChannelRMSNormSpec(), out=CausalConv3dSpec(channels=3))
    return kind(name="sound", encoder=encoder, decoder=decoder, framing=Framing(lead=1), **fields)


def own(made: str = "Sound", **fields: Any) -> Model:
    torch.manual_seed(0)
    found = model_subject(spec_of(made, **fields).build()).model
    assert found is not None
    return found


def released(**changed: Any) -> Model:
    """A model that is exported under published names."""
    torch.manual_seed(0)
    return replace(own(), released=arch.wan(**SMALL["wan"]).build().double(), **changed)


class UnevenModel(VideoAutoencoder):
    """Is off in the last chunk of a stream of several."""

    def decode_stream(self, *given: Any, **named: Any) -> Any:
        chunks = list(super().decode_stream(*given, **named))
        return chunks if len(chunks) < 3 else [*chunks[:-1], chunks[-1] + 1e-6]


class SwappedModel(VideoAutoencoder):
    """Takes the second half of the moments for the mean."""

    def encode(self, *given: Any, **named: Any) -> DiagonalGaussian:
        found = super().encode(*given, **named)
        return replace(found, mean=found.logvar, logvar=found.mean)


class ZeroFillingModel(VideoAutoencoder):
    """Fills rows and columns with zeros."""

    def encode(self, clip: Tensor, *given: Any, **named: Any) -> DiagonalGaussian:
        height, width = self.spec.filled_size(*clip.shape[3:])
        filled = nn.functional.pad(clip, (0, width - clip.shape[4], 0, height - clip.shape[3]))
        return replace(super().encode(filled, *given, **named), fit=Fit(*clip.shape[2:]))


class SquaredScale(Affine):
    """Scales twice, both ways."""

    def normalize(self, latents: Tensor) -> Tensor:
        return super().normalize(latents) * self.scale

    def restore(self, normalized: Tensor) -> Tensor:
        return super().restore(normalized / self.scale)


class TwiceScaledModel(VideoAutoencoder):
    @property
    def scaling(self) -> Affine:
        return SquaredScale(scale=0.5)


class VaryingGaussian(DiagonalGaussian):
    """Takes logvar for the logarithm of the deviation."""

    def sample(self, generator: torch.Generator | None = None, *, noise: Tensor | None = None) -> Tensor:
        return super().sample(generator, noise=noise) * 2 - self.mean


class VaryingModel(VideoAutoencoder):
    def encode(self, *given: Any, **named: Any) -> DiagonalGaussian:
        return VaryingGaussian(**vars(super().encode(*given, **named)))


def as_a(kind: type[VideoAutoencoder]) -> Model:
    torch.manual_seed(0)
    found = model_subject(kind(spec_of())).model
    assert found is not None
    return found


def without_last_frame(module: Any, posterior: Any) -> Tensor:
    found: Tensor = module.decode(posterior)[:, :, :-1]
    return found


def without_last_column(module: Any, posterior: Any) -> Tensor:
    found: Tensor = module.decode(posterior)[..., :-1]
    return found


def blind_to_the_last_frame(module: Any, x: Tensor) -> Any:
    return module.encode(torch.cat([x[:, :, :-1], x[:, :, -1:] * (x.shape[2] < 3)], 2))


OWN: dict[str, tuple[str, Callable[[], Model]]] = {
    "last frame lost": ("accounting", lambda: replace(own(), decode=without_last_frame)),
    "last column lost": ("accounting", lambda: replace(own(), decode=without_last_column)),
    "a frame without a latent": ("accounting", lambda: replace(own(), encode=blind_to_the_last_frame)),
    "halves swapped": ("kl", lambda: as_a(SwappedModel)),
    "a layer that forgets": ("stream", lambda: own("Forgetful")),
    "a stream that goes wrong": ("stream", lambda: as_a(UnevenModel)),
    "a halo too small": ("tiled", lambda: own("Smearing")),
    "an unused parameter": ("parameters", lambda: own("Idle")),
    "a layer that sees less than it declares": ("reach", lambda: own("Blind")),
    "filled with zeros": ("filled", lambda: as_a(ZeroFillingModel)),
    "scaled twice": ("scaling", lambda: as_a(TwiceScaledModel)),
    "samples twice as far": ("noise", lambda: as_a(VaryingModel)),
    "a number in no file": ("saved", lambda: own("Unsaved")),
    "a field that is not written": ("spec_json", lambda: own(kind=HalfWrittenSpec, gain=2.0)),
}
ALSO = {"a field that is not written": {"saved"}, "halves swapped": {"stream", "tiled", "saved"}}
"""A field that is not written is in no file. Streams, tiles and files know nothing of what another class does."""

# --------------------------------------------------------------------------- models of others


class Lossy(Sound):
    """Drops the frames behind the last whole group of two, without a word."""

    def encode(self, clip: Tensor) -> Encoded:
        return super().encode(clip[:, :, : 1 + (clip.shape[2] - 1) // 2 * 2])


class LyingGaussian(Gaussian):
    """Sums its divergence over channels alone."""

    def kl(self) -> Tensor:
        return (self.mean**2 + self.logvar.exp() - 1 - self.logvar).sum(1) / 2


class Lying(Sound):
    def encode(self, clip: Tensor) -> Encoded:
        found = super().encode(clip).latent_dist
        return Encoded(LyingGaussian(found.mean, found.logvar))


class Idle(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Conv3d(1, 1, 1)


class Buffered(Sound):
    """Weighs latents by a buffer that comes back from its state as another one."""

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.full((), 2.0))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        state[f"{prefix}weight"] = 0.5 * state[f"{prefix}weight"]
        super()._load_from_state_dict(state, prefix, *rest)

    def decode(self, latents: Tensor) -> Any:
        return super().decode(self.weight * latents)


class Tiling(Sound):
    """Decodes halves of a high clip on their own, with `shared` rows around each."""

    shared, on = 0, False

    def enable_tiling(self) -> None:
        self.on = True

    def decode(self, latents: Tensor) -> Any:
        if not self.on:
            return super().decode(latents)
        half = latents.shape[3] // 2
        upper = super().decode(latents[:, :, :, : half + self.shared]).sample[:, :, :, :half]
        lower = super().decode(latents[:, :, :, half - self.shared :]).sample[:, :, :, self.shared :]
        return SimpleNamespace(sample=torch.cat([upper, lower], 3))


class ExactTiling(Tiling):
    shared = 2


class PretendedTiling(Tiling):
    def enable_tiling(self) -> None:
        pass


CLAIMED: dict[type[Sound], set[str]] = {
    Sound: set(),
    ExactTiling: set(),
    Lossy: {"accounting"},
    Lying: {"kl"},
    Idle: {"parameters"},
    Buffered: {"saved"},
    Tiling: {"tiled"},
    PretendedTiling: {"tiled"},
}

# --------------------------------------------------------------------------- each law on each


@dataclass(frozen=True)
class Verdicts:
    violated: set[str]
    holding: set[str]


def verdicts(pair: Model) -> Verdicts:
    found = list(verify.verify(Subject("sound", (), pair)))
    assert {finding.verdict for finding in found} <= {"holds", "violated", "not claimed"}, found
    named = {kind: {f.law for f in found if f.verdict == kind} for kind in ("holds", "violated")}
    return Verdicts(named["violated"], named["holds"])


def test_laws_accept_a_sound_model() -> None:
    found = verdicts(released())
    assert not found.violated
    assert found.holding >= {law.name for law in LAWS}


@pytest.mark.parametrize("name", list(OWN))
def test_law_rejects_a_model_that_breaks_it_and_others_do_not(name: str) -> None:
    law, make = OWN[name]
    assert verdicts(make()).violated == {law} | ALSO.get(name, set())


def test_every_law_of_models_is_the_only_one_that_some_model_breaks() -> None:
    alone = {law for name, (law, _) in OWN.items() if name not in ALSO} | set().union(*CLAIMED.values())
    # of the names of releases; of what then is in no file either; of tiles, whatever the model
    by_itself = {"converted", "spec_json", "blended", "units"}
    assert alone | by_itself == {law.name for law in (*LAWS, *OF_OWN_MODELS)}


def test_blended_law_rejects_weights_that_do_not_sum_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def heavy(before: Tensor, after: Tensor, extent: int, axis: int) -> Tensor:
        return 1.001 * ramp(before, after, extent, axis)

    monkeypatch.setattr(blend, "ramp", heavy)
    assert verdicts(own()).violated == {"blended"}


def test_units_law_rejects_what_mixes_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Unit, "_like", lambda self, other, sign: int(other))
    assert verdicts(own()).violated == {"units"}


@pytest.mark.parametrize("kind", list(CLAIMED), ids=lambda kind: kind.__name__)
def test_law_rejects_a_model_of_others_that_breaks_it_and_others_do_not(kind: type[Sound]) -> None:
    torch.manual_seed(0)
    found = claimed_subject(kind(), CLAIMS).model
    assert found is not None
    assert verdicts(found).violated == CLAIMED[kind]


def test_converted_law_rejects_a_table_that_changes_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    renamed = laws_of_models.to_own

    def transposed(*given: Any) -> Any:
        own, rest = renamed(*given)
        name = next(name for name, tensor in own.items() if tensor.ndim > 2)
        return {**own, name: own[name].transpose(0, 1).reshape(own[name].shape)}, rest

    monkeypatch.setattr(laws_of_models, "to_own", transposed)
    assert verdicts(released()).violated == {"converted"}


def test_spec_law_rejects_a_spec_that_is_not_written_whole() -> None:
    verify.check_spec_json(spec_of())
    with pytest.raises(LawError, match="another one than was written"):
        verify.check_spec_json(spec_of(kind=HalfWrittenSpec, gain=2.0))


# --------------------------------------------------------------------------- the posterior


def posterior(**changed: Any) -> Any:
    moments = torch.randn(2, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = PosteriorSpec().posterior(moments, Fit(3, 2, 2))
    names = ("mean", "logvar", "kl", "mode")
    return SimpleNamespace(**{**{name: getattr(found, name) for name in names}, **changed}), moments


def test_posterior_of_halves_with_its_closed_form_is_accepted() -> None:
    found, moments = posterior()
    assert verify.check_kl(found, moments=moments) < 1e-12


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"kl": lambda: torch.zeros(2, 3)}, r"kl\(\) of \(2, 2, 3, 2, 2\) has shape \(2, 3\)"),
        ({"kl": lambda: torch.zeros(())}, r"has shape \(\); one number per clip is \(2,\)"),
        ({"kl": lambda: torch.zeros(2)}, r"kl\(\) and the closed form"),
        ({"mode": lambda: torch.zeros(2, 2, 3, 2, 2)}, r"mode\(\) and mean"),
    ],
)
def test_posterior_with_another_divergence_or_mode_is_rejected(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(LawError, match=told):
        verify.check_kl(posterior(**changed)[0])


def test_posterior_of_the_wrong_halves_is_rejected() -> None:
    found, moments = posterior()
    with pytest.raises(LawError, match="first half"):
        verify.check_kl(found, moments=moments.flip(1))
    other = torch.cat([moments[:, :2], moments[:, 2:] * 0.9], 1)
    with pytest.raises(LawError, match="second half"):
        verify.check_kl(found, moments=other)


def test_posterior_that_clamps_its_logvar_is_that_of_its_moments() -> None:
    _, moments = posterior()
    clamped = PosteriorSpec(limits=(-0.5, 0.5)).posterior(moments, Fit(3, 2, 2))
    verify.check_kl(clamped, moments=moments)


# --------------------------------------------------------------------------- weights, tiles, chunks


def test_restored_law_rejects_a_module_whose_state_comes_back_as_another_one() -> None:
    def call(module: nn.Module, x: Tensor) -> Any:
        return module.decode(module.encode(x).latent_dist.mean)  # type: ignore[operator]

    x = torch.randn(1, 3, 2, 4, 4, dtype=torch.float64)
    sound, buffered = Sound().double(), Buffered().double()
    assert verify.check_restored(sound, copy.deepcopy(sound), call, x) == len(sound.state_dict())
    with pytest.raises(LawError, match="loaded module"):
        verify.check_restored(buffered, copy.deepcopy(buffered), call, x)


def test_model_stream_law_names_the_chunks() -> None:
    model, x = own().own, torch.randn(1, 3, 5, 8, 8, dtype=torch.float64)
    assert model is not None
    verify.check_model_stream(model, x, [2, 3])
    broken = own("Forgetful").own
    assert broken is not None
    with pytest.raises(LawError, match="stream: encode") as caught:
        verify.check_model_stream(broken, x, [2, 3])
    assert caught.value.where == {"chunks": [2, 3]}


def test_tiled_law_names_the_place_that_differs_most_and_measures_what_is_not_exact() -> None:
    whole = torch.ones(1, 3, 2, 4, 4, dtype=torch.float64)
    tiled = whole.clone()
    tiled[0, 1, 1, 2, 3] = 1.5
    with pytest.raises(LawError, match="tiles differ") as caught:
        verify.check_tiled(lambda: whole, lambda: tiled, limit=1e-10)
    assert caught.value.where == {"frame": 1, "row": 2, "column": 3}
    assert verify.check_tiled(lambda: whole, lambda: tiled, limit=float("inf")) == 0.5
    with pytest.raises(LawError, match="came out in tiles"):
        verify.check_tiled(lambda: whole, lambda: tiled[:, :, :1], limit=float("inf"))
