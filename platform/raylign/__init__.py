"""raylign: reinforcement-learning post-training on Ray, vLLM and DeepSpeed.

The ground floor: records, contracts, objectives, packing, placement, weights, checkpoints, the loop and the command
line. It imports no actor and no recipe; both reach it through the contracts in :mod:`raylign.contracts`.
"""

__version__ = "0.1.0"
