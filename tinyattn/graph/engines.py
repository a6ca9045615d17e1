"""From DOT to pictures: the program `dot` draws them, or the package pygraphviz.

Its wheel carries Graphviz itself, but not what Graphviz draws with: GLib and three libraries of X11, which desktops
have and the smallest containers don't.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys

NO_ENGINE = 69  # "service unavailable" among the exit statuses of sysexits.h

# pygraphviz draws in a process of its own, so that whatever its libraries print, or break, stays there.
_PYGRAPHVIZ = f"""
import sys
try:
    import pygraphviz
except ImportError as error:
    sys.stderr.write(str(error))
    sys.exit({NO_ENGINE})
sys.stdout.buffer.write(pygraphviz.AGraph(string=sys.stdin.buffer.read().decode()).draw(format=sys.argv[1], prog="dot"))
"""


class TooSlow(RuntimeError):
    """The layout took longer than it may, and was ended."""


def render(dot: str, format: str, time_limit: float) -> bytes:
    """The picture as svg, png or pdf, drawn by `dot` where it is on the PATH, and by pygraphviz elsewhere.

    Raises `RuntimeError` where neither engine is there, or where the one that is fails; `TooSlow`, which is one, where
    it takes longer than `time_limit` seconds.
    """
    program = shutil.which("dot")
    engine, command = program or "pygraphviz", [sys.executable, "-c", _PYGRAPHVIZ, format]
    if program is not None:
        command = [program, f"-T{format}"]
    try:
        done = _run(command, dot.encode(), time_limit)
    except subprocess.TimeoutExpired:
        raise TooSlow(
            f"graph: {engine} took longer than {time_limit:g} s to lay out {format}, and was ended. Close boxes, with"
            " depth=, or give it longer, with time_limit="
        ) from None
    except OSError as error:
        raise RuntimeError(f"graph: {engine} can't be run: {error.strerror}. Is Graphviz installed whole?") from error
    said = done.stderr.decode(errors="replace").strip() or "nothing"
    if program is None and done.returncode == NO_ENGINE:
        raise RuntimeError(
            f"graph: drawing {format} needs an engine, and there is none ({said}). Install the program `dot` (Debian, "
            "Ubuntu: apt install graphviz; macOS: brew install graphviz) or the package pygraphviz (pip install "
            "'tinyattn[render]'). to_dot(), save('x.dot') and print() need neither."
        )
    if done.returncode != 0 or not done.stdout:
        raise RuntimeError(
            f"graph: {engine} failed to draw {format} (exit status {done.returncode}); it said: {said}. "
            "Is Graphviz installed whole? Without `dot` on the PATH, pygraphviz draws instead."
        )
    begin, end = _WHOLE[format]
    if not (begin in done.stdout[:2000] and done.stdout.rstrip().endswith(end)):
        raise RuntimeError(
            f"graph: what {engine} gave isn't a whole {format} file (it begins {done.stdout[:20]!r}). Is it Graphviz's "
            "own? Without `dot` on the PATH, pygraphviz draws instead."
        )
    return done.stdout


_WHOLE = {"svg": (b"<svg", b"</svg>"), "png": (b"\x89PNG\r\n", b"IEND\xaeB`\x82"), "pdf": (b"%PDF", b"%%EOF")}
"""What files of a format begin and end with."""


def _run(command: list[str], given: bytes, time_limit: float) -> "subprocess.CompletedProcess[bytes]":
    """Run a program; when its time is over it's ended, and with it whatever it has started."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    try:
        stdout, stderr = process.communicate(given, time_limit)
    except BaseException:
        _end(process)
        raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def _end(process: "subprocess.Popen[bytes]") -> None:
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.communicate()
