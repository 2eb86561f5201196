"""What every Bucket promises, as tests: a class with a `bucket` fixture inherits them."""

import contextlib
import io
import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.errors import LightmillError, NotFound, PreconditionFailed, StorageError
from actors.storage.bucket import Bucket
from actors.storage.probe import probe

A_SECOND = timedelta(seconds=1)
"""The resolution of the clock in an HTTP header."""
serial = itertools.count()
"""Hypothesis runs one test function many times over one bucket: each time under a folder of its own."""

names = st.text(
    alphabet=st.characters(blacklist_categories=("Cs", "Cc", "Co", "Cn"), blacklist_characters="/\\"), min_size=1
).filter(lambda name: name not in (".", "..") and len(name.encode()) <= 80 and name == name.strip())
keys = st.lists(names, min_size=1, max_size=3).map("/".join)
shared_bucket = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


class BucketContract:
    examples = 25
    honours_preconditions = True
    dates_uploads = True

    def test_what_is_put_is_read_in_every_way(self, bucket: Bucket):
        info = bucket.put("a/b.bin", b"0123456789")
        assert (info.key, info.size) == ("a/b.bin", 10)
        assert '"' not in info.etag
        assert bucket.get("a/b.bin") == b"0123456789"
        assert bucket.read("a/b.bin", 3, 4) == b"3456"
        assert bucket.read("a/b.bin", 3, 0) == b""
        assert b"".join(bucket.stream("a/b.bin")) == b"0123456789"
        with bucket.open("a/b.bin") as file:
            assert file.read() == b"0123456789"

    def test_head_and_list_agree_with_put(self, bucket: Bucket):
        before = bucket.now()
        put = bucket.put("a", b"data")
        head = bucket.head("a")
        assert head is not None
        [listed] = bucket.list()
        for info in (head, listed):
            assert (info.key, info.size, info.etag) == (put.key, put.size, put.etag)
        assert abs(listed.modified - head.modified) <= A_SECOND
        assert head.modified.tzinfo is not None
        assert abs(head.modified - put.modified) <= 2 * A_SECOND
        assert before - A_SECOND <= head.modified <= bucket.now() + A_SECOND

    def test_an_empty_object_is_an_object(self, bucket: Bucket):
        bucket.put("empty", b"")
        assert bucket.get("empty") == b""
        assert list(bucket.stream("empty")) == []
        with bucket.open("empty") as file:
            assert file.read() == b""
        assert [info.size for info in bucket.list()] == [0]

    def test_a_put_replaces_and_changes_the_etag(self, bucket: Bucket):
        etags = {bucket.put("a", data).etag for data in (b"one", b"two", b"six")}
        assert len(etags) == 3
        assert bucket.get("a") == b"six"

    def test_what_is_not_there_is_said_to_be_not_there(self, bucket: Bucket):
        bucket.put("there/it/is", b"x")
        for key in ("missing", "there/missing", "there/it"):
            assert bucket.head(key) is None
            for read in (
                bucket.get,
                bucket.open,
                lambda key: list(bucket.stream(key)),
                lambda key: bucket.read(key, 0, 1),
            ):
                with pytest.raises(NotFound, match=key):
                    read(key)
        bucket.delete("missing")

    def test_a_bucket_never_written_to_is_empty(self, bucket: Bucket):
        assert list(bucket.list()) == []
        assert list(bucket.pending_uploads()) == []
        assert bucket.head("a") is None

    @pytest.mark.parametrize("key", ["", "/etc/passwd", "..", "../a", "a/../../b", "a/.."])
    def test_a_key_never_leaves_the_prefix(self, bucket: Bucket, key: str):
        for use in (bucket.get, bucket.head, bucket.delete, bucket.upload, lambda key: bucket.put(key, b"")):
            with pytest.raises(ValueError, match="not a key"):
                use(key)

    def test_reading_past_the_end_is_an_error(self, bucket: Bucket):
        bucket.put("a", b"12345")
        for start, length in ((3, 3), (5, 1), (99, 1)):
            with pytest.raises(StorageError):
                bucket.read("a", start, length)

    def test_delete_removes(self, bucket: Bucket):
        bucket.put("x/a", b"1")
        bucket.put("x/b", b"2")
        bucket.delete("x/a")
        bucket.delete("x/a")
        assert [info.key for info in bucket.list()] == ["x/b"]

    def test_list_is_in_the_order_of_keys_and_by_prefix(self, bucket: Bucket):
        wanted = ["a-b", "a/b", "a/b-c", "a/b.d/e", "a/c", "a0", "b/a", "images/1.tar", "é"]
        for key in reversed(wanted):
            bucket.put(key, key.encode())
        assert [info.key for info in bucket.list()] == wanted
        for prefix in ("a", "a/", "a/b", "a/b.d/", "images/", "z", "a/z/", "é"):
            assert [info.key for info in bucket.list(prefix)] == [key for key in wanted if key.startswith(prefix)]

    def test_list_goes_on_after_a_page(self, bucket: Bucket):
        self.check_pages(bucket, 1005)

    def check_pages(self, bucket: Bucket, keys: int) -> None:
        # In folders of fifty, as rclone reads the whole folder for each PUT into it.
        wanted = [f"metadata/{number // 50:02d}/{number:09d}.parquet" for number in range(keys)]
        for key in wanted:
            bucket.put(key, b"")
        assert [info.key for info in bucket.list("metadata/")] == wanted

    def test_an_object_is_created_once(self, bucket: Bucket):
        if not self.honours_preconditions:
            pytest.skip("this server takes If-None-Match and ignores it")
        bucket.put("a", b"first", if_absent=True)
        with pytest.raises(PreconditionFailed):
            bucket.put("a", b"second", if_absent=True)
        assert bucket.get("a") == b"first"
        bucket.delete("a")
        bucket.put("a", b"third", if_absent=True)

    def test_only_what_was_read_is_replaced(self, bucket: Bucket):
        if not self.honours_preconditions:
            pytest.skip("this server takes If-Match and ignores it")
        first = bucket.put("a", b"first")
        second = bucket.put("a", b"second", if_match=first.etag)
        for etag in (first.etag, "0" * 32):
            with pytest.raises(PreconditionFailed):
                bucket.put("a", b"third", if_match=etag)
        assert bucket.get("a") == b"second"
        bucket.delete("a")
        with pytest.raises(PreconditionFailed):
            bucket.put("a", b"third", if_match=second.etag)
        assert bucket.head("a") is None

    def test_no_update_is_lost(self, bucket: Bucket):
        if not self.honours_preconditions:
            pytest.skip("this server takes If-Match and ignores it")
        bucket.put("count", b"0")

        def add_one(_: int) -> None:
            while True:
                before = bucket.head("count")
                count = int(bucket.get("count"))
                with contextlib.suppress(PreconditionFailed):
                    bucket.put("count", b"%d" % (count + 1), if_match=before.etag)
                    return

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(add_one, range(20)))
        assert bucket.get("count") == b"20"

    def test_the_probe_finds_out_what_preconditions_are_worth(self, bucket: Bucket):
        assert probe(bucket) == ("strong" if self.honours_preconditions else "ignoring")
        assert list(bucket.list()) == []

    def test_an_upload_exists_once_it_is_complete(self, bucket: Bucket):
        pieces = [bytes([number]) * 3_000_000 for number in range(6)]
        with bucket.upload("images/1.tar") as upload:
            for piece in pieces:
                upload.write(piece)
                assert bucket.head("images/1.tar") is None
                assert list(bucket.list()) == []
            info = upload.complete()
        assert info == bucket.head("images/1.tar")
        assert info.size == 18_000_000
        assert b"".join(bucket.stream("images/1.tar")) == b"".join(pieces)
        assert upload.seconds_waited >= 0
        assert list(bucket.pending_uploads()) == []

    def test_an_upload_that_raises_leaves_nothing(self, bucket: Bucket):
        def write() -> None:
            with bucket.upload("a") as upload:
                upload.write(bytes(20_000_000))
                raise RuntimeError("the writer died")

        with pytest.raises(RuntimeError):
            write()
        assert list(bucket.list()) == []
        assert list(bucket.pending_uploads()) == []

    def test_uploads_of_a_writer_that_is_gone_are_found_and_ended(self, bucket: Bucket):
        before = bucket.now()
        upload = bucket.upload("images/1-ab.tar")
        upload.write(bytes(9_000_000))
        [pending] = bucket.pending_uploads()
        assert pending.key == "images/1-ab.tar"
        if self.dates_uploads:
            assert before - A_SECOND <= pending.initiated <= bucket.now() + A_SECOND
        bucket.abort_upload(pending)
        bucket.abort_upload(pending)
        assert list(bucket.pending_uploads()) == []
        upload.abort()
        assert list(bucket.list()) == []

    def test_parquet_is_read_by_what_is_needed_of_it(self, bucket: Bucket):
        table = pa.table({"id": list(range(50_000)), "text": [f"prompt {number}" for number in range(50_000)]})
        buffer = io.BytesIO()
        pq.write_table(table, buffer, row_group_size=10_000)
        bucket.put("p.parquet", buffer.getvalue())
        with bucket.open("p.parquet") as file:
            assert pq.ParquetFile(file).read_row_group(3, columns=["id"])["id"].to_pylist() == list(
                range(30_000, 40_000)
            )

    def test_errors_survive_the_way_from_a_worker(self, bucket: Bucket):
        with pytest.raises(LightmillError) as caught:
            bucket.get("missing")
        assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems

    def test_any_name_is_a_key(self, bucket: Bucket):
        @settings(shared_bucket, max_examples=self.examples)
        @given(key=keys, data=st.binary(max_size=100))
        def check(key: str, data: bytes):
            folder = f"{next(serial)}/"
            bucket.put(folder + key, data)
            assert bucket.get(folder + key) == data
            assert [info.key for info in bucket.list(folder)] == [folder + key]
            bucket.delete(folder + key)

        check()

    def test_an_upload_is_the_sum_of_its_writes(self, bucket: Bucket):
        around_a_part = st.integers(-2, 2).map(lambda more: (8 << 20) + more)

        @settings(shared_bucket, max_examples=max(5, self.examples // 5))
        @given(
            sizes=st.lists(st.one_of(st.integers(0, 5000), around_a_part), max_size=4),
            wrap=st.sampled_from([bytes, memoryview]),
        )
        def check(sizes: list[int], wrap: type):
            pieces = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
            key = f"uploads/{next(serial)}"
            with bucket.upload(key) as upload:
                for piece in pieces:
                    upload.write(wrap(piece))
                assert upload.complete().size == sum(sizes)
            assert bucket.get(key) == b"".join(pieces)

        check()

    def test_any_range_and_any_walk_through_a_file(self, bucket: Bucket):
        data = bytes(range(251)) * 12_000
        bucket.put("a", data)

        @settings(shared_bucket, max_examples=self.examples)
        @given(walk=st.lists(st.tuples(st.integers(0, len(data)), st.integers(0, 1_500_000)), min_size=1, max_size=4))
        def check(walk: list[tuple[int, int]]):
            with bucket.open("a") as file:
                for start, length in walk:
                    file.seek(start)
                    assert file.read(length) == data[start : start + length]
                    assert file.tell() == min(start + length, len(data))
                    assert file.read() == data[start + length :]
                    if start + length <= len(data):
                        assert bucket.read("a", start, length) == data[start : start + length]

        check()
