"""The rules of the releases by name."""

from __future__ import annotations

import pytest

from vvae import arch
from vvae.errors import TileError
from vvae.tiling import published
from vvae.tiling.presets import ARCHITECTURES, fitting, preset, rules

NAMES = {
    *(f"image_vae.{name}" for name in ("sd", "sd_ft_mse", "sdxl", "sd3")),
    *(f"od_vae.v1_{name}" for name in ("0", "1", "2", "2_scripts", "2_save_memory")),
    *("open_sora.v1_2", "reducio.release", "tae.code", "tae.paper", "wan.2.1"),
}


def test_every_release_has_its_presets() -> None:
    assert set(rules()) == NAMES
    for name in ARCHITECTURES:
        for release, rule in getattr(arch, name).tiling.items():
            assert preset(f"{name}.{release}") is rule
        assert preset(name) is next(iter(getattr(arch, name).tiling.values()))


@pytest.mark.parametrize(
    ("name", "near"), [("od_vae.v1_3", "od_vae.v1_"), ("", "image_vae.sd"), ("tea.code", "tae.code")]
)
def test_an_unknown_preset_is_refused_by_those_that_look_like_it(name: str, near: str) -> None:
    with pytest.raises(TileError) as caught:
        preset(name)
    assert near in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_presets_that_fit_a_model_are_those_that_it_accepts() -> None:
    for spec in (arch.od_vae(width=4, groups=2), arch.tae(widths=(8,) * 4, groups=2), arch.reducio("ft4")):
        model = spec.build() if spec.name.startswith("tae") else None
        own = spec.name.split("_")[0]
        assert any(name.startswith(own) for name in fitting(spec))
        for name, rule in rules().items() if model else ():
            if name in fitting(spec):
                assert published(model, rule)  # type: ignore[arg-type]
            else:
                with pytest.raises(TileError, match="as_published"):
                    published(model, rule)  # type: ignore[arg-type]
