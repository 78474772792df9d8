"""How the documentation is built: `python3 scripts/bootstrap.py docs`. Needs no network."""

import enum
import inspect
import re
from importlib import metadata

project = "recjax"
author = "The recjax authors"
release = version = metadata.version("recjax")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = f"recjax {release}"

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

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
CLASS_DEFAULT = re.compile(r"<class '(?:[\w.]+\.)?(\w+)'>")


def skip_generated(app, what, name, member, skip, options):
    """Leaves out what Flax and NamedTuple generate, and `register`, a method of each registry."""
    if isinstance(member, enum.Enum) and member.name == name:
        return False
    if what == "class" and (name in GENERATED or type(member).__name__ == "_tuplegetter"):
        return True
    if what == "class" and inspect.isclass(member) and member.__name__ != name:
        return True  # a class that is the default of a field, as jnp.float32 of dtype
    if what == "module" and inspect.ismethod(member):
        return True
    return skip


def shorten_signature(app, what, name, member, options, signature, returns):
    """Shows the fields of a Flax module as they were written."""
    if signature is not None:
        signature = CLASS_DEFAULT.sub(r"\1", FLAX_ARGUMENTS.sub("", signature))
    return signature, returns


def setup(app):
    """Connects the filters above."""
    app.connect("autodoc-skip-member", skip_generated)
    app.connect("autodoc-process-signature", shorten_signature)
