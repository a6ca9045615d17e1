"""Floor 3: the computation graph as a picture.

`trace` reads the tape into plain `nodes`; `dot` and `text` write them down; `engines` draws; `picture` is the face.
"""

from tinyattn.graph.picture import Graph, graph

__all__ = ["Graph", "graph"]
