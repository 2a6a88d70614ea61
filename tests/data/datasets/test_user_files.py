"""Files are compared by path, by content and by changes."""

import os

from gru_audio.data.datasets.user_files import below, changes, contents, listed, place


def test_changes_are_counted(tmp_path):
    for name in "abcd":
        (tmp_path / name).write_text(name)
    then = listed(below(tmp_path))
    assert changes(then, listed(below(tmp_path))) == ""
    (tmp_path / "a").write_text("aa")
    os.utime(tmp_path / "b", ns=(0, 0))
    (tmp_path / "c").unlink()
    (tmp_path / "sub").mkdir()
    for i in range(5):
        (tmp_path / "sub" / f"{i}").touch()
    assert changes(then, listed(below(tmp_path))) == (
        "5 files were added (sub/0, sub/1, sub/2, ...), 1 file was removed (c), "
        "2 files were changed (a, b)"
    )


def test_a_file_alone_and_one_that_is_gone(tmp_path):
    (tmp_path / "x.tar").write_text("1")
    then = listed(below(tmp_path / "x.tar"))
    (tmp_path / "x.tar").unlink()
    assert changes(then, listed(below(tmp_path / "x.tar"))) == "1 file was changed (x.tar)"
    assert listed({})["name"].shape == (0,)


def test_names_that_are_no_text(tmp_path):
    (tmp_path / os.fsdecode(b"\xff")).touch()
    listing = listed(below(tmp_path))
    assert listing["name"].tolist() == ["\\udcff"]


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
    """A hard link simulates a file system that ignores case."""
    (tmp_path / "x.wav").write_bytes(b"1")
    if not (tmp_path / "X.wav").exists():
        os.link(tmp_path / "x.wav", tmp_path / "X.wav")
    assert place(tmp_path / "x.wav") == place(tmp_path / "X.wav")


def test_a_missing_file_equals_only_itself(tmp_path):
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
