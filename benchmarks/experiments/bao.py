"""BAO (arXiv:2602.11351): what a faithful small-scale experiment must show, with the digest's thresholds.

A  shaping: the digest's sequences and check values                                                      simulated
B  penalties on consecutive answers in a table (numpy, `_bao_tabular`), 16 seeds                         simulated
C  a weight on effort alone collapses, the penalty on consecutive answers does not                       simulated
D  the penalty on thinking that eats the budget, from a policy that thinks too long                      simulated
E  taught behaviours as a prior; the whole factorial {prior} x {penalties} x {weight} with its frontier  simulated
F  a tiny language model in the real FunctionGym (`_bao_runs`): a teacher by script with and without behaviour
   instructions, successes imitated, GRPO with and without penalties (2 x 2), UserRL's estimators; 3 seeds real actors
G  the user is a served model: TelepathyGym's real entities, its answers cached, lost episodes missing   real actors

    make experiment RECIPE=bao                      all parts
    make experiment RECIPE=bao ARGS="A B C D E"     the parts without a language model, about a minute

Dominance over the whole frontier is reported, not claimed: the digest's own simulation does not show it.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.experiments._bao_runs import language_model, served_user
from benchmarks.experiments._bao_tabular import TURNS, Figures, Penalties, World, roll, shaped, start, train
from benchmarks.experiments._main import in_turn, main
from benchmarks.experiments.report import SIMULATED, Claim
from raylign.recipes.bao.measures import pareto
from raylign.recipes.bao.turns import Episode, penalties, to_go
from raylign.recipes.bao.userrl import rescaled, standardised

SEEDS = tuple(range(1, 17))
EASY = World(hypotheses=27, halving=0.6)
HARD = World(hypotheses=64, halving=0.35)
TAUGHT = World(hypotheses=64, halving=0.35, probing=1.5)
LONG = World(hypotheses=64, halving=0.5, long=2.0)
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.4)


# ----------------------------------------------------------------------------------------------------------------- A


def episode(acts: str, *, solved: bool = False, budget: int = 15) -> Episode:
    """e works on the world, u involves the user."""
    user = np.array([act == "u" for act in acts])
    rewards = np.zeros(len(acts))
    rewards[-1] = solved
    return Episode(rewards=rewards, user=user, valid=np.ones(len(acts), bool), solved=solved, budget=budget)


def shaping(_: Path) -> list[Claim]:
    """The digest's exact cases."""
    off = {"answer": 0.0, "think": 0.0, "effort": 0.0, "cap": 99.0}
    _, asks, _ = penalties(episode("euueuuu"), **{**off, "answer": 1.0})
    thinking = [
        float(penalties(each, **{**off, "think": 1.0})[2].sum())
        for each in (
            episode("eee", budget=16),
            episode("eee", budget=16, solved=True),
            episode("e" * 16, budget=16),
        )
    ]
    scores = np.array([0.2, 0.9, 0.4, 0.4])
    z = standardised(scores)
    tokens = np.array([3.0, 5.0, 2.0])
    equalized = max(float(np.abs(rescaled(np.ones(3), tokens, float(value)) - value).max()) for value in z)
    grpo = float(np.abs(z - (scores - scores.mean()) / (scores.std(ddof=1) + 1e-6)).max())
    r2g = to_go(np.array([0.0, 0.0, 1.0]), 0.8)
    errors = {
        "consecutive penalty at turns 3, 6, 7 only": float(np.abs(asks - [0, 0, 1, 0, 0, 1, 1]).sum()),
        "thinking penalty of T = 16, T' = 3: 13/3": abs(thinking[0] - 13 / 3),
        "thinking penalty of a success, and of a whole budget": thinking[1] + thinking[2],
        "Equalized is plain GRPO": equalized + grpo,
        "R2G of (0, 0, 1) at .8": float(np.abs(r2g - [0.64, 0.8, 1.0]).max()),
        "rewards of the table against the recipe's, 512 episodes": _table_error(),
    }
    return [
        Claim(name=f"A/{name}: error", value=error, threshold=1e-6, relation="<=", note=SIMULATED)
        for name, error in errors.items()
    ]


def _table_error() -> float:
    """Largest difference of r' between the table of parts B to E and the recipe."""
    weights, worst = Penalties(answer=0.2, think=0.1, effort=0.05), 0.0
    episodes = roll(start(LONG), LONG, 512, np.random.default_rng(0))
    table = shaped(episodes, weights)
    for number in range(len(table)):
        count = int(episodes.tried[number].sum())
        rewards = np.zeros(count)
        rewards[-1] = episodes.solved[number]
        own = Episode(
            rewards=rewards,
            user=episodes.asks[number, :count],
            valid=episodes.done[number, :count],
            solved=bool(episodes.solved[number]),
            budget=TURNS,
        )
        costs = penalties(own, answer=0.2, think=0.1, effort=0.05, cap=1.0)
        worst = max(worst, float(np.abs(rewards - sum(costs) - table[number, :count]).max()))
    return worst


# ----------------------------------------------------------------------------------------------------------- B to E


@cache
def mean(world: World, weights: Penalties, updates: int) -> Figures:
    """The figures of a policy, means over the seeds."""
    runs = [train(world, weights, updates, seed) for seed in SEEDS]
    return Figures(
        score=float(np.mean([run.score for run in runs])),
        ur=float(np.mean([run.ur for run in runs])),
        pass_1=float(np.mean([run.pass_1 for run in runs])),
        effort=float(np.mean([run.effort for run in runs])),
        turns=float(np.mean([run.turns for run in runs])),
    )


def shown(figures: Figures, calibrated: str = "") -> str:
    """A note."""
    words = f"{SIMULATED}, {len(SEEDS)} seeds: score {figures.score:.3f}, UR {figures.ur:.3f}, Pass@U-1 "
    words += f"{figures.pass_1:.2f}, U {figures.effort:.2f}, T' {figures.turns:.1f}"
    return f"{words}; calibrated {calibrated}" if calibrated else words


def seeking(_: Path) -> list[Claim]:
    """27 hypotheses, halving .6, 150 updates."""
    plain = mean(EASY, Penalties(), 150)
    claims = [Claim(name="B/no penalty: UR", value=plain.ur, note=shown(plain, ".988/.295/.29/2.36"))]
    for answer, calibrated in ((0.1, ".984/.136/.78/1.23"), (0.3, ".984/.134/.80/1.22")):
        arm = mean(EASY, Penalties(answer=answer), 150)
        note = shown(arm, calibrated)
        bounds = (
            ("UR over that without", arm.ur / plain.ur, 0.6, "<="),
            ("Pass@U-1 gained", arm.pass_1 - plain.pass_1, 0.3, ">="),
            ("score lost", plain.score - arm.score, 0.02, "<="),
        )
        claims += [
            Claim(name=f"B/{answer:g}: {name}", value=value, threshold=limit, relation=relation, note=note)
            for name, value, limit, relation in bounds
        ]
    return claims


def weight_alone(_: Path) -> list[Claim]:
    """64 hypotheses, halving .35, 100 updates."""
    claims = list[Claim]()
    calibrated = {0.0: ".625/.240", 0.05: ".621/.141", 0.1: ".602/.119", 0.2: ".502/.076", 0.4: ".046/.015"}
    for weight in WEIGHTS:
        arm = mean(HARD, Penalties(effort=weight), 100)
        below = 0.1 if weight == 0.4 else None
        claims.append(_bounded(f"C/w {weight:g}: score", arm, calibrated[weight], below=below))
    for answer, known in ((0.1, ".604/.164"), (0.2, ".589/.151"), (0.4, ".560/.128"), (0.8, ".500/.119")):
        arm = mean(HARD, Penalties(answer=answer), 100)
        claims.append(_bounded(f"C/answer {answer:g}: score", arm, known, least=0.5 if answer < 0.8 else None))
    return claims


def _bounded(name: str, arm: Figures, calibrated: str, least: float | None = None, below: float | None = None) -> Claim:
    """A score that must reach a bound, or stay below one, or is only told."""
    note = shown(arm, calibrated)
    if least is not None:
        return Claim(name=name, value=arm.score, threshold=least, relation=">=", note=note)
    if below is not None:
        return Claim(name=name, value=arm.score, threshold=below, relation="<", note=note)
    return Claim(name=name, value=arm.score, note=note)


def overthinking(_: Path) -> list[Claim]:
    """64 hypotheses, halving .5, long variants favoured by 2 logits, 60 updates."""
    arms = {think: mean(LONG, Penalties(think=think), 60) for think in (0.0, 0.05, 0.1, 0.3)}
    known = {0.0: ".145, T' 6.2", 0.05: ".217, 7.5", 0.1: ".237, 7.8", 0.3: ".304, 8.5"}
    claims = [_bounded(f"D/think {think:g}: score", arm, known[think]) for think, arm in arms.items()]
    gained, longer = arms[0.1].score - arms[0.0].score, arms[0.1].turns - arms[0.0].turns
    return [
        *claims,
        Claim(name="D/score gained by .1", value=gained, threshold=0.06, relation=">=", note=SIMULATED),
        Claim(name="D/turns gained by .1", value=longer, threshold=1, relation=">=", note=SIMULATED),
    ]


def enhancement(_: Path) -> list[Claim]:
    """The prior alone and under the largest weight, and the whole factorial as a scatter with its frontier."""
    plain, taught = (mean(world, Penalties(), 100) for world in (HARD, TAUGHT))
    collapsed, kept = (mean(world, Penalties(effort=0.4), 100) for world in (HARD, TAUGHT))
    claims = [
        Claim(
            name="E/UR saved by the prior",
            value=plain.ur - taught.ur,
            threshold=0.07,
            relation=">=",
            note=shown(taught, ".609/.143"),
        ),
        Claim(
            name="E/score lost by the prior",
            value=plain.score - taught.score,
            threshold=0.03,
            relation="<=",
            note=shown(plain, ".625/.240"),
        ),
        Claim(
            name="E/score at w .4: with the prior over without",
            value=kept.score / max(collapsed.score, 1e-9),
            threshold=3,
            relation=">=",
            note=shown(kept, ".253/.026"),
        ),
    ]
    arms = {
        f"{prior}, {'penalties' if on else 'none'}, w {weight:g}": mean(
            world, Penalties(answer=0.2 * on, think=0.1 * on, effort=weight), 100
        )
        for (prior, world), on, weight in product((("plain", HARD), ("prior", TAUGHT)), (False, True), WEIGHTS)
    }
    frontier = pareto({name: (arm.score, arm.ur) for name, arm in arms.items()})
    return claims + [
        Claim(
            name=f"E/scatter, {name}: score",
            value=arm.score,
            note=f"{shown(arm)}; {'on' if frontier[name] else 'behind'} the frontier",
        )
        for name, arm in arms.items()
    ]


if __name__ == "__main__":
    parts = {
        "A": shaping,
        "B": seeking,
        "C": weight_alone,
        "D": overthinking,
        "E": enhancement,
        "F": language_model,
        "G": served_user,
    }
    main("bao", __doc__, parts, {"tabular seeds": list(SEEDS)}, in_turn)
