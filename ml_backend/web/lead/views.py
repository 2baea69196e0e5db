"""The views of the lead's page, in the order of the navigation."""

from __future__ import annotations

from flask import Flask

from ml_backend.services import Services
from ml_backend.web.health import Health
from ml_backend.web.lead import page, standing


def answer_lead(app: Flask, services: Services, health: Health) -> None:
    """Answer the lead's page at ``/lead/``."""
    lead = page.make(app, services, health)
    lead.view("standing", "Where we stand", standing.look)
    app.register_blueprint(lead.blueprint)
