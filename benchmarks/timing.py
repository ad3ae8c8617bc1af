"""Timing side by side, which a busy machine disturbs less than timing one after another."""

import statistics
import time


def compare(functions, rounds=9):
    """Time the functions in turn, A, B, C, A, B, C, ..., in one process.

    Parameters
    ----------
    functions : dict
        name -> function without arguments. The first one is what the others are compared with.
    rounds : int
        How many times each is timed, after one round to warm up.

    Returns
    -------
    dict
        "variants": the median seconds of each; "ratios": for each but the first, how many times
        as fast as the first it is, the median over rounds of first / this.
    """
    table = []
    for _ in range(rounds + 1):
        seconds = []
        for function in functions.values():
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
        table.append(seconds)
    columns = dict(zip(functions, zip(*table[1:], strict=True), strict=True))
    first, *others = functions
    return {
        "variants": {name: statistics.median(column) for name, column in columns.items()},
        "ratios": {
            name: statistics.median(
                a / b for a, b in zip(columns[first], columns[name], strict=True)
            )
            for name in others
        },
    }
