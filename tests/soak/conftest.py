from __future__ import annotations

import pytest

from ml_backend.errors import InvalidRequest
from ml_backend.launch.label_studio_environment import installed_program
from soak.postgresql import postgresql


@pytest.fixture(scope="session")
def label_studio_on_postgresql() -> None:
    """Skip where one of the two is not installed."""
    if installed_program() is None:
        pytest.skip("no Label Studio: run `make install`")
    try:
        with postgresql():
            pass
    except InvalidRequest as error:
        pytest.skip(str(error))
