"""POST /gossip: one message each way, bytes in and bytes out; what they say is `replication.messages`' affair."""

from node.interface.content import MSGPACK_TYPE
from node.interface.problems import Problem
from node.interface.reply import Rendered
from node.interface.request import Request
from replication.limits import MESSAGE_BYTES_MAX


async def exchange(request: Request) -> Rendered:
    """Take a peer's message; answer with events, a digest, or a refusal (400 where nothing of it could be taken)."""
    if (request.headers.get("content-type") or "").split(";")[0].strip() != MSGPACK_TYPE:
        raise Problem("unsupported-media-type", f"a message is {MSGPACK_TYPE}", {"accepted": [MSGPACK_TYPE]})
    answer, taken = await request.node.gossip.answer(await request.content(MESSAGE_BYTES_MAX))
    return Rendered(200 if taken else 400, {"content-type": MSGPACK_TYPE}, answer)
