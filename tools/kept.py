"""Results of earlier builds in `_build`: each is there whole and undamaged, or made again."""

import hashlib
import json
import os

from sphinx.errors import SphinxError


class DamagedError(SphinxError):
    """A file that was made earlier cannot be used. The message says what to do."""

    category = "Damaged file"


def kept(folder, key, suffix, make):
    """The path of the file that `make(path)` writes, which an earlier build may have made.

    `key` is a hash of what it is made of. Its own hash is part of its name, so that a file that
    was damaged later is noticed.
    """
    for path in sorted(folder.glob(f"{key}-*{suffix}")):
        if path.stem == f"{key}-{hash_of(path)}":
            return path
        path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{key}.{os.getpid()}{suffix}"
    try:
        make(temporary)
        return temporary.replace(folder / f"{key}-{hash_of(temporary)}{suffix}")
    finally:
        temporary.unlink(missing_ok=True)


def hash_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def read_json(path, kind, mend="run `make clean`, then `make book`"):
    """What a JSON file holds, a dict or a list; DamagedError where it cannot be used."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DamagedError(f"{path} cannot be read ({error.strerror}): {mend}") from None
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged ({error}): {mend}") from None
    if not isinstance(content, kind):
        raise DamagedError(f"{path} is damaged (no {kind.__name__}): {mend}")
    return content
