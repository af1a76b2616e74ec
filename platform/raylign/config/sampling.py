"""Settings of sampling as the record that engines take."""

from __future__ import annotations

from raylign.config.schema import SamplingConfig
from raylign.contracts import Sampling


def sampling_of(config: SamplingConfig) -> Sampling:
    """Settings as a record."""
    return Sampling(
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        stop=tuple(config.stop),
    )
