"""What an operator decides about one node. Read from a TOML file, from options of `atoll serve`, or both.

Every field says its meaning, unit, range and trade-off; unknown keys are refused. `docs/configuration.md` is held
to this file by a test.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from node.errors import ConfigurationError
from replication.limits import MAP_BYTES, MAX_DRIFT_MS, MESSAGE_TARGET_BYTES
from replication.origin import is_region
from replication.packing import DECODE_ERRORS
from replication.tokens import parse_dot

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""What a header's name is made of. Source: RFC 9110, section 5.6.2."""
A_URL = "an http or https URL of a host, perhaps a port and a path"


class Configuration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One node's configuration."""

    region: Annotated[str, Meta(description="This node's place, of a-z, 0-9 and '-', 1 to 32 characters.")]
    data: Annotated[str, Meta(description="Directory of the store. Local disk: LMDB maps it into memory.")]
    listen: Annotated[
        str,
        Meta(
            description="HOST:PORT for clients and peers; port 0 takes a free one. There is no authentication yet:"
            " beyond loopback, put a proxy in front that has some."
        ),
    ] = "127.0.0.1:8080"
    peers: Annotated[
        tuple[str, ...],
        Meta(
            description="URLs of other regions' nodes. Any connected graph converges. A link named on one side is"
            " used both ways, but what the other side writes waits for this one's next pull: name it on both."
        ),
    ] = ()
    cluster: Annotated[
        str, Meta(description="Name of the cluster. Nodes of different clusters never exchange events.")
    ] = "atoll"
    gossip_interval_ms: Annotated[
        int,
        Meta(
            ge=10,
            le=60_000,
            description="Mean time between repairs from a random peer. Pushes at commit do not wait for it: lower"
            " mends lost pushes sooner, higher idles cheaper.",
        ),
    ] = 1_000
    max_drift_ms: Annotated[
        int,
        Meta(
            ge=1_000,
            le=3_600_000,
            description="How far ahead of a receiver's clock a timestamp may be; the same in the whole cluster. Lower"
            " bounds what a wrong clock can do, higher tolerates worse clocks.",
        ),
    ] = MAX_DRIFT_MS
    map_bytes: Annotated[
        int,
        Meta(
            ge=1 << 20,
            description="The most that the store may grow to. Address space, not memory or disk; a write beyond it"
            " answers 507 and reads go on.",
        ),
    ] = MAP_BYTES
    message_bytes: Annotated[
        int,
        Meta(
            ge=1,
            le=MESSAGE_TARGET_BYTES,
            description="Where a message to a peer takes up no more transactions; one is always sent whole. Lower"
            " makes progress over links that break off, higher catches up faster.",
        ),
    ] = MESSAGE_TARGET_BYTES
    http: Annotated[
        Literal["httptools", "hypercorn"],
        Meta(
            description="What serves HTTP/1.1: `httptools`, this project's own protocol, or `hypercorn`, that"
            " server's own, several times slower. Both answer alike."
        ),
    ] = "httptools"
    lost: Annotated[
        tuple[str, ...],
        Meta(
            description="Dots ORIGIN.SEQ after which an origin's events are declared lost with their disk. Tokens"
            " that name later ones answer 410 instead of waiting; the same in the whole cluster."
        ),
    ] = ()

    actor_header: Annotated[
        str,
        Meta(
            description="The header that says who writes, for the audit trail. A proxy that authenticates sets it,"
            " and takes it away from what comes in. With `homes`, the same in the whole cluster, and let through"
            " between nodes."
        ),
    ] = "Atoll-Actor"
    public_url: Annotated[
        str,
        Meta(description="Where clients reach this node, for the locations that SCIM shows; empty: as they asked."),
    ] = ""
    passwords: Annotated[
        Literal["refuse", "drop"],
        Meta(
            description="What SCIM does with a `password`, which is never kept: `refuse` the request, or `drop` it"
            " for identity providers that cannot leave it out."
        ),
    ] = "refuse"
    unique_external_ids: Annotated[
        bool, Meta(description="Whether a user's externalId is claimed as its userName is: once in a region.")
    ] = False
    homes: Annotated[
        tuple[str, ...],
        Meta(
            description="PREFIX=REGION, such as `claims/userName/=eu`: the one region that gives names under a"
            " prefix. Others send them there, and refuse with 503 while it is out of reach; the same in the whole"
            " cluster."
        ),
    ] = ()
    views: Annotated[
        tuple[str, ...],
        Meta(
            description="Modules that hold views of your own, each in a list `VIEWS`; read again when one of them is"
            " rebuilt. They must be importable where the node runs, say by PYTHONPATH."
        ),
    ] = ()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def home_regions(self) -> dict[str, str]:
        """The region that gives names, by prefix."""
        return dict(map(_home, self.homes))

    @property
    def lost_after(self) -> dict[str, int]:
        """The last seq that is not lost, of each origin that lost some."""
        dots = [parse_dot(text) for text in self.lost]
        return {dot.origin: dot.seq for dot in dots if dot is not None}


def _home(text: str) -> tuple[str, str]:
    prefix, _, region = text.rpartition("=")
    return prefix, region


def configure(values: dict[str, Any]) -> Configuration:
    """A configuration from plain values.

    Raises: ConfigurationError, naming the key.
    """
    try:
        configuration = msgspec.convert(values, Configuration)
    except msgspec.ValidationError as error:
        raise ConfigurationError(str(error)) from None
    _check_itself(configuration)
    _check_others(configuration)
    return configuration


def read_file(path: Path) -> dict[str, Any]:
    """The values of a TOML file.

    Raises: ConfigurationError, where it cannot be read.
    """
    try:
        values: dict[str, Any] = msgspec.toml.decode(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except DECODE_ERRORS as error:
        raise ConfigurationError(f"{path}: {error}") from None
    return values


def _check_itself(configuration: Configuration) -> None:
    """Where the node is, and how it is reached."""
    for name in ("region", "cluster"):
        if not is_region(getattr(configuration, name)):
            raise ConfigurationError(f"{name}: must be of a-z, 0-9 and '-', 1 to 32 characters")
    if "\0" in configuration.data or not configuration.data:
        raise ConfigurationError(f"data: {configuration.data!r} is not a directory's name")
    host, colon, port = configuration.listen.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise ConfigurationError(f"listen: {configuration.listen!r} is not HOST:PORT")
    if configuration.public_url and not is_url(configuration.public_url):
        raise ConfigurationError(f"public_url: {configuration.public_url!r} is not {A_URL}")
    if not TOKEN.fullmatch(configuration.actor_header):
        raise ConfigurationError(f"actor_header: {configuration.actor_header!r} is not a header's name")


def _check_others(configuration: Configuration) -> None:
    """What it says of other regions."""
    for url in configuration.peers:
        if not is_url(url) or "@" in urlsplit(url).netloc:
            raise ConfigurationError(f"peers: {url!r} is not {A_URL}")
    if len(set(configuration.peers)) != len(configuration.peers):
        raise ConfigurationError("peers: a URL comes twice")
    for text in configuration.homes:
        prefix, region = _home(text)
        if not (prefix.startswith("claims/") and prefix.endswith("/") and is_region(region)):
            raise ConfigurationError(f"homes: {text!r} is not PREFIX=REGION, such as claims/userName/=eu")
    if len(configuration.home_regions) != len(configuration.homes):
        raise ConfigurationError("homes: a prefix comes twice")
    for dot in configuration.lost:
        if parse_dot(dot) is None:
            raise ConfigurationError(f"lost: {dot!r} is not a dot, such as eu-west.5f2c9a10.12")
    if len(configuration.lost_after) != len(configuration.lost):
        raise ConfigurationError("lost: an origin comes twice")


def is_url(text: str) -> bool:
    """Whether requests can be sent to what lies below a URL: http or https, a host, perhaps a port and a path."""
    try:
        parts = urlsplit(text)
        named = bool(parts.hostname and parts.hostname.encode("idna"))
        plain = parts.port != 0 and not parts.query and not parts.fragment
    except ValueError:  # of the port, of an address in brackets, or of a name that no resolver takes
        return False
    return parts.scheme in ("http", "https") and named and plain and text.isprintable() and " " not in text
