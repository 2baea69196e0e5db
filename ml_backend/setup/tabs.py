"""Tabs that the backend adds to the Data Manager for leads. Other tabs are never touched."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ml_backend.services import Services
from ml_backend.setup.findings import Finding
from ml_backend.studio.tabs import Tab, same

MARK = "tsal: "
"""Prefix of the titles of our tabs."""
SUSPECTS = f"{MARK}look again"
MOST = 50
"""Maximum number of tasks that a tab lists by ID. Each is a separate filter, which people can see and remove."""


def checked(services: Services, project: int) -> Iterator[Finding]:
    """Report which of our tabs are missing or out of date."""
    there = services.studio.tabs(project)
    for tab in wanted(services, project):
        number, content = there.get(tab.title, (None, {}))
        if number is not None and same(tab, content):
            yield Finding("tabs", "ok", f"the Data Manager has the tab {tab.title!r}")
        else:
            put = partial(services.studio.put_tab, project, tab, number)
            what = f"the Data Manager's tab {tab.title!r}"
            if number is None:
                yield Finding("tabs", "change", f"add {what}", put)
            else:  # only a note: every refresh makes the tab out of date again
                yield Finding("tabs", "note", f"update {what}", put)


def wanted(services: Services, project: int) -> Iterator[Tab]:
    """Yield our tabs as they should be now, except the tab of suspects, which `tsal suspects` writes."""
    hidden = _hidden(services)
    yield Tab(f"{MARK}next in the queue", unlabelled=True, order="tasks:predictions_score", hidden=hidden)
    yield Tab(f"{MARK}least sure", least_sure(services, project), hidden=hidden)
    unseen = {one.task for one in services.studio.confirmed_annotations(project) if one.accepted_unseen}
    yield Tab(f"{MARK}accepted unseen", tuple(sorted(unseen)[:MOST]), hidden=hidden)
    yield Tab(f"{MARK}by clip", order=f"tasks:data.{services.data_keys.clip}", hidden=hidden)


def put_suspects(services: Services, project: int, tasks: list[int]) -> None:
    """Write the tab of suspects; ``tasks`` are sorted, the most suspect first."""
    number, _ = services.studio.tabs(project).get(SUSPECTS, (None, {}))
    services.studio.put_tab(project, Tab(SUSPECTS, tuple(sorted(tasks[:MOST])), hidden=_hidden(services)), number)


def least_sure(services: Services, project: int) -> tuple[int, ...]:
    """Return the tasks of the served order with the least sure suggestions, sorted by ID."""
    order = services.orders(project).current()
    if order is None or order.told is None:
        return ()
    told = np.flatnonzero(~np.isnan(order.told.confidence))
    first = told[np.argsort(order.told.confidence[told], kind="stable")[:MOST]]
    return tuple(sorted(order.tasks[first].tolist()))


def _hidden(services: Services) -> tuple[str, ...]:
    """Return the columns to hide: useless or redundant for a lead, or misleading (a score is a place in the queue)."""
    data = ("frame", "source", services.data_keys.time, services.evidence_addresses.key)
    own = (
        "inner_id annotations_results annotations_ids predictions_score predictions_model_versions predictions_results "
        "total_predictions file_upload storage_filename created_at updated_at updated_by avg_lead_time draft_exists"
    )
    return (*(f"tasks:data.{key}" for key in data), *(f"tasks:{name}" for name in own.split()))
