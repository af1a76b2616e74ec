"""Every part is made from a YAML node; wrong values and contradictions are errors that name the mend."""

from __future__ import annotations

from typing import Any

import pytest

from raylign.config.build import build
from raylign.contracts import Part
from raylign.errors import ConfigError
from raylign.objectives.aggregate import Aggregation
from raylign.objectives.credit import Baseline, KlOrder, Std
from raylign.objectives.mismatch import Mismatch
from raylign.objectives.policy import OldLogprob, Surrogate

POLICY = "raylign.objectives.policy.PolicyLoss"
CREDIT = "raylign.objectives.credit.GroupCredit"


def make(target: str, **fields: Any) -> Any:
    return build(Part, {"_target_": target, **fields}, "part")


def test_enums_by_name_and_nested_settings() -> None:
    made = make(
        POLICY,
        loss="gspo",
        aggregation="sequence",
        clip_low=3e-4,
        clip_high=4e-4,
        dual_clip=3.0,
        old_logprob="recompute",
        mismatch={"mode": "sequence_mask", "high": 3.0},
    ).config
    assert made.loss is Surrogate.gspo
    assert made.aggregation is Aggregation.sequence
    assert made.old_logprob is OldLogprob.recompute
    assert made.mismatch.mode is Mismatch.sequence_mask
    assert made.mismatch.high == 3.0
    assert made.dual_clip == 3.0
    credit = make(CREDIT, baseline="leave_one_out", std="none", kl_coef=0.05, kl_order="after_baseline").config
    assert (credit.baseline, credit.std, credit.kl_order) == (Baseline.leave_one_out, Std.none, KlOrder.after_baseline)


def test_defaults_build() -> None:
    assert make(POLICY).needs == frozenset()
    assert make(CREDIT).needs == frozenset()
    assert make("raylign.objectives.gae.GaeCredit").needs == {"value"}
    assert make("raylign.objectives.value.ValueLoss").needs == {"return", "value"}
    assert make("raylign.objectives.value.ValueLoss", clip=None).needs == {"return"}
    assert not make("raylign.objectives.cross_entropy.CrossEntropy").needs_entropy
    node = {"_target_": "raylign.objectives.shaping.WeightedSum", "overlong_buffer": 4}
    assert build(Part, node, "shaper", weights={"a": 1.0}, max_tokens=16).config.overlong_buffer == 4


@pytest.mark.parametrize(
    ("target", "fields", "message"),
    [
        (POLICY, {"loss": "ppo"}, "ppo"),
        (POLICY, {"aggregation": "constant"}, "constant_length"),
        (POLICY, {"constant_length": 10}, "does nothing"),
        (POLICY, {"dual_clip": 1.1}, "dual_clip"),
        (POLICY, {"loss": "cispo", "dual_clip": 3.0}, "set it to null"),
        (POLICY, {"log_ratio_clamp": 0.0}, "positive"),
        (POLICY, {"clip_low": -0.1}, "0 or more"),
        (POLICY, {"old_logprob": "sampler", "mismatch": {"mode": "truncate"}}, "old_logprob=recompute"),
        (POLICY, {"mismatch": {"mode": "mask", "low": 2.0, "high": 1.0}}, "low < high"),
        (POLICY, {"kl_coeff": 0.1}, "kl_coef"),
        (CREDIT, {"std": "batch"}, "batch"),
        (CREDIT, {"epsilon": -1.0}, "0 or more"),
        (CREDIT, {"kl_coef": 0.1, "kl_credit": "to_go"}, "after_baseline"),
        ("raylign.objectives.gae.GaeCredit", {"lam": 1.5}, "between 0 and 1"),
        ("raylign.objectives.value.ValueLoss", {"clip": 0.0}, "null for no clipping"),
        ("raylign.objectives.cross_entropy.CrossEntropy", {"aggregation": "mean"}, "mean"),
    ],
)
def test_wrong_settings_are_refused_with_the_mend(target: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(target, **fields)
