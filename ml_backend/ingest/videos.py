"""Videos and GIFs, read with libav."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
from PIL import Image

from ml_backend.errors import FrameUnreadable
from ml_backend.ingest.pictures import ClipFrame, Sampler, check_count, check_size, one_line, plain

ASSUMED_RATE = Fraction(25)  # frames a second, where a file says nothing
# No playlists: they make libav read other files and addresses.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,gif"
# What machines, phones and screen recorders write; libav knows hundreds more, each one more target for an attack.
_CODECS = (
    "h264,hevc,av1,libdav1d,vp8,vp9,mpeg4,mpeg1video,mpeg2video,mpegvideo,msmpeg4v1,msmpeg4v2,msmpeg4,wmv1,wmv2,h263,"
    "mjpeg,jpeg2000,png,gif,bmp,rawvideo,msrle,msvideo1,cinepak,indeo3,indeo5,dvvideo,huffyuv,ffvhuff,ffv1,utvideo,"
    "qtrle,prores,dnxhd,svq1,svq3,zlib"
)
# The file is open already, and what it refers to is never read.
_OPTIONS = {
    "format_whitelist": _CONTAINERS,
    "codec_whitelist": _CODECS,
    "protocol_whitelist": "none",
    "enable_drefs": "0",
}


def video_frames(path: Path, every: Fraction) -> Iterator[ClipFrame]:
    """Yield the sampled frames of a video file or GIF."""
    with path.open("rb") as file:
        if not _is_cut_gif(file):
            yield from video_stream(file, every)
            return
        # libav yields what there is of the last frame, and reports no error.
        last: ClipFrame | None = None
        for frame in video_stream(file, every):
            if last is not None:
                yield last
            last = frame
        raise FrameUnreadable("it ends early: the GIF has no end mark; its last frame was left out")


def video_stream(file: BinaryIO, every: Fraction, rate: Fraction | None = None) -> Iterator[ClipFrame]:
    """Yield the sampled frames of a video; it takes an open file, so that no name is mistaken for an address.

    ``rate`` (frames a second) is for bare H.264 and HEVC, which say nothing of time.
    """
    with av.open(file, options={**_OPTIONS, "framerate": str(rate or ASSUMED_RATE)}) as container:
        stream = next(iter(container.streams.video), None)
        if stream is None:
            raise FrameUnreadable("it contains no video")
        if stream.codec_context is None or stream.codec_context.name not in _CODECS.split(","):
            raise FrameUnreadable("the compression of its video is not supported: save it as H.264")
        check_size(stream.codec_context.width, stream.codec_context.height)
        sampler, clock = Sampler(every), Clock(stream)
        for count, frame in enumerate(sound_frames(container, stream)):
            check_count(count + 1)
            time = clock.read(frame)
            if sampler.takes(time):
                check_size(frame.width, frame.height)
                yield ClipFrame(plain(_upright(frame)), count, float(time))


def sound_frames(container: Any, stream: Any) -> Iterator[Any]:
    """Yield decoded frames up to the first damage, then raise.

    Damage before the first sound frame is ignored: a clip cut out of a longer one begins with frames that refer to
    what was cut off. After damage further on, all later frames may build on broken pixels.
    """
    damage: str | None = None
    count = 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            frames, damage = [], one_line(error)
        for frame in frames:
            if frame.is_corrupt:
                damage = "damaged frame"
                break
            count += 1
            yield frame
            damage = None
        if packet.is_corrupt:
            damage = damage or "incomplete data"
        if damage and count:
            raise FrameUnreadable(f"it is damaged after frame {count - 1} ({damage}); the frames before it were read")
    if damage:
        raise FrameUnreadable(f"no frame can be decoded ({damage})")


class Clock:
    """Seconds since the first frame: exact where frames carry time stamps, counted by the frame rate elsewhere."""

    def __init__(self, stream: Any) -> None:
        self._step = 1 / (stream.average_rate or stream.guessed_rate or ASSUMED_RATE)
        self._last: Fraction | None = None
        self._shift = Fraction(0)

    def read(self, frame: Any) -> Fraction:
        """Return the time of the next frame."""
        after = Fraction(0) if self._last is None else self._last + self._step
        if frame.pts is None:
            self._last = after
            return after
        stamp = frame.pts * frame.time_base
        if self._last is None:
            self._shift = stamp
        elif stamp - self._shift <= self._last:
            # In joined clips the time stamps start anew.
            self._shift = stamp - after
        self._last = stamp - self._shift
        return self._last


def _upright(frame: Any) -> Image.Image:
    colours = "rgba" if frame.format.name in ("bgra", "rgba") else "rgb24"
    picture = Image.fromarray(frame.to_ndarray(format=colours))  # four times as fast as `to_image`
    return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture


def _is_cut_gif(file: BinaryIO) -> bool:
    if file.read(4) != b"GIF8":
        file.seek(0)
        return False
    file.seek(-1, io.SEEK_END)
    end = file.read(1)
    file.seek(0)
    return end not in (b";", b"\0")  # some writers pad the end
