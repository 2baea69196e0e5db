"""The modules that take seconds to import."""

from __future__ import annotations

import importlib
import sys
import threading

MODULES = ("ml_backend.msml.finetune", "sklearn.linear_model", "sklearn.cluster")
"""What a fine-tune and the refresh after it import.

torch takes half a gigabyte and scikit-learn 70 MB. A worker that waits would hold them twice: RQ's scheduler is a fork.
"""


def import_slow() -> None:
    """Import all of them."""
    for module in MODULES:
        importlib.import_module(module)


def begin_to_import() -> None:
    """Import them in a thread, while this process waits for Label Studio."""
    if not sys.modules.keys() >= set(MODULES):
        threading.Thread(target=import_slow, name="imports", daemon=True).start()
