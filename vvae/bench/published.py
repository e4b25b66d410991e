"""What the published code of an architecture takes, measured once beside U on a machine of two cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vvae.bench.work import Size

PEAK = 0.6
"""Of the published peak a model may take so much."""


@dataclass(frozen=True)
class Published:
    """Seconds of encoding and decoding one clip of `size`, in U, float32; and the peak above the model in MiB."""

    size: Size
    encode: float
    decode: float
    peak: int | None


PUBLISHED: Mapping[str, Published] = {
    "iv_vae_z16_dim64": Published((17, 128, 128), 0.79, 1.37, 750),
    "od_vae_v1_2": Published((17, 128, 128), 0.68, 2.39, 1390),
    "open_sora_v1_2": Published((17, 128, 128), 0.78, 1.21, 410),
    "reducio_ft4": Published((16, 128, 128), 0.93, 2.41, 1080),
    "tae_zero": Published((16, 128, 128), 0.6, 1.2, None),
}
"""By the name of a spec."""
