"""Files made to do harm: playlists under the name of a video, codecs that nobody needs, headers without an end."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from ml_backend.errors import FrameUnreadable
from ml_backend.ingest.dicom import dicom_header
from ml_backend.ingest.identity import identity_of
from tests.ingest.test_files import ramp, read, write_dicom, write_video

PLAY_LISTS = {
    "HLS": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{address}\n#EXT-X-ENDLIST\n",
    "HLS with a map": '#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MAP:URI="{address}"\n#EXTINF:1,\n{address}\n',
    "concat": "ffconcat version 1.0\nfile '{address}'\n",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\na=control:{address}\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "DASH": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet '
    'mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{address}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "ASX": '<asx version="3.0"><entry><ref href="{address}"/></entry></asx>',
    "RTSP text": "RTSPtextRTSP://127.0.0.1:{port}/clip",
}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that nobody may ask."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.setblocking(False)
        yield server


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "clip.mpg", "clip%03d.mp4"])
@pytest.mark.parametrize("kind", PLAY_LISTS)
def test_a_playlist_under_the_name_of_a_video_opens_neither_file_nor_address(
    tmp_path: Path, listener: socket.socket, kind: str, name: str
) -> None:
    other = write_video(tmp_path / "other.mp4", list(range(5)))
    port = listener.getsockname()[1]
    for address in (f"http://127.0.0.1:{port}/clip.ts", str(other), f"file://{other}", "other.mp4", "/etc/passwd"):
        path = tmp_path / name
        path.write_text(PLAY_LISTS[kind].format(address=address, port=port))
        with pytest.raises(FrameUnreadable):
            read(path)
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_a_codec_that_no_machine_writes_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("asv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))))
        file.mux(stream.encode())
    with pytest.raises(FrameUnreadable, match="compression"):
        read(path)


def with_elements(path: Path, *elements: tuple[int, str, object]) -> Path:
    data = pydicom.dcmread(write_dicom(path, ramp()))
    for tag, kind, value in elements:
        data.add_new(tag, kind, value)
    data.save_as(path)
    return path


def test_a_header_of_any_length_takes_little_memory(tmp_path: Path) -> None:
    """A header is read in the import's own process."""
    own_data = with_elements(tmp_path / "own.dcm", (0x00091001, "OB", b"\0" * 40_000_000), (0x00181063, "DS", "100"))
    assert [frame.time for frame in read(own_data)] == [0.0, 0.1, 0.2, 0.3]
    many = [(0x00091000 + number, "OB", b"\0" * 1_000_000) for number in range(17)]
    long = with_elements(tmp_path / "long.dcm", *many)
    for reader in (dicom_header, identity_of):
        with pytest.raises(FrameUnreadable, match="16 MB"):
            reader(long)


def test_sequences_within_sequences_end(tmp_path: Path) -> None:
    inner = Dataset()
    for _ in range(200):
        outer = Dataset()
        outer.ReferencedImageSequence = Sequence([inner])
        inner = outer
    nested = with_elements(tmp_path / "nested.dcm", (0x00081140, "SQ", inner.ReferencedImageSequence))
    content = nested.read_bytes()
    start = content.index(b"\x08\x00\x40\x11SQ")
    deep = tmp_path / "deep.dcm"
    opening = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    deep.write_bytes(content[:start] + opening * 100_000)
    assert len(read(nested)) == 4
    with pytest.raises(FrameUnreadable):
        read(deep)
    with pytest.raises(FrameUnreadable):
        identity_of(deep)
