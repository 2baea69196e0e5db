"""End servers that the tests started."""

from __future__ import annotations

import os
import signal
import subprocess

STOP_SECONDS = 15


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the session that the process leads, children included."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_SECONDS)
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()
