"""TSR (arXiv:2602.11767): what a faithful small-scale experiment must show, with the digest's thresholds.

A  a tabular policy on 16 Sokoban rooms (numpy, `_tsr_tabular`): each search, and two controls, 20 paired seeds (of the
   digest's 5 the standard error is as large as the window that the control must keep)
B  a tiny language model through the real actors on 8 fixed rooms: a beam against plain rollouts, 5 paired seeds (rooms
   of at most 4 moves and 6 turns, the digest's: 8 and 10; an update close to plain gradient ascent, see `UPDATE`)
D  the same on FrozenLake: a beam that sees the live chance, and a fair one

    make experiment RECIPE=tsr                  all parts
    make experiment RECIPE=tsr ARGS="A"         the part without a language model, a minute or two

Part C of the digest, exactness, is tests: tests/rollout/test_search.py and test_search_engine.py,
tests/objectives/test_selection.py, tests/recipes/test_tsr.py, tests/environments.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.experiments._main import in_turn, main
from benchmarks.experiments._recipe_runs import FinishedRun, run_recipe, together
from benchmarks.experiments._tsr_tabular import ARMS, FIRST_SEED, learn
from benchmarks.experiments.report import Claim

SEEDS = (1, 2, 3, 4, 5)
TABULAR_SEEDS = range(1, 21)
REFERENCE = {  # the digest's own simulation, success after 20, 40, ... 120 updates, calls in millions
    "naive": (0.51, 0.65, 0.72, 0.79, 0.85, 0.87, 0.11),
    "best-of-N": (0.68, 0.83, 0.86, 0.89, 0.92, 0.94, 0.22),
    "beam": (0.65, 0.82, 0.92, 0.92, 0.94, 0.94, 0.38),
    "lookahead": (0.90, 0.94, 0.96, 0.97, 0.98, 0.995, 2.6),
    "random choice": (0.47, 0.66, 0.76, 0.83, 0.87, 0.90, 0.42),
    "4 x trajectories": (0.71, 0.85, 0.90, 0.90, 0.90, 0.90, 0.39),
}
ROOMS = [  # as part A's, one move a turn, but at most 4 moves away, so that 6 turns are enough
    "data.size=8",
    f"data.generator.first_seed={FIRST_SEED}",
    "environment.fn.shortest_max=4",
    "environment.fn.actions_per_turn=1",
    "environment.fn.turns=6",
    "rollout.strategy.max_turns=6",
]
# The digest's update is plain gradient ascent: more successes, a longer step. Adam divides that away (with its usual
# eps both arms learn alike, naive .42 and beam .38 on seed 1), and of a batch without any success it makes a whole
# step along the entropy bonus, away from legal moves. With a large eps and no bonus the gradient's length counts.
UPDATE = ["learner.optim.eps=1e-3", "learner.optim.lr=3e-3", "stages.rl.epochs=4", "objective.entropy_coef=0"]
GRPO = "advantage={_target_: raylign.objectives.advantage.group.GRPO}"
SUCCESS = "eval/episode/success"


# ----------------------------------------------------------------------------------------------------------------- A


def tabular(_: Path) -> list[Claim]:
    """Success after 40 and 120 updates, mean over seeds."""
    curves, calls = {}, {}
    for name, arm in ARMS.items():
        runs = [learn(arm, seed) for seed in TABULAR_SEEDS]
        curves[name] = np.mean([curve for curve, _ in runs], axis=0)
        calls[name] = float(np.mean([count for _, count in runs]))
    at_40 = {name: float(curve[1]) for name, curve in curves.items()}
    claims = [
        _gain("A/best-of-N - naive, 40 updates", at_40["best-of-N"] - at_40["naive"], 0.10),
        _gain("A/beam - naive, 40 updates", at_40["beam"] - at_40["naive"], 0.10),
        _gain("A/lookahead - naive, 40 updates", at_40["lookahead"] - at_40["naive"], 0.20),
        Claim(
            name="A/random choice - naive, 40 updates",
            value=at_40["random choice"] - at_40["naive"],
            threshold=(-0.05, 0.05),
            relation="within",
            note="the score, not the extra sampling, is what helps",
        ),
        Claim(
            name="A/beam - 4 x trajectories, 120 updates",
            value=float(curves["beam"][-1] - curves["4 x trajectories"][-1]),
            threshold=0,
            relation=">=",
            note=f"at {calls['beam'] / 1e6:.2f} M and {calls['4 x trajectories'] / 1e6:.2f} M calls",
        ),
    ]
    for name, curve in curves.items():
        note = f"{' '.join(f'{value:.2f}' for value in curve)}, {calls[name] / 1e6:.2f} M calls; digest "
        *reference, millions = REFERENCE[name]
        note += f"{' '.join(f'{value:.2f}' for value in reference)}, {millions} M"
        claims.append(Claim(name=f"A/{name}: success after 40", value=at_40[name], note=note))
    return claims


def _gain(name: str, value: float, threshold: float) -> Claim:
    note = f"mean of {len(TABULAR_SEEDS)} seeds, rooms {FIRST_SEED} to {FIRST_SEED + 15}"
    return Claim(name=name, value=value, threshold=threshold, relation=">=", note=note)


# ----------------------------------------------------------------------------------------------------------------- B


def language_model(folder: Path) -> list[Claim]:
    """Mean success over the curve, without search: beam against plain rollouts from the same warm start."""
    gains, claims = [], []
    for seed, (plain, beam) in zip(SEEDS, together([partial(_pair, folder, seed) for seed in SEEDS]), strict=True):
        areas = [float(np.mean(_curve(run))) for run in (plain, beam)]
        gains.append(areas[1] - areas[0])
        ends = [f"{_curve(run)[-1]:.2f}" for run in (plain, beam)]
        note = f"area {areas[0]:.3f} -> {areas[1]:.3f}, at the end {ends[0]} -> {ends[1]}; tokens sampled "
        note += " -> ".join(f"{_sampled(run):.0f}" for run in (plain, beam))
        claims.append(Claim(name=f"B/gain of area, seed {seed}", value=gains[-1], note=note))
    share = sum(gain >= 0.05 for gain in gains)
    return [
        Claim(name="B/seeds with a gain of area >= .05", value=share, threshold=4, relation=">=", note="of 5"),
        *claims,
    ]


def _pair(folder: Path, seed: int) -> tuple[FinishedRun, FinishedRun]:
    """Both arms of a seed."""
    warm = folder / f"B-warm-{seed}"
    plain = run_recipe("tsr", folder / f"B-naive-{seed}", _platform(seed, "naive", warm))
    return plain, run_recipe("tsr", folder / f"B-beam-{seed}", _platform(seed, "beam", warm))


def _platform(seed: int, search: str, warm: Path) -> list[str]:
    """Overrides of one run; both arms start from one model."""
    started = run_recipe("tsr", warm, [f"seed={seed}", "search=naive", *ROOMS, "~stages.rl", "~stages.after"])
    shape = [f"model.path={started.model('warmup')}", "~stages.warmup", "~stages.after"]
    width = ["stages.rl.strategy.width=1"] if search == "beam" else []
    common = [f"seed={seed}", f"search={search}", GRPO, *ROOMS, *UPDATE, *shape, *width]
    return [*common, "stages.rl.eval_every=4", "stages.rl.steps=40"]


def _curve(run: FinishedRun) -> list[float]:
    return [step[SUCCESS] for step in run.steps("rl") if SUCCESS in step]


def _sampled(run: FinishedRun) -> float:
    """Tokens of all turns that were sampled in training, per trajectory kept."""
    steps = run.steps("rl")
    return float(np.mean([step["search/tokens_kept"] + step["search/tokens_discarded"] for step in steps]))


# ----------------------------------------------------------------------------------------------------------------- D


def fairness(folder: Path) -> list[Claim]:
    """Forecast minus outcome of every turn taken on the ice, under the live chance and under chance of its own."""
    common = [
        "seed=1",
        "environment=frozen_lake",
        GRPO,
        "stages.rl.strategy.width=1",
        "stages.rl.steps=12",
        "~stages.after",
    ]
    common += ["stages.rl.eval_every=12", "telemetry.rollouts_per_step=0"]
    noises = {"live": ["stages.rl.strategy.noise=live", "stages.rl.strategy.simulations=1"], "fresh": []}
    jobs = [partial(run_recipe, "tsr", folder / f"D-{name}", [*common, *extra]) for name, extra in noises.items()]
    runs = dict(zip(noises, together(jobs), strict=True))
    # Of whole episodes: a turn's forecast is fair, but the mean over a turn or five weighs those that end early more.
    turns, means = _of(runs["fresh"], "episode/turns"), _of(runs["fresh"], "search/gap")
    gaps = np.multiply(turns, means)
    squares = {name: _of(run, "search/gap_squared") for name, run in runs.items()}
    error = float(np.std(gaps, ddof=1) / np.sqrt(len(gaps)))
    note = f"{len(gaps)} episodes, mean {np.mean(gaps):.4f} an episode, standard error {error:.4f}"
    claims = [
        Claim(name="D/live: largest |gap|^2", value=float(np.max(squares["live"])), threshold=0, relation="=="),
        Claim(name="D/fresh: mean gap^2", value=float(np.mean(squares["fresh"])), threshold=0, relation=">"),
        Claim(
            name="D/fresh: |mean gap| in standard errors",
            value=abs(float(np.mean(gaps))) / error,
            threshold=3,
            relation="<=",
            note=note,
        ),
    ]
    for name, run in runs.items():
        returns, optimism = np.mean(_of(run, "episode/return")), np.mean(_of(run, "search/optimism"))
        note = f"without search at the end {_curve(run)[-1]:.3f}; optimism of the chosen score {optimism:.4f}"
        claims.append(Claim(name=f"D/{name}: mean training return", value=float(returns), note=note))
    return claims


def _of(run: FinishedRun, name: str) -> Sequence[float]:
    return [row["metrics"][name] for row in run.rollouts("rl")]


if __name__ == "__main__":
    main("tsr", __doc__, {"A": tabular, "B": language_model, "D": fairness}, {"seeds": SEEDS}, in_turn)
