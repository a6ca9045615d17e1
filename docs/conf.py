"""Settings of `make docs`: Sphinx reads the pages of this folder, and runs what they run."""

import os
from pathlib import Path

DOCS = Path(__file__).parent

project = "tinyattn"
author = "tinyattn contributors"
copyright = author
html_title = "tinyattn"

# MathJax comes from a package, not from a network, so that the pages read offline.
extensions = ["myst_nb", "sphinx-mathjax-offline"]
exclude_patterns = ["_build", "exercises/solutions"]  # to be looked for, not to be stumbled over
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True  # what a cell prints stands in one box

# What the pages run sees the demos, which aren't installed, and takes one thread for its small matrices.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(DOCS.parent), os.environ.get("PYTHONPATH")]))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Formulas stand at the left: in the middle MathJax keeps room for a label on both sides, too much for a phone.
mathjax3_config = {"chtml": {"displayAlign": "left"}, "output": {"displayAlign": "left"}}
mathjax4_config = mathjax3_config

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}

nitpicky = True
suppress_warnings = ["myst.header"]  # pages of the reference begin at a second level
