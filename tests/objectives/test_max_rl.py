"""MaxRL by hand, against the gradient that it estimates, with missing rewards, and by its variant."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from raylign.batch import Batch
from raylign.config.build import build
from raylign.config.compose import compose
from raylign.contracts import Advantage
from raylign.errors import ConfigError
from raylign.objectives.advantage.max_rl import MaxRL

NAN = float("nan")


def rows(*groups: int) -> Batch:
    """Rows of one prompt token and two sampled ones; group g has groups[g] rows."""
    count = sum(groups)
    return Batch(
        offsets=np.arange(0, 3 * count + 1, 3),
        prompt_lengths=np.ones(count, np.int32),
        groups=np.repeat(np.arange(len(groups)), groups).astype(np.int32),
        streams={"loss_mask": np.tile([False, True, True], count), "weight": np.ones(3 * count, np.float32)},
    )


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([1, 0, 0, 0], [3, -1, -1, -1]),
        ([1, 1, 0, 0], [1, 1, -1, -1]),
        ([0, 0, 0, 0], [0, 0, 0, 0]),  # no success
        ([1, 1, 1, 1], [0, 0, 0, 0]),
        ([0.5, 0.25, 0, 0.25], [1, 0, -1, 0]),
        ([1, NAN, 0, NAN], [1, 0, -1, 0]),  # missing: in no mean
        ([1, NAN, NAN, NAN], [0, 0, 0, 0]),
        ([0, NAN, 0, 0], [0, 0, 0, 0]),
    ],
)
def test_by_hand(rewards: list[float], expected: list[float]) -> None:
    batch, _ = MaxRL(MaxRL.Config()).assign(rows(4), np.array(rewards, np.float32))
    np.testing.assert_array_equal(batch["advantage"].reshape(4, 3), np.outer(expected, [0, 1, 1]))
    np.testing.assert_array_equal(batch["weight"].reshape(4, 3).any(axis=1), ~np.isnan(rewards))


def test_groups_do_not_mix_and_one_row_teaches_nothing() -> None:
    batch, metrics = MaxRL(MaxRL.Config()).assign(rows(2, 1, 3), np.array([1, 0, 1, 0, 0, 1], np.float32))
    np.testing.assert_allclose(batch["advantage"].reshape(6, 3)[:, 1], [1, -1, 0, -1, -1, 2])
    assert metrics["advantage/flat_groups"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.9])
def test_the_expectation_is_the_truncated_gradient_of_the_log_pass_rate(rate: float) -> None:
    """All groups of 5 samples of a policy with p = sigmoid(theta): grad log pi = r - p, grad p = p (1 - p)."""
    size, mean = 5, 0.0
    for sample in product([0.0, 1.0], repeat=size):
        group = np.array(sample)
        chance = np.prod(np.where(group > 0, rate, 1 - rate))
        mean += chance * float(np.mean(MaxRL(MaxRL.Config()).of_group(group) * (group - rate)))
    expected = rate * (1 - rate) * sum((1 - rate) ** k for k in range(size - 1))
    assert mean == pytest.approx(expected, rel=1e-12)


def test_rewards_below_0_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0 or more, not -0\.5"):
        MaxRL(MaxRL.Config()).assign(rows(2), np.array([1, -0.5], np.float32))
    node = {"_target_": f"{MaxRL.__module__}.MaxRL", "kl_coef": 0.1}
    assert build(Advantage, node, "advantage").needs == {"ref_logprob"}
    with pytest.raises(ConfigError, match="set kl_order=after_baseline"):
        build(Advantage, {**node, "kl_order": "before_baseline"}, "advantage")


def test_the_variant_is_found_by_its_target() -> None:
    assert compose(["recipe=grpo", "scale=tiny", "variant=max_rl"]).parts["advantage"].cls is MaxRL
