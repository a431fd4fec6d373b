"""Takes README's picture of an opened report, with headless Chromium (Debian: apt-get install chromium).

python benchmarks/screenshot_report.py reports/toy.html docs/report.png
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path


def main() -> None:
    """Open a page in a window of the given size and save what is seen of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1100)
    parser.add_argument("--height", type=int, default=1250)
    parser.add_argument("--dark", action="store_true", help="as a reader with a dark screen sees it")
    arguments = parser.parse_args()
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        parser.error("no Chromium found")
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}",
            f"--window-size={arguments.width},{arguments.height}", f"--screenshot={arguments.picture.resolve()}",
            arguments.page.resolve().as_uri(),
        ]  # fmt: skip
        if arguments.dark:
            command.insert(1, "--blink-settings=preferredColorScheme=0")
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    print(f"{arguments.picture}: {arguments.picture.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
