"""Quark Medical through the command line: fitted rewards, frozen statistics, moving weights; killed and resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
from short_runs import lines, steps, train, weights

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
REWARDS = ("helpful", "facts", "rubric", "orm", "feedback", "safety", "format")
SMALL = [
    "recipe=quark_medical",
    "scale=tiny",
    "seed=3",
    "model.tiny.hidden_size=32",
    "data.size=640",
    "data.holdout=32",
    "stages.sft.steps=80",
    "stages.sft.batch_size=32",
    "stages.graded.prompts=48",
    "stages.evidence.prompts=300",
    "stages.calibrate.prompts=24",
    "stages.calibrate.samples=4",
    "stages.rl.steps=4",
    "stages.rl.prompts_per_step=4",
    "stages.rl.group_size=4",
    "run.save_every=2",
    "telemetry.progress=none",
    "telemetry.rollouts_per_step=0",
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quark") / "whole"
    train(folder, SMALL, keep={folder.with_name("killed"): ("rl", "score", 2)})
    return folder


def test_scores_can_be_recomputed_from_the_run_folder(undisturbed: Path) -> None:
    """r~ from the calibrated statistics, times the weights of the step."""
    known = orjson.loads((undisturbed / "stages/calibrate/statistics.json").read_bytes())["rewards"]
    rows = [row for path in sorted((undisturbed / "rollouts").glob("*.jsonl")) for row in lines(path)]
    sampled = [row for row in rows if row["stage"] == "rl"]
    assert len(sampled) == 4 * 16 and set(REWARDS) <= known.keys()
    logged = steps(undisturbed, "rl")
    first = min(row["step"] for row in sampled)
    for row in sampled:
        of_step = logged[row["step"] - first]
        total = 0.0
        for name in REWARDS:
            of = known[name]
            width = of["quantiles"]["1"] - of["quantiles"]["0"] or 1.0
            value = (row["rewards"][name]["score"] - of["mean"]) / max(of["std"], 1e-3 * width)
            total += of_step[f"map/weight/{name}"] * np.clip(value, -5, 5)
        assert row["score"] == pytest.approx(total, abs=1e-5)


def test_every_figure_of_the_digest_is_logged(undisturbed: Path) -> None:
    names = set().union(*steps(undisturbed, "rl"))
    kinds = ("raw_mean", "raw_std", "norm_mean", "norm_std", "share", "flat")
    kinds = (*kinds, "weight", "weakness", "risk", "redundancy", "average", "violation")
    wanted = {f"map/{kind}/{name}" for kind in kinds for name in REWARDS}
    wanted -= {f"map/violation/{name}" for name in REWARDS}
    wanted |= {"map/violation/safety", "map/corr/helpful_facts", "map/corr/safety_format", "map/floored"}
    wanted |= {f"missing/{name}" for name in REWARDS}
    assert not wanted - names
    (fitted,) = steps(undisturbed, "orm")
    assert fitted["fit/pairs"] > 20 and fitted["fit/accuracy"] > 0.5


def test_the_evaluation_leaves_a_table_of_diagnoses(undisturbed: Path) -> None:
    table = lines(undisturbed / "stages/after/measures/diagnosis.jsonl")
    assert {row["reward"] for row in table} == set(REWARDS)
    assert [row["normalized"] for row in table] == sorted(row["normalized"] for row in table)
    assert {row["category"] for row in table} == {
        "fundamental capability",
        "expert knowledge",
        "online feedback",
        "format and safety",
    }
    (figures,) = steps(undisturbed, "after")
    assert figures["eval/diagnosis/least"] == pytest.approx(table[0]["normalized"])
    (safety,) = [row for row in table if row["reward"] == "safety"]
    assert safety["lost"] in ("dose", "emergency") and 0 < safety["lost_share"] <= safety["violation"]


def test_killed_and_resumed_is_bit_equal(undisturbed: Path) -> None:
    killed = undisturbed.with_name("killed")
    assert len(steps(killed, "rl")) == 2
    train(killed, SMALL)
    assert weights(killed, "rl") == weights(undisturbed, "rl")
    averages = [
        [{name: value for name, value in row.items() if name.startswith("map/")} for row in steps(folder, "rl")]
        for folder in (killed, undisturbed)
    ]
    assert averages[0] == averages[1] and len(averages[0]) == 4
    assert averages[0][0]["map/weight/safety"] != averages[0][3]["map/weight/safety"] != 1.0
