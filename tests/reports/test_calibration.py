import pytest

from tests.reports.calibration import (
    designs,
    families,
    family_broken,
    powers,
    simulate,
    simulate_family,
)

SHORT = {  # one of each kind, with the few replicates for which a bootstrap errs most
    "3 seeds, 100/0/0",
    "3 seeds, 80/20/0",
    "5 seeds, 50/50/0",
    "3 seeds, 6 speakers, 50/30/20",
    "3 folds x 1, 100/0/0/0",
    "5 folds x 3, 30/20/20/30",
    "3 seeds, accuracy 98.0%",
    "5 seeds, word errors",
    "3 seeds, macro_f1, speakers",
    "3 seeds, uar, easy",
    "4 seeds, map, luck",
    "3 seeds, eer, speakers",
    "3 seeds, event_f1, rare",
}


@pytest.mark.parametrize("design", [d for d in designs() if d[0] in SHORT], ids=lambda d: d[0])
def test_error_rates_hold(design):
    assert simulate(design, trials=150).broken() == []


def test_a_sweep_of_equal_variants_rarely_has_a_winner():
    assert not family_broken(simulate_family(4, 3, (0.8, 0.2, 0), trials=100), trials=100)


def test_a_large_difference_is_found():
    (design,) = [d for d in powers() if d[0] == "3 points, 1000 examples, 5 seeds"]
    assert simulate(design, trials=50).false[0] > 0.8


def test_every_short_design_exists():
    assert {d[0] for d in designs()} >= SHORT


@pytest.mark.reliability
@pytest.mark.parametrize("design", list(designs()), ids=lambda d: d[0])
def test_error_rates_hold_in_every_design(design):
    assert simulate(design, trials=2000).broken() == []


@pytest.mark.reliability
@pytest.mark.parametrize(("variants", "seeds", "share"), families())
def test_error_rates_of_whole_sweeps_hold(variants, seeds, share):
    assert not family_broken(simulate_family(variants, seeds, share, 1000), 1000)
