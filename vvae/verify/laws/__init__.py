"""The laws as functions: each states its formula, returns a figure, and raises LawError with what it found."""

from vvae.verify.laws.blending import check_blended, check_units
from vvae.verify.laws.calls import (
    HALF_LIMIT,
    check_batch,
    check_bfloat16,
    check_compiled,
    check_layout,
    check_stateless,
    check_threads,
    check_untouched,
)
from vvae.verify.laws.learning import check_checkpointing, check_gradients, check_parameters
from vvae.verify.laws.models import (
    check_accounting,
    check_converted,
    check_kl,
    check_model_stream,
    check_restored,
    check_saved,
    check_spec_json,
)
from vvae.verify.laws.modes import check_modes
from vvae.verify.laws.noise import check_draw, check_noise
from vvae.verify.laws.pairs import check_filled, check_layer_json, check_scaling, check_undone
from vvae.verify.laws.space import check_halo, check_tiled, check_traced
from vvae.verify.laws.streams import check_empty, check_interleaved, check_kept, check_stream
from vvae.verify.laws.time import (
    check_first_frame,
    check_group_causal,
    check_padding,
    check_prefix,
    check_reach,
    check_shift,
    free_rows,
)

__all__ = [
    "HALF_LIMIT",
    "check_accounting",
    "check_batch",
    "check_bfloat16",
    "check_blended",
    "check_checkpointing",
    "check_compiled",
    "check_converted",
    "check_draw",
    "check_empty",
    "check_filled",
    "check_first_frame",
    "check_gradients",
    "check_group_causal",
    "check_halo",
    "check_interleaved",
    "check_kept",
    "check_kl",
    "check_layer_json",
    "check_layout",
    "check_model_stream",
    "check_modes",
    "check_noise",
    "check_padding",
    "check_parameters",
    "check_prefix",
    "check_reach",
    "check_restored",
    "check_saved",
    "check_scaling",
    "check_shift",
    "check_spec_json",
    "check_stateless",
    "check_stream",
    "check_threads",
    "check_tiled",
    "check_traced",
    "check_undone",
    "check_units",
    "check_untouched",
    "free_rows",
]
