"""Our tar archives are those that tarfile would write, and read as such."""

import io
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from actors import tar

names = st.from_regex(r"[a-z0-9-]{1,90}\.(webp|png|jpeg|json)", fullmatch=True)


@given(name=names, size=st.integers(0, tar.MAX_SIZE))
def test_a_header_is_the_one_of_tarfile(name, size):
    info = tarfile.TarInfo(name)
    info.size = size
    assert tar.header(name, size) == info.tobuf(tarfile.USTAR_FORMAT)


@given(members=st.dictionaries(names, st.binary(max_size=2000), max_size=6))
def test_an_archive_reads_back(members):
    archive = b"".join(piece for name, data in members.items() for piece in tar.member(name, data)) + tar.END
    assert len(archive) % tar.BLOCK == 0
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        found = {info.name: opened.extractfile(info).read() for info in opened}
        owners = {(info.mtime, info.uid, info.gid, info.mode, info.uname, info.gname) for info in opened}
    assert found == members
    assert list(found) == list(members)
    assert owners <= {(0, 0, 0, 0o644, "", "")}
