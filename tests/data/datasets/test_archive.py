"""Archives are unpacked completely or refused, and never outside their folder."""

import contextlib
import os
import tarfile
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_audio.data.datasets import archive
from gru_audio.settings import UserError
from tests.data.datasets.making import member, tar_of

EVIL = [
    member("../evil"),
    member("a/../../evil"),
    member("/tmp/evil"),
    member("a/link", tarfile.SYMTYPE, "../../evil"),
    member("a/link", tarfile.SYMTYPE, "/etc/passwd"),
    member("a/link", tarfile.LNKTYPE, "../evil"),
    member("a/device", tarfile.CHRTYPE),
    member("a/pipe", tarfile.FIFOTYPE),
]


@pytest.mark.parametrize("evil", EVIL, ids=lambda info: f"{info.name} {info.linkname}".strip())
def test_a_tar_member_that_would_escape_is_refused(tmp_path, evil):
    path = tar_of(tmp_path / "x.tar.gz", [(member("a/good"), b"1"), (evil, b"")])
    target = tmp_path / "deep" / "target"
    target.mkdir(parents=True)
    with pytest.raises(UserError, match=r"x\.tar\.gz is refused"):
        archive.unpack(path, target)
    written = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if not p.is_dir()}
    assert written <= {"x.tar.gz", "deep/target/a/good"}


def test_a_file_is_not_written_through_a_link(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    link = member("a", tarfile.SYMTYPE, str(outside))
    path = tar_of(tmp_path / "x.tar", [(link, b""), (member("a/evil"), b"1")], "w")
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(UserError, match="refused"):
        archive.unpack(path, target)
    assert not list(outside.iterdir())


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "..\\evil", "C:\\evil"])
def test_a_zip_member_that_would_escape_is_refused(tmp_path, name):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("a/good", "1")
        zipped.writestr(zipfile.ZipInfo(name), "2")
    target = tmp_path / "deep" / "target"
    target.mkdir(parents=True)
    with pytest.raises(UserError, match=r"x\.zip is refused"):
        archive.unpack(path, target)
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_good_archives_come_out_whole(tmp_path, suffix):
    content = os.urandom(5000)
    path = tmp_path / f"x.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr("top/a/1", content)
            zipped.writestr("__MACOSX/top/a/._1", b"")  # as Macs do
            zipped.writestr(".DS_Store", b"")
    else:
        mode = "w" if suffix == "tar" else f"w:{suffix.removeprefix('tar.')}"
        links = [
            (member("top/b/soft", tarfile.SYMTYPE, "../a/1"), b""),
            (member("top/b/hard", tarfile.LNKTYPE, "top/a/1"), b""),
        ]
        tar_of(path, [(member("top/a/1"), content), *links], mode)
    target = tmp_path / "target"
    target.mkdir()
    root = archive.unpack(path, target)
    assert root == target / "top"
    files = [p for p in root.rglob("*") if p.is_file()]
    assert len(files) == (1 if suffix == "zip" else 3)
    assert all(p.read_bytes() == content and not p.is_symlink() for p in files)


@given(st.floats(0.01, 0.99))
@settings(max_examples=20, deadline=None)
def test_a_cut_off_archive_is_an_error(tmp_path_factory, share):
    folder = tmp_path_factory.mktemp("cut")
    rng = np.random.default_rng(0)
    path = tar_of(folder / "x.tar.gz", [(member(f"a/{i}"), rng.bytes(2000)) for i in range(20)])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match="Cannot unpack"):
        archive.unpack(path, folder)


def test_other_files_are_an_error(tmp_path):
    with pytest.raises(UserError, match="There is no archive"):
        archive.unpack(tmp_path / "absent.tar", tmp_path)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(UserError, match="Cannot unpack"):
        archive.unpack(tmp_path / "text", tmp_path)


@pytest.mark.parametrize("kind", ["zip", "tar.xz", "tar.gz", "many.tar.xz"])
def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, kind):
    path, target, size = tmp_path / f"x.{kind}", tmp_path / "target", 2**24
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.writestr("a/bomb.wav", bytes(size))
    elif kind == "many.tar.xz":
        tar_of(path, [(member(f"a/{i}"), b"") for i in range(2000)], "w:xz")
    else:
        tar_of(path, [(member("a/bomb.wav"), bytes(size))], f"w:{kind.removeprefix('tar.')}")
    target.mkdir()
    with pytest.raises(UserError, match="unpacks to more than 200 times its size"):
        archive.unpack(path, target, most_bytes=2**20)
    assert sum(file.stat().st_size for file in target.rglob("*")) < 2**22
    archive.unpack(path, target, most_bytes=2**25)  # which is to say that it is whole


@pytest.mark.parametrize("name", ["10:30/a.wav", "A:minor/a.wav", "a/c:/b", "ab:/a.wav"])
def test_a_colon_in_a_name_is_taken(tmp_path, name):
    tar_of(tmp_path / "x.tar", [(member(name), b"1"), (member("other/b"), b"2")], "w")
    assert (archive.unpack(tmp_path / "x.tar", tmp_path) / name).read_bytes() == b"1"


def test_a_drive_letter_is_refused_and_named(tmp_path):
    tar_of(tmp_path / "x.tar", [(member("C:/a.wav"), b"1")], "w")
    with pytest.raises(UserError, match=r"'C:/a.wav' begins with a drive letter"):
        archive.unpack(tmp_path / "x.tar", tmp_path / "target")


@pytest.mark.parametrize("name", [b"\xff\xfeab", b"a\0ab", b"\xc3(ab"])
@pytest.mark.parametrize("suffix", ["zip", "tar"])
def test_invalid_names_give_a_one_line_error(tmp_path, suffix, name):
    """Or the names are stored as bytes, as in the file system."""
    path, target = tmp_path / f"x.{suffix}", tmp_path / "target"
    target.mkdir()
    if suffix == "zip":
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr("ä123/b.wav", "1")
        content = path.read_bytes().replace("ä123".encode(), name.ljust(5, b"x"))
    else:
        tar_of(path, [(member("a1234/b.wav"), b"1")], "w")
        content = path.read_bytes().replace(b"a1234", name.ljust(5, b"x"))
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        archive.unpack(path, target)
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, "target"}
