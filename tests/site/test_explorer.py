"""The explorer: its JavaScript computes what fanwise does, and its page serves everyone."""

import json
import math
import os
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from support.browser import DESKTOP, PHONE, complaints, look, requests

import fanwise as fw
from fanwise.network.curves import Curve, transfer
from fanwise.network.statistics import Statistics
from fanwise.schemes.compat import torch_default
from fanwise.schemes.gains import ACTIVATIONS
from fanwise.schemes.quadrature import second_moments

ROOT = Path(__file__).parents[2]
MATH = ROOT / "docs/assets/explorer-math.js"
VARIANCES, COSINES = (0.01, 1.0, 30.0), (0.0, 0.3, 0.9)
PROGRAM = """
const e = require(process.argv[1]), [variances, cosines, chains] = JSON.parse(process.argv[2]);
console.log(JSON.stringify({
  activations: Object.fromEntries(Object.keys(e.ACTIVATIONS).map((name) => [name, {
    gain: e.gain(name),
    squares: variances.map((q) => e.meanSquare(name, q)),
    slopes: variances.map((q) => e.meanSlope(name, q)),
    cosines: cosines.map((rho) => e.cosineAfter(name, 2, rho)),
  }])),
  schemes: Object.keys(e.SCHEMES),
  chains: chains.map(e.chain),
}));
"""
CHARTS = ("explorer-signal", "explorer-square", "explorer-cosine")
CHAIN = {"inputs": 64, "width": 128, "outputs": 32, "depth": 6, "std": 0.05, "cosine": 0.2}
SCHEMES = {
    "xavier": fw.schemes.Xavier("normal"), "he": fw.schemes.He(), "lecun": fw.schemes.LeCun(),
    "torch": torch_default(), "fixed": fw.schemes.Normal(0.05),
}  # fmt: skip
CHAINS = [{**CHAIN, "activation": a, "scheme": s} for a in ("relu", "tanh") for s in SCHEMES]


@pytest.fixture(scope="module")
def javascript():
    node = shutil.which("node")
    if node is None:
        reason = "Node is not installed"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    asked = json.dumps([VARIANCES, COSINES, CHAINS])
    command = [node, "-e", PROGRAM, str(MATH), asked]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_moments_are_those_of_python(javascript):
    """To 10⁻⁹: a derivative with a wrong sign, or a kink within a panel, is far off."""
    assert len(javascript["activations"]) == 12
    for name, found in javascript["activations"].items():
        moments = [second_moments(ACTIVATIONS[name], q) for q in VARIANCES]
        assert found["gain"] == pytest.approx(fw.gain(name), rel=1e-9)
        assert found["squares"] == pytest.approx([m.value for m in moments], rel=1e-9)
        assert found["slopes"] == pytest.approx([m.slope for m in moments], rel=1e-9)


def test_cosines_are_those_of_python(javascript):
    """By the plan's own curves, which end their series at another degree: to 10⁻⁴."""
    for name, found in javascript["activations"].items():
        for rho, cosine in zip(COSINES, found["cosines"], strict=True):
            output = transfer(Curve(name, ACTIVATIONS[name]), Statistics(2.0, 2.0 * rho)).output
            assert cosine == pytest.approx(output.covariance / output.mean_square, abs=1e-4)


def test_relus_cosine_is_the_arc_cosine_kernel(javascript):
    """Cho and Saul (2009), equation 6 for n = 1."""
    for rho, cosine in zip(COSINES, javascript["activations"]["relu"]["cosines"], strict=True):
        exact = (math.sqrt(1 - rho**2) + rho * (math.pi - math.acos(rho))) / math.pi
        assert cosine == pytest.approx(exact, abs=1e-4)


def test_a_chain_is_what_a_drawn_network_does(javascript):
    """Against plans of the same network: fans, deviations, and the predicted rms both ways."""
    torch = pytest.importorskip("torch")
    import fanwise.torch as fwt

    assert set(javascript["schemes"]) == {*SCHEMES, "gain"}
    for asked, layers in zip(CHAINS, javascript["chains"], strict=True):
        act = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[asked["activation"]]
        sizes = [CHAIN["inputs"], *[CHAIN["width"]] * (CHAIN["depth"] - 1), CHAIN["outputs"]]
        modules = [m for a, b in pairwise(sizes)
                   for m in (torch.nn.Linear(a, b, bias=False), act())]  # fmt: skip
        model = torch.nn.Sequential(*modules[:-1])
        rule = fw.Rule("*.weight", SCHEMES[asked["scheme"]])
        x = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
        plan = fwt.plan(model, x / x.square().mean().sqrt(), policy="none", rules=[rule])
        predicted = [p for p in plan.predicted if p.rms is not None]
        for row, layer in zip(plan.rows, layers, strict=True):
            assert (row.fan_in, row.fan_out) == (layer["fanIn"], layer["fanOut"])
            assert layer["std"] == pytest.approx(row.std, rel=1e-9)
        found = np.array([(layer["rms"], layer["gradient"]) for layer in layers])
        said = np.array([(p.rms, p.gradient_rms) for p in predicted])
        assert found[:, 0] == pytest.approx(said[:, 0], rel=2e-3)
        assert found[:, 1] / found[-1, 1] == pytest.approx(said[:, 1] / said[-1, 1], rel=2e-3)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The explorer's page without the theme: its form, its charts, its scripts."""
    from website.pages import ROOT as root

    text = (root / "docs/explorer.md").read_text("utf-8").split("---\n", 2)[2]
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(root / "docs/assets", folder / "assets")
    (folder / "explorer").mkdir()
    found = folder / "explorer/index.html"
    sheet = '<meta charset="utf-8"><link rel="stylesheet" href="../assets/site.css">'
    view = '<meta name="viewport" content="width=device-width">'
    found.write_text(f"<!doctype html>{sheet}{view}<body>{text}", encoding="utf-8")
    return found


def count(driver, selector):
    return driver.execute_script("return document.querySelectorAll(arguments[0]).length", selector)


def said(driver):
    return driver.execute_script("return document.getElementById('explorer-said').textContent")


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_the_page_says_and_draws_what_is_chosen(driver, page, width):
    look(driver, page, width=width)
    assert complaints(driver) == []
    assert all(url.startswith("file:") for url in requests(driver))
    assert "a layer changes the signal's rms by 0.707 and the gradient's by 0.707" in said(driver)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert [count(driver, f"#{name} polyline") for name in CHARTS] == [2, 2, 2]


def test_it_is_worked_by_keyboard(driver, page):
    from selenium.webdriver.common.keys import Keys

    look(driver, page)
    driver.execute_script("document.querySelector('select').focus()")
    driver.switch_to.active_element.send_keys(Keys.TAB)
    driver.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    assert "a layer changes the signal's rms by 1 and the gradient's by 1:" in said(driver)
    assert "scheme=he" in driver.current_url


def test_a_link_keeps_the_settings_and_bad_ones_do_no_harm(driver, page):
    look(driver, page)
    driver.get(f"{page.as_uri()}#activation=silu&scheme=gain&depth=1e9&width=x&nothing=1")
    driver.refresh()
    assert complaints(driver) == []
    assert "The gain of silu is 1.68." in said(driver)
    assert "fan_in 256" in said(driver)
    assert count(driver, "#explorer-table tr") == 201
