"""The contracts of all parts. Actors and recipes implement them; the loop uses nothing else."""

from raylign.contracts.estimator import Estimator, PlacedRow, ScoringEstimator
from raylign.contracts.models import FrozenModelContext, FrozenStream, Learner, LearnerUpdate, WeightUpdate
from raylign.contracts.objective import Advantage, LossTerms, Objective, TokenView
from raylign.contracts.part import Part
from raylign.contracts.prompts import Generator, PairGenerator, PromptSource, RowGenerator
from raylign.contracts.reward import (
    GroupMetrics,
    GroupSelector,
    RewardFunction,
    RewardPools,
    RewardShaper,
    Scope,
    finite,
)
from raylign.contracts.rollout import (
    Completion,
    Policy,
    Refused,
    RolloutPool,
    RolloutStrategy,
    RolloutTask,
    Sampling,
    Scored,
)
from raylign.contracts.stage import ROLES, BatchShape, Stage, StageResult, StageSettings
from raylign.contracts.state import StatefulPart
from raylign.contracts.sweep import Launcher, Sampler

__all__ = [
    "ROLES",
    "Advantage",
    "BatchShape",
    "Completion",
    "Estimator",
    "FrozenModelContext",
    "FrozenStream",
    "Generator",
    "GroupMetrics",
    "GroupSelector",
    "Launcher",
    "Learner",
    "LearnerUpdate",
    "LossTerms",
    "Objective",
    "PairGenerator",
    "Part",
    "PlacedRow",
    "Policy",
    "PromptSource",
    "Refused",
    "RewardFunction",
    "RewardPools",
    "RewardShaper",
    "RolloutPool",
    "RolloutStrategy",
    "RolloutTask",
    "RowGenerator",
    "Sampler",
    "Sampling",
    "Scope",
    "Scored",
    "ScoringEstimator",
    "Stage",
    "StageResult",
    "StageSettings",
    "StatefulPart",
    "TokenView",
    "WeightUpdate",
    "finite",
]
