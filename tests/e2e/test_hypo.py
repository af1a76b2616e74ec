"""HyPO through the command line: it mends what DPO leaves, and a killed run ends with the very same weights."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

HERE = Path(__file__).parent
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
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


def train(folder: Path, *overrides: str, die: tuple[str, int, float] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the recipe to the end, or to a death."""
    command = [sys.executable, str(HERE / "dying.py"), *(map(str, die or ("never", -1, 0.0))), "train", "recipe=hypo"]
    command += ["scale=tiny", "seed=1", f"run.dir={folder}", "telemetry.progress=plain", *overrides]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]


def test_hypo_mends_more_pessimistic_pairs_than_dpo_in_equal_steps(tmp_path: Path) -> None:
    """The experiment's part D, shortened: one seed, two methods; and part E: without a floor the losses are DPO's."""
    methods = {"dpo": "reference_margin:dpo", "hypo": "reference_margin:hypo", "floorless": "gamma:-inf"}
    stages = [
        f"stages.{name}={{{STAGE},steps:{8 if name == 'floorless' else 40},objective:{{beta:0.5,{margin}}}}}"
        for name, margin in methods.items()
    ]
    done = train(
        tmp_path / "run",
        "data.size=2000",
        "data.holdout=600",
        "stages.reference.steps=6",
        "run.save_every=0",
        "~stages.preference",
        *stages,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("reference: scoring") <= 2, "the second method must find the scores of the first"
    found = orjson.loads((tmp_path / "run/finished.json").read_bytes())["metrics"]
    gain = found["hypo/eval/agreement/pessimistic"] - found["dpo/eval/agreement/pessimistic"]
    assert gain >= 0.03, found
    assert found["dpo/before/agreement/pessimistic"] == found["hypo/before/agreement/pessimistic"] < 0.2
    assert found["dpo/eval/share/pessimistic"] == found["hypo/eval/share/pessimistic"] > 0.2
    rows = metrics(tmp_path / "run")
    assert set(rows[-1]) >= LOGGED
    losses = {name: [row["loss"] for row in rows if row["stage"] == name] for name in methods}
    assert losses["floorless"] == losses["dpo"][:8]
    assert losses["hypo"][0] != losses["dpo"][0]


KILLED = [
    "~stages.sft",
    "~stages.reference",
    "scorers.reference.path=''",
    "stages.preference.start=''",
    "stages.preference.cache=''",
    "stages.preference.steps=6",
    "data.size=900",
    "data.holdout=100",
    "learner.ranks=2",
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hypo") / "whole"
    whole = train(folder, *KILLED, "run.save_every=1")
    assert whole.returncode == 0, whole.stderr[-3000:]
    return folder


@pytest.mark.parametrize("die", [("score", 0, 1.0), ("learn", 3, 0.02)], ids=["score", "learn"])
def test_killed_and_resumed_is_bit_equal(undisturbed: Path, tmp_path: Path, die: tuple[str, int, float]) -> None:
    folder = tmp_path / "killed"
    killed = train(folder, *KILLED, "run.save_every=2", die=die)
    assert killed.returncode == -signal.SIGKILL, f"{die}: {killed.stdout[-2000:]} {killed.stderr[-3000:]}"
    final = train(folder, *KILLED, "run.save_every=2")
    assert final.returncode == 0, final.stderr[-3000:]
    weights = [(one / "stages/preference/model/model.safetensors").read_bytes() for one in (undisturbed, folder)]
    assert weights[0] == weights[1]
    assert [row["step"] for row in metrics(folder)] == list(range(1, 7)), "a step is missing or doubled"
    assert (folder / "events.jsonl").read_text().count('"resumed"') == (die[0] == "learn"), "scoring comes first"
