"""How the backend is served: the one place that names gunicorn."""

from __future__ import annotations

import sys

from ml_backend.settings import Settings


def command(settings: Settings) -> list[str]:
    """Gunicorn with one process: the network is loaded once, requests run in threads."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return [
        *(sys.executable, "-m", "gunicorn"),
        *("--bind", f"{host}:{settings.port}", "--workers", "1", "--threads", str(settings.threads)),
        *("--timeout", "120", "--log-level", "warning", "--no-control-socket"),
        # No proxy of ours sends any; a wrong SCRIPT_NAME from this machine would be answered with 500.
        *("--forwarder-headers", ""),
        "ml_backend.web.app:create_app()",
    ]
