"""The requests that the stand-in answers, each as Label Studio answers it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from flask import Flask, Request, g, request

from soak.stand_in.project import Project, Refused
from soak.stand_in.records import Webhook
from soak.stand_in.state import RELEASE, State

Answer = tuple[Any, int]
Route = Callable[..., Callable[[Callable[..., Answer]], None]]


def add_routes(app: Flask, state: Callable[[], State], handled: Callable[[Callable[[], Answer]], Any]) -> None:
    """Let an app answer from the current state; ``handled`` is given the function that makes each answer."""

    def route(rule: str, *methods: str) -> Callable[[Callable[..., Answer]], None]:
        def add(view: Callable[..., Answer]) -> None:
            def answer(**arguments: int) -> Any:
                return handled(lambda: view(**arguments))

            app.add_url_rule(rule, f"{rule} {methods}", answer, methods=methods, strict_slashes=False)

        return add

    @route("/api/version/", "GET")
    def version() -> Answer:
        return {"release": RELEASE, "edition": "Community"}, 200

    @route("/api/current-user/whoami", "GET")
    def whoami() -> Answer:
        return g.user.shown(), 200

    @route("/api/users/", "GET")
    def users() -> Answer:
        return [one.shown() for one in state().users.values()], 200

    @route("/api/projects/", "POST")
    def create_project() -> Answer:
        return state().create_project(_json()).shown(), 201

    @route("/api/projects/counts/", "GET")
    def counts() -> Answer:
        wanted = {int(one) for one in request.args["ids"].split(",")}
        found = [one.counts() for number, one in state().projects.items() if number in wanted]
        return {"count": len(found), "next": None, "previous": None, "results": found}, 200

    @route("/api/projects/<int:number>/", "GET")
    def project(number: int) -> Answer:
        return state().project(number).shown(), 200

    @route("/api/projects/<int:number>/", "PATCH")
    def update_project(number: int) -> Answer:
        found = state().project(number)
        found.update(_json())
        return found.shown(), 200

    @route("/api/projects/<int:number>/import", "POST")
    def import_tasks(number: int) -> Answer:
        made = state().project(number).import_tasks(_json())
        return {"task_count": len(made), "task_ids": made, "annotation_count": 0, "predictions_count": 0}, 201

    @route("/api/projects/<int:number>/import/predictions", "POST")
    def import_predictions(number: int) -> Answer:
        return {"created": state().project(number).import_predictions(_json())}, 201

    @route("/api/projects/<int:number>/model-versions/", "GET")
    def versions(number: int) -> Answer:
        return state().project(number).versions(), 200

    @route("/api/projects/<int:number>/model-versions/", "DELETE")
    def delete_version(number: int) -> Answer:
        return {"deleted": state().project(number).delete_version(_json()["model_version"])}, 200

    @route("/api/projects/<int:number>/export", "GET")
    def export(number: int) -> Answer:
        found = state().project(number)
        everything = request.args.get("download_all_tasks") == "true"
        wanted = {int(one) for one in request.args.getlist("ids[]")} or set(found.tasks)
        tasks = [task for task in sorted(wanted & found.tasks.keys()) if everything or found.of(task)]
        return [_with_annotations(found, task) for task in tasks], 200

    @route("/api/tasks", "GET")
    def tasks() -> Answer:
        found = state().project(int(request.args["project"]))
        query = json.loads(request.args.get("query", "{}"))
        listed = found.listed(query.get("filters", {}).get("items", []))
        size, page = int(request.args.get("page_size", 100)), int(request.args.get("page", 1))
        full = request.args.get("fields") == "all"
        rows = [_with_annotations(found, task) if full else found.row(task) for task in listed[(page - 1) * size :]]
        return {"tasks": rows[:size], "total": len(listed), "total_annotations": 0, "total_predictions": 0}, 200

    @route("/api/tasks/<int:task>/", "GET")
    def task(task: int) -> Answer:
        found = state().of_task(task)
        predictions = [one.shown() for one in found.predictions.values() if one.task == task]
        return {**_with_annotations(found, task), "predictions": predictions}, 200

    @route("/api/tasks/<int:task>/", "PATCH")
    def update_task(task: int) -> Answer:
        found = state().of_task(task)
        found.tasks[task] = _json()["data"]
        return found.row(task), 200

    @route("/api/tasks/<int:task>/annotations/", "GET")
    def annotations(task: int) -> Answer:
        return [one.shown() for one in state().of_task(task).of(task)], 200

    @route("/api/tasks/<int:task>/annotations/", "POST")
    def annotate(task: int) -> Answer:
        return state().of_task(task).annotate(g.user.id, task, _json()).shown(), 201

    @route("/api/annotations/<int:number>/", "PATCH")
    def change(number: int) -> Answer:
        return state().of_annotation(number).change(g.user.id, number, _json()).shown(), 200

    @route("/api/annotations/<int:number>/", "DELETE")
    def delete_annotation(number: int) -> Answer:
        state().of_annotation(number).delete_annotation(number)
        return "", 204

    @route("/api/predictions/", "GET")
    def predictions() -> Answer:
        return [one.shown() for one in state().project(int(request.args["project"])).predictions.values()], 200

    @route("/api/predictions/<int:number>/", "GET")
    def prediction(number: int) -> Answer:
        return state().of_prediction(number).predictions[number].shown(), 200

    @route("/api/dm/actions/", "POST")
    def act() -> Answer:
        return _act(state().project(int(request.args["project"])), request)

    @route("/api/webhooks/", "GET")
    def webhooks() -> Answer:
        return [one.shown() for one in state().project(int(request.args["project"])).webhooks.values()], 200

    @route("/api/webhooks/", "POST")
    def create_webhook() -> Answer:
        one = Webhook(id=state().numbers.next("webhook"), **_json())
        state().project(one.project).webhooks[one.id] = one
        return one.shown(), 201

    @route("/api/webhooks/<int:number>/", "PATCH")
    def update_webhook(number: int) -> Answer:
        one = state().of_webhook(number).webhooks[number]
        for name, value in _json().items():
            setattr(one, name, value)
        return one.shown(), 200

    @route("/api/webhooks/<int:number>/", "DELETE")
    def delete_webhook(number: int) -> Answer:
        del state().of_webhook(number).webhooks[number]
        return "", 204

    for rule, table in KEPT.items():
        _add_kept(route, state, rule, table)


KEPT = {
    "/api/ml": "backends",
    "/api/storages/localfiles": "local storages",
    "/api/storages/s3": "bucket storages",
    "/api/dm/views": "tabs",
}


def _add_kept(route: Route, state: Callable[[], State], rule: str, table: str) -> None:
    """Answer for a table whose rows are only stored."""

    @route(f"{rule}/", "GET")
    def listed() -> Answer:
        wanted = int(request.args["project"])
        return [one for one in state().table(table).values() if one["project"] == wanted], 200

    @route(f"{rule}/", "POST")
    def create() -> Answer:
        number = state().numbers.next(table)
        state().table(table)[number] = {"id": number, "state": "CO", "error_message": None, **_json()}
        return state().table(table)[number], 201

    @route(f"{rule}/<int:number>/", "PATCH")
    def update(number: int) -> Answer:
        state().table(table)[number] |= _json()
        return state().table(table)[number], 200

    @route(f"{rule}/<int:number>/", "DELETE")
    def delete(number: int) -> Answer:
        state().table(table).pop(number, None)
        return "", 204


def _act(project: Project, asked: Request) -> Answer:
    """Run an action of the Data Manager."""
    action, body = asked.args["id"], _json() or {}
    if action == "next_task":
        task = project.next_task(g.user.id)
        if task is None:
            raise Refused(404, f"There are no tasks for {g.user.email}")
        shown = project.shown_prediction(task)
        return {**project.row(task), "annotations": [], "predictions": [shown.shown()] if shown else []}, 200
    chosen = body.get("selectedItems", {"all": True})
    left_out, included = set(chosen.get("excluded", [])), chosen.get("included", [])
    tasks = [task for task in sorted(project.tasks) if task not in left_out] if chosen.get("all") else included
    if action == "predictions_to_annotations":
        made = project.accept(g.user.id, tasks, body.get("model_version") or project.fields["model_version"])
        return {"response_code": 200, "detail": f"Created {made} annotations"}, 200
    if action == "delete_tasks":
        project.delete_tasks(tasks)
        return {"processed_items": len(tasks)}, 200
    raise Refused(404, f"no action {action}")


def _with_annotations(project: Project, task: int) -> dict[str, Any]:
    return {**project.row(task), "annotations": [one.shown() for one in project.of(task)]}


def _json() -> Any:
    return request.get_json(silent=True)
