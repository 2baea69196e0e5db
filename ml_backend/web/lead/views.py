"""The views of the lead's page, in the order of the navigation."""

from __future__ import annotations

from flask import Flask

from ml_backend.loop.thumbnails import Thumbnails
from ml_backend.services import Services
from ml_backend.web.health import Health
from ml_backend.web.lead import again, changes, clips, finish, learning, page, people, pool_map, standing, versions


def answer_lead(app: Flask, services: Services, health: Health) -> None:
    """Add the lead's page to the app, at ``/lead/``."""
    lead = page.make(app, services, health)
    lead.view("standing", "Where we stand", standing.look)
    lead.view("learning", "Learning curve", learning.look)
    lead.view("versions", "Versions", versions.look)
    lead.view("people", "People", people.look)
    lead.view("again", "Look again", again.look)
    lead.view("clips", "Clips", clips.look)
    lead.view("map", "Map of the pool", pool_map.look)
    lead.view("finish", "Finish", finish.look)
    number = f"<int(max={finish.LARGEST}):number>"
    lead.at(f"/certificate/{number}", "certificate", finish.certificate)
    lead.at(f"/certificate/{number}/record", "record", finish.record)
    picture = again.frames(Thumbnails(services.quick_fetcher))
    lead.at(f"/frame/<int(max={again.LARGEST}):task>", "frame", picture)
    lead.at("/clip", "clip", clips.sheet)
    lead.at("/confirm", "confirm", changes.confirm)
    lead.at("/change", "change", changes.change, change=True)
    app.register_blueprint(lead.blueprint)
