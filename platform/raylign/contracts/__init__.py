"""The contracts of all parts. Actors and recipes implement them; the loop uses nothing else."""

from raylign.contracts.artifacts import ARTIFACT, MODEL, REWARD_MODEL, ROWS, Reference, artifact
from raylign.contracts.embedder import EmbedCounts, Embedder
from raylign.contracts.estimator import Estimator, PlacedRow, ScoringEstimator
from raylign.contracts.models import FrozenModelContext, FrozenStream, Learner, LearnerUpdate, WeightUpdate
from raylign.contracts.objective import Advantage, LossTerms, Objective, TokenView
from raylign.contracts.part import Part
from raylign.contracts.prompts import Generator, Measure, PairGenerator, PromptSource, RowGenerator, View
from raylign.contracts.reward import (
    GroupMetrics,
    GroupSelector,
    RewardFunction,
    RewardPools,
    RewardShaper,
    Scope,
    ScoredItem,
    finite,
)
from raylign.contracts.rollout import (
    Completion,
    EnvironmentSpec,
    Policy,
    Refused,
    RolloutPool,
    RolloutStrategy,
    RolloutTask,
    Sampling,
    Scored,
    StrategySpec,
)
from raylign.contracts.row_maker import Place, RowMaker, Rows
from raylign.contracts.stage import ROLES, Asked, BatchShape, Stage, StageResult, StageSettings
from raylign.contracts.state import StatefulPart
from raylign.contracts.sweep import Launcher, Sampler

__all__ = [
    "ARTIFACT",
    "MODEL",
    "REWARD_MODEL",
    "ROLES",
    "ROWS",
    "Advantage",
    "Asked",
    "BatchShape",
    "Completion",
    "EmbedCounts",
    "Embedder",
    "EnvironmentSpec",
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
    "Measure",
    "Objective",
    "PairGenerator",
    "Part",
    "Place",
    "PlacedRow",
    "Policy",
    "PromptSource",
    "Reference",
    "Refused",
    "RewardFunction",
    "RewardPools",
    "RewardShaper",
    "RolloutPool",
    "RolloutStrategy",
    "RolloutTask",
    "RowGenerator",
    "RowMaker",
    "Rows",
    "Sampler",
    "Sampling",
    "Scope",
    "Scored",
    "ScoredItem",
    "ScoringEstimator",
    "Stage",
    "StageResult",
    "StageSettings",
    "StatefulPart",
    "StrategySpec",
    "TokenView",
    "View",
    "WeightUpdate",
    "artifact",
    "finite",
]
