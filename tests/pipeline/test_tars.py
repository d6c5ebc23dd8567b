"""pipeline.tars"""

import io
import tarfile

import pytest

from pipeline import tars


def test_members_are_plain_ustar_and_can_be_read_at_their_offsets() -> None:
    stream = io.BytesIO()
    offsets = [tars.append(stream, f"{n}.txt", b"x" * n) for n in (0, 1, 512, 513)]
    tars.close(stream)
    assert len(stream.getvalue()) % 10240 == 0
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        members = archive.getmembers()
    assert [m.size for m in members] == [0, 1, 512, 513]
    assert [m.offset_data for m in members] == offsets
    assert {(m.mtime, m.uid, m.gid, m.uname, tuple(m.pax_headers)) for m in members} == {
        (0, 0, 0, "", ())
    }


def test_a_name_that_needs_more_than_ustar_is_refused() -> None:
    with pytest.raises(ValueError, match="name is too long"):
        tars.append(io.BytesIO(), "x" * 200, b"")
