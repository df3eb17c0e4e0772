"""Every bound and default of the replica (I9), and how they relate; `node.limits` has the shell's.

Units are in the names. A bound that another relies on is asserted at the bottom, so that changing one shows which
others must follow.
"""

REGION_BYTES_MAX = 32
ORIGIN_BYTES_MAX = REGION_BYTES_MAX + 1 + 8
ORIGINS_MAX = 64
"""Origins one store may know. Each takes an entry in the root's token."""
SEQ_MAX = (1 << 53) - 1
"""Also what a JSON number holds exactly."""

STREAM_NAME_BYTES_MAX = 255
STREAM_SEGMENTS_MAX = 16
FIELD_BYTES_MAX = 128
ELEMENT_BYTES_MAX = 480
ACTOR_BYTES_MAX = 128
IDEMPOTENCY_KEY_BYTES_MAX = 128
SOURCE_NAME_BYTES_MAX = 128
VALUE_DEPTH_MAX = 32
"""Levels of lists and maps in a register's value; also of a request body, with two levels to spare."""

EVENT_BYTES_MAX = 256 * 1024
"""Header and body of one event together."""
OPERATIONS_MAX = 10_000
"""Cells one event may touch."""
TRANSACTION_EVENTS_MAX = 1_000
TRANSACTION_BYTES_MAX = 2 * 1024 * 1024
STREAM_ROW_BYTES_MAX = 1024 * 1024
"""Registers and field names of one stream together; a local write past it is refused."""
FIELDS_PER_STREAM_MAX = 60_000
"""Set fields that one stream can number; the row's bound is met long before, except by merging."""

BATCH_TRANSACTIONS_MAX = 4_096
"""Transactions that share one commit: written here, or arrived."""
BATCH_BYTES_MAX = 8 * 1024 * 1024
"""Bytes of requests that share one commit; a transaction always fits."""

PIECE_JOBS_MAX = 128
"""Jobs of a turn that are done before the rows that they changed are encoded again."""
SETTLED_ROW_BYTES_MAX = 8 * 1024
"""A stream's row that is encoded then; larger ones once a turn."""

BATCH_OPERATIONS_MAX = 20_000
"""Operations that share one commit, beyond those of one arrival: a turn and its rows take up to 8 µs each."""

MESSAGE_TARGET_BYTES = 1024 * 1024
"""Where a sender stops adding transactions; one transaction is always sent whole."""
MESSAGE_BYTES_MAX = 8 * 1024 * 1024
COMPRESS_FROM_BYTES = 4 * 1024
LEFT_OUT_MAX = 128
"""Transactions one refusal names."""

LEFT_OUT_RETRY_MS = 10_000
"""How long a transaction that was refused for itself is not asked for again."""

TOKEN_BYTES_MAX = 4 * 1024
PAGE_DEFAULT = 100
PAGE_MAX = 1_000
PAGE_BYTES_MAX = 1024 * 1024
"""Bytes of stored events or rows after which a page ends; the item or transaction that meets it is still whole."""
SET_INLINE_MAX = 1_000
"""Members a plain answer lists; a larger set answers its count and a link."""
SETS_INLINE_MAX = 10_000
"""Members that it lists of all sets together: the smallest sets, as far as that goes."""
SCAN_ROWS_MAX = 4_000
"""Rows that one page may look at; a page that meets it is short and carries a cursor."""
GATHER_ROWS_MAX = 1_000
"""Events of one stream that are gathered and sorted rather than met by reading the log."""
TIME_TRAVEL_EVENTS_MAX = 20_000
"""Events of its stream that one time-travel read may look at."""
TIME_TRAVEL_BYTES_MAX = 16 * 1024 * 1024
"""And their bytes."""
MILESTONE_EVENTS = 64
"""Events of a stream to each row that says where a walk back through them may begin."""
PURGE_ROWS_MAX = 1_000
"""Dead element rows that one turn clears away."""
REQUESTS_PURGED_PER_TURN = 16
"""Request rows that one turn checks for expiry, beside those it writes."""
REQUEST_KEPT_MS = 24 * 60 * 60 * 1000

REFERENCE_OPERATIONS_MAX = 300
"""Streams of more operations are verified against the fold from scratch: the reference takes their square in time."""
PROBLEMS_MAX = 100
"""Problems that one verification lists."""

MAX_DRIFT_MS = 60_000
"""How far ahead of a receiver's wall clock a timestamp may be; the same in the whole cluster [60 s]."""
MAP_BYTES = 1 << 38
"""Address space set aside for the store's map [256 GiB]: not memory, and not disk until it is written."""
READERS_MAX = 510
"""Read transactions at once, of all processes that have the store open."""
ROOM_LEAST_BYTES = 1 << 20
"""A disk that has less is full: what it says of a commit that failed is not always that."""
LMDB_KEY_BYTES_MAX = 511

# A token names each origin once: `origin.seq_`, after its scope of eight digits and `~`.
assert 9 + ORIGINS_MAX * (ORIGIN_BYTES_MAX + 1 + len(str(SEQ_MAX)) + 1) <= TOKEN_BYTES_MAX
# Stream number (8), field number (2), element.
assert 8 + 2 + ELEMENT_BYTES_MAX <= LMDB_KEY_BYTES_MAX
assert STREAM_NAME_BYTES_MAX + 1 <= LMDB_KEY_BYTES_MAX
assert EVENT_BYTES_MAX <= TRANSACTION_BYTES_MAX
# A message holds a full one short of its target, one whole transaction and a digest of every origin.
assert MESSAGE_TARGET_BYTES + TRANSACTION_BYTES_MAX + ORIGINS_MAX * ORIGINS_MAX * 64 + 65_536 <= MESSAGE_BYTES_MAX
assert TRANSACTION_BYTES_MAX <= BATCH_BYTES_MAX
assert REQUESTS_PURGED_PER_TURN > 0
assert FIELDS_PER_STREAM_MAX < 1 << 16
