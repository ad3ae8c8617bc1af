"""What the fuzzing tests share: how many examples they try, and how a file gets damaged.

`make test` tries few examples, the same every time; `make fuzz` sets FUZZ, which multiplies their
number and lets hypothesis draw others.
"""

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

TIMES = int(os.environ.get("FUZZ") or 1)


def tries(count):
    """Settings of a test that makes so many examples, or FUZZ times as many."""
    return settings(
        max_examples=count * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def flip(content, place):
    """One bit changed: number `place`, counted around the content."""
    changed = bytearray(content)
    if changed:
        byte, bit = divmod(place % (8 * len(changed)), 8)
        changed[byte] ^= 1 << bit
    return bytes(changed)


@st.composite
def damaged(draw, contents):
    """One of the contents after one to three accidents."""
    content = draw(st.sampled_from(contents))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        to = draw(st.integers(at, min(len(content), at + 40)))
        content = draw(
            st.sampled_from(
                [
                    lambda c=content, at=at: c[:at],
                    lambda c=content, at=at, to=to: c[:at] + c[to:],
                    lambda c=content, at=at, to=to: c[:to] + c[at:to] + c[to:],
                    lambda c=content, at=at: flip(c, 8 * at + at % 7),
                    lambda c=content, at=at, to=to: c[:at] + bytes(to - at) + c[to:],
                    lambda c=content, at=at, to=to: c[:at] + draw(WORDS) + c[to:],
                ]
            )
        )()
    return content


WORDS = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        b'nan|inf|-1e999|1e308|1e400|0x1|99999999999999999999|1_0|""|"|\n|\r|\r\n|\xef\xbb\xbf|\xff\xfe|'
        b'\x00|\x1a|,|;|\t|null|true|[]|{}|[[1]]|{"loss": 1}|\\ud800|\xc2\xa0|\xd9\xa3|step|loss|lr|=1+1'.split(
            b"|"
        )
    ),
)
