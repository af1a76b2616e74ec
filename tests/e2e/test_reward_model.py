"""A reward model through the command line: it learns pairs and ties, and its folder is a reward of the same scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from short_runs import steps, train

from raylign.actors.reward.reward_model import RewardModel
from raylign.config.schema import DataConfig
from raylign.data.pairs import Truncation, load_pairs
from raylign.models.tokenizer import load_tokenizer
from raylign.testing import prompt, trajectory

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
RUN = ["recipe=grpo", "scale=tiny", "seed=1", "telemetry.progress=plain", "model.tiny.hidden_size=64"]
RUN += [f"~stages.{name}" for name in ("warmup", "before", "rl", "after")]
STAGE = "_target_:raylign.recipes.stages.reward_model.TrainRewardModel,batch_pairs:32,steps:24,max_tokens:64"


def letter_pairs(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Words of eight letters; the better one has more of those before n."""
    rows: list[dict[str, Any]] = []
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        words = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 8)) for _ in range(2)]
        worse, better = sorted(words, key=lambda word: (sum(letter < "n" for letter in word), word))
        asked = [{"role": "user", "content": f"word {number}"}]
        rows.append({"prompt": asked, "chosen": better, "rejected": worse, "kind": "letters"})
    return rows


def test_what_the_learner_scores_the_reward_scores(tmp_path: Path) -> None:
    rows = letter_pairs(600) + [
        {**row, "rejected": row["chosen"][::-1], "tie": True, "kind": "turned"} for row in letter_pairs(100, first=600)
    ]  # the same letters in another order are worth the same
    file = tmp_path / "pairs.jsonl"
    file.write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    stage = f"+stages.rm={{{STAGE},data:{file},holdout:80,domain_key:kind,optim:{{lr:3e-3}}}}"
    printed = train(tmp_path / "run", [*RUN, stage])
    assert "100 of the rows are ties" in printed and "the reward model is" in printed

    result = orjson.loads((tmp_path / "run/stages/rm/done.json").read_bytes())
    assert list(result["artifacts"]) == ["reward_model"]
    metrics, logged = result["metrics"], steps(tmp_path / "run", "rm")
    assert metrics["eval/accuracy"] >= 0.65 and metrics["eval/accuracy"] > metrics["before/accuracy"] + 0.05, metrics
    assert {"loss/difference", "loss/tie", "accuracy", "tie_gap", "share/ties"} <= set(logged[0])
    assert metrics["eval/accuracy/letters"] == metrics["eval/accuracy"]
    assert metrics["eval/tie_gap/turned"] == metrics["eval/tie_gap"]

    folder = str(tmp_path / "run" / result["artifacts"]["reward_model"])
    reward = RewardModel(RewardModel.Config(model=folder))
    held = load_pairs(
        DataConfig(path=str(file), holdout=80), load_tokenizer(folder, False), 64, Truncation.drop, 1, ties=True
    ).holdout
    texts = {(str(row["prompt"][0]["content"]), row.get("tie", False)): row for row in rows}
    gaps, ties = [], []
    for pair in held:
        row = texts[str(pair.prompt.messages[0]["content"]), pair.tie]
        asked = prompt(messages=pair.prompt.messages)
        values = [reward.score(asked, [trajectory(row[side])])[0] for side in ("chosen", "rejected")]
        first, second = (value.score for value in values if value is not None)
        (ties if pair.tie else gaps).append(first - second)
    assert len(ties) > 3
    assert np.mean(gaps) == pytest.approx(metrics["eval/gap"], abs=1e-5)
    assert np.mean(np.array(gaps) > 0) == pytest.approx(metrics["eval/accuracy"], abs=1e-9)
    assert np.mean(np.abs(ties)) == pytest.approx(metrics["eval/tie_gap"], abs=1e-5)
