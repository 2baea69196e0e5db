"""Phantoms that breathe: their findings come and go with the breath and with the probe, with exact labels per frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ml_backend.phantom import fields
from ml_backend.phantom.echoes import NOTHING, Clip, checked
from ml_backend.phantom.fields import Array
from ml_backend.phantom.findings import Basal, Comets, Fluid, Lesion, Reverberation, window_between
from ml_backend.phantom.motion import ANYWHERE, MOST_TAILS, Course, Swing, View, drawn
from ml_backend.phantom.patients import Patient

STILL = 0.1  # of the clips: breath held, probe at rest
SWEPT = 0.7  # of the others: the probe moves
LOW = 0.5  # of the places under a convex probe: effusion is seen above the diaphragm
TRAVEL = 0.3  # of the field's half width: how far the probe moves along the pleural line
EDGE = 0.9  # of the field's half width: beyond it little is to be seen
FAINTEST = 0.4  # of a finding where it shows best
IN, OUT = 1.0, -1.0


class BreathingClip(Clip):
    """One place on one person's chest while the person breathes and the probe moves.

    ``labels`` are the findings of the place. Each shows in windows of its own, of the breath and of the probe's way:
    `view` says what is drawn at a time, `labels_at` which symptoms that are. How deep the breath is and in which half
    of it a finding shows are the patient's, all else is the clip's. Each finding has its own random numbers, so that a
    clip without it is the same in everything else; only A-lines depend on the others, which cover them.
    """

    def __init__(self, person: Patient, labels: Sequence[int], seed: int) -> None:
        super().__init__(person, NOTHING, seed)
        self.labels = checked(labels)
        traits = np.random.default_rng([person.seed, 5])
        depth = traits.uniform(0.6, 1.0)
        sides = traits.choice([IN, OUT], 2)
        rng, *own = (np.random.default_rng([seed, person.seed, 6, number]) for number in range(5))
        still, swept, low = rng.random(3) < (STILL, SWEPT, LOW * (person.probe.kind == "convex"))
        moving = bool(swept and not still)
        self._probe = Swing(moving * rng.uniform(0.6, 1.0), rng.uniform(5, 12), rng.uniform(0, 2 * np.pi))
        self._breath = replace(self._breath, reach=0.0 if still else depth)
        self._travel = TRAVEL * self._half
        if low:
            self._ribs = []
            self._window = window_between([], self._half, rng)
        a_line, b_line, lesion, effusion = self.labels
        self._reverberation = Reverberation(own[0], self._window, person) if a_line else None
        self._comets = Comets(own[1], self._window) if b_line else None
        self._lesion = Lesion(own[2], self._window) if lesion else None
        self._basal = Basal(own[3], person, self._half) if effusion and low else None
        self._fluid = Fluid(own[3], person) if effusion and not low else None
        self._a_line_course = _courses(own[0], 1, IN, (0.7, 0.0, 0.3, 0.0), moving)[0]
        self._tail_courses = _courses(own[1], MOST_TAILS, sides[0], (0.1, 0.5, 0.2, 0.2), moving)
        self._lesion_course = _courses(own[2], 1, sides[1], (0.1, 0.3, 0.4, 0.2), moving)[0]
        # Lung that fills comes between the probe and the fluid, so effusion is seen when the breath is out.
        self._effusion_course = _courses(own[3], 1, OUT, (0.1, 0.6, 0.1, 0.2), moving)[0]

    def view(self, time: float) -> View:
        """What is to be seen at a time in seconds."""
        breath, place = self._breath.at(time), self._probe.at(time)
        moved = place * self._travel
        slid = self.person.slide * breath - moved
        effusion = drawn(self._effusion_course.strength(breath, place)) if self.labels[3] else 0.0
        passing = self._passing(moved, effusion)
        tails: tuple[float, ...] = ()
        if self._comets:
            passes = self._at(self._comets.centres + slid, passing) * self._comets.strengths
            courses = zip(self._tail_courses, passes, strict=False)
            tails = tuple(drawn(course.strength(breath, place), part) for course, part in courses)
        lesion = 0.0
        if self._lesion:
            lesion = drawn(
                self._lesion_course.strength(breath, place), self._at(self._lesion.centres + slid, passing).max()
            )
        a_line = 0.0
        if self._reverberation:
            free = (1 - lesion) * (1 - effusion) * (1 - self._covered(tails, slid, passing))
            a_line = drawn(self._a_line_course.strength(breath, place) * free)
        return View(breath, moved, a_line, tails, lesion, effusion)

    def _passing(self, moved: float, effusion: float) -> Array:
        """How much of the lung's surface each beam shows, (1, beams), 0 to 1: between the ribs and beside the fluid."""
        passing = fields.step(fields.single(EDGE - np.abs(self._x) / self._half), 0.05)
        for rib in self._ribs:
            passing = passing * (1 - rib.over(self._x + moved))
        if self._basal and effusion:
            passing = passing * self._basal.curtain(self._x, effusion)
        return passing

    def _at(self, places: NDArray[np.float64], passing: Array) -> NDArray[np.float64]:
        return np.asarray(np.interp(places, self._x[0], passing[0], left=0.0, right=0.0))

    def _covered(self, tails: Sequence[float], slid: float, passing: Array) -> float:
        """How much of what could be A-lines B-lines erase, 0 to 1."""
        if not self._comets or not any(tails):
            return 0.0
        erased = np.clip(1.5 * self._comets.profile(self._x - slid, tails), 0, 1) * passing
        return float(erased.sum() / passing.sum())


def _courses(rng: np.random.Generator, count: int, half: float, chances: Sequence[float], moving: bool) -> list[Course]:
    """When each part of a finding is seen, all in the same manner, drawn with these ``chances``: always, in one
    ``half`` of the breath, on a stretch of the probe's way, or where both meet."""
    manner = rng.choice(("always", "breath", "place", "both"), p=chances)
    if manner == "place" and not moving:
        manner = "breath"
    courses = []
    parts = rng.uniform((-0.4, -0.6, 0.3, FAINTEST), (0.4, 0.6, 0.7, 1.0), (count, 4))
    for turn, middle, reach, most in parts.tolist():
        breath = (turn, np.inf) if half == IN else (-np.inf, turn)
        place = (middle - reach, middle + reach) if moving else ANYWHERE
        courses.append(
            Course(
                breath if manner in ("breath", "both") else ANYWHERE,
                place if manner in ("place", "both") else ANYWHERE,
                most,
            )
        )
    return courses
