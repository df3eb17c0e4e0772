"""The shell's bounds and defaults (I9), beside those of `replication.limits` that they must agree with.

Units are in the names.
"""

from replication.limits import (
    EVENT_BYTES_MAX,
    TRANSACTION_BYTES_MAX,
    VALUE_DEPTH_MAX,
)

# Requests
BODY_BYTES_MAX = 4 * 1024 * 1024
"""A request's body, as it is sent."""
BODY_DEPTH_MAX = VALUE_DEPTH_MAX + 4
RESOLVE_BYTES_MAX = 16 * 1024 * 1024
"""Rows and members of the streams that one /resolve reads."""
RESOLVE_AT_ONCE = 32
RESOLVE_BYTES_AT_ONCE = 128 * 1024
"""Streams that it reads, and their bytes, before others have a turn."""
DRAIN_BYTES_MAX = 1024 * 1024
"""What is read of a body that nobody wants, so that its connection can go on."""
DRAIN_S = 2.0
"""How long that may take, and for how long what comes after a last answer is dropped."""
WAITING_MAX = 16_384
"""Writes that may wait for a commit; one more is refused."""

# Streams of writes
INGEST_GROUP_LINES = 1_024
INGEST_GROUP_BYTES = 256 * 1024
"""Lines that are written together at most; as many as are there, where the disk waits for them."""
INGEST_GROUPS = 2
"""Groups under way at once: one that syncs, and one that is next."""
INGEST_PART_BYTES = 64 * 1024
SPOOL_MEMORY_BYTES = 256 * 1024
SPOOL_BYTES_MAX = 1024 * 1024 * 1024
"""Outcomes that wait for a client that does not read; in a file, beyond what memory may hold."""

# Waiting
WAIT_DEFAULT_S = 2.0
WAIT_MAX_S = 30
EVENT_STREAM_ALIVE_S = 15.0
"""Between signs of life on a stream of changes."""
FOLLOWERS_AT_ONCE = 16
"""Followers of the log that are told of a commit before others have a turn."""
SHARED_PARTS_MAX = 64
SHARED_PART_BYTES_MAX = 64 * 1024
"""What followers at the end of the log are sent: so many places, and so much of each, are kept until it grows."""

# Connections
CONNECTIONS_MAX = 8_192
"""Clients at once, 20 kB each; and no more than half of the files that the process may have open."""
REFUSAL_S = 0.1
"""How long one more takes, to be told so."""
BACKLOG = 1024
READ_BYTES = 64 * 1024
"""What is read of a connection at once, and so about what it holds."""
HEAD_BYTES_MAX = 32 * 1024
"""A request's first line and headers."""
HEADERS_MAX = 100
PIPELINED_MAX = 16
"""Requests that are read ahead while one before them is answered."""
HEAD_READ_S = 10.0
"""How long a request's head may take from its first byte to its last."""
BODY_READ_S = 30.0
"""How long the next part of a body may take."""
OVERSIGHT_S = 5.0
"""Between looks at whether a connection has waited too long, where nothing else has it looked at."""
WRITE_TIMEOUT_S = 30.0
"""How long a client may leave an answer unread."""
GRACEFUL_S = 1.0
"""How long answers under way may take once the node stops."""
CONNECTION_IDLE_S = 60.0
PEER_CONNECTION_IDLE_S = 30.0
PEER_CONNECT_S = 2.0
PEER_ANSWER_S = 10.0
"""How long a peer may say nothing in the middle of a call."""
PEER_CALL_S = 600.0
"""How long a call may take in all: the largest transaction crosses a link of 4 kB a second."""
PEER_CONNECTIONS_MAX = 64

# Gossip
INTRODUCTION_S = 2.0
"""How long a node that starts waits to hear from its peers before it writes."""
BACKOFF_MAX_S = 5.0
PULLED_MESSAGES_MAX = 2
"""Messages of a pull that are being stored while the next is fetched."""
PIECE_TRANSACTIONS_MAX = 128
PIECE_BYTES_MAX = 64 * 1024
"""Transactions that are worked out, and their bytes, before others have a turn: what is read of a message is then
used while the processor has it near."""
SLOW_CALL_S = 2.0
"""A call to a peer that takes longer makes the messages smaller."""
MESSAGE_BYTES_LEAST = 4 * 1024
"""How small they get; one transaction is always sent whole."""
LOGGED_MAX = 1_000
"""Kinds of refusal, and forks, that are remembered so as to be logged once."""

# Views
VIEW_EVENTS_A_PIECE = 64
"""Events that views follow at once; whoever else wants to run does so between two pieces."""
VIEW_GATHER_S = 0.005
"""How long views wait for more events and a good moment to follow them, where nobody waits for what they show."""
VIEW_BEHIND_MAX = 8 * VIEW_EVENTS_A_PIECE
"""Events that may wait for such a moment."""
VIEW_BULK_EVENTS = 512
"""A commit of so many is bulk: a node that catches up with a peer, or a stream of writes."""
VIEW_BULK_S = 0.25
"""For how long after a bulk commit more of them are expected."""
VIEW_PAUSE_S = 0.2
"""How long views pause after each piece until then, while there is more to take in."""
VIEW_LOOK_S = 0.02
"""How often they look whether there is."""
VIEW_STREAMS_A_PIECE = 64
VIEW_PIECES_A_COMMIT = 64
VIEW_MEMBERS_A_PIECE = 2_000
"""Members of sets that a scan reads at once."""
VIEW_KEY_CHARACTERS_MAX = 512
"""Where a key ends. A longer value is found by what it starts with; whoever resolves it compares the rest."""
VIEW_FAILURES_LOGGED = 100
VIEW_RETRY_S = 1.0
"""How long views pause after what they cannot help, such as a full disk."""

# The writer
QUIET_ROUNDS = 2
QUIET_S = 0.0003
"""A commit begins once nobody has added to it for so many rounds of trio's loop, or for so long."""
GATHER_S = 0.005
"""How long it is added to at most."""

# The process
LOCK_WAIT_S = 0.0005
"""After how long a thread that computes lets another one have Python's lock."""

# The directory
SCIM_PAGE_DEFAULT = 100
SCIM_PAGE_MAX = 200
SCIM_BULK_OPERATIONS_MAX = 1_000
SCIM_BULK_BYTES_MAX = 1024 * 1024
SCIM_OPERATIONS_MAX = 2 * SCIM_BULK_OPERATIONS_MAX
"""Of a PATCH, or of a bulk request with those of its PATCHes."""
SCIM_PATHS_CHARACTERS_MAX = 128 * 1024
"""Of all paths together that these operations name."""
SCIM_SEARCH_BYTES_MAX = HEAD_BYTES_MAX
"""A search by POST; one by GET cannot be longer."""
SCIM_ASIDE_BYTES = 16 * 1024
"""A body larger than this is read in a thread: the library takes a second for a megabyte."""
MEMBERS_AT_ONCE = 256
"""Members of a group that are read or listed before others have a turn."""
SCIM_EXAMINED_MAX = 2_000
"""Resources that one filter may have looked at, beyond what an index serves."""
SCIM_MEMBERS_MATCHED_MAX = 10_000
"""Members that one filter may have looked at, where it does not name them."""
SCIM_COMPARED_MAX = 500_000
"""Comparisons that one filter or PATCH may make: some seconds of them."""
SCIM_GROUPS_SHOWN_MAX = 1_000
"""Groups that a user shows, the first by name."""
SPLITS_FOLLOWED_MAX = 8
"""Streams split off one that its state is put together from."""
SCIM_MEMBERS_SHOWN_MAX = 100_000
"""Members that one answer may list; a larger group is read without them."""
CLAIM_TRIES = 8
"""How often a write is tried again when the claims that it depends on have moved."""

# Searches
SEARCH_CHARACTERS_MIN = 3
"""Shorter texts are in too many trigrams, or in none."""
SEARCH_HITS_MAX = 10_000
"""What a search may find; a text that more entries hold is to be made longer."""

# A body that is written out has overhead; whatever one event or transaction may hold can be asked for in JSON.
assert EVENT_BYTES_MAX * 6 < BODY_BYTES_MAX
assert TRANSACTION_BYTES_MAX < BODY_BYTES_MAX
# A peer closes an idle connection later than this node does, so that none is closed under a message.
assert PEER_CONNECTION_IDLE_S < CONNECTION_IDLE_S
# A message that takes this long is made smaller well before it takes too long.
assert SLOW_CALL_S * 4 < PEER_ANSWER_S
assert WAIT_DEFAULT_S <= WAIT_MAX_S
