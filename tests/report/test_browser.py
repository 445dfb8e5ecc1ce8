"""The page in a headless Chromium, from disk: what a reader sees, hears and can do there."""

import math
import time
from dataclasses import replace

import pytest
from support.browser import DESKTOP, PHONE, complaints, look, requests
from support.signals import EVIL, layer, plan, signal, verdict

from fanwise.report.shown import ShownSignal

ROLES = {"up": 1.0, "down": 0.01}
"""Of each block's kernels, by the rms that they put out."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    evil = replace(signal(5, rate=0.1, name=f"{EVIL}{{}}"), histograms={})
    signal(30, rate=0.4).to_html(folder / "sick.html", signal(30), plan=plan(30), target="a.py:b")
    signal(30).to_html(folder / "healthy.html")
    evil.to_html(folder / "evil.html", plan=plan(2), target=EVIL)
    ShownSignal((), ()).to_html(folder / "empty.html")
    layers = signal(2).layers + tuple(
        layer(i, rms=rms, gradient=gradient, scale=scale)
        for i, (rms, gradient, scale) in enumerate(
            [(math.nan, None, 1.0), (math.inf, math.nan, math.inf), (0.0, 0.0, 0.0)], start=2
        )
    )
    ShownSignal(layers, (verdict("blocks.2.fc", "exploding"),)).to_html(
        folder / "broken.html", ShownSignal(layers[:1])
    )
    blocks = [(f"blocks.{i}.{role}", rms) for i in range(8) for role, rms in ROLES.items()]
    roles = [layer(i, name=name, rms=rms, gradient=1.0) for i, (name, rms) in enumerate(blocks)]
    ShownSignal(tuple(roles)).to_html(folder / "roles.html")
    signal(1000, rate=0.99).to_html(folder / "long.html", signal(1000), plan=plan(1000))
    return folder


@pytest.fixture
def sick(driver, pages):
    look(driver, pages / "sick.html")
    driver.execute_script("localStorage.clear()")
    look(driver, pages / "sick.html")
    return driver


def texts(driver, selector):
    script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
    return driver.execute_script(script, selector)


def column(driver, table, i):
    """Return the texts of a column's visible cells."""
    script = (
        "return [...document.getElementById(arguments[0]).tBodies[0].rows]"
        ".filter((r) => !r.hidden).map((r) => r.cells[arguments[1]].textContent)"
    )
    return driver.execute_script(script, table, i)


def head(driver, table, i):
    return driver.find_elements("css selector", f"#{table} thead th")[i]


def press(driver, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(driver).send_keys(*keys).perform()


def ink(driver, canvas_of):
    """Return the number of pixels by colour on a chart, the commonest first."""
    return driver.execute_script(
        """
        const canvas = document.querySelector(arguments[0] + " canvas"), seen = {};
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        for (let i = 0; i < data.length; i += 4) if (data[i + 3] === 255) {
          const key = [data[i], data[i + 1], data[i + 2]].join();
          seen[key] = (seen[key] || 0) + 1;
        }
        return seen;
        """,
        canvas_of,
    )


@pytest.mark.parametrize("width", [PHONE, 768, DESKTOP])
@pytest.mark.parametrize("name", ["sick", "healthy", "evil", "empty", "broken", "long", "roles"])
def test_a_page_opens_from_disk(driver, pages, name, width):
    """No complaint on the console, nothing fetched, nothing wider than the window."""
    driver.get("about:blank")
    complaints(driver), requests(driver)
    look(driver, pages / f"{name}.html", width=width)
    assert complaints(driver) == []
    assert requests(driver) == [(pages / f"{name}.html").as_uri()]
    widths = driver.execute_script(
        "return [document.documentElement.scrollWidth, innerWidth, document.body.scrollWidth]"
    )
    assert widths[0] <= width
    assert widths[1] == width
    assert driver.find_elements("css selector", "dialog, .alert") == []


def test_the_verdict_comes_first(sick):
    assert texts(sick, "h1") == [
        "The signal vanishes, forward and backward, from 'blocks.1.fc' on."
    ]
    first = sick.execute_script(
        "return document.elementFromPoint(innerWidth / 5, 130).closest('h1') !== null"
    )
    assert first
    healthy = [t for t in texts(sick, "header p") if t.startswith("After init_")]
    assert len(healthy) == 1


def test_every_line_is_drawn(sick):
    """Each chart has the colours of all its lines, and no other chart's."""
    for key, colors in {
        "forward": {"194,78,0", "0,114,178"},
        "backward": {"194,78,0", "0,114,178"},
        "scale": {"194,78,0", "0,114,178"},
    }.items():
        seen = ink(sick, f"#chart-{key}")
        assert all(seen.get(color, 0) > 200 for color in colors), (key, seen)
    assert len(sick.find_elements("css selector", ".charts canvas")) == 3


def test_the_lines_run_where_the_numbers_are(sick):
    """Forward falls from the upper left to the lower right, backward the other way."""
    ends = """
        const canvas = document.querySelector(arguments[0] + " canvas");
        const { width, height } = canvas, { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
        const found = [];
        for (let x = 0; x < width; x++) for (let y = 0; y < height; y++) {
          const i = 4 * (y * width + x);
          if (data[i] === 194 && data[i + 1] === 78 && data[i + 2] === 0) { found.push(y / height); break; }
        }
        return [found[0], found[found.length - 1]];
    """  # noqa: E501
    left, right = sick.execute_script(ends, "#chart-forward")
    assert left < 0.3 < 0.7 < right
    left, right = sick.execute_script(ends, "#chart-backward")
    assert right < 0.3 < 0.7 < left


def test_each_role_has_a_line_of_its_own(driver, pages):
    """Two level lines, no sawtooth between them; each has its name at its end."""
    look(driver, pages / "roles.html")
    script = """
        const canvas = document.querySelector("#chart-forward canvas");
        const { width, height } = canvas, { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
        const column = (x) => {
          let found = 0;
          for (let y = 0; y < height; y++) { const i = 4 * (y * width + x);
            if (data[i] === 194 && data[i + 1] === 78 && data[i + 2] === 0) found++; }
          return found;
        };
        const margin = (from, to) => {
          let found = 0;
          for (let x = width - 70 * width / canvas.clientWidth; x < width; x++) for (let y = from; y < to; y++)
            found += data[4 * (Math.floor(y) * width + Math.floor(x)) + 3] > 0;
          return found;
        };
        const inked = [...Array(width).keys()].map(column).filter((n) => n > 0);
        return [Math.max(...inked) / height, inked.length / width, margin(0, height / 2), margin(height / 2, height)];
    """  # noqa: E501
    most, wide, above, below = driver.execute_script(script)
    assert most < 0.2  # a sawtooth's column is inked over the whole height
    assert wide > 0.6
    assert above > 30
    assert below > 30
    # A layer is told with its own role's numbers: its rms, and that between samples.
    told = texts(driver, ".readout")[0].split(" · ")
    assert told[0].startswith("blocks.0.up")
    assert len(told) == 3


def test_sorting(sick):
    head(sick, "plan", 1)
    shapes = column(sick, "plan", 1)
    button = head(sick, "plan", 1).find_element("css selector", "button")
    button.click()
    assert column(sick, "plan", 1) == sorted(shapes, key=lambda t: (len(t), t))
    assert head(sick, "plan", 1).get_attribute("aria-sort") == "ascending"
    button.click()
    assert column(sick, "plan", 1) == sorted(shapes, key=lambda t: (len(t), t))[::-1]
    assert head(sick, "plan", 1).get_attribute("aria-sort") == "descending"
    head(sick, "plan", 0).find_element("css selector", "button").click()
    assert column(sick, "plan", 0) == sorted(column(sick, "plan", 0))
    assert head(sick, "plan", 1).get_attribute("aria-sort") is None


def test_numbers_are_sorted_as_numbers_and_gaps_come_last(sick):
    names = texts(sick, "#layers thead th")
    rms = names.index("rms →")
    before = column(sick, "layers", rms)
    assert before[0] == "1"
    head(sick, "layers", rms).find_element("css selector", "button").click()
    assert column(sick, "layers", rms) == before[::-1]  # 2.9×10⁻¹² is less than 0.4
    fans = texts(sick, "#plan thead th").index("fan in")
    for _ in range(2):
        head(sick, "plan", fans).find_element("css selector", "button").click()
        assert column(sick, "plan", fans) == ["64"] * 30 + [""] * 30


def test_filtering(sick):
    box = sick.find_element("css selector", '[data-for="plan"] input')
    status = sick.find_element("css selector", '[data-for="plan"] [role="status"]')
    assert status.text == "60 of 60 rows"
    box.send_keys("Blocks.7 he_")
    assert column(sick, "plan", 0) == ["blocks.7.fc.weight"]
    assert status.text == "1 of 60 rows"
    box.clear()
    box.send_keys("no such thing")
    assert column(sick, "plan", 0) == []
    box.clear()
    box.send_keys(" ")
    select = sick.find_element("css selector", '[data-for="plan"] select')
    select.send_keys("bias")
    assert len(column(sick, "plan", 0)) == 30
    assert all(name.endswith(".bias") for name in column(sick, "plan", 0))


def test_the_theme_follows_the_system_and_then_the_switch(driver, pages):
    def paper():
        return driver.execute_script("return getComputedStyle(document.body).backgroundColor")

    look(driver, pages / "sick.html", dark=True)
    driver.execute_script("localStorage.clear()")
    look(driver, pages / "sick.html", dark=True)
    assert paper() == "rgb(20, 22, 26)"
    assert ink(driver, "#chart-forward").get("240,160,75", 0) > 200
    switch = driver.find_element("id", "theme")
    assert switch.text == "Light theme"
    switch.click()
    assert paper() == "rgb(255, 255, 255)"
    assert switch.text == "Dark theme"
    seen = ink(driver, "#chart-forward")
    assert seen.get("194,78,0", 0) > 200
    assert "240,160,75" not in seen
    look(driver, pages / "sick.html", dark=True)
    assert paper() == "rgb(255, 255, 255)"  # remembered
    driver.execute_script("localStorage.clear()")
    look(driver, pages / "sick.html")
    assert paper() == "rgb(255, 255, 255)"
    driver.find_element("id", "theme").click()
    assert paper() == "rgb(20, 22, 26)"
    driver.execute_script("localStorage.clear()")
    assert complaints(driver) == []


def test_a_layer_is_chosen_by_keyboard_and_told(sick):
    from selenium.webdriver.common.keys import Keys

    def facts():
        return dict(zip(texts(sick, "#facts tbody th"), texts(sick, "#facts tbody td:nth-child(2)"),
                        strict=True))  # fmt: skip

    assert texts(sick, "#layer-name") == ["blocks.1.fc"]  # where the verdict points
    slider = sick.find_element("id", "pick")
    sick.execute_script("arguments[0].focus()", slider)
    press(sick, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert texts(sick, "#layer-name") == ["blocks.3.fc"]
    assert slider.get_attribute("aria-valuetext") == "blocks.3.fc"
    assert facts()["output, rms"] == "0.064"
    press(sick, Keys.END)
    assert texts(sick, "#layer-name") == ["blocks.29.fc"]
    assert facts()["output, rms"] == "2.88×10⁻¹²"
    assert facts()["output, mean"] == "−2.88×10⁻¹⁴"
    press(sick, Keys.HOME)
    assert texts(sick, "#layer-name") == ["blocks.0.fc"]
    assert all("blocks.0.fc" in text for text in texts(sick, ".readout"))


def test_a_layer_is_chosen_in_its_table_and_on_a_chart(sick):
    from selenium.webdriver.common.action_chains import ActionChains

    sick.find_elements("css selector", "#layers tbody button")[12].click()
    assert texts(sick, "#layer-name") == ["blocks.12.fc"]
    assert texts(sick, "tr.chosen th") == ["blocks.12.fc"]
    chart = sick.find_element("css selector", "#chart-forward .u-over")
    ActionChains(sick).move_to_element(chart).click().perform()
    assert texts(sick, "#layer-name")[0] in ("blocks.14.fc", "blocks.15.fc")
    ActionChains(sick).move_to_element_with_offset(chart, 60, 0).perform()
    shown = texts(sick, ".readout b")
    assert len(set(shown)) == 1  # the charts' cursors move together
    assert shown[0] not in texts(sick, "#layer-name")


def test_histograms_are_drawn_on_demand(sick):
    assert (
        sick.execute_script(
            "return [...document.querySelectorAll('.histograms figure')].map((f) => f.hidden)"
        )
        == [False] * 4
    )
    seen = ink(sick, '[data-run="before"][data-of="output"]')
    assert seen.get("194,78,0", 0) > 1000


def test_without_histograms_none_is_shown(driver, pages):
    look(driver, pages / "evil.html")
    assert driver.execute_script(
        "return [...document.querySelectorAll('.histograms figure')].every((f) => f.hidden)"
    )
    assert driver.title.startswith("The signal vanishes")
    assert any(EVIL in text for text in texts(driver, "#layers tbody th"))


def test_everything_is_reached_by_keyboard_and_has_a_name(sick):
    """Tab goes through all that can be used; each says what it is."""
    from selenium.webdriver.common.keys import Keys

    sick.execute_script("document.activeElement.blur()")
    seen = []
    for _ in range(60):
        press(sick, Keys.TAB)
        what = sick.execute_script(
            "const e = document.activeElement; return [e.tagName, e.id || e.className,"
            " e.labels?.[0]?.textContent || e.getAttribute('aria-labelledby') || e.textContent,"
            " getComputedStyle(e).outlineStyle]"
        )
        seen.append(what)
        if what[0] == "BODY":
            break
    tags = [what[0] for what in seen]
    assert {"BUTTON", "INPUT", "DIV"} <= set(tags)
    assert seen[0][1] == "theme"
    assert all(name.strip() for _, _, name, _ in seen if name != "")
    assert all(outline != "none" for tag, _, _, outline in seen if tag != "BODY")
    sort = head(sick, "layers", 0).find_element("css selector", "button")
    sick.execute_script("arguments[0].focus()", sort)
    press(sick, Keys.ENTER)
    assert head(sick, "layers", 0).get_attribute("aria-sort") == "ascending"


NAMED_ROLES = "slider region button searchbox combobox columnheader image".split()


def accessible_names(driver):
    """Return the names that assistive technology is told, by role; the tree takes a moment."""
    for _ in range(50):
        named = {}
        for node in driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]:
            role = node.get("role", {}).get("value")
            named.setdefault(role, []).append(node.get("name", {}).get("value", ""))
        if set(NAMED_ROLES) <= set(named):
            break
        time.sleep(0.2)
    return named


def test_the_accessibility_tree_names_every_part(sick):
    named = accessible_names(sick)
    assert named["slider"] == ["Layer"]
    assert sorted(named["region"]) == sorted(
        ["The signal, layer by layer", "One layer", "Layers", "Layers", "The plan", "The plan"]
    )
    for role in NAMED_ROLES:
        assert all(named[role]), role
    assert len(named["image"]) == 3 + 4
    assert "as it is from 1 to 2.88×10⁻¹²" in named["image"][0]


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_paper(driver, pages, dark):
    """Contrast of 4.5 at least: WCAG 2.2, 1.4.3."""
    look(driver, pages / "sick.html", dark=dark)
    script = """
        const style = getComputedStyle(document.documentElement);
        const light = (name) => {
          const n = parseInt(style.getPropertyValue("--" + name).trim().slice(1).replace(/^(.)(.)(.)$/, "$1$1$2$2$3$3"), 16);
          return [n >> 16, (n >> 8) & 255, n & 255].map((c) => c / 255)
            .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
            .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
        };
        const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
        return ["ink", "muted", "before", "after", "predicted", "bad", "good"].map((n) => [n, contrast(n, "paper"), contrast(n, "raised")]);
    """  # noqa: E501
    for name, on_paper, on_raised in driver.execute_script(script):
        assert on_paper >= 4.5, name
        assert on_raised >= 4.5 or name in ("before", "after", "predicted", "bad", "good"), name


def test_what_is_not_finite_is_named_and_sorted_last_of_the_numbers(driver, pages):
    look(driver, pages / "broken.html")
    assert texts(driver, "h1")[0].startswith("The signal explodes")
    rms = texts(driver, "#layers thead th").index("rms →")
    assert column(driver, "layers", rms) == ["1", "1", "nan", "inf", "0"]
    head(driver, "layers", rms).find_element("css selector", "button").click()
    assert column(driver, "layers", rms) == ["0", "1", "1", "inf", "nan"]
    after = texts(driver, "#layers thead th").index("rms →, after")
    assert column(driver, "layers", after) == ["", "1", "", "", ""]


def test_a_thousand_layers_stay_quick(driver, pages):
    look(driver, pages / "long.html")
    took = driver.execute_script(
        "const t = performance.now(); const p = document.getElementById('pick');"
        "for (let i = 0; i < 10; i++) { p.value = 100 * i; p.dispatchEvent(new Event('input')); }"
        "return (performance.now() - t) / 10"
    )
    assert took < 200  # milliseconds for a step of the slider, on a slow machine
    box = driver.find_element("css selector", '[data-for="plan"] input')
    box.send_keys("blocks.999")
    assert column(driver, "plan", 0) == ["blocks.999.fc.weight", "blocks.999.fc.bias"]


def test_in_print_everything_is_on_white_and_whole(sick):
    sick.find_element("id", "theme").click()
    sick.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    shown = sick.execute_script(
        "const style = (what) => getComputedStyle(document.querySelector(what)); return "
        "[style('body').backgroundColor, style('.scroll').overflow, style('#theme').display]"
    )
    assert shown == ["rgb(255, 255, 255)", "visible", "none"]
    assert ink(sick, "#chart-forward").get("194,78,0", 0) > 200
    sick.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    sick.execute_script("localStorage.clear()")
