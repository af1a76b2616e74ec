"""What every part of a configuration is: a class with a nested ``Config`` dataclass, made with it and its place's own.

YAML names a part by ``_target_``; `raylign.config.build` makes it, so that a typo in any field of any part is an error
before work starts. The place that a part stands in asks for one of the classes of this package, which say what they are
made with (`made_with`); composing refuses a part that is not derived from its place's class or cannot be made so.
"""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, Any, ClassVar

from raylign.errors import Problem

if TYPE_CHECKING:
    from raylign.config.resolve import Run


class Part(ABC):
    """Made as ``cls(config, **made_with)``.

    Example::

        class Doubled(RewardShaper):
            @dataclass
            class Config:
                factor: float = 2.0
    """

    what: ClassVar[str] = "a part"  # in messages
    made_with: ClassVar[tuple[str, ...]] = ()  # keyword arguments that follow the config
    settings: ClassVar[type] = object  # what its Config derives from
    Config: ClassVar[Any]

    def __init__(self, config: Any) -> None:
        self.config = config

    @classmethod
    def problems(cls, key: str, config: Any, run: Run) -> list[Problem]:
        """What else is wrong with these settings at `key` within a whole run, seen before work starts."""
        return []
