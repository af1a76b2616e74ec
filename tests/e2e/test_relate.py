"""RELATE through the command line: served ads make logs, a model of these the reward; killed and resumed with its
history.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from short_runs import lines, steps, train, weights

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
SMALL = [
    "recipe=relate",
    "scale=tiny",
    "seed=3",
    "data.size=264",
    "data.holdout=8",
    "stages.sft.steps=200",
    "stages.sft.batch_size=32",
    "stages.serve.prompts=64",
    "stages.calibrate={_target_: raylign.recipes.stages.calibrate.Calibrate, weights: {ctcvr: 1}, prompts: 16}",
    "stages.rl.shaper.scale=frozen",
    "+stages.rl.shaper.least=4",
    "stages.rl.shaper.statistics=@calibrate",
    "rewards.ctcvr.weight=1",
    "~stages.before",
    "stages.rl.steps=4",
    "stages.rl.prompts_per_step=8",
    "stages.rl.group_size=4",
    "stages.after.samples=2",
    "run.save_every=2",
    "telemetry.progress=none",
    "telemetry.rollouts_per_step=0",
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("relate") / "whole"
    train(folder, SMALL, keep={folder.with_name("killed"): ("rl", "score", 3)})
    return folder


@pytest.fixture(scope="module")
def groups(undisturbed: Path) -> list[list[dict[str, Any]]]:
    """The recorded samples of rl, by step and prompt, in order."""
    found: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for path in sorted((undisturbed / "rollouts").glob("*.jsonl")):
        for row in lines(path):
            if row["stage"] == "rl":
                found.setdefault((row["step"], row["prompt"]), []).append(row)
    return list(found.values())


def test_scores_and_token_credit_can_be_recomputed_from_the_run_folder(undisturbed: Path, groups: Any) -> None:
    """S by the frozen scale, c from the recorded spans, d from the texts of the steps before, A of every token."""
    statistics = orjson.loads((undisturbed / "stages" / "calibrate" / "statistics.json").read_bytes())
    by_domain = statistics["rewards"]["ctcvr"]["domains"]
    history: dict[str, list[str]] = {}
    later: list[tuple[str, list[str]]] = []
    step, faults, repeats = groups[0][0]["step"], 0, 0
    for group in groups:
        if group[0]["step"] != step:
            step = group[0]["step"]
            for product, texts in later:
                history[product] = [*history.get(product, []), *texts][-64:]
            later = []
        product = group[0]["question"][:3] if "question" in group[0] else group[0]["messages"][-1]["content"][:3]
        later.append((product, [row["text"] for row in group]))
        s, tokens = [], []
        for row in group:
            rewards, is_ad = row["rewards"], row["rewards"]["structure"]["details"]["formatted"]
            scale = by_domain.get(f"products {product[0]}", statistics["rewards"]["ctcvr"])
            scaled = (rewards["ctcvr"]["score"] * is_ad - scale["mean"]) / scale["std"]
            s.append(rewards["structure"]["score"] + min(max(scaled, -3), 3))
            c, d = np.zeros(len(row["turns"][0]["token_ids"])), np.zeros(len(row["turns"][0]["token_ids"]))
            for span in rewards["semantic"]["spans"][0]:
                c[span["start"] : span["end"]] += span["score"] * is_ad
            for t in range(1, len(row["text"])):
                pair, seen = row["text"][t - 1 : t + 1], history.get(product, [])
                if is_ad and ";" not in pair and len(seen) >= 4:
                    d[t] = -max(0.0, sum(pair in other for other in seen) / len(seen) - 0.10)
            tokens.append(c + 6 * d)
            faults, repeats = faults + int((c < 0).sum()), repeats + int((d < 0).sum())
        np.testing.assert_allclose([row["score"] for row in group], s, atol=1e-5)
        spread = np.std(s, ddof=1)
        sent = (np.array(s) - np.mean(s)) / (spread + 1e-4) if np.ptp(s) > 1e-6 else np.zeros(len(s))
        for row, of_text, wanted in zip(group, tokens, sent, strict=True):
            np.testing.assert_allclose(np.broadcast_to(row["advantage"], of_text.shape), wanted + of_text, atol=2e-3)
    assert faults > 20 and repeats > 3, (faults, repeats)


def test_the_logs_are_those_of_served_ads(undisturbed: Path) -> None:
    rows = lines(undisturbed / "stages" / "serve" / "rows.jsonl")
    assert len(rows) > 20
    for row in rows:
        log = row["meta"]
        assert log["conversions"] <= log["clicks"] <= log["impressions"] == 50 and log["context"][:3] == log["product"]
    (fit,) = steps(undisturbed, "predictor")
    assert fit["fit/rows"] == len(rows) and 0 < fit["fit/ctcvr"] < fit["fit/ctr"] < 1


def test_every_figure_of_the_digest_is_logged(undisturbed: Path) -> None:
    names = set().union(*steps(undisturbed, "rl"))
    wanted = {f"reward/{name}" for name in ("structure", "semantic", "ctcvr", "truth")}
    wanted |= {f"relate/{name}" for name in ("compliant", "formatted", "fault_tokens", "repeated_tokens", "history")}
    wanted |= {f"relate/failed_{check}" for check in ("correctness", "relevance", "risk")}
    wanted |= {f"relate/{name}" for name in ("distinct_1", "distinct_2", "new_phrases", "unplaced", "unmatched_spans")}
    wanted |= {"advantage/token_share", "judge/asked", "judge/unreadable", "missing/semantic", "length/mean", "ref_kl"}
    assert not wanted - names, wanted - names
    (after,) = steps(undisturbed, "after")
    assert {"eval/reward/semantic", "eval/reward/truth", "eval/ads/distinct_2", "eval/ads/failed_risk"} <= set(after)


def test_killed_and_resumed_is_bit_equal_with_its_history(undisturbed: Path) -> None:
    killed = undisturbed.with_name("killed")
    assert len(steps(killed, "rl")) == 3
    assert list(killed.glob("stages/rl/checkpoints/*/shaper/history.npz")), "no history in the checkpoint"
    train(killed, SMALL)
    assert weights(killed, "rl") == weights(undisturbed, "rl")
    ours, others = (
        [{k: v for k, v in row.items() if k.startswith(("relate/", "reward/"))} for row in steps(folder, "rl")]
        for folder in (killed, undisturbed)
    )
    assert ours == others and ours[-1]["relate/history"] > ours[0]["relate/history"]
