"""One boto3 client, and how lightmill calls it: patiently, and with errors that a person can act on."""

import logging
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader, create_loader
from botocore.session import get_session

from actors.errors import InputError, Problem, StorageError
from actors.settings import StorageSettings
from actors.storage.bucket import Fence, Wanted, always
from actors.storage.patience import REFUSALS, WrongReply, patiently
from actors.storage.refusals import Request, explain, refuses_checksum
from actors.storage.signing import hash_once

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

    from mypy_boto3_s3 import S3Client as Boto3Client

CONNECT_TIMEOUT_SECONDS = 10
"""A host that does not answer a SYN sent at 0, 1, 3 and 7 s is down."""
READ_TIMEOUT_SECONDS = 60
"""Of silence on a connection. A store that completes an upload of thousands of parts is silent for tens of seconds."""
HASTY = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1})
"""For what a fence guards: one attempt, over within the 15 s that lie between a late lease and an expired one."""
MAX_CONNECTIONS = 64
"""Kept open for threads that talk at once: encoders, the parts of two uploads, the driver's reads and commits."""
WHOLE: Mapping[str, frozenset[str]] = {
    "get_object": frozenset({"ContentLength", "ETag"}),
    "head_object": frozenset({"ContentLength", "ETag", "LastModified"}),
    "put_object": frozenset({"ETag"}),
    "create_multipart_upload": frozenset({"UploadId"}),
    "upload_part": frozenset({"ETag"}),
    "complete_multipart_upload": frozenset({"ETag"}),
    "list_objects_v2": frozenset({"Name"}),
    "list_multipart_uploads": frozenset({"Bucket"}),
}
"""What every whole reply has. Python takes a connection that ends within the head of a reply for the end of that head:
what comes then is an empty 200, and an empty listing would pass for an empty store."""
AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")

T = TypeVar("T")
logger = logging.getLogger(__name__)


class S3Client:
    """Talks to one store about one bucket. Threads may share it."""

    def __init__(self, bucket: str, settings: StorageSettings, patience_seconds: float, wanted: Wanted) -> None:
        """`wanted` is asked for every request, beside what is said of a single one."""
        self.bucket = bucket
        self.takes_checksums = True
        self.endpoint = settings.endpoint_url or "AWS"
        self._patience_seconds = patience_seconds
        self._wanted = wanted
        self._settings = settings
        self._connecting = Lock()
        """A session makes one client at a time."""
        try:
            self._session = _new_session()
            self._client = _connect(self._session, settings)
        except ValueError as error:
            problem = Problem(
                "LM1102",
                "the endpoint of the store must be a URL",
                value=str(error),
                help="correct storage.endpoint_url, or AWS_ENDPOINT_URL_S3",
            )
            raise InputError(problem) from error
        except BotoCoreError as error:
            raise explain(error, Request("list_objects_v2", bucket, "", self.endpoint, "", 0.0)) from error
        self.endpoint = self._client.meta.endpoint_url

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """boto3's `method` on this bucket."""
        return self._call(method, parameters)

    def call_with_checksum(
        self,
        method: str,
        parameters: Mapping[str, object],
        checksum: Mapping[str, object],
        wanted: Wanted = always,
        fence: Fence | None = None,
    ) -> dict[str, Any]:
        """Like `call`, with `checksum` among the parameters unless this store turns out to refuse it."""
        if self.takes_checksums:
            try:
                return self._call(method, {**parameters, **checksum}, wanted, fence)
            except StorageError as error:
                if not refuses_checksum(error.__cause__):
                    raise
                self.takes_checksums = False
                logger.warning("%s takes no SHA-256 with an object; our own record of it remains", self.endpoint)
        return self._call(method, parameters, wanted, fence)

    def attempt(self, act: Callable[[], T], method: str, name: str, wanted: Wanted = always) -> T:
        """Whatever talks to the store: tried again while that may help and is wanted, explained when it does not."""
        started = time.monotonic()
        try:
            return patiently(act, self._patience_seconds, lambda: wanted() and self._wanted())
        except REFUSALS as error:
            seconds = time.monotonic() - started
            raise explain(error, Request(method, self.bucket, name, self.endpoint, self._key_id(), seconds)) from error

    def once(self, method: str, **parameters: object) -> dict[str, Any]:
        """boto3's `method` on this bucket, with botocore's retries and errors alone."""
        return self._ask(self._client, method, parameters)

    def _call(
        self,
        method: str,
        parameters: Mapping[str, object],
        wanted: Wanted = always,
        fence: Fence | None = None,
    ) -> dict[str, Any]:
        name = str(parameters.get("Key", parameters.get("Prefix")))
        if fence is None:
            return self.attempt(lambda: self.once(method, **parameters), method, name, wanted)
        return self.attempt(lambda: self._hastily(fence, method, parameters), method, name, wanted)

    def _hastily(self, fence: Fence, method: str, parameters: Mapping[str, object]) -> dict[str, Any]:
        with self._connecting:
            client = self._hasty_client  # made before the fence is asked: it takes its time
        fence()
        return self._ask(client, method, parameters)

    def _ask(self, client: "Boto3Client", method: str, parameters: Mapping[str, object]) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(client, method)(Bucket=self.bucket, **parameters)
        wanted = WHOLE.get(method)
        if wanted and not (answer.keys() >= wanted and "date" in answer["ResponseMetadata"]["HTTPHeaders"]):
            raise WrongReply(reason="its head ends early")
        return answer

    @cached_property
    def _hasty_client(self) -> "Boto3Client":
        return _connect(self._session, self._settings, HASTY)

    def _key_id(self) -> str:
        """The last four characters of the access key id, which tell one from another and give nothing away."""
        try:
            credentials = self._session.get_credentials()
            return f"...{credentials.access_key[-4:]}" if credentials else "(none)"
        except BotoCoreError:
            return "(not to be had)"


def sha256_header(digest: "Hash") -> dict[str, str]:
    """Our own checksum as a header. botocore's is a trailer over TLS, which Ceph 16 and rclone answer with 411."""
    return {"ChecksumSHA256": b64encode(digest.digest()).decode()}


def _new_session() -> Session:
    """With credentials and settings of its own, as they are found now."""
    session = get_session()
    session.register_component("data_loader", _descriptions())
    return Session(botocore_session=session)


@cache
def _descriptions() -> Loader:
    """botocore's own of all services: a megabyte of JSON, of which each session would read some again, in 0.3 s."""
    return create_loader()


def _connect(session: Session, settings: StorageSettings, special: Config | None = None) -> "Boto3Client":
    region = settings.region or session.region_name or "us-east-1"
    endpoint = session.client("s3", endpoint_url=settings.endpoint_url, region_name=region).meta.endpoint_url
    is_aws = (urlsplit(endpoint).hostname or "").endswith(AWS_HOSTS)
    checksums = settings.checksums or (None if is_aws else "when_required")
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        max_pool_connections=MAX_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": 3},
        tcp_keepalive=True,
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
        s3={} if is_aws else {"addressing_style": "path"},
    )
    config = config.merge(special) if special else config
    client = session.client("s3", endpoint_url=settings.endpoint_url, region_name=region, config=config)
    hash_once(client)
    return client
