"""Sphinx extension: after an edit, read and write only the pages that it can change.

The site is byte for byte what a build from nothing gives. Sphinx alone does not promise that: it
looks at the times of sources only, and our last passes change the pages that it has written. So
`_build/.last` keeps the doctrees of the last build that succeeded, and its site as it was before
the last passes, which are for all pages every time. Each build begins with a copy of both.

- A page is read again when its text, its results or a file that it read has another hash.
- If what pages can see of each other is not the same as before (titles, numbers, labels, terms,
  citations), all pages are written; otherwise those that were read.
- If anything but the text and the results of pages is not the same (the toc, the configuration,
  these tools, the package, the installed libraries), everything is done from the beginning.
"""

import hashlib
import json
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from docutils import nodes
from sphinx.util.index_entries import split_index_msg

ROOT = Path(__file__).resolve().parents[1]
# What an environment holds for itself, or about single pages: no page sees it of another.
OWN = {
    "all_docs", "app", "config", "config_status", "config_status_extra", "dependencies", "dlfiles",
    "doctreedir", "domains", "events", "images", "included", "metadata", "nb_metadata",
    "nb_new_exec_data", "original_image_uri", "page_digests", "project", "ref_context", "settings",
    "shared_digest", "srcdir", "temp_data", "titles_old", "toc_num_entries", "version",
}  # fmt: skip

# Lines of a source, and what is made of the bibliography's file, which is one of the surroundings.
IGNORED = {"line", "bibdata", "citations"}


# --- from one build to the next: called by tools/book.py --------------------------------------


def surroundings(root=ROOT):
    """A hash of all that the site is made of, but for the text and the results of its pages."""
    digest = hashlib.sha256()
    libraries = sorted(path.name for path in Path(sysconfig.get_path("purelib")).glob("*-info"))
    digest.update(repr((sys.version, libraries, os.environ.get("BOOK_URL"))).encode())
    files = [root / name for name in ("_config.yml", "_toc.yml", "requirements.lock")]
    for folder in ("book", "lrteach", "tools", "exercises", "benchmarks"):
        files += sorted(p for p in (root / folder).rglob("*") if "__pycache__" not in p.parts)
    for file in files:
        if file.is_file():
            digest.update(file.relative_to(root).as_posix().encode())
            if file.suffix != ".md" or root / "book" not in file.parents:
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def results_digests(notebooks):
    """{page: a hash of what its cells have shown}."""
    return {
        name: hashlib.sha256(
            json.dumps([cell.get("outputs") for cell in notebook.cells], sort_keys=True).encode()
        ).hexdigest()
        for name, notebook in notebooks.items()
    }


def begin(build, now):
    """Put back what the last build left, if it can be gone on from. Returns whether it can."""
    last = build / ".last"
    for name in ("html", ".doctrees", ".next"):
        shutil.rmtree(build / name, ignore_errors=True)
    try:
        known = (last / "surroundings").read_text("utf-8") == now
    except OSError:
        known = False
    if known:
        shutil.copytree(last / "html", build / "html")
        shutil.copytree(last / "doctrees", build / ".doctrees")
    return known


def keep(build, now):
    """After a build that succeeded: what the extension has put aside becomes the last build."""
    last, following = build / ".last", build / ".next"
    shutil.copytree(build / ".doctrees", following / "doctrees")
    (last / "surroundings").unlink(missing_ok=True)  # half of it must not be taken for whole
    shutil.rmtree(last, ignore_errors=True)
    following.rename(last)
    (last / "surroundings").write_text(now, "utf-8")  # the last thing: without it there is none


# --- within a build ---------------------------------------------------------------------------


def digest_of(value):
    """A hash that depends on what a value says, not on the order of sets or the lines of a source."""
    return hashlib.sha256(repr(plain(value)).encode()).hexdigest()


def plain(value):
    """A value of an environment as lists, strings and numbers."""
    if isinstance(value, nodes.Node):
        return value.pformat()
    if isinstance(value, dict):
        items = ((repr(plain(k)), plain(v)) for k, v in value.items() if k not in IGNORED)
        return sorted(items, key=lambda item: item[0])
    if isinstance(value, set | frozenset):
        return sorted(repr(plain(item)) for item in value)
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, list | tuple):
        items = [plain(item) for item in value]
        # records of all pages, e.g. of citations: those of a page that is read again come last
        return sorted(items, key=repr) if any(hasattr(v, "_asdict") for v in value) else items
    if value is None or isinstance(value, str | bytes | int | float):
        return value
    if isinstance(value, Path):
        return str(value)
    return [type(value).__name__, plain(getattr(value, "__dict__", {})) or str(value)]


def digest_of_page(env, name, source, results):
    """A hash of a page's text, of which `source` is one, its results and the files that it read."""
    digest = hashlib.sha256((source + results.get(name, "")).encode())
    for file in sorted(env.dependencies.get(name, ())):
        path = Path(env.srcdir, file)
        digest.update(path.read_bytes() if path.is_file() else b"\0")
    return digest.hexdigest()


def digests_of_pages(app, env):
    file = Path(app.outdir).parent / "results.json"
    results = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return {
        name: digest_of_page(env, name, source, results)
        for name, source in app.page_sources.items()
    }


def changed_pages(app, env, added, changed, removed):
    """Pages to read again, whatever the times of their files say."""
    before = getattr(env, "page_digests", {})
    # Taken before they are read: who edits a page meanwhile will find it read again.
    app.page_sources = {
        name: hashlib.sha256(Path(env.doc2path(name)).read_bytes()).hexdigest()
        for name in env.found_docs
    }
    return [name for name, d in digests_of_pages(app, env).items() if before.get(name) != d]


def pages_that_see_a_change(app, env):
    """All pages to be written, if something changed that pages can see of each other."""
    env.page_digests = digests_of_pages(app, env)
    seen = {k: v for k, v in vars(env).items() if k not in OWN and not k.startswith("_")}
    before, env.shared_digest = getattr(env, "shared_digest", None), digest_of(seen)
    return [] if before == env.shared_digest else list(env.found_docs)


def complete_search_index(app):
    """Give the search index what Sphinx forgets of pages that it has not written again."""
    indexer = getattr(app.builder, "indexer", None)
    if indexer is None:
        return []
    found = dict(indexer._index_entries)
    for name, entries in app.env.domaindata["index"]["entries"].items():
        if name in indexer._titles and name not in found:
            words = set()
            for kind, value, target, main, _ in entries:
                parts = split_index_msg(kind, value)
                words |= {(part, target or "", main) for part in parts}
                if kind in ("see", "seealso"):
                    words.add((parts[0], target or "", main))
            found[name] = sorted(words)
    indexer._index_entries.clear()
    indexer._index_entries.update(sorted(found.items()))
    for pages_of in (indexer._mapping, indexer._title_mapping):
        for word in [word for word, pages in pages_of.items() if not pages]:
            del pages_of[word]  # no page has it any more
    return []


def put_aside(app, error):
    """Keep the site as Sphinx wrote it, without the files of pages and results that are gone."""
    if error or app.builder.name != "html":
        return
    outdir = Path(app.outdir)
    images = {name for _, name in app.env.images.values()}
    for file in (outdir / "_images").glob("*"):
        if file.name not in images:
            file.unlink()
    target = outdir.parent / ".next" / "html"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(outdir, target)


def setup(app):
    app.connect("env-get-outdated", changed_pages)
    # When titles and figures have their numbers, and before the environment is saved.
    app.connect("env-get-updated", pages_that_see_a_change, priority=900)
    app.connect("html-collect-pages", complete_search_index)
    app.connect("build-finished", put_aside, priority=1)  # before the last passes
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
