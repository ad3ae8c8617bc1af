"""The command line.

lrteach diagnose metrics.csv                  # what is wrong with this run, and what to try next
lrteach diagnose runs/3 --plot curve.png      # TensorBoard's folder; the curve with what was seen
lrteach doctor                                # is everything here that the book needs?

Exit codes: 0, all well; 1, `doctor` found something missing; 2, the command cannot be carried out,
and one sentence on stderr says why.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

from lrteach import __version__

if TYPE_CHECKING:
    from lrteach.diagnosis import Diagnosis

PICTURES = (".pdf", ".png", ".svg")


class _Refused(Exception):
    """What was asked cannot be done. The message is for the user."""


class _Parser(argparse.ArgumentParser):
    """Refuses a command line in one line; argparse would print the usage before."""

    def error(self, message: str) -> NoReturn:
        raise _Refused(f"{message} (see `{self.prog} --help`)")


def main(arguments: list[str] | None = None) -> int:
    """Carry out a command line, `sys.argv` by default. Returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal may not have all characters
            stream.reconfigure(errors="backslashreplace")
    try:
        given = _parser().parse_args(arguments)
        code = given.command(given)
        sys.stdout.flush()
        return code
    except _Refused as error:
        print(f"lrteach: {_one_line(error)}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"lrteach: {_one_line(error)}: `lrteach doctor` says how to mend it", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lrteach: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except OSError as error:  # the disk is full to which our output goes, say
        print(f"lrteach: {_one_line(error.strerror or error)}", file=sys.stderr)
        with suppress(OSError):  # what is left in the buffer must not fail again at the exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "lrteach", description="Tools of the book The Learning Rate.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"lrteach {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    diagnose = commands.add_parser(
        "diagnose",
        help="say what is wrong with a training run, from its log",
        description="Say what is wrong with a training run: symptoms, evidence, and what to try next.",
    )
    diagnose.add_argument(
        "log", metavar="LOG",
        help="a .csv, .tsv, .jsonl or .json file, a TensorBoard event file, or the folder of a run",
    )  # fmt: skip
    diagnose.add_argument(
        "--plot",
        metavar="FILE",
        type=Path,
        help=f"draw the curve into a {', '.join(PICTURES)} file",
    )
    diagnose.add_argument("--json", action="store_true", help="print the result as JSON")
    diagnose.add_argument(
        "--columns", metavar="NAME=COLUMN", nargs="+", default=[], type=_pair,
        help="where things are that are not recognised: loss=my_loss lr=my_rate; names are step, "
        "loss, val_loss, lr, grad_norm, accuracy, val_accuracy and update_ratio",
    )  # fmt: skip
    diagnose.add_argument(
        "--classes", metavar="N", type=int,
        help="of a classifier with a mean cross-entropy in nats: how many classes it has",
    )  # fmt: skip
    diagnose.set_defaults(command=_diagnose)

    doctor = commands.add_parser(
        "doctor",
        help="check this Python and this machine",
        description="Check what the book needs, and say how to mend what is missing.",
    )
    doctor.set_defaults(command=_doctor)
    return parser


def _pair(text: str) -> tuple[str, str]:
    name, equals, column = text.partition("=")
    if not (name and equals and column):
        raise argparse.ArgumentTypeError(f"{text!r} must look like loss=my_loss")
    return name, column


def _one_line(error: object) -> str:
    """A message without what would move the cursor or break the line: logs may be hostile."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(error).split()))


# --- diagnose --------------------------------------------------------------------------------------


def _diagnose(given: argparse.Namespace) -> int:
    if given.plot is not None:
        if given.plot.suffix.lower() not in PICTURES:
            raise _Refused(
                f"--plot {given.plot}: the name must end in one of {', '.join(PICTURES)}"
            )
        if not given.plot.absolute().parent.is_dir():
            raise _Refused(
                f"--plot {given.plot}: there is no folder {given.plot.absolute().parent}"
            )
    from lrteach.diagnosis import diagnose
    from lrteach.logs import LogError, read_log

    try:
        log = read_log(given.log, dict(given.columns), progress=True)
        found = diagnose(log, classes=given.classes)
    except (LogError, ValueError) as error:  # ValueError: a path with a zero byte
        raise _Refused(str(error).replace("columns={'loss': ...}", "--columns loss=NAME")) from None
    if given.plot is not None:
        _draw(found, given.plot)
    print(json.dumps(found.to_dict(), indent=2) if given.json else found)
    return 0


def _draw(found: Diagnosis, path: Path) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.use("Agg")
    figure = found.plot().figure
    assert isinstance(figure, Figure)
    try:
        with _written_whole(path) as file:
            figure.savefig(file, format=path.suffix.lower()[1:], facecolor="white")
    except OSError as error:
        raise _Refused(f"--plot {path}: {error.strerror or error}") from None


@contextmanager
def _written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A binary file beside `path` that takes its name when it is complete, or else disappears."""
    file = tempfile.NamedTemporaryFile(dir=path.absolute().parent, delete=False)  # noqa: SIM115
    try:
        with file:
            yield file
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(file.name, 0o666 & ~umask)
        os.replace(file.name, path)
    except BaseException:
        os.unlink(file.name)
        raise


# --- doctor ----------------------------------------------------------------------------------------


def _doctor(_: argparse.Namespace) -> int:
    from lrteach.doctor import examine

    healthy = True
    for finding in examine():
        healthy &= finding.ok or finding.optional
        print(finding, flush=True)
    print(
        "\nEverything the book needs is here." if healthy else "\nSomething is missing: see above."
    )
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main())
