"""Measure a report in a real browser: its weight, how long it takes to be ready, and how long the live model takes a frame.

    tiedae report mnist-best && python benchmarks/page.py runs/mnist-best/report.html

Needs ``pip install -e . --group dev``, chromium and chromium-driver.
A frame is what a stroke causes: noise, encoder, decoder, and all pictures
of the answer; the time between two frames also holds the browser's own painting.
"""

import argparse
import shutil
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

FRAMES = 300
DRAW = """
const done = arguments[arguments.length - 1], [frames] = arguments, { bench } = tiedae, own = [], between = [];
let last = null;
const step = (now) => {
  if (last !== null) between.push(now - last);
  last = now;
  const angle = own.length / 7;
  bench.board.line([14 + 6 * Math.cos(angle), 14 + 6 * Math.sin(angle)], [14 + 6 * Math.cos(angle + .14), 14 + 6 * Math.sin(angle + .14)]);
  const start = performance.now();
  bench.frame();
  own.push(performance.now() - start);
  if (own.length < frames) requestAnimationFrame(step); else done([own, between]);
};
bench.board.begin();
requestAnimationFrame(step);
"""


def main() -> None:
    """Print a line for each page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="+", type=Path)
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    browser.set_script_timeout(120)
    try:
        for page in parser.parse_args().pages:
            start = time.perf_counter()
            browser.get(page.resolve().as_uri())
            WebDriverWait(browser, 60, 0.02).until(lambda one: one.execute_script("return !!window.tiedae"))
            ready = time.perf_counter() - start
            own, between = (sorted(times) for times in browser.execute_async_script(DRAW, FRAMES))
            print(
                f"{page}: {page.stat().st_size / 1e6:.2f} MB, ready after {ready:.2f} s; a frame {own[len(own) // 2]:.2f} ms "
                f"(95% below {own[int(0.95 * len(own))]:.2f}); from frame to frame {between[len(between) // 2]:.1f} ms"
            )
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
