"""card"""

from __future__ import annotations

from raylign.recipes.quark_medical.combiner import ReferenceFrozen
from raylign.recipes.quark_medical.diagnosis import Diagnosis
from raylign.recipes.quark_medical.facts import Facts
from raylign.recipes.quark_medical.helpful import Helpful
from raylign.recipes.quark_medical.pairwise import Feedback, HashedOrm
from raylign.recipes.quark_medical.rubric import Rubric
from raylign.recipes.quark_medical.rules import Format, Safety

__all__ = [
    "Diagnosis",
    "Facts",
    "Feedback",
    "Format",
    "HashedOrm",
    "Helpful",
    "ReferenceFrozen",
    "Rubric",
    "Safety",
]
