"""Markdown, notebook, figures, files: whole, escaped, the same every time."""

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from support.frameworks import require
from support.signals import EVIL, plan, signal, verdict

from fanwise.errors import ArgumentError
from fanwise.report.charts import charts
from fanwise.report.figures import figure
from fanwise.report.html import page
from fanwise.report.shown import ShownSignal
from fanwise.signal import Output

GOLDEN = """\
### ❌ The signal vanishes, forward and backward, from 'blocks.1.fc' on.

`fanwise check net.py:model`

- The signal shrinks by 0.4 a layer, for blocks.1.fc has a std of 0.01.
  **Fix:** fanwise.torch.init\\_(model, inputs, seed=0) draws them by he\\_normal. Predicted after \
it: a factor 1.

After `init_`: healthy: the rms changes by 1 from the first kernel to the last, the gradient's by \
1 on its way back.

| kernel | then | weights ÷ plan | rms → | rms → after | gradient ← | gradient ← after |
| --- | --- | ---: | ---: | ---: | ---: | ---: |
| blocks.0.fc | relu | 0.1 | 1 | 1 | 1×10⁻⁴ | 1 |
| blocks.1.fc | relu | 0.1 | 0.1 | 1 | 0.001 | 1 |
| blocks.2.fc | relu | 0.1 | 0.01 | 1 | 0.01 | 1 |
| blocks.3.fc | relu | 0.1 | 0.001 | 1 | 0.1 | 1 |
| blocks.4.fc | relu | 0.1 | 1×10⁻⁴ | 1 | 1 | 1 |
"""


class Tags(HTMLParser):
    """Tags that are open and closed in order, their attributes, and the text of each."""

    VOID = frozenset({"meta", "input", "line", "polyline", "br", "wbr"})

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.ids = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))


def sick(name=None):
    return signal(5, rate=0.1, **({"name": f"{name}{{}}"} if name else {}))


# --- Markdown -----------------------------------------------------------------------------------


def test_markdown_whole():
    assert sick().to_markdown(signal(5), target="net.py:model") == GOLDEN


def test_a_long_table_is_folded():
    assert "<details><summary>30 layers</summary>\n\n| kernel" in signal(30).to_markdown()
    assert "<details>" not in signal(12).to_markdown()
    assert signal(30).to_markdown().rstrip().endswith("</details>")


def test_markdown_takes_no_name_for_its_own():
    for line in sick(EVIL).to_markdown().splitlines():
        bare = re.sub(r"\\.", "", line)
        assert "<script" not in bare
        if line.startswith("|"):
            assert bare.count("|") == 6


def test_markdown_of_a_healthy_signal():
    text = signal(4).to_markdown()
    assert text.startswith("### ✅ The signal is healthy.\n\nThe rms changes by 1 from the first")
    assert "Fix" not in text


def test_markdown_of_nothing():
    assert ShownSignal((), ()).to_markdown() == (
        "### ✅ The signal is healthy.\n\nThere is no kernel to measure.\n\n"
    )


# --- the page as text ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, EVIL])
def test_the_page_is_well_formed(name, tmp_path):
    before, after = sick(name), signal(5)
    before.to_html(tmp_path / "r.html", after, plan=plan(5), target=EVIL)
    tags = Tags((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert len(tags.ids) == len(set(tags.ids))
    named = {v for _, a in tags.seen for k, v in a.items() if k in ("aria-labelledby", "for")}
    assert named <= set(tags.ids)
    assert sum(1 for tag, _ in tags.seen if tag == "script") == 3
    assert [tag for tag, _ in tags.seen if tag == "h1"] == ["h1"]
    assert [a for tag, a in tags.seen if tag == "html"] == [{"lang": "en"}]


def test_the_page_asks_for_nothing():
    text = page(sick(), signal(5), plan(5))
    tags = Tags(text)
    assert not [a for _, a in tags.seen if {"src", "href", "srcset", "style"} & a.keys()]
    assert "url(" not in text
    assert "@import" not in text
    policy = next(a["content"] for _, a in tags.seen if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_the_page_carries_the_licence_of_what_it_bundles():
    text = page(signal(3))
    assert "The MIT License (MIT)" in text
    assert "Copyright (c) 2022 Leon Sorokin" in text


def test_the_page_is_the_same_every_time():
    assert page(sick(), signal(5), plan(5)) == page(sick(), signal(5), plan(5))


def test_a_page_of_a_thousand_layers_is_below_three_megabytes():
    size = len(page(signal(1000, rate=0.99), signal(1000), plan(1000)).encode())
    assert size < 3_000_000


def test_a_page_of_nothing():
    assert "There is no kernel to measure." in page(ShownSignal((), ()))


def test_every_verdict_is_on_the_page():
    verdicts = verdict("a", "saturated", ""), verdict("b", "dead", "")
    found = replace(signal(3), verdicts=verdicts)
    text = page(found)
    for each in verdicts:
        assert each.cause in text
        assert each.after in text
    assert '<ol start="2">' in text


@pytest.mark.parametrize(("given", "text"), [
    (True, "At step 0: 9.2, after init_ 2.3. 10 equal logits give 2.3."),
    (False, "Expected at step 0: 9.2, after init_ 2.3. 10 equal logits give 2.3."),
])  # fmt: skip
def test_the_loss_is_told_against_chance(given, text):
    hot = replace(signal(3), output=Output(1.0, "head", 10, 9.2, given, 2.302585))
    assert text in page(hot, replace(signal(3), output=Output(1.0, "head", 10, 2.3, given, 2.3)))
    assert "Loss" not in page(signal(3))


# --- the notebook -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, EVIL])
def test_a_notebook_shows_a_signal(name):
    html = sick(name)._repr_html_()
    tags = Tags(html)
    assert "The signal vanishes" in html
    assert [tag for tag, _ in tags.seen].count("svg") == 2
    assert "<script>" not in html


def test_a_notebook_shows_a_plan_compactly():
    html = plan(100)._repr_html_()
    assert "200 parameters, 416,000 values drawn." in html
    assert html.count("<tr>") == 1 + 12 + 1
    assert "… 188 more …" in html
    assert plan(3)._repr_html_().count("<tr>") == 1 + 6


def test_a_notebook_shows_nothing_of_nothing():
    assert "<svg" not in ShownSignal((), ())._repr_html_()


# --- figures ------------------------------------------------------------------------------------


def test_a_figure_has_the_charts_lines():
    require("matplotlib")
    before, after = signal(30, rate=0.5), signal(30)
    made = figure(before, after)
    data = charts(before, after)
    assert len(made.axes) == len(data.charts) == 3
    for axes, chart in zip(made.axes, data.charts, strict=True):
        drawn = {line.get_label(): tuple(line.get_ydata()) for line in axes.get_lines()}
        for series in chart.series:
            assert drawn[series.label] == pytest.approx(series.values)
        assert axes.get_yscale() == "log"
        low, high = axes.get_ylim()
        assert high / low >= 99.9  # noise must not look like drift
    assert (
        made.get_suptitle() == "The signal vanishes, forward and backward, from 'blocks.1.fc' on."
    )


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"),
                                               ("pdf", b"%PDF")])  # fmt: skip
def test_a_figure_in_a_file_is_the_same_every_time(tmp_path, suffix, start):
    require("matplotlib")
    for name in ("a", "b"):
        signal(5, rate=0.5).plot(tmp_path / f"{name}.{suffix}", signal(5), title="Fig. 1")
    a, b = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("a", "b"))
    assert a == b
    assert a.startswith(start)
    if suffix == "svg":
        assert b"Fig. 1</text>" in a


def test_a_figure_of_nothing(tmp_path):
    require("matplotlib")
    ShownSignal((), ()).plot(tmp_path / "none.png")


def test_a_figure_in_no_format(tmp_path):
    with pytest.raises(ArgumentError) as error:
        signal(3).plot(tmp_path / "a.bmp")
    assert str(error.value) == (
        f"{tmp_path / 'a.bmp'} names no format of a figure: end it in one of .png, .svg, .pdf."
    )
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from fanwise.report.shown import ShownSignal\n"
        "from fanwise.errors import FanwiseError\n"
        "try: ShownSignal((), ()).plot('a.png')\n"
        "except FanwiseError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "figures need Matplotlib: pip install 'fanwise[report]'.\n"
