"""What laws are pointed at: layers and models of ours, models of others with claims, claims that cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from examples.sound import sound, sound_groups
from tests.verify.breakers import SIGNAL, Sound, SoundSpec
from vvae import SpecError, arch
from vvae.layers import CausalConv3dSpec, SpatialDownsampleSpec
from vvae.signal import Signal
from vvae.verify import Claims, TargetError, claimed_subject, layer_subject, model_subject, verify
from vvae.verify.small import RELEASED, SMALL

# --------------------------------------------------------------------------- claims


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"shape": (3, 5)}, r"an input of shape \(3, 5\) is no clip; give b,c,t,h,w \(or b,c,h,w for images\)"),
        ({"shape": (1, 3, 0, 8, 8)}, "is no clip"),
        ({"shape": (1, 3, 5, 8, 8), "group": 0}, "lead 0, group 0, lookahead 0 cannot be; .* a group 1 or more"),
        ({"shape": (1, 3, 5, 8, 8), "lead": 2}, "lead 2, group 1, lookahead 0 cannot be; a lead is 0 or 1"),
        ({"shape": (1, 3, 5, 8, 8), "look_ahead": -1}, "a lookahead 0 or more"),
        (
            {"shape": (1, 3, 6, 8, 8), "lead": 1, "group": 4},
            "6 frames are not lead 1 and .* groups of 4; give 5 frames",
        ),
        ({"shape": (1, 3, 2, 8, 8), "group": 4}, "2 frames are not lead 0 and whole groups of 4; give 4 frames"),
    ],
)
def test_claims_that_cannot_be_are_refused(claims: dict[str, Any], told: str) -> None:
    with pytest.raises(TargetError, match=told) as caught:
        Claims(**claims)
    assert "\n" not in str(caught.value)


def test_claims_of_an_image_are_of_frames_one_by_one() -> None:
    claims = Claims((2, 3, 8, 6))
    assert claims.image
    assert claims.signal == Signal(3, lead=0, group=1)
    assert claims.frames == 3


@pytest.mark.parametrize("ahead", [0, 1])
def test_claimed_reach_is_that_of_groups(ahead: int) -> None:
    claims = Claims((1, 3, 5, 8, 8), lead=1, group=2, causal=True, look_ahead=ahead)
    claimed = claims.reach("encoder", claims.signal, Signal(4, lead=1, group=1))
    assert claimed is not None
    own, seen = [-1, 0, 1], [-1, 0, 0, 1, 1]
    assert claimed(5).tolist() == [[column <= row + ahead for column in seen] for row in own]


def test_claim_is_of_the_part_that_it_names() -> None:
    claims = Claims((1, 3, 5, 8, 8), causal="encoder")
    assert claims.reach("encoder", claims.signal, claims.signal) is not None
    assert claims.reach("decoder", claims.signal, claims.signal) is None
    assert Claims((1, 3, 5, 8, 8)).reach("layer", claims.signal, claims.signal) is None


# --------------------------------------------------------------------------- models of others


def test_function_is_a_layer() -> None:
    found = claimed_subject(lambda x: x.flip(3), Claims((1, 2, 3, 4, 6)), "flipped")
    (part,) = found.parts
    assert (found.name, part.name, found.model) == ("flipped", "layer", None)
    assert (part.given, part.out) == (Signal(2), Signal(2))
    x = part.clip(3)
    assert x.shape == (1, 2, 3, 4, 6)
    assert torch.equal(part.run(x), x.flip(3))


def test_module_is_taken_in_float64_and_eval() -> None:
    (part,) = claimed_subject(nn.Dropout(0.5).train(), Claims((1, 2, 3, 4, 4))).parts
    x = part.clip(3)
    assert torch.equal(part.run(x), x)
    (conv,) = claimed_subject(nn.Conv3d(2, 4, (1, 2, 2), (1, 2, 2)), Claims((1, 2, 3, 4, 4))).parts
    assert next(conv.module.parameters()).dtype == torch.float64
    assert conv.out == Signal(4, stride=Fraction(2))


def test_frames_of_what_comes_out_are_those_of_as_many_groups() -> None:
    halved = claimed_subject(lambda x: x[:, :, ::2], Claims((1, 2, 5, 4, 4), lead=1, group=2)).parts[0]
    assert (halved.out.lead, halved.out.group) == (1, 1)
    alone = claimed_subject(lambda x: x, Claims((1, 2, 1, 4, 4), lead=1, group=4)).parts[0]
    assert (alone.out.lead, alone.out.group) == (1, 1)


@pytest.mark.parametrize("shape", ["tensor", "latent_dist", "tuple"])
def test_model_with_encode_and_decode_has_three_parts(shape: str) -> None:
    class Pair(nn.Module):
        def encode(self, x: Tensor) -> Any:
            z = x[:, :2, :, ::2, ::2]
            given = {"tensor": z, "latent_dist": SimpleNamespace(latent_dist=SimpleNamespace(mean=z)), "tuple": (z, 1)}
            return given[shape]

        def decode(self, z: Tensor) -> Any:
            x = z[:, :1].repeat(1, 3, 1, 2, 2)
            return {"tensor": x, "latent_dist": SimpleNamespace(sample=x), "tuple": [x]}[shape]

    found = claimed_subject(Pair(), Claims((1, 3, 3, 4, 6)))
    assert [part.name for part in found.parts] == ["encoder", "decoder"]
    encoder, decoder = found.parts
    assert (encoder.given, encoder.out) == (Signal(3), Signal(2, stride=Fraction(2)))
    assert (decoder.given, decoder.size) == (Signal(2), (2, 3))
    assert found.model is not None
    x = found.model.clip(4)
    assert x.shape == (1, 3, 4, 4, 6)
    assert found.model.both(found.model.module, x).shape == x.shape
    assert decoder.run(encoder.run(x)).shape == x.shape


def test_image_model_takes_frames_one_by_one() -> None:
    class Images(nn.Module):
        def encode(self, x: Tensor) -> Any:
            assert x.ndim == 4
            return SimpleNamespace(latent_dist=SimpleNamespace(mean=x[:, :1] + x.shape[0]))

        def decode(self, z: Tensor) -> Any:
            assert z.ndim == 4
            return SimpleNamespace(sample=z.repeat(1, 3, 1, 1))

    found = claimed_subject(Images(), Claims((2, 3, 4, 4), causal=True))
    encoder = found.parts[0]
    x = torch.randn(2, 3, 5, 4, 4, dtype=torch.float64)
    assert torch.equal(encoder.run(x), x[:, :1] + 10), "all frames of all clips as one batch"
    assert torch.equal(encoder.run(x)[1, 0, 3], x[1, 0, 3] + 10)
    (accounting,) = verify(found, only=["accounting"])
    assert accounting.verdict == "holds"


@dataclass
class Odd:
    """Gives what it is told."""

    given: Any

    def __call__(self, x: Tensor) -> Any:
        return self.given(x)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (Odd(lambda x: None), "NoneType came out; give what maps `b c t h w` to `b c t h w`"),
        (Odd(lambda x: {"sample": x}), "dict came out"),
        (Odd(lambda x: x.sum()), r"a tensor of shape \(\) came out"),
        (Odd(lambda x: x.long()), r"a tensor of shape \(1, 3, 5, 8, 8\) came out"),
        (Odd(lambda x: x[0]), r"layer gives \(3, 5, 8, 8\) for \(1, 3, 5, 8, 8\); it must give a clip `b c t h w`"),
        (Odd(lambda x: torch.cat([x, x])), r"layer gives \(2, 3, 5, 8, 8\)"),
        (Odd(lambda x: x[:, :, :4]), "layer gives 4 frames for 5, which are no lead 0 and 5 groups; say another lead"),
        (Odd(lambda x: x[:, :, :0]), "layer gives 0 frames for 5"),
        (nn.Conv3d(4, 4, 1), "layer fails for a clip of shape .* RuntimeError: .*; give an input that it takes"),
        (SimpleNamespace(encode=1, decode=2), "has encode and decode and is no torch module; give an nn.Module"),
        (Odd(lambda x: 1 / 0), r"fails for a clip of shape \(1, 3, 5, 8, 8\): ZeroDivisionError"),
    ],
)
def test_target_that_is_no_model_of_clips_is_refused_in_one_line(target: Any, told: str) -> None:
    with pytest.raises(TargetError, match=told) as caught:
        claimed_subject(target, Claims((1, 3, 5, 8, 8)))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_wrong_lead_is_told_by_the_frames_that_come_out() -> None:
    claimed_subject(sound_groups(), Claims((1, 3, 5, 8, 8), lead=1, group=2))
    with pytest.raises(TargetError, match="encoder gives 3 frames for 5, which are no lead 1 and 4 groups"):
        claimed_subject(sound_groups(), Claims((1, 3, 5, 8, 8), lead=1, group=1))
    with pytest.raises(TargetError, match=r"encoder fails for a clip of shape .*ValueError: 8 frames"):
        claimed_subject(sound_groups(), Claims((1, 3, 8, 8, 8), lead=0, group=2))


def test_control_module_keeps_every_law_that_is_claimed() -> None:
    for made, group in ((sound, 1), (sound_groups, 2)):
        found = claimed_subject(made(), Claims((1, 3, 5, 8, 8), lead=1, group=group, causal=True))
        verdicts = {
            (finding.law, finding.part): finding for finding in verify(found, only=["reach", "kl", "accounting"])
        }
        assert {finding.verdict for finding in verdicts.values()} == {"holds", "not claimed"}
        held = {law for (law, _), finding in verdicts.items() if finding.verdict == "holds"}
        assert held == {"reach", "kl", "accounting"}


def test_parts_of_others_are_copies_and_ours_are_themselves() -> None:
    (theirs,) = claimed_subject(Sound(), Claims((1, 2, 3, 4, 4))).parts
    assert theirs.fresh().module is not theirs.module
    (ours,) = layer_subject(SoundSpec(), SIGNAL).parts
    assert ours.fresh() is ours


# --------------------------------------------------------------------------- layers and models of ours


def test_layer_is_one_part_with_what_its_spec_says() -> None:
    spec = CausalConv3dSpec(channels=6, stride=2)
    found = layer_subject(spec, SIGNAL)
    (part,) = found.parts
    assert (found.name, part.name, found.model) == ("causal_conv3d", "layer", None)
    assert (part.given, part.out) == (SIGNAL, spec.trace(SIGNAL))
    assert part.reach is not None
    assert np.array_equal(part.reach(5), spec.reach(SIGNAL, 5))
    assert part.exact
    assert part.ahead == 0
    assert next(part.module.parameters()).dtype == torch.float64


def test_clip_of_a_layer_has_two_cells_each_way() -> None:
    (part,) = layer_subject(SpatialDownsampleSpec(channels=4, kernel=3, factor=3), Signal(2, stride=Fraction(2))).parts
    assert part.size == (6, 6)
    assert part.clip(2, scale=2).shape == (1, 2, 2, 12, 12)


class EvenSpec(SoundSpec):
    """Takes an even number of groups."""

    kind: Literal["tests.even"] = "tests.even"  # type: ignore[assignment]

    def frames(self, signal: Signal, frames: int) -> int:
        if self.whole_groups(signal, frames) % 2:
            raise SpecError("an odd number of groups")
        return frames


def test_lengths_are_those_that_pass() -> None:
    (part,) = layer_subject(EvenSpec(), SIGNAL).parts
    assert [groups for groups in range(1, 7) if part.takes(groups)] == [2, 4, 6]
    assert part.lengths(5) == [2, 4]
    assert part.lengths(1) == [2], "the first one in any case"
    (other,) = claimed_subject(Sound(), Claims((1, 2, 3, 4, 4))).parts
    assert other.lengths(3) == [1, 2, 3]


def test_given_module_is_the_one_that_is_looked_at() -> None:
    module = Sound()
    (part,) = layer_subject(SoundSpec(), SIGNAL, module).parts
    assert part.module is module


def test_model_is_encoder_decoder_and_both() -> None:
    model = arch.wan(**SMALL["wan"]).build()
    found = model_subject(model)
    assert [part.name for part in found.parts] == ["encoder", "decoder"]
    assert found.model is not None
    assert (found.model.own, found.model.released) == (model, None)
    assert found.model.frames == model.spec.pixels.frames(2)
    assert found.parts[0].module is model.encoder
    assert found.name == model.spec.name
    x = found.model.clip(found.model.frames)
    assert found.model.both(model, x).shape == x.shape


def test_decoder_that_reads_an_image_gets_one() -> None:
    found = model_subject(arch.reducio(**SMALL["reducio"]).build())
    decoder = found.parts[1]
    z = decoder.clip(decoder.lengths(1)[0])
    assert torch.equal(decoder.run(z), decoder.run(z))
    assert found.model is not None
    alone = found.model.module.decoder(z)
    assert alone.shape == decoder.run(z).shape
    assert not torch.equal(alone, decoder.run(z))


@pytest.mark.parametrize("name", list(SMALL))
def test_small_architecture_is_built_in_no_time(name: str) -> None:
    with torch.device("meta"):
        model = getattr(arch, name)(**SMALL[name]).build()
    assert sum(p.numel() for p in model.parameters()) < 2e5
    assert set(RELEASED) <= set(SMALL)
