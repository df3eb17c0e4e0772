"""What is measured of a peer, for how long, and on how many streams."""

SECONDS = 5
STREAMS = 20_000

Rates = dict[str, float]
"""What a peer does, by how the names of the figures begin that it stands beside: events a second, or milliseconds.

What is said in parentheses at the end is shown beside the peer's name.
"""


def scattered(number: int) -> int:
    """A stream for each number: neighbours in time are none in an index."""
    return number * 7919 % STREAMS
