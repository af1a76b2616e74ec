"""HyPO through the command line: it mends what DPO leaves, and a killed run ends with the very same weights."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from short_runs import lines, steps, train, weights

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
RUN = ["recipe=hypo", "scale=tiny", "seed=1", "telemetry.progress=plain"]
STAGE = (
    "_target_:raylign.recipes.stages.preference.Preference,start:'@sft',batch_pairs:64,max_tokens:64,"
    "optim:{lr:1e-3,schedule:constant,warmup_steps:4}"  # without a horizon, so that a shorter stage has the same steps
)
LOGGED = {  # what the digest's "Needs from the platform" lists
    "loss",
    "margin",
    "ref_margin",
    "target_margin",
    "share/pessimistic",
    "agreement",
    "agreement/pessimistic",
    "agreement/optimistic",
    "relative_agreement",
    "margin/pessimistic",
    "gradient_weight/pessimistic",
    "gradient_weight/optimistic",
    "logprob/chosen",
    "logprob/rejected",
    "displacement/chosen",
    "displacement/rejected",
    "length/chosen",
    "length/rejected",
    "rewards/margin",
    "rewards/accuracy",
}


def test_hypo_mends_more_pessimistic_pairs_than_dpo_in_equal_steps(tmp_path: Path) -> None:
    """The experiment's part D, shortened: one seed, two methods; and part E: without a floor the losses are DPO's."""
    methods = {"dpo": "reference_margin:dpo", "hypo": "reference_margin:hypo", "floorless": "gamma:-inf"}
    stages = [
        f"stages.{name}={{{STAGE},steps:{4 if name == 'floorless' else 40},objective:{{beta:0.5,{margin}}}}}"
        for name, margin in methods.items()
    ]
    less = ["data.size=2000", "data.holdout=600", "stages.reference.steps=6", "run.save_every=0", "~stages.preference"]
    printed = train(tmp_path / "run", [*RUN, *less, *stages])
    assert printed.count("reference: scoring") <= 2, "the second method must find the scores of the first"
    metrics = orjson.loads((tmp_path / "run/finished.json").read_bytes())["metrics"]
    gain = metrics["hypo/eval/agreement/pessimistic"] - metrics["dpo/eval/agreement/pessimistic"]
    assert gain >= 0.03, metrics
    assert metrics["dpo/before/agreement/pessimistic"] == metrics["hypo/before/agreement/pessimistic"] < 0.2
    assert metrics["dpo/eval/share/pessimistic"] == metrics["hypo/eval/share/pessimistic"] > 0.2
    rows = {name: steps(tmp_path / "run", name) for name in methods}
    assert set(rows["floorless"][-1]) >= LOGGED
    losses = {name: [row["loss"] for row in rows[name]] for name in methods}
    assert losses["floorless"] == losses["dpo"][:4]
    assert losses["hypo"][0] != losses["dpo"][0]


KILLED = [
    *RUN,
    "~stages.sft",
    "~stages.reference",
    "frozen.reference.path=''",
    "stages.preference.start=''",
    "stages.preference.cache=''",
    "stages.preference.steps=6",
    "data.size=900",
    "data.holdout=100",
    "learner.ranks=2",
    "run.save_every=2",
]


LEFT = {"scoring": ("preference", "score", 0), "learning": ("preference", "learn", 3)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beside it what deaths at the moments of `LEFT` would have left."""
    folder = tmp_path_factory.mktemp("hypo") / "whole"
    train(folder, KILLED, keep={folder.with_name(name): moment for name, moment in LEFT.items()})
    return folder


@pytest.mark.parametrize(("name", "learned"), [("scoring", 0), ("learning", 3)])
def test_killed_and_resumed_is_bit_equal(undisturbed: Path, name: str, learned: int) -> None:
    folder = undisturbed.with_name(name)
    assert len(steps(folder, "preference")) == learned
    train(folder, KILLED, cold=True)
    assert weights(undisturbed, "preference") == weights(folder, "preference")
    assert [row["step"] for row in steps(folder, "preference")] == list(range(1, 7)), "a step is missing or doubled"
    resumed = [event["kind"] for event in lines(folder / "events.jsonl")].count("resumed")
    assert resumed == (learned > 0), "scoring comes first"
