"""The known ways to get policy optimisation wrong, one test each, through advantage, objective and packing together.

Others have their tests beside the part they concern: whitening, KL and GAE in test_advantages.py, the estimators'
gradients in test_kl_gradients.py, truncation in objectives/test_shaping.py, the loss mask in test_records.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_toy import current_logprobs, evaluate, random_batch

from raylign.batch import Batch
from raylign.objectives.advantage.group import GRPO
from raylign.objectives.aggregate import Aggregation, counted_tokens, mean_weights, token_weights
from raylign.objectives.loss.base import OldLogprob
from raylign.objectives.loss.policy import ClippedLoss
from raylign.objectives.mismatch import Mismatch, MismatchConfig

MODES = [(Aggregation.token, 0), (Aggregation.sequence, 0), (Aggregation.constant, 9)]


@pytest.fixture
def batch() -> Batch:
    return random_batch(seed=12, groups=4, size=3)


def objective(mode: Aggregation, length: int, **fields: object) -> ClippedLoss:
    made = {"aggregation": mode, "constant_length": length, "old_logprob": OldLogprob.recompute, **fields}
    return ClippedLoss(ClippedLoss.Config(**made))


def test_first_minibatch_ratio_is_exactly_one(batch: Batch) -> None:
    """On-policy with a recomputed old log-prob: ratio 1, nothing clipped, approximate KL 0."""
    lp = torch.tensor(batch["old_logprob"], requires_grad=True)
    for old in (OldLogprob.recompute, OldLogprob.detach):
        _, metrics = evaluate(ClippedLoss(ClippedLoss.Config(old_logprob=old)), batch, logprob=lp)
        assert metrics["ratio"] == pytest.approx(1.0, abs=1e-6)
        assert metrics["clip_low"] == metrics["clip_high"] == metrics["approx_kl_k1"] == metrics["approx_kl_k3"] == 0.0


def test_decoupled_three_policies(batch: Batch) -> None:
    """pi / pi_old is clipped, pi_old / mu is truncated: the correction does not see pi, the clip does not see mu."""
    lp = current_logprobs(batch)
    made = objective(Aggregation.token, 0, mismatch=MismatchConfig(mode=Mismatch.truncate))
    _, with_correction = evaluate(made, batch, logprob=lp)
    _, without = evaluate(objective(Aggregation.token, 0), batch, logprob=lp)
    for name in ("ratio", "clip_low", "clip_high", "approx_kl_k3"):
        assert with_correction[name] == without[name]
    _, moved = evaluate(made, batch, logprob=current_logprobs(batch, seed=77))
    assert moved["mismatch_weight"] == with_correction["mismatch_weight"]


@pytest.mark.parametrize(("mode", "length"), MODES)
def test_empty_response_adds_nothing(batch: Batch, mode: Aggregation, length: int) -> None:
    """A row without loss tokens: no division by 0, no part in the counts."""
    mask = batch["loss_mask"].copy()
    mask[batch.offsets[4] : batch.offsets[5]] = False
    holed, without = batch.with_streams(loss_mask=mask), batch.select([i for i in range(len(batch)) if i != 4])
    lp = current_logprobs(batch)
    one, _ = evaluate(objective(mode, length), holed, logprob=lp)
    rest = torch.from_numpy(batch.row_of_token != 4)
    two, _ = evaluate(objective(mode, length), without, logprob=lp.detach()[rest])
    assert one["policy"].item() == pytest.approx(two["policy"].item(), abs=1e-9)


@pytest.mark.parametrize(("mode", "length"), MODES)
def test_batch_without_any_loss_token(batch: Batch, mode: Aggregation, length: int) -> None:
    empty = batch.with_streams(loss_mask=np.zeros(batch.tokens, bool))
    assert not token_weights(empty, mode, length).any()
    components, metrics = evaluate(objective(mode, length), empty, logprob=current_logprobs(batch))
    assert components["policy"].item() == 0.0
    assert all(value == 0.0 for value in metrics.values())


@pytest.mark.parametrize(("mode", "length"), MODES)
def test_invalid_sample_is_as_if_it_were_not_there(batch: Batch, mode: Aggregation, length: int) -> None:
    """NaN score -> advantage 0 AND out of N: the loss is that of the batch without the row."""
    scores = np.random.default_rng(0).standard_normal(len(batch)).astype(np.float32)
    scores[4] = np.nan
    advantage = GRPO(GRPO.Config())
    lp = current_logprobs(batch)
    others = [i for i in range(len(batch)) if i != 4]
    one, _ = evaluate(objective(mode, length, kl_coef=0.1), advantage.assign(batch, scores)[0], logprob=lp)
    rest = torch.from_numpy(batch.row_of_token != 4)
    without = advantage.assign(batch.select(others), scores[others])[0]
    two, _ = evaluate(objective(mode, length, kl_coef=0.1), without, logprob=lp.detach()[rest])
    for name in ("policy", "kl"):
        assert one[name].item() == pytest.approx(two[name].item(), abs=1e-7)


@pytest.mark.parametrize(("mode", "length"), MODES)
def test_masks_made_at_loss_time_leave_the_count_alone(batch: Batch, mode: Aggregation, length: int) -> None:
    lp = current_logprobs(batch)
    strict = MismatchConfig(mode=Mismatch.mask, low=0.95, high=1.05)
    masked = objective(mode, length, mismatch=strict).prepare(batch)
    plain = objective(mode, length).prepare(batch)
    np.testing.assert_array_equal(masked["policy_weight"], plain["policy_weight"])
    components, metrics = evaluate(objective(mode, length, mismatch=strict), batch, logprob=lp)
    assert 0 < metrics["mismatch_weight"] < 0.5
    assert abs(components["policy"].item()) < 1.0


def test_zero_weight_on_one_token_stays_in_the_count(batch: Batch) -> None:
    weight = batch["weight"].copy()
    first = int(np.flatnonzero(batch["loss_mask"])[0])
    weight[first] = 0.0
    some = batch.with_streams(weight=weight)
    assert counted_tokens(some)[first] == (np.count_nonzero(batch.row(0, "loss_mask")) > 1)
    made = token_weights(some, Aggregation.token)
    assert made[first] == 0.0
    assert mean_weights(some).sum() == pytest.approx(1.0, abs=1e-6)


def test_correction_without_sampler_logprobs_is_refused(batch: Batch) -> None:
    silent = batch.with_streams(sampler_logprob=np.zeros(batch.tokens, np.float32))
    for made in (
        ClippedLoss.Config(old_logprob=OldLogprob.sampler),
        ClippedLoss.Config(mismatch=MismatchConfig(mode=Mismatch.truncate)),
    ):
        with pytest.raises(ValueError, match="did not record log-probs"):
            ClippedLoss(made).prepare(silent)
    ClippedLoss(ClippedLoss.Config()).prepare(silent)


def test_missing_stream_is_refused_by_name(batch: Batch) -> None:
    bare = Batch(
        offsets=batch.offsets,
        prompt_lengths=batch.prompt_lengths,
        groups=batch.groups,
        streams={name: batch[name] for name in ("token_ids", "loss_mask", "sampler_logprob", "advantage", "weight")},
    )
    with pytest.raises(ValueError, match="old_logprob, ref_logprob"):
        objective(Aggregation.token, 0, kl_coef=0.1).prepare(bare)


def test_read_only_streams_are_not_written(batch: Batch) -> None:
    """Batch out of the object store are read-only."""
    for stream in batch.streams.values():
        stream.flags.writeable = False
    done, _ = GRPO(GRPO.Config()).assign(batch, np.arange(len(batch), dtype=np.float32))
    evaluate(objective(Aggregation.token, 0), done, logprob=current_logprobs(batch))


def test_streams_stay_float32(batch: Batch) -> None:
    done, _ = GRPO(GRPO.Config()).assign(batch, np.arange(len(batch), dtype=np.float32))
    prepared = objective(Aggregation.token, 0).prepare(done)
    for name in ("advantage", "weight", "policy_weight", "penalty_weight", "mean_weight"):
        assert prepared[name].dtype == np.float32, name
