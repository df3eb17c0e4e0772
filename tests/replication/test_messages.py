"""Messages: what is written reads back; what is not ours is refused with the reason."""

import zlib
from typing import Any

import pytest

from replication import messages
from replication.errors import PeerError
from replication.event import Encoded
from replication.limits import MESSAGE_BYTES_MAX
from replication.messages import Claim, Digest, Events, Fork, Message, Pull, Refusal, Withheld
from replication.packing import pack, unpack_own

EU, US = "eu.5f2c9a10", "us.77aa01bc"
DIGEST = Digest(
    {EU: Claim(3, b"h" * 16)},
    1_700_000_000_000,
    {EU: {EU: 3}, US: {EU: 2, US: 1}},
    (Withheld(US, 2, "held-back"),),
    (Fork(US, 1, b"f" * 16),),
    also=(US,),
)
MESSAGES: list[Message] = [
    Digest({}, 0),
    DIGEST,
    Events(DIGEST, ((Encoded(b"header", b"body"), Encoded(b"h", b"b")), (Encoded(b"x" * 9000, b""),))),
    Refusal(DIGEST, "fork", "why"),
    Pull(DIGEST, {EU: Claim(9, b"i" * 16)}, 4096),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_reads_back(message: Message) -> None:
    received = messages.decode(messages.encode(message, "c", EU), "c")
    assert (received.sender, received.message) == (EU, message)


def reason(data: bytes) -> str:
    with pytest.raises(PeerError) as caught:
        messages.decode(data, "c")
    return caught.value.reason


def test_another_cluster_is_named() -> None:
    assert reason(messages.encode(DIGEST, "other", EU)) == "other-cluster"


def test_an_unknown_protocol_is_named_whatever_else_it_says() -> None:
    assert reason(pack([7, 9, "something", "new"])) == "unknown-protocol"
    assert reason(pack([0, 0])) == "unknown-protocol"


def test_a_newer_peer_that_still_speaks_ours_is_heard() -> None:
    envelope = unpack_own(messages.encode(DIGEST, "c", EU))
    envelope[1] = 9
    envelope[5] = messages._hash(envelope[:5], envelope[6])
    assert messages.decode(pack(envelope), "c").message == DIGEST


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", pack({}), pack([1]), pack(["1", 1]), pack([1, 1, "c", EU, 0, b"h", b""]), b"\x00" * 100],
)
def test_what_is_no_message_is_malformed(data: bytes) -> None:
    assert reason(data) == "malformed"


def test_a_message_too_large_is_malformed() -> None:
    assert reason(b"\x00" * (MESSAGE_BYTES_MAX + 1)) == "malformed"


def sealed(content: Any, compression: int = 0, sender: Any = EU) -> bytes:
    data = content if isinstance(content, bytes) else pack(content)
    front = [1, 1, "c", sender, compression]
    return pack([*front, messages._hash(front, data), data])


D: list[Any] = [[], 1, 0, [], [], []]


@pytest.mark.parametrize(
    "content",
    [
        7,
        [],
        [9, D],
        [1, D, 7],
        [1, 7],
        [1, D[:5]],
        [1, [[["eu", 1, b"h" * 16]], *D[1:]]],
        [1, [[[EU, 0, b"h" * 16]], *D[1:]]],
        [1, [[[EU, "1", b"h" * 16]], *D[1:]]],
        [1, [[[EU, 1, b"h"]], *D[1:]]],
        [1, [[[EU, 1]], *D[1:]]],
        [1, [[], "1", *D[2:]]],
        [1, [[], 1, -1, *D[3:]]],
        [1, [7, *D[1:]]],
        [1, [*D[:3], 7, [], []]],
        [1, [*D[:3], [7], [], []]],
        [1, [*D[:3], [[EU, []]] * 65, [], []]],
        [1, [*D[:4], 7, []]],
        [1, [*D[:4], [7], []]],
        [1, [*D[:4], [[EU, 1, "gap"]] * 129, []]],
        [1, [*D[:5], 7]],
        [1, [*D, 7]],
        [1, [*D, [7]]],
        [1, [*D, ["eu"]]],
        [1, [*D, [EU] * 65]],
        [1, [[], 1, 0, [["eu", []]], [], []]],
        [1, [[], 1, 0, [[EU, [[EU, 0]]]], [], []]],
        [1, [[], 1, 0, [[EU, [[EU]]]], [], []]],
        [1, [[], 1, 0, [], [[EU, 1]], []]],
        [1, [[], 1, 0, [], [[EU, 1, 7]], []]],
        [1, [[], 1, 0, [], [], [[EU, 1, "h"]]]],
        [1, [[[EU, 1, b"h" * 16]] * 65, *D[1:]]],
        [2, D, 7],
        [2, D, [7]],
        [2, D, [[7]]],
        [2, D, [[["header", b"body"]]]],
        [2, D, [[[b"header"]]]],
        [3, D, 7, "detail"],
        [4, D],
        [4, D, [], -1],
        [4, D, [[EU, 0, b"h" * 16]], 1],
    ],
)
def test_contents_of_another_shape_are_malformed(content: Any) -> None:
    assert reason(sealed(content)) == "malformed"


def test_a_digest_may_lack_what_came_later_and_have_what_is_yet_to_come() -> None:
    assert messages.decode(sealed([1, D]), "c").message == Digest({}, 0)
    assert messages.decode(sealed([1, [*D, [US], "more"]]), "c").message == Digest({}, 0, also=(US,))


def test_senders_and_compressions_that_are_none_are_malformed() -> None:
    assert reason(sealed([1, D], sender="eu")) == "malformed"
    assert reason(sealed(zlib.compress(pack([1, D])), compression=9)) == "malformed"
    assert reason(sealed(b"not zlib", compression=1)) == "malformed"


def test_a_small_message_cannot_unfold_into_a_huge_one() -> None:
    assert reason(sealed(zlib.compress(b"\x00" * (MESSAGE_BYTES_MAX + 1)), compression=1)) == "malformed"
    assert reason(sealed(zlib.compress(pack([1, D])) + b"more", compression=1)) == "malformed"
