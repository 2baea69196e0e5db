"""Whether what `make wheel` has built may be released, and what to do then; the last step of `make release`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ml_backend import __version__
from ml_backend.commands.command import run
from ml_backend.errors import BackendError

ROOT = Path(__file__).resolve().parents[1]
HEADING = re.compile(r"^## \[?(?P<what>[^\]\s]+)\]?(?P<rest>.*)$", re.MULTILINE)


class NotReleasable(BackendError):
    """What is there is not what the changelog says."""


def main() -> int:
    """Compare version, changelog and built files; print what to upload."""
    files = checked(ROOT, __version__)
    print(
        f"{__version__} is ready. Tag and upload it:\n"
        f"  git tag -a v{__version__} -m 'Release {__version__}' && git push origin v{__version__}\n"
        f"  twine upload {' '.join(files)}"
    )
    return 0


def checked(root: Path, version: str) -> list[str]:
    """The built files, relative to ``root``, or NotReleasable."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise NotReleasable(f"{version} is no release: set __version__ in ml_backend/__init__.py")
    headings = list(HEADING.finditer((root / "CHANGELOG.md").read_text(encoding="utf-8")))
    newest = next((one for one in headings if one["what"].lower() != "unreleased"), None)
    if newest is None or newest["what"] != version or not re.search(r"\d{4}-\d{2}-\d{2}", newest["rest"]):
        raise NotReleasable(f"CHANGELOG.md must begin with `## [{version}] - YYYY-MM-DD`: close what is unreleased")
    if headings[0] is not newest and headings[0].end() + 1 < newest.start() - 1:
        raise NotReleasable("CHANGELOG.md still has unreleased changes: move them below the new version's heading")
    built = sorted(path.relative_to(root).as_posix() for path in (root / "dist").glob("*"))
    others = [name for name in built if f"-{version}-" not in name and not name.endswith(f"-{version}.tar.gz")]
    if len(built) != 2 or others:
        raise NotReleasable(
            f"dist must hold one wheel and one archive of {version}; it has {', '.join(built) or 'none'}"
        )
    return built


if __name__ == "__main__":
    run(main)
