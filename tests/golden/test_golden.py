"""Our own recorded outputs still come out."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

from tests.golden.golden import FILE, MODELS, outputs
from vvae import verify


@pytest.mark.parametrize("name", list(MODELS))
def test_golden_outputs_come_out_again(name: str) -> None:
    recorded = load_file(FILE)
    for key, value in outputs(name).items():
        assert verify.difference(value, recorded[key]) <= 1e-10, key


def test_golden_file_holds_these_models_and_no_others() -> None:
    assert {key.partition(".")[0] for key in load_file(FILE)} == set(MODELS)
