"""Whether Label Studio can reach an ML backend, found out without registering one."""

from __future__ import annotations

import re
from enum import Enum

from ml_backend.errors import StudioRefused
from ml_backend.studio.client import Studio

NOWHERE = "not-a-backend"
"""A path that no backend of ours answers, so that Label Studio's check always fails and nothing is stored."""


class Reach(Enum):
    """What Label Studio says of an address."""

    REACHED = "reached"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"


def reach(studio: Studio, project: int, url: str) -> Reach:
    """Ask Label Studio to register ``url``/not-a-backend, which it checks before it stores anything.

    It first compares the address with the networks that it refuses (``REFUSED``), then asks for ``/health`` there. Our
    backend answers 404 (``REACHED``); anything else that is not an answer of ours, or none, means ``UNREACHABLE``.
    ``UNKNOWN`` where Label Studio says something else. If something there takes the path for a backend, the new entry
    is removed again.
    """
    try:
        made = studio.create_backend(project, f"{url}/{NOWHERE}", "reachable?", None, None)
    except StudioRefused as error:
        return _meaning(str(error))
    studio.delete_backend(made)
    return Reach.UNREACHABLE


def _meaning(answer: str) -> Reach:
    if "reserved network address" in answer or "private address" in answer:
        return Reach.REFUSED
    # Label Studio repeats the words of the HTTP library, such as "404 Client Error: NOT FOUND for url".
    if "404 Client Error" in answer:
        return Reach.REACHED
    return Reach.UNREACHABLE if re.search(r"\b[45]\d\d (Client|Server) Error|connect", answer) else Reach.UNKNOWN
