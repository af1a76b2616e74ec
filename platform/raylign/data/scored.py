"""Rows for a model that gives a whole text one number.

The learner computes the state before each loss token. Behind the text stands one token more, with the loss on it alone:
the state before it is that of the text's last token, and the token itself is never computed.

    ids   prompt ... answer <end of turn> [0]
    loss     -   ...   -         -         x
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raylign.batch import Batch
from raylign.data.pairs import Pair
from raylign.records import Float32s, Int32s, Row

BEHIND = np.zeros(1, np.int32)  # any id that there is


def scored_row(group: int, prompt: Int32s, answer: Int32s, **numbers: int | float | str) -> Row:
    """A row to be scored at the last token of the answer. group: of rows that share the prompt."""
    ids = np.concatenate([prompt, answer, BEHIND]).astype(np.int32)
    size = len(ids)
    return Row(
        group=group,
        prompt_length=len(prompt),
        token_ids=ids,
        loss_mask=np.arange(size) == size - 1,
        sampler_logprob=np.zeros(size, np.float32),
        policy_version=np.full(size, -1, np.int32),
        advantage=np.zeros(size, np.float32),
        weight=np.ones(size, np.float32),
        numbers=numbers,
    )


def scored_pairs(pairs: Sequence[Pair]) -> list[Row]:
    """Two rows a pair, chosen first; the pair's number is their group, ``tie`` 1 where neither answer is better."""
    return [
        scored_row(number, pair.prompt.token_ids, answer, tie=int(pair.tie), domain=pair.prompt.domain)
        for number, pair in enumerate(pairs)
        for answer in (pair.chosen, pair.rejected)
    ]


def scores_of(rows: Batch, stream: Float32s) -> NDArray[np.float64]:
    """[B] the score of each row, from a stream that has it at the row's one loss token."""
    mask = np.asarray(rows["loss_mask"], bool)
    scores = np.zeros(len(rows))
    scores[rows.row_of_token[mask]] = stream[mask]
    return scores
