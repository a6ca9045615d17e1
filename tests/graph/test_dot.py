import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinyattn as ta
from tinyattn.graph.dot import to_dot
from tinyattn.graph.trace import Wishes, trace

ROOT = Path(__file__).parents[2]


def dot_of(tensor):
    return to_dot(trace([tensor], Wishes({})))


def nodes_of(dot):
    """Each node's attributes, as written."""
    return dict(re.findall(r"^\t+(n\d+) \[(.*)\]$", dot, flags=re.MULTILINE))


def edges_of(dot):
    """Each edge's attributes, as written."""
    found = re.findall(r"^\t(n\d+) -> (n\d+)(?: \[(.*)\])?$", dot, flags=re.MULTILINE)
    return {(source, target): attributes for source, target, attributes in found}


@pytest.fixture
def dot():
    x = ta.tensor([[1.0, 2.0]], name="x")
    weight = ta.tensor([[3.0], [4.0]], requires_grad=True, name="weight")
    loss = (x @ weight * 0.5).sum(axis=0)
    loss.name = "loss"
    loss.backward(retain_graph=True)
    return dot_of(loss)


def test_nodes_and_edges_in_the_order_of_computation(dot):
    assert list(nodes_of(dot)) == ["n0", "n1", "n2", "n3", "n4", "n5"]
    assert list(edges_of(dot)) == [("n0", "n2"), ("n1", "n2"), ("n2", "n4"), ("n3", "n4"), ("n4", "n5")]


def test_graphviz_reads_the_same_graph(dot, pygraphviz):
    graph = pygraphviz.AGraph(string=dot)
    assert graph.nodes() == list(nodes_of(dot))
    assert sorted(graph.edges()) == sorted(edges_of(dot))


def test_a_label_tells_rule_options_name_shape_dtype_value_and_gradient(dot):
    _, weight, _, constant, _, total = nodes_of(dot).values()
    for told in ("<B>sum</B>", "axis=0", "<I>loss</I>", "(1,) float64", "value", "5.5"):
        assert told in total
    for told in ("<B>weight</B>", "<I>parameter</I>", "(2, 1)", "gradient", "0.5<BR", "1<BR"):
        assert told in weight
    assert "<B>0.5</B>" in constant
    assert "value" not in constant  # it stands in the title


def test_columns_of_a_matrix_line_up():
    x = ta.tensor([[1.0, -20.0], [-300.0, 4.0]], requires_grad=True)
    assert "&#160;&#160;&#160;1&#160;-20<BR" in dot_of(+x)
    assert "-300&#160;&#160;&#160;4<BR" in dot_of(+x)


def test_kinds_differ_in_shape_colour_and_word(dot):
    kinds = list(nodes_of(dot).values())[:4]  # input, parameter, operation, constant
    outlines = [re.findall(r"(?:shape|peripheries)=\w+", node) for node in kinds]
    assert outlines == [["shape=box3d"], ["peripheries=2", "shape=box"], ["shape=box"], ["shape=note"]]
    assert len({re.search('fillcolor="(.*?)"', node).group(1) for node in kinds}) == 4
    for word, expected in (("input", 0), ("parameter", 1), ("constant", 3)):
        assert [i for i, node in enumerate(kinds) if f"<I>{word}</I>" in node] == [expected]


def test_arrows_that_carry_no_gradient_are_dashed_and_the_picture_says_so(dot):
    dashed = [edge for edge, attributes in edges_of(dot).items() if "style=dashed" in attributes]
    assert dashed == [("n0", "n2"), ("n3", "n4")]
    assert "dashed: no gradient flows back" in dot
    x = ta.tensor(1.0, requires_grad=True)
    assert "dashed" not in dot_of(x * x)


def test_arguments_are_told_apart_where_there_are_several(dot):
    edges = edges_of(dot)
    assert 'label=" x"' in edges["n0", "n2"]
    assert 'label=" y"' in edges["n1", "n2"]
    assert "label" not in edges["n4", "n5"]


def test_a_value_used_twice_has_two_arrows():
    x = ta.tensor(1.0, requires_grad=True)
    assert dot_of(x * x).count("n0 -> n1") == 2


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "</B></TD>",
        'a "quoted" & <b>bold</b> \\n \\',
        "nul \x00 tab \t line \n end",
        "naïve θ 🙂 \ud800",
        ">]; evil [label=<",
        "x" * 1000,
    ],
)
def test_names_are_text_whatever_they_hold(name, pygraphviz):
    x = ta.tensor([1.0], requires_grad=True, name=name)
    y = x * 2.0
    y.name = name
    graph = pygraphviz.AGraph(string=dot_of(y))
    assert graph.nodes() == ["n0", "n1", "n2"]
    svg = graph.draw(format="svg", prog="dot").decode()
    assert "<script" not in svg
    assert "evil" not in graph.nodes()
    assert all(len(line) < 1500 for line in dot_of(y).splitlines())


SCRIPT = """
import numpy as np, tinyattn as ta
rng = np.random.default_rng(0)
block = ta.nn.TransformerBlock(6, 2, rng=rng)
loss = block(ta.tensor(rng.normal(size=(1, 3, 6)), name="x")).sum()
print(ta.graph(loss).to_dot())
"""


def test_the_same_model_gives_the_same_bytes_in_another_process():
    def in_process(seed):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", SCRIPT]
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=True).stdout

    first = in_process("1")
    assert b"attention.w_query" in first
    assert first == in_process("2")


def test_boxes_are_clusters_in_clusters():
    model = ta.nn.Sequential(ta.nn.Linear(3, 5, rng=0), ta.relu)
    dot = ta.graph(model(np.ones((2, 3))).sum()).to_dot()
    outer, inner = dot.index("subgraph cluster_0"), dot.index("subgraph cluster_1")
    assert outer < inner < dot.index("<B>linear</B>") < dot.index("<B>sum</B>") or dot.index("<B>sum</B>") < outer
    assert "<B>Sequential</B>" in dot
    assert "<B>layers.0</B>" in dot


def test_larger_arrays_are_heat_maps_with_their_range():
    x = ta.tensor(np.linspace(-1.0, 1.0, 576).reshape(24, 24), requires_grad=True)
    dot = dot_of(+x)
    assert "-1 … 1, mean" in dot
    assert dot.count("BGCOLOR") == 2 * 12 * 12
    assert 'BGCOLOR="#2166ac"' in dot
    assert 'BGCOLOR="#d66010"' in dot


def test_odd_values_are_marked_by_word_and_outline():
    x = ta.tensor([1.0, np.nan], requires_grad=True)
    _, node = nodes_of(dot_of(+x)).values()
    assert "1 NaN" in node
    assert 'color="#c00000"' in node


@pytest.mark.slow
def test_a_chain_of_100_000_nodes():
    x = ta.tensor(np.float64(1), requires_grad=True)
    for _ in range(100_000):
        x = -x
    assert dot_of(x).count("->") == 100_000
