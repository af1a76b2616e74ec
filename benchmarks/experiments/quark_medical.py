"""Quark Medical (arXiv:2602.11661): what a faithful small-scale experiment must show, with the digest's thresholds.

A  five rewards on a bandit, by the recipe's shaper: raw sum, z-scores, frozen normalization, tri-factor, ablations
   (numpy, `_quark_medical_bandit`), 10 seeds                                                            simulated
B  a reward that saturates: its share of the variance of R                                               simulated
C  a reward and its copy: their share of the weights                                                     simulated
D  the ORM on answers of PubMedQA, with ties, without and with the printed sign; GARM's search in its contexts; on
   MEDIQA where its files are there                                                       real estimator, real data
E  a tiny language model, its rewards of all four categories on scales of 1, 100 and 0.01: raw, equal and tri-factor
   from one imitator; the table of diagnoses; 3 seeds                                                  real actors

    make experiment RECIPE=quark_medical                      all parts
    make experiment RECIPE=quark_medical ARGS="A B C D"       the parts without a language model, about two minutes

An arm of E has 120 steps for time; after 150 all its claims held, too.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.experiments._main import in_turn, main
from benchmarks.experiments._quark_medical_answers import MEDIQA, Graded, mediqa, own_evidence, pubmedqa
from benchmarks.experiments._quark_medical_bandit import Arm, Outcome, train, write_statistics
from benchmarks.experiments._quark_medical_runs import RUN_SEEDS, language_model
from benchmarks.experiments.report import SIMULATED, Claim
from raylign.contracts import PlacedRow
from raylign.objectives.loss.bradley_terry import TieSign
from raylign.recipes.quark_medical.combiner import Mode, ReferenceFrozen
from raylign.recipes.quark_medical.comparisons import RowColumns, comparisons_of
from raylign.recipes.quark_medical.factors import Condition, Factor, Factors, TriFactor
from raylign.recipes.quark_medical.pairwise import HashedOrm, figures
from raylign.recipes.quark_medical.table import RewardTable, correlations, variance_shares

SEEDS = tuple(range(1, 11))
ARMS = {
    "raw": (Arm(Mode.raw), "2.07, .98, .35, -1.83"),
    "batch z": (Arm(Mode.batch_z), "1.24, .28, .90, -.15"),
    "group z": (Arm(Mode.group_z), "1.37, .38, .87, -.39"),
    "equal": (Arm(Mode.equal), "1.27, .28, .90, -.15"),
    "tri-factor": (Arm(Mode.tri_factor), ".77, .00, .93, +.53"),
    "without redundancy": (Arm(Mode.tri_factor, (Factor.weakness, Factor.risk)), ".87, -, .84, -"),
    "without weakness": (Arm(Mode.tri_factor, (Factor.risk, Factor.redundancy)), ".76, -, .97, -"),
    "without risk": (Arm(Mode.tri_factor, (Factor.weakness, Factor.redundancy)), "-, .001, -, -"),
    "risk only": (Arm(Mode.tri_factor, (Factor.risk,)), ".85, .000, -, -"),
}


# ----------------------------------------------------------------------------------------------------------------- A


def bandit(folder: Path) -> list[Claim]:
    """All arms over the seeds."""
    outcomes = {name: [train(arm, seed, folder) for seed in SEEDS] for name, (arm, _) in ARMS.items()}
    mean = {name: _mean(runs) for name, runs in outcomes.items()}
    claims = [
        Claim(name=f"A/{name}: mean q", value=one.quality, note=f"{_shown(one)}; calibrated {ARMS[name][1]}")
        for name, one in mean.items()
    ]
    least = {name: float(np.mean([run.normalized.min() for run in runs])) for name, runs in outcomes.items()}
    tri, equal, raw = mean["tri-factor"], mean["equal"], mean["raw"]
    claims += [
        Claim(
            name="A/raw sum: largest share of the variance",
            value=float(raw.shares.max()),
            threshold=0.9,
            relation=">=",
            note=SIMULATED,
        ),
        Claim(
            name="A/equal: largest share of the variance",
            value=float(equal.shares.max()),
            threshold=0.5,
            relation="<",
            note=SIMULATED,
        ),
        Claim(name="A/tri-factor: unsafe", value=tri.unsafe, threshold=0.02, relation="<=", note=SIMULATED),
        Claim(name="A/equal: unsafe", value=equal.unsafe, threshold=0.15, relation=">=", note=SIMULATED),
        Claim(
            name="A/least normalized reward, tri-factor - equal",
            value=least["tri-factor"] - least["equal"],
            threshold=0.4,
            relation=">=",
            note=f"{SIMULATED}; {least['equal']:.2f} -> {least['tri-factor']:.2f}; raw {least['raw']:.2f}",
        ),
        Claim(name="A/q that tri-factor costs", value=equal.quality - tri.quality, note="against equal weights"),
    ]
    return claims


def _mean(runs: list[Outcome]) -> Outcome:
    return Outcome(
        quality=float(np.mean([run.quality for run in runs])),
        unsafe=float(np.mean([run.unsafe for run in runs])),
        formatted=float(np.mean([run.formatted for run in runs])),
        normalized=np.mean([run.normalized for run in runs], axis=0),
        shares=np.mean([run.shares for run in runs], axis=0),
    )


def _shown(one: Outcome) -> str:
    shares = "/".join(f"{share:.2f}" for share in one.shares)
    words = f"{SIMULATED}: q {one.quality:.2f}, unsafe {one.unsafe:.3f}, format {one.formatted:.2f}, least r~ "
    return f"{words}{one.normalized.min():+.2f}, shares {shares}"


# -------------------------------------------------------------------------------------------------------------- B, C


def drift(folder: Path) -> list[Claim]:
    """Two independent rewards, the first of deviation s; shares as the shaper logs them, of 20,000 samples."""
    rng, claims = np.random.default_rng(0), list[Claim]()
    unit = {name: rng.normal(size=20_000) for name in ("saturated", "live")}
    statistics = write_statistics(folder / "drift.json", unit)
    for spread in (0.3, 0.1):
        raw = np.stack([spread * rng.normal(size=20_000), rng.normal(size=20_000)], axis=1)
        table = _table(raw, ("saturated", "live"), groups=200)
        for mode, wanted in ((Mode.equal, spread**2 / (1 + spread**2)), (Mode.batch_z, 0.5)):
            shaper = ReferenceFrozen(
                ReferenceFrozen.Config(statistics=statistics, mode=mode), {"saturated": 1.0, "live": 1.0}, max_tokens=1
            )
            share = float(variance_shares(shaper.summands(table), table.groups)[0])
            claims.append(
                Claim(
                    name=f"B/s = {spread:g}, {mode.name}: share of the saturated reward",
                    value=share,
                    threshold=(wanted - 0.02, wanted + 0.02),
                    relation="within",
                    note=f"{SIMULATED}; {wanted:.3f}",
                )
            )
    return claims


def copies(_: Path, batches: int = 100) -> list[Claim]:
    """Three independent rewards, and the first once more."""
    names = ("one", "two", "three", "copy")
    claims = list[Claim]()
    for use, wanted in (([Factor.redundancy], 1 / 3), ([], 1 / 2)):
        rng = np.random.default_rng(1)
        weighting = TriFactor(names, Factors(use=use))
        for _batch in range(batches):
            values = rng.normal(size=(512, 3))
            values = np.concatenate([values, values[:, :1]], axis=1)
            groups = np.repeat(np.arange(64), 8)
            weighting.observe(
                Condition(
                    normalized=values.mean(axis=0),
                    violations=np.zeros(4),
                    correlations=correlations(values, groups),
                )
            )
        share = float((weighting.weights[0] + weighting.weights[3]) / weighting.weights.sum())
        claims.append(
            Claim(
                name=f"C/{'with' if use else 'without'} redundancy: weight of the reward and its copy",
                value=share,
                threshold=(wanted - 0.02, wanted + 0.02),
                relation="within",
                note=SIMULATED,
            )
        )
    return claims


def _table(raw: np.ndarray, names: tuple[str, ...], groups: int) -> RewardTable:
    return RewardTable(
        names=names,
        raw=raw,
        applies=np.ones(raw.shape, bool),
        groups=np.repeat(np.arange(groups), len(raw) // groups),
        domains=("",) * groups,
    )


# ----------------------------------------------------------------------------------------------------------------- D


def reward_model(_: Path) -> list[Claim]:
    """The three tie losses on PubMedQA, and on MEDIQA if its files are there; GARM's search."""
    claims = _orm("D/PubMedQA", *pubmedqa())
    hits = own_evidence()
    claims.append(Claim(name="D/GARM: an answer's first passage is of its own paper", value=hits, note="300 papers"))
    graded = mediqa()
    if graded is None:
        print(f"part D: MEDIQA is left out, there are no *Train*.xml and *Test*.xml in {MEDIQA}", flush=True)
        return claims
    return claims + _orm("D/MEDIQA", *graded)


def _orm(name: str, train_rows: list[Graded], test_rows: list[Graded]) -> list[Claim]:
    """Accuracy on test pairs, and mean gaps of test ties; two seeds."""
    columns = RowColumns(question="question", answer="answer", grade=["grade"])
    rows, held_out = ([PlacedRow(f"row {i}", row) for i, row in enumerate(part)] for part in (train_rows, test_rows))
    test = comparisons_of(held_out, columns)
    variants = {"none": {"tie_weight": 0.0}, "corrected": {}, "printed": {"tie_sign": TieSign.printed}}
    measured: dict[str, dict[str, float]] = {}
    for variant, settings in variants.items():
        runs = []
        for seed in (1, 2):
            orm = HashedOrm(HashedOrm.Config(columns=columns, **settings))  # type: ignore[arg-type]
            orm.fit(rows, seed)
            runs.append(figures(orm.rewards(test.questions, test.answers), test))
        measured[variant] = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
    none, corrected, printed = measured["none"], measured["corrected"], measured["printed"]
    counts = f"{len(test.pairs)} pairs, {len(test.ties)} ties; 2 seeds"
    claims = [
        Claim(
            name=f"{name}, {variant}: pair accuracy", value=one["accuracy"], threshold=0.6, relation=">=", note=counts
        )
        for variant, one in measured.items()
    ]
    claims += [
        Claim(
            name=f"{name}: tie gap, corrected over L_diff alone",
            value=corrected["tie_gap"] / none["tie_gap"],
            threshold=0.7,
            relation="<=",
            note=f"{none['tie_gap']:.2f} -> {corrected['tie_gap']:.2f}; {counts}",
        ),
        Claim(
            name=f"{name}: tie gap, printed sign over L_diff alone",
            value=printed["tie_gap"] / none["tie_gap"],
            threshold=1.1,
            relation=">=",
            note=f"{none['tie_gap']:.2f} -> {printed['tie_gap']:.2f}; {counts}",
        ),
    ]
    return claims + [
        Claim(
            name=f"{name}, {variant}: tie gap over graded gap",
            value=one["tie_gap"] / one["gap"],
            note=f"{one['tie_gap']:.2f} of {one['gap']:.2f}",
        )
        for variant, one in measured.items()
    ]


if __name__ == "__main__":
    parts = {"A": bandit, "B": drift, "C": copies, "D": reward_model, "E": language_model}
    main("quark_medical", __doc__, parts, {"bandit seeds": list(SEEDS), "run seeds": list(RUN_SEEDS)}, in_turn)
