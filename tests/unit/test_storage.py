"""Buckets: what both kinds promise, on a folder and on moto's S3, and what each says when it is refused."""

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from actors.errors import InputError, NotFound, PreconditionFailed, StorageError
from actors.settings import StorageSettings
from actors.storage.bucket import Bucket
from actors.storage.opening import absolute, open_bucket
from actors.storage.upload import part_bytes
from bucket_contract import BucketContract
from servers.ports import free_ports
from servers.store import S3Store


class TestFolderBucket(BucketContract):
    @pytest.fixture
    def bucket(self, tmp_path: Path) -> Bucket:
        return open_bucket(str(tmp_path / "out"))

    def test_looking_creates_nothing(self, bucket: Bucket, tmp_path: Path):
        list(bucket.list())
        bucket.head("a")
        bucket.now()
        bucket.delete("a")
        assert list(tmp_path.iterdir()) == []

    def test_every_write_has_an_etag_of_its_own(self, bucket: Bucket):
        etags = {bucket.put("lease", b"%03d" % number).etag for number in range(200)}
        assert len(etags) == 200

    def test_a_deleted_object_leaves_no_empty_folder(self, bucket: Bucket, tmp_path: Path):
        bucket.put("images/1/a.webp", b"")
        bucket.delete("images/1/a.webp")
        assert [path.name for path in (tmp_path / "out").iterdir()] == [".tmp"]

    def test_an_upload_that_ends_while_uploads_are_listed_is_none(self, bucket: Bucket):
        first, second = sorted((bucket.upload("a"), bucket.upload("b")), key=lambda upload: upload._temporary)
        listed = bucket.pending_uploads()
        next(listed)
        second.complete()
        assert list(listed) == []
        first.abort()

    @pytest.mark.parametrize("key", [".tmp/lock", "a//b", "a/./b", "a/", "a\0b"])
    def test_keys_that_mean_another_file_are_refused(self, bucket: Bucket, key: str):
        with pytest.raises(ValueError, match="not a key"):
            bucket.put(key, b"")

    @pytest.mark.parametrize(
        ("number", "code"), [(errno.ENOSPC, "LM1401"), (errno.EROFS, "LM1302"), (errno.EIO, "LM1309")]
    )
    def test_what_the_system_refuses_is_explained(self, bucket: Bucket, monkeypatch, number: int, code: str):
        def refuse(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        before = bucket.put("before", b"")
        upload = bucket.upload("b")
        upload.write(b"data")
        monkeypatch.setattr(os, "fsync", refuse)
        for write in (lambda: bucket.put("a", b"data"), upload.complete):
            with pytest.raises(StorageError) as caught:
                write()
            assert caught.value.code == code
            assert os.strerror(number) in str(caught.value)
        upload.abort()
        assert list(bucket.list()) == [before]
        assert list(bucket.pending_uploads()) == []

    @pytest.mark.parametrize("point", ["upload.part", "upload.complete", "upload.completed"])
    def test_a_writer_that_dies_leaves_all_or_nothing(self, bucket: Bucket, point: str):
        assert upload_until_crash(bucket.url, point) == 137
        assert [info.size for info in bucket.list()] == ([20_000_000] if point == "upload.completed" else [])
        assert [upload.key for upload in bucket.pending_uploads()] == ([] if point == "upload.completed" else ["a"])


class TestS3Bucket(BucketContract):
    dates_uploads = False  # moto says 2010

    @pytest.fixture
    def bucket(self, moto_store: S3Store) -> Bucket:
        return open_bucket(moto_store.url, StorageSettings(), patience_seconds=10)

    @pytest.mark.parametrize("point", ["upload.part", "upload.complete", "upload.completed"])
    def test_a_writer_that_dies_leaves_all_or_nothing(self, bucket: Bucket, point: str):
        assert upload_until_crash(bucket.url, point) == 137
        assert [info.size for info in bucket.list()] == ([20_000_000] if point == "upload.completed" else [])
        assert [upload.key for upload in bucket.pending_uploads()] == ([] if point == "upload.completed" else ["a"])

    def test_a_whole_s3_bucket_is_a_bucket(self, moto_store: S3Store):
        bucket = open_bucket(f"s3://{moto_store.bucket}")
        bucket.put("a/b", b"1")
        assert bucket.url == f"s3://{moto_store.bucket}"
        assert [info.key for info in bucket.list()] == ["a/b"]

    def test_one_object_named_like_the_prefix_is_passed_over(self, moto_store: S3Store):
        with moto_store.server.client(moto_store.endpoint) as s3:
            s3.put_object(Bucket=moto_store.bucket, Key=moto_store.prefix + "/", Body=b"")
        assert list(open_bucket(moto_store.url).list()) == []

    def test_a_replaced_object_is_not_read_on(self, bucket: Bucket):
        bucket.put("a", bytes(3 << 20))
        with bucket.open("a") as file:
            file.read(1)
            bucket.put("a", b"1" * (3 << 20))
            file.seek(2 << 20)
            with pytest.raises(StorageError, match="was replaced while it was read"):
                file.read(1)

    def test_a_bucket_that_does_not_exist(self, moto_store: S3Store):
        bucket = open_bucket("s3://lightmill-no-such-bucket/p")
        for use in (lambda: bucket.put("a", b""), lambda: bucket.get("a"), lambda: list(bucket.list())):
            with pytest.raises(StorageError, match="LM1301") as caught:
                use()
            assert moto_store.endpoint in str(caught.value)


def upload_until_crash(url: str, point: str) -> int:
    program = (
        "from actors.storage.opening import open_bucket\n"
        f"with open_bucket({url!r}).upload('a') as upload:\n"
        "    upload.write(bytes(20_000_000))\n"
        "    upload.complete()\n"
    )
    environment = {**os.environ, "LIGHTMILL_CRASH": f"{point}:1"}
    root = Path(__file__).parents[2]
    return subprocess.run([sys.executable, "-c", program], env=environment, cwd=root, check=False).returncode


def test_parts_grow_so_that_an_object_may_have_half_a_terabyte():
    sizes = [part_bytes(number) for number in range(1, 10_001)]
    assert sum(sizes) > 500e9
    assert sizes[0] == sizes[999] == 8 << 20
    assert sizes == sorted(sizes)
    assert max(sizes) < 256 << 20


def test_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    assert absolute("out/../cats") == str(tmp_path / "cats")
    assert absolute("~/cats") == "/home/ada/cats"
    assert absolute("s3://bucket/a/b/") == "s3://bucket/a/b"
    assert absolute("s3://bucket/") == absolute("s3://bucket") == "s3://bucket"
    for url in ("gs://bucket/a", "s3://", "s3:///a", "https://host/a"):
        with pytest.raises(InputError, match="neither a folder nor an s3:// URL"):
            open_bucket(url)


def test_opening_a_folder_does_not_load_boto3():
    program = (
        "import sys; from actors.storage.opening import open_bucket; open_bucket('x'); print('boto3' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout == "False\n"


class Refusing(BaseHTTPRequestHandler):
    """A store with one answer for everything."""

    protocol_version = "HTTP/1.1"
    status, code, message, age = 200, "", "", timedelta()

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append(self.headers)
        body = (
            f"<Error><Code>{self.code}</Code><Message>{self.message}</Message></Error>".encode() if self.code else b""
        )
        self.send_response_only(self.status)
        self.send_header("Date", format_datetime(datetime.now(UTC) + self.age, usegmt=True))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer

    def log_message(self, *_: object) -> None:
        pass


class RefusingStore(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Refusing)
        self.seen: list[object] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[RefusingStore]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAVERYSECRETKEY0042")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
    with RefusingStore() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def refused(server: RefusingStore, use: str = "put", **answer: object) -> StorageError:
    server.RequestHandlerClass = type("Answer", (Refusing,), answer)
    bucket = open_bucket("s3://b/p", StorageSettings(endpoint_url=server.url), patience_seconds=0.5)
    uses = {
        "put": lambda: bucket.put("a", b"data"),
        "head": lambda: bucket.head("a"),
        "list": lambda: list(bucket.list()),
    }
    with pytest.raises(StorageError) as caught:
        uses[use]()
    assert "VERYSECRET" not in str(caught.value)
    assert "the-secret" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("use", ["put", "head", "list"])
@pytest.mark.parametrize(
    ("status", "code", "problem"),
    [
        (404, "NoSuchBucket", "LM1301"),
        (403, "AccessDenied", "LM1302"),
        (403, "SignatureDoesNotMatch", "LM1303"),
        (403, "InvalidAccessKeyId", "LM1303"),
        (400, "ExpiredToken", "LM1303"),
        (403, "RequestTimeTooSkewed", "LM1304"),
        (411, "MissingContentLength", "LM1305"),
        (400, "MalformedXML", "LM1309"),
    ],
)
def test_a_refusal_is_named(refusing: RefusingStore, use: str, status: int, code: str, problem: str):
    if use == "head" and status == 404:
        pytest.skip("to a HEAD, a store says 404 and no more")
    error = refused(refusing, use, status=status, code=code, message="No.")
    assert error.code == problem
    assert not isinstance(error, NotFound)


def test_a_denial_names_action_object_key_and_the_statement_that_helps(refusing: RefusingStore):
    said = str(refused(refusing, status=403, code="AccessDenied"))
    for part in ("s3:PutObject denied on s3://b/p/a", "...0042", '"Resource": "arn:aws:s3:::b/p/a"'):
        assert part in said
    assert "without s3:ListBucket" in str(refused(refusing, "head", status=403, code="AccessDenied"))
    assert '"Resource": "arn:aws:s3:::b"' in str(refused(refusing, "list", status=403, code="AccessDenied"))


@pytest.mark.parametrize(("status", "code"), [(403, "RequestTimeTooSkewed"), (400, "AccessDenied")])
@pytest.mark.parametrize(("minutes", "words"), [(61, "61 min behind"), (-20, "20 min ahead of")])
def test_a_wrong_clock_is_told_by_how_much(refusing: RefusingStore, status: int, code: str, minutes: int, words: str):
    error = refused(refusing, status=status, code=code, age=timedelta(minutes=minutes))
    assert error.code == "LM1304"
    assert words in str(error)


@pytest.mark.parametrize(("status", "code"), [(412, "PreconditionFailed"), (409, "ConditionalRequestConflict")])
def test_a_lost_precondition_is_not_tried_again(refusing: RefusingStore, status: int, code: str):
    assert isinstance(refused(refusing, status=status, code=code), PreconditionFailed)
    assert len(refusing.seen) == 1


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (400, "RequestTimeout")])
def test_a_store_that_keeps_failing_is_given_up_after_a_while(refusing: RefusingStore, status: int, code: str):
    error = refused(refusing, status=status, code=code)
    assert error.code == "LM1308"
    assert code in str(error)
    assert len(refusing.seen) > 1


def test_a_store_that_knows_no_checksum_headers_gets_none(refusing: RefusingStore):
    class Picky(Refusing):
        def answer(self) -> None:
            picky = any(name.lower().startswith("x-amz-checksum") for name in self.headers)
            self.status, self.code, self.message = (
                (501, "NotImplemented", "x-amz-checksum-sha256") if picky else (200, "", "")
            )
            super().answer()

        do_PUT = answer

        def end_headers(self) -> None:
            self.send_header("ETag", '"1"')
            super().end_headers()

    refusing.RequestHandlerClass = Picky
    bucket = open_bucket("s3://b/p", StorageSettings(endpoint_url=refusing.url), patience_seconds=0.5)
    bucket.put("a", b"data")
    bucket.put("b", b"data")
    assert ["x-amz-checksum-sha256" in headers for headers in refusing.seen] == [True, False, False]


@pytest.mark.parametrize("code", ["BadDigest", "XAmzContentChecksumMismatch"])
def test_a_body_that_was_damaged_on_its_way_is_sent_again_with_its_checksum(refusing: RefusingStore, code: str):
    refused(refusing, status=400, code=code, message="The x-amz-checksum-sha256 does not match what was computed")
    assert len(refusing.seen) > 1
    assert all("x-amz-checksum-sha256" in headers for headers in refusing.seen)


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    endpoint = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(StorageError, match=f"LM1308.*{endpoint} failed"):
        open_bucket("s3://b/p", StorageSettings(endpoint_url=endpoint), patience_seconds=0.5).get("a")


def test_no_credentials(monkeypatch: pytest.MonkeyPatch):
    bucket = open_bucket("s3://b/p", StorageSettings(endpoint_url="http://127.0.0.1:1"), patience_seconds=0.5)
    with pytest.raises(StorageError, match=r"LM1303.*no credentials"):
        bucket.get("a")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StorageError, match=r"LM1303.*nobody"):
        open_bucket("s3://b/p")


def test_an_endpoint_that_is_no_url(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "9000")
    with pytest.raises(InputError, match=r"LM1102(.|\n)*9000"):
        open_bucket("s3://b/p")
