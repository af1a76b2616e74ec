"""Part D of RELATE's experiment: the recipe itself, all arms of a seed from the same imitator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.experiments._recipe_runs import FinishedRun, run_recipe, stage, together
from benchmarks.experiments.report import REAL, Claim, by_seed, positive

SEEDS = (12, 13, 14)
VARIED = (15, 16, 17)  # more seeds of M2 and M3 alone, whose difference in variety three cannot tell from noise
STEPS, UPDATES = 84, 2  # of 16 prompts each, and updates in each
RATE = 3e-3  # the least of 2e-3, 3e-3, 4e-3 and 8e-3 at which M1 alone writes .9 in form before update 90, on seed 1
WEIGHTS = {"structure": 1, "semantic": 0, "ctcvr": 3, "truth": 0}
SHAPER = {"_target_": "raylign.recipes.relate.GranularCredit", "scale": "none", "exempt": [";"]}
FITTED = "raylign.actors.reward.fitted.Fitted"
GRPO = {"_target_": "raylign.objectives.advantage.group.GRPO", "std": "sample", "epsilon": 1e-4}
TOKENS, NONE = ({"semantic": 1, "diversity": 6}, {"semantic": 0, "diversity": 0})
LOOK = {
    "greedy": False,
    "samples": 8,
    "weights": {**WEIGHTS, "ctcvr": 3},
    "measures": {"ads": {"_target_": "raylign.recipes.relate.AdFigures", "exempt": [";"]}},
}
Arm = Mapping[str, Any]


def arm(tokens: Mapping[str, float], conversion: str = "ctcvr", weight: float = 3, **sequence: float) -> Arm:
    """Settings of an `Rl`. tokens: weights in the advantage; sequence: in S."""
    rewards = {"structure": 1, "semantic": 0, conversion: weight}
    shaper = {**SHAPER, "conversion": conversion, "sequence": sequence}
    return {"weights": rewards, "shaper": shaper, "advantage": {**GRPO, "token_weights": dict(tokens)}}


ARMS: Mapping[str, Arm] = {
    "m1": arm(NONE, weight=0),
    "m2": arm(NONE),
    "m3": arm(NONE, diversity=3),
    "m4": arm(NONE, diversity=1, semantic=0.5),
    "relate": arm(TOKENS),
    "clicks": arm(TOKENS, "ctr"),
}
Done = Mapping[str, FinishedRun]  # of a seed: arm -> its run


def language_model(folder: Path) -> list[Claim]:
    """The digest's fourth test, and the two further arms."""
    jobs = [partial(run, folder, seed) for seed in SEEDS]
    jobs += [partial(varied, folder, seed) for seed in VARIED]  # start after the first has ended, two at a time
    ended = together(jobs)
    runs = [dict.fromkeys(("imitator", "chosen", *ARMS), done) for done in ended[: len(SEEDS)]]
    looks = {name: [looked(done[name], name) for done in runs] for name in ("imitator", *ARMS)}
    claims = [_figure(name, of) for name, of in looks.items()]
    reached = {name: np.array([_reached(done[name], name) for done in runs]) for name in ("m4", "relate")}

    def of(name: str, figure: str) -> np.ndarray:
        return np.array([numbers[figure] for numbers in looks[name]])

    def gain(figure: str, one: str, other: str, note: str) -> Claim:
        names = {"truth": "CTCVR", "semantic": "compliant"}
        titles = [name.upper() if name != "imitator" else name for name in (one, other)]
        return positive(f"D/{names[figure]}, {' - '.join(titles)}", of(one, figure) - of(other, figure), note)

    claims += [
        gain("truth", "m2", "m1", "digest .25"),
        gain("semantic", "imitator", "m2", "conversions alone cost compliance"),
        Claim(
            name="D/compliant, M2",
            value=float(of("m2", "semantic").mean()),
            threshold=0.05,
            relation="<=",
            note=f"{REAL}, mean of 3 seeds",
        ),
        _variety(ended),
        gain("semantic", "m4", "m3", "digest .425"),
        gain("semantic", "relate", "imitator", "abstract"),
        gain("truth", "relate", "imitator", "abstract"),
        positive("D/updates to 80 % compliance, M4 - RELATE", reached["m4"] - reached["relate"], _ratio(reached)),
    ]
    for figure, one, other in (
        ("semantic", "m1", "m2"),
        *((figure, "relate", "m4") for figure in ("semantic", "structure", "truth", "distinct_2")),
    ):
        gains = of(one, figure) - of(other, figure)
        name = f"D/{figure}, {one.upper()} - {other.upper()}"
        claims.append(Claim(name=name, value=float(np.mean(gains)), note=f"{REAL}, seeds {by_seed(gains)}"))
    return [*claims, *_against_others(runs)]


def run(folder: Path, seed: int) -> FinishedRun:
    """The recipe at scale=tiny without its rl, then all arms, each from the imitator, and the second stage of two."""
    stages = [stage("imitator_after", "evaluate.Evaluate", start="@sft", **LOOK)]
    for name in ARMS:
        stages += _arm(name, "@sft")
    best = {"split": "holdout", "samples": 8, "weights": {"structure": 10, "semantic": 10, "ctcvr": 1, "truth": 0}}
    keep = {"_target_": "raylign.recipes.stages.keep.Best"}
    stages.append(stage("chosen", "generate.Generate", start="@sft", keep=keep, **best))
    clicks = f"{{_target_: {FITTED}, fitted: '@predictor', estimator: {_estimator('ctr')}}}"
    return run_recipe("relate", _folder(folder, seed), [*_plain(seed), f"+rewards.ctr.fn={clicks}", *stages])


def varied(folder: Path, seed: int) -> FinishedRun:
    """M2 and M3 on prompts of another seed, from the first seed's imitator and with its predictor."""
    first = _folder(folder, SEEDS[0]) / "stages"
    imitator = str(first / "sft" / "model")
    known = [f"model.path={imitator}", f"rewards.ctcvr.fn.fitted={first / 'predictor' / 'fitted'}"]
    known += [f"rewards.ctcvr.fn.estimator={_estimator('ctcvr')}"]
    known += [f"~stages.{name}" for name in ("sft", "serve", "predictor")]
    arms = [override for name in ("m2", "m3") for override in _arm(name, imitator)]
    return run_recipe("relate", _folder(folder, seed), [*_plain(seed), *known, *arms])


def _folder(folder: Path, seed: int) -> Path:
    return folder / f"D-{seed}"


def _plain(seed: int) -> list[str]:
    plain = [f"seed={seed}", f"learner.optim.lr={RATE}", "objective.old_logprob=sampler"]
    plain += ["telemetry.rollouts_per_step=0", "run.stall_s=1800", "run.deadline_s=1800"]
    return [*plain, *(f"~stages.{name}" for name in ("before", "rl", "after"))]


def _arm(name: str, start: str) -> list[str]:
    """RL of an arm from `start`, and what it knows then."""
    learning = {"steps": STEPS, "prompts_per_step": 16, "group_size": 8, "minibatches": UPDATES, **ARMS[name]}
    return [
        stage(name, "rl.Rl", start=start, **learning),
        stage(f"{name}_after", "evaluate.Evaluate", **LOOK),
    ]


def _estimator(head: str) -> str:
    settings = "record: meta, separator: ';', longest: 1, buckets: 1024, hidden: 16"
    return f"{{_target_: raylign.recipes.relate.TwoHeads, head: {head}, {settings}}}"


def looked(done: FinishedRun, name: str) -> dict[str, float]:
    """What the evaluation after an arm measured."""
    head = f"{name}_after/eval/"
    numbers = {key: done.metrics[f"{head}reward/{key}"] for key in WEIGHTS}
    return numbers | {
        key: done.metrics[head + of] for key, of in (("distinct_2", "ads/distinct_2"), ("length", "length/mean"))
    }


def _variety(ended: Sequence[FinishedRun]) -> Claim:
    """Of M2 and M3, over all seeds that have both."""
    gains = [looked(done, "m3")["distinct_2"] - looked(done, "m2")["distinct_2"] for done in ended]
    return positive("D/distinct-2, M3 - M2", np.array(gains), "digest .025")


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
    """Updates until three steps in a row had a mean compliance of 80 %; those of a step more than all if none did."""
    compliant = [line["reward/semantic"] for line in done.steps(name)]
    above = np.flatnonzero(np.convolve(compliant, np.ones(3) / 3, "valid") >= 0.8)
    return float(UPDATES * (above[0] + 3 if len(above) else STEPS + 1))


def _ratio(reached: Mapping[str, np.ndarray]) -> str:
    share = reached["relate"].mean() / reached["m4"].mean()
    return (
        f"{reached['relate'].mean():.0f} and {reached['m4'].mean():.0f}, {share:.2f} of it; digest .9 at half the gap"
    )


def _against_others(runs: Sequence[Done]) -> list[Claim]:
    """True CTCVR of the ads that comply: at equal compliance of all arms."""
    ours, clicks, chosen = [], [], []
    for done in runs:
        ours.append(_compliant(_rewards(done["relate"], "relate_after")))
        clicks.append(_compliant(_rewards(done["clicks"], "clicks_after")))
        rows = (done["chosen"].folder / "stages" / "chosen" / "rows.jsonl").read_bytes().splitlines()
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
