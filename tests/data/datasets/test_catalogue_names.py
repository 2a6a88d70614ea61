"""TFDS data sets without TensorFlow, and missing or invalid names."""

import importlib.util

import pytest

from gru_audio.data.datasets.catalogue import catalogue_name
from gru_audio.prepare import prepare
from gru_audio.settings import UserError


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is there"
)
def test_without_tensorflow_the_error_names_the_installation(tmp_path):
    with pytest.raises(UserError, match=r'without TensorFlow.*pip install "gru-audio\[tf\]"'):
        prepare("tfds:speech_commands", tmp_path)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("tfds", "Name the data set of the TFDS catalogue"),
        ("tfds:", "Name the data set of the TFDS catalogue"),
        ("folder:cats", 'no data set "folder:cats"'),
    ],
)
def test_a_missing_name_is_an_error(tmp_path, recipe, message):
    with pytest.raises(UserError, match=message):
        prepare(recipe, tmp_path)


def test_names_are_those_of_folders():
    assert catalogue_name("crema_d") == "tfds_crema_d"
    assert catalogue_name("xtreme_s/fleurs.en:2.0.0") == "tfds_xtreme_s_fleurs_en_2_0_0"
