"""A team of four at work in a real Label Studio on PostgreSQL, and every fault done to the real installation.

The tests share one installation and run in their order; `make soak` repeats the same for as long as one likes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from ml_backend.errors import InvalidRequest
from ml_backend.setup.connect import connect
from soak import audit
from soak.faults import FAULTS, Fault, settle, suffer, train_the_rest, unseen
from soak.run import Result, judge, kill_and_recover
from soak.site import Site, running_site
from soak.team import Team

K_MAX = 8
TEAM_FRAMES = 300  # at most


@pytest.fixture(scope="module")
def site(label_studio_on_postgresql: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("soak"), 800, k_max=K_MAX) as running:
        running.importer().run(running.next_clips(TEAM_FRAMES + 60))
        connect(running.services, running.project, lambda line: None)
        yield running


@pytest.fixture(scope="module")
def team(site: Site) -> Team:
    return Team(site, 4)


def test_four_annotators_while_versions_change(site: Site, team: Team) -> None:
    settle(site)
    while len({serving.order.rpartition(".")[0] for serving in team.ledger.servings}) < 3:  # diversity, two versions
        team.confirm(K_MAX)
        # They go on as soon as the batch is learnt, while its order is pushed. Without the wait, four quick hands label
        # every frame before a busy machine has trained the second version.
        site.wait_for("a batch to be trained", lambda: len(unseen(site)) < K_MAX)
        assert team.ledger.confirmed() < TEAM_FRAMES, "no order came while they worked"
    assert audit.double_served(team.ledger) == []
    assert len({serving.annotator for serving in team.ledger.servings}) == 4
    settle(site)
    assert audit.wrong_batches(site.versions(), K_MAX) == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_loop_recovers_by_itself(site: Site, team: Team, fault: Fault) -> None:
    try:
        assert suffer(site, team, fault) > 0
    except InvalidRequest as error:  # a tool that is not installed
        pytest.skip(str(error))
    store = site.services.versions(site.project)
    assert store.active() in store.names()


@pytest.mark.parametrize("victim", ["backend", "sidecar", "label studio"])
def test_a_kill_at_any_moment(site: Site, team: Team, victim: str) -> None:
    assert kill_and_recover(site, team, victim, random.Random(1)) > 0


def test_after_all_that_nothing_is_lost_and_nothing_was_served_twice(site: Site, team: Team) -> None:
    settle(site)
    train_the_rest(site)
    result = Result()
    judge(site, team, result)
    assert result.problems == []
    assert (result.annotations_lost, result.double_served, result.out_of_order_otherwise) == (0, 0, 0)
    assert result.confirmed > K_MAX * len(FAULTS)
    assert result.versions > len(FAULTS)
