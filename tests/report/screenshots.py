"""The pictures of the page in docs/: run ``PYTHONPATH=tests python -m report.screenshots``."""

import runpy
import tempfile
from pathlib import Path

from support.browser import DESKTOP, PHONE, browser, look, screenshot

import fanwise.torch as fwt

ROOT = Path(__file__).parents[2]
EXAMPLE = "examples/deep_relu.py"
SHOTS = (
    ("desktop", DESKTOP, 1500, False),
    ("dark", DESKTOP, 1500, True),
    ("phone", PHONE, 1700, False),
)


def main():
    model, x = runpy.run_path(str(ROOT / EXAMPLE))["model"]()
    plan, before = fwt.plan(model, x), fwt.measure(model, x, histograms=True)
    plan.apply(model, seed=0)
    after = fwt.measure(model, x, histograms=True)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        before.to_html(page, after, plan=plan, target=f"{EXAMPLE}:model")
        with browser(Path(folder) / "profile") as driver:
            for name, width, height, dark in SHOTS:
                look(driver, page, width=width, height=height, dark=dark)
                screenshot(driver, ROOT / "docs" / f"report-{name}.png", height=height)
    before.plot(ROOT / "docs" / "report-figure.svg", after)


if __name__ == "__main__":
    main()
