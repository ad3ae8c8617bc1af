"""`check`: does an answer to an exercise do what it should, and if not, what went wrong?

An answer is called with the arguments of some probes. The first one that fails is explained: what
was called, what came back, what was expected, and a hint where the mistake is a known one. Whatever
an answer does, `check` reports it and does not raise. `progress` shows which exercises are done.

Only the standard library is imported: arrays and tensors are known by their `shape`, `dtype` and
`tolist`.
"""

import copy
import html
import inspect
import json
import math
import os
import re
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Complex, Number
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["check", "probe", "progress", "Report", "Probe", "Progress"]

FILE = ".lrteach-progress.json"
RTOL = 1e-6
# What differs: (outcome, where, what came back, what was expected).
Difference: TypeAlias = tuple[str, str, Any, Any]
Fields: TypeAlias = dict[str, str]  # of a `Report`

PASSED = {"outcome": "passed"}
NOT_WRITTEN = {"outcome": "not written", "message": "not written yet"}
_NOTHING = object()  # stands for a parameter that was not given

_SIGNS = {"passed": "✓", "not written": "…"}  # else ✗
_LIBRARIES = (os.path.dirname(os.__file__), os.path.dirname(__file__), "<frozen")


# --- probes ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """One question to an answer; made by `probe`."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    expect: object
    holds: Callable[[Any], object] | None
    rtol: float
    atol: float
    mistakes: tuple[tuple[Any, str], ...]
    hint: str
    says: str
    inplace: bool

    def judge(self, value: Any) -> Difference | None:
        """None if `value` is right, else (outcome, where, what came back, what was expected)."""
        if self.holds is None:
            return _difference(value, self.expect, self.rtol, self.atol)
        if value is None:
            return "returned nothing", "", None, _NOTHING
        return None if self.holds(value) else ("wrong value", "", value, _NOTHING)

    def known_mistake(self, value: Any) -> str:
        """The hint of the first known mistake that gives `value`, or ''."""
        for wrong, hint in self.mistakes:
            try:
                if callable(wrong):
                    found = bool(wrong(value))
                else:
                    found = _difference(value, wrong, self.rtol, self.atol) is None
            except Exception:  # a value that the mistake does not know cannot be that mistake
                found = False
            if found:
                return hint
        return ""


def probe(
    *args: Any,
    expect: Any = _NOTHING,
    holds: Callable[[Any], object] | None = None,
    rtol: float = RTOL,
    atol: float = 0.0,
    mistakes: Sequence[tuple[Any, str]] = (),
    hint: str = "",
    says: str = "",
    kwargs: dict[str, Any] | None = None,
    inplace: bool = False,
) -> Probe:
    """Ask an answer one question: call it with `args` and `kwargs`, and look at what comes back.

    Give one of `expect` and `holds`. Numbers are near if they differ by at most `atol` plus `rtol`
    times what is expected; NaN equals NaN; whole numbers must be equal while `rtol` is the default.
    A bool is not a number. Lists, tuples, arrays and tensors are equal if shape and entries are.

    Parameters
    ----------
    args, kwargs : anything that `copy.deepcopy` copies; every call gets its own copies
    expect : number, bool, string, sequence, mapping, array or tensor
    holds : function (value) -> bool
        What must be true of the value; needs `says`.
    rtol, atol : float >= 0
    mistakes : list of (wrong value or function (value) -> bool, hint)
        The first that fits what came back gives the hint.
    hint : str, optional
        Shown when no known mistake fits.
    says : str, optional
        The promise that is tested, in words.
    inplace : bool
        Changing the arguments in place is allowed: it is what the answer is for.

    Returns
    -------
    Probe

    Raises
    ------
    ValueError, TypeError
        The probe cannot be asked as it is given; the message names the parameter.
    """
    if (expect is _NOTHING) == (holds is None):
        raise ValueError("probe: give either expect or holds")
    if holds is not None and not callable(holds):
        raise TypeError(f"probe: holds={holds!r} is not a function of the value")
    for name, text in (("hint", hint), ("says", says)):
        if not isinstance(text, str):
            raise TypeError(f"probe: {name}={text!r} is not a text")
    if holds is not None and not says.strip():
        raise ValueError("probe: says is empty, but holds needs words for what must hold")
    for name, tolerance in (("rtol", rtol), ("atol", atol)):
        if isinstance(tolerance, bool) or not isinstance(tolerance, int | float):
            raise TypeError(f"probe: {name}={tolerance!r} is not a number")
        if not 0 <= tolerance < math.inf:
            raise ValueError(f"probe: {name}={tolerance!r} is not allowed")
    kwargs = {} if kwargs is None else kwargs
    if not isinstance(kwargs, dict) or not all(isinstance(key, str) for key in kwargs):
        raise TypeError(f"probe: kwargs={kwargs!r} is not a dict of names and values")
    if not isinstance(mistakes, list | tuple):
        raise TypeError("probe: mistakes is not a list of (wrong value, hint)")
    for pair in mistakes:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ValueError(f"probe: mistakes has {pair!r}, which is no pair (wrong value, hint)")
        if not isinstance(pair[1], str) or not pair[1].strip():
            raise ValueError(f"probe: mistakes has {pair!r}, whose hint is no text")
        if holds is None and not callable(pair[0]) and not _difference(pair[0], expect, rtol, atol):
            raise ValueError(f"probe: mistakes has {pair[0]!r}, which is what is expected")
    mistakes = tuple((wrong, hint) for wrong, hint in mistakes)
    return Probe(args, kwargs, expect, holds, rtol, atol, mistakes, hint, says, bool(inplace))


# --- comparing ------------------------------------------------------------------------------


def _is_array(value: Any) -> bool:
    return not isinstance(value, type) and all(
        hasattr(value, name) for name in ("shape", "dtype", "tolist")
    )


def _plain(value: Any) -> Any:
    """NumPy scalars and arrays without axes as plain numbers; all else as it is."""
    return value.tolist() if _is_array(value) and len(value.shape) == 0 else value


def _is_many(value: Any) -> bool:
    return isinstance(value, list | tuple | range) or _is_array(value)


def _entries(value: Any) -> Any:
    return value.tolist() if _is_array(value) else value


def _shape(value: Any) -> tuple[int, ...] | None:
    """The shape of an array or of nested sequences; None if the rows differ."""
    if _is_array(value):
        return tuple(int(size) for size in value.shape)
    if not _is_many(value):
        return ()
    shapes = {_shape(entry) for entry in value} or {()}
    inner = shapes.pop()
    return None if shapes or inner is None else (len(value), *inner)


def _difference(
    value: Any, expect: Any, rtol: float, atol: float, where: str = ""
) -> Difference | None:
    """None if `value` is what is expected, else (outcome, where, value there, expected there)."""
    value, expect = _plain(value), _plain(expect)
    failed = where, value, expect
    if value is None and expect is not None and not where:
        return "returned nothing", *failed
    if _is_many(expect) and _is_many(value):
        if _shape(value) != _shape(expect) or len(value) != len(expect):
            return "wrong shape", *failed
        pairs: Iterable[tuple[Any, tuple[Any, Any]]] = enumerate(
            zip(_entries(value), _entries(expect), strict=True)
        )
    elif _is_many(expect) or _is_many(value):
        # A number for an array, or the reverse, has the wrong shape; a tuple is another thing.
        arrays = _is_array(value) or _is_array(expect)
        single = expect if _is_many(value) else value
        return "wrong shape" if arrays and isinstance(single, Number) else "wrong type", *failed
    elif isinstance(expect, Mapping) and isinstance(value, Mapping):
        if set(value) != set(expect):
            return "wrong value", *failed
        pairs = ((key, (value[key], expect[key])) for key in expect)
    else:
        if _kind(value) != _kind(expect):
            return "wrong type", *failed
        if isinstance(expect, Complex) and not isinstance(expect, bool):
            equal = _near(value, expect, rtol, atol)
        else:
            equal = bool(value == expect)
        return None if equal else ("wrong value", *failed)
    for key, (inner, wanted) in pairs:
        found = _difference(inner, wanted, rtol, atol, f"{where}[{key!r}]")
        if found is not None:
            return found
    return None


def _kind(value: Any) -> type:
    if isinstance(value, bool) or not isinstance(value, Number):
        return (
            str if isinstance(value, str) else dict if isinstance(value, Mapping) else type(value)
        )
    return Number


def _near(value: Any, expect: Any, rtol: float, atol: float) -> bool:
    if isinstance(value, int) and isinstance(expect, int) and rtol <= RTOL and not atol:
        return value == expect
    try:
        value, expect = complex(value), complex(expect)
    except OverflowError:  # an int that no float can hold
        return value == expect
    parts = ((value.real, expect.real), (value.imag, expect.imag))
    if all(math.isfinite(part) for pair in parts for part in pair):
        return abs(value - expect) <= atol + rtol * abs(expect)
    return all(got == want or (got != got and want != want) for got, want in parts)


def _changed(before: Any, after: Any) -> bool:
    """Whether data was changed in place. Objects that are no data, as models, do not count."""
    if _is_array(before) or isinstance(before, list | tuple | dict | set):
        if _is_array(before) and _is_array(after) and before.tolist() == after.tolist():
            return _shape(before) != _shape(after)
        if isinstance(before, dict):
            return set(before) != set(after) or any(_changed(before[k], after[k]) for k in before)
        if isinstance(before, set):
            return before != after
        before, after = _entries(before), _entries(after)
        if not isinstance(before, list | tuple):
            return _changed(before, after)
        if len(before) != len(after):
            return True
        return any(_changed(b, a) for b, a in zip(before, after, strict=True))
    if isinstance(before, Number | str) or before is None:
        return _difference(after, before, 0.0, 0.0) is not None
    return False


# --- in words -------------------------------------------------------------------------------


def _text(value: Any, digits: int = 6) -> str:
    """A value as a short text; never raises."""
    return _safely(_words, value, digits)


def _what(value: Any) -> str:
    """A value's sort in words, as 'an array of shape (2, 3)'; never raises."""
    return _safely(_sort, value)


def _safely(describe: Callable[..., str], value: Any, *options: Any) -> str:
    try:
        return describe(value, *options)
    except Exception:
        return f"a {type(value).__name__} that cannot be shown"


def _words(value: Any, digits: int, depth: int = 0) -> str:
    value = _plain(value)
    if isinstance(value, float | complex) and not isinstance(value, bool):
        return f"{value:.{digits}g}"
    if isinstance(value, bool | int) or value is None or value is ...:
        return _cut(str(value))
    if isinstance(value, list | tuple | range | Mapping) or _is_array(value):
        if depth > 3:
            return "…"
        if isinstance(value, Mapping):
            shown = [
                f"{_words(key, digits, depth + 1)}: {_words(inner, digits, depth + 1)}"
                for key, inner in list(value.items())[:6]
            ]
        else:
            shown = [_words(entry, digits, depth + 1) for entry in list(_entries(value))[:6]]
        if len(value) > 6:
            shown.append("…")
        kind = dict if isinstance(value, Mapping) else tuple if isinstance(value, tuple) else list
        opening, closing = list(str(kind()))
        return opening + ", ".join(shown) + closing
    if callable(value) and hasattr(value, "__name__"):
        return "a function" if value.__name__ == "<lambda>" else value.__name__
    return _cut(" ".join(repr(value).split()))


def _cut(text: str, length: int = 80) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _sort(value: Any) -> str:
    value = _plain(value)
    name = type(value).__name__
    if _is_array(value):
        kind = "a tensor" if "ensor" in name else "an array"
        return f"{kind} of shape {_shape(value)}"
    if _is_many(value):
        shape = _shape(value)
        size = f"length {len(value)}" if shape is None or len(shape) < 2 else f"shape {shape}"
        return f"a {name} of {size}"
    if callable(value) and not isinstance(value, type):
        return "a function" if hasattr(value, "__name__") else f"a {name}"
    return ("an " if name[:1] in "aeiouAEIOU" else "a ") + name


def _called(answer: Any, probe: Probe) -> str:
    if not callable(answer):
        return ""
    given = [_text(arg) for arg in probe.args]
    given += [f"{key}={_text(value)}" for key, value in probe.kwargs.items()]
    return f"{_name(answer)}({', '.join(given)})"


def _name(answer: Any) -> str:
    try:
        return str(answer.__name__)
    except Exception:
        return type(answer).__name__


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of the learner's own code, outermost first."""
    frames = traceback.extract_tb(error.__traceback__, limit=-200)
    return [
        frame
        for frame in frames
        if not frame.filename.startswith(_LIBRARIES) and "-packages" not in frame.filename
    ]


def _raised(error: BaseException, answer: Any, own: str) -> Fields:
    """Report fields for an answer that raised: outcome, what it raised and where, hint."""
    frames = _frames(error)
    innermost = traceback.extract_tb(error.__traceback__, limit=-1)
    if isinstance(error, NotImplementedError) and frames and frames[-1] == innermost[-1]:
        missing = frames[-1].name
        if missing == _name(answer):
            return NOT_WRITTEN
        return {
            "outcome": "not written",
            "message": f"it calls {missing}, which is not written yet",
        }
    try:
        message = " ".join(str(error).split())
    except Exception:
        message = ""
    message = _cut(f"{type(error).__name__}: {message}" if message else type(error).__name__, 300)
    line = ""
    if frames:
        line = f"line {frames[-1].lineno} of {frames[-1].name}"
        line += f": {_cut(frames[-1].line)}" if frames[-1].line else ""
    hint = own
    if isinstance(error, KeyboardInterrupt):
        message, hint = "interrupted: does it loop for ever?", ""
    elif isinstance(error, TypeError) and not frames:
        hint = "Does your function take the arguments of this call?"
    elif isinstance(error, RecursionError):
        hint = "It calls itself without end."
    return {"outcome": "raised", "message": message, "line": line, "hint": hint}


# --- check ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """What a check found; shown as text and, in a notebook, as a box.

    `outcome` is 'passed', 'not written', 'returned nothing', 'wrong type', 'wrong shape', 'raised'
    or 'wrong value'. The texts below it are empty where they do not apply.
    """

    id: str
    outcome: str
    probes: int
    passed_probes: int
    called: str = ""
    returned: str = ""
    expected: str = ""
    where: str = ""
    message: str = ""
    line: str = ""
    says: str = ""
    hint: str = ""
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether every probe passed."""
        return self.outcome == "passed"

    def _head(self) -> tuple[str, str]:
        if self.passed:
            return "passed", f"{self.probes} of {_count(self.probes, 'probe')}"
        if self.outcome == "not written":
            return "not written yet", self.message.removeprefix("not written yet")
        return self.outcome, f"{self.passed_probes} of {_count(self.probes, 'probe')} passed"

    def _rows(self) -> list[tuple[str, str]]:
        message = "" if self.outcome == "not written" else self.message
        rows = [
            ("should", self.says),
            ("called", self.called if self.outcome != "not written" else ""),
            ("raised", message),
            ("at", self.line),
            ("returned", self.returned),
            ("expected", self.expected),
            ("differs at", self.where),
            ("hint", self.hint),
            ("note", self.note),
        ]
        return [(name, text) for name, text in rows if text]

    def __repr__(self) -> str:
        outcome, count = self._head()
        head = f"{_SIGNS.get(self.outcome, '✗')} {self.id}: {outcome}" + f" ({count})" * bool(count)
        return "\n".join([head, *(f"  {name:10} {text}" for name, text in self._rows())])

    def _repr_html_(self) -> str:
        outcome, count = self._head()
        head = f"{_SIGNS.get(self.outcome, '✗')} {outcome}"
        rows = "".join(
            '<div style="display:flex;flex-wrap:wrap;gap:0 1em">'
            f'<dt style="min-width:6em;font-weight:normal">{name}</dt>'
            f'<dd style="margin:0;flex:1;min-width:12em">{_marked(name, text)}</dd></div>'
            for name, text in self._rows()
        )
        return (
            '<div class="lrteach-check" style="border-left:4px double currentColor;padding:.3em 1em">'
            f"<strong>{html.escape(head)}</strong> {html.escape(self.id)}"
            + f" ({html.escape(count)})" * bool(count)
            + f'<dl style="margin:.3em 0 0">{rows}</dl>' * bool(rows)
            + "</div>"
        )


def _marked(name: str, text: str) -> str:
    """A row's text as HTML; code in a fixed-width font, a hint in bold."""
    tag = {"called": "code", "returned": "code", "at": "code", "hint": "strong"}.get(name, "span")
    return f"<{tag}>{html.escape(text)}</{tag}>"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + "s" * (number != 1)


def check(id: str, answer: Any, *probes: Probe) -> Report:
    """Try an answer with each probe and report the first that fails.

    The answer gets its own deep copies of a probe's arguments. A change of one in place is noticed.
    The result is noted in `.lrteach-progress.json` in the current folder, for `progress`.

    Parameters
    ----------
    id : str
        The exercise, as 'decay-1'.
    answer : function or value
        A function is called with the arguments of each probe. A value is compared as it is; `...`
        says that it is not written yet.
    probes : Probe
        At least one, made by `probe`.

    Returns
    -------
    Report
        With `passed`, `outcome` and `hint`. Whatever the answer does, even stopping Python, comes
        back as a report.

    Raises
    ------
    ValueError, TypeError
        The check itself cannot be made as it is given.
    """
    if not isinstance(id, str) or not re.fullmatch(r"[\w.-]+", id):
        raise ValueError(f"check: id={id!r} is not allowed: name the exercise, as in 'decay-1'")
    if not probes:
        raise ValueError(f"check {id!r}: probes is empty, so nothing would be checked")
    for one in probes:
        if not isinstance(one, Probe):
            raise TypeError(f"check {id!r}: probes has {one!r}, which is not made by probe(...)")

    passed = 0
    for one in probes:
        found = _ask(id, answer, one)
        if found is not PASSED:
            break
        passed += 1
    note = _remember(id, found["outcome"])
    return Report(id=id, probes=len(probes), passed_probes=passed, note=note, **found)


def _ask(id: str, answer: Any, probe: Probe) -> Fields:
    """Report fields for one probe."""
    if answer is ...:
        return NOT_WRITTEN
    called = _called(answer, probe)
    if not callable(answer) and (probe.args or probe.kwargs):
        message = f"{_what(answer)}, where a function is expected"
        return {"outcome": "wrong type", "returned": message, "hint": probe.hint}
    try:
        args, kwargs = copy.deepcopy((probe.args, probe.kwargs))
    except Exception as error:
        reason = f"the arguments of {called} cannot be copied: {error}"
        raise ValueError(f"check {id!r}: {reason}") from None
    try:
        value = answer(*args, **kwargs) if callable(answer) else answer
    except BaseException as error:  # SystemExit and KeyboardInterrupt too: the kernel lives on
        return {"called": called, **_raised(error, answer, probe.hint)}
    if value is ...:
        return NOT_WRITTEN
    try:
        changed = None if probe.inplace else _changed_argument(answer, probe, args, kwargs)
        found = _judged(probe, value, changed)
    except BaseException as error:  # its __eq__, its shape or the like
        reason = _cut(f"{type(error).__name__}: {_text(error)}", 200)
        returned = f"{_what(value)}, which could not be looked at ({reason})"
        hint = probe.known_mistake(value) or probe.hint
        found = {"outcome": "wrong type", "returned": returned, "hint": hint}
    return found if found is PASSED else {"called": called, "says": probe.says, **found}


def _judged(probe: Probe, value: Any, changed: str | None) -> Fields:
    """Report fields for what came back, and for an argument that was changed in place."""
    verdict = probe.judge(value)
    if verdict is None and changed is None:
        return PASSED
    in_place = ""
    if changed is not None:
        in_place = (
            f"Your function changed its argument {changed} in place, so the caller's own value is "
            "gone. Compute a new value: `a = a - b` makes one, `a -= b` does not."
        )
    if verdict is None:
        return {"outcome": "wrong value", "returned": _text(value), "hint": in_place}
    outcome = verdict[0]
    if outcome == "returned nothing":
        return {"outcome": outcome, "hint": "Nothing came back: is a `return` missing?"}
    hint = probe.known_mistake(value) or in_place or probe.hint
    return {"outcome": outcome, "hint": hint, **_compared(probe, value, *verdict)}


def _compared(probe: Probe, value: Any, outcome: str, where: str, got: Any, want: Any) -> Fields:
    """What came back and what was expected, in words that differ."""
    if want is _NOTHING:
        return {"returned": _text(value)}
    if outcome != "wrong value" and _what(got) != _what(want):
        place = f" at {where}" if where else ""
        returned = f"{_what(got)}{place}: {_text(got)}"
        return {"returned": returned, "expected": f"{_what(want)}{place}"}
    digits = 17 if _text(got) == _text(want) else 6
    if not where:
        return {"returned": _text(got, digits), "expected": _text(want, digits)}
    there = f"{where}: {_text(got, digits)}, expected {_text(want, digits)}"
    return {"returned": _text(value), "expected": _text(probe.expect), "where": there}


def _changed_argument(
    answer: Any, probe: Probe, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str | None:
    """The name of the first argument that differs from the probe's, or None."""
    names = []
    with suppress(TypeError, ValueError):  # some built-in functions have no signature
        names = list(inspect.signature(answer).parameters)
    for i, (before, after) in enumerate(zip(probe.args, args, strict=True)):
        if _changed(before, after):
            return names[i] if i < len(names) else f"number {i + 1}"
    for name, before in probe.kwargs.items():
        if _changed(before, kwargs[name]):
            return name
    return None


# --- progress -------------------------------------------------------------------------------


def _results() -> tuple[dict[str, str], str]:
    """({id: 'done' or 'tried'}, a message where the file cannot be used)."""
    try:
        found = json.loads(Path(FILE).read_text(encoding="utf-8"))
        return {k: v for k, v in found.items() if v in ("done", "tried")}, ""
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        return {}, f"your progress cannot be read ({error.strerror or error})"
    except (ValueError, AttributeError, TypeError, RecursionError):
        return {}, f"{FILE} is damaged"


def _remember(id: str, outcome: str) -> str:
    """Note a result in the file. Returns a message where that is not possible, else ''."""
    results, message = _results()
    if outcome == "not written":
        return ""
    state = "done" if outcome == "passed" or results.get(id) == "done" else "tried"
    if results.get(id) == state:
        return ""
    path = Path(FILE)
    temporary = path.with_name(f"{FILE}.{os.getpid()}.tmp")
    try:
        if message.endswith("damaged"):
            path.replace(path.with_name(f"{FILE}.damaged"))
            message += f": your progress starts anew, and the old file is kept as {FILE}.damaged"
        try:
            text = json.dumps({**results, id: state}, indent=1, sort_keys=True)
            temporary.write_text(text + "\n", encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        return f"your progress was not saved ({error.strerror or error})"
    return message


def _exercises() -> tuple[list[tuple[str, list[tuple[str, str]]]], list[str]]:
    """([(title of a notebook, [(id, title of an exercise)])], messages about damaged ones)."""
    found, messages = [], []
    for path in sorted(Path().glob("*.ipynb")):
        title, heading, exercises = path.stem, "", []
        try:
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
                source = "".join(cell["source"])
                if cell["cell_type"] == "markdown":
                    for level, text in re.findall(r"^(#{1,2}) +(.+)$", source, re.MULTILINE):
                        title, heading = (text, heading) if level == "#" else (title, text)
                elif ids := re.findall(r"^check\(\s*[\"']([\w.-]+)[\"']", source, re.MULTILINE):
                    exercises += [(id, heading or id) for id in ids]
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            messages.append(f"{path.name} cannot be read as a notebook")
            continue
        if exercises:
            found.append((title.removeprefix("Exercises: "), exercises))
    return found, messages


_WORDS = {"done": "✓ done", "tried": "✗ tried", "not tried": "· not tried"}


@dataclass(frozen=True)
class Progress:
    """Which exercises are done; shown as text and, in a notebook, as tables.

    `chapters` is a list of (title, [(id, title, 'done' or 'tried' or 'not tried')]).
    """

    chapters: list[tuple[str, list[tuple[str, str, str]]]]
    messages: list[str]

    def count(self, state: str) -> int:
        """How many exercises are 'done', 'tried' or 'not tried'."""
        return sum(row[2] == state for _, rows in self.chapters for row in rows)

    def _head(self) -> str:
        total = sum(len(rows) for _, rows in self.chapters)
        if not total:
            return "No exercises in this folder: open a notebook of the book's folder `exercises`."
        return (
            f"{self.count('done')} of {_count(total, 'exercise')} done, "
            f"{self.count('tried')} tried, {self.count('not tried')} not tried"
        )

    def __repr__(self) -> str:
        lines = [self._head()]
        for title, rows in self.chapters:
            lines += ["", title, *(f"  {_WORDS[state]:12} {name}" for _, name, state in rows)]
        return "\n".join(lines + [f"({message})" for message in self.messages])

    def _repr_html_(self) -> str:
        parts = [f"<p><strong>{html.escape(self._head())}</strong></p>"]
        for title, rows in self.chapters:
            body = "".join(
                f'<tr><th scope="row" style="text-align:left;font-weight:normal">{html.escape(name)}'
                f'</th><td style="text-align:left">{_WORDS[state]}</td></tr>'
                for _, name, state in rows
            )
            caption = f'<caption style="text-align:left">{html.escape(title)}</caption>'
            parts.append(f"<table>{caption}<tbody>{body}</tbody></table>")
        parts += [f"<p>{html.escape(message)}</p>" for message in self.messages]
        return f'<div class="lrteach-progress">{"".join(parts)}</div>'


def progress() -> Progress:
    """Show which exercises are done, tried and not tried, in all notebooks of the current folder.

    The exercises are those that the notebooks check; an exercise that was once right stays done.
    Delete `.lrteach-progress.json` to start anew.

    Returns
    -------
    Progress
        With `chapters` and `count('done')`. A damaged or unreadable file is a message in it.
    """
    results, message = _results()
    notebooks, messages = _exercises()
    chapters = [
        (title, [(id, name, results.get(id, "not tried")) for id, name in exercises])
        for title, exercises in notebooks
    ]
    return Progress(chapters, [message] * bool(message) + messages)
