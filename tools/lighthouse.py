"""Ask Lighthouse about pages of the built site, as on a phone: what `make lighthouse` does.

    python tools/lighthouse.py [--runs 3] [page ...]

Prints the median of each category and which audits cost points; exits with 1 below 95. Performance
is measured on this machine, so it varies with what else is running: the load is printed beside it.
Lighthouse is no part of this project: the command `lighthouse` is taken, or else npx fetches it.
"""

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median

import book

SITE = book.BUILD / "html"
# The first page, one full of formulas, one full of figures, an interactive one, the longest.
PAGES = ["index", "foundations/curvature", "schedules/decay", "practice/digits", "reference/api"]
LEAST = 95
FLAGS = "--headless=new --no-sandbox --disable-gpu --disable-background-networking --disable-component-update"


class Compressing(SimpleHTTPRequestHandler):
    """Serves files as the servers of static sites do: text compressed."""

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if path.suffix not in (".html", ".css", ".js", ".svg") or not path.is_file():
            return super().do_GET()
        body = gzip.compress(path.read_bytes(), 6)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None

    def log_message(self, *args):
        pass


def command():
    """What starts Lighthouse here."""
    if found := os.environ.get("LIGHTHOUSE") or shutil.which("lighthouse"):
        return [found]
    if npx := shutil.which("npx"):
        return [npx, "--yes", "lighthouse@12"]
    sys.exit("Neither `lighthouse` nor `npx` is installed here: Lighthouse comes by npm.")


def ask(url, report):
    """Lighthouse's report on a page."""
    environment = dict(os.environ)
    if chromium := shutil.which("chromium") or shutil.which("chromium-browser"):
        environment.setdefault("CHROME_PATH", chromium)
    call = [*command(), url, "--quiet", "--output=json", f"--output-path={report}",
            f"--chrome-flags={FLAGS}", "--max-wait-for-load=60000"]  # fmt: skip
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"Lighthouse did not finish:\n{done.stderr[-2000:]}")
    return json.loads(Path(report).read_text("utf-8"))


def lost_points(report):
    """What each audit of weight says, where it is below 0.9."""
    for category in report["categories"].values():
        for each in category["auditRefs"]:
            audit = report["audits"][each["id"]]
            if each["weight"] and audit["score"] is not None and audit["score"] < 0.9:
                yield f"{category['id']}: {audit['title']} {audit.get('displayValue', '')}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", default=PAGES, metavar="part/page")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Compressing, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    worst = 100
    with tempfile.TemporaryDirectory() as folder:
        for page in arguments.pages:
            url = f"http://127.0.0.1:{server.server_port}/{page}.html"
            reports = [ask(url, f"{folder}/report.json") for _ in range(arguments.runs)]
            scores = {
                name: [round(100 * r["categories"][name]["score"]) for r in reports]
                for name in reports[0]["categories"]
            }
            worst = min(worst, *(median(each) for each in scores.values()))
            line = ", ".join(f"{name} {median(each):g}" for name, each in scores.items())
            print(f"{page}: {line} (performance of {arguments.runs} runs {scores['performance']}, load {os.getloadavg()[0]:.1f})")  # fmt: skip
            for lost in dict.fromkeys(lost_points(reports[-1])):
                print(f"    {lost}", flush=True)
    server.shutdown()
    if worst < LEAST:
        sys.exit(f"A median is {worst:g}, below {LEAST}.")


if __name__ == "__main__":
    main()
