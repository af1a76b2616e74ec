"""What single tokens score, as a part of their advantages (RELATE, arXiv:2602.11780: credit by granularity).

    A_t = A + sum over k of w_k s_k,t        center_tokens: less the mean over the group of (sum over t of it) / |y|

A score by token is no reward of a sample: it is compared with nothing, so that a sample without a fault keeps its A on
every token, and a fault is answered for by the tokens that made it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from raylign.batch import Batch, token_stream
from raylign.objectives.advantage.samples import Compared

Float64s = NDArray[np.float64]


def token_terms(
    batch: Batch, compared: Compared, valid: NDArray[np.bool_], weights: Mapping[str, float], center: bool
) -> tuple[Float64s, dict[str, float]]:
    """[N] what is added to the advantages, 0 off the loss and on missing samples; the mean score of a token by name.

    valid: [S] which samples have a reward. A score that no group of the batch has counts 0.
    """
    sample = compared.of_row[batch.row_of_token]
    learned = np.asarray(batch["loss_mask"], bool) & valid[sample]
    terms, metrics = np.zeros(batch.tokens), dict[str, float]()
    for name, weight in weights.items():
        if token_stream(name) not in batch:
            continue
        scores = np.where(learned, batch[token_stream(name)], 0.0).astype(np.float64)
        terms += weight * scores
        metrics[f"token_score/{name}"] = float(scores[learned].mean()) if learned.any() else 0.0
    if center:
        terms -= np.where(learned, _group_means(terms, learned, sample, compared, valid)[sample], 0.0)
    return terms, metrics


def _group_means(
    terms: Float64s, learned: NDArray[np.bool_], sample: NDArray[np.int64], compared: Compared, valid: NDArray[np.bool_]
) -> Float64s:
    """[S] mean over the samples of its group of what their tokens score on average."""
    count = len(compared.groups)
    lengths = np.bincount(sample[learned], minlength=count)
    of_sample = np.bincount(sample[learned], weights=terms[learned], minlength=count) / np.maximum(lengths, 1)
    totals = np.bincount(compared.groups, weights=np.where(valid, of_sample, 0.0))
    sizes = np.bincount(compared.groups, weights=valid.astype(np.float64))
    means: Float64s = (totals / np.maximum(sizes, 1))[compared.groups]
    return means


def token_share(of_samples: Float64s, of_tokens: Float64s) -> float:
    """Share of the advantages' absolute value that comes from scores by token; 0 where there is none at all."""
    whole = float(np.abs(of_samples).sum() + np.abs(of_tokens).sum())
    return float(np.abs(of_tokens).sum()) / whole if whole else 0.0
