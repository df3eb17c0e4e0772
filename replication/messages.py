"""What peers say to each other, as bytes: an envelope around a digest, events, or a refusal.

    envelope: [oldest protocol, newest protocol, cluster, sender's origin, compression, content hash, content]
    content:  [PULL, digest, beyond, bytes] | [DIGEST, digest] | [EVENTS, digest, transactions]
              | [REFUSAL, digest, reason, detail]
    digest:   [heads, feature level, wall clock ms, vectors, left out, forks, also]

The hash covers everything before and after it, so a message that was cut or changed on the way is refused whole.
Every message carries its sender's digest: whoever hears one knows what the other holds. `left_out` are
transactions the sender will not take now, with the reason, so that nobody sends them (and what depends on them)
again at once. A pull asks for what lies beyond some heads, about so many bytes of it: the asker's own heads, or those
that it will have once it has stored what it has already been given. `forks` are dots that the receiver of the
message holds with another hash than its sender (I7). `also` names who else has what is held here, or is being sent
it: the receiver of a push need not pass it on to them.
"""

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from replication.admission import Transaction
from replication.errors import Malformed, PeerError
from replication.event import FEATURE_LEVEL, HASH_BYTES
from replication.event_codec import decode_vector
from replication.limits import COMPRESS_FROM_BYTES, LEFT_OUT_MAX, MESSAGE_BYTES_MAX, ORIGINS_MAX, SEQ_MAX
from replication.origin import is_origin
from replication.packing import DECODE_ERRORS, pack, unpack

PROTOCOL_OLDEST = 1
PROTOCOL_NEWEST = 1
DIGEST, EVENTS, REFUSAL, PULL = 1, 2, 3, 4
PLAIN, ZLIB = 0, 1


class Claim(NamedTuple):
    """What a node says of an origin's log: up to `seq`, where the chain hash is `chain`."""

    seq: int
    chain: bytes


class Withheld(NamedTuple):
    """A transaction that its receiver will not take now."""

    origin: str
    seq: int
    reason: str


class Fork(NamedTuple):
    """A dot that two nodes hold with different hashes. Shape: `chain` is the speaker's."""

    origin: str
    seq: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class Digest:
    """What a node holds.

    Shape: `vectors` is the newest known vector of every region's node, by origin. `also` are the origins that its
    sender sees to.
    """

    heads: Mapping[str, Claim]
    wall_ms: int
    vectors: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    left_out: tuple[Withheld, ...] = ()
    forks: tuple[Fork, ...] = ()
    feature_level: int = FEATURE_LEVEL
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pull:
    """Asks for what lies beyond these heads. Units: `byte_limit` is where a message takes up no more."""

    digest: Digest
    beyond: Mapping[str, Claim]
    byte_limit: int


@dataclass(frozen=True, slots=True)
class Events:
    """Transactions that the receiver lacks."""

    digest: Digest
    transactions: tuple[Transaction, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something in the message before was not taken; what, stands in the digest's `left_out`."""

    digest: Digest
    reason: str
    detail: str


Message = Digest | Pull | Events | Refusal


@dataclass(frozen=True, slots=True)
class Received:
    """A message, and whose it is."""

    sender: str
    message: Message

    @property
    def digest(self) -> Digest:
        """What its sender holds."""
        return self.message if isinstance(self.message, Digest) else self.message.digest


def encode(message: Message, cluster: str, sender: str) -> bytes:
    """A message as bytes."""
    content = pack(_content(message))
    compression = PLAIN
    if len(content) >= COMPRESS_FROM_BYTES:
        content, compression = zlib.compress(content, 1), ZLIB
    front = [PROTOCOL_OLDEST, PROTOCOL_NEWEST, cluster, sender, compression]
    return pack([*front, _hash(front, content), content])


def decode(data: bytes, cluster: str) -> Received:
    """Read a message.

    Raises: PeerError, with the reason: `malformed`, `unknown-protocol`, `other-cluster`.
    """
    try:
        return _decode(data, cluster)
    except Malformed as error:
        raise PeerError("malformed", str(error)) from None


def _decode(data: bytes, cluster: str) -> Received:
    if len(data) > MESSAGE_BYTES_MAX:
        raise Malformed(f"a message has at most {MESSAGE_BYTES_MAX} bytes")
    envelope = unpack(data)
    _require(isinstance(envelope, list) and len(envelope) >= 2, "envelope")
    oldest, newest = envelope[:2]
    _require(_is_count(oldest) and _is_count(newest), "protocol range")
    if not (oldest <= PROTOCOL_NEWEST and newest >= PROTOCOL_OLDEST):
        detail = f"the peer speaks {oldest} to {newest}, this node {PROTOCOL_OLDEST} to {PROTOCOL_NEWEST}"
        raise PeerError("unknown-protocol", detail)
    _require(len(envelope) == 7, "envelope")
    _, _, theirs, sender, compression, content_hash, content = envelope
    _require(isinstance(content, bytes) and content_hash == _hash(envelope[:5], content), "content hash")
    if theirs != cluster:
        raise PeerError("other-cluster", f"the peer belongs to cluster {theirs!r}, this node to {cluster!r}")
    _require(is_origin(sender), "sender")
    return Received(sender, _decode_content(_decompress(compression, content)))


def _hash(front: list[Any], content: bytes) -> bytes:
    return hashlib.blake2b(pack(front) + content, digest_size=HASH_BYTES).digest()


def _decompress(compression: Any, content: bytes) -> bytes:
    if compression == PLAIN:
        return content
    _require(compression == ZLIB, "compression")
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(content, MESSAGE_BYTES_MAX)
    except zlib.error:
        raise Malformed("a message's content does not decompress") from None
    _require(inflater.eof and not inflater.unused_data, "compressed content")
    return plain


def _content(message: Message) -> list[Any]:
    match message:
        case Digest():
            return [DIGEST, _encode_digest(message)]
        case Pull(digest, beyond, byte_limit):
            return [PULL, _encode_digest(digest), _encode_heads(beyond), byte_limit]
        case Events(digest, transactions):
            return [EVENTS, _encode_digest(digest), transactions]
        case Refusal(digest, reason, detail):
            return [REFUSAL, _encode_digest(digest), reason, detail]


def _encode_digest(digest: Digest) -> list[Any]:
    return [
        _encode_heads(digest.heads),
        digest.feature_level,
        digest.wall_ms,
        [[origin, sorted(vector.items())] for origin, vector in sorted(digest.vectors.items())],
        digest.left_out,
        digest.forks,
        digest.also,
    ]


def _encode_heads(heads: Mapping[str, Claim]) -> list[Any]:
    return [[origin, claim.seq, claim.chain] for origin, claim in sorted(heads.items())]


_decode_parts = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_decode_transactions = msgspec.msgpack.Decoder(tuple[Transaction, ...]).decode


def _decode_content(data: bytes) -> Message:
    """Events are read into their types at once, since there are thousands; the rest, part by part."""
    try:
        parts = _decode_parts(data)
        if len(parts) == 3 and unpack(parts[0]) == EVENTS:
            return Events(_decode_digest(unpack(parts[1])), _decode_transactions(parts[2]))
    except DECODE_ERRORS as error:
        raise Malformed(f"a message's content has the wrong shape: {error}"[:200]) from None
    match unpack(data):
        case [kind, digest] if kind == DIGEST:
            return _decode_digest(digest)
        case [kind, digest, beyond, byte_limit] if kind == PULL:
            _require(_is_count(byte_limit), "byte limit")
            return Pull(_decode_digest(digest), _decode_heads(beyond), byte_limit)
        case [kind, digest, str(reason), str(detail)] if kind == REFUSAL:
            return Refusal(_decode_digest(digest), reason[:64], detail[:1024])
    raise Malformed("a message's content has an unknown shape")


def _decode_digest(digest: Any) -> Digest:
    _require(isinstance(digest, list) and len(digest) >= 6, "digest")
    heads, feature_level, wall_ms, vectors, left_out, forks = digest[:6]
    also = digest[6] if len(digest) > 6 else []
    _require(_is_count(feature_level) and _is_count(wall_ms), "digest")
    _require(isinstance(vectors, list) and len(vectors) <= ORIGINS_MAX, "digest's vectors")
    for entry in vectors:
        _require(isinstance(entry, list) and len(entry) == 2 and is_origin(entry[0]), "digest's vectors")
    _require(isinstance(left_out, list) and len(left_out) <= LEFT_OUT_MAX, "digest's left out")
    for entry in left_out:
        _require(isinstance(entry, list) and len(entry) == 3, "digest's left out")
        origin, seq, reason = entry
        _require(is_origin(origin) and _is_count(seq) and isinstance(reason, str), "digest's left out")
    _require(isinstance(also, list) and len(also) <= ORIGINS_MAX and all(map(is_origin, also)), "digest's also")
    return Digest(
        _decode_heads(heads),
        wall_ms,
        {origin: decode_vector(vector) for origin, vector in vectors},
        tuple(Withheld(origin, seq, reason[:64]) for origin, seq, reason in left_out),
        _decode_forks(forks, "forks"),
        feature_level,
        tuple(also),
    )


def _decode_heads(entries: Any) -> dict[str, Claim]:
    return {fork.origin: Claim(fork.seq, fork.chain) for fork in _decode_forks(entries, "heads")}


def _decode_forks(entries: Any, what: str) -> tuple[Fork, ...]:
    """Entries of origin, seq, chain hash: heads and forks have the same shape."""
    _require(isinstance(entries, list) and len(entries) <= ORIGINS_MAX, what)
    for entry in entries:
        _require(isinstance(entry, list) and len(entry) == 3, what)
        origin, seq, chain = entry
        _require(is_origin(origin) and _is_count(seq) and seq > 0, what)
        _require(isinstance(chain, bytes) and len(chain) == HASH_BYTES, what)
    return tuple(Fork(*entry) for entry in entries)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= SEQ_MAX


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise Malformed(f"a message's {what} has the wrong shape")
