"""What the stand-in keeps: the rows of a Label Studio's tables, as its API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

Result = list[dict[str, Any]]


@dataclass
class User:
    """Somebody with an access token."""

    id: int
    email: str
    token: str = field(repr=False)
    first_name: str = ""
    last_name: str = ""

    def shown(self) -> dict[str, Any]:
        """The row as the API sends it."""
        return {name: value for name, value in {**asdict(self), "username": self.email}.items() if name != "token"}


@dataclass
class Annotation:
    """A submitted or, if ``was_cancelled``, a skipped annotation; ``completed_by`` and ``updated_by`` are users.

    ``prediction`` is a copy of the prediction that the project showed at submission.
    """

    id: int
    task: int
    result: Result
    completed_by: int
    created_at: str
    updated_at: str
    updated_by: int | None = None
    was_cancelled: bool = False
    ground_truth: bool = False
    lead_time: float | None = None
    parent_prediction: int | None = None
    prediction: dict[str, Any] = field(default_factory=dict)

    def shown(self) -> dict[str, Any]:
        """The row as the API sends it."""
        return asdict(self)


@dataclass
class Prediction:
    """A prediction of one version for one task."""

    id: int
    task: int
    model_version: str
    score: float | None
    result: Result

    def shown(self) -> dict[str, Any]:
        """The row as the API sends it."""
        return asdict(self)


@dataclass
class Webhook:
    """An address that is told what happens in a project."""

    id: int
    project: int
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    actions: list[str] = field(default_factory=list)
    send_for_all_actions: bool = True
    send_payload: bool = True
    is_active: bool = True

    def wants(self, action: str) -> bool:
        """Whether it is told of an action."""
        return self.is_active and (self.send_for_all_actions or action in self.actions)

    def shown(self) -> dict[str, Any]:
        """The row as the API sends it."""
        return asdict(self)


@dataclass
class Delivery:
    """One call of a webhook that Label Studio makes, or loses."""

    webhook: Webhook
    action: str
    payload: Mapping[str, Any]
