"""The tabs of Label Studio's Data Manager."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ml_backend.studio.calls import Resource


@dataclass(frozen=True)
class Tab:
    """A list of tasks under a title.

    Either the tasks ``only`` or, where that is None, all of them; ``unlabelled``: without those that are annotated;
    ``order`` names the column to sort by (``-`` before it for the last first), and ``hidden`` the columns that are not
    shown.
    """

    title: str
    only: tuple[int, ...] | None = None
    unlabelled: bool = False
    order: str = "tasks:id"
    hidden: tuple[str, ...] = ()

    @property
    def data(self) -> dict[str, Any]:
        """The tab as Label Studio keeps it."""
        items = [_number("id", task) for task in self.only or ()]
        if self.only is not None and not items:
            items = [_number("id", 0)]  # no filter at all would show every task
        if self.unlabelled:
            items.append(_number("total_annotations", 0))
        return {
            "title": self.title,
            "type": "list",
            "target": "tasks",
            "filters": {"conjunction": "or" if self.only is not None else "and", "items": items},
            "ordering": [self.order],
            "hiddenColumns": {"explore": list(self.hidden), "labeling": list(self.hidden)},
        }


def _number(column: str, value: int) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{column}", "operator": "equal", "type": "Number", "value": value}


class Tabs(Resource):
    """Lists, makes and changes tabs."""

    def tabs(self, project: int) -> dict[str, tuple[int, dict[str, Any]]]:
        """The number and the content of each tab, by its title; of several with one title the first."""
        found = self._get(f"listing the tabs of project {project}", "api/dm/views/", project=project)
        return {one["data"].get("title", ""): (one["id"], one["data"]) for one in reversed(found)}

    def put_tab(self, project: int, tab: Tab, number: int | None) -> None:
        """Make a tab, or give the one with this number another content."""
        method, path = ("POST", "api/dm/views/") if number is None else ("PATCH", f"api/dm/views/{number}/")
        body = {"project": project, "data": tab.data}
        self._calls.write(
            f"writing the tab {tab.title!r} of project {project}", lambda: self._calls.request(method, path, json=body)
        )


def same(tab: Tab, there: dict[str, Any]) -> bool:
    """Whether a tab has this content already; what people add, such as widths of columns, does not matter."""
    wanted = tab.data
    return bool({name: there.get(name) for name in wanted} == wanted)
