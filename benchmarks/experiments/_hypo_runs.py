"""x."""


def equivalence():
    return []


def transformer():
    return []
