"""Published architectures in small widths: the same layers and the same truths in time, a thousandth of the work."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_OD_VAE = {"width": 4, "groups": 2, "blocks": 1, "latent_channels": 3}
_OPEN_SORA = {"width": 4, "blocks": 1, "groups": 2, "spatial": {"widths": (4, 4), "blocks": 1, "groups": 2}}
SMALL: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "image_vae": {"widths": (4, 8), "blocks": 1, "groups": 2},
        "iv_vae": {"width": 4, "latent_channels": 4, "blocks": 1, "multipliers": (1, 2, 2), "temporal": (True, True)},
        "od_vae": _OD_VAE,
        "od_vae_streaming": _OD_VAE,
        "open_sora": {**_OPEN_SORA, "piece": 17, "at_once": 6},
        "open_sora_causal": _OPEN_SORA,
        "reducio": {
            "widths": (4, 4, 4),
            "content_widths": (4, 4, 4),
            "blocks": 1,
            "content_blocks": 1,
            "groups": 2,
            "heads": 2,
            "latent_channels": 4,
            "time_halvings": 1,
            "frames": 8,
            "fuse": (1, 2, None),
            "fuse_by": ("attention", "attention", None),
        },
        "tae": {
            "widths": (4, 8),
            "blocks": 1,
            "groups": 2,
            "latent_channels": 4,
            "temporal_down": (0,),
            "temporal_up": (1,),
        },
        "wan": {"width": 4, "multipliers": (1, 2), "blocks": 1, "temporal": (True,)},
    }
)
"""Architecture -> fields of its spec function for a small one."""

RELEASED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "image_vae": {"widths": (32, 64), "blocks": 1},
        "iv_vae": {"width": 4, "latent_channels": 4},
        "od_vae": {"width": 32, "blocks": 1},
        "open_sora": {"width": 32, "blocks": 1, "spatial": {"widths": (32, 32), "blocks": 1}, "piece": 17},
        "reducio": {"widths": (32,) * 6, "content_widths": (32,) * 4, "blocks": 1, "content_blocks": 1},
        "tae": {"widths": (32, 32), "blocks": 1, "latent_channels": 4, "temporal_down": (0,), "temporal_up": (1,)},
        "wan": {"width": 4, "multipliers": (1, 2), "blocks": 1, "temporal": (True,)},
    }
)
"""The same as narrow as the published code computes them (it norms 32 groups of channels)."""
