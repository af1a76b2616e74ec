"""ARLCP (arXiv:2602.12113): what a faithful small-scale experiment must show, with the digest's thresholds.

A  reward algebra: the hand-checkable group, and properties of random groups
B  the keyword counter on crafted strings
C  a simulated policy with essential reflections, waste and filler (numpy, `_arlcp_simulated`)
D  a tiny language model through the real actors: over-thinking traces by sft, then RLOO with ARLCP, and two contrasts
E  every logged count, statistic and reward of D's run recomputed from the rows' texts and tokens (`_arlcp_by_hand`)

    make experiment RECIPE=arlcp                  all parts, about 7 minutes on 2 quiet cores
    make experiment RECIPE=arlcp ARGS="A B C"     the parts without a language model, seconds
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.experiments._arlcp_by_hand import by_hand, facts_of
from benchmarks.experiments._arlcp_simulated import DIFFICULTIES, simulate
from benchmarks.experiments._main import in_turn, main
from benchmarks.experiments._recipe_runs import FinishedRun, run_recipe, stage
from benchmarks.experiments.report import Claim, largest, least
from raylign.recipes.arlcp.shaper import KEYWORDS, KeywordCounter, ReflectionPenalty, shape_group
from raylign.recipes.arlcp.toy import ZERO

SEED = 1
HAND = ([10, 30, 50, 90], [1000, 2500, 5000, 3000], [1, 0, 1, 1])
HAND_REWARDS, HAND_ADVANTAGES = [0.94621, 0, 0.87689, 0.86534], [0.36547, -0.89615, 0.27304, 0.25764]
CALIBRATED = {  # the digest's own simulation: reflections at d = 10, mean length
    "start": (17.7, 135),
    "correctness only": (17.8, 140),
    "reflection only": (13.4, 105),
    "length only": (14.1, 93),
    "ARLCP": (13.5, 96),
}
STRINGS = {
    "Wait, is it 4?": 1,
    "WAIT wait Wait": 3,
    "Alternatively, an alternative exists": 2,
    "alternatives": 0,
    "hold on. Hold on!": 2,
    "Another thought: think again": 2,
    "double-check": 1,
    "Let me double-check, then check.": 2,
    "checking verified checks": 0,
    "button, rebut, but": 1,
    "However,however": 2,
    "hmm, hmmm, Hmm...": 2,
    "oh! Ohm ohh oh": 2,
    "re-check": 1,
    "wait_for but1": 0,
    "thought</think>But the answer: check": 2,
}


# -------------------------------------------------------------------------------------------------------------- A, B


def algebra(_: Path) -> list[Claim]:
    """The worked group to 1e-5, and 10,000 random groups."""
    rewards = _shape(*HAND)
    advantages = rewards * 4 / 3 - rewards.mean() * 4 / 3
    worked = max(np.abs(rewards - HAND_REWARDS).max(), np.abs(advantages - HAND_ADVANTAGES).max())
    rng = np.random.default_rng(0)
    lowest, highest, wrong, swapped = 1.0, 0.0, 0.0, 0.0
    for _trial in range(10_000):
        n = int(rng.integers(2, 17))
        counts, lengths = rng.integers(0, 120, n), rng.integers(1, 16385, n)
        right = rng.random(n) < rng.random()
        reward = _shape(counts, lengths, right)
        if right.any():
            lowest, highest = min(lowest, reward[right].min()), max(highest, reward[right].max())
        wrong = max(wrong, np.abs(reward[~right]).max(initial=0))
        others = lengths.copy()
        others[~right] = rng.permutation(lengths[~right])
        swapped = max(swapped, np.abs(_shape(counts, others, right) - reward).max())
    alone = [_shape([5, 60], [length, 100], [1, 0])[0] for length in (1, 16384)]
    equal = shape_group(
        np.full(3, 7.0), np.array([1.0, 2.0, 3.0]), np.ones(3, bool), np.ones(3, bool), ReflectionPenalty.Config()
    )
    return [
        Claim(name="A/worked group, rewards and advantages", value=float(worked), threshold=1e-5, relation="<="),
        Claim(name="A/lowest right answer", value=float(lowest), threshold=0.8, relation=">", note="10,000 groups"),
        Claim(name="A/highest right answer", value=float(highest), threshold=1.0, relation="<"),
        Claim(name="A/largest |reward| of a wrong answer", value=float(wrong), threshold=0, relation="=="),
        Claim(name="A/effect of wrong answers' lengths", value=float(swapped), threshold=0, relation="=="),
        Claim(name="A/only right answer, shortest", value=float(alone[0]), threshold=0.9, relation="=="),
        Claim(name="A/only right answer, longest", value=float(alone[1]), threshold=0.9, relation="=="),
        Claim(name="A/f_R at equal counts", value=float(equal.f_reflection[0]), threshold=0.5, relation="=="),
    ]


def counting(_: Path) -> list[Claim]:
    """Strings whose count is not the expected one."""
    count = KeywordCounter(KEYWORDS)
    mistakes = sum(count(text) != expected for text, expected in STRINGS.items())
    return [Claim(name="B/miscounted strings", value=mistakes, threshold=0, relation="==", note=f"of {len(STRINGS)}")]


def _shape(counts: Any, lengths: Any, right: Any) -> np.ndarray:
    flags = np.asarray(right, bool)
    values = (np.asarray(counts, np.float64), np.asarray(lengths, np.float64))
    return shape_group(*values, flags, flags, ReflectionPenalty.Config()).reward


# ----------------------------------------------------------------------------------------------------------------- C


def simulated(_: Path, seeds: int = 3) -> list[Claim]:
    """What each reward does to essential reflections, waste and filler."""
    outcomes = simulate(seeds)
    full, plain, reflection = outcomes["ARLCP"], outcomes["correctness only"], outcomes["reflection only"]
    spare = least(k - d for k, d in zip(full.reflections, DIFFICULTIES, strict=True))
    filler = float(np.mean(full.fillers) / np.mean(reflection.fillers))
    shorter = full.length / plain.length
    claims = [
        Claim(name="C/length, ARLCP / correctness only", value=shorter, threshold=0.78, relation="<="),
        Claim(
            name="C/accuracy, ARLCP - correctness only",
            value=full.accuracy - plain.accuracy,
            threshold=-0.01,
            relation=">=",
        ),
        Claim(name="C/fewest reflections beyond the essential d", value=spare, threshold=0, relation=">="),
        Claim(
            name="C/smallest rise of reflections with d",
            value=float(np.diff(full.reflections).min()),
            threshold=0,
            relation=">",
        ),
        Claim(name="C/filler, ARLCP / reflection only", value=filler, threshold=0.85, relation="<="),
        Claim(
            name="C/length, correctness only / start",
            value=plain.length / outcomes["start"].length,
            threshold=0.98,
            relation=">=",
            note="must not shorten; 2 % for noise, calibrated 1.04",
        ),
    ]
    for name, outcome in outcomes.items():
        reflections, length = CALIBRATED[name]
        note = f"reflections {', '.join(f'{k:.1f}' for k in outcome.reflections)}; calibrated length {length}, "
        note += f"reflections at 10: {reflections}"
        claims.append(Claim(name=f"C/{name}: length", value=outcome.length, note=note))
    return claims


# -------------------------------------------------------------------------------------------------------------- D, E


def language_model(folder: Path) -> list[Claim]:
    """Reflections beyond the need at least halve at the accuracy of the start; two contrasts beside it."""
    run = tiny_run(folder)
    before, after = _outcome(run, "before"), _outcome(run, "after")
    halved = after["excess"] / before["excess"]
    claims = [
        Claim(
            name="D/excess reflections, after / before",
            value=halved,
            threshold=0.5,
            relation="<=",
            note=f"{before['excess']:.2f} -> {after['excess']:.2f}",
        ),
        Claim(
            name="D/accuracy, after - before",
            value=after["accuracy"] - before["accuracy"],
            threshold=-0.01,
            relation=">=",
            note=f"{before['accuracy']:.3f} -> {after['accuracy']:.3f}",
        ),
    ]
    stages = {"ARLCP": "after"} | {name: f"after_{key}" for key, (name, _) in CONTRASTS.items()}
    for name, ended in stages.items():
        outcome = _outcome(run, ended)
        note = f"accuracy {outcome['accuracy']:.3f}, length {outcome['length']:.1f}"
        claims.append(Claim(name=f"D/{name}: excess after", value=outcome["excess"], note=note))
    return claims


SHAPER = "_target_:raylign.recipes.arlcp.ReflectionPenalty,n_1:6,n_2:12,keywords:['~']"
CONTRASTS = {  # each trained from the same fine-tuned model, by a stage of its own
    "no_gate": ("no gate", "penalised:all"),
    "alpha_1": ("alpha 1", "alpha:1,lambdas:[0.25,0.5,0.75]"),
}


@cache
def tiny_run(folder: Path) -> FinishedRun:
    """The recipe at scale=tiny, and behind it the contrasts."""
    overrides = [f"seed={SEED}", "telemetry.rollouts_per_step=0"]
    for key, (_, change) in CONTRASTS.items():
        shaper = f"shaper:{{{SHAPER},{change}}}"
        overrides += [
            f"stages.{key}={{_target_:raylign.recipes.stages.rl.Rl,start:'@sft',steps:${{stages.rl.steps}},"
            f"prompts_per_step:${{stages.rl.prompts_per_step}},group_size:${{stages.rl.group_size}},{shaper}}}",
            stage(f"after_{key}", "evaluate.Evaluate", samples=4, greedy=False),
        ]
    return run_recipe("arlcp", folder / "D", overrides)


def _outcome(run: FinishedRun, name: str) -> dict[str, float]:
    rows = run.rollouts(name)
    need = {row["prompt"]: ord(row["messages"][-1]["content"][4]) - ZERO for row in rows}
    return {
        "excess": float(np.mean([row["metrics"]["arlcp/reflections"] - need[row["prompt"]] for row in rows])),
        "accuracy": float(np.mean([row["metrics"]["arlcp/correct"] for row in rows])),
        "length": float(np.mean([row["metrics"]["arlcp/length"] for row in rows])),
    }


def recomputed(folder: Path) -> list[Claim]:
    """Every figure of a logged row from its text, its tokens and its group, by plain arithmetic (`_arlcp_by_hand`).

    Nothing of the recipe is called: counts, lengths and verdicts come from the text and the token ids, everything else
    from those three. Advantages are those of the first step, where policy and reference are one and the KL charge is 0.
    """
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in tiny_run(folder).rollouts("rl"):
        groups.setdefault((row["step"], row["prompt"]), []).append(row)
    first = min(step for step, _ in groups)
    miscounted, worst, advantage = Counter(dict.fromkeys(("reflections", "length", "correct"), 0)), 0.0, 0.0
    for (step, _), rows in groups.items():
        answers = [facts_of(row) for row in rows]
        for row, facts in zip(rows, answers, strict=True):
            miscounted.update(name for name, value in facts.items() if row["metrics"][f"arlcp/{name}"] != value)
        scores = []
        for row, expected in zip(rows, by_hand(answers), strict=True):
            apart = [abs(row["metrics"][f"arlcp/{name}"] - value) for name, value in expected.items()]
            worst = largest([worst, *apart, abs(row["score"] - expected["reward"])])
            scores.append(expected["reward"])
        if step == first:
            others = [(sum(scores) - score) / (len(scores) - 1) for score in scores]
            errors = [abs(row["advantage"] - s + o) for row, s, o in zip(rows, scores, others, strict=True)]
            advantage = largest([advantage, *errors])
    note = f"{sum(map(len, groups.values()))} rows in {len(groups)} groups"
    return [
        *(
            Claim(name=f"E/rows with another {name}", value=count, threshold=0, relation="==", note=note)
            for name, count in miscounted.items()
        ),
        Claim(name="E/largest error of mu, sd, tier, f, r", value=worst, threshold=1e-9, relation="<=", note=note),
        Claim(
            name="E/largest error of an advantage",
            value=advantage,
            threshold=1e-5,
            relation="<=",
            note="first step; stored as float32",
        ),
    ]


if __name__ == "__main__":
    parts = {"A": algebra, "B": counting, "C": simulated, "D": language_model, "E": recomputed}
    main("arlcp", __doc__, parts, {"seed": SEED}, in_turn)
