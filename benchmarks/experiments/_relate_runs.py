"""Part D of RELATE's experiment: the recipe itself, all arms of a seed in one run, each from the same imitator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.experiments._recipe_runs import FinishedRun, run_recipe, stage, together
from benchmarks.experiments.report import REAL, Claim, by_seed, positive

SEEDS = (1, 2, 3)
VARIED, MORE_SEEDS = ("m2", "m3"), (4, 5, 6, 7, 8)  # what a weight of diversity does is small beside chance: 8 seeds
UPDATES = 200  # the digest: 120; after 100 every arm still learned the form of an ad
WEIGHTS = {"structure": 1, "semantic": 0, "ctcvr": 3, "truth": 0}
SHAPER = {"_target_": "raylign.recipes.relate.GranularCredit", "scale": "none", "exempt": [";"]}
GRPO = {"_target_": "raylign.objectives.advantage.group.GRPO", "std": "sample", "epsilon": 1e-4}
TOKENS, NONE = ({"semantic": 1, "diversity": 6}, {"semantic": 0, "diversity": 0})
Arm = Mapping[str, Any]


def arm(tokens: Mapping[str, float], conversion: str = "ctcvr", weight: float = 3, **sequence: float) -> Arm:
    """Settings of an `Rl`. tokens: weights in the advantage; sequence: in S."""
    rewards = {**WEIGHTS, "ctcvr": 0, conversion: weight}
    shaper = {**SHAPER, "conversion": conversion, "sequence": sequence}
    return {"weights": rewards, "shaper": shaper, "advantage": {**GRPO, "token_weights": dict(tokens)}}


ARMS: Mapping[str, Arm] = {
    "m1": arm(NONE, weight=0),
    "m2": arm(NONE),
    "m3": arm(NONE, diversity=1),
    "m4": arm(NONE, diversity=1, semantic=0.5),
    "relate": arm(TOKENS),
    "clicks": arm(TOKENS, "ctr"),
}


def language_model(folder: Path) -> list[Claim]:
    """The digest's fourth test, and the two further arms."""
    jobs = [partial(run, folder, seed) for seed in SEEDS]
    jobs += [partial(run, folder, seed, VARIED) for seed in MORE_SEEDS]
    every = together(jobs)
    runs = every[: len(SEEDS)]
    looks = {name: [looked(done, name) for done in runs] for name in ("imitator", *ARMS)}
    plain, varied = (np.array([looked(done, name)["distinct_2"] for done in every]) for name in VARIED)
    claims = [_figure(name, of) for name, of in looks.items()]
    reached = {name: np.array([_reached(done, name) for done in runs]) for name in ("m4", "relate")}

    def of(name: str, figure: str) -> np.ndarray:
        return np.array([numbers[figure] for numbers in looks[name]])

    m4, relate = looks["m4"], looks["relate"]
    claims += [
        positive("D/CTCVR, M2 - M1", of("m2", "truth") - of("m1", "truth"), "digest .25"),
        positive(
            "D/compliant, M1 - M2", of("m1", "semantic") - of("m2", "semantic"), "conversions alone cost compliance"
        ),
        positive("D/distinct-2, M3 - M2", varied - plain, "digest .025"),
        positive("D/compliant, M4 - M3", of("m4", "semantic") - of("m3", "semantic"), "digest .425"),
        positive("D/compliant, RELATE - imitator", of("relate", "semantic") - of("imitator", "semantic"), "abstract"),
        positive("D/CTCVR, RELATE - imitator", of("relate", "truth") - of("imitator", "truth"), "abstract"),
        positive("D/updates to 80 % compliance, M4 - RELATE", reached["m4"] - reached["relate"], _ratio(reached)),
    ]
    for figure in ("semantic", "structure", "truth", "distinct_2"):
        gains = [ours[figure] - theirs[figure] for ours, theirs in zip(relate, m4, strict=True)]
        claims.append(
            Claim(name=f"D/{figure}, RELATE - M4", value=float(np.mean(gains)), note=f"{REAL}, seeds {by_seed(gains)}")
        )
    return [*claims, *_against_others(runs)]


def run(folder: Path, seed: int, arms: Sequence[str] = tuple(ARMS)) -> FinishedRun:
    """The recipe at scale=tiny without its rl, then arms, each from the imitator, and the second stage of two."""
    estimator = "{_target_: raylign.recipes.relate.TwoHeads, head: ctr, record: meta, separator: ';'"
    estimator += ", longest: 1, buckets: 1024, hidden: 16}"
    clicks = f"{{_target_: raylign.actors.reward.fitted.Fitted, fitted: '@predictor', estimator: {estimator}}}"
    asking = {"greedy": False, "samples": 8, "weights": {**WEIGHTS, "ctcvr": 3}, "measures": _measures()}
    stages = [stage("imitator_after", "evaluate.Evaluate", start="@sft", **asking)]
    for name in arms:
        learning = {"steps": UPDATES, "prompts_per_step": 8, "group_size": 8, **ARMS[name]}
        stages.append(stage(name, "rl.Rl", start="@sft", **learning))
        stages.append(stage(f"{name}_after", "evaluate.Evaluate", **asking))
    best = {"split": "holdout", "samples": 8, "weights": {"structure": 10, "semantic": 10, "ctcvr": 1, "truth": 0}}
    keep = {"_target_": "raylign.recipes.stages.keep.Best"}
    stages.append(stage("chosen", "generate.Generate", start="@sft", keep=keep, **best))
    plain = [
        f"seed={seed}",
        "~stages.before",
        "~stages.rl",
        "~stages.after",
        f"+rewards.ctr.fn={clicks}",
    ]
    quiet = ["telemetry.rollouts_per_step=0", "run.stall_s=1800", "run.deadline_s=1800"]
    return run_recipe("relate", folder / f"D-{seed}", [*plain, *stages, *quiet])


def _measures() -> dict[str, Any]:
    return {"ads": {"_target_": "raylign.recipes.relate.AdFigures", "exempt": [";"]}}


def looked(done: FinishedRun, name: str) -> dict[str, float]:
    """What the evaluation after an arm measured."""
    head = f"{name}_after/eval/"
    numbers = {key: done.metrics[f"{head}reward/{key}"] for key in WEIGHTS}
    return numbers | {
        key: done.metrics[head + of] for key, of in (("distinct_2", "ads/distinct_2"), ("length", "length/mean"))
    }


def _figure(name: str, looks: Sequence[Mapping[str, float]]) -> Claim:
    def mean(figure: str) -> float:
        return float(np.mean([numbers[figure] for numbers in looks]))

    note = (
        f"{REAL}: predicted {mean('ctcvr'):.3f}, structure {mean('structure'):.2f}, compliant {mean('semantic'):.2f}, "
    )
    return Claim(
        name=f"D/{name}: CTCVR",
        value=mean("truth"),
        note=f"{note}distinct-2 {mean('distinct_2'):.3f}, {mean('length'):.1f} tokens",
    )


def _reached(done: FinishedRun, name: str) -> float:
    """The update at which five in a row had a mean compliance of 80 %; one more than there are if none did."""
    compliant = [line["reward/semantic"] for line in done.steps(name)]
    above = np.flatnonzero(np.convolve(compliant, np.ones(5) / 5, "valid") >= 0.8)
    return float(above[0] + 5) if len(above) else UPDATES + 1.0


def _ratio(reached: Mapping[str, np.ndarray]) -> str:
    share = reached["relate"].mean() / reached["m4"].mean()
    return (
        f"{reached['relate'].mean():.0f} and {reached['m4'].mean():.0f}, {share:.2f} of it; digest .9 at half the gap"
    )


def _against_others(runs: Sequence[FinishedRun]) -> list[Claim]:
    """True CTCVR of the ads that comply: at equal compliance of all arms."""
    ours, clicks, chosen = [], [], []
    for done in runs:
        ours.append(_compliant(_rewards(done, "relate_after")))
        clicks.append(_compliant(_rewards(done, "clicks_after")))
        rows = (done.folder / "stages" / "chosen" / "rows.jsonl").read_bytes().splitlines()
        chosen.append(_compliant([orjson.loads(row)["meta"]["generated"]["rewards"] for row in rows]))
    claims = []
    for name, theirs in (("two stages, best of 8", chosen), ("clicks alone", clicks)):
        gains = np.array([a[0] - b[0] for a, b in zip(ours, theirs, strict=True)])
        shares = [float(np.mean([share for _, share in arm])) for arm in (ours, theirs)]
        note = f"of the ads that comply ({shares[0]:.2f} and {shares[1]:.2f} of all)"
        claims.append(positive(f"D/CTCVR, RELATE - {name}", gains, note))
    return claims


def _rewards(done: FinishedRun, name: str) -> list[dict[str, float]]:
    return [{key: of["score"] for key, of in row["rewards"].items() if "score" in of} for row in done.rollouts(name)]


def _compliant(samples: Sequence[Mapping[str, float]]) -> tuple[float, float]:
    """Mean true CTCVR of the ads that comply, 0 without any, and their share."""
    good = [sample["truth"] for sample in samples if sample["semantic"] == 1 and sample["structure"] > 0]
    return float(np.mean(good)) if good else 0.0, len(good) / len(samples)
