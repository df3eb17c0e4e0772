"""What the commands that ask a node share: one request and its answer, or one clear line of why not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from node.errors import CommandFailed

NODE = "http://127.0.0.1:8080"
TIMEOUT_S = 35.0


class Asked:
    """A node, as a command asks it."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(self, path: str, **query: str) -> Any:
        """An answer's document. Raises: CommandFailed."""
        return (await self._ask("GET", path, params=query)).json()

    async def post(self, path: str, document: Any) -> Any:
        """The same, of a request with a body. Raises: CommandFailed."""
        return (await self._ask("POST", path, json=document)).json()

    async def pages(self, path: str, name: str) -> AsyncIterator[Any]:
        """Every item of a list, page by page. Raises: CommandFailed."""
        following: str | None = path
        while following is not None:
            response = await self._ask("GET", following)
            for item in response.json()[name]:
                yield item
            following = response.links.get("next", {}).get("url")

    async def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = await self._client.request(method, path, **options)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CommandFailed(f"{self._client.base_url}: {error or type(error).__name__}") from None
        if response.is_success:
            return response
        try:
            detail = response.json()["detail"]
        except (ValueError, KeyError, TypeError):
            detail = f"status {response.status_code}"
        raise CommandFailed(f"{self._client.base_url}: {detail}")


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[Asked]:
    """Ask a node. Raises: CommandFailed, for what is no URL."""
    try:
        client = httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, trust_env=False)
    except httpx.InvalidURL as error:
        raise CommandFailed(f"{url}: {error}") from None
    async with client:
        yield Asked(client)
