"""The public names of `vvae.verify`, from where they stand."""

from vvae.verify.asserting import LawsError, assert_laws
from vvae.verify.clips import random_clip, split, stream, unrelated
from vvae.verify.findings import TOLERANCE, LawError, difference
from vvae.verify.laws import *  # noqa: F403
from vvae.verify.laws import __all__ as _laws
from vvae.verify.measure import TargetError, measure_field, measure_reach, receptive_field, tensor_of
from vvae.verify.subject import Claims, Model, Part, Subject, claimed_subject, layer_subject, model_subject
from vvae.verify.suite import EFFORTS, Finding, all_laws, check, verify
from vvae.verify.targets import target

__all__ = [
    *_laws,
    "EFFORTS",
    "TOLERANCE",
    "Claims",
    "Finding",
    "LawError",
    "LawsError",
    "Model",
    "Part",
    "Subject",
    "TargetError",
    "assert_laws",
    "check",
    "claimed_subject",
    "difference",
    "all_laws",
    "layer_subject",
    "measure_field",
    "measure_reach",
    "model_subject",
    "random_clip",
    "receptive_field",
    "split",
    "stream",
    "target",
    "tensor_of",
    "unrelated",
    "verify",
]
