"""Rare situations that a search is there to reach, by name: one that was never reached has not been tested.

A run counts how often it met each; a search that met one in none of its runs says so.
"""

SITUATIONS = (
    "a message arrived twice",
    "a message was damaged on the way",
    "an answer was lost after its message had been taken",
    "an event reached a region through a third one",
    "an event was held back: its stamp was too far ahead",
    "an event came before what its writer had seen",
    "a fork was refused",
    "a dot was used again after a roll-back that nobody could tell of",
    "a node took a new incarnation while it ran",
    "a remove arrived with a concurrent add",
    "a delete arrived with a concurrent write",
    "a register had two live writes",
    "two writes had the same timestamp",
    "a transaction of several streams arrived",
    "several writes shared one commit",
    "a condition was refused",
    "a conditional write was accepted",
    "a read was forced, and waited",
    "a forced read timed out",
    "a request was asked again and answered as before",
    "a request was asked again after its node had restarted",
    "a write was refused: the clock was too far behind",
    "a write was refused: the disk was full",
    "a write was refused: the disk failed",
    "a client got no answer to a write that was made",
    "a client got no answer to a write that was not made",
    "a process died before its commit",
    "a process died after its commit, before its answer",
    "the power was lost in the middle of a commit",
    "events were lost with their disk",
    "a wall clock went back",
)

_OF_DIRECTORIES = (
    "a name was refused: it was taken",
    "two regions gave a name at once",
    "a view was forced to a token",
    "a name was given by its home, for another region",
    "a home's answer was lost",
)


def situations_of(workload: str) -> tuple[str, ...]:
    """Those that a workload can reach."""
    return (*SITUATIONS, *_OF_DIRECTORIES) if workload == "directory" else SITUATIONS
