"""Sphinx configuration.  The pages under `api/` are written from `reference.py` at each build."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

import inventories  # noqa: E402  (found through the line above)
import reference  # noqa: E402

_project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]

# As it is imported; the name that it is installed by is another one.
project = "tractor"
version = release = _project["version"]
author = "the tractor contributors"
copyright = "the tractor contributors, MIT OR Apache-2.0"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]

# The build has no network: `inventories/write.py` has written these, of the names that the pages refer to.
intersphinx_mapping = {
    name: (site, f"inventories/{name}.inv") for name, site in inventories.SITES.items()
}
intersphinx_disabled_reftypes = ["std:doc"]

# A button that copies a block, without prompts; what a program prints has none.
copybutton_prompt_text = r"\$ |>>> |\.\.\. |In \[\d+\]: "
copybutton_prompt_is_regexp = True
copybutton_selector = "div:not(.highlight-text) > div.highlight > pre"
html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
pygments_style = "friendly"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True


NAMED_FILE = re.compile(r"``((?:examples|tests)/[\w/]+\.\w+)``")


def link_files(app: Any, docname: str, source: list[str]) -> None:
    """Have each file of the repository that a page names lead to it: a wheel has none of them."""
    base = f"{_project['urls']['Source']}/blob/main"
    source[0] = NAMED_FILE.sub(rf"`\1 <{base}/\1>`__", source[0])


def setup(app: Any) -> None:
    app.connect("missing-reference", lambda app, env, node, text: inventories.alias(node), 100)
    app.connect("source-read", link_files)
    app.connect("builder-inited", lambda app: reference.write(HERE / "api"))
