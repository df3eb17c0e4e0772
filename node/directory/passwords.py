"""Passwords are not kept: a write that brings one is refused, or the password is dropped, wherever it stands.

They come as an attribute of a user, in the data of a bulk request, and as the path or the value of a PATCH.
"""

import json
from typing import Any

from scim2_models import InvalidSyntaxException, InvalidValueException

from node.directory.schema import PASSWORD


def without_passwords(body: bytes, mode: str) -> bytes:
    """The body of a write, with its passwords refused or dropped.

    Raises: InvalidValueException, InvalidSyntaxException.
    """
    if PASSWORD.encode() not in body.lower():
        return body
    try:
        document = json.loads(body)
        held = _holds_password(document)
    except (ValueError, RecursionError) as error:
        raise InvalidSyntaxException(detail=f"the body is not JSON that can be read: {error}") from None
    if not held:
        return body
    if mode == "refuse":
        raise InvalidValueException(
            detail="passwords are not kept here: leave `password` out, or have the operator set passwords = 'drop'"
        )
    return json.dumps(_drop_password(document)).encode()


def _is_password(key: object) -> bool:
    return isinstance(key, str) and key.rpartition(":")[2].casefold() == PASSWORD


def _sets_password(operation: Any) -> bool:
    return isinstance(operation, dict) and any(
        name.casefold() == "path" and _is_password(value) for name, value in operation.items()
    )


def _holds_password(value: Any) -> bool:
    if isinstance(value, list):
        return any(_sets_password(item) or _holds_password(item) for item in value)
    if isinstance(value, dict):
        return any(_is_password(key) or _holds_password(inner) for key, inner in value.items())
    return False


def _drop_password(value: Any) -> Any:
    if isinstance(value, list):
        return [_drop_password(item) for item in value if not _sets_password(item)]
    if isinstance(value, dict):
        return {key: _drop_password(inner) for key, inner in value.items() if not _is_password(key)}
    return value
