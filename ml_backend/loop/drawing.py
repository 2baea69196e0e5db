"""Draw the evidence for a frame's ticks as an SVG picture with embedded JPEG frames.

SVG lets the browser render the names in its own fonts, in any script and sharp at every size. The picture contains no
scripts, and all text in it is escaped.
"""

from __future__ import annotations

import base64
import io
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH = 920
COLOURS = ("#e69f00", "#56b4e9", "#cc79a7", "#009e73", "#f0e442", "#d55e00", "#0072b2")
"""Okabe and Ito's palette, which colour-blind people can tell apart. Each symptom always has the same colour."""
THUMBNAIL = 320  # longer side of a frame in the picture, in pixels
_QUALITY = 80
_STRONGEST = 0.65  # greatest opacity of the heat map
_MARGIN, _GAP = 24, 20
_FRAME = (430, 330)
_SMALL = ((WIDTH - 2 * _MARGIN - 2 * _GAP) // 3, 210)
_BAR = 56
_FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', 'Noto Sans', sans-serif"


@dataclass(frozen=True)
class Symptom:
    """A symptom: whether it is ticked, and the network's probability, None if the network does not know it."""

    name: str
    ticked: bool
    probability: float | None


@dataclass(frozen=True)
class Small:
    """A related frame as JPEG (None if it cannot be read), with lines of text below it."""

    picture: bytes | None
    lines: Sequence[str]


@dataclass(frozen=True)
class Evidence:
    """The content of a picture: ``told``, the lines at the top; ``frame`` as JPEG; titled rows of other frames."""

    told: Sequence[str]
    frame: bytes | None
    symptoms: Sequence[Symptom]
    rows: Sequence[tuple[str, Sequence[Small]]] = field(default_factory=tuple)


def draw(evidence: Evidence) -> bytes:
    """Draw the evidence for one frame."""
    parts: list[str] = []
    below = _MARGIN
    for place, line in enumerate(evidence.told):
        below += 34
        parts.append(_text(_MARGIN, below, line, 28 if place == 0 else 24, bold=place == 0, room=WIDTH - 2 * _MARGIN))
    below += 20
    parts.append(_picture(_MARGIN, below, _FRAME, evidence.frame))
    parts += _bars(evidence.symptoms, below)
    below += max(_FRAME[1], _BAR * len(evidence.symptoms)) + 16
    for title, smalls in evidence.rows:
        below += 30
        parts.append(_text(_MARGIN, below, title, 24, bold=True, room=WIDTH - 2 * _MARGIN))
        below += 14
        for place, small in enumerate(smalls):
            left = _MARGIN + place * (_SMALL[0] + _GAP)
            parts.append(_picture(left, below, _SMALL, small.picture))
            for number, line in enumerate(small.lines):
                parts.append(_text(left, below + _SMALL[1] + 28 * (number + 1), line, 21, room=_SMALL[0]))
        below += _SMALL[1] + 28 * max((len(small.lines) for small in smalls), default=0) + 16
    return _svg(below + _MARGIN, parts)


def notice(lines: Sequence[str]) -> bytes:
    """Draw a picture of a few lines of text only."""
    parts = [
        _text(_MARGIN, _MARGIN + 36 * (place + 1), line, 26, bold=place == 0, room=WIDTH - 2 * _MARGIN)
        for place, line in enumerate(lines)
    ]
    return _svg(2 * _MARGIN + 36 * len(lines) + 10, parts)


def heated(frame: Image.Image, maps: Sequence[tuple[int, NDArray[np.float32]]]) -> Image.Image:
    """Overlay a frame with ``maps``, pairs of a symptom's index and its map (h, w) float32. Values below 0 are ignored.

    Each map is scaled to its own maximum, so it shows where the evidence is, not how strong it is.
    """
    for place, one in maps:
        positive = np.maximum(one, 0)
        if not positive.max() > 0:
            continue
        shares = (255 * _STRONGEST * positive / positive.max()).astype(np.uint8)
        mask = Image.fromarray(shares).resize(frame.size, Image.Resampling.BICUBIC)
        frame = Image.composite(Image.new("RGB", frame.size, colour_of(place)), frame, mask)
    return frame


def jpeg(picture: Image.Image) -> bytes:
    """Encode a picture as a small JPEG file."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def colour_of(place: int) -> str:
    """Return the colour of a symptom, given its index in the configuration."""
    return COLOURS[place % len(COLOURS)]


def _bars(symptoms: Sequence[Symptom], top: int) -> Iterator[str]:
    """Draw a line for each symptom: a checkbox, the name, and the probability as a percentage and a bar."""
    left, width = _MARGIN + _FRAME[0] + 30, WIDTH - 2 * _MARGIN - _FRAME[0] - 30
    for place, symptom in enumerate(symptoms):
        y, colour = top + place * _BAR, colour_of(place)
        box = f'x="{left}" y="{y + 4}" width="22" height="22" rx="4" stroke="{colour}" stroke-width="3"'
        yield f'<rect {box} fill="{colour if symptom.ticked else "none"}"/>'
        if symptom.ticked:
            yield f'<path d="M{left + 5} {y + 15} l5 6 l8 -12" fill="none" stroke="#111" stroke-width="3"/>'
        yield _text(left + 34, y + 23, symptom.name, 23, bold=symptom.ticked, room=width - 34 - 80)
        if symptom.probability is not None:
            share = min(max(symptom.probability, 0.0), 1.0)
            yield _text(left + width, y + 23, f"{100 * share:.0f}%", 23, room=80, end=True)
            yield f'<rect x="{left}" y="{y + 33}" width="{width}" height="9" fill="#e3e3e3"/>'
            yield f'<rect x="{left}" y="{y + 33}" width="{width * share:.0f}" height="9" fill="{colour}"/>'


def _picture(left: int, top: int, size: tuple[int, int], content: bytes | None) -> str:
    place = f'x="{left}" y="{top}" width="{size[0]}" height="{size[1]}"'
    if content is None:
        words = _text(left + 14, top + size[1] // 2, "cannot be read", 21, room=size[0])
        return f'<rect {place} fill="#ddd"/>{words}'
    address = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
    return f'<rect {place} fill="#000"/><image {place} href="{address}"/>'


def _text(left: int, base: int, words: str, size: int, *, room: int, bold: bool = False, end: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    anchor = ' text-anchor="end"' if end else ""
    return f'<text x="{left}" y="{base}" font-size="{size}"{weight}{anchor}>{escape(_cut(words, room / size))}</text>'


def _cut(words: str, room: float) -> str:
    """Shorten text to fit into ``room`` (in font sizes), and remove characters that XML does not allow."""
    kept = "".join(one for one in words if one.isprintable())
    used = 0.0
    for place, one in enumerate(kept):
        used += 1.0 if unicodedata.east_asian_width(one) in "WF" else 0.56
        if used > room:
            return kept[: max(place - 1, 0)] + "…"
    return kept


def _svg(height: int, parts: Sequence[str]) -> bytes:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    ground = f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    return f'{head} font-family="{_FONT}" fill="#222">{ground}{"".join(parts)}</svg>'.encode(errors="replace")
