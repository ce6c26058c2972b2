import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from resnet_gp import progress
from resnet_gp.progress import is_stream, write_atomically


def test_files_are_replaced(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with path.open() as before:
        write_atomically(path, b"new")
        assert before.read() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_links_are_followed(tmp_path):
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder / "file")
    for data in (b"one", b"two"):  # the first to a file that is not there yet
        write_atomically(link, data)
        assert link.is_symlink()
        assert (folder / "file").read_bytes() == data
    assert [p.name for p in folder.iterdir()] == ["file"]


def test_pipes_are_written_to(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_atomically(pipe, b"through")
    reader.join(10)
    assert read == [b"through"]
    assert pipe.is_fifo()


def test_modes_are_kept(tmp_path, monkeypatch):
    path, link = tmp_path / "file", tmp_path / "link"
    path.touch()
    link.symlink_to(path)
    seen, replace = [], os.replace

    def watched(source, target):
        seen.append(source.stat().st_mode & 0o777)
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    for mode in (0o600, 0o664):  # no usual umask gives both
        path.chmod(mode)
        for place in (path, link):
            write_atomically(place, b"new")
            assert path.stat().st_mode & 0o777 == mode == seen.pop()


def test_a_loop_of_links_is_an_error_and_stays(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.symlink_to(second)
    second.symlink_to(first)
    assert not is_stream(first)
    with pytest.raises(OSError, match="first") as caught:
        write_atomically(first, b"new")
    assert caught.value.errno == errno.ELOOP
    assert {path.name for path in tmp_path.iterdir() if path.is_symlink()} == {"first", "second"}


@pytest.mark.parametrize("flags", [os.O_TRUNC, os.O_APPEND])
@pytest.mark.parametrize(
    "place", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1", "link"]
)
def test_descriptors_are_written_to_at_their_position(tmp_path, place, flags):
    """As with ``{ echo A; program; echo B; } > file``, or with ``>>``."""
    if not Path("/dev/stdout" if place == "link" else place).exists():
        pytest.skip(f"there is no {place}")
    (tmp_path / "link").symlink_to("/dev/stdout")
    path = tmp_path / "file"
    path.write_text("old\n")
    code = (
        "import os; from pathlib import Path; from resnet_gp.progress import write_atomically\n"
        f"write_atomically(Path({place!r}), b'new\\n'); os.write(1, b'last\\n')"
    )
    descriptor = os.open(path, os.O_WRONLY | flags)
    os.write(descriptor, b"first\n")
    inode = path.stat().st_ino
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    subprocess.run(command, stdout=descriptor, cwd=tmp_path, env=environment, check=True)
    os.close(descriptor)
    before = "old\n" if flags == os.O_APPEND else ""
    assert path.read_text() == before + "first\nnew\nlast\n"
    assert path.stat().st_ino == inode


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_descriptors_of_other_processes_are_appended_to(tmp_path):
    path = tmp_path / "file"
    path.write_text("old\n")
    with path.open("a") as file:
        other = subprocess.Popen(["sleep", "60"], stdout=file)
    try:
        place = Path(f"/proc/{other.pid}/fd/1")
        assert is_stream(place)
        write_atomically(place, b"new\n")
    finally:
        other.kill()
        other.wait()
    assert path.read_text() == "old\nnew\n"


def test_only_links_to_descriptors_are_streams(tmp_path):
    (tmp_path / "1").touch()
    (tmp_path / "link").symlink_to("1")
    (tmp_path / "fd").symlink_to("/dev/fd")
    assert not is_stream(tmp_path / "1")
    assert not is_stream(tmp_path / "link")
    assert not is_stream(tmp_path / "new")
    with (tmp_path / "1").open("w") as file:
        assert is_stream(tmp_path / "fd" / str(file.fileno()))


@pytest.mark.parametrize(("asked", "shown"), [(True, True), (False, False), (None, False)])
def test_bars_that_nobody_asked_for_follow_the_context(asked, shown):
    with progress.bars(asked):
        bar = progress.progress_bar("work", total=3)
        assert progress.progress_bar("work", verbose=not shown).disable is shown
    assert bar.disable is not shown
