"""What a stage that samples may bring in place of the run's."""

from __future__ import annotations

from dataclasses import dataclass

from raylign.config.schema.base import Node, named_nodes, node
from raylign.contracts import Measure, RolloutStrategy, StageSettings, View
from raylign.environment import Environment


@dataclass
class SampledSettings(StageSettings):
    """Settings of every stage that samples.

    Strategy and environment are those of what the stage samples to learn from, or to write; held-out evaluations of a
    stage that learns take the run's, so that stages are compared by one measure.
    """

    strategy: Node = node(RolloutStrategy)  # empty: the run's
    environment: Node = node(Environment)  # empty: the run's
    weights: dict[str, float] | None = None  # of rewards; those not named are not asked. null: the run's, all of them
    view: Node = node(View)  # of all prompts of the stage; empty: as they are
    measures: dict[str, Node] = named_nodes(Measure)  # name -> what is logged as <name>/..., of evaluated groups
