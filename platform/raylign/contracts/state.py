"""What a checkpoint carries of a part: small state as JSON, large state as files in a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raylign.contracts.part import Part
from raylign.errors import CheckpointError


class StatefulPart(Part):
    """A part that may remember things from step to step; by default it remembers nothing.

    Example::

        def save(self, folder: Path) -> None:
            np.save(folder / "history.npy", self.history)

        def restore(self, folder: Path) -> None:
            self.history = np.load(folder / "history.npy")
    """

    def state_dict(self) -> dict[str, Any]:
        """Small state that a checkpoint must carry (JSON types only)."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave. Raises CheckpointError on a state that this part would lose."""
        if state:
            raise CheckpointError(_lost(self, f"state ({', '.join(state)})", "load_state_dict"))

    def save(self, folder: Path) -> None:
        """Write state that is too large for `state_dict` (arrays, weights) into its own folder, which is empty.

        Runs in a thread, between steps.
        """

    def restore(self, folder: Path) -> None:
        """Go on from what `save` wrote, after `load_state_dict`; there is no folder where it wrote nothing.

        Runs in a thread. Raises CheckpointError on files that this part would lose.
        """
        if folder.exists():
            raise CheckpointError(_lost(self, f"files ({folder})", "restore"))


def _lost(part: Part, what: str, method: str) -> str:
    kind = type(part).__name__
    return (
        f"the checkpoint has {what} of {part.what}, which {kind} does not take up; "
        f"fix: resume with the part that it was made with, or give {kind} a {method}"
    )
