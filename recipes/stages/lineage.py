"""Which model a stage starts from, and where the artifacts of finished stages are."""

from __future__ import annotations

from raylign.config.resolve import Run
from raylign.contracts import Reference
from raylign.errors import RunError
from raylign.run_folder import RunFolder


class Lineage:
    """`start` is the model of the run, `model` the one that the present stage starts from, or has made."""

    def __init__(self, start: str, folder: RunFolder, run: Run) -> None:
        self.start = self.model = start
        self._folder, self._run = folder, run

    def path_of(self, reference: Reference) -> str | None:
        """The path of an artifact; None while its stage is unfinished.

        Raises RunError when the stage finished without it.
        """
        result = self._folder.stage_result(reference.stage)
        if result is None:
            return None
        leaves = next(stage.leaves for stage in self._run.stages if stage.name == reference.stage)
        name = reference.among(leaves)
        if name is None or name not in result.artifacts:
            left = ", ".join(result.artifacts) or "nothing"
            raise RunError(f"{reference.key}={reference.value}: the finished stage {reference.stage} left {left}")
        return result.artifacts[name]

    def of(self, path: str) -> str:
        """The model's folder that a bound path of the configuration means: empty is the present model.

        Raises RunError on a reference to a stage that is not finished.
        """
        if path.startswith("@"):
            raise RunError(f"{path} names a stage that is not finished yet")
        return path or self.model
