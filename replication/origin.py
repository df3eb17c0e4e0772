"""Origins: one incarnation of one region's log, `eu-west.5f2c9a10`.

A store that is created, restored or cloned gets a new incarnation, so that a dot is never used twice (I6).
"""

import re
from functools import lru_cache

from replication.limits import ORIGIN_BYTES_MAX, ORIGINS_MAX, REGION_BYTES_MAX

REGION = re.compile(rf"[a-z0-9-]{{1,{REGION_BYTES_MAX}}}")
ORIGIN = re.compile(rf"[a-z0-9-]{{1,{REGION_BYTES_MAX}}}\.[0-9a-f]{{8}}")


def is_region(text: object) -> bool:
    """Whether the text can name a region (or a cluster)."""
    return isinstance(text, str) and REGION.fullmatch(text) is not None


def is_origin(text: object) -> bool:
    """Whether the text has an origin's form."""
    return isinstance(text, str) and len(text) <= ORIGIN_BYTES_MAX and _has_origin_form(text)


@lru_cache(maxsize=ORIGINS_MAX * 16)
def _has_origin_form(text: str) -> bool:
    """The same few origins come in every message, many times."""
    return ORIGIN.fullmatch(text) is not None


def region_of(origin: str) -> str:
    """The region that an origin's events are shown under."""
    return origin.rpartition(".")[0]
