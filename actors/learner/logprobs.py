"""Log-probs and entropies straight from hidden states; never more than `chunk` rows of fp32 logits at a time.

    logits = f(h W^T) / temperature,  lse = logsumexp(logits)
    f(x) = cap * tanh(scale * x / cap), or scale * x without a cap    d f / d x = scale * (1 - (f / cap)^2)
    logprob_k = logits[k, target_k] - lse_k          d logprob / d logits = onehot - p
    entropy_k = lse_k - sum_v p_v logits_v           d entropy / d logits = -p (log p + entropy)

The backward pass computes the logits of a chunk again. The head is one module that is called once per forward, so the
hooks by which ZeRO-3 gathers its weight run once, whatever the number of chunks on this rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class LogitRule:
    """What a family does to the output of its last linear layer."""

    scale: float = 1.0
    cap: float | None = None


class LogprobHead(nn.Module):
    """Takes the place of a language model's output layer and shares its parameters (tied ones too).

    ``head(hidden[K, E], targets[K], temperature, entropy_grad)`` returns log-prob and entropy, fp32, [K] each. Both are
    of the temperature-scaled distribution. The entropy carries gradient only with `entropy_grad`. With `fp32` hidden
    states and weight are multiplied in fp32, so that no logit is rounded to bf16. ``head(hidden)`` is the output layer
    itself, for the model's own forward.
    """

    def __init__(self, linear: nn.Linear, chunk: int, rule: LogitRule = LogitRule(), fp32: bool = False) -> None:
        super().__init__()
        self.weight = linear.weight  # [V, E]
        self.bias = linear.bias  # [V] or None
        self.chunk, self.rule, self.fp32 = chunk, rule, fp32
        self.train(linear.training)

    def forward(
        self,
        hidden: Tensor,
        targets: Tensor | None = None,
        temperature: float = 1.0,
        entropy_grad: bool = False,
        sample_seed: int | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        """[K] log-probs of the targets and [K] entropies; with `sample_seed` [K] ids drawn by it, and nothing else;
        without targets the [..., V] plain outputs.
        """
        weight: Tensor = self.weight.float() if self.fp32 else self.weight
        bias = self.bias.float() if self.fp32 and self.bias is not None else self.bias
        hidden = hidden.to(weight.dtype)  # some backbones keep their residual stream in fp32
        settings = _Settings(temperature, self.chunk, entropy_grad, self.rule)
        if sample_seed is not None:
            logits = _logits(hidden, weight, bias, settings)
            generator = torch.Generator(logits.device).manual_seed(sample_seed)
            noise = torch.empty_like(logits).exponential_(generator=generator)
            return (torch.argmax(logits - noise.log_(), -1),)
        if targets is None:
            return nn.functional.linear(hidden, weight, bias)
        logprob, entropy = _ChunkedLogprob.apply(hidden, weight, bias, targets, settings)
        return logprob, entropy if entropy_grad else entropy.detach()


@dataclass(frozen=True, slots=True)
class _Settings:
    temperature: float
    chunk: int
    entropy_grad: bool
    rule: LogitRule


class _ChunkedLogprob(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 - autograd functions take positional arguments only
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        settings: _Settings,
    ) -> tuple[Tensor, Tensor]:
        lse = hidden.new_empty(len(hidden), dtype=torch.float32)
        logprob, entropy = torch.empty_like(lse), torch.empty_like(lse)
        for rows in _chunks(len(hidden), settings.chunk):
            logits = _logits(hidden[rows], weight, bias, settings)
            lse[rows] = torch.logsumexp(logits, -1)
            logprob[rows] = logits.gather(-1, targets[rows, None])[:, 0] - lse[rows]
            p = (logits - lse[rows, None]).exp_()
            entropy[rows] = lse[rows] - torch.linalg.vecdot(p, logits)
        ctx.save_for_backward(hidden, weight, bias, targets, lse, entropy)
        ctx.settings = settings
        return logprob, entropy

    @staticmethod
    def backward(ctx: Any, grad_logprob: Tensor, grad_entropy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        hidden, weight, bias, targets, lse, entropy = ctx.saved_tensors
        settings: _Settings = ctx.settings
        grad_hidden = torch.empty_like(hidden)
        # Partial sums stay in fp32: adding many bf16 chunks would lose the small ones.
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        grad_bias = None if bias is None else torch.zeros_like(bias, dtype=torch.float32)
        for rows in _chunks(len(hidden), settings.chunk):
            logits = _logits(hidden[rows], weight, bias, settings)
            slope = _slope(logits, settings)
            logp = logits.sub_(lse[rows, None])
            p = logp.exp()
            grad = p * -grad_logprob[rows, None]
            grad.scatter_add_(-1, targets[rows, None], grad_logprob[rows, None])
            if settings.entropy_grad:
                grad -= p * (logp + entropy[rows, None]) * grad_entropy[rows, None]
            grad *= slope
            if grad_bias is not None:
                grad_bias += grad.sum(0)
            grad = grad.to(hidden.dtype)
            grad_hidden[rows] = grad @ weight
            grad_weight += grad.T @ hidden[rows]
        bias_out = None if grad_bias is None else grad_bias.to(bias.dtype)
        return grad_hidden, grad_weight.to(weight.dtype), bias_out, None, None


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, settings: _Settings) -> Tensor:
    logits = nn.functional.linear(hidden, weight, bias).float()
    rule = settings.rule
    if rule.scale != 1.0:
        logits = logits.mul_(rule.scale)
    if rule.cap is not None:
        logits = logits.div_(rule.cap).tanh_().mul_(rule.cap)
    return logits if settings.temperature == 1.0 else logits.div_(settings.temperature)


def _slope(logits: Tensor, settings: _Settings) -> Tensor | float:
    """d logits / d (h W^T), from the logits."""
    rule = settings.rule
    if rule.cap is None:
        return rule.scale / settings.temperature
    return (1.0 - (logits * (settings.temperature / rule.cap)).square()) * (rule.scale / settings.temperature)


def _chunks(rows: int, chunk: int) -> list[slice]:
    return [slice(start, min(start + chunk, rows)) for start in range(0, rows, chunk)]
