"""From DOT to pictures: the program `dot` draws them, or the package pygraphviz.

Its wheel carries Graphviz itself, but not what Graphviz draws with: GLib and three libraries of X11, which desktops
have and the smallest containers don't.
"""

import shutil
import subprocess


def render(dot: str, format: str) -> bytes:
    """The picture as svg, png or pdf.

    Raises `RuntimeError` where neither engine is there, or where `dot` fails.
    """
    program = shutil.which("dot")
    if program is not None:
        return _with_dot(program, dot, format)
    try:
        import pygraphviz
    except ImportError as error:  # not installed; or one of the system's libraries that it builds upon isn't
        raise RuntimeError(
            f"graph: drawing {format} needs an engine, and there is none ({error}). Install the program `dot` (Debian, "
            "Ubuntu: apt install graphviz; macOS: brew install graphviz) or the package pygraphviz (pip install "
            "'tinyattn[render]'). to_dot(), save('x.dot') and print() need neither."
        ) from error
    picture: bytes = pygraphviz.AGraph(string=dot).draw(format=format, prog="dot")
    return picture


def _with_dot(program: str, dot: str, format: str) -> bytes:
    try:
        done = subprocess.run([program, f"-T{format}"], input=dot.encode(), capture_output=True)
    except OSError as error:
        raise RuntimeError(f"graph: {program} can't be run: {error.strerror}. Is Graphviz installed whole?") from error
    if done.returncode != 0 or not done.stdout:
        said = done.stderr.decode(errors="replace").strip() or "nothing"
        raise RuntimeError(
            f"graph: {program} failed to draw {format} (exit status {done.returncode}); it said: {said}. "
            "Is Graphviz installed whole? Without `dot` on the PATH, pygraphviz draws instead."
        )
    return done.stdout
