"""A recipe: everything that a training run is, as one TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt

from vvae.autoencoder_spec import VideoAutoencoderSpec
from vvae.errors import SpecError
from vvae.models.small import vvae_small
from vvae.spec import Spec
from vvae.training.pool import PoolSpec

RECIPES = Path(__file__).parent / "recipes"


class ModelFields(Spec):
    """The fields of `vvae_small` that a recipe sets."""

    encoder_width: PositiveInt = 160
    encoder_blocks: PositiveInt = 1
    decoder_width: PositiveInt = 176
    decoder_blocks: PositiveInt = 4

    def spec(self) -> VideoAutoencoderSpec:
        return vvae_small(**self.model_dump())


class LossFields(Spec):
    """Weights of the mean absolute and the mean squared error, and of each frame of a group."""

    l1: float = Field(1.0, ge=0)
    l2: float = Field(4.0, ge=0)
    positions: tuple[PositiveFloat, ...] = (1.0, 1.0, 1.0, 1.0)


class Recipe(Spec):
    """A training run. `steps` updates at `batch` pieces of `frames` frames and `crop` x `crop` pixels.

    The rate climbs over `warmup` steps and falls linearly to zero. `rate` is for the deep branches, `linear_rate` for
    the linear path and `vector_rate` for biases and norms. `average` is the decay of the averaged weights, which are
    what is saved. `precision` is that of the arithmetic; weights are float32 while training.
    """

    model: ModelFields = ModelFields()
    material: PoolSpec = PoolSpec(clips=1500)
    held_out: PoolSpec = PoolSpec(clips=24, size=128, held_out=True)
    loss: LossFields = LossFields()
    seed: int = 0
    steps: PositiveInt
    batch: PositiveInt = 3
    frames: PositiveInt = 17
    crop: PositiveInt = 96
    rate: PositiveFloat = 2e-3
    vector_rate: PositiveFloat = 2e-3
    linear_rate: PositiveFloat = 6e-5
    warmup: PositiveInt = 30
    average: float = Field(0.99, ge=0, lt=1)
    precision: str = Field("bfloat16", pattern="^(bfloat16|float32)$")
    floor_clips: PositiveInt = 400
    save_every: PositiveInt = 200
    judge_every: PositiveInt = 1000

    def factor(self, step: int) -> float:
        """What the rates are multiplied by at a step, counted from 0."""
        return min(1.0, (step + 1) / self.warmup) * (1 - step / self.steps)


def read(name: str | Path) -> Recipe:
    """The recipe in a TOML file, or one that ships with vvae, by its name (`vvae_small`).

    Raises:
        SpecError: no such recipe, no TOML, unknown fields, or values of a wrong type.
    """
    shipped = {file.stem: file for file in sorted(RECIPES.glob("*.toml"))}
    file = shipped.get(str(name), Path(name))
    try:
        return Recipe(**tomllib.loads(file.read_text()))
    except OSError:
        raise SpecError(f"no recipe {name}; give a TOML file or one of: {', '.join(shipped)}") from None
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{file} is no TOML: {error}") from None
