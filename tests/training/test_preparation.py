"""Augmentation that does not suit a frontend is refused."""

import pytest

from gru_audio.settings import UserError
from tests.training.one_device import program_of


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"frontend.name": "mfcc", "frontend.coefficients": 4, "augment.frequency_warp": 0.1},
            '"mfcc" are not',
        ),
        ({"frontend.name": "raw", "augment.frequency_warp": 0.1}, '"raw" are not'),
        ({"frontend.name": "raw", "augment.tempo": 0.1}, 'name other than "raw"'),
        ({"frontend.stack": 2, "augment.tempo": 0.1}, "config.frontend.stack=1"),
    ],
)
def test_it_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        program_of(changes)


@pytest.mark.parametrize("name", ["log_mel", "pcen"])
def test_bands_with_deltas_and_stacked_frames_can_be_warped(name):
    program_of(
        {
            "frontend.name": name,
            "frontend.deltas": 1,
            "frontend.stack": 2,
            "augment.frequency_warp": 0.1,
        }
    )
