"""The page of a transfer check: what it says without scripts, and in a headless Chromium."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest
from support.browser import DESKTOP, PHONE, complaints, look, requests
from support.signals import EVIL
from support.transfers import BAD, GOOD, check, drift

from fanwise.comparing.transfer import Axis
from fanwise.report.svg_lines import HEIGHT, round_ticks
from fanwise.report.transfers import transfer_page


def figure(page, name, section):
    """Return the SVG of a layer's chart in one section."""
    part = page[page.index(f'id="{section}-h"') :]
    return re.search(rf'<svg class="lines"[^>]*aria-label="{re.escape(name)}.*?</svg>', part)[0]


def test_the_verdict_comes_first():
    page = transfer_page(check(BAD, "none"), drift("none", 2.5), target="train.py:build")
    assert "<h1>Under policy none layers don&#x27;t carry over in width and depth.</h1>" in page
    assert 'class="bad"' in page
    assert "blocks.*.expand changes too much, as width^+1.00±0.01, after 10 steps." in page
    assert page.count("moves by 2.50 octaves in") == 2
    good = transfer_page(check(GOOD), drift())
    assert "<h1>Under policy completep layers are alike at every width and depth.</h1>" in good
    assert 'class="good"' in good
    moved = transfer_page(check(GOOD), drift(octaves=1.5))
    assert "the best learning rate moves with width and depth" in moved
    assert 'class="bad"' in moved
    found = drift()
    edge = replace(found, best=(*found.best[:-1], replace(found.best[-1], at_edge=True)))
    unknown = transfer_page(check(GOOD), edge)
    assert "the best learning rate isn&#x27;t found at every size" in unknown
    assert "octaves in depth at least: the best of a size is at" in unknown
    assert unknown.count("octaves at least</figcaption>") == 1
    assert 'class="bad"' in unknown


def test_a_line_leaves_the_wedge_where_the_check_fails():
    """Its end is drawn 2³ above its start for a power 1 from 16 to 128, in the failing colour."""
    page = transfer_page(check(BAD, "none"))
    svg = figure(page, "blocks.*.expand", "width")
    failing = re.search(r'<g class="bad-line"><polyline points="([^"]*)"', svg)[1]
    level = re.search(r'<polyline class="theory" points="[\d.]+,([\d.]+)', svg)[1]
    ys = [float(pair.split(",")[1]) for pair in failing.split()]
    assert ys[0] == pytest.approx(float(level))
    steps = [a - b for a, b in pairwise(ys)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.2)
    ticks = re.findall(r'y="([\d.]+)" text-anchor="end">([^<]+)', svg)
    tick = {text: float(y) for y, text in ticks}
    assert ys[0] - ys[-1] == pytest.approx(tick["1"] - tick["8"], abs=0.5)
    assert "bad-line" not in figure(page, "blocks.*.qkv", "width")
    assert 0.0 < min(ys) < max(ys) < HEIGHT


def test_the_best_rate_of_each_size_is_ringed_and_named():
    page = transfer_page(check(GOOD), drift(octaves=3.0))
    svg = figure(page, "The least loss by width", "rates")
    rings = [float(x) for x in re.findall(r'class="ring" cx="([\d.]+)"', svg)]
    assert rings == sorted(rings, reverse=True)  # the rate falls by 3 octaves
    assert rings[0] - rings[-1] > 50.0
    assert re.findall(r'class="name"[^>]*>([^<]+)', svg) == ["16", "32", "64", "128"]


def test_every_exponent_is_in_the_table():
    found = check(BAD)
    page = transfer_page(found)
    assert page.count('<tr><th scope="row">') == len(found.layers)
    assert 'data-v="1"' in page


def test_layers_without_a_power_or_of_one_axis_alone():
    """What nothing changes has no line of its change; one axis has one section."""
    page = transfer_page(check({(Axis.WIDTH, "frozen"): (0.0, None)}))
    assert figure(page, "frozen", "width").count("<polyline") == 2  # theory's and that of the rms
    assert 'id="depth-h"' not in page
    assert 'id="width-h"' in page


def test_ticks():
    assert round_ticks(0.0, 10.0) == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    assert round_ticks(-0.012, 0.012) == [-0.01, -0.005, 0.0, 0.005, 0.01]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    evil = {(axis, EVIL): (0.0, 0.0) for axis in Axis}
    check(BAD, "none").to_html(folder / "bad.html", drift("none", 2.5), target="train.py:build")
    check(GOOD).to_html(folder / "good.html")
    check(evil).to_html(folder / "evil.html", target=EVIL)
    return folder


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("name", ["bad", "good", "evil"])
@pytest.mark.parametrize("dark", [False, True])
def test_it_opens_from_disk(driver, pages, name, width, dark):
    """No complaint, nothing fetched, nothing wider than the window; the theme is the system's."""
    driver.get("about:blank")
    complaints(driver), requests(driver)
    look(driver, pages / f"{name}.html", width=width, dark=dark)
    assert complaints(driver) == []
    assert requests(driver) == [(pages / f"{name}.html").as_uri()]
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert driver.find_elements("css selector", "dialog, .alert") == []
    paper, line = driver.execute_script(
        "const of = (what, style) => getComputedStyle(document.querySelector(what))[style];"
        "return [of('body', 'backgroundColor'), of('.lines .after polyline', 'stroke')]"
    )
    assert paper == ("rgb(20, 22, 26)" if dark else "rgb(255, 255, 255)")
    assert line == ("rgb(98, 184, 238)" if dark else "rgb(0, 114, 178)")


def test_its_table_sorts_by_the_power(driver, pages):
    look(driver, pages / "bad.html")
    script = (
        "return [...document.getElementById('exponents').tBodies[0].rows]"
        ".map((r) => r.cells[4].textContent)"
    )
    head = driver.find_elements("css selector", "#exponents thead th")[4]
    for _ in range(2):
        head.find_element("css selector", "button").click()
    found = [float(text.partition("±")[0]) for text in driver.execute_script(script) if text]
    assert found == sorted(found, reverse=True)
    assert len(found) > 10
