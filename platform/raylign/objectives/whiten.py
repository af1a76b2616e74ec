"""Whitening of advantages over the action tokens of a batch."""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy.typing import NDArray


class Whiten(Enum):
    """`batch`: (x - mean) / std over all action tokens of the batch, population std. `none`: leave as it is."""

    none = "none"
    batch = "batch"


def whiten(values: NDArray[np.float64], counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[N] whitened over `counted` tokens, 0 elsewhere; exactly 0 everywhere when the counted values are all equal.

    Observation tokens and dropped samples are no actions: they enter neither mean nor std (REINFORCE++,
    arXiv:2501.03262, eq. 8; PPO implementations).
    """
    chosen = values[counted]
    result = np.zeros_like(values)
    if len(chosen) and chosen.max() > chosen.min():
        result[counted] = (chosen - chosen.mean()) / chosen.std()
    return result
