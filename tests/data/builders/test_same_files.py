"""Files are told by where their paths lead, and by what they hold."""

import os

from gru_audio.data.builders.same_files import contents, place


def test_paths_that_lead_to_one_file(tmp_path):
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "x.wav"
    file.write_bytes(b"1")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "y.wav").symlink_to(file)
    other = tmp_path / "a" / "X.wav"
    one = {place(path) for path in (file, tmp_path / "b" / "x.wav", tmp_path / "y.wav")}
    assert one == {place(tmp_path / "a" / ".." / "a" / "x.wav")}
    assert (place(other) in one) == other.exists()  # as the disk has it


def test_names_in_another_case_are_one_file_where_the_disk_says_so(tmp_path):
    """A second name of the same file stands for a disk that ignores case."""
    (tmp_path / "x.wav").write_bytes(b"1")
    if not (tmp_path / "X.wav").exists():
        os.link(tmp_path / "x.wav", tmp_path / "X.wav")
    assert place(tmp_path / "x.wav") == place(tmp_path / "X.wav")


def test_what_is_not_there_is_itself(tmp_path):
    names = ["gone", "./gone", "also_gone", "a\0b"]
    numbers = contents([tmp_path / name for name in names[:3]])
    assert numbers == [0, 0, 1]
    assert place(tmp_path / "gone") == place(tmp_path / "." / "gone")


def test_equal_contents_have_equal_numbers(tmp_path):
    body = bytes(range(256)) * 100
    files = {
        "one": body,
        "head": b"x" + body[1:],  # as long, and the same in the middle
        "copy": body,
        "middle": body[:12800] + b"x" + body[12801:],
        "longer": body + b"x",
        "empty": b"",
        "also_empty": b"",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "head")
    names = [*files, "pipe", "link", "one", "."]
    assert contents([tmp_path / name for name in names]) == [0, 1, 0, 2, 3, 4, 5, 6, 1, 0, 7]
