"""The default model's spec: its compression, its size, and that it streams."""

import torch

from vvae import verify
from vvae.models.small import vvae_small

MOST_BYTES = 8_000_000


def test_small_compresses_4x8x8_to_16_numbers():
    spec = vvae_small()
    assert spec.latent_shape(17, 64, 96) == (16, 5, 8, 12)
    assert spec.decoded_frames(5) == 17


def test_small_fits_into_its_file():
    with torch.device("meta"):
        count = sum(p.numel() for p in vvae_small().build().parameters())
    assert 2 * count + 50_000 < MOST_BYTES


def test_small_streams_and_sees_no_later_group():
    spec = vvae_small(encoder_width=8, decoder_width=8)
    assert spec.stream_limit("encode") is None
    assert spec.stream_limit("decode") is None
    assert not spec.dependency(9)[:5, 5:].any()
    assert not spec.dependency(9)[0, 1:].any()


def test_small_decodes_in_chunks_as_at_once():
    torch.manual_seed(0)
    model = vvae_small(encoder_width=8, decoder_width=8, decoder_blocks=2).build().double()
    video = torch.rand(1, 3, 13, 16, 16, dtype=torch.float64) * 2 - 1
    verify.check_model_stream(model, video, [1, 4, 8])
