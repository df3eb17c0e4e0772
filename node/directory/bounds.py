"""What one SCIM request may ask for: its own size says little of the work that it makes.

A filter is compared with each resource that it may match, a PATCH runs its operations one after another, and both are
read into trees of models first. A search by POST may say what one by GET can; operations and the paths that they name
are counted before anything is made of them.
"""

import json
from collections.abc import Iterator
from typing import Any

from scim2_models import PayloadTooLargeException

from node.limits import (
    SCIM_ASIDE_BYTES,
    SCIM_OPERATIONS_MAX,
    SCIM_PATHS_CHARACTERS_MAX,
    SCIM_SEARCH_BYTES_MAX,
)

SEARCH = "/.search"


def check_bounds(path: str, body: bytes) -> None:
    """Refuse what asks for too much. Raises: PayloadTooLargeException."""
    if path.rstrip("/").endswith(SEARCH) and len(body) > SCIM_SEARCH_BYTES_MAX:
        raise PayloadTooLargeException(
            detail=f"a search may have {SCIM_SEARCH_BYTES_MAX} bytes, and this one has {len(body)}; split its filter"
        )
    if len(body) <= SCIM_ASIDE_BYTES:
        return
    try:
        operations = list(_operations(json.loads(body)))
    except (ValueError, RecursionError):
        return  # whoever reads it next says what is wrong with it
    if len(operations) > SCIM_OPERATIONS_MAX:
        raise PayloadTooLargeException(
            detail=f"a request may have {SCIM_OPERATIONS_MAX} operations, and this one has {len(operations)};"
            " send them in several"
        )
    paths = (named for operation in operations for named in _values(operation, "path"))
    characters = sum(len(named) for named in paths if isinstance(named, str))
    if characters > SCIM_PATHS_CHARACTERS_MAX:
        raise PayloadTooLargeException(
            detail=f"the paths of a request's operations may have {SCIM_PATHS_CHARACTERS_MAX} characters together,"
            f" and these have {characters}; send them in several, or name members in `value`"
        )


def _operations(document: Any) -> Iterator[dict[str, Any]]:
    """The operations of a PATCH, or of a bulk request and of its PATCHes."""
    for operations in _values(document, "operations"):
        for operation in operations if isinstance(operations, list) else ():
            if isinstance(operation, dict):
                yield operation
            for data in _values(operation, "data"):
                yield from _operations(data)


def _values(document: Any, name: str) -> Iterator[Any]:
    """The values of an attribute, whose name may be written in any case."""
    if isinstance(document, dict):
        yield from (value for key, value in document.items() if key.casefold() == name)
