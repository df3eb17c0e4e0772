"""What is measured of a peer, and for how long."""

SECONDS = 5

Rates = dict[str, float]
"""What a peer does, by how the names of the figures begin that it stands beside: events a second, or milliseconds."""
