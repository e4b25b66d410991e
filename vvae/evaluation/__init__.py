"""Evaluation that can be repeated: one pinned protocol, paired comparisons, latents' shift and scale.

Needs the `cli` extra.
"""

from vvae.evaluation.frechet import features_of, frechet_distance
from vvae.evaluation.moments import Moments
from vvae.evaluation.protocol import Protocol
from vvae.evaluation.results import Evaluation
from vvae.evaluation.run import evaluate
from vvae.evaluation.subjects import Subject, of_function, of_model

__all__ = [
    "Evaluation",
    "Moments",
    "Protocol",
    "Subject",
    "evaluate",
    "features_of",
    "frechet_distance",
    "of_function",
    "of_model",
]
