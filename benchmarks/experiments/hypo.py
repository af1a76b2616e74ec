"""HyPO (arXiv:2602.11902): what a faithful small-scale experiment must show, with the digest's thresholds.

A  the loss's algebra on 10,000 random pairs and the worked numbers
B  premature satisfaction under control: a log-linear margin model whose true preferences are known (numpy, 5 seeds)
C  real pairs (hh-rlhf, harmless) and a unigram language model (5 splits)
D  a transformer through the real actors: the recipe's own stages, on synthetic and on real pairs (see `_hypo_runs`)
E  the trainer's equivalences through the real actors: without a floor HyPO's losses are DPO's, to the last bit

    make experiment RECIPE=hypo                 all parts, about 7 minutes on 2 quiet cores
    make experiment RECIPE=hypo ARGS="A B C"    the parts without actors, seconds
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from benchmarks.experiments._hypo_linear import METHODS, TAU, Mode, Run, controlled_run, unigram_run
from benchmarks.experiments._hypo_runs import HH_RLHF, equivalence, transformer
from benchmarks.experiments._main import in_turn, main
from benchmarks.experiments.report import Claim, largest, least
from raylign.data.pair_rows import read_pairs
from raylign.objectives.loss.margin import PairLoss, ReferenceMargin, pair_loss, target_margin

# -------------------------------------------------------------------------------------------------------------- A


def algebra(_: Path, count: int = 10_000) -> list[Claim]:
    """Largest deviation from each identity, over random (Δθ, Δref, β)."""
    rng = np.random.default_rng(0)
    ref = torch.tensor(rng.normal(0, 3, count))
    beta = torch.tensor(rng.uniform(0.05, 2.0, count))
    margin = torch.tensor(rng.normal(0, 3, count), requires_grad=True)
    weight = {name: _weight(mode, margin, ref, beta) for name, mode in METHODS.items()}
    closed = {
        name: torch.sigmoid(-beta * (margin - target_margin(mode, ref, 0.0, TAU))).detach()
        for name, mode in METHODS.items()
    }
    larger = torch.maximum(weight["dpo"], weight["absolute"])
    soft = target_margin(Mode.hypo_smooth, ref, 0.0, TAU) - target_margin(Mode.hypo, ref)
    points = target_margin(Mode.hypo_smooth, torch.tensor([0.0, -1.0]).double(), 0.0, TAU)
    shifted = target_margin(Mode.hypo, ref, 0.7) - (target_margin(Mode.hypo, ref - 0.7) + 0.7)
    worked = [
        abs(float(_weight(mode, _leaf(-1.0), _leaf(-3.0), _leaf(beta)).detach()) - expected)
        for mode, beta, expected in (
            (Mode.dpo, 1.0, 0.11920),
            (Mode.hypo, 1.0, 0.73106),
            (Mode.dpo, 0.1, 0.45017),
            (Mode.hypo, 0.1, 0.52498),
        )
    ]
    raised, lowered = ref.abs(), -ref.abs()
    figures = {
        "w_hypo = max(w_dpo, w_abs)": ((weight["hypo"] - larger).abs().max(), 0.0),
        "autograd = closed form": (largest((weight[n] - closed[n]).abs().max() for n in METHODS), 1e-12),
        "worked numbers": (largest(worked), 6e-6),
        "hypo = dpo on optimistic": (_distance(Mode.hypo, Mode.dpo, margin, raised), 0.0),
        "hypo = reference-free on pessimistic": (_distance(Mode.hypo, Mode.none, margin, lowered), 0.0),
        "gamma = -inf is dpo": (_distance(Mode.hypo, Mode.dpo, margin, ref, -math.inf), 0.0),
        "gamma shifts the floor": (shifted.abs().max(), 1e-12),
        "softplus D(0), D(-1)": (largest([abs(points[0] - 0.069315), abs(points[1] - 4.54e-6)]), 1e-6),
        "softplus above the hard maximum by at most tau ln 2": (soft.max() / (TAU * math.log(2)), 1 + 1e-12),
        "softplus below the hard maximum": (-soft.min(), 0.0),
    }
    return [
        Claim(name=f"A/{name}", value=float(value), threshold=limit, relation="<=", note="largest error")
        for name, (value, limit) in figures.items()
    ]


def _weight(mode: ReferenceMargin, margin: torch.Tensor, ref: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """Gradient weight by autograd; the loss is written with β per pair, which `pair_loss` has as one number."""
    loss = -torch.nn.functional.logsigmoid(beta * (margin - target_margin(mode, ref, 0.0, TAU))).sum()
    return -torch.autograd.grad(loss, margin)[0] / beta


def _leaf(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64, requires_grad=True)


def _distance(
    one: ReferenceMargin, two: ReferenceMargin, margin: torch.Tensor, ref: torch.Tensor, gamma: float = 0.0
) -> float:
    """Largest difference of two losses, in the precision in which bits are compared."""
    first = pair_loss(PairLoss.sigmoid, margin.detach(), target_margin(one, ref, gamma), 0.1)
    second = pair_loss(PairLoss.sigmoid, margin.detach(), target_margin(two, ref), 0.1)
    return float((first - second).abs().max())


# -------------------------------------------------------------------------------------------------------------- B


def controlled(_: Path, seeds: range = range(5)) -> list[Claim]:
    """Δθ = w.u on 64 Gaussian features; 60 steps of size .5 at β = 1 from a weak, mostly random reference."""
    runs = [controlled_run(seed) for seed in seeds]
    mean = _means(runs)
    claims = [
        _worst("B/pessimistic agreement: hypo - dpo", runs, "hypo", "dpo", metric="agreement/pessimistic", limit=0.15),
        _worst(
            "B/optimistic agreement: hypo - absolute",
            runs,
            "hypo",
            "absolute",
            metric="agreement/optimistic",
            limit=0.05,
        ),
        Claim(
            name="B/pessimistic margin: dpo",
            value=largest(run["dpo"]["margin/pessimistic"] for run in runs),
            threshold=0.0,
            relation="<",
            note=f"largest of {len(runs)} seeds",
        ),
        Claim(
            name="B/pessimistic margin: hypo",
            value=least(run["hypo"]["margin/pessimistic"] for run in runs),
            threshold=0.0,
            relation=">",
            note=f"smallest of {len(runs)} seeds",
        ),
    ]
    return claims + _figures("B", mean, f"mean of {len(runs)} seeds")


# -------------------------------------------------------------------------------------------------------------- C


def real_pairs(_: Path, splits: range = range(5), path: Path = HH_RLHF) -> list[Claim]:
    """Averaged log-probs of a unigram model, β = 5, 400 steps of rate 8; 600 pairs held out, 899 to train on (the
    shared file has 1,500 rows where the digest's has 2,312).

    The digest asks the two gains of hypo "on every split"; of the relative agreement it says that it "stays above .57"
    and calibrates means. It is therefore a mean on the held-out pairs here, with each split's figure beside it, and
    on the pairs that are trained on, where a trainer logs it, the smallest split.
    """
    if not path.exists():
        raise SystemExit(f"part C needs {path}; see ../shared/data/README.md")
    pairs = [pair for pair in read_pairs(path) if pair is not None]
    runs = [unigram_run(pairs, seed) for seed in splits]
    relative = [run["dpo"]["relative_agreement"] for run in runs]
    trained = [run["dpo"]["relative_agreement/train"] for run in runs]
    claims = [
        _worst("C/pessimistic agreement: hypo - dpo", runs, "hypo", "dpo", metric="agreement/pessimistic", limit=0.10),
        _worst("C/overall agreement: hypo - dpo", runs, "hypo", "dpo", metric="agreement", limit=0.0, relation=">"),
        _worst(
            "C/optimistic agreement: hypo - absolute",
            runs,
            "hypo",
            "absolute",
            metric="agreement/optimistic",
            limit=0.08,
        ),
        Claim(
            name="C/relative agreement of dpo",
            value=float(np.mean(relative)),
            threshold=0.57,
            relation=">",
            note=f"held out, mean of {len(runs)} splits: {', '.join(f'{share:.3f}' for share in relative)}",
        ),
        Claim(
            name="C/relative agreement of dpo, as logged in training",
            value=least(trained),
            threshold=0.57,
            relation=">",
            note=f"training pairs, smallest of {len(runs)} splits",
        ),
        Claim(
            name="C/pessimistic agreement of dpo",
            value=largest(run["dpo"]["agreement/pessimistic"] for run in runs),
            threshold=0.25,
            relation="<",
            note=f"largest of {len(runs)} splits",
        ),
    ]
    digest = {
        "dpo": (0.554, 0.17, 0.92, -0.36),
        "hypo": (0.580, 0.35, 0.80, -0.12),
        "absolute": (0.602, 0.53, 0.67, 0.03),
    }
    metrics = ("agreement", "agreement/pessimistic", "agreement/optimistic", "margin/pessimistic")
    expected = {f"{m}/{name}": v for m, row in digest.items() for name, v in zip(metrics, row, strict=True)}
    return claims + _figures("C", _means(runs), f"mean of {len(runs)} splits", expected)


# --------------------------------------------------------------------------------------------------------- figures


def _worst(name: str, runs: list[Run], one: str, two: str, *, metric: str, limit: float, relation: str = ">=") -> Claim:
    """The smallest difference of two methods over all runs."""
    value = least(run[one][metric] - run[two][metric] for run in runs)
    return Claim(name=name, value=value, threshold=limit, relation=relation, note=f"smallest of {len(runs)} runs")


def _means(runs: list[Run]) -> dict[str, float]:
    return {
        f"{method}/{metric}": float(np.mean([run[method][metric] for run in runs]))
        for method in runs[0]
        for metric in runs[0][method]
    }


def _figures(
    part: str, means: Mapping[str, float], note: str, expected: Mapping[str, float] | None = None
) -> list[Claim]:
    """Every figure, without a threshold; beside the digest's own where it has one."""
    expected = expected or {}
    return [
        Claim(
            name=f"{part}/{name}",
            value=value,
            note=note + (f"; digest {expected[name]:g}" if name in expected else ""),
        )
        for name, value in means.items()
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    parts = {"A": algebra, "B": controlled, "C": real_pairs, "D": transformer, "E": equivalence}
    main("hypo", __doc__, parts, {}, in_turn)
