from __future__ import annotations

import numpy as np
import pytest
import torch

from raylign.actors.learner.attention import Rule, SegmentTable, sdpa_segments, segment_attention

# a shared prompt of 5 with three continuations, a row on its own, and a prompt of 3 with one continuation of 1
SEGMENTS = np.array(
    [[0, 5, 0, 0], [5, 4, 0, 5], [9, 1, 0, 5], [10, 7, 0, 5], [17, 6, 0, 0], [23, 3, 0, 0], [26, 1, 23, 3]]
)
TOKENS, HEADS, KV_HEADS, DIM = 27, 4, 2, 8


def states(dtype: torch.dtype = torch.float32, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((HEADS, TOKENS, DIM), (KV_HEADS, TOKENS, DIM), (KV_HEADS, TOKENS, DIM))
    return [torch.randn(1, *shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def visible(window: int | None) -> torch.Tensor:
    """[M, M] what each token may see, written straight from the definition."""
    seen = torch.zeros(TOKENS, TOKENS, dtype=torch.bool)
    for start, length, prefix_start, prefix in SEGMENTS.tolist():
        for query in range(length):
            keys = [*range(prefix_start, prefix_start + prefix), *range(start, start + query + 1)]
            seen[start + query, keys if window is None else keys[-window:]] = True
    return seen


def dense(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, window: int | None) -> torch.Tensor:
    repeat = HEADS // KV_HEADS
    scores = q @ k.repeat_interleave(repeat, 1).transpose(-1, -2) * scale
    weights = torch.softmax(scores.masked_fill(~visible(window), float("-inf")), -1)
    return (weights @ v.repeat_interleave(repeat, 1)).transpose(1, 2)


@pytest.mark.parametrize("window", [None, 4])
def test_equals_dense_attention_with_gradients(window: int | None) -> None:
    table, module = SegmentTable(SEGMENTS), torch.nn.Identity()
    mine, theirs = states(), states()
    out, _ = segment_attention(module, *mine, None, scaling=0.3, segments=table, sliding_window=window)
    expected = dense(*theirs, scale=0.3, window=window)
    assert out.shape == (1, TOKENS, HEADS, DIM)
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-5)
    grad = torch.randn_like(out)
    out.backward(grad)
    expected.backward(grad)
    for left, right in zip(mine, theirs, strict=True):
        torch.testing.assert_close(left.grad, right.grad, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("window", [None, 4])
def test_the_portable_path_agrees(window: int | None) -> None:
    q, k, v = (tensor.detach()[0].transpose(0, 1) for tensor in states())
    out = sdpa_segments(q, k, v, SegmentTable(SEGMENTS), Rule(0.3, window))
    torch.testing.assert_close(out[None], dense(*states(), scale=0.3, window=window).detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("window", [None, 4])
def test_soft_caps_and_sinks(window: int | None) -> None:
    q, k, v = states()
    sinks = torch.linspace(-1, 1, HEADS)
    options = {"scaling": 0.9, "segments": SegmentTable(SEGMENTS), "sliding_window": window}
    out, _ = segment_attention(torch.nn.Identity(), q, k, v, None, softcap=0.5, s_aux=sinks, **options)
    scores = 0.5 * torch.tanh(q @ k.repeat_interleave(2, 1).transpose(-1, -2) * 0.9 / 0.5)
    scores = scores.masked_fill(~visible(window), float("-inf"))
    shares = torch.softmax(torch.cat([scores, sinks[None, :, None, None].expand(1, -1, TOKENS, 1)], -1), -1)
    expected = (shares[..., :-1] @ v.repeat_interleave(2, 1)).transpose(1, 2)
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-5)


def test_values_narrower_than_keys() -> None:
    q, k, v = states()
    out, _ = segment_attention(
        torch.nn.Identity(), q, k, v[..., :3], None, scaling=0.3, segments=SegmentTable(SEGMENTS)
    )
    torch.testing.assert_close(out, dense(q, k, v, 0.3, None)[..., :3], atol=1e-6, rtol=1e-5)


def test_bf16_runs() -> None:
    out, _ = segment_attention(torch.nn.Identity(), *states(torch.bfloat16), None, segments=SegmentTable(SEGMENTS))
    exact = dense(*states(), scale=DIM**-0.5, window=None)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), exact, atol=0.05, rtol=0.05)


def test_variable_length_tables() -> None:
    spans = SegmentTable(SEGMENTS).varlen(torch.device("cpu"))
    assert spans.query_ends.tolist() == [0, 5, 9, 10, 17, 23, 26, 27]
    assert spans.key_ends.tolist() == [0, 5, 14, 20, 32, 38, 41, 45]
    assert spans.key_index[5:14].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert spans.key_index[41:].tolist() == [23, 24, 25, 26]
    assert (spans.longest_query, spans.longest_key) == (7, 12)


def test_what_it_cannot_compute_is_refused() -> None:
    with pytest.raises(ValueError, match="does not hand the table of segments"):
        segment_attention(torch.nn.Identity(), *states(), None)
    for options in ({"position_bias": torch.zeros(1)}, {"is_causal": False}):
        with pytest.raises(ValueError, match="the attention of Identity is not causal or has a bias of its own"):
            segment_attention(torch.nn.Identity(), *states(), None, segments=SegmentTable(SEGMENTS), **options)
