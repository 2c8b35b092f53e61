"""Named limits of the REST part; every queue, cache, list and body has one."""

from __future__ import annotations

BODY_BYTES_MAX = 64 * 1024
BODY_S = 20.0  # a body that is not here by then is 408
HEAD_BYTES_MAX = 16 * 1024
HEAD_S = 10.0  # the head of a request that is not here by then ends its connection
ANSWER_TAKEN_S = 30.0  # so does an answer of which so many bytes are not taken in so long
ANSWER_TAKEN_BYTES = 64 * 1024
CONNECTIONS_MAX = 5_000  # HTTP and WebSocket together
CONNECTIONS_PER_ADDRESS_MAX = 500  # an office behind one address; loopback is not counted
REQUESTS_AT_ONCE = 512
REQUEST_WAITS_S = 10.0  # for its turn; after that it is refused
BUSY_RETRY_S = 2
STREAMS_PER_USER_MAX = 50
VIEWERS_UNWRITTEN_MAX = 100_000
VIEWERS_DAYS = 31
REQUESTS_A_SECOND = 50.0  # of one signed-in user
REQUESTS_SAVED_S = 10.0  # so many seconds' worth may be asked at once by who was silent
CALLERS_MAX = 10_000
PRICE_MAX = 1e9  # rupees; thousands of times what anything listed trades at, so it is a slip
SYMBOL_CHARS_MAX = 64
TOKEN_CHARS_MAX = 96
EXPIRY_CHARS_MAX = 32
QUERY_CHARS_MAX = 100
LIST_NAME_CHARS_MAX = 64
ENTRY_ID_MAX = 2**53 - 1  # what JSON keeps exact
ORDERED_MAX = 5_000  # ids of one order; a body has room for no more
CURSOR_CHARS_MAX = 128

PAGE_DEFAULT = 100
PAGE_MAX = 1_000
ACTIVE_PAGE_MAX = 25_000  # the whole capacity may be asked for at once
TOPICS_MAX = 200
SEARCH_DEFAULT = 20
SEARCH_MAX = 100
LOOKS_KEPT = 8  # chains that stay laid out after they were looked at over HTTP
ROWS_PER_SLICE = 250  # about 3.5 ms of work between two looks at the loop

IDEMPOTENCY_KEY_CHARS_MAX = 255
IDEMPOTENCY_ENTRIES_MAX = 1_024
IDEMPOTENCY_ANSWER_BYTES_MAX = 256 * 1024
IDEMPOTENCY_BYTES_MAX = 16 * 1024 * 1024
IDEMPOTENCY_TTL_S = 24 * 3600.0

PASSWORD_CHARS_MIN = 8
PASSWORD_CHARS_MAX = 1_024
USER_NAME_CHARS_MAX = 64
TOKEN_LIFE_S = 900  # an access token; revocation does not wait for its end
SESSION_LIFE_S = 12 * 3600  # from sign-in on, however often it is refreshed: a trading day
SESSIONS_PER_USER_MAX = 20  # the first to run out ends
REFRESH_GRACE_S = 60.0  # how long a refresh token just rotated still gets the same successor: an answer may be lost
FAILURES_PER_NAME_ANYWHERE_MAX = 100
BEARER_CHARS_MAX = 4_096
HASHES_AT_ONCE = 2  # argon2id takes 64 MiB each
HASHES_WAITING_MAX = 16
FAILURES_PER_NAME_MAX = 5  # of one name from one address
FAILURES_PER_ADDRESS_MAX = 30
FAILURE_WINDOW_S = 300.0
FAILURE_KEYS_MAX = 10_000

PING_TIMEOUT_S = 2.0
