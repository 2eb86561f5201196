"""What a store's refusal means, and what to do about it: from boto3's errors to ours."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    LoginError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
    SSOError,
    TokenRetrievalError,
)

from actors.errors import Problem, StorageError
from actors.storage.keys import not_as_expected, not_found
from actors.storage.patience import is_passing

TOLERATED_SKEW_SECONDS = 300
"""AWS and Ceph refuse requests dated more than 15 minutes off; a store that says only `AccessDenied` is asked what time
it is. Below five minutes the clock is not the reason."""

NO_CREDENTIALS = (
    CredentialRetrievalError,
    LoginError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
BAD_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
TRAILER_WORDS = ("trailer", "aws-chunked", "x-amz-content-sha256", "x-amz-decoded-content-length")
LOST_PRECONDITION = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412"})
ACTIONS = {
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "delete_object": "s3:DeleteObject",
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "list_objects_v2": "s3:ListBucket",
}
"""The permission that an operation needs; every other of ours needs `s3:PutObject`."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked, of which store and for how long, as an error tells it. The key id is cut to its last 4."""

    method: str
    bucket: str
    key: str
    endpoint: str
    key_id: str
    seconds: float

    @property
    def action(self) -> str:
        return ACTIONS.get(self.method, "s3:PutObject")

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def explain(error: Exception, request: Request) -> StorageError:
    """The error to raise instead of boto3's."""
    if is_passing(error) or isinstance(error, SSLError):
        return StorageError(_unreachable(error, request))
    if isinstance(error, ClientError):
        return _answered(Answer.of(error), request)
    if isinstance(error, NO_CREDENTIALS):
        return StorageError(
            Problem(
                "LM1303",
                f"no credentials for {request.url}: {error}",
                help="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, where this runs",
            )
        )
    return StorageError(Problem("LM1309", f"{request.action} of {request.url} failed: {error}"))


@dataclass(frozen=True, slots=True)
class Answer:
    """An error response of the store."""

    status: int
    code: str
    message: str
    date: datetime | None

    @classmethod
    def of(cls, error: ClientError) -> "Answer":
        said = error.response.get("Error", {})
        metadata = error.response.get("ResponseMetadata", {})
        date = metadata.get("HTTPHeaders", {}).get("date")
        return cls(
            status=metadata.get("HTTPStatusCode", 0),
            code=said.get("Code") or "",
            message=said.get("Message") or "",
            date=parsedate_to_datetime(date) if date else None,
        )

    @property
    def skew_seconds(self) -> float:
        """How far this machine's clock is ahead of the store's."""
        return (datetime.now(UTC) - self.date).total_seconds() if self.date else 0.0

    @property
    def is_skewed(self) -> bool:
        return self.code == "RequestTimeTooSkewed" or (
            (self.status == 403 or self.code == "AccessDenied") and abs(self.skew_seconds) > TOLERATED_SKEW_SECONDS
        )

    @property
    def refuses_trailer(self) -> bool:
        """Ceph and rclone say 411 to a checksum in a trailer; others say 400 or 501, and name what they dislike."""
        words = self.message.lower()
        return self.status == 411 or (self.status in (400, 501) and any(word in words for word in TRAILER_WORDS))


def _answered(answer: Answer, request: Request) -> StorageError:
    kinds: list[tuple[bool, Callable[[Answer, Request], StorageError]]] = [
        (answer.code == "NoSuchBucket", _no_bucket),
        (answer.is_skewed, _skewed),
        (answer.status == 401 or answer.code in BAD_CREDENTIALS, _bad_credentials),
        (answer.code in LOST_PRECONDITION or answer.status == 412, _lost_precondition),
        (answer.status == 404, _not_found),
        (answer.status == 403 or answer.code == "AccessDenied", _denied),
        (answer.refuses_trailer, _no_trailers),
    ]
    return next((make for applies, make in kinds if applies), _other)(answer, request)


def _no_bucket(answer: Answer, request: Request) -> StorageError:
    return StorageError(
        Problem(
            "LM1301",
            f'bucket "{request.bucket}" does not exist at {request.endpoint} ({answer.status} {answer.code})',
            help="create the bucket, or correct its name or storage.endpoint_url",
        )
    )


def _denied(answer: Answer, request: Request) -> StorageError:
    on_bucket = request.action.startswith("s3:List")
    resource = f"arn:aws:s3:::{request.bucket}" + ("" if on_bucket else f"/{request.key}")
    absent = "; without s3:ListBucket an object that does not exist is refused like this, too"
    return StorageError(
        Problem(
            "LM1302",
            f"{request.action} denied on {request.url} as key {request.key_id} ({answer.status} {answer.code})"
            + (absent if request.action == "s3:GetObject" else ""),
            help=f'allow it: {{"Effect": "Allow", "Action": "{request.action}", "Resource": "{resource}"}}',
        )
    )


def _bad_credentials(answer: Answer, request: Request) -> StorageError:
    expired = "Expire" in answer.code or "Token" in answer.code
    return StorageError(
        Problem(
            "LM1303",
            f"{request.endpoint} does not accept the credentials with key {request.key_id} ({answer.code})",
            help="renew the session token" if expired else "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    )


def _skewed(answer: Answer, request: Request) -> StorageError:
    minutes = answer.skew_seconds / 60
    side = "ahead of" if minutes > 0 else "behind"
    return StorageError(
        Problem(
            "LM1304",
            f"this machine's clock is {abs(minutes):.0f} min {side} that of {request.endpoint} ({answer.code})",
            help="set the clock, and keep it set with NTP",
        )
    )


def _no_trailers(answer: Answer, request: Request) -> StorageError:
    return StorageError(
        Problem(
            "LM1305",
            f"{request.endpoint} refuses checksums sent after the body ({answer.status} {answer.code})",
            help="storage.checksums: when_required",
        )
    )


def _lost_precondition(answer: Answer, request: Request) -> StorageError:
    return not_as_expected(request.url, f"{answer.status} {answer.code}")


def _not_found(answer: Answer, request: Request) -> StorageError:
    return not_found(request.url)


def _other(answer: Answer, request: Request) -> StorageError:
    said = f"{answer.status} {answer.code}" + (f": {answer.message}" if answer.message else "")
    return StorageError(Problem("LM1309", f"{request.action} of {request.url}: {request.endpoint} answered {said}"))


def _unreachable(error: Exception, request: Request) -> Problem:
    advice = "check storage.endpoint_url and the network; what was committed stays, and the same command resumes"
    if isinstance(error, SSLError):
        advice = "give the store's certificate authority as AWS_CA_BUNDLE; https:// needs a store that speaks TLS"
    return Problem("LM1308", f"{request.endpoint} failed for {request.seconds:.0f} s; at last: {error}", help=advice)


def refuses_checksum(error: BaseException | None) -> bool:
    """Whether the store said that it knows no checksum headers."""
    if not isinstance(error, ClientError):
        return False
    answer = Answer.of(error)
    return answer.status in (400, 501) and "checksum" in answer.message.lower() and not is_passing(error)
