"""Interpretation of paths that users write."""

from pathlib import Path

import pytest

from gru_audio.paths import local_path
from gru_audio.settings import UserError


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/a/b.wav", "/a/b.wav"),
        (" /a/b c.wav ", "/a/b c.wav"),
        ("file:///a/b.wav", "/a/b.wav"),
        ("file://localhost/a/b.wav", "/a/b.wav"),
        ("FILE:/a/b.wav", "/a/b.wav"),
        ("file:///a/b%20%C3%A9%23.wav", "/a/b é#.wav"),
        ("\\a\\b.wav", "/a/b.wav"),
        ("~/b.wav", "HOME/b.wav"),
        ("~", "HOME"),
        ("file:///~/b.wav", "/~/b.wav"),
        ("C:/b.wav", "C:/b.wav"),
    ],
)
def test_forms_that_users_write(text, path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert local_path(text) == Path(path.replace("HOME", "/home/me"))


def test_relative_paths_are_relative_to_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.wav").touch()
    assert local_path("a\\b.wav", tmp_path) == tmp_path / "a" / "b.wav"
    assert local_path("a/b.wav", tmp_path) == tmp_path / "a" / "b.wav"
    assert local_path(tmp_path / "a", Path("/elsewhere")) == tmp_path / "a"


@pytest.mark.parametrize("name", [" b.wav ", "a\\b.wav", "~b.wav", "50%20.wav"])
def test_a_file_of_exactly_that_name_comes_first(tmp_path, name):
    (tmp_path / name).touch()
    assert local_path(name, tmp_path) == tmp_path / name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a path"),
        (" ", "is not a path"),
        ("a\0b", "is not a path"),
        ("gs://bucket/a.wav", "not a local file"),
        ("https://host/a.wav", "not a local file"),
        ("file://host/a.wav", "on another machine"),
        ("~nobody_of_that_name/a.wav", "no such home directory"),
    ],
)
def test_other_paths_are_refused(text, message):
    with pytest.raises(UserError, match=message):
        local_path(text)
