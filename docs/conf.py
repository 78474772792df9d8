"""How the documentation is built: `python3 scripts/bootstrap.py docs`. Needs no network."""

import enum
import inspect
import re
from importlib import metadata
from pathlib import Path

from sphinx.ext.napoleon import GoogleDocstring

project = "recjax"
author = "The recjax authors"
copyright = author
release = version = metadata.version("recjax")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "_templates", "**.ipynb_checkpoints"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = f"recjax {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks show the outputs that are stored in them
nb_merge_streams = True

# A page shows what its package exports in __all__, in that order, wherever it is defined.
autosummary_generate = True
autosummary_imported_members = True
autosummary_ignore_module_all = False
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_attr_annotations = False  # the docstrings give shape and dtype, which says more than Array
toc_object_entries_show_parents = "hide"

# What Flax and NamedTuple add to every class says nothing about that class.
GENERATED = {"name", "parent", "scope", "replace", "setup"}
FLAX_ARGUMENTS = re.compile(r", parent: .*?_Sentinel object>, name: .*? = None(?=\)$)")
PACKAGES = set(re.findall(r"^   (recjax\.[\w.]+)$", (Path(__file__).parent / "api.md").read_text(), re.MULTILINE))
"""What has a page of its own."""

CLASS_DEFAULT = re.compile(r"<class '(?:[\w.]+\.)?(\w+)'>")


def skip_generated(app, what, name, member, skip, options):
    """Leaves out what Flax and NamedTuple generate, and `register`, a method of each registry."""
    if isinstance(member, enum.Enum) and member.name == name:
        return False
    if what == "class" and (name in GENERATED or type(member).__name__ == "_tuplegetter"):
        return True
    if what == "class" and inspect.isclass(member) and member.__name__ != name:
        return True  # a class that is the default of a field, as jnp.float32 of dtype
    if what == "module" and (inspect.ismethod(member) or is_described_below(app.env.docname, member)):
        return True
    return skip


def is_described_below(docname, member):
    """Whether a package that the one of this page exports from has a page of its own, where the member stands."""
    package, home = docname.removeprefix("api/"), getattr(member, "__module__", None) or ""
    return any(f"{home}.".startswith(f"{other}.") and other.startswith(f"{package}.") for other in PACKAGES)


def shorten_signature(app, what, name, member, options, signature, returns):
    """Shows the fields of a Flax module as they were written."""
    if signature is not None:
        signature = CLASS_DEFAULT.sub(r"\1", FLAX_ARGUMENTS.sub("", signature))
    return signature, returns


def whole_text(docstring):
    """The text below an attribute as it stands; napoleon would take what comes before a colon for its type."""
    return "", GoogleDocstring(docstring._consume_to_end(), docstring._config).lines()


def setup(app):
    """Connects the filters above."""
    GoogleDocstring._consume_inline_attribute = whole_text
    app.connect("autodoc-skip-member", skip_generated)
    app.connect("autodoc-process-signature", shorten_signature)
