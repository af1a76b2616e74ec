from __future__ import annotations

import pytest
import torch

from raylign.actors.learner.logprobs import LogprobHead

ROWS, WIDTH, VOCAB = 23, 16, 40


def test_an_fp32_head_rounds_no_logit_and_learns() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(32, 50, bias=False, dtype=torch.bfloat16)
    hidden, targets = torch.randn(9, 32).mul(20).bfloat16().requires_grad_(), torch.arange(9)
    exact = (hidden.double() @ linear.weight.double().T).log_softmax(-1)[torch.arange(9), targets]
    errors = []
    for fp32 in (False, True):
        logprob, _ = LogprobHead(linear, 4, fp32=fp32)(hidden, targets, 1.0, False)
        errors.append(float((logprob - exact).abs().max()))
    assert errors[1] < 1e-4 < 1e-3 < errors[0]
    logprob.sum().backward()
    assert linear.weight.grad.dtype == hidden.grad.dtype == torch.bfloat16 and linear.weight.grad.abs().sum() > 0


def setup(bias: bool, dtype: torch.dtype = torch.float64) -> tuple[torch.nn.Linear, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    linear = torch.nn.Linear(WIDTH, VOCAB, bias=bias, dtype=dtype)
    return linear, torch.randn(ROWS, WIDTH, dtype=dtype, requires_grad=True), torch.randint(0, VOCAB, (ROWS,))


def naive(linear: torch.nn.Linear, hidden: torch.Tensor, targets: torch.Tensor, temperature: float) -> tuple:
    logp = torch.log_softmax(linear(hidden) / temperature, -1)
    return logp.gather(-1, targets[:, None])[:, 0], -(logp.exp() * logp).sum(-1)


@pytest.mark.parametrize("chunk", [1, 7, 23, 1000])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_equal_the_naive_ones(chunk: int, temperature: float, bias: bool) -> None:
    linear, hidden, targets = setup(bias, torch.float32)
    exact_linear, exact_hidden, _ = setup(bias, torch.float64)
    exact_linear.load_state_dict(linear.state_dict())
    exact_hidden.data.copy_(hidden.data)
    logprob, entropy = LogprobHead(linear, chunk)(hidden, targets, temperature, True)
    wanted, wanted_entropy = naive(exact_linear, exact_hidden, targets, temperature)
    torch.testing.assert_close(logprob.double(), wanted, atol=2e-6, rtol=1e-6)
    torch.testing.assert_close(entropy.double(), wanted_entropy, atol=2e-6, rtol=1e-6)
    weights = torch.randn(2, ROWS)
    (weights[0] * logprob + weights[1] * entropy).sum().backward()
    (weights[0].double() * wanted + weights[1].double() * wanted_entropy).sum().backward()
    pairs = [(hidden.grad, exact_hidden.grad), (linear.weight.grad, exact_linear.weight.grad)]
    pairs += [(linear.bias.grad, exact_linear.bias.grad)] if bias else []
    for mine, theirs in pairs:
        torch.testing.assert_close(mine.double(), theirs, atol=5e-6, rtol=1e-5)


def test_entropy_is_detached_unless_asked_for() -> None:
    linear, hidden, targets = setup(False, torch.float32)
    logprob, entropy = LogprobHead(linear, 8)(hidden, targets, 1.0, False)
    assert logprob.requires_grad and not entropy.requires_grad


def test_no_rows() -> None:
    linear, hidden, targets = setup(True, torch.float32)
    logprob, entropy = LogprobHead(linear, 8)(hidden[:0], targets[:0], 1.0, False)
    assert logprob.shape == entropy.shape == (0,)
    logprob.sum().backward()
    assert torch.count_nonzero(linear.weight.grad) == 0


def test_bf16_accumulates_chunks_in_float32() -> None:
    linear, hidden, targets = setup(False, torch.bfloat16)
    logprob, _ = LogprobHead(linear, 2)(hidden, targets, 1.0, False)
    assert logprob.dtype == torch.float32
    logprob.sum().backward()
    exact, exact_hidden = linear.float(), hidden.detach().float().requires_grad_()
    got = linear.weight.grad.float().clone()
    exact.weight.grad = None
    naive(exact, exact_hidden, targets, 1.0)[0].sum().backward()
    assert (got - exact.weight.grad).norm() / exact.weight.grad.norm() < 0.02


def test_logits_are_never_held_for_more_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    linear, hidden, targets = setup(False, torch.float32)
    seen = []
    plain = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda h, w, b=None: (seen.append(len(h)), plain(h, w, b))[1])
    LogprobHead(linear, 8)(hidden, targets, 1.0, False)[0].sum().backward()
    assert seen == [8, 8, 7, 8, 8, 7]
