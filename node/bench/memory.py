"""How far away memory is: a walk at random through some of it, each step of which waits for the one before.

A small walk stays in a processor's own cache. A larger one needs the cache that processors share, or memory itself
where neighbours on the same machine have taken that cache; then what is larger than a loop is several times slower,
while a bare loop runs as fast as ever. So this tells a quiet machine from a busy one.
"""

import random
import time
from array import array
from itertools import pairwise

SIZES = (64 << 10, 8 << 20)
"""In bytes: within a processor's own cache, and beyond it."""
LINE_BYTES = 64
STEPS = 200_000


def ring(size: int) -> "array[int]":
    """A walk through so many bytes, one step a cache line: at each place the next, all of them in a ring."""
    places = array("Q", bytes(size))
    stride = LINE_BYTES // places.itemsize
    order = list(range(0, len(places), stride))
    random.Random(size).shuffle(order)
    for here, following in pairwise([*order, order[0]]):
        places[here] = following
    return places


def step_ns(size: int) -> float:
    """What a step takes, Python's own time included. Units: nanoseconds."""
    places, here = ring(size), 0
    for _ in range(size // LINE_BYTES):
        here = places[here]
    began = time.perf_counter()
    for _ in range(STEPS):
        here = places[here]
    return (time.perf_counter() - began) / STEPS * 1e9
