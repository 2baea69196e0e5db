"""The page of a finish that a person reads: what was asked, what is certain, and what would make it void."""

from __future__ import annotations

from html import escape

from ml_backend.store.finishes import Finish

_STYLE = "body{font:17px/1.5 sans-serif;max-width:44em;margin:3em auto;padding:0 1em}td{padding:.2em 1em .2em 0}"


def page_of(project: int, finish: Finish) -> str:
    """Write the page, HTML that needs nothing from outside."""
    title = f"Project {project}: certificate {finish.number}"
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in _facts(finish))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p><strong>{escape(summary_of(finish))}</strong></p><table>{rows}</table>"
        "<p>The audit frames were drawn at random, and the draw was recorded before anybody answered. The statement "
        "rests on that alone: it holds however good the machine is and however alike the frames are. It is void if "
        "frames come or go, or if an answer that it rests on is changed or deleted.</p></html>\n"
    )


def summary_of(finish: Finish) -> str:
    """What a finish says, in a sentence or two."""
    if finish.state == "void":
        return f"This certificate is void: {finish.void}."
    if finish.outcome is None:
        return f"The audit of {len(finish.drawn)} frames is being answered; nothing is certified yet."
    found = finish.outcome
    share, sure = f"{100 * finish.epsilon:g}%", f"{100 * finish.confidence:g}%"
    text = (
        f"{found.by_people} frames were labelled by people, and {found.by_machine} keep the machine's label. With "
        f"{sure} confidence at most {found.at_most_wrong} of the {finish.pool} frames "
        f"({100 * found.at_most_share:.1f}%, within the {share} asked for) are wrong."
    )
    if found.to_people:
        text += f" {found.to_people} frames go to people: they stand first in the queue."
    if not found.by_machine:
        text += f" This audit would have let some labels stand at {100 * found.share_for_any:.1f}%: ask for that anew."
    return text


def _facts(finish: Finish) -> list[tuple[str, str]]:
    facts = [
        ("Drawn", f"{len(finish.drawn)} of {finish.pool - finish.people} frames, at {finish.drawn_at or '-'}"),
        ("Without ticks", str(len(finish.blind))),
        ("Version", finish.version or "none: the memory alone"),
        ("Error asked for", f"{100 * finish.epsilon:g}% of {finish.pool} frames"),
        ("Confidence", f"{100 * finish.confidence:g}%; this draw spends {finish.alpha:.4f} of the rest"),
        ("Frames left out: unreadable, or with answers that do not count", str(len(finish.outside))),
        ("Symptoms", ", ".join(finish.symptoms)),
    ]
    if finish.outcome is not None:
        facts.append(("Wrong in the audit", f"{finish.outcome.wrong_in_audit} of {len(finish.drawn)}"))
    return facts
