"""placeholder"""
from raylign.recipes.composition_rl.source import CompositionSource
from raylign.recipes.composition_rl.symbolic import SymbolicComposer
from raylign.recipes.composition_rl.toy import Digits, MarkedAnswer

__all__ = ["CompositionSource", "Digits", "MarkedAnswer", "SymbolicComposer"]
