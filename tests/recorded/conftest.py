"""How nbval replays the recordings: in the chapters' folders, comparing plain text only."""

from pathlib import Path

import nbval.plugin as nbval

from book import RATES_MIME
from lrteach.claims import MIME

RECORDED = Path(__file__).parent
BOOK = RECORDED.parents[1] / "book"
# Recordings hold no images and no HTML: these carry digits that differ between machines.
NOT_RECORDED = ("text/html", "image/svg+xml", MIME, RATES_MIME)

_RunningKernel = nbval.RunningKernel


def _kernel_beside_the_chapter(name, cwd=None, **kwargs):
    """Start the kernel where the book's build starts it, so that relative paths agree."""
    return _RunningKernel(name, cwd=str(BOOK / Path(cwd).relative_to(RECORDED)), **kwargs)


nbval.RunningKernel = _kernel_beside_the_chapter


def pytest_collectstart(collector):
    if isinstance(collector, nbval.IPyNbFile):
        collector.skip_compare += NOT_RECORDED
