"""The parts of the experiments that need neither a model nor a minute: a change elsewhere that breaks one is seen here,
not when somebody runs the whole experiment next.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).resolve().parents[2] / "benchmarks" / "experiments"
PARTS = {
    "arlcp": ("algebra", "counting"),
    "bao": ("shaping",),
    "cm2": ("algebra",),
    "hypo": ("algebra",),
    "inject_rbp": ("closed_form",),
    "p_genrm": ("rewards", "curriculum"),
    "quark_medical": ("copies",),
    "rewriter": ("numbers",),
    "sci_coe": ("numbers",),
    "vulnerability_games": ("matrix",),
}
PRESENT = [(name, part) for name, parts in PARTS.items() for part in parts if (EXPERIMENTS / f"{name}.py").exists()]


@pytest.mark.parametrize(("name", "part"), PRESENT)
def test_a_part_holds(name: str, part: str, tmp_path: Path) -> None:
    claims = getattr(importlib.import_module(f"benchmarks.experiments.{name}"), part)(tmp_path)
    assert claims and all(claim.passed for claim in claims), [claim for claim in claims if not claim.passed]
