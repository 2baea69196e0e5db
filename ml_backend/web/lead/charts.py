"""Draw charts as SVG without scripts or styles; the page's stylesheet colours them, for light and dark."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

import pygal
from markupsafe import Markup, escape

from ml_backend.store.overviews import Measure

# pygal looks for its plugins through an import hook of a kind that Python has deprecated: every import would warn.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]

WIDTH, HEIGHT = 760, 300
LABELS = 12
"""Maximum number of labels under the x axis."""


Points = tuple[tuple[float, float], ...]
Shares = tuple[Measure | None, ...]
# Drawing a chart takes longer than the rest of a view, and its data rarely changes.
_kept = lru_cache(maxsize=64)


@_kept
def measures(about: str, names: tuple[str, ...], lines: tuple[tuple[str, Shares], ...]) -> Markup:
    """Draw lines of shares with their intervals over ``names``, such as versions.

    ``about`` describes the chart to those who cannot see it. The stylesheet draws the second line dashed.
    """
    chart = pygal.Line(**_options(), range=(0, 1), value_formatter=_percent)
    chart.x_labels = list(names)
    every = max(1, len(names) // LABELS)
    chart.x_labels_major = list(names)[::every]
    chart.show_minor_x_labels = False
    for name, values in lines:
        chart.add(name, [_point(one) for one in values])
    return _svg(chart, about)


@_kept
def curve(about: str, x_title: str, lines: tuple[tuple[str, Points], ...]) -> Markup:
    """Draw lines through points (x, y)."""
    chart = pygal.XY(**_options(), x_title=x_title, value_formatter=_number, x_value_formatter=_number)
    for name, points in lines:
        chart.add(name, list(points))
    return _svg(chart, about)


@_kept
def bars(about: str, names: tuple[str, ...], title: str, values: tuple[float, ...]) -> Markup:
    """Draw vertical bars over ``names``."""
    chart = pygal.Bar(**_options(), value_formatter=_number)
    chart.x_labels = list(names)
    every = max(1, len(names) // LABELS)
    chart.x_labels_major = list(names)[::every]
    chart.show_minor_x_labels = False
    chart.add(title, list(values))
    return _svg(chart, about)


def _options() -> dict[str, Any]:
    return {
        "js": [],
        "disable_xml_declaration": True,
        "width": WIDTH,
        "height": HEIGHT,
        "legend_at_bottom": True,
        "margin": 8,
        "dots_size": 4,
        "max_scale": 6,
        "no_data_text": "nothing measured yet",
    }


def _point(one: Measure | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {"value": one.value, "ci": {"low": one.low, "high": one.high}}


def _svg(chart: Any, about: str) -> Markup:
    """Render a chart without pygal's own style and script, which the page's security policy forbids."""
    chart.add_xml_filter(_plain)
    drawn = chart.render(is_unicode=True)
    return Markup('<div class="chart" role="img" aria-label="{}">{}</div>').format(
        escape(about),
        Markup(drawn),  # noqa: S704  pygal escapes every text
    )


def _plain(root: Any) -> Any:
    """Remove style, script and descriptions, and show values as tooltips."""
    for parent in list(root.iter()):
        for child in list(parent):
            kind = str(child.tag).rsplit("}", 1)[-1]
            if kind == "desc" and child.get("class") == "value":
                child.tag = "title"
            elif kind in ("style", "script", "desc") or (kind == "title" and parent is root):
                parent.remove(child)
        if isinstance(parent.tag, str):  # a comment has no attributes
            parent.attrib.pop("style", None)
    root.set("aria-hidden", "true")
    return root


def _percent(value: float) -> str:
    return f"{100 * value:.0f}%"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 or value == round(value) else f"{value:.2g}"
