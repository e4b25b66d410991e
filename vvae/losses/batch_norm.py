"""Batch norm whose statistics may be those of several processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vvae.losses.shared import Reduce, alone


class BatchNorm(nn.Module):
    """Batch norm of `b c ...` over all axes but the channels, of all processes together; weights N(1, 0.02), biases 0.

    As torch's own (momentum 0.1 of the running statistics, the unbiased variance among them), which runs wherever one
    process is alone. Mean and variance of several are taken in float32 or wider.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1, reduce: Reduce = alone) -> None:
        super().__init__()
        self.eps, self.momentum, self.reduce = eps, momentum, reduce
        self.weight = nn.Parameter(torch.empty(channels).normal_(1.0, 0.02))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.reduce is alone:
            kept = self.running_mean, self.running_var, self.weight, self.bias
            return F.batch_norm(x, *kept, self.training, self.momentum, self.eps)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        axes = [axis for axis in range(x.ndim) if axis != 1]
        count = self.reduce(wide.new_tensor(x.numel() / x.shape[1]))
        mean = self.reduce(wide.sum(axes, keepdim=True)) / count
        centred = wide - mean
        variance = self.reduce(centred.square().sum(axes, keepdim=True)) / count
        self._remember(mean.detach().flatten(), (variance * count / (count - 1).clamp(min=1)).detach().flatten())
        shape = mean.shape
        scale = (variance + self.eps).rsqrt() * self.weight.view(shape)
        return (centred * scale + self.bias.view(shape)).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var), self.momentum)
