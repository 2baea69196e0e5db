"""Known vulnerabilities of the pinned packages, as pip-audit finds them; part of `make lint`."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ml_backend.commands.command import run
from ml_backend.errors import BackendError, SettingsError

PINNED = Path(__file__).resolve().parents[1] / "requirements"
EXCEPTIONS = "audit-exceptions"
# Whoever knows vulnerabilities knows one of this: a service that does not is none, whatever it answers.
KNOWN = "Django==2.0"
EXCEPTION = re.compile(r"(?P<id>[\w-]+) +# *\S")


class AuditFailed(BackendError):
    """pip-audit ended without a report."""


def main(arguments: list[str] | None = None) -> int:
    """Look up every pinned package; a vulnerability that is no exception fails, a service out of reach does not."""
    parser = argparse.ArgumentParser(
        description=main.__doc__, epilog="All other options are pip-audit's, such as --vulnerability-service osv."
    )
    parser.add_argument("--requirements", type=Path, default=PINNED, help="folder of the pins and of the exceptions")
    options, passed_on = parser.parse_known_args(arguments)
    excepted = exceptions(options.requirements / EXCEPTIONS)
    files = sorted(options.requirements.glob("*.txt"))
    # What is wrong on this side shows without the service: no report from here on is the service's doing.
    audited(files, [*passed_on, "--dry-run"])
    reason = out_of_reach(passed_on)
    if reason:
        print(f"audit: left out, the service of known vulnerabilities cannot be asked: {reason}")
        return 0
    ignored = [word for one in excepted for word in ("--ignore-vuln", one)]
    packages = audited(files, [*passed_on, *ignored])
    found = [f"{one['name']} {one['version']}: {described(bad)}" for one in packages for bad in one.get("vulns", [])]
    unknown = [one["name"] for one in packages if "skip_reason" in one]
    print(f"audit: {len(packages) - len(unknown)} packages, {len(found)} vulnerabilities, {len(excepted)} exceptions")
    if unknown:
        print(f"audit: not known to the service: {', '.join(unknown)}")
    if found:
        print("\n".join(found), file=sys.stderr)
        print(f"error: pin other versions, or add the ID and a reason to requirements/{EXCEPTIONS}", file=sys.stderr)
    return 1 if found else 0


def exceptions(path: Path) -> list[str]:
    """IDs of the vulnerabilities that are put up with. Raises SettingsError naming a line without a reason."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    found = []
    for line in lines:
        if not line or line.startswith("#"):
            continue
        match = EXCEPTION.match(line)
        if match is None:
            raise SettingsError(f"{path.name}: {line!r} must be an ID, then # and why the vulnerability is put up with")
        found.append(match["id"])
    return found


def out_of_reach(options: Sequence[str]) -> str | None:
    """Why the service of known vulnerabilities cannot be asked, or None where it can."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(KNOWN + "\n")
        file.flush()
        try:
            packages = audited([Path(file.name)], options)
        except AuditFailed as error:
            return str(error)
    # A mirror of packages may answer in its place, and knows no vulnerability at all.
    return None if any(one.get("vulns") for one in packages) else f"it knows none of {KNOWN}, which has many"


def audited(files: Sequence[Path], options: Sequence[str]) -> list[dict[str, Any]]:
    """What pip-audit reports of each package pinned in the files: its ``vulns``, or a ``skip_reason``."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    # The pins are complete, so that nothing has to be resolved or downloaded.
    command += ["--no-deps", "--disable-pip", *options]
    command += [word for path in files for word in ("--requirement", str(path))]
    ended = subprocess.run(command, capture_output=True, text=True)  # noqa: S603  the command is ours
    try:
        packages: list[dict[str, Any]] = json.loads(ended.stdout)["dependencies"]
    except (ValueError, KeyError):  # its code is the same then as where it finds something
        # The lines of a traceback, and those that quote a file, are indented.
        said = [line for line in ended.stderr.splitlines() if line[:1].strip()] or [f"code {ended.returncode}"]
        raise AuditFailed(f"pip-audit ended without a report: {said[-1]}") from None
    return packages


def described(vulnerability: dict[str, Any]) -> str:
    """A vulnerability in one line: its names, and the versions that mend it."""
    names = ", ".join([vulnerability["id"], *vulnerability["aliases"]])
    return f"{names}; mended in {', '.join(vulnerability['fix_versions']) or 'no version yet'}"


if __name__ == "__main__":
    run(main)
