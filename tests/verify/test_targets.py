"""What a name or an object stands for, and what is said where it stands for nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.models.tiny import tiny_model
from vvae import arch, verify
from vvae.autoencoder import VideoAutoencoder
from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.checkpoint import write_file
from vvae.errors import VvaeError
from vvae.layers import GroupCausalConv3dSpec
from vvae.models.names import architectures, variants
from vvae.models.released import as_published
from vvae.verify import TargetError, targets
from vvae.verify.small import RELEASED
from vvae.verify.subject import Subject
from vvae.verify.targets import Said, resolve

CLIP = (1, 3, 5, 4, 4)
NET = """
import sys
from torch import nn
from vvae.layers import GroupCausalConv3dSpec
from vvae.verify.small import SMALL
from vvae import arch

class Net(nn.Conv3d):
    def __init__(self):
        super().__init__(3, 4, 1)

class Needs(Net):
    def __init__(self, width):
        super().__init__()

class Pair:
    def encode(self, x): ...
    def decode(self, z): ...
    def __call__(self, x): ...

class nest:
    net = Net()

instance = Net()
layer = GroupCausalConv3dSpec(channels=4)
number = 3
pair = Pair()

def make(): return Net()
def spec(): return arch.wan(**SMALL["wan"])
def model(): return spec().build()
def twice(x): return 2 * x
def nothing(): return None
def fails(): raise RuntimeError("no weights\\nat all")
def leaves(): sys.exit(4)
def gives_none(x): return None
def sums(x): return x.sum()
def raises(x): raise RuntimeError("not today")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to be in, with net.py; what is imported from it is forgotten afterwards."""
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "broken.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "wrong.py").write_text("[].nothing\n")
    (tmp_path / "ends.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[VideoAutoencoderSpec]:
    """The specs that would have been built; a tiny model stands for each."""
    specs: list[VideoAutoencoderSpec] = []

    def note(spec: VideoAutoencoderSpec) -> VideoAutoencoder:
        specs.append(spec)
        return tiny_model()

    monkeypatch.setattr(targets, "_built", note)
    return specs


def names(subject: Subject) -> list[str]:
    return [part.name for part in subject.parts] + (["model"] if subject.model else [])


def weights(subject: Subject) -> Tensor:
    return torch.cat([value.flatten() for value in subject.parts[0].module.state_dict().values()])


@pytest.mark.parametrize("name", [*architectures(), *variants()])
def test_an_architecture_is_small_unless_it_is_asked_for_as_published(
    name: str, built: list[VideoAutoencoderSpec]
) -> None:
    small, of_small = resolve(name, Said()), built[-1]
    full, of_full = resolve(name, Said(), full_width=True), built[-1]
    head, _, variant = name.partition(":")
    assert of_full == getattr(arch, head)(variant or None)
    assert size(of_small) < 200_000 < 1_000_000 < size(of_full)
    assert small.subject.name == full.subject.name == name
    assert "small widths" in small.note
    assert "as published" in full.note


def size(spec: VideoAutoencoderSpec) -> int:
    with torch.device("meta"):
        return sum(value.numel() for value in spec.build().parameters())


def test_a_file_is_what_it_holds(here: Path) -> None:
    model = tiny_model()
    model.save("model.safetensors")
    Path("spec.json").write_text(model.spec.to_json())
    Path("layer.json").write_text(GroupCausalConv3dSpec(channels=4).to_json())
    Path("folder").mkdir()
    model.save("folder/model.safetensors")
    for name in ("model.safetensors", "folder"):
        assert torch.equal(weights(verify.target(name)), weights(verify.model_subject(tiny_model())))
    assert names(verify.target("spec.json")) == ["encoder", "decoder", "model"]
    layer = verify.target("layer.json", input=(1, 3, 5, 4, 4), lead=1, group=2)
    assert (names(layer), layer.parts[0].given.group) == (["layer"], 2)


def test_a_released_file_is_read_as_such(here: Path) -> None:
    for name in ("reducio", "wan"):
        model = getattr(arch, name)(**RELEASED[name]).build()
        model.save(f"{name}_own.safetensors")
        write_file(f"{name}.safetensors", dict(as_published(f"{name}_own.safetensors").tensors), {"format": "pt"})
        known = verify.target(f"{name}_own.safetensors")
        assert known.model is not None
        assert known.model.released is not None
    read, own = (verify.target(f"reducio{which}.safetensors") for which in ("", "_own"))
    assert torch.equal(weights(read), weights(own))
    with pytest.raises(VvaeError, match=r"choose variant=2.1; answer with vvae convert --choose"):
        verify.target("wan.safetensors")


@pytest.mark.parametrize("what", ["Net", "make", "instance", "nest.net", "twice"])
def test_what_has_no_spec_is_checked_by_what_is_claimed(what: str, here: Path) -> None:
    found = resolve(f"net:{what}", Said(CLIP, group=5, causal=True))
    assert (names(found.subject), found.subject.name) == (["layer"], f"net:{what}")
    assert found.subject.parts[0].given.group == 5
    assert found.claims is not None
    assert (found.claims.causal, found.claims.look_ahead) == (True, 0)


def test_a_look_ahead_says_that_all_else_is_causal(here: Path) -> None:
    claims = resolve("net:Net", Said(CLIP, look_ahead=2)).claims
    assert claims is not None
    assert (claims.causal, claims.look_ahead) == (True, 2)


@pytest.mark.parametrize("what", ["spec", "model"])
def test_what_makes_a_model_of_ours_needs_no_claims(what: str, here: Path) -> None:
    assert names(verify.target(f"net:{what}")) == ["encoder", "decoder", "model"]


def test_random_weights_are_the_same_every_time_and_draws_of_others_too(here: Path) -> None:
    torch.manual_seed(5)
    first = weights(verify.target("net:make", input=CLIP))
    drawn = torch.randn(3)
    torch.manual_seed(6)
    again = weights(verify.target("net:make", input=CLIP))
    torch.manual_seed(5)
    assert torch.equal(first, again)
    assert torch.equal(drawn, torch.randn(3))


@pytest.mark.parametrize("make", [lambda: nn.Conv3d(3, 4, 1), tiny_model])
def test_an_object_is_left_as_it_is(make: Callable[[], nn.Module]) -> None:
    module = make().train()
    said = {} if isinstance(module, VideoAutoencoder) else {"input": CLIP}
    subject = verify.target(module, **said)
    assert module.training
    assert {value.dtype for value in module.parameters()} == {torch.float32}
    assert {value.dtype for value in subject.parts[0].module.parameters()} == {torch.float64}


@pytest.mark.parametrize(
    ("what", "said", "message"),
    [
        ("wann", {}, "target 'wann' is unknown; near it: wan"),
        ("wan:3", {}, "variant '3' is unknown; near it: 2.1"),
        ("wan", {"input": CLIP, "look_ahead": 1}, "leave out --input, --lookahead"),
        ("net:spec", {"causal": True}, "leave out --causal"),
        ("net:layer", {"input": CLIP, "causal": True}, "leave out --causal"),
        ("net:twice", {"full_width": True}, "is no architecture by name; leave out --full-width"),
        ("net:twice", {}, "say what it takes with --input b,c,t,h,w"),
        ("net:twice", {"input": CLIP, "group": 2}, "5 frames are not lead 0 and whole groups of 2; give 4 frames"),
        ("net:twice", {"input": (1, 3, 5)}, "is no clip"),
        ("net:twise", {}, "in net 'twise' is unknown; near it: twice"),
        ("net:", {}, "is no package.module:object"),
        ("net.py", {}, "is Python; say what stands in it, as net:NAME"),
        ("net.py:twice", {}, "as net:NAME"),
        ("nothing_here:twice", {}, "No module named 'nothing_here'"),
        ("net:number", {"input": CLIP}, "is a int; give a module"),
        ("net:Needs", {"input": CLIP}, "is a class that needs arguments: Needs"),
        ("net:pair", {"input": CLIP}, "has encode and decode and is a Pair; give an nn.Module"),
        ("missing.json", {}, "cannot be read"),
        ("missing.safetensors", {}, "no such file"),
    ],
)
def test_a_bad_call_says_what_to_do(what: str, said: dict[str, object], message: str, here: Path) -> None:
    with pytest.raises(VvaeError, match=r".") as caught:
        verify.target(what, **said)  # type: ignore[arg-type]
    assert not isinstance(caught.value, TargetError)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("broken:Net", "broken cannot be imported: ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("wrong:Net", "wrong cannot be imported: AttributeError"),
        ("ends:Net", "ends cannot be imported: SystemExit: 3"),
        ("net:fails", "net:fails cannot be made: RuntimeError: no weights"),
        ("net:leaves", "net:leaves cannot be made: SystemExit: 4"),
        ("net:nothing", "net:nothing gives a NoneType when it is called"),
        ("net:gives_none", "NoneType came out"),
        ("net:sums", "a tensor of shape () came out"),
        ("net:raises", "RuntimeError: not today"),
    ],
)
def test_a_target_that_fails_is_told_apart_from_a_bad_call(what: str, message: str, here: Path) -> None:
    with pytest.raises(TargetError) as caught:
        verify.target(what, input=CLIP)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
