"""Which model a stage starts from."""

from __future__ import annotations

from collections.abc import Sequence

from raylign.errors import RunError
from raylign.run_folder import RunFolder


class Lineage:
    """`start` is the model of the run, `model` the one that the present stage starts from, or has made."""

    def __init__(self, start: str, folder: RunFolder, stages: Sequence[str]) -> None:
        self.start = self.model = start
        self._folder, self._stages = folder, stages

    def of(self, path: str) -> str:
        """The folder that a path of the configuration means: empty is the present model, ``@NAME`` what the stage of
        that name exported. Raises RunError when that stage has exported none.
        """
        if not path.startswith("@"):
            return path or self.model
        result = self._folder.stage_result(path[1:])
        if result is None or not result.model:
            done = [name for name in self._stages if self._folder.stage_result(name)]
            raise RunError(f"{path} names no finished stage with a model; finished: {', '.join(done) or 'none'}")
        return result.model
