"""Files of pages are written whole, and what is no file stays what it is."""

import os
import stat
import threading

import pytest

from demos.files import FileError
from demos.files import write_whole as write_in_demos
from tinyattn.pages import write_whole


@pytest.fixture(params=[write_whole, write_in_demos], ids=["tinyattn", "demos"])
def write(request):
    return request.param


def test_a_file_is_exchanged_whole(write, tmp_path):
    path = tmp_path / "page.html"
    path.write_bytes(b"before")
    write(path, b"after")
    assert path.read_bytes() == b"after"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_a_pipe_stays_a_pipe(write, tmp_path):
    path, read = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()), daemon=True)
    reader.start()
    write(path, b"a page")
    reader.join(timeout=10)
    assert read == [b"a page"]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_folder_is_refused(write, tmp_path):
    with pytest.raises((IsADirectoryError, FileError), match=r"[Dd]irectory"):
        write(tmp_path, b"a page")
    assert list(tmp_path.iterdir()) == []
