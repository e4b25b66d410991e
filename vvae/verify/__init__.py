"""Laws that layers and models keep, to point at ours or at your own. `strategies` needs hypothesis."""

from vvae.verify.laws import (
    LawError,
    check_checkpointing,
    check_empty,
    check_group_causal,
    check_interleaved,
    check_layout,
    check_prefix,
    check_reach,
    check_shape,
    check_stateless,
    check_stream,
    check_threads,
    difference,
    random_clip,
    split,
    stream,
)

__all__ = [
    "LawError",
    "check_checkpointing",
    "check_empty",
    "check_group_causal",
    "check_interleaved",
    "check_layout",
    "check_prefix",
    "check_reach",
    "check_shape",
    "check_stateless",
    "check_stream",
    "check_threads",
    "difference",
    "random_clip",
    "split",
    "stream",
]
