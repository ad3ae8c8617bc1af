"""Sphinx extension: the script that makes `lrteach.interactive`'s figures live.

It is one file, Vega and our few lines, bundled from what vl-convert-python carries, so that no
server is asked, neither when the site is built nor when it is read. Charts come as Vega: Vega-Lite
has done its work in the chapter, and its compiler (a third of the usual bundle) stays at home. Only
pages that have such a figure load the script, when a reader comes near it: begin.js sees to that.
"""

import hashlib
import shutil
from importlib.metadata import version
from pathlib import Path

from kept import kept

HERE = Path(__file__).parent / "interactive"
SCRIPT, BEGIN, LICENCES = HERE / "figures.js", HERE / "begin.js", HERE / "LICENCES.txt"
FOLDER = "interactive"  # of the site's _static
# Evaluates Vega's expressions without `eval`. vl-convert carries exactly one version of it, under this
# address, which is a name here: nothing is fetched.
INTERPRETER = "https://cdn.jsdelivr.net/npm/vega-interpreter@2.0.0/+esm"


def bundle():
    """The whole script: Vega, its interpreter and figures.js, in one function's scope."""
    import vl_convert

    vega = f"https://cdn.jsdelivr.net/npm/vega@{vl_convert.get_vega_version()}/+esm"
    imports = f'import {{ View, parse }} from "{vega}";\n'
    imports += f'import {{ expressionInterpreter }} from "{INTERPRETER}";\n'
    try:
        script = vl_convert.javascript_bundle(snippet=imports + SCRIPT.read_text("utf-8"))
    except BaseException as error:  # a panic of its Rust code is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise RuntimeError(
            f"vl-convert-python {version('vl-convert-python')} does not carry {INTERPRETER}: "
            "look up its version and change INTERPRETER in tools/sphinx_interactive.py"
        ) from error
    # A plain script, not a module: browsers refuse modules of pages that are opened as files.
    return f"(() => {{\n{script}\n}})();\n"


def write_script(app):
    """When the build begins: put the script where pages will look for it."""
    if app.builder.format != "html":
        return
    text = (
        version("vl-convert-python") + SCRIPT.read_text("utf-8") + Path(__file__).read_text("utf-8")
    )
    outdir = Path(app.outdir)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    script = kept(outdir.parent / ".slim", key, ".js", lambda p: p.write_text(bundle(), "utf-8"))
    target = outdir / "_static" / FOLDER
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(script, target / "interactive.js")
    for file in (BEGIN, LICENCES):
        shutil.copyfile(file, target / file.name)


def load_script(app, pagename, templatename, context, doctree):
    if 'class="interactive"' in (context.get("body") or ""):
        app.add_js_file(f"{FOLDER}/{BEGIN.name}", loading_method="defer")


def setup(app):
    app.connect("builder-inited", write_script)
    app.connect("html-page-context", load_script)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
