"""Problems as they are met, and the rules that many numbers share."""

from __future__ import annotations

import math

from raylign.errors import Problem


class Findings(list[Problem]):
    """Problems so far. `section` is the dotted key that names are relative to; empty: the whole configuration."""

    def __init__(self, section: str = "") -> None:
        super().__init__()
        self.section = section

    def key(self, name: str) -> str:
        """The dotted key of a setting."""
        return f"{self.section}.{name}" if self.section else name

    def expect(self, holds: bool, name: str, value: object, why: str, fix: str) -> None:
        """Add a problem unless `holds`."""
        if not holds:
            self.append(Problem(key=self.key(name), value=str(value), why=why, fix=fix))

    def positive(self, **values: float) -> None:
        """Each above 0, and finite."""
        for name, value in values.items():
            why = "must be above 0" if math.isfinite(value) else "must be a finite number"
            fix = f"set {self.key(name)} to a positive number"
            self.expect(value > 0 and math.isfinite(value), name, value, why, fix)

    def not_negative(self, **values: float) -> None:
        """Each 0 or above, and finite."""
        for name, value in values.items():
            why = "must not be negative" if math.isfinite(value) else "must be a finite number"
            self.expect(value >= 0 and math.isfinite(value), name, value, why, f"set {self.key(name)}=0 or more")

    def share(self, **values: float) -> None:
        """Each between 0 and 1."""
        for name, value in values.items():
            self.expect(0 <= value <= 1, name, value, "is no share", f"set {self.key(name)} between 0 and 1")

    def one_of(self, name: str, value: object, known: tuple[object, ...]) -> None:
        """One of some values."""
        choices = ", ".join(str(item) for item in known)
        self.expect(value in known, name, value, f"is none of {choices}", f"set {self.key(name)} to one of them")

    def whole_gpus(self, gpus: float) -> None:
        """A share of one GPU, or a whole number of them."""
        self.not_negative(gpus=gpus)
        fix = f"set {self.key('gpus')}={math.ceil(gpus) if math.isfinite(gpus) else 1}"
        self.expect(gpus <= 1 or gpus == int(gpus), "gpus", gpus, "more than one GPU can only be given whole", fix)
