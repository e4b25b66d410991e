"""A causal convolution that runs some frames at a time gives what it gives at once."""

from __future__ import annotations

import pytest
import torch

from vvae import verify
from vvae.layers import CausalConv3d, conv
from vvae.signal import Signal


@pytest.mark.parametrize("at_once", [1, 2, 5])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2},
        {"stride": 2, "lead": 0},
        {"dilation": 2},
        {"before": "zero"},
        {"kernel": (2, 3, 3)},
        {"kernel": (1, 3, 3)},
        {"kernel": (1, 1, 1), "stride": 2, "lead": 0},
        {"kernel": (4, 1, 1), "stride": 4},
    ],
    ids=str,
)
def test_parts_are_the_whole(options: dict[str, object], at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = CausalConv3d(4, 6, **options).double()  # type: ignore[arg-type]
    signal = Signal(4, lead=int(options.get("lead", 1)), group=4)  # type: ignore[call-overload]
    x = verify.random_clip(signal, signal.frames(4), 5, 6, batch=2)
    whole = layer(x).detach()
    monkeypatch.setattr(conv, "AT_ONCE", at_once * 30)
    with torch.no_grad():
        assert verify.difference(layer(x), whole) <= 1e-14
        for plan in ([1, 3], [2, 0, 2]):
            chunks = verify.stream(layer, verify.split(x, signal, plan))
            assert verify.difference(torch.cat(chunks, 2), whole) <= 1e-14


def test_parts_keep_the_layout() -> None:
    layer, x = CausalConv3d(8, 8), torch.randn(1, 8, 9, 96, 96).contiguous(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        assert layer(x).is_contiguous(memory_format=torch.channels_last_3d)
