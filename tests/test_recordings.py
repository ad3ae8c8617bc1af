"""The recordings are what this machine computed when it built the book: text for text.

`make test` builds the book first, so no page is executed twice. `make replay` executes all of them
again, in other processes and with the arithmetic of other processors.
"""

import re

import nbformat
import pytest

import book

PAGES = book.chapters()
ADDRESS = re.compile(r"0x[0-9a-f]{6,}")  # as in recorded/sanitize.cfg


def outputs(cell):
    """Kind and text of each output, without memory addresses."""
    for output in cell.outputs:
        text = output.text if "text" in output else output.data["text/plain"]
        yield output.output_type, output.get("name"), ADDRESS.sub("0x", text)


@pytest.mark.parametrize("name", PAGES)
def test_a_recording_is_what_this_machine_computed(name):
    executed = book.executed_here(name)
    assert executed is not None, "the page was changed after it was executed: run `make book`"
    recorded = nbformat.read(book.RECORDED / f"{name}.ipynb", as_version=4)
    here = book.recorded_form(executed)
    assert len(here.cells) == len(recorded.cells), "run `make record`"
    for cell, there in zip(here.cells, recorded.cells, strict=True):
        assert list(outputs(cell)) == list(outputs(there)), f"in this cell:\n{cell.source}"
