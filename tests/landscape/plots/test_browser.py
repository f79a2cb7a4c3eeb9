"""The interactive surface in a real browser."""

import shutil
import subprocess

import numpy as np
import pytest

from landscape import PlotConfig, Result, Sweep, plot, save_result

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-gpu-sandbox"]


@pytest.fixture(scope="module")
def chromium():
    """The path of a Chromium; installs Debian's if there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and shutil.which("apt-get"):
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", *command], check=False, capture_output=True, timeout=600)
        found = shutil.which("chromium")
    if found is None:
        pytest.skip("no Chromium was found, and Debian's could not be installed; the page was not looked at")
    return found


@pytest.fixture
def page_file(tmp_path):
    """A surface with a path on it, as one HTML file."""
    x, y = np.linspace(-1, 1, 21), np.linspace(-1, 1, 15)
    loss = 0.01 + x**2 + 3 * y[:, None] ** 2
    sweep = Sweep({"y": y, "x": x}, {"train_loss": loss, "train_accuracy": 1 / (1 + loss)}, np.ones((15, 21), bool))
    path = np.stack([np.linspace(-0.8, 0.8, 30), 0.5 * np.cos(np.linspace(-2, 2, 30))], axis=1)
    save_result(tmp_path / "s.h5", Result("surface", {"": sweep}, {"path": path, "a": path[:1]}))
    (file,) = plot(PlotConfig(result=tmp_path / "s.h5", style="html")).files
    return file


@pytest.mark.gallery
def test_the_page_draws_without_errors_or_requests(chromium, page_file):
    from playwright.sync_api import sync_playwright

    complaints, requests = [], []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 800, "height": 600})
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(f"file://{page_file}")
        page.wait_for_function("document.querySelectorAll('canvas').length > 0 && window.Plotly", timeout=60_000)
        page.wait_for_timeout(3000)
        picture = page.screenshot()
        browser.close()
    assert not complaints
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert distinct_colours(picture) > 100


def distinct_colours(picture):
    """How many colours the middle of a screenshot has: a canvas that was not drawn on has one."""
    import io

    from PIL import Image

    image = Image.open(io.BytesIO(picture)).convert("RGB")
    middle = image.crop((image.width // 4, image.height // 4, 3 * image.width // 4, 3 * image.height // 4))
    return len(middle.getcolors(maxcolors=1 << 24))
