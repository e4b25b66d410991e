"""`vvae.load_published`: recognised, told by a config.json, or asked for; all else is one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import vvae
from tests.models.test_released import same
from vvae import CheckpointError, SpecError, checkpoint
from vvae.arch.image_vae import NAMINGS, image_vae, renames
from vvae.arch.tae import renames as tae_names
from vvae.arch.tae import tae
from vvae.autoencoder import VideoAutoencoder
from vvae.checkpoint import EXTRAS
from vvae.layers import ReLUSpec
from vvae.models.family import Choice, Family, Fields, Shapes
from vvae.models.recognise import FAMILIES, recognise, shapes_of
from vvae.models.released import as_published, from_published
from vvae.published.renames import to_published
from vvae.published.table import published_shapes

SMALL: dict[str, Any] = {"widths": (32, 64), "blocks": 1, "latent_channels": 3}
CONFIG = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.32.0",
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "latent_channels": 3,
    "scaling_factor": 0.7,
    "shift_factor": 0.25,
    "sample_size": 64,
    "force_upcast": True,
}


def small(**fields: Any) -> VideoAutoencoder:
    torch.manual_seed(0)
    return image_vae(**{**SMALL, **fields}).build()


def released(naming: str = "diffusers", **fields: Any) -> dict[str, Tensor]:
    model = small(**fields)
    return to_published(renames(model.spec, naming), model.state_dict())


def write(folder: Path, tensors: Mapping[str, Tensor], config: object = None) -> Path:
    checkpoint.write_file(folder / "x.safetensors", tensors, {})
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder / "x.safetensors"


def refusal(arch: str | None, path: Path, **choices: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        vvae.load_published(arch, path, **choices)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def scaling(model: VideoAutoencoder) -> tuple[Any, Any]:
    return model.spec.latent.scale, model.spec.latent.shift  # type: ignore[union-attr]


# ---- what tells


@pytest.mark.parametrize("arch", ["image_vae", None])
def test_a_model_comes_whole_and_ready(tmp_path: Path, arch: str | None) -> None:
    model = vvae.load_published(arch, write(tmp_path, released()), variant="sd3")
    assert same(dict(model.state_dict()), dict(small().state_dict()))
    assert not model.training
    assert scaling(model) == (1.5305, 0.0609)


def test_half_precision_is_read_wide_unless_asked(tmp_path: Path) -> None:
    file = write(tmp_path, {name: tensor.half() for name, tensor in released().items()})
    for dtype, wanted in ((None, torch.float32), (torch.float16, torch.float16)):
        model = vvae.load_published("image_vae", file, variant="sd", dtype=dtype)
        assert {parameter.dtype for parameter in model.parameters()} == {wanted}


@pytest.mark.parametrize("give", ["file", "folder"])
def test_a_config_tells_what_tensors_do_not(tmp_path: Path, give: str) -> None:
    fields = {"groups": 16, "act": ReLUSpec()}
    file = write(tmp_path, released(**fields), {**CONFIG, "norm_num_groups": 16, "act_fn": "relu"})
    model = vvae.load_published(None, file if give == "file" else tmp_path)
    wanted = small(**fields).spec
    assert (model.spec.encoder, model.spec.decoder) == (wanted.encoder, wanted.decoder)
    assert scaling(model) == (0.7, 0.25)


def test_a_config_of_diffusers_without_a_scale_means_its_default(tmp_path: Path) -> None:
    config = {name: value for name, value in CONFIG.items() if "factor" not in name}
    assert scaling(vvae.load_published(None, write(tmp_path, released(), config))) == (0.18215, 0.0)


def test_a_config_names_the_release(tmp_path: Path) -> None:
    spec = image_vae("sdxl")
    shapes = published_shapes(renames(spec), shapes_of(spec))
    for variant, scale in (("sd", 0.18215), ("sdxl", 0.13025), (None, 0.5)):
        found = recognise(shapes, "x", config={"scaling_factor": scale, "shift_factor": None})
        assert found.variant == variant
        assert found.spec.latent.scale == scale  # type: ignore[union-attr]
        assert "from config.json" in found.assumed


def test_what_is_said_comes_before_the_config(tmp_path: Path) -> None:
    file = write(tmp_path, released(), CONFIG)
    assert scaling(vvae.load_published(None, file, variant="sd3")) == (1.5305, 0.0609)


def test_a_config_of_another_class_tells_nothing(tmp_path: Path) -> None:
    file = write(tmp_path, released(), {"_class_name": "UNet2DConditionModel", "in_channels": 4})
    assert "choose variant=sd" in refusal(None, file)
    assert vvae.load_published(None, file, variant="sd")


CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({**CONFIG, "latent_channels": 4}, "says latent_channels 4, the tensors 3"),
    ({**CONFIG, "block_out_channels": [32, 32]}, "says widths (32, 32), the tensors (32, 64)"),
    ({**CONFIG, "act_fn": "mish"}, "cannot be used: activation 'mish' is unknown"),
    ({**CONFIG, "block_out_channels": 32}, "cannot be used: TypeError"),
    ({**CONFIG, "scaling_factor": "much"}, "it cannot be built: scale: Input should be a valid number"),
    ({"ddconfig": {"ch_mult": [1]}, "embed_dim": 3}, "cannot be used: KeyError"),
]


@pytest.mark.parametrize(("config", "message"), CONFIGS, ids=[message for _, message in CONFIGS])
def test_a_config_that_does_not_fit_is_refused(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    assert message in refusal(None, write(tmp_path, released(), config))


DDCONFIG = {
    "double_z": True,
    "z_channels": 3,
    "resolution": 64,
    "in_channels": 3,
    "ch": 32,
    "ch_mult": [1, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [],
}


@pytest.mark.parametrize(
    ("more", "message"), [({"give_pre_end": True}, "give_pre_end True"), ({"double_z": False}, "double_z False")]
)
def test_what_a_config_asks_for_and_cannot_be_had_is_refused(
    tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    file = write(tmp_path, released("compvis"), {"ddconfig": {**DDCONFIG, "give_pre_end": False}, "embed_dim": 3})
    assert vvae.load_published(None, file, variant="sd")
    write(tmp_path, released("compvis"), {"ddconfig": {**DDCONFIG, **more}, "embed_dim": 3})
    assert message in refusal(None, file, variant="sd")


# ---- what must be said


def test_another_architecture_than_said_is_refused(tmp_path: Path) -> None:
    assert "near it: image_vae" in refusal("image_va", write(tmp_path, released()))
    assert "no iv_vae; nearest is iv_vae with" in refusal("iv_vae", write(tmp_path, released()), variant="z4_dim64")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"variant": "sd4"}, "variant 'sd4' is unknown; near it: sd"),
        ({"varian": "sd"}, "the choice 'varian' is unknown; near it: variant"),
        ({"variant": "sd", "padding": "zero"}, "padding=zero: of image_vae the choice 'padding' is unknown"),
    ],
)
def test_a_choice_that_is_not_there_is_refused(tmp_path: Path, choices: dict[str, str], message: str) -> None:
    assert message in refusal(None, write(tmp_path, released()), **choices)


def test_a_release_of_other_shapes_is_refused() -> None:
    spec = image_vae("sd")
    shapes = published_shapes(renames(spec), shapes_of(spec))
    with pytest.raises(CheckpointError, match=r"not sd3; .*sd and sdxl have these shapes.*variant=sd or variant=sdxl$"):
        recognise(shapes, "x", answers={"variant": "sd3"})


def named(family: Family, variant: str) -> tuple[Shapes, Fields]:
    """The published names and shapes of a release, and the fields that they tell."""
    spec = family.make(variant)
    for naming in family.namings:
        try:
            shapes = published_shapes(family.renames(spec, naming), shapes_of(spec))
            return shapes, family.layout(shapes, naming)
        except (KeyError, SpecError):
            continue
    raise AssertionError(f"{family.architecture}:{variant} has no published names")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.architecture)
def test_a_choice_must_be_made_and_its_answers_are_listed(family: Family) -> None:
    for variant in family.variants:
        shapes, fields = named(family, variant)
        if not (open_ := family.choices(fields)):
            continue
        with pytest.raises(CheckpointError) as caught:
            recognise(shapes, "x", family.architecture)
        assert "\n" not in str(caught.value)
        for choice in open_:
            assert choice.about in str(caught.value)
            for answer, said in choice.options.items():
                assert f"{choice.name}={answer}" in str(caught.value)
                first = {other.name: next(iter(other.options)) for other in open_}
                found = recognise(shapes, "x", family.architecture, answers={**first, choice.name: answer})
                assert found.spec == family.make(found.variant, **said) if found.variant else said
            with pytest.raises(CheckpointError, match=f"{choice.name}=nonsense: 'nonsense' is unknown"):
                recognise(shapes, "x", family.architecture, answers={choice.name: "nonsense"})


def test_a_number_is_an_answer_where_any_is() -> None:
    choice = Choice("piece", "how long a piece is", {"17": {"piece": 17}, "none": {"piece": None}}, number="piece")
    assert choice.fields(17) == choice.fields("17") == {"piece": 17}
    assert choice.fields(None) == choice.fields("none") == {"piece": None}
    assert choice.fields("9") == {"piece": 9}
    for wrong in ("0", "-1", "1.5", "x", "\u00b2", True, ""):
        with pytest.raises(CheckpointError, match="choose piece=17 or piece=none or another number"):
            choice.fields(wrong)


# ---- what is kept


def test_tensors_without_a_function_are_saved_with_the_model_and_exported(tmp_path: Path) -> None:
    """A model that was read, saved, read and saved again gives the released checkpoint back, bit for bit."""
    spec = tae("zero", widths=(32, 32), blocks=1, latent_channels=4, temporal_down=(0,), temporal_up=(1,))
    published = to_published(tae_names(spec), spec.build().state_dict())
    unused = {f"encoder.mid.block_1.temb_proj.{end}": torch.rand(3, dtype=torch.float64) for end in ("weight", "bias")}
    model = vvae.load_published("tae", write(tmp_path, {**published, **unused}), padding="zero")
    assert same(model.published_extras, unused)
    for name in ("once.safetensors", "twice.safetensors"):
        model.save(tmp_path / name)
        model = vvae.load(tmp_path / name)
        assert same(model.published_extras, unused)
        assert same(as_published(tmp_path / name).tensors, {**published, **unused})


def test_training_is_dropped_and_told(tmp_path: Path) -> None:
    training = {"loss.logvar": torch.zeros(()), "model_ema.decay": torch.zeros(()), "loss.perceptual.w": torch.ones(3)}
    done = from_published(write(tmp_path, {**released("compvis"), **training}), variant="sd")
    assert not [name for name in done.tensors if name.startswith(EXTRAS)]
    assert done.source is not None
    assert {(left.names, left.count) for left in done.source.left_out} == {("loss.", 2), ("model_ema.", 1)}


def test_a_whole_diffusion_model_is_cut_to_its_autoencoder(tmp_path: Path) -> None:
    tensors = {f"first_stage_model.{name}": tensor for name, tensor in released("compvis").items()}
    others = {
        "model.diffusion_model.out.weight": torch.ones(2),
        "cond_stage_model.w": torch.ones(2),
        "betas": torch.ones(2),
    }
    done = from_published(write(tmp_path, {**tensors, **others}), variant="sd")
    assert same(dict(vvae.load_published(None, tmp_path, variant="sd").state_dict()), dict(small().state_dict()))
    assert done.source is not None
    assert [left.names for left in done.source.left_out] == ["cond_stage_model.", "model.", "others"]


def test_what_is_unknown_is_refused_by_the_nearest_name(tmp_path: Path) -> None:
    file = write(tmp_path, {**released(), "decoder.conv_inn.bias": torch.zeros(64)})
    assert "1 unexpected: decoder.conv_inn.bias (nearest expected: decoder.conv_in.bias)" in refusal(None, file)


@pytest.mark.parametrize("naming", NAMINGS)
def test_a_naming_is_exported_as_asked(tmp_path: Path, naming: str) -> None:
    small().save(tmp_path / "own.safetensors")
    done = as_published(tmp_path / "own.safetensors", naming)
    assert done.recognised.naming == naming
    assert same(done.tensors, released(naming))
    with pytest.raises(CheckpointError, match="naming 'compviz' is unknown; near it: compvis"):
        as_published(tmp_path / "own.safetensors", "compviz")


# ---- damage


@given(data=st.data())
def test_a_damaged_checkpoint_gives_one_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Tensors lost, added, renamed or of another shape: refused in one line, or (an attention less) another model."""
    tensors = dict(PLAIN)
    name = data.draw(st.sampled_from(sorted(tensors)))
    match data.draw(st.sampled_from(["lost", "added", "renamed", "reshaped", "cut"])):
        case "lost":
            del tensors[name]
        case "added":
            tensors[data.draw(st.sampled_from([f"{name}2", "foreign.weight", f"module.{name}"]))] = torch.zeros(2)
        case "renamed":
            tensors[name.replace("conv", "cnv").replace("norm", "nrm").replace("to_", "t_")] = tensors.pop(name)
        case "reshaped":
            tensors[name] = torch.zeros(*tensors[name].shape, 2)
        case "cut":
            tensors = {key: tensors[key] for key in sorted(tensors)[: data.draw(st.integers(0, len(tensors) - 5))]}
    file = tmp_path_factory.mktemp("damaged") / "x.safetensors"
    checkpoint.write_file(file, tensors, {})
    refusal(data.draw(st.sampled_from(["image_vae", None])), file, variant="sd")


@given(data=st.data())
def test_a_truncated_file_gives_one_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    file = tmp_path_factory.mktemp("truncated") / data.draw(st.sampled_from(["x.safetensors", "x.ckpt"]))
    checkpoint.write_file(file, PLAIN, {}) if file.suffix == ".safetensors" else torch.save(PLAIN, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    refusal(None, file, variant="sd")


PLAIN = released()
