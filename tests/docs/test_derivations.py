"""Every label in the code, as (softmax.3), stands at a formula on the page that derives it, and on no other."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from tinyattn.rules import RULES

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "derivations"

PAGES = {
    "products": {"matmul", "linear", "dot", "tensordot", "outer", "einsum"},
    "elementwise": {
        *("positive", "negative", "add", "subtract", "multiply", "divide", "power", "absolute", "sign", "square"),
        *("sqrt", "exp", "exp2", "expm1", "log", "log2", "log1p", "tanh", "sin", "cos", "erf", "maximum", "minimum"),
        *("clip", "where", "astype"),
    },
    "reductions": {"sum", "mean", "var", "std", "prod", "cumsum", "max", "min", "logsumexp", "norm"},
    "shapes": {
        *("reshape", "ravel", "transpose", "moveaxis", "swapaxes", "expand_dims", "squeeze", "broadcast_to"),
        *("concatenate", "stack", "flip", "roll", "pad", "tile", "tril", "triu"),
    },
    "softmax": {"softmax", "log_softmax", "cross_entropy"},
    "losses": {"mse_loss", "binary_cross_entropy"},
    "activations": {"relu", "leaky_relu", "softplus", "sigmoid", "silu", "gelu", "dropout"},
    "attention": {"attention"},
    "heads": {"multi_head"},
    "rope": {"rope"},
    "layer_norm": {"layer_norm", "rms_norm"},
    "block": {"block", "mlp"},
    "embedding": {
        *("index", "scatter", "embedding", "take", "take_along_axis", "sort", "repeat", "diagonal"),
    },
    "adam": {"sgd", "clip_grad_norm", "adam", "adamw"},
}
"""Each page, and the families of labels that it derives: of (softmax.3) the family is `softmax`."""

OWN = {"by_hand/pronoun.py": "pronoun"}
"""Modules whose labels are their own: there (softmax.1) is a line of the toy's softmax. The page has them all."""

ELSEWHERE = {
    "jacobian": "what `ta.jacobian` does with backward passes; no rule",
    "sweep": "how far finite differences are off; no gradient is derived",
}
"""Families without a page, and why."""

RULE_FAMILIES = {
    "attention_weights": "attention",
    "multi_head_attention": "multi_head",
    "binary_cross_entropy_with_logits": "binary_cross_entropy",
}
"""Rules whose labels have another name than theirs."""

NAME = r"[a-z][a-z0-9_]*\.\d+'?"
LABEL = re.compile(rf"\(({NAME})\)")
APART = re.compile(r"\$\$(.*?)\$\$", re.DOTALL)
IN_FORMULA = re.compile(rf"\\(?:tag\{{({NAME})\}}|text\{{\(({NAME})\)\}})")
RELATION = re.compile(r"=|\\leftarrow")
AT_FORMULA = (
    re.compile(rf"^\|.*\$.*\$.*\| *\(({NAME})\) *\|$", re.MULTILINE),  # in a row of a table of formulas
    re.compile(rf"^- `\(({NAME})\)`:?(?=(?:.|\n(?!- |\n))*\$)", re.MULTILINE),  # at an item that has a formula
)
EXECUTED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def family(label):
    return label.partition(".")[0]


def read_code():
    modules = (ROOT / "tinyattn").rglob("*.py")
    return {str(path.relative_to(ROOT / "tinyattn")): path.read_text(encoding="utf-8") for path in modules}


def read_pages():
    return {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}


def page_of(module, label):
    """The pages that should derive a label of that module; one, unless the table is wrong."""
    if module in OWN:
        return [OWN[module]]
    return [page for page, families in PAGES.items() if family(label) in families]


def derived(text):
    """The labels that stand at formulas."""
    prose = EXECUTED.sub("", text)
    found = {label for pattern in AT_FORMULA for label in pattern.findall(prose)}
    for formula in APART.findall(prose):
        if RELATION.search(IN_FORMULA.sub("", formula)):
            found |= {label for pair in IN_FORMULA.findall(formula) for label in pair if label}
    return found


def problems(code, pages):
    """What is wrong between the labels of the code {module: text} and those of the pages {name: text}."""
    found, expected = [], {page: set() for page in pages}
    for module, text in code.items():
        for label in sorted(set(LABEL.findall(text))):
            homes = page_of(module, label)
            if family(label) in ELSEWHERE and module not in OWN:
                homes = [*homes, None]
            if len(homes) != 1:
                found.append(f"({label}) of {module} has {len(homes)} pages")
            elif homes[0] is not None:
                expected.setdefault(homes[0], set()).add(label)
    everything = set().union(*expected.values())
    for page, labels in expected.items():
        there = derived(pages.get(page, ""))
        found += [f"{page}.md lacks a formula labelled ({label})" for label in sorted(labels - there)]
        found += [f"{page}.md derives ({label}), which isn't its own" for label in sorted(there - labels)]
        said = set(LABEL.findall(pages.get(page, "")))
        found += [f"{page}.md speaks of ({label}), which is nowhere" for label in sorted(said - everything - labels)]
    return found


def test_every_label_in_the_code_is_derived_on_its_page_and_on_no_other():
    assert problems(read_code(), read_pages()) == []


def test_every_rule_has_labels_and_a_page():
    families = set().union(*PAGES.values())
    for name in RULES:
        assert RULE_FAMILIES.get(name, name) in families, f"{name} has no page"
    labelled = {family(label) for text in read_code().values() for label in LABEL.findall(text)}
    assert families <= labelled, "the table names families that the code doesn't have"
    assert set(ELSEWHERE) <= labelled


def test_every_page_is_in_the_table_and_in_the_index():
    assert set(read_pages()) == {*PAGES, *OWN.values()}
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^derivations/(\w+)$", index, re.MULTILINE)
    assert sorted(listed) == sorted(read_pages())


@pytest.mark.parametrize("module", ["rules", "by_hand", "optim.py"])
def test_there_is_much_to_find(module):
    """A pattern that finds nothing would find nothing wrong."""
    text = "".join(source for path, source in read_code().items() if path.startswith(module))
    assert len(set(LABEL.findall(text))) >= {"rules": 130, "by_hand": 60, "optim.py": 5}[module]


ALL = sorted([*PAGES, *OWN.values()])


def cells_of(text):
    """The cells of a page, as one program."""
    cells = re.findall(r"^```\{code-cell\} python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [re.sub(r"\A---\n.*?\n---\n", "", cell, flags=re.DOTALL) for cell in cells]


@pytest.mark.parametrize("page", ALL)
def test_the_page_has_numbers_of_its_own_and_would_stop_if_they_differed(page):
    text = read_pages()[page]
    assert text.startswith("---\nfile_format: mystnb\n")
    program = "".join(cells_of(text))
    asserts = [node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Assert)]
    assert asserts
    assert "ta.tensor(" in program
    assert ".backward(" in program or "by_optimizer" in program, "the tape"
    assert re.search(r"1e-20|differences|numeric|by_hand -|past", program), "a witness that knows no backward"


@pytest.mark.parametrize("page", ALL)
def test_every_figure_has_a_text(page):
    cells = re.findall(r"^```\{code-cell\} python\n(.*?)^```$", read_pages()[page], re.DOTALL | re.MULTILINE)
    for cell in cells:
        if "plt.show" in cell:
            assert re.search(r"^    alt: .{60,}$", cell, re.MULTILINE)


def execute(text, monkeypatch):
    """Run a page's cells, as the build of the site does."""
    matplotlib = pytest.importorskip("matplotlib", reason="Matplotlib isn't installed")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    with np.printoptions():  # the pages set their own
        exec(compile("\n".join(cells_of(text)), "page", "exec"), {"__name__": "__main__"})


@pytest.mark.slow
@pytest.mark.parametrize("page", ALL)
def test_the_page_runs(page, monkeypatch, capsys):
    execute(read_pages()[page], monkeypatch)
    assert capsys.readouterr().out


WRONG = {
    "products": ("d_x, d_y = d_z @ y.T, x.T @ d_z", "d_x, d_y = d_z @ y.T, 2 * x.T @ d_z"),
    "softmax": ("weights * (d_weights - weights @ d_weights)", "weights * d_weights"),
    "losses": ("print(\"σ(s) − t:", "said = said * said; print(\"σ(s) − t:"),
    "attention": ("d_scores @ key / np.sqrt(d_k)", "d_scores @ key"),
    "heads": ("d_x = as_query + as_key + as_value", "d_x = as_query + as_key"),
    "elementwise": ("exact = np.array([math.erf(", "exact = np.array([1e-14 + math.erf("),
    "rope": ("d_y[:, 0::2] * cos + d_y[:, 1::2] * sin", "d_y[:, 0::2] * cos - d_y[:, 1::2] * sin"),
    "layer_norm": ("d_normed - d_normed.mean() - normed", "d_normed - normed"),
    "activations": ("sigma + x * sigma * (1 - sigma)", "sigma + sigma * (1 - sigma)"),
    "block": ("d_x = path * d_h + by_attention", "d_x = path * d_y + by_attention"),
    "embedding": ("d_W = H.T @ d_y", "d_W = np.minimum(H.T @ d_y, 2.0)"),
    "adam": ("(m / (1 - b1**t))", "m"),
    "reductions": ("x / np.sqrt(x @ x)", "x / (x @ x)"),
    "shapes": ("(A.T @ d_y.ravel())", "(A.T @ d_y.ravel()[::-1])"),
    "pronoun": ("eps=toy.EPSILON", "eps=1e-3"),
}
"""A mistake for a line of each page, (right, wrong)."""


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(WRONG))
def test_a_page_with_a_wrong_line_stops(page, monkeypatch):
    right, wrong = WRONG[page]
    with pytest.raises(AssertionError):
        execute(planted(read_pages(), page, right, wrong)[page], monkeypatch)


# ------------------------------------------------------------------------------------------ mistakes, to test the tests


def planted(of, path, old, new):
    assert old in of[path], "the mistake has to be made somewhere"
    return of | {path: of[path].replace(old, new, 1)}


PLANTED = {
    "a formula loses its label": (
        "softmax",
        r" \tag{log_softmax.1}",
        "",
        "softmax.md lacks a formula labelled (log_softmax.1)",
    ),
    "a label in prose only": (
        "layer_norm",
        r"\tag{layer_norm.3}",
        "$$\n\nThat is (layer_norm.3).\n\n$$",
        "layer_norm.md lacks a formula labelled (layer_norm.3)",
    ),
    "a label at no formula": (
        "rope",
        r"\bar x = R_p^\top\, \bar y = R_{-p}\, \bar y",
        r"\text{turned back}",
        "rope.md lacks a formula labelled (rope.3)",
    ),
    "a row of a table loses its formulas": (
        "shapes",
        r"| $y_i = x_{n+1-i}$ | $\bar x_i = \bar y_{n+1-i}$ | (flip.1) |",
        "| the other way round | likewise | (flip.1) |",
        "shapes.md lacks a formula labelled (flip.1)",
    ),
    "an item says nothing": (
        "pronoun",
        r"- `(attend.3')`: $\bar X_V = \bar V W_V^\top$ $(n, d)$, $\bar W_V = X_V^\top \bar V$;",
        "- `(attend.3')` is likewise;",
        "pronoun.md lacks a formula labelled (attend.3')",
    ),
    "a wrong number": (
        "adam",
        r"\tag{adam.2}",
        r"\tag{adam.3}",
        "adam.md derives (adam.3), which isn't its own",
    ),
    "a label of another page": (
        "heads",
        r"\text{(multi_head.1)}",
        r"\text{(attention.1)}",
        "heads.md derives (attention.1), which isn't its own",
    ),
    "a mention of what isn't": (
        "attention",
        "By (softmax.3)",
        "By (softmax.7)",
        "attention.md speaks of (softmax.7), which is nowhere",
    ),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_mistake_on_a_page_is_found(mistake):
    page, old, new, told = PLANTED[mistake]
    assert told in problems(read_code(), planted(read_pages(), page, old, new))


@pytest.mark.parametrize(
    ("module", "new", "told"),
    [
        ("rules/softmax.py", "(softmax.4)", "softmax.md lacks a formula labelled (softmax.4)"),
        ("rules/new.py", "(entmax.1)", "(entmax.1) of rules/new.py has 0 pages"),
        ("kernels/stacked.py", "(stacked.1)", "(stacked.1) of kernels/stacked.py has 0 pages"),
        ("rules/elementwise.py", "(exp2.2)", "elementwise.md lacks a formula labelled (exp2.2)"),
        ("by_hand/pronoun.py", "(mlp.4')", "pronoun.md lacks a formula labelled (mlp.4')"),
    ],
)
def test_a_new_label_in_the_code_needs_a_formula_on_a_page(module, new, told):
    code = read_code()
    code[module] = code.get(module, "") + f"\n# {new}\n"
    assert told in problems(code, read_pages())


def test_a_family_on_two_pages_is_found(monkeypatch):
    monkeypatch.setitem(PAGES, "rope", {"rope", "softmax"})
    assert "(softmax.3) of rules/softmax.py has 2 pages" in problems(read_code(), read_pages())


def test_a_page_that_is_gone_is_found():
    pages = read_pages()
    del pages["embedding"]
    assert "embedding.md lacks a formula labelled (embedding.2)" in problems(read_code(), pages)
