"""The protocol's side of the directory: where resources are, and what seals a cursor."""

import hashlib
import json
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote

from scim2_models import InvalidSyntaxException, InvalidValueException, ResourceType
from scim2_server.requests import ScimRequest
from scim2_server.routing import Target
from scim2_server.service import ScimService

from node.directory.schema import PASSWORD, provider

REFUSE, DROP = "refuse", "drop"


class DirectoryService(ScimService):
    """One cluster's directory.

    Cursors go on in any region, so what seals them is told from the cluster's name: they are opaque, and no secret.
    """

    def __init__(self, cluster: str) -> None:
        secret = hashlib.blake2b(f"cursors of {cluster}".encode(), digest_size=32).digest()
        super().__init__(provider(), secret=secret)

    @staticmethod
    def match(request: ScimRequest) -> Target:
        """What a request asks for; ids are percent-encoded in its path."""
        target = ScimService.match(request)
        return target if target.resource_id is None else replace(target, resource_id=unquote(target.resource_id))

    def resource_location(self, base_url: str, resource_type: ResourceType, resource_id: str) -> str:
        """The URL of a resource; an id may hold what a path cannot."""
        return super().resource_location(base_url, resource_type, quote(resource_id, safe="~@!$&'()*+,;=:"))


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
    if mode == REFUSE:
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
