"""A headless Chromium, driven over the WebDriver protocol by what the package needs anyway."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from ml_backend.errors import BackendError
from ml_backend.launch.label_studio import answers, wait_until
from ml_backend.launch.processes import Processes, free_port

WIDTH, HEIGHT = 1400, 900
SECONDS = 60.0
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the standard's key of an element's id
_ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")


class Browser:
    """A page of ``WIDTH`` × ``HEIGHT`` pixels; elements are named by an XPath, and waited for."""

    def __init__(self, session: httpx.Client) -> None:
        self._session = session

    def open(self, url: str) -> None:
        """Go to an address and wait until it is loaded."""
        self._call("url", url=url)

    def find(self, xpath: str) -> str:
        """Wait for an element to be there and return its id."""
        found = self._until(lambda: self._call("elements", using="xpath", value=xpath), f"the page has no {xpath}")
        return str(found[0][_ELEMENT])

    def click(self, xpath: str) -> None:
        """Click on an element as a mouse does: what another element covers cannot be clicked."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                self._call(f"element/{self.find(xpath)}/click")
                return
            except BackendError:  # covered, moving, or drawn anew meanwhile
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def type(self, xpath: str, text: str) -> None:
        """Type into a field."""
        self._call(f"element/{self.find(xpath)}/value", text=text)

    def run(self, script: str) -> Any:
        """Run JavaScript in the page; what it returns is returned."""
        return self._call("execute/sync", script=script, args=[])

    def wait(self, script: str) -> None:
        """Wait until JavaScript that is given as the body of a function returns something true."""
        self._until(lambda: self.run(script), f"in the page this did not become true: {script}")

    def picture(self) -> bytes:
        """What is seen, as PNG."""
        answer = self._session.get("screenshot").raise_for_status()
        return base64.b64decode(answer.json()["value"])

    def _until(self, look: Callable[[], Any], otherwise: str) -> Any:
        deadline = time.monotonic() + SECONDS
        while not (found := look()):
            if time.monotonic() > deadline:
                raise BackendError(f"{otherwise} within {SECONDS:.0f} s")
            time.sleep(0.2)
        return found

    def _call(self, path: str, **body: Any) -> Any:
        answer = self._session.post(path, content=json.dumps(body))
        value = answer.json()["value"]
        if answer.is_error:
            raise BackendError(f"the browser refuses {path}: {value['message'].splitlines()[0]}")
        return value


@contextmanager
def browser(processes: Processes, folder: Path) -> Iterator[Browser]:
    """Run Chromium until the block ends, with its profile in ``folder``."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        raise BackendError("there is no Chromium: install the packages chromium and chromium-driver")
    url = f"http://127.0.0.1:{free_port()}"
    processes.start("driver", [driver, f"--port={url.rsplit(':', 1)[1]}"], {})
    wait_until(lambda: answers(f"{url}/status"), SECONDS, "the browser's driver does not answer", processes)
    options = {"binary": chromium, "args": [*_ARGUMENTS, f"--user-data-dir={folder}"]}
    wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}}
    with httpx.Client(timeout=2 * SECONDS) as client:
        started = client.post(f"{url}/session", json=wanted).json()["value"]
        if "sessionId" not in started:
            raise BackendError(f"Chromium does not start: {started['message'].splitlines()[0]}")
        client.base_url = httpx.URL(f"{url}/session/{started['sessionId']}")
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        client.post(
            "goog/cdp/execute", json={"cmd": "Emulation.setDeviceMetricsOverride", "params": size}
        ).raise_for_status()
        try:
            yield Browser(client)
        finally:
            client.delete("")
