"""What happens to the processes of the loop while they act: each call outside their memory may be their last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from soak.crash.effects import Kind, Watch

What = Literal["killed", "refused", "answer lost", "people act"]


class Died(BaseException):
    """The process was killed: nothing catches this, and nothing that it does from then on has an effect."""


@dataclass(frozen=True)
class Fate:
    """What happens at the ``nth`` effect of the next action."""

    what: What
    nth: int


@dataclass
class Fates(Watch):
    """Strikes the loop's processes, which all act inside this one, and cuts them off from what is in ``cut``."""

    cut: set[Kind] = field(default_factory=set)
    dead: bool = False
    count: int = 0
    _fate_now: Fate | None = None
    _meanwhile: Callable[[], None] = lambda: None
    _acting: bool = False

    @contextmanager
    def acting(self, fate: Fate | None, meanwhile: Callable[[], None]) -> Iterator[None]:
        """Let a process act, which may be killed meanwhile: `dead` says whether it was."""
        self._fate_now, self._meanwhile, self.dead, self.count = fate, meanwhile, False, 0
        self._acting = True
        try:
            yield
        except Died:
            pass
        finally:
            self._acting, self._fate_now, self._failing = False, None, None

    def _strikes(self, kind: Kind, name: str, changes: bool, writes: bool = False) -> bool:
        if not self._acting:
            return False
        if self.dead:
            raise Died
        self.count += 1
        fate = self._fate_now
        if fate is not None and self.count >= fate.nth and (fate.what in ("killed", "people act") or kind != "file"):
            self._fate_now = None
            if fate.what == "killed":
                self.dead = True
                raise Died
            if fate.what == "people act":
                self._aside(self._meanwhile)
            else:
                self.fate = "reset" if fate.what == "refused" else "timeout"
                return True
        if kind in self.cut:
            self.fate = "reset"
            return True
        return False

    def _aside(self, act: Callable[[], None]) -> None:
        """Do something that is not the acting process's own work."""
        self._acting = False
        try:
            act()
        finally:
            self._acting = True
