"""`claim`: a sentence of the book with the measurement that decides it.

A claim that does not hold raises, so the book does not build. One that holds shows a row and
leaves a machine-readable output, from which the ledger of claims is made.
"""

import html
import re
from numbers import Number
from typing import Any

import numpy as np

__all__ = ["claim", "Claim", "ClaimError", "MIME"]

MIME = "application/vnd.lrteach.claim+json"


class ClaimError(AssertionError):
    """What was measured is not what was claimed."""


class Claim:
    """A claim that holds. Notebooks show it as a row; `data` is what the ledger keeps."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return {"text/plain": repr(self), "text/html": self._html(), MIME: self.data}

    def __repr__(self) -> str:
        # Only what is the same on every machine: the measurement's digits are not.
        return f"✓ {self.data['name']} ({self.data['expected']})"

    def _html(self) -> str:
        d = {k: html.escape(str(v)) for k, v in self.data.items()}
        return (
            f'<div class="claim" id="{d["id"]}"><span class="claim-verdict">✓ holds</span> '
            f'<span class="claim-name">{d["name"]}</span> <dl>'
            f"<dt>measured</dt><dd>{d['measured']}</dd>"
            f"<dt>expected</dt><dd>{d['expected']}</dd></dl></div>"
        )


def claim(
    name: str,
    *,
    measured: Any,
    predicted: Any = None,
    rtol: float | None = None,
    atol: float | None = None,
    above: Any = None,
    below: Any = None,
    source: str | None = None,
) -> Claim:
    """State that something measured is what theory, or the text, says. Raise if it is not.

    Give one of: `predicted` with `rtol` (a share of it), `atol`, or both; `predicted` alone for
    bool, int and str, which must be equal; `above`, `below`, or both, which are not allowed to
    be reached. An array holds if every entry does. A measurement that is NaN or infinite never
    holds: to claim that a run diverged, measure `run.diverged`.

    Parameters
    ----------
    name : str
        The sentence, true or false.
    measured, predicted, above, below : number, or arrays that broadcast
    rtol, atol : float >= 0
    source : str, optional
        Key of the bibliography entry that states it.

    Returns
    -------
    Claim
        Shown as a row when it is the last expression of a notebook cell.

    Raises
    ------
    ClaimError
        It does not hold.
    ValueError
        The claim cannot be checked as it is given.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"name={name!r} is not allowed: a claim is a sentence")
    bounded = above is not None or below is not None
    if (predicted is not None) == bounded:
        raise ValueError(f"claim {name!r}: give either predicted, or above and/or below")
    if bounded and (rtol is not None or atol is not None):
        raise ValueError(f"claim {name!r}: rtol and atol go with predicted")

    values = np.asarray(measured)
    if values.size == 0:
        raise ValueError(f"claim {name!r}: measured is empty, so nothing would be checked")
    if bounded:
        holds = np.isfinite(values)
        if above is not None:
            holds = holds & (values > above)
        if below is not None:
            holds = holds & (values < below)
        expected = " and ".join(
            f"{word} {_text(bound)}"
            for word, bound in (("above", above), ("below", below))
            if bound is not None
        )
    else:
        holds, expected = _near(name, values, predicted, rtol, atol)
    if np.size(holds) == 0:
        raise ValueError(f"claim {name!r}: what is expected is empty, so nothing would be checked")

    data = {
        "id": "claim-" + re.sub(r"[\W_]+", "-", name.lower()).strip("-")[:80].strip("-"),
        "name": name,
        "measured": _text(measured),
        "expected": expected,
        "verdict": "holds",
        "source": source,
    }
    if not np.all(holds):
        raise ClaimError(
            f"claim does not hold: {name}\n  measured: {data['measured']}\n  expected: {expected}"
        )
    return Claim(data)


def _near(
    name: str, values: np.ndarray, predicted: Any, rtol: float | None, atol: float | None
) -> tuple[Any, str]:
    """Whether values are near the prediction, entry by entry, and that condition in words."""
    target = np.asarray(predicted)
    if rtol is None and atol is None:
        if target.dtype.kind not in "biuUS":
            raise ValueError(f"claim {name!r}: a predicted float needs rtol or atol")
        return values == target, f"exactly {_text(predicted)}"
    for tolerance in (rtol, atol):
        if tolerance is not None and not 0 <= tolerance < np.inf:
            raise ValueError(f"claim {name!r}: a tolerance of {tolerance!r} is not allowed")
    if not np.all(np.isfinite(target)):
        raise ValueError(f"claim {name!r}: predicted is not finite")
    allowed = (atol or 0.0) + (rtol or 0.0) * np.abs(target)
    words = [f"{100 * rtol:.3g} %"] if rtol is not None else []
    words += [f"{atol:.3g}"] if atol is not None else []
    error = np.abs(values.astype(float) - target.astype(float))  # unsigned ints would wrap
    return error <= allowed, f"{_text(predicted)} ± {' ± '.join(words)}"


def _text(value: Any) -> str:
    """A short text: six digits of a number, the range of an array."""
    if isinstance(value, bool | np.bool_ | str):
        return str(value)
    if isinstance(value, Number) or np.ndim(value) == 0:
        return f"{float(value):.6g}"
    array = np.asarray(value)
    if array.dtype.kind in "bUS" or array.size <= 4:
        return ", ".join(_text(entry) for entry in array.ravel().tolist())
    return f"{array.size} values in [{array.min():.6g}, {array.max():.6g}]"
