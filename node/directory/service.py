"""The protocol's side of the directory: where resources are, and what seals a cursor."""

import hashlib
from dataclasses import replace
from urllib.parse import quote, unquote

from scim2_models import ResourceType
from scim2_server.requests import ScimRequest
from scim2_server.routing import Target
from scim2_server.service import ScimService

from node.directory.schema import provider


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
