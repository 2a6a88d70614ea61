"""Changes of files are told by names, sizes and times."""

import os

from gru_audio.data.builders.listing import below, changes, listed


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
