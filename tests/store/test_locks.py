from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from pathlib import Path

import pytest

from ml_backend.store.locks import alone

HOLD = """
import sys
from pathlib import Path
from ml_backend.store.locks import alone

with alone(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def take(path: Path) -> bool:
    with alone(path):
        return True


def test_others_wait_until_the_process_that_holds_it_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with ThreadPoolExecutor(1) as pool:
            taken = pool.submit(take, path)
            with pytest.raises(TimeoutError):
                taken.result(timeout=0.3)
            holder.kill()
            assert taken.result(timeout=10)


def test_it_is_free_again_after_a_failure_and_other_files_are_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), alone(tmp_path / "lock"):
        raise ZeroDivisionError
    with alone(tmp_path / "lock"):
        assert take(tmp_path / "other")
