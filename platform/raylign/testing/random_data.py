"""Many records, drawn at random and the same for every call: rows of uneven lengths, turns, missing scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from raylign.batch import Batch, offsets_of
from raylign.records import Group, Missing, StopReason
from raylign.testing.records import call, group, prompt, trajectory

VOCAB = 11  # token ids are below


def random_batch(
    seed: int = 0, groups: int = 4, size: int = 3, multi_turn: bool = True, dtype: DTypeLike = np.float32
) -> Batch:
    """Rows of different lengths; observation spans inside the responses when multi_turn.

    Beside the streams that every batch has there are ``old_logprob``, ``ref_logprob``, ``value`` and ``return``.
    dtype: of the log-probs, values and advantages; a reference in float64 asks for float64.
    """
    rng = np.random.default_rng(seed)
    ids, masks, prompts, numbers = [], [], [], []
    for number in range(groups):
        asked = rng.integers(0, VOCAB, rng.integers(1, 6))
        for _ in range(size):
            length = int(rng.integers(1, 9))
            sampled = np.ones(length, bool)
            if multi_turn and length > 3:
                sampled[rng.integers(1, length - 1)] = False
            ids.append(np.concatenate([asked, rng.integers(0, VOCAB, length)]))
            masks.append(np.concatenate([np.zeros(len(asked), bool), sampled]))
            prompts.append(len(asked))
            numbers.append(number)
    mask = np.concatenate(masks)
    total = len(mask)

    def logprobs(shift: float) -> Any:
        return np.where(mask, base + shift * noise.standard_normal(total), 0.0).astype(dtype)

    def drawn() -> Any:
        return np.where(mask, noise.standard_normal(total), 0.0).astype(dtype)

    noise = np.random.default_rng(seed + 1)
    base = -np.abs(noise.standard_normal(total)) - 0.1
    return Batch(
        offsets=offsets_of([len(ids_of_row) for ids_of_row in ids]),
        prompt_lengths=np.array(prompts, np.int32),
        groups=np.array(numbers, np.int32),
        streams={
            "token_ids": np.concatenate(ids).astype(np.int32),
            "loss_mask": mask,
            "sampler_logprob": logprobs(0.3),
            "policy_version": np.where(mask, 0, -1).astype(np.int32),
            "advantage": drawn(),
            "weight": np.ones(total, np.float32),
            "old_logprob": logprobs(0.3),
            "ref_logprob": logprobs(0.3),
            "value": drawn(),
            "return": drawn(),
        },
    )


def random_groups(seed: int = 0, count: int = 4, size: int = 3, missing: float = 0.1) -> list[Group]:
    """Groups of one to three calls a trajectory, with a reward ``correct`` and its score.

    missing: share of trajectories whose reward is Missing; they have no score. Every seventh response is cut off.
    """
    rng = np.random.default_rng(seed)
    groups = []
    for number in range(count):
        samples, scores = [], list[float | None]()
        for _ in range(size):
            calls = [
                call(
                    "word " * int(rng.integers(0, 4)),
                    rng.integers(0, VOCAB, rng.integers(1, 9)).tolist(),
                    context_ids=rng.integers(0, VOCAB, rng.integers(1, 4) if turn else 0),
                    stop=StopReason.EOS if rng.random() > 1 / 7 else StopReason.LENGTH,
                )
                for turn in range(rng.integers(1, 4))
            ]
            lost, score = rng.random() < missing, float(rng.integers(0, 2))
            scores.append(None if lost else score)
            reward = Missing(reason="timeout after 5.0 s") if lost else score
            samples.append(trajectory(*calls, rewards={"correct": reward}, seed=int(rng.integers(0, 2**31))))
        groups.append(group(*samples, prompt=prompt(number), scores=scores))
    return groups
