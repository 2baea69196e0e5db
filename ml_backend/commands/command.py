"""What every command shares: errors become one line and an exit code, never a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ml_backend.errors import BackendError, RedisUnavailable


def run(main: Callable[[], int | None]) -> None:
    """Run a command and exit with its code: an error that a user can fix is printed as one line, Ctrl-C gives 130."""
    try:
        sys.exit(main())
    except BackendError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(BackendError.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        from redis.exceptions import RedisError  # not at the top: `tsal --help` is to be fast

        if not isinstance(error, RedisError):
            raise
        from ml_backend.store.pending import unanswered

        print(f"error: {unanswered(os.environ.get('TSAL_REDIS_URL'), error)}", file=sys.stderr)
        sys.exit(RedisUnavailable.exit_code)
