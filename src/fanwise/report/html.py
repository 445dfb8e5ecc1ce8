"""One self-contained page of a signal and a plan: it opens from disk and asks the network nothing.

The charts are drawn by uPlot 1.6.32 (MIT), which is bundled: at 50 kB it is the smallest of the
well-kept plotting libraries, has logarithmic axes and cursors that move together over several
charts, and draws thousands of points without delay. Everything else is plain HTML, which is read
without scripts. The page's own security policy lets nothing run but its two scripts, and nothing
be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.metadata import version
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from fanwise.report.charts import charts
from fanwise.report.html_sections import (
    layer_section,
    layers_section,
    plan_section,
    signal_section,
)
from fanwise.report.numbers import number_text
from fanwise.report.payload import payload
from fanwise.report.sentences import headline, sentence

if TYPE_CHECKING:
    from fanwise.planning.plan import Plan
    from fanwise.signal import Output, Signal, Verdict


@cache
def _asset(name: str) -> str:
    return (files("fanwise.report") / "page" / name).read_text(encoding="utf-8")


def page(
    signal: Signal, after: Signal | None = None, plan: Plan | None = None, *, target: str = ""
) -> str:
    """Return a signal as a page of HTML; beside it the signal after a mend, and the plan.

    Args:
        signal: as it is.
        after: what `measure` gives after `init_`.
        plan: what `init_` draws.
        target: what was measured, for the title.
    """
    found = charts(signal, after)
    parts = [signal_section(found), layer_section(signal, after), layers_section(signal, after)]
    if plan is not None:
        parts.append(plan_section(plan))
    return filled(
        headline=headline(signal),
        target=target,
        good=signal.healthy,
        verdicts=_verdicts(signal, after),
        sections=parts,
        footer="The model was run forward and backward, without dropout; it is as it was before.",
        data=payload(signal, after, found),
    )


def filled(
    *,
    headline: str,
    target: str,
    good: bool,
    verdicts: str,
    sections: Sequence[str],
    footer: str,
    data: str,
) -> str:
    """Return the page's frame with these contents: HTML but for headline, target and footer.

    Args:
        headline: what was found, in a sentence.
        target: of what.
        good: whether it is well.
        verdicts: below the headline.
        sections: each a section element, or empty.
        footer: how it was found.
        data: what the script draws, as `payload` has it.
    """
    library, script = _asset("uPlot.min.js"), _asset("page.js")
    styles = _asset("uPlot.min.css") + _asset("page.css")
    return Template(_asset("page.html")).substitute(
        policy=(
            f"default-src 'none'; script-src {_digest(library)} {_digest(script)}; "
            f"style-src {_digest(styles)}"
        ),
        title=escape(f"{headline} {target}".strip()),
        licence=_asset("uPlot.LICENSE.txt").strip(),
        styles=styles,
        mood="good" if good else "bad",
        version=escape(version("fanwise")),
        target=escape(target),
        headline=escape(headline),
        verdicts=verdicts,
        sections="\n".join(part for part in sections if part),
        footer=escape(footer),
        data=data,
        library=library,
        script=script,
    )


def _digest(text: str) -> str:
    """Return a script's or a style's hash, by which the page's policy lets it in."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _prose(text: str) -> str:
    """Return a sentence as HTML, calls in it as code."""
    return re.sub(r"[\w.]+\([^()]*\)", lambda call: f"<code>{call[0]}</code>", escape(text))


def _verdict(verdict: Verdict) -> str:
    fix = " ".join(filter(None, (verdict.fix, verdict.after)))
    return (
        f"<p>{_prose(verdict.cause)}</p>\n"
        f'<p><span class="label">Fix</span>{_prose(fix)}</p>\n'
        f'<p><span class="label">Confidence</span>{verdict.confidence:.0%}</p>'
    )


def _verdicts(signal: Signal, after: Signal | None) -> str:
    parts = []
    if signal.verdicts:
        first, *others = signal.verdicts
        parts.append(_verdict(first))
        if others:
            items = "\n".join(
                f"<li><strong>{escape(sentence(v))}</strong>{_verdict(v)}</li>" for v in others
            )
            parts.append(f'<ol start="2">\n{items}\n</ol>')
    else:
        told = signal.overall
        parts.append(f"<p>{_prose(told[:1].upper() + told[1:])}</p>")
    if after is not None:
        more = f"Healthy: {after.overall}" if after.healthy else headline(after)
        parts.append(f'<p><span class="label">After init_</span>{_prose(more)}</p>')
    if signal.output is not None:
        parts.append(f'<p><span class="label">Loss</span>{_loss(signal.output, after)}</p>')
    return "\n".join(parts)


def _loss(output: Output, after: Signal | None) -> str:
    """Return how the first loss compares with chance."""
    text = f"{'At step 0' if output.given else 'Expected at step 0'}: {number_text(output.loss)}"
    if after is not None and after.output is not None:
        text += f", after init_ {number_text(after.output.loss)}"
    return f"{text}. {output.classes} equal logits give {number_text(output.chance)}."
