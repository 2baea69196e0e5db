"""The tabs of Label Studio's Data Manager."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from typing import Any

from ml_backend.studio.calls import Resource


@dataclass(frozen=True)
class Tab:
    """A titled list of tasks.

    ``only``: the tasks to list, None for all; ``unlabelled``: leave out annotated tasks; ``having``: a key of the data
    and its text, to leave out tasks with another one; ``order``: the column to sort by, prefixed with ``-`` for
    descending order; ``hidden``: the columns to hide.
    """

    title: str
    only: tuple[int, ...] | None = None
    unlabelled: bool = False
    having: tuple[str, str] | None = None
    order: str = "tasks:id"
    hidden: tuple[str, ...] = ()

    @property
    def data(self) -> dict[str, Any]:
        """The tab as Label Studio stores it."""
        items = [_number("id", task) for task in self.only or ()]
        if self.only is not None and not items:
            items = [_number("id", 0)]  # without any filter, the tab would show every task
        if self.unlabelled:
            items.append(_number("total_annotations", 0))
        if self.having is not None:
            items.append(_equal(f"data.{self.having[0]}", "String", self.having[1]))
        return {
            "title": self.title,
            "type": "list",
            "target": "tasks",
            "filters": {"conjunction": "or" if self.only is not None else "and", "items": items},
            "ordering": [self.order],
            "hiddenColumns": {"explore": list(self.hidden), "labeling": list(self.hidden)},
        }

    def address(self, studio: str, project: int) -> str:
        """Return the address at which Label Studio (at ``studio``) shows this tab without saving it.

        Its Data Manager reads the content of an unsaved tab from the address, as JSON that is packed with gzip.
        """
        packed = gzip.compress(json.dumps(self.data).encode(), mtime=0)
        key = base64.urlsafe_b64encode(packed).decode().rstrip("=")
        return f"{studio}/projects/{project}/data?tab={key}"


def _number(column: str, value: int) -> dict[str, Any]:
    return _equal(column, "Number", value)


def _equal(column: str, kind: str, value: int | str) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{column}", "operator": "equal", "type": kind, "value": value}


class Tabs(Resource):
    """Lists, creates and changes tabs."""

    def tabs(self, project: int) -> dict[str, tuple[int, dict[str, Any]]]:
        """Return each tab's ID and content, by title; if several tabs share a title, the first."""
        found = self._get(f"listing the tabs of project {project}", "api/dm/views/", project=project)
        return {one["data"].get("title", ""): (one["id"], one["data"]) for one in reversed(found)}

    def put_tab(self, project: int, tab: Tab, number: int | None) -> None:
        """Create a tab, or replace the content of the tab with ID ``number``."""
        method, path = ("POST", "api/dm/views/") if number is None else ("PATCH", f"api/dm/views/{number}/")
        body = {"project": project, "data": tab.data}
        self._calls.write(
            f"writing the tab {tab.title!r} of project {project}", lambda: self._calls.request(method, path, json=body)
        )


def same(tab: Tab, there: dict[str, Any]) -> bool:
    """Return whether a tab already has this content, ignoring what people add, such as column widths."""
    wanted = tab.data
    return bool({name: there.get(name) for name in wanted} == wanted)
