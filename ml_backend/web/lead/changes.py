"""Changes that a lead can make: each is confirmed on a page first, and a worker carries it out."""

from __future__ import annotations

from collections.abc import Mapping

from flask import redirect, request, url_for
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ml_backend.errors import InvalidRequest, VersionUnknown
from ml_backend.loop import asked
from ml_backend.loop.asked import What
from ml_backend.web.lead.page import Answer, Seen

VIEW_OF: dict[str, str] = {"activate": "versions", "rollback": "versions", "begin": "finish", "give up": "finish"}


class Wish(BaseModel):
    """A form's request; ``expected`` is the version that was active when the form was shown, empty for none."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    what: What
    version: str = Field("", max_length=100)
    expected: str = Field("", max_length=100)
    error: float = Field(3.0, gt=0, lt=100, allow_inf_nan=False)
    confidence: float = Field(95.0, gt=0, lt=100, allow_inf_nan=False)


def confirm(seen: Seen) -> Answer:
    """Show what will happen, and ask for confirmation."""
    wish = _wish(request.args)
    store = seen.services.versions(seen.project)
    if wish.what == "rollback":
        before = store.before()
        if before is None:
            raise VersionUnknown("No other version was active before this one: there is nothing to go back to.")
        wish = wish.model_copy(update={"version": before})
    manifest = store.get(wish.version) if wish.version else None
    if wish.what == "activate" and manifest is None:
        raise InvalidRequest("Give the name of a version.")
    return seen.render(
        "confirm.html",
        wish=wish,
        manifest=manifest,
        active=store.active() or "",
        audit=seen.services.finishes(seen.project).open(),
        back=VIEW_OF[wish.what],
    )


def change(seen: Seen) -> Answer:
    """Hand the change to a worker, and return to the view."""
    wish = _wish(request.form)
    values: dict[str, object] = {}
    if wish.version:
        values = {"version": wish.version, "expected": wish.expected or None}
        seen.services.versions(seen.project).get(wish.version)  # refuse an unknown name at once
    if wish.what in ("activate", "rollback") and not wish.version:
        raise InvalidRequest("Give the name of a version.")
    if wish.what == "begin":
        values = {"epsilon": wish.error / 100, "confidence": wish.confidence / 100}
    asked.ask(seen.services, seen.project, wish.what, f"{seen.who.name} (page)", **values)
    return redirect(url_for(f"lead.{VIEW_OF[wish.what]}", project=seen.project))


def _wish(form: Mapping[str, str]) -> Wish:
    try:
        return Wish.model_validate(dict(form))
    except ValidationError as error:
        raise InvalidRequest.of(error) from None
