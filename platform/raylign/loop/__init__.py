"""The training loop; start at `raylign.loop.step`."""

from raylign.loop.settings import LoopSettings, StepSettings
from raylign.loop.step import Loop, Parts, StepResult, minibatches

__all__ = ["Loop", "LoopSettings", "Parts", "StepResult", "StepSettings", "minibatches"]
