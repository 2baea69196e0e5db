"""An annotator's session with the keyboard alone, in a real Label Studio with our backend, worker and sidecar."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pytest
from playwright.sync_api import Page, TimeoutError, expect

from ml_backend.setup.evidence import PANEL, with_panel
from ml_backend.setup.label_configuration import render
from ml_backend.studio.configuration import NONE_OF_THESE, NOT_ASSESSABLE, Configuration
from scripts.browser import FRAME_SHOWN, label_all_tasks, log_in
from tests.stack import Stack, running_stack
from tests.studio_server import StudioServer

K_MAX = 6
TASKS = 20
NONE, UNSURE = "5", "0"
COLLEAGUE, SECRET = "colleague@example.com", "phantom-frames-too"


@pytest.fixture(scope="module")
def stack(studio_server: StudioServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    xml = with_panel(Configuration.parse(render(require_answer=True)), "evidence")
    with running_stack(studio_server, tmp_path_factory.mktemp("session"), xml, "*.mp4", k_max=K_MAX) as made:
        made.order(None)
        yield made


@dataclass
class Annotator:
    """A person at the labelling page who knows the right answer for every frame."""

    page: Page
    stack: Stack
    answered: list[int] = field(default_factory=list)

    def begin(self, email: str, password: str) -> None:
        log_in(self.page, self.stack.server.url, email, password)
        label_all_tasks(self.page, self.stack.server.url, self.stack.project)

    @cached_property
    def clip_of(self) -> dict[int, str]:
        return {task.id: str(task.data["clip"]) for task in self.stack.services.studio.tasks(self.stack.project)}

    @property
    def task(self) -> int:
        """The ID of the task on the page."""
        return int(self.page.locator(".lsf-current-task__task-id").inner_text().split()[0])

    @property
    def ticked(self) -> set[str]:
        """The names of the ticked symptoms and other answers."""
        names = self.page.locator(".symptoms input:checked").evaluate_all("all => all.map(one => one.name)")
        return set(names)

    @property
    def suggestion(self) -> str:
        """The line that says how sure the suggestion is."""
        return self.page.locator(".certainty").inner_text().strip()

    @property
    def right(self) -> set[str]:
        """The names that should be ticked for the frame on the page."""
        labels = self.stack.truth[self.clip_of[self.task]]
        return set(self.stack.configuration.label_set.decode(labels)) or {NONE_OF_THESE.capitalize()}

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def correct(self) -> None:
        """Correct the ticks with their keys."""
        names = self.stack.configuration.label_names
        symptoms = self.ticked & set(names)
        self.press(*(str(names.index(name) + 1) for name in sorted(symptoms ^ (self.right & set(names)))))
        if not self.right & set(names) and self.ticked != self.right:
            self.press(NONE)
        expect(self.page.locator(".symptoms input:checked")).to_have_count(len(self.right))
        assert self.ticked == self.right

    def submit(self) -> int:
        """Submit the ticks and wait for the next frame. Return the answered task."""
        task = self.task
        self.press("Control+Enter")
        self.follows(task)
        self.answered.append(task)
        return task

    def follows(self, task: int) -> None:
        """Wait until the page shows a task other than this one, with its prediction."""
        expect(self.page.locator(".lsf-current-task__task-id")).not_to_have_text(re.compile(rf"^#?{task}\D"))
        self.page.locator(".certainty p, .certainty span").first.wait_for()

    def saved(self, task: int) -> list[dict[str, Any]]:
        """Return the annotations of a task from Label Studio."""
        answer = self.stack.studio.get(f"/api/tasks/{task}/annotations/").raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found


def choices(annotation: dict[str, Any]) -> dict[str, list[str]]:
    """What an annotation ticks, by control."""
    return {item["from_name"]: item["value"]["choices"] for item in annotation["result"] if item["type"] == "choices"}


def test_a_session_of_twenty_frames_by_keyboard_alone(stack: Stack, page: Page) -> None:
    one = Annotator(page, stack)
    one.begin(stack.server.username, stack.server.password)
    assert one.task == stack.current().tasks[0]
    assert one.stack.truth.keys() >= {one.clip_of[one.task]}
    expect(page.get_by_text(one.clip_of[one.task])).to_be_visible()  # where the frame is from
    _nothing_is_confirmed_by_mistake(one)
    for _ in range(K_MAX):
        assert "%" not in one.suggestion
        one.correct()
        one.submit()
    first = stack.version(after=None)
    stack.order(first.version)

    _what_cannot_be_judged_is_an_answer_of_its_own(one)
    _skip(one)
    _undo(one)
    suggested = 0
    while len(one.answered) < TASKS:
        if "%" in one.suggestion or "network" in one.suggestion:
            suggested += 1
            if suggested == 1:
                _open_evidence(one)
        one.correct()
        one.submit()
    assert suggested > TASKS // 4
    _update(one)
    keeps_certainty = stack.services.studio.version().startswith("1.20.")  # nothing reads it there
    for task in one.answered:
        (annotation,) = one.saved(task)
        assert annotation["lead_time"] > 0
        assert annotation["result"]
        assert keeps_certainty or "certainty" not in {item["from_name"] for item in annotation["result"]}


def _nothing_is_confirmed_by_mistake(one: Annotator) -> None:
    task = one.task
    assert one.ticked == set()
    one.press("Control+Enter")
    warning = one.page.get_by_role("dialog")
    expect(warning).to_contain_text(NOT_ASSESSABLE)
    expect(warning.locator(":focus")).to_have_count(1)  # before that, the warning does not hear keys
    one.press("Escape")
    expect(warning).to_be_hidden()
    assert one.task == task
    assert one.saved(task) == []


def _what_cannot_be_judged_is_an_answer_of_its_own(one: Annotator) -> None:
    names = one.stack.configuration.label_names
    one.press(*(str(names.index(name) + 1) for name in one.ticked & set(names)), UNSURE)
    assert one.ticked == {NOT_ASSESSABLE.capitalize()}
    (annotation,) = one.saved(one.submit())
    assert choices(annotation) == {"otherwise": [NOT_ASSESSABLE]}
    assert annotation["task"] not in one.stack.services.pending(one.stack.project).tasks()


def _skip(one: Annotator) -> None:
    task = one.task
    one.press("Control+Space")
    one.follows(task)
    answer = one.stack.studio.get(f"/api/tasks/{task}/").raise_for_status().json()
    assert (answer["cancelled_annotations"], answer["total_annotations"]) == (1, 0)


def _undo(one: Annotator) -> None:
    # Label Studio forgets what could be undone whenever it loads a picture, and it loads each several times.
    assert any(_is_undone(one) for _ in range(10))


def _is_undone(one: Annotator) -> bool:
    """Change a tick and undo that. Where it stays changed, change it back by its key."""
    before = one.ticked
    one.press("1")
    assert one.ticked != before
    one.press("Control+z")
    try:
        expect(one.page.locator(".symptoms input:checked")).to_have_count(len(before), timeout=2_000)
    except AssertionError:
        one.press("1")
        assert one.ticked == before
        return False
    return one.ticked == before


def _open_evidence(one: Annotator) -> None:
    one.page.get_by_text(PANEL).click()
    one.page.wait_for_function("() => [...document.images].some(one => one.naturalWidth === 920 && one.clientWidth)")
    one.page.get_by_text(PANEL).click()


def _update(one: Annotator) -> None:
    """Open an answered frame in the Data Manager and correct it."""
    task = one.answered[0]
    one.page.goto(f"{one.stack.server.url}/projects/{one.stack.project}/data?task={task}")
    one.page.wait_for_url("**tab=*")  # until it has its tab, the Data Manager may load the task once more
    one.page.wait_for_load_state("networkidle")
    one.page.locator("button", has_text="Update").wait_for()
    was = choices(one.saved(task)[0])
    expect(one.page.locator(".symptoms input:checked")).to_have_count(sum(map(len, was.values())))
    one.page.wait_for_function(FRAME_SHOWN)
    before = was.get("symptoms", [])
    names = one.stack.configuration.label_names
    added = next(name for name in names if name not in before)
    # The key does nothing while Label Studio remembers no change, and it forgets them whenever it loads a picture.
    assert any(_is_updated(one, added) for _ in range(10))
    (annotation,) = one.saved(task)
    assert set(choices(annotation)["symptoms"]) == {*before, added}


def _is_updated(one: Annotator, added: str) -> bool:
    """Tick a symptom and update the annotation. Where Label Studio sends nothing, take the tick back."""
    key = str(one.stack.configuration.label_names.index(added) + 1)
    tick = one.page.locator(f".symptoms input[name='{added}']")
    one.press(key)
    expect(tick).to_be_checked()
    try:
        with one.page.expect_request(
            lambda it: it.method == "PATCH" and "/annotations/" in it.url, timeout=5_000
        ) as sent:
            one.press("Control+Enter")
    except TimeoutError:
        one.press(key)
        expect(tick).not_to_be_checked()
        return False
    answer = sent.value.response()
    return answer is not None and answer.ok


def test_two_people_at_once_never_get_the_same_frame(stack: Stack, people: Callable[[], Page]) -> None:
    _sign_up(people(), stack)
    pair = [Annotator(people(), stack) for _ in range(2)]
    pair[0].begin(stack.server.username, stack.server.password)
    pair[1].begin(COLLEAGUE, SECRET)
    for _ in range(3):
        shown = [one.task for one in pair]
        assert shown[0] != shown[1]
        for one in pair:
            one.correct()
            one.press("Control+Enter")  # both submit at the same time
        for one, task in zip(pair, shown, strict=True):
            one.follows(task)
            assert len(one.saved(task)) == 1


def _sign_up(page: Page, stack: Stack) -> None:
    """Let a colleague sign up through an invitation link."""
    link = stack.studio.get("/api/invite").raise_for_status().json()["invite_url"]
    page.goto(f"{stack.server.url}{link}" if link.startswith("/") else link)
    page.locator("input[name=email]").fill(COLLEAGUE)
    page.locator("input[name=password]").fill(SECRET)
    page.locator("form button[type=submit]").click()
    page.wait_for_url(lambda url: "/signup" not in url)
