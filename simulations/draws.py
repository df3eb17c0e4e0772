"""Every draw of a simulation follows from its seed and from what the draw is for, never from what was drawn before.

So one change of a plan leaves all other draws as they were, which is what lets a plan be edited and shrunk.
"""

import random
from hashlib import blake2b


def generator(seed: int, *purpose: object) -> random.Random:
    """A generator for one purpose."""
    return random.Random(_key(seed, purpose))  # noqa: S311  # a simulation's draws are to be repeated, not secret


def uniform(seed: int, *purpose: object) -> float:
    """One draw from [0, 1) for one purpose."""
    return int.from_bytes(blake2b(_key(seed, purpose), digest_size=7).digest(), "big") / (1 << 56)


def _key(seed: int, purpose: tuple[object, ...]) -> bytes:
    return repr((seed, *purpose)).encode()
