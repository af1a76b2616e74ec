"""The parts of HyPO's experiment that run the recipe itself: the command line, Ray, DeepSpeed, frozen models.

One run holds all methods as stages that start from the same model, see the same batches in the same order and are
judged by the same reference: ``sft`` (on the chosen answers), ``reference`` (SimPO, a few steps), then a `preference`
stage for each method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.experiments._recipe_runs import run_recipe, together
from benchmarks.experiments.report import ROOT, Claim, largest, least

HH_RLHF = ROOT.parent / "shared" / "data" / "hh_rlhf" / "harmless_base.jsonl.gz"
METHODS = {"dpo": "dpo", "hypo": "hypo", "smooth": "hypo_smooth", "absolute": "none"}
WITHOUT_SMOOTH = ("dpo", "hypo", "absolute")  # where the smooth form, which equals the hard one to .01, is left out
FIGURES = (
    "agreement",
    "agreement/pessimistic",
    "agreement/optimistic",
    "margin/pessimistic",
    "gradient_weight/pessimistic",
    "relative_agreement",
    "share/pessimistic",
    "displacement/chosen",
    "displacement/rejected",
)
Metrics = dict[str, float]


def transformer(folder: Path, seeds: Sequence[int] = (1, 2, 3)) -> list[Claim]:
    """D: letter pairs of equal length, summed log-probs, β = .5, 60 equal steps; another task and model per seed.

    The seeds are run on the recipe's own model (0.1 million parameters), the first one also on a model of the size that
    the digest names (1 million). The real pairs are figures without a threshold: only 186 of the file's 1,500 are
    length-matched, which is too few to train on, so all lengths are used.
    """
    jobs: list[Callable[[], dict[str, Metrics]]] = [
        partial(_methods, folder, seeds[0], LARGE, WITHOUT_SMOOTH),
        partial(_real, folder),
    ]
    large, real, *runs = together([*jobs, *(partial(_methods, folder, seed) for seed in seeds)])
    gains = [run["hypo"]["agreement/pessimistic"] - run["dpo"]["agreement/pessimistic"] for run in runs]
    claims = [
        Claim(
            name="D/pessimistic agreement: hypo - dpo",
            value=least(gains),
            threshold=0.05,
            relation=">=",
            note=f"smallest of {len(gains)} seeds: {', '.join(f'{gain:.3f}' for gain in gains)}",
        ),
        Claim(
            name="D/pessimistic agreement: hypo - dpo, 1 M parameters",
            value=large["hypo"]["agreement/pessimistic"] - large["dpo"]["agreement/pessimistic"],
            threshold=0.05,
            relation=">=",
            note=f"seed {seeds[0]}",
        ),
    ]
    claims += [
        Claim(name=f"D/{method}/{figure}", value=float(np.mean([run[method][figure] for run in runs])), note="mean")
        for method in METHODS
        for figure in FIGURES
    ]
    claims += [
        Claim(name=f"D/1 M parameters/{method}/{figure}", value=large[method][figure], note=f"seed {seeds[0]}")
        for method in WITHOUT_SMOOTH
        for figure in FIGURES
    ]
    note = "hh-rlhf, 250 held-out pairs, any length"
    claims += [
        Claim(name=f"D/real/{method}/{figure}", value=real[method][figure], note=note)
        for method in WITHOUT_SMOOTH
        for figure in FIGURES
    ]
    return claims


def equivalence(folder: Path) -> list[Claim]:
    """E: losses of every step with the floor at minus infinity, against DPO's own."""
    methods = {"dpo": "dpo", "again": "dpo", "hypo": "hypo", "smooth": "hypo_smooth"}
    stages = _stages(methods, steps=8, rate=1e-3, floorless=("hypo", "smooth"))
    small = ("data.size=600", "data.holdout=100", "stages.sft.epochs=1")
    run = run_recipe("hypo", folder / "E", [*small, *stages])
    losses = {name: [step["loss"] for step in run.steps(name)] for name in methods}
    return [
        Claim(
            name=f"E/largest difference to dpo's losses: {name}",
            value=largest(abs(a - b) for a, b in zip(losses["dpo"], losses[name], strict=True)),
            threshold=0.0,
            relation="==",
            note=f"{len(losses['dpo'])} steps",
        )
        for name in ("again", "hypo", "smooth")
    ]


REAL = (
    f"data.path={HH_RLHF}",
    "data.size=1000",
    "data.holdout=250",
    "data.max_prompt_tokens=64",
    "model.max_context=192",
    "model.tiny.context=192",
    "stages.sft.max_tokens=160",
    "stages.sft.optim.lr=2e-3",
    "stages.reference.max_tokens=160",
)


LARGE = (
    "model.tiny={hidden_size:160,layers:3,heads:5,kv_heads:5,head_dim:32,intermediate_size:480,context:64}",
    "stages.sft.optim.lr=1e-3",
)


def _real(folder: Path) -> dict[str, Metrics]:
    methods = {name: METHODS[name] for name in WITHOUT_SMOOTH}
    return _held_out(folder / "D-real", _stages(methods, steps=24, rate=1e-3, tokens=160), REAL)


def _methods(
    folder: Path, seed: int, shape: Sequence[str] = (), methods: Sequence[str] = tuple(METHODS)
) -> dict[str, Metrics]:
    return _held_out(
        folder / f"D-{'large' if shape else 'seed'}-{seed}",
        _stages({name: METHODS[name] for name in methods}, steps=60, rate=1e-3),
        (*shape, f"seed={seed}", f"model.tiny.seed={seed}", f"data.generator.task_seed={seed}"),
    )


def _stages(
    methods: Mapping[str, str], *, steps: int, rate: float, tokens: int = 64, floorless: Sequence[str] = ()
) -> list[str]:
    """Overrides that put one stage per method in the place of the recipe's last."""
    settings = ["~stages.preference"]
    for name, margin in methods.items():
        gamma = ",gamma:-inf" if name in floorless else ""
        objective = f"{{beta:0.5,reference_margin:{margin}{gamma}}}"
        settings.append(
            f"stages.{name}={{_target_:raylign.recipes.stages.preference.Preference,start:'@sft',batch_pairs:64,"
            f"steps:{steps},max_tokens:{tokens},optim:{{lr:{rate}}},objective:{objective}}}"
        )
    return settings


def _held_out(folder: Path, stages: Sequence[str], overrides: Sequence[str]) -> dict[str, Metrics]:
    """Held-out metrics of every stage of one run. A run that is finished on this commit is read, not repeated."""
    metrics: dict[str, Metrics] = {}
    for metric, value in run_recipe("hypo", folder, [*overrides, *stages]).metrics.items():
        stage, _, figure = metric.partition("/eval/")
        if figure:
            metrics.setdefault(stage, {})[figure] = value
    return metrics
