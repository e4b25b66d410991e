"""The Fréchet distance between clips and their reconstructions, over features of the user's choice."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from vvae.errors import VvaeError
from vvae.evaluation.moments import Moments

Features = Callable[[Tensor], Tensor]
"""From clips `b 3 t h w` in [-1, 1] to their features `b d`."""


def frechet_distance(a: Moments, b: Moments) -> float:
    """|mean - mean|^2 + tr(A + B - 2 (A B)^(1/2)), A and B the unbiased covariances; 0 where both are the same.

    As FID and FVD it is the squared distance of two normal distributions, and too large for few clips: compare figures
    of the same clips only.

    Source: Dowson and Landau 1982, equation 4; Heusel et al., arXiv:1706.08500, section 4.
    Errors: VvaeError for features of two sizes, or fewer than two vectors.
    """
    if a.mean.shape != b.mean.shape:
        raise VvaeError(f"features of {len(a.mean)} and of {len(b.mean)} numbers; take one function for both")
    one, two = _root(a.covariance()), _root(b.covariance())
    shared = torch.linalg.svdvals(one @ two).sum()
    spread = one.square().sum() + two.square().sum() - 2 * shared
    return max(0.0, float((a.mean - b.mean).square().sum() + spread))


def features_of(clips: Iterable[Tensor], features: Features) -> Moments:
    """Mean and covariance of the features of clips `b 3 t h w` in [-1, 1].

    Errors: VvaeError where the function gives something else than `b d`, finite, or there is no clip.
    """
    found: Moments | None = None
    for clip in clips:
        new = Moments.of(checked(features(clip), len(clip)))
        found = new if found is None else found.merged(new)
    if found is None:
        raise VvaeError("no clip to take features of; give two or more")
    return found


def checked(found: object, clips: int) -> Tensor:
    """Features `b d` of so many clips, or a VvaeError that says what they are instead."""
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != clips:
        told = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise VvaeError(f"the features of {clips} clips are {told}; the function must give a tensor {clips} x d")
    if not torch.isfinite(found).all():
        raise VvaeError("the features hold values that are not finite; check the function")
    return found


def _root(covariance: Tensor) -> Tensor:
    """The symmetric square root; what rounding made negative counts as zero."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
