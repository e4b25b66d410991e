"""Renames of released checkpoints: there and back is bit for bit, and what does not fit is named."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vvae.checkpoint import digest
from vvae.errors import CheckpointError, SpecError
from vvae.published.renames import to_own, to_published
from vvae.published.table import Rename, place, published_shapes

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool]

# the rows that IV-VAE's names ask for, tried on the names and shapes of one block of each kind
IV_VAE = [
    Rename("encoder.downsamples.{i}.residual.0.gamma", "encoder.{i}.norm_a.weight", "view", shape=(0, 1, 1, 1)),
    Rename("encoder.downsamples.{i}.residual.2.", "encoder.{i}.conv_a."),
    Rename(
        "encoder.downsamples.{i}.shortcut.conv_3d.weight", "encoder.{i}.skip.3d.weight", "view", shape=(0, 0, 1, 1, 1)
    ),
    Rename("encoder.downsamples.{i}.shortcut.conv_{d}.{p}", "encoder.{i}.skip.{d}.{p}"),
    Rename("*.Attention_{d}.norm.gamma", "*.attend_{d}.norm.weight", "view", shape=(0, 1, 1)),
    Rename("*.Attention_{d}.to_qkv.{p}", "*.attend_{d}.to_qkv.{p}"),
]
IV_VAE_SHAPES = {
    "encoder.downsamples.3.residual.0.gamma": (128, 1, 1, 1),
    "encoder.downsamples.3.residual.2.conv_2d.weight": (8, 128, 3, 3),
    "encoder.downsamples.3.residual.2.conv_3d.weight": (8, 128, 3, 3, 3),
    "encoder.downsamples.3.residual.2.conv_3d.bias": (8,),
    "encoder.downsamples.3.shortcut.conv_2d.weight": (8, 4, 1, 1),
    "encoder.downsamples.3.shortcut.conv_3d.weight": (8, 4, 1, 1, 1),
    "encoder.downsamples.3.shortcut.conv_3d.bias": (8,),
    "encoder.middle.1.Attention_2d.norm.gamma": (16, 1, 1),
    "encoder.middle.1.Attention_2d.to_qkv.weight": (48, 16, 1, 1),
}
IV_VAE_OWN = {
    "encoder.3.norm_a.weight": (128,),
    "encoder.3.conv_a.conv_2d.weight": (8, 128, 3, 3),
    "encoder.3.conv_a.conv_3d.weight": (8, 128, 3, 3, 3),
    "encoder.3.conv_a.conv_3d.bias": (8,),
    "encoder.3.skip.2d.weight": (8, 4, 1, 1),
    "encoder.3.skip.3d.weight": (8, 4, 1, 1),
    "encoder.3.skip.3d.bias": (8,),
    "encoder.middle.1.attend_2d.norm.weight": (16,),
    "encoder.middle.1.attend_2d.to_qkv.weight": (48, 16, 1, 1),
}
QKV = Rename(("q.weight", "k.weight", "v.weight"), "to_qkv.weight", "cat")


def random_bits(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """Any bits at all, not-a-numbers among them."""
    width = torch.empty(0, dtype=dtype).element_size()
    high = 2 if dtype == torch.bool else 256
    draw = torch.Generator().manual_seed(seed)
    flat = torch.randint(0, high, (math.prod(shape) * width,), dtype=torch.uint8, generator=draw)
    return flat.view(dtype).reshape(shape)


def refusal(error: type[Exception], call: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(error) as caught:
        call(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- the law: to_published(to_own(x)) is x


@st.composite
def entries(draw: st.DrawFn, index: int) -> tuple[Rename, dict[str, tuple[int, ...]], str | None, tuple[int, ...]]:
    """A row for one tensor: (row, published names and shapes, own name, own shape)."""
    op = draw(st.sampled_from(["same", "prefix", "hole", "view", "join", "cat", "cat view", "extra"]))
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=0 if op in ("same", "extra") else 1, max_size=4)))
    theirs, ours = f"theirs.{index}.w", f"ours{index}.weight"
    match op:
        case "extra":
            return Rename(theirs, None), {theirs: shape}, None, shape
        case "same":
            return Rename(theirs, ours), {theirs: shape}, ours, shape
        case "prefix":
            return (
                Rename(f"theirs.{index}.", f"ours{index}."),
                {f"theirs.{index}.a.b": shape},
                f"ours{index}.a.b",
                shape,
            )
        case "hole":
            row = Rename(f"{{n}}.{index}.*", f"ours.*.{{n}}.{index}")
            return row, {f"they.{index}.a.b": shape}, f"ours.a.b.they.{index}", shape
        case "view":
            row = Rename(theirs, ours, "view", shape=(*[0] * len(shape), 1, 1))
            return row, {theirs: (*shape, 1, 1)}, ours, shape
        case "join":
            return Rename(theirs, ours, "view", shape=(-1,)), {theirs: (math.prod(shape),)}, ours, shape
    shares = tuple(draw(st.lists(st.integers(1, 3), min_size=2, max_size=4)))
    unit = shape[0]
    names = tuple(f"theirs.{index}.{part}" for part in "qkvo"[: len(shares)])
    tail = (1,) if op == "cat view" else ()
    rule = (*[0] * len(shape), 1) if op == "cat view" else None
    published = {name: (unit * share, *shape[1:], *tail) for name, share in zip(names, shares, strict=True)}
    return Rename(names, ours, "cat", rule, shares), published, ours, (unit * sum(shares), *shape[1:])


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 6))
def test_published_to_own_and_back_is_bit_for_bit(data: st.DataObject, count: int) -> None:
    drawn = [data.draw(entries(index)) for index in range(count)]
    table = data.draw(st.permutations([row for row, _, _, _ in drawn]))
    published = {
        name: random_bits(shape, dtype, seed)
        for seed, (_, shapes, _, _) in enumerate(drawn)
        for dtype in [data.draw(st.sampled_from(DTYPES))]
        for name, shape in shapes.items()
    }
    own_shapes = {own: shape for _, _, own, shape in drawn if own is not None}

    own, extras = to_own(table, published, own_shapes)
    assert {name: tuple(tensor.shape) for name, tensor in own.items()} == own_shapes
    assert extras.keys() == {name for row, shapes, _, _ in drawn if row.own is None for name in shapes}
    back = to_published(table, own, extras)
    assert digest(back) == digest(published)
    assert digest(to_own(table, back, own_shapes)[0]) == digest(own)


def test_the_law_sees_a_changed_order() -> None:
    published = {
        name: random_bits((2, 3), torch.float32, seed) for seed, name in enumerate(("q.weight", "k.weight", "v.weight"))
    }
    own, _ = to_own([QKV], published, {"to_qkv.weight": (6, 3)})
    assert torch.equal(own["to_qkv.weight"], torch.cat(list(published.values())))
    other = Rename(("k.weight", "q.weight", "v.weight"), "to_qkv.weight", "cat")
    assert digest(to_published([QKV], own)) == digest(published) != digest(to_published([other], own))


def test_an_export_needs_no_released_file() -> None:
    own = {"to_qkv.weight": random_bits((6, 3), torch.float32, 0)}
    own_shapes = {name: tensor.shape for name, tensor in own.items()}
    assert digest(to_own([QKV], to_published([QKV], own), own_shapes)[0]) == digest(own)


# ---- names and shapes


def test_rows_for_names_of_iv_vae_give_its_names_and_shapes() -> None:
    assert published_shapes(IV_VAE, IV_VAE_OWN) == IV_VAE_SHAPES
    published = {name: random_bits(shape, torch.float32, 0) for name, shape in IV_VAE_SHAPES.items()}
    own, extras = to_own(IV_VAE, published, IV_VAE_OWN)
    assert {name: tuple(tensor.shape) for name, tensor in own.items()} == IV_VAE_OWN
    assert extras == {}
    assert digest(to_published(IV_VAE, own)) == digest(published)


def test_the_first_row_that_fits_an_own_name_is_taken() -> None:
    special = Rename("x.gamma", "x.weight", "view", shape=(0, 1))
    assert published_shapes([special, Rename("*", "*")], {"x.weight": (3,)}) == {"x.gamma": (3, 1)}
    assert published_shapes([Rename("*", "*"), special], {"x.weight": (3,)}) == {"x.weight": (3,)}


def test_holes_hold_no_dot_and_a_star_anything() -> None:
    rows = [Rename("a.{i}", "b.{i}"), Rename("c.*", "b.*")]
    assert {own: place.published for own, place in place(rows, ["b.1", "b.1.2"]).items()} == {
        "b.1": ("a.1",),
        "b.1.2": ("c.1.2",),
    }
    assert place([Rename("{i}.x", "{i}.y.{i}")], ["7.y.7"])["7.y.7"].published == ("7.x",)
    assert "7.y.8" in refusal(SpecError, place, [Rename("{i}.x", "{i}.y.{i}")], ["7.y.8"])


def test_names_are_taken_as_they_are_outside_of_holes() -> None:
    assert "axb" in refusal(SpecError, place, [Rename("c", "a.b")], ["axb"])


@pytest.mark.parametrize(
    ("own", "rule", "published"),
    [
        ((4, 3), (0, 0, 1, 1, 1), (4, 3, 1, 1, 1)),
        ((4, 3, 5), (0, 0, 1, -1), (4, 3, 1, 5)),
        ((6, 4), (3, -1), (3, 8)),
        ((4, 3, 1, 1), (0, 0), (4, 3)),
        ((0, 3), (0, 0, 1), (0, 3, 1)),
        ((), (1,), (1,)),
    ],
)
def test_a_shape_rule_gives_the_published_shape(own: Any, rule: Any, published: Any) -> None:
    assert published_shapes([Rename("a", "b", "view", shape=rule)], {"b": own}) == {"a": published}


@pytest.mark.parametrize(("own", "rule"), [((4, 3), (0,)), ((4,), (0, 0)), ((5, 1), (2, -1)), ((4,), (5,))])
def test_a_shape_rule_that_does_not_fit_is_refused(own: Any, rule: Any) -> None:
    assert refusal(SpecError, published_shapes, [Rename("a", "b", "view", shape=rule)], {"b": own}).startswith(
        "b: shape"
    )


# ---- what is refused


def test_names_and_shapes_that_do_not_fit_are_all_named() -> None:
    published = {name: random_bits(shape, torch.float32, 0) for name, shape in IV_VAE_SHAPES.items()}
    published["encoder.middle.1.Attention_2d.norm.gama"] = published.pop("encoder.middle.1.Attention_2d.norm.gamma")
    published["encoder.downsamples.3.residual.0.gamma"] = torch.ones(128, 1, 1)
    message = refusal(CheckpointError, to_own, IV_VAE, published, IV_VAE_OWN, where="iv.pth")
    assert message.startswith("iv.pth: 1 missing: encoder.middle.1.Attention_2d.norm.gamma (nearest found: ")
    assert "1 unexpected: encoder.middle.1.Attention_2d.norm.gama " in message
    assert "encoder.downsamples.3.residual.0.gamma is 128x1x1, expected 128x1x1x1" in message


def test_extras_are_only_what_a_row_says() -> None:
    table, loss = [Rename("w", "weight"), Rename("loss.", None)], torch.ones(3)
    own, extras = to_own(table, {"w": loss, "loss.a.b": loss}, {"weight": (3,)})
    assert (list(own), list(extras)) == (["weight"], ["loss.a.b"])
    assert "1 unexpected: lost.a" in refusal(
        CheckpointError, to_own, table, {"w": loss, "lost.a": loss}, {"weight": (3,)}
    )
    for stray in ("lost.a", "w"):
        assert stray in refusal(CheckpointError, to_published, table, {"weight": loss}, {stray: loss})


def test_tensors_of_two_dtypes_are_not_joined() -> None:
    published = {"q.weight": torch.ones(2), "k.weight": torch.ones(2), "v.weight": torch.ones(2).half()}
    message = refusal(CheckpointError, to_own, [QKV], published, {"to_qkv.weight": (6,)})
    assert "torch.float16 and torch.float32" in message


def test_a_cat_that_cannot_be_split_is_refused() -> None:
    for shape in ((7, 3), ()):
        assert "to_qkv.weight" in refusal(SpecError, published_shapes, [QKV], {"to_qkv.weight": shape})


def test_a_table_that_cannot_be_reversed_is_refused() -> None:
    assert "no row" in refusal(SpecError, place, [Rename("a", "b")], ["c"])
    twice = [Rename("a", "b"), Rename("a", "c")]
    assert "published a would come from b and c" in refusal(SpecError, place, twice, ["b", "c"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("a.{i}", "b"),
        ("a", "b.{i}"),
        ("a.{i}", "b.{j}"),
        ("a.", "b"),
        ("*.a.*", "*.b.*"),
        (("a", "b"), "c"),
        (("a",), "c", "cat"),
        ("a", "b", "cat"),
        (("a.{i}", "b"), "c.{i}", "cat"),
        ("a", "b", "view"),
        ("a", "b", "same", (0, 1)),
        ("a", "b", "view", (-1, -1)),
        ("a", "b", "view", (-2,)),
        ("a", None, "view", (0,)),
        ("a", "b", "same", None, (1, 1)),
        (("a", "b"), "c", "cat", None, (1,)),
        (("a", "b"), "c", "cat", None, (1, 0)),
        ("a", "b", "transpose"),
    ],
)
def test_a_row_that_cannot_be_reversed_is_refused(arguments: Any) -> None:
    assert "cannot be reversed" in refusal(SpecError, Rename, *arguments)
