"""What other packages add to this one by entry points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from ml_backend.errors import SettingsError

STRATEGIES = "ml_backend.strategies"
BACKBONES = "ml_backend.backbones"
T = TypeVar("T")


class Registry(Mapping[str, T]):
    """The ``built_in`` objects by name, and behind them those that the entry points of a ``group`` add.

    Which there are is looked up once; each is imported only when it is asked for. Raises SettingsError for one that
    cannot be imported, and for a name that is given twice.
    """

    def __init__(self, group: str, built_in: Mapping[str, T]) -> None:
        self.group = group
        self._built_in = built_in

    @cached_property
    def _added(self) -> dict[str, list[EntryPoint]]:
        added: dict[str, list[EntryPoint]] = {}
        for one in sorted(entry_points(group=self.group), key=lambda one: (one.name, one.value)):
            added.setdefault(one.name, []).append(one)
        return added

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._built_in, *self._added]))

    def __len__(self) -> int:
        return len(set(self))

    def __contains__(self, name: object) -> bool:
        return name in self._built_in or name in self._added

    def __getitem__(self, name: str) -> T:
        added = [one.value for one in self._added.get(name, [])]
        if len(added) + (name in self._built_in) > 1:
            raise SettingsError(f"{name!r} of {self.group} is given twice ({', '.join(added)}): remove one package")
        if name in self._built_in:
            return self._built_in[name]
        (one,) = self._added[name]
        try:
            loaded: T = one.load()
        except Exception as error:  # whatever a package of others raises while it is imported
            raise SettingsError(f"{name!r} of {self.group} ({added[0]}) cannot be imported: {error!r}") from error
        return loaded
