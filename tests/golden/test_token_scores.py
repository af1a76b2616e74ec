"""Scores by token in the advantage, against NumPy in float64 (RELATE, arXiv:2602.11780).

A_t = A + sum over k of w_k s_k,t; with `center_tokens` less the mean over the group of (sum over t of w s_t) / |y|.
"""

from __future__ import annotations

import numpy as np
import pytest

from raylign.batch import Batch, offsets_of
from raylign.objectives.advantage.group import GRPO, RLOO, DrGRPO
from raylign.records import Float32s

LENGTHS = [3, 2, 4, 1, 2]  # sampled tokens; one prompt token before each
GROUPS = [0, 0, 0, 1, 1]
REWARDS = [1.0, 0.25, np.nan, 2.0, 2.0]  # one is missing, and those of group 1 are equal
SEMANTIC = [[0, -1, 0], [0, 0], [-1, -1, 0, 0], [-2], [0, 0]]
DIVERSITY = [[-0.1, 0, -0.3], [0, -0.2], [0, 0, 0, 0], [0], [-0.5, 0]]


def batch(**scores: list[list[float]]) -> Batch:
    mask = np.concatenate([[False] + [True] * length for length in LENGTHS])
    streams = {
        "token_ids": np.arange(len(mask), dtype=np.int32),
        "loss_mask": mask,
        "sampler_logprob": np.where(mask, -0.5, 0).astype(np.float32),
        "policy_version": np.where(mask, 0, -1).astype(np.int32),
        "advantage": np.zeros(len(mask), np.float32),
        "weight": np.ones(len(mask), np.float32),
    }
    # what is said of the prompt's token must not count: 9
    streams |= {
        f"token_score/{name}": np.concatenate([[9.0, *row] for row in rows]).astype(np.float32)
        for name, rows in scores.items()
    }
    return Batch(
        offsets=offsets_of([length + 1 for length in LENGTHS]),
        prompt_lengths=np.ones(len(LENGTHS), np.int32),
        groups=np.array(GROUPS, np.int32),
        streams=streams,
    )


def assigned(advantage: GRPO | RLOO | DrGRPO, made: Batch) -> tuple[list[Float32s], dict[str, float]]:
    result, metrics = advantage.assign(made, np.array(REWARDS, np.float32))
    return [result.row(i, "advantage")[1:] for i in range(len(made))], metrics


def of_samples(name: str) -> list[float]:
    first = np.array([1.0, 0.25])
    scaled = {
        "grpo": (first - first.mean()) / (first.std(ddof=1) + 1e-6),
        "rloo": (first - first.mean()) * 2,
        "dr_grpo": first - first.mean(),
    }[name]
    return [*scaled, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize(("name", "cls"), [("grpo", GRPO), ("rloo", RLOO), ("dr_grpo", DrGRPO)])
def test_what_tokens_score_is_added_to_what_their_sample_does(name: str, cls: type[GRPO], center: bool) -> None:
    weights = {"semantic": 1.0, "diversity": 6.0}
    advantage = cls(cls.Config(token_weights=weights, center_tokens=center))
    rows, metrics = assigned(advantage, batch(semantic=SEMANTIC, diversity=DIVERSITY))
    terms = [np.array(a, np.float64) + 6 * np.array(b, np.float64) for a, b in zip(SEMANTIC, DIVERSITY, strict=True)]
    for group, members in ((0, [0, 1]), (1, [3, 4])):
        mean = np.mean([terms[i].sum() / LENGTHS[i] for i in members])
        for i in members:
            expected = of_samples(name)[i] + terms[i] - (mean if center else 0)
            assert np.allclose(rows[i], expected, atol=1e-6), (group, i)
    assert not rows[2].any(), "its reward is missing: nothing is learned from it"
    assert metrics["token_score/semantic"] == pytest.approx(np.mean([0, -1, 0, 0, 0, -2, 0, 0]))


def test_centred_terms_move_no_mean() -> None:
    """The mean over the samples of a group of their mean term is 0."""
    advantage = DrGRPO(DrGRPO.Config(token_weights={"semantic": 3.0}, center_tokens=True))
    rows, _ = assigned(advantage, batch(semantic=SEMANTIC))
    assert np.mean([rows[3].mean(), rows[4].mean()]) == pytest.approx(0, abs=1e-7)


def test_a_text_without_a_fault_keeps_its_advantage_on_every_token() -> None:
    rows, metrics = assigned(DrGRPO(DrGRPO.Config(token_weights={"semantic": 1.0})), batch(semantic=SEMANTIC))
    assert np.allclose(rows[1], -0.375)
    assert np.allclose(rows[0], [0.375, 0.375 - 1, 0.375]), "the fault alone is answered for"
    of_tokens, samples = 1.0 + 2.0, 3 * 0.375 + 2 * 0.375
    assert metrics["advantage/token_share"] == pytest.approx(of_tokens / (of_tokens + samples))


def test_a_weight_of_zero_only_logs_and_nothing_said_is_nothing_added() -> None:
    plain, _ = assigned(DrGRPO(DrGRPO.Config()), batch())
    logged, metrics = assigned(DrGRPO(DrGRPO.Config(token_weights={"semantic": 0.0})), batch(semantic=SEMANTIC))
    silent, _ = assigned(DrGRPO(DrGRPO.Config(token_weights={"semantic": 5.0})), batch())
    for rows in (logged, silent):
        assert all(np.array_equal(a, b) for a, b in zip(plain, rows, strict=True))
    assert metrics["token_score/semantic"] < 0 and metrics["advantage/token_share"] == 0


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match=r"token_weights\.semantic"):
        GRPO.Config(token_weights={"semantic": weight})


def test_nothing_cannot_be_centred() -> None:
    for weights in ({}, {"semantic": 0.0}):
        with pytest.raises(ValueError, match=r"set token_weights\.NAME"):
            GRPO.Config(token_weights=weights, center_tokens=True)


def test_a_sample_whose_tokens_nobody_could_judge_is_missing() -> None:
    """Absent is not zero: it leaves its group, unless the score is only logged."""
    absent = [SEMANTIC[0], [np.nan, np.nan], *SEMANTIC[2:]]
    weighed, logged = (
        DrGRPO(DrGRPO.Config(token_weights={"semantic": weight})).assign(
            batch(semantic=absent), np.array([1.0, 0.25, 0.5, 2.0, 2.0], np.float32)
        )
        for weight in (1.0, 0.0)
    )
    rows = [weighed[0].row(i, "advantage")[1:] for i in range(5)]
    assert not rows[1].any() and not weighed[0].row(1, "weight").any()
    assert np.allclose(rows[0], [0.25, 0.25 - 1, 0.25]), "against the other one alone"
    assert np.allclose(logged[0].row(1, "advantage")[1:], 0.25 - 1.75 / 3), "its score counts as it is"
    assert weighed[1]["token_score/semantic"] == pytest.approx(np.mean([0, -1, 0, -1, -1, 0, 0, -2, 0, 0]))
