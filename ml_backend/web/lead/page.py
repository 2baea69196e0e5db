"""The framework of the lead's page: login, navigation, security headers and errors. Each view has its own module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from threading import Lock

from flask import Blueprint, Flask, Response, abort, g, redirect, render_template, request, session, url_for
from flask_wtf.csrf import CSRFError, CSRFProtect
from redis.exceptions import RedisError
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from ml_backend.errors import BackendError
from ml_backend.loop import asked
from ml_backend.loop.asked import Asked
from ml_backend.services import Services
from ml_backend.settings import Settings
from ml_backend.store.census import Census
from ml_backend.store.overviews import Overview
from ml_backend.web.access import sent_names
from ml_backend.web.attempts import Attempts
from ml_backend.web.health import Health
from ml_backend.web.lead import shown
from ml_backend.web.lead.access import Visitor, log_in, signing_key, visitor

SESSION = timedelta(hours=12)
LARGEST_PROJECT = 2**31 - 1
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
PROJECT = f"/<int(max={LARGEST_PROJECT}):project>"
"""The URL segment that names a project."""
# Annotators' requests run in the same process, so at most one thread renders pages.
_ONE_AT_A_TIME = Lock()
Answer = str | Response | AnyResponse
View = Callable[["Seen"], Answer]


@dataclass(frozen=True)
class Seen:
    """What a view of one project works with: the services, the visitor, and the sidecar's overview."""

    services: Services
    health: Health
    project: int
    who: Visitor

    @property
    def settings(self) -> Settings:
        """The settings."""
        return self.services.settings

    @property
    def studio(self) -> str:
        """The address of Label Studio as the visitor's browser sees it."""
        return (self.settings.label_studio_public_url or self.settings.label_studio_url).rstrip("/")

    @cached_property
    def overview(self) -> Overview | None:
        """The latest overview, None before the first."""
        return self.services.overviews(self.project).read()

    @cached_property
    def census(self) -> Census | None:
        """The latest census, None before the first."""
        return self.services.census(self.project).read()

    def asked(self) -> Asked | None:
        """Return the last request of a lead; None where there is none or Redis does not answer."""
        try:
            return asked.last(self.services, self.project)
        except (BackendError, RedisError):
            return None

    def render(self, template: str, **values: object) -> str:
        """Render a view's template, which extends ``lead/project.html``."""
        with _ONE_AT_A_TIME:
            return render_template(f"lead/{template}", seen=self, overview=self.overview, **values)


@dataclass
class Lead:
    """The page: its blueprint, and its views in the order of the navigation."""

    blueprint: Blueprint
    services: Services
    health: Health
    attempts: Attempts
    views: dict[str, str]

    def view(self, name: str, title: str, look: View) -> None:
        """Add a view to the navigation, at ``/lead/PROJECT/name``."""
        self.views[name] = title
        self.at(f"/{name}", name, look)

    def at(self, path: str, endpoint: str, look: Callable[..., Answer], change: bool = False) -> None:
        """Add an address below a project; with ``change`` it takes only POST, and only from a lead."""

        def answer(project: int, **values: object) -> Answer:
            return look(self.seen(project, change), **values)

        methods = ["POST"] if change else ["GET"]
        self.blueprint.add_url_rule(f"{PROJECT}{path}", endpoint, answer, methods=methods)

    def seen(self, project: int, change: bool = False) -> Seen:
        """Return what a view works with. Abort the request for an unknown project or a missing right."""
        who: Visitor = g.visitor
        if change and not who.may_change:
            abort(403, "This login is read-only.")
        if project not in self.services.projects():
            abort(404, "There is no such project.")
        return Seen(self.services, self.health, project, who)


def make(app: Flask, services: Services, health: Health) -> Lead:
    """Make the page without its views; add them before the blueprint is registered."""
    blueprint = Blueprint("lead", __name__, url_prefix="/lead", template_folder="templates", static_folder="static")
    lead = Lead(blueprint, services, health, Attempts(), {})
    app.secret_key = signing_key(services.settings)
    app.config.update(
        SESSION_COOKIE_NAME="tsal_lead",
        SESSION_COOKIE_PATH="/lead",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=services.settings.backend_url.startswith("https://"),
        PERMANENT_SESSION_LIFETIME=SESSION,
        WTF_CSRF_CHECK_DEFAULT=False,  # Label Studio's own calls have no session
        WTF_CSRF_TIME_LIMIT=None,  # valid as long as the session
    )
    csrf = CSRFProtect(app)
    blueprint.before_request(lambda: _let_in(lead, csrf))
    blueprint.after_request(_secure)
    blueprint.context_processor(lambda: {"views": lead.views, "visitor": g.get("visitor"), "shown": shown})
    _answer_people(lead)
    _answer_errors(blueprint)
    return lead


def _let_in(lead: Lead, csrf: CSRFProtect) -> Answer | None:
    """Identify the visitor; redirect to the login whoever has not logged in."""
    g.visitor = None
    if request.endpoint == "lead.static":
        return None
    g.visitor = visitor(request, lead.services.settings) or _by_header(lead)
    csrf.protect()
    if g.visitor is not None or request.endpoint == "lead.login":
        return None
    if lead.services.settings.basic_auth_user is None:
        abort(403, "Set TSAL_BASIC_AUTH_USER and TSAL_BASIC_AUTH_PASSWORD to open this page from another machine.")
    return redirect(url_for("lead.login", next=request.full_path.removesuffix("?")))


def _by_header(lead: Lead) -> Visitor | None:
    name, password = sent_names(request)
    return _tried(lead, name, password or "") if name else None


def _tried(lead: Lead, name: str, password: str) -> Visitor | None:
    """Check a name and a password; refuse to if this address has sent too many wrong ones."""
    address = request.remote_addr or ""
    wait = lead.attempts.wait(address)
    if wait:
        abort(Response(f"Too many wrong passwords; try again in {wait:.0f} s.", 429, {"Retry-After": f"{wait:.0f}"}))
    found = log_in(lead.services.settings, name, password)
    if found is None:
        lead.attempts.fail(address)
    return found


def _answer_people(lead: Lead) -> None:
    blueprint = lead.blueprint

    @blueprint.get("/")
    def projects() -> Answer:
        known = {number: lead.services.overviews(number).read() for number in lead.services.projects()}
        return render_template("lead/projects.html", projects=known)

    @blueprint.get(f"{PROJECT}/")
    def project(project: int) -> Answer:
        lead.seen(project)
        return redirect(url_for(f"lead.{next(iter(lead.views))}", project=project))

    @blueprint.route("/login", methods=["GET", "POST"])
    def login() -> Answer:
        if request.method == "GET":
            return render_template("lead/login.html", next=_inside(request.args.get("next")), wrong=False)
        wanted = _inside(request.form.get("next"))
        found = _tried(lead, request.form.get("name", ""), request.form.get("password", ""))
        if found is None:
            return Response(render_template("lead/login.html", next=wanted, wrong=True), 401)
        session.clear()  # prevent session fixation
        session.permanent = True
        session.update(name=found.name, role=found.role)
        return redirect(wanted)

    @blueprint.post("/logout")
    def logout() -> Answer:
        session.clear()
        return redirect(url_for("lead.login"))


def _inside(address: str | None) -> str:
    """Return the address if it belongs to this page, else that of the front page."""
    safe = address and address.startswith("/lead/") and address.isascii() and address.isprintable()
    return address if safe and address else url_for("lead.projects")


def _answer_errors(blueprint: Blueprint) -> None:
    def page(status: int, said: str) -> tuple[str, int]:
        return render_template("lead/error.html", said=said), status

    @blueprint.errorhandler(CSRFError)
    def forged(error: CSRFError) -> tuple[str, int]:
        return page(400, "This form has expired, or was not sent from this page. Go back, reload and try again.")

    @blueprint.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> AnyResponse | tuple[str, int]:
        if isinstance(error.response, AnyResponse):
            return error.response
        return page(error.code or 500, error.description or error.name)

    @blueprint.errorhandler(BackendError)
    def refused(error: BackendError) -> tuple[str, int]:
        return page(error.http_status, str(error))

    @blueprint.errorhandler(RedisError)
    def no_redis(error: RedisError) -> tuple[str, int]:
        return page(503, "Redis does not answer, so no changes can be made now.")


def _secure(response: Response) -> Response:
    headers = response.headers
    headers.setdefault("Content-Security-Policy", POLICY)
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"
    if request.endpoint != "lead.static":
        headers["Cache-Control"] = "no-store"
    return response
