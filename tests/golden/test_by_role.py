"""Advantages of samples of several rows and roles, against NumPy in float64.

A sample is a trajectory, or with `by_role` what its calls of one role said. GRPO: A = (R - mean) / (std + epsilon) over
the samples of a group, RLOO: A = (R - mean) G / (G - 1), Dr. GRPO: R - mean; the KL penalty of a sample is summed over
all of its rows and leaves R before the baseline. Each sample counts once, however many rows it has.
"""

from __future__ import annotations

import numpy as np
import pytest

from raylign.batch import Batch, offsets_of
from raylign.objectives.advantage.base import KlOrder, KlShare
from raylign.objectives.advantage.group import GRPO, RLOO, DrGRPO
from raylign.records import Float32s

# (group, sample, role, score, prompt tokens, sampled tokens) of each row, in no order of groups
TABLE = [
    (0, 0, "solver", 1.0, 2, 3),
    (1, 4, "solver", 0.25, 1, 2),
    (0, 0, "verifier", -0.5, 3, 1),
    (0, 1, "solver", 0.0, 2, 2),
    (0, 0, "solver", 1.0, 4, 2),  # a second context of sample 0
    (0, 1, "verifier", 0.5, 3, 4),
    (0, 2, "solver", 0.5, 2, 1),
    (1, 5, "solver", 0.75, 1, 1),
    (0, 3, "verifier", 0.5, 3, 2),
    (1, 5, "verifier", 2.0, 1, 3),  # alone in its role
    (0, 2, "verifier", np.nan, 3, 2),  # missing
]
KL = 0.1


def batch(seed: int = 0) -> Batch:
    lengths = [row[4] + row[5] for row in TABLE]
    total, rng = sum(lengths), np.random.default_rng(seed)
    mask = np.concatenate([np.arange(row[4] + row[5]) >= row[4] for row in TABLE])
    streams = {
        "token_ids": np.arange(total, dtype=np.int32),
        "loss_mask": mask,
        "sampler_logprob": np.where(mask, -rng.random(total), 0).astype(np.float32),
        "policy_version": np.where(mask, 0, -1).astype(np.int32),
        "advantage": np.zeros(total, np.float32),
        "weight": np.ones(total, np.float32),
        "ref_logprob": np.where(mask, -rng.random(total), 0).astype(np.float32),
    }
    return Batch(
        offsets=offsets_of(lengths),
        prompt_lengths=np.array([row[4] for row in TABLE], np.int32),
        groups=np.array([row[0] for row in TABLE], np.int32),
        streams=streams,
        arrays={"sample": np.array([row[1] for row in TABLE]), "role": np.array([row[2] for row in TABLE])},
    )


def scores() -> Float32s:
    return np.array([row[3] for row in TABLE], np.float32)


def expected(formula: str, kl: float = 0.0) -> list[float]:
    """Advantage of each row, by a loop over (group, role)."""
    made = batch()
    gap = made["sampler_logprob"].astype(np.float64) - made["ref_logprob"].astype(np.float64)
    penalty = [kl * gap[made.offsets[i] + row[4] : made.offsets[i + 1]].sum() for i, row in enumerate(TABLE)]
    rows = [0.0] * len(TABLE)
    for group, role in {(row[0], row[2]) for row in TABLE}:
        members = [i for i, row in enumerate(TABLE) if (row[0], row[2]) == (group, role) and not np.isnan(row[3])]
        samples = sorted({TABLE[i][1] for i in members})
        reward = {
            s: next(TABLE[i][3] for i in members if TABLE[i][1] == s)
            - sum(penalty[i] for i in members if TABLE[i][1] == s)
            for s in samples
        }
        values = np.array([reward[s] for s in samples], np.float64)
        if len(values) < 2 or np.ptp(values) == 0:
            continue
        deviation = values - values.mean()
        if formula == "grpo":
            deviation = deviation / (values.std(ddof=1) + 1e-6)
        if formula == "rloo":
            deviation = deviation * len(values) / (len(values) - 1)
        for i in members:
            rows[i] = float(deviation[samples.index(TABLE[i][1])])
    return rows


@pytest.mark.parametrize(("name", "method"), [("grpo", GRPO), ("dr_grpo", DrGRPO), ("rloo", RLOO)])
@pytest.mark.parametrize("kl", [0.0, KL])
def test_each_role_has_its_own_baseline(name: str, method: type[GRPO | DrGRPO | RLOO], kl: float) -> None:
    made = batch()
    done, metrics = method(method.Config(by_role=True, kl_coef=kl)).assign(made, scores())
    for row, value in enumerate(expected(name, kl)):
        mask = done.row(row, "loss_mask")
        np.testing.assert_allclose(done.row(row, "advantage")[mask], value, rtol=1e-6, atol=1e-7)
        assert not done.row(row, "advantage")[~mask].any()
        assert done.row(row, "weight").any() == (not np.isnan(TABLE[row][3]))
    assert metrics["advantage/flat_groups"] == pytest.approx(1 / 4), "the verifier that is alone"
    assert metrics["advantage/invalid_rows"] == pytest.approx(1 / 10), "of samples"


def test_a_penalty_after_the_baseline_is_that_of_the_whole_sample() -> None:
    config = DrGRPO.Config(by_role=True, kl_coef=KL, kl_order=KlOrder.after_baseline)
    done, _ = DrGRPO(config).assign(batch(), scores())
    plain, _ = DrGRPO(DrGRPO.Config(by_role=True)).assign(batch(), scores())
    gap = batch()["sampler_logprob"].astype(np.float64) - batch()["ref_logprob"].astype(np.float64)
    mask = batch()["loss_mask"]
    for rows in ([0, 4], [3], [2]):
        total = KL * sum(
            gap[batch().offsets[r] : batch().offsets[r + 1]][batch().row(r, "loss_mask")].sum() for r in rows
        )
        for row in rows:
            own = batch().row(row, "loss_mask")
            moved = plain.row(row, "advantage")[own] - done.row(row, "advantage")[own]
            np.testing.assert_allclose(moved, total, rtol=1e-5, atol=1e-6)
    assert mask.any()
    assert DrGRPO(DrGRPO.Config(kl_coef=KL, kl_order=KlOrder.after_baseline, kl_share=KlShare.to_go)).whole_trajectories


def test_the_order_of_rows_and_more_rows_of_a_sample_change_nothing() -> None:
    method = GRPO(GRPO.Config(by_role=True))
    whole, _ = method.assign(batch(), scores())
    order = np.random.default_rng(3).permutation(len(TABLE))
    shuffled, _ = method.assign(batch().select(order), scores()[order])
    for place, row in enumerate(order):
        np.testing.assert_array_equal(shuffled.row(place, "advantage"), whole.row(row, "advantage"))
    without = [row for row in range(len(TABLE)) if row != 4]  # the second context of sample 0
    fewer, _ = method.assign(batch().select(without), scores()[without])
    for place, row in enumerate(without):
        np.testing.assert_array_equal(fewer.row(place, "advantage"), whole.row(row, "advantage"))


def test_samples_of_several_rows_count_once_where_roles_do_not() -> None:
    rows = [0, 4, 3, 6]  # solver of group 0: sample 0 twice, 1 and 2
    done, _ = DrGRPO(DrGRPO.Config()).assign(batch().select(rows), scores()[rows])
    for place, value in enumerate([0.5, 0.5, -0.5, 0.0]):
        np.testing.assert_allclose(done.row(place, "advantage")[done.row(place, "loss_mask")], value, atol=1e-7)


def test_scores_that_do_not_agree_and_roles_that_are_not_there_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"rows 0 and 2 of one trajectory have the scores 1 and -0.5: set advantage.by_role"
    ):
        GRPO(GRPO.Config()).assign(batch(), scores())
    nameless = batch()
    nameless = Batch(
        offsets=nameless.offsets,
        prompt_lengths=nameless.prompt_lengths,
        groups=nameless.groups,
        streams=nameless.streams,
    )
    with pytest.raises(ValueError, match="by_role=true and no call has a role: take a strategy that names them"):
        GRPO(GRPO.Config(by_role=True)).assign(nameless, scores())
