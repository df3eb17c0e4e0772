"""Every draw of a simulation follows from its seed and from what the draw is for, never from what was drawn before.

So one change of a plan leaves all other draws as they were, which is what lets a plan be edited and shrunk.
"""

import random
import struct
from hashlib import blake2b

_EIGHT = struct.Struct(">8Q")


def generator(seed: int, *purpose: object) -> random.Random:
    """A generator for one purpose."""
    return random.Random(_key(seed, purpose))  # noqa: S311  # a simulation's draws are to be repeated, not secret


def uniforms(seed: int, *purpose: object) -> tuple[float, ...]:
    """Eight draws from [0, 1) for one purpose."""
    words = _EIGHT.unpack(blake2b(_key(seed, purpose), digest_size=64).digest())
    return tuple((word >> 11) / (1 << 53) for word in words)


def uniform(seed: int, *purpose: object) -> float:
    """One draw from [0, 1) for one purpose."""
    return int.from_bytes(blake2b(_key(seed, purpose), digest_size=7).digest(), "big") / (1 << 56)


def _key(seed: int, purpose: tuple[object, ...]) -> bytes:
    return repr((seed, *purpose)).encode()
