"""Attention over a packed row of segments: no padding, no M x M mask.

A segment ``(start, length, prefix_start, prefix_length)`` of a micro-batch attends causally to itself and fully to its
prefix (see `raylign.packing`). The function is registered with transformers' `AttentionInterface` under `NAME`; the
table of segments travels as the keyword argument ``segments`` of the backbone's forward, which transformers models hand
down to their attention layers (gradient checkpointing included).

Four kernels, all exact:
- CPU: the flash kernel of PyTorch, segment by segment, inside one autograd function. Autograd over slices and
  concatenations costs twice the kernels themselves for short segments.
- CUDA, half precision: one variable-length flash call on gathered keys and values.
- soft-capped scores and attention sinks: the formula itself, segment by segment (the scores of one are held).
- anything else: scaled_dot_product_attention, segment by segment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import AttentionInterface

NAME = "raylign_segments"

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True, slots=True, kw_only=True)
class Varlen:
    """The segments as the variable-length kernel wants them, on the device."""

    key_index: Tensor  # [Tk] packed positions whose keys and values each segment reads, prefix first
    query_ends: Tensor  # [S + 1] int32 cumulative lengths
    key_ends: Tensor  # [S + 1] int32
    longest_query: int
    longest_key: int


@dataclass(frozen=True, slots=True)
class Rule:
    """What one attention layer asks for."""

    scale: float
    window: int | None  # keys that a query may look back on, its own included; None: all
    softcap: float | None = None  # scores become cap * tanh(score / cap)
    sinks: Tensor | None = None  # [H] a score per head that takes its share of the softmax and has no value


class SegmentTable:
    """The segments of one micro-batch, prepared once and used by every layer.

    rows: [S, 4] integers (start, length, prefix_start, prefix_length) that cover 0..M without gaps.
    """

    def __init__(self, rows: NDArray[np.int64]) -> None:
        self.rows: list[tuple[int, int, int, int]] = [tuple(map(int, row)) for row in rows]  # type: ignore[misc]
        self.longest = max(length for _, length, _, _ in self.rows)
        self.longest_prefix = max(prefix for _, _, _, prefix in self.rows)
        self._bias: dict[tuple[torch.dtype, str, int | None], Tensor] = {}
        self._varlen: Varlen | None = None

    def bias(self, like: Tensor, length: int, prefix: int, window: int | None) -> Tensor:
        """[length, prefix + length] additive mask: query i sees keys up to prefix + i (within the window, if any).

        One band of the longest size is made; a segment's mask is a slice of it, shifted by its prefix.
        """
        key = (like.dtype, str(like.device), window)
        if key not in self._bias:
            columns = self.longest_prefix + self.longest
            query = torch.arange(self.longest, device=like.device)[:, None] + self.longest_prefix
            ahead = torch.arange(columns, device=like.device)[None, :] - query
            hidden = ahead > 0 if window is None else (ahead > 0) | (ahead <= -window)
            band = torch.zeros(self.longest, columns, dtype=like.dtype, device=like.device)
            self._bias[key] = band.masked_fill_(hidden, float("-inf"))
        shift = self.longest_prefix - prefix
        return self._bias[key][:length, shift : self.longest_prefix + length]

    def mask(self, like: Tensor, length: int, prefix: int, window: int | None) -> Tensor | None:
        """The bias, or None where a plain causal kernel does the same."""
        if prefix == 0 and (window is None or length <= window):
            return None
        return self.bias(like, length, prefix, window)

    def varlen(self, device: torch.device) -> Varlen:
        """Gather indices and cumulative lengths for the variable-length kernel."""
        if self._varlen is None:
            spans = []
            for start, length, prefix_start, prefix in self.rows:
                spans += [np.arange(prefix_start, prefix_start + prefix), np.arange(start, start + length)]
            lengths = np.array([row[1] for row in self.rows])
            keys = lengths + np.array([row[3] for row in self.rows])
            self._varlen = Varlen(
                key_index=torch.from_numpy(np.concatenate(spans)).to(device),
                query_ends=_ends(lengths, device),
                key_ends=_ends(keys, device),
                longest_query=int(lengths.max()),
                longest_key=int(keys.max()),
            )
        return self._varlen


def segment_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' attention signature. query: [1, H, M, D], key and value: [1, Hkv, M, D]; returns [1, M, H, D].

    Dropout is not applied: log-prob ratios need the same function in every pass. Values may be narrower or wider than
    keys (latent attention). Raises ValueError for a call without ``segments`` and for attention that is not causal or
    has a bias of its own.
    """
    table, scale = options.get("segments"), options.get("scaling")
    if not isinstance(table, SegmentTable):
        raise ValueError(f"{type(module).__name__} does not hand the table of segments to its attention")
    if options.get("position_bias") is not None or options.get("is_causal") is False:
        raise ValueError(f"the attention of {type(module).__name__} is not causal or has a bias of its own")
    rule = Rule(
        query.shape[-1] ** -0.5 if scale is None else scale,
        options.get("sliding_window"),
        options.get("softcap"),
        options.get("s_aux"),
    )
    width = value.shape[-1]
    q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))  # [M, H, D]
    if rule.sinks is not None or rule.softcap is not None:
        return formula_segments(q, k, v, table, rule)[None], None
    if width != query.shape[-1]:
        q, k, v = _same_width(q, k, v)
    if q.device.type == "cpu":
        out = _CpuSegments.apply(q, k, v, table, rule)
    elif q.device.type == "cuda" and q.dtype in (torch.bfloat16, torch.float16):
        out = _varlen_segments(q, k, v, table, rule)
    else:
        out = sdpa_segments(q, k, v, table, rule)
    return out[None, ..., :width], None


def formula_segments(q: Tensor, k: Tensor, v: Tensor, table: SegmentTable, rule: Rule) -> Tensor:
    """[M, H, Dv] by the formula, with everything that a rule may ask for. Any device and dtype."""
    parts = []
    repeat = q.shape[1] // k.shape[1]
    for start, length, prefix_start, prefix in table.rows:
        keys, values = (
            _heads_first(_with_prefix(states, start, length, prefix_start, prefix), repeat)[0] for states in (k, v)
        )
        scores = (q[start : start + length].transpose(0, 1) @ keys.transpose(-1, -2)).float() * rule.scale
        if rule.softcap is not None:
            scores = torch.tanh(scores / rule.softcap) * rule.softcap
        scores = scores + table.bias(scores, length, prefix, rule.window)
        if rule.sinks is not None:
            column = rule.sinks.float()[:, None, None].expand(-1, length, 1)
            scores = torch.cat([scores, column], -1)
        shares = torch.softmax(scores, -1)[..., : prefix + length].to(v.dtype)
        parts.append((shares @ values).transpose(0, 1))
    return torch.cat(parts)


def _same_width(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Zeros added to the narrower of keys and values: they change neither scores nor the other columns."""
    width = max(q.shape[-1], v.shape[-1])
    padded = (F.pad(states, (0, width - states.shape[-1])) for states in (q, k, v))
    return tuple(padded)  # type: ignore[return-value]


def sdpa_segments(q: Tensor, k: Tensor, v: Tensor, table: SegmentTable, rule: Rule) -> Tensor:
    """[M, H, D] by one scaled_dot_product_attention per segment, differentiated by autograd. Any device and dtype."""
    parts = []
    repeat = q.shape[1] // k.shape[1]
    for start, length, prefix_start, prefix in table.rows:
        keys, values = (
            _heads_first(_with_prefix(states, start, length, prefix_start, prefix), repeat) for states in (k, v)
        )
        mask = table.mask(q, length, prefix, rule.window)
        queries = q[start : start + length].transpose(0, 1)[None]
        out = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=mask is None, scale=rule.scale
        )
        parts.append(out[0].transpose(0, 1))
    return torch.cat(parts)


def _varlen_segments(q: Tensor, k: Tensor, v: Tensor, table: SegmentTable, rule: Rule) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    spans = table.varlen(q.device)
    return varlen_attn(  # type: ignore[return-value]
        q.contiguous(),
        k.index_select(0, spans.key_index),
        v.index_select(0, spans.key_index),
        spans.query_ends,
        spans.key_ends,
        spans.longest_query,
        spans.longest_key,
        scale=rule.scale,
        # (w, 0): causal, aligned to the last key, with w keys to the left
        window_size=(-1 if rule.window is None else rule.window - 1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )


class _CpuSegments(torch.autograd.Function):
    """PyTorch's CPU flash kernel per segment, forward and backward, with results written in place."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd functions take positional arguments only
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, table: SegmentTable, rule: Rule
    ) -> Tensor:
        out = q.new_empty(q.shape)
        repeat = q.shape[1] // k.shape[1]
        saved: list[tuple[Tensor, ...]] = []
        for start, length, prefix_start, prefix in table.rows:
            keys, values = (
                _heads_first(_with_prefix(states, start, length, prefix_start, prefix), repeat) for states in (k, v)
            )
            mask = table.mask(q, length, prefix, rule.window)
            queries = q[start : start + length].transpose(0, 1)[None]
            part, lse = _flash(queries, keys, values, 0.0, mask is None, attn_mask=mask, scale=rule.scale)
            out[start : start + length] = part[0].transpose(0, 1)
            saved.append((keys, values, part, lse))
        ctx.save_for_backward(q, *(tensor for group in saved for tensor in group))
        ctx.table, ctx.rule, ctx.shape = table, rule, k.shape
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        q, *saved = ctx.saved_tensors
        grad_q, grad_k, grad_v = q.new_empty(q.shape), q.new_zeros(ctx.shape), q.new_zeros(ctx.shape)
        kv_heads = ctx.shape[1]
        for index, (start, length, prefix_start, prefix) in enumerate(ctx.table.rows):
            keys, values, part, lse = saved[4 * index : 4 * index + 4]
            mask = ctx.table.mask(q, length, prefix, ctx.rule.window)
            span = slice(start, start + length)
            queries, grads = (states[span].transpose(0, 1)[None] for states in (q, grad))
            dq, dk, dv = _flash_backward(
                grads, queries, keys, values, part, lse, 0.0, mask is None, attn_mask=mask, scale=ctx.rule.scale
            )
            grad_q[span] = dq[0].transpose(0, 1)
            for total, step in ((grad_k, dk), (grad_v, dv)):
                heads = step[0].unflatten(0, (kv_heads, -1)).sum(1).transpose(0, 1)  # [prefix + length, Hkv, D]
                total[span] += heads[prefix:]
                if prefix:
                    total[prefix_start : prefix_start + prefix] += heads[:prefix]
        return grad_q, grad_k, grad_v, None, None


def _with_prefix(states: Tensor, start: int, length: int, prefix_start: int, prefix: int) -> Tensor:
    own = states[start : start + length]
    return own if prefix == 0 else torch.cat([states[prefix_start : prefix_start + prefix], own])


def _heads_first(states: Tensor, repeat: int) -> Tensor:
    """[T, Hkv, D] -> [1, Hkv * repeat, T, D]"""
    heads = states.transpose(0, 1)
    if repeat > 1:
        heads = heads.unsqueeze(1).expand(-1, repeat, -1, -1).flatten(0, 1)
    return heads[None]


def _ends(lengths: NDArray[np.int64], device: torch.device) -> Tensor:
    return torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)).to(device)


AttentionInterface.register(NAME, segment_attention)
