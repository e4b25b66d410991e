"""The attention of a release that folds channels and frames into each other; here to compute what it computes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.nn import functional as F

from vvae import reach
from vvae.context import Context
from vvae.errors import SpecError
from vvae.layers.attention import FrameAttention
from vvae.layers.layer import fold_frames, split_axis, unfold_frames
from vvae.reach import Reach
from vvae.signal import Signal
from vvae.spec import LayerSpec


class MisfoldedAttention(FrameAttention):
    """FrameAttention with a defect: `b c t h w` is read as `(b t) c h w` without a permutation of c and t.

    Value i of the t*c values of a pixel, which is channel i//t of frame i%t, is taken for channel i%c of frame i//c, so
    that attention is within mixtures of all frames. For one frame it is right. Shape `b c t h w`, kept.
    Source: `AttnBlock3D` of OD-VAE's code (release v1.0); `AttnBlock3DFix` is FrameAttention.
    """

    whole_clip = True

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        shares = unfold_frames(self.qkv(fold_frames(x)), x.shape[0]).chunk(3, 1)
        q, k, v = (self._misfolded(share) for share in shares)
        y = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(x.shape)
        frames = fold_frames(y).contiguous(memory_format=torch.channels_last)
        return unfold_frames(self.out(frames), x.shape[0])

    def _misfolded(self, share: Tensor) -> Tensor:
        """`b c t h w` -> `(b t) heads (h w) c/heads`, contiguous."""
        batch, channels, frames = share.shape[:3]
        mixtures = share.reshape(batch * frames, channels, -1)
        return split_axis(mixtures, 1, self.heads, -1).transpose(2, 3).contiguous()


class MisfoldedAttentionSpec(LayerSpec):
    """Attention over the positions of each frame with a defect: channels and frames are folded into each other."""

    kind: Literal["misfolded_attention"] = "misfolded_attention"
    heads: PositiveInt = 1

    def trace(self, signal: Signal) -> Signal:
        if signal.channels % self.heads:
            raise SpecError(f"{signal.channels} channels cannot be shared by {self.heads} heads; take a divisor")
        return signal

    def build(self, signal: Signal) -> MisfoldedAttention:
        return MisfoldedAttention(signal.channels, self.heads)

    def reach(self, signal: Signal, frames: int) -> Reach:
        value = np.arange(frames * signal.channels)
        # of which frames the heads of the mixtures hold values
        held = np.zeros((frames * self.heads, frames), dtype=np.bool_)
        held[value // (signal.channels // self.heads), value % frames] = True
        return reach.then(held, held.T)

    def numbers_frames(self) -> bool:
        return True

    def stream_limit(self, signal: Signal) -> str:
        return "its attention folds the frames of the whole clip into each other"
