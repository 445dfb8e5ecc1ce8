"""A headless Chromium that looks at pages from disk, and tells what it saw and asked for."""

import base64
import io
import json
import os
import shutil
import time
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from support.frameworks import require

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --hide-scrollbars "
    "--disable-component-update --disable-sync --no-first-run --force-color-profile=srgb"
)
PHONE, DESKTOP = 390, 1280


def need_browser():
    """Skip where there is no Chromium with its driver; in CI fail."""
    require("selenium")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    driver = shutil.which("chromedriver")
    if not found or not driver:
        reason = "chromium and chromedriver are not installed"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return found, driver


@contextmanager
def browser(folder):
    """Yield a browser whose profile lies in this folder."""
    binary, driver = need_browser()
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS.split(), f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # Chromium and its driver talk over this machine's own loopback, past any proxy.
    local = "localhost,127.0.0.1"
    with patch.dict(os.environ, {"NO_PROXY": local, "no_proxy": local}):
        found = webdriver.Chrome(options=options, service=Service(driver))
        try:
            yield found
        finally:
            found.quit()


def look(driver, path, *, width=DESKTOP, height=900, dark=False):
    """Open a page at this width, in the light or the dark that the system asks for."""
    mobile = width == PHONE
    ratio = 2 if mobile else 1
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": ratio, "mobile": mobile},
    )
    wishes = {
        "prefers-color-scheme": "dark" if dark else "light",
        "prefers-reduced-motion": "reduce",
    }
    features = [{"name": name, "value": value} for name, value in wishes.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
    driver.get(path.as_uri())


def complaints(driver):
    """Return what the console was told since the last look."""
    return [entry["message"] for entry in driver.get_log("browser")]


def requests(driver):
    """Return the addresses that were asked for since the last look, less the browser's own pages.

    The log may come a moment after the page.
    """
    found = []
    for _ in range(25):
        events = [
            json.loads(entry["message"])["message"] for entry in driver.get_log("performance")
        ]
        found += [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        if driver.current_url in found or not driver.current_url.startswith("file:"):
            break
        time.sleep(0.2)
    return [url for url in found if not url.startswith(("chrome", "about:", "data:"))]


def screenshot(driver, path, *, height):
    """Write a picture of the top of the page, in 128 colours: a third of the bytes."""
    from PIL import Image

    width = driver.execute_script("return innerWidth")
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    how = {"captureBeyondViewport": True, "clip": clip}
    taken = base64.b64decode(driver.execute_cdp_cmd("Page.captureScreenshot", how)["data"])
    Image.open(io.BytesIO(taken)).convert("RGB").quantize(128).save(path, optimize=True)
