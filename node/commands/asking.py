"""What the commands that ask a node share: one request and its answer, or one clear line of why not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from node.errors import CommandFailed

NODE = "http://127.0.0.1:8080"
TIMEOUT_S = 35.0


class Asked:
    """A node, as a command asks it. Whatever else may be at its address is told by what its answers lack."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(self, path: str, *keys: str, **query: str) -> dict[str, Any]:
        """An answer's document, which has these keys. Raises: CommandFailed."""
        return self._document(await self._ask("GET", path, params=query), keys)

    async def post(self, path: str, document: Any, *keys: str) -> dict[str, Any]:
        """The same, of a request with a body. Raises: CommandFailed."""
        return self._document(await self._ask("POST", path, json=document), keys)

    async def pages(self, path: str, name: str) -> AsyncIterator[Any]:
        """Every item of a list, page by page. Raises: CommandFailed."""
        following: str | None = path
        while following is not None:
            response = await self._ask("GET", following)
            for item in self._document(response, (name,))[name]:
                yield item
            following = response.links.get("next", {}).get("url")

    async def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = await self._client.request(method, path, **options)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise self._failed(str(error) or type(error).__name__) from None
        if response.is_success:
            return response
        try:
            detail = str(response.json()["detail"])
        except (ValueError, KeyError, TypeError, RecursionError):
            detail = f"status {response.status_code}"
        raise self._failed(detail)

    def _document(self, response: httpx.Response, keys: tuple[str, ...]) -> dict[str, Any]:
        try:
            document = response.json()
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict) or not document.keys() >= set(keys):
            raise self._failed("what answers there is no node of Atoll's")
        return document

    def _failed(self, why: str) -> CommandFailed:
        return CommandFailed(f"{self._client.base_url}: {why}")


@asynccontextmanager
async def asking(url: str, timeout_s: float = TIMEOUT_S) -> AsyncIterator[Asked]:
    """Ask a node. Raises: CommandFailed, for what is no URL."""
    try:
        client = httpx.AsyncClient(base_url=url, timeout=timeout_s, trust_env=False)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise CommandFailed(f"{url}: {error}") from None
    async with client:
        yield Asked(client)
