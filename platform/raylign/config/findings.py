"""Problems as they are found, and the rules that many numbers share."""

from __future__ import annotations

import math

from raylign.errors import Problem


class Findings(list[Problem]):
    """Problems so far; `expect` adds one unless its condition holds."""

    def expect(self, holds: bool, key: str, value: object, why: str, fix: str) -> None:
        """Add a problem unless `holds`."""
        if not holds:
            self.append(Problem(key=key, value=str(value), why=why, fix=fix))


def positive(found: Findings, key: str, value: float) -> None:
    """Above 0, and finite."""
    why = "must be above 0" if math.isfinite(value) else "must be a finite number"
    found.expect(value > 0 and math.isfinite(value), key, value, why, f"set {key} to a positive number")


def not_negative(found: Findings, key: str, value: float) -> None:
    """0 or above, and finite."""
    why = "must not be negative" if math.isfinite(value) else "must be a finite number"
    found.expect(value >= 0 and math.isfinite(value), key, value, why, f"set {key}=0 or more")


def at_most(found: Findings, key: str, value: float, limit: float, why: str) -> None:
    """No more than a limit; `why` says what is wrong with more."""
    found.expect(value <= limit, key, value, why, f"set {key}={limit:.10g} or less")


def share(found: Findings, key: str, value: float) -> None:
    """Between 0 and 1."""
    found.expect(0 <= value <= 1, key, value, "is no share", f"set {key} between 0 and 1")


def one_of(found: Findings, key: str, value: object, known: tuple[object, ...]) -> None:
    """One of some values."""
    choices = ", ".join(str(item) for item in known)
    found.expect(value in known, key, value, f"is none of {choices}", f"set {key} to one of them")


def whole_gpus(found: Findings, key: str, gpus: float) -> None:
    """A share of one GPU, or a whole number of them."""
    why = "more than one GPU can only be given whole"
    found.expect(gpus <= 1 or gpus == int(gpus), key, gpus, why, f"set {key}={math.ceil(gpus)}")
