"""What a checker found wrong."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that a run broke. Shape: `checker` names the promise, `dots` the events that show it."""

    checker: str
    at: float
    region: str
    detail: str
    dots: tuple[str, ...] = ()
