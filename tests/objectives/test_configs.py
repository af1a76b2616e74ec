"""Every part is made from a YAML node; wrong values and contradictions are errors that name the mend."""

from __future__ import annotations

from typing import Any

import pytest

from raylign.config.build import build
from raylign.contracts import Part
from raylign.errors import ConfigError
from raylign.objectives.advantage.base import KlOrder
from raylign.objectives.advantage.group import Std
from raylign.objectives.aggregate import Aggregation
from raylign.objectives.loss.base import OldLogprob
from raylign.objectives.loss.policy import GSPO
from raylign.objectives.mismatch import Mismatch

POLICY = "raylign.objectives.loss.policy.ClippedLoss"
CISPO = "raylign.objectives.loss.policy.CISPO"
REINFORCE = "raylign.objectives.loss.policy.Reinforce"
CREDIT = "raylign.objectives.advantage.group.GRPO"


def make(target: str, **fields: Any) -> Any:
    return build(Part, {"_target_": target, **fields}, "part")


def test_enums_by_name_and_nested_settings() -> None:
    loss = make(
        f"{GSPO.__module__}.GSPO",
        aggregation="sequence",
        clip_low=3e-4,
        clip_high=4e-4,
        dual_clip=3.0,
        old_logprob="recompute",
        mismatch={"mode": "sequence_mask", "high": 3.0},
    )
    made = loss.config
    assert isinstance(loss, GSPO)
    assert made.aggregation is Aggregation.sequence
    assert made.old_logprob is OldLogprob.recompute
    assert made.mismatch.mode is Mismatch.sequence_mask
    assert made.mismatch.high == 3.0
    assert made.dual_clip == 3.0
    advantage = make(CREDIT, std="leave_one_out", kl_coef=0.05, kl_order="after_baseline").config
    assert (advantage.std, advantage.kl_coef, advantage.kl_order) == (Std.leave_one_out, 0.05, KlOrder.after_baseline)


def test_defaults_build() -> None:
    assert make(POLICY).needs == frozenset()
    assert make(CREDIT).needs == frozenset()
    assert make("raylign.objectives.advantage.gae.GAE").needs == {"value"}
    assert make("raylign.objectives.loss.value.ValueLoss").needs == {"return", "value"}
    assert make("raylign.objectives.loss.value.ValueLoss", clip=None).needs == {"return"}
    assert not make("raylign.objectives.loss.cross_entropy.CrossEntropy").needs_entropy
    node = {"_target_": "raylign.objectives.shaping.WeightedSum", "overlong_buffer": 4}
    assert build(Part, node, "shaper", weights={"a": 1.0}, max_tokens=16).config.overlong_buffer == 4


@pytest.mark.parametrize(
    ("target", "fields", "message"),
    [
        (CISPO, {"cispo_bounds": "ppo"}, "ppo"),
        (POLICY, {"cispo_bounds": "absolute"}, "is no setting"),
        (POLICY, {"aggregation": "constant"}, "constant_length"),
        (POLICY, {"constant_length": 10}, "does nothing"),
        (POLICY, {"dual_clip": 1.1}, "dual_clip"),
        (CISPO, {"dual_clip": 3.0}, "is no setting"),
        (CISPO, {"clip_high": -1.0}, "0 or more"),
        (REINFORCE, {"clip_low": 0.1}, "is no setting"),
        (POLICY, {"log_ratio_clamp": 0.0}, "positive"),
        (POLICY, {"clip_low": -0.1}, "0 or more"),
        (POLICY, {"old_logprob": "sampler", "mismatch": {"mode": "truncate"}}, "old_logprob=recompute"),
        (POLICY, {"mismatch": {"mode": "mask", "low": 2.0, "high": 1.0}}, "low < high"),
        (POLICY, {"kl_coeff": 0.1}, "kl_coef"),
        (CREDIT, {"std": "batch"}, "batch"),
        (CREDIT, {"epsilon": -1.0}, "0 or more"),
        (CREDIT, {"kl_coef": 0.1, "kl_share": "to_go"}, "after_baseline"),
        ("raylign.objectives.advantage.gae.GAE", {"lam": 1.5}, "between 0 and 1"),
        ("raylign.objectives.loss.value.ValueLoss", {"clip": 0.0}, "null for no clipping"),
        ("raylign.objectives.loss.cross_entropy.CrossEntropy", {"aggregation": "mean"}, "mean"),
    ],
)
def test_wrong_settings_are_refused_with_the_mend(target: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(target, **fields)
