"""Which answers of an S3 store pass by themselves, and how long we wait for that.

botocore retries three times within seconds; that covers a hiccup. Around it goes stamina, which waits out a store that
is being restarted. Only the errors named here are tried again: a 403, a 404, a bad signature or a lost precondition
will be the same next time.
"""

import logging
from collections.abc import Callable
from typing import TypeVar

import stamina
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    FlexibleChecksumError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
)
from botocore.exceptions import ConnectionError as NoConnection
from botocore.parsers import ResponseParserError
from stamina.instrumentation import RetryDetails, set_on_retry_hooks
from urllib3.exceptions import ProtocolError
from urllib3.exceptions import ReadTimeoutError as SilentBody
from urllib3.exceptions import SSLError as TornTls

from actors.storage.bucket import Wanted

LONGEST_PAUSE_SECONDS = 10.0

TORN_BODY = (ProtocolError, SilentBody, TornTls)
"""What botocore lets through, of urllib3, when a body breaks off that it reads late: that of an answer which refuses
what would have been a stream."""
BROKEN_CONNECTION = (
    NoConnection,
    ConnectionClosedError,
    ReadTimeoutError,
    ResponseStreamingError,
    IncompleteReadError,
    *TORN_BODY,
)


class WrongReply(BotoCoreError):
    """A body that is not what was stored, although the connection seemed sound."""

    fmt = "the reply is not what was stored: {reason}"


DAMAGED_REPLY = (FlexibleChecksumError, ResponseParserError, WrongReply)
"""What came is not what was sent. botocore takes a short reply for a whole one and stumbles over its XML."""

PASSING_STATUS = frozenset({429, 500, 502, 503, 504})
PASSING_CODES = frozenset(
    {
        "BadDigest",  # our body was damaged on its way
        "IncompleteBody",
        "InternalError",
        "RequestTimeout",  # comes with status 400
        "ServiceUnavailable",
        "SlowDown",
        "XAmzContentChecksumMismatch",  # MinIO's BadDigest, where the checksum is in `x-amz-checksum-*`
        "XAmzContentSHA256Mismatch",
    }
)
LASTING_TLS_FAULTS = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER")
"""A certificate that nobody trusts, and `https://` where HTTP is spoken: waiting mends neither."""

REFUSALS = (ClientError, BotoCoreError, ResponseParserError, *TORN_BODY)
"""Everything that boto3 raises for what the store did, or the way to it."""

T = TypeVar("T")
logger = logging.getLogger(__name__)


def is_passing(error: Exception) -> bool:
    """Whether the same request may well succeed a little later."""
    if isinstance(error, ClientError):
        response = error.response
        return (
            response.get("ResponseMetadata", {}).get("HTTPStatusCode") in PASSING_STATUS
            or response.get("Error", {}).get("Code") in PASSING_CODES
        )
    if isinstance(error, SSLError):
        return not any(fault in str(error) for fault in LASTING_TLS_FAULTS)
    return isinstance(error, BROKEN_CONNECTION + DAMAGED_REPLY)


def patiently(call: Callable[[], T], seconds: float, wanted: Wanted) -> T:
    """Call until it succeeds, fails for good, has failed for `seconds`, or is wanted no longer."""
    caller = stamina.RetryingCaller(attempts=None, timeout=seconds, wait_initial=0.2, wait_max=LONGEST_PAUSE_SECONDS)
    return caller(lambda error: is_passing(error) and wanted(), call)


def _say_so(details: RetryDetails) -> None:
    logger.warning(
        "%s; trying again in %.1f s (after %.0f s)", details.caused_by, details.wait_for, details.waited_so_far
    )


set_on_retry_hooks([_say_so])  # stamina's own says only "stamina.retry_scheduled"
