"""A dot names one event of the cluster: the origin that wrote it, and its number there (1, 2, 3 … without gaps).

Source: Almeida, Shoker, Baquero 2018, "Delta state replicated data types", section 7.2 (dots and causal contexts).
"""

from typing import NamedTuple


class Dot(NamedTuple):
    """One event's identity. Shape: `eu-west.5f2c9a10` and 12, in text `eu-west.5f2c9a10.12`."""

    origin: str
    seq: int

    def __str__(self) -> str:
        return f"{self.origin}.{self.seq}"
