import dataclasses
import re

import numpy as np
import pytest
import scipy.stats

from experiments.tables import readme
from experiments.tables.kept import keep, write_kept
from experiments.tables.papers import Experiment, Paper, Table, compare_variants, read_paper
from experiments.tables.published import Published, Verdict
from gru_audio.reports import wording
from gru_audio.reports.comparison import compare
from gru_audio.reports.results import read_results
from gru_audio.settings import UserError
from gru_audio.tasks.metrics import LOSS
from tests.reports.workdirs import Made, fail, write_workdir

MADE = Made(
    variants={"gru": 5.2, "lstm": 3.0},
    trials={0.001: 0.0, 0.01: 3.0},
    seeds=3,
    metric="loss",
    class_names=(),
)

WIDE = {"jsb": 1.0}  # tolerance
MIDDLE = {"optimizer.learning_rate": 0.003}  # between those


def made_up(folder, name, made=MADE, broken=()):
    """Returns the kept results of a simulated sweep of that name."""
    workdir = write_workdir(folder, made)
    for run in broken:
        fail(workdir, run)
    results = dataclasses.replace(read_results(workdir), experiment=name)
    return compare(results)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return made_up(tmp_path_factory.mktemp("jsb"), "paper-jsb")


@pytest.fixture(scope="module")
def kept(comparison):
    return keep(comparison)


def mean(kept, variant):
    return np.mean(
        [run.metrics["test/loss"] for run in kept.runs if run.variant == variant and run.selected]
    )


def published(values, floors=None, **others):
    return Published("A paper, Table 1", "nats", values, floors or {}, ("batch size 8",), **others)


def experiment(values, floors=None, parts=("jsb", "nottingham"), **others):
    return Experiment("paper", "A paper about music.", parts, published(values, floors, **others))


def variants(kept, values=None, floor=None, **others):
    """Returns the variants of a part without a name."""
    floors = {} if floor is None else {"": floor}
    return compare_variants(published({"": values or {}}, floors, **others), "", kept)


def plain(text):
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")


def cells(text, variant):
    (row,) = [line for line in plain(text).splitlines() if line.startswith(f"| {variant} |")]
    return [cell.strip() for cell in row.split("|")[1:-1]]


def test_ours_are_the_runs_of_the_chosen_draw(kept):
    (row,) = [row for row in variants(kept) if row.variant == "gru"]
    runs = [run for run in kept.runs if run.variant == "gru"]
    chosen = [run for run in runs if run.trial == {"optimizer.learning_rate": 0.001}]
    values = [run.metrics["test/loss"] for run in chosen]
    reference = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    ours = row.ours
    assert (ours.seeds, ours.trials, ours.to_the_end, ours.halved_at) == (3, 2, 2, ())
    assert ours.metric.value == pytest.approx(np.mean(values))
    assert (ours.metric.low, ours.metric.high) == pytest.approx((reference.low, reference.high))
    assert ours.time.wall == pytest.approx(sum(run.seconds for run in chosen))
    assert ours.time_of_all.wall == pytest.approx(sum(run.seconds for run in runs))
    assert ours.time_of_all.cpu == pytest.approx(sum(run.cpu_seconds for run in runs))
    assert (ours.total_parameters, ours.recurrent_parameters) == (41_482, 40_512)
    assert row.published is row.verdict is None


def test_every_row_has_its_verdict(kept):
    values = {"tanh RNN": 9.1, "gru": mean(kept, "gru"), "lstm": 100.0}
    rows = variants(kept, values, tolerances={"": 1.0})
    assert [(row.variant, row.verdict) for row in rows] == [
        ("tanh RNN", Verdict.NOT_RUN),
        ("gru", Verdict.REPRODUCED),
        ("lstm", Verdict.BETTER),
    ]
    assert rows[0].ours is None


def test_the_tolerance_is_that_of_the_table(kept):
    """The tolerance is half of the smallest difference; our interval is wider."""
    value = mean(kept, "gru")
    (gru, *_) = variants(kept, {"gru": value, "other": value + 1e-6})
    assert gru.tolerance == pytest.approx(5e-7, rel=1e-3)
    assert gru.verdict is Verdict.UNDECIDED


def test_a_floor_compares_in_kind(kept):
    floor = 20 * mean(kept, "gru")
    for published, floor_, verdict in (
        (floor / 1000, floor, Verdict.IN_KIND),
        (floor, floor, Verdict.BETTER),
        (1e-9, 1e-6, Verdict.WORSE),
    ):
        (gru, *_) = variants(kept, {"gru": published}, floor_)
        assert gru.verdict is verdict


def test_one_replicate_of_another_kind_leaves_it_undecided(kept):
    (gru, *_) = variants(with_values(kept, "gru", [1e-5, 1e-5, 0.05]), {"gru": 1e-5}, 0.1767)
    assert gru.ours.metric.value < 0.1 * 0.1767  # the mean is solved
    assert gru.verdict is Verdict.UNDECIDED


def test_where_higher_is_better_the_sign_turns(tmp_path):
    kept = keep(made_up(tmp_path, "paper", Made(metric="accuracy", seeds=3)))
    rows = {row.variant: row for row in variants(kept, {"gru": 0.3, "lstm": 1.9})}
    assert rows["gru"].verdict is Verdict.BETTER
    assert rows["lstm"].verdict is Verdict.WORSE


def test_runs_at_the_cap_are_counted(kept):
    runs = tuple(
        dataclasses.replace(run, steps=run.step_cap)
        if run.run in ("gru-0.001-0", "gru-0.01-1")  # of the second the trial was not chosen
        else dataclasses.replace(run, steps=run.step_cap - 200)
        for run in kept.runs
    )
    rows = variants(dataclasses.replace(kept, runs=runs))
    assert {row.variant: row.ours.at_cap for row in rows} == {"gru": 1, "lstm": 0}


def test_a_part_that_there_is_not_is_refused():
    with pytest.raises(UserError, match=r'PUBLISHED names "jbs".*Did you mean "jsb"'):
        experiment({"jbs": {"gru": 8.5}})
    with pytest.raises(UserError, match='PUBLISHED names "jbs"'):
        experiment({}, tolerances={"jbs": 0.1})


@pytest.fixture
def text(comparison, kept, tmp_path):
    write_kept(comparison, tmp_path)
    values = {
        "jsb": {"lstm": 100.0, "gru": mean(kept, "gru"), "tanh RNN": 9.1},
        "nottingham": {"gru": 3.23},
    }
    return readme.render([read_paper(experiment(values, tolerances=WIDE), tmp_path)])


def test_a_row_shows_what_is_known(text, kept):
    ours = next(row for row in variants(kept) if row.variant == "gru").ours
    jsb, _ = text.split("### nottingham")
    _, published, value, *others = cells(jsb, "gru")
    assert float(published) == pytest.approx(ours.metric.value, rel=1e-5)
    scale = LOSS.scale
    assert value == plain(f"{scale.value(ours.metric.value)} {scale.interval(ours.metric)}")
    times = [plain(wording.duration(time.cpu)) for time in (ours.time, ours.time_of_all)]
    assert others == ["3", "reproduced (tolerance 1)", "41,482", "40,512", "2", *times]
    assert "| CPU time, chosen runs | CPU time, all runs |" in jsb


def test_wall_time_is_told_where_processor_time_is_not_known_of_all(kept):
    first, *others = kept.runs
    runs = (dataclasses.replace(first, cpu_seconds=None), *others)
    kept = dataclasses.replace(kept, runs=runs)
    rows = variants(kept)
    text = readme.render([Paper(experiment({}), (Table("jsb", kept, None, rows),))])
    assert "| wall time, chosen runs | wall time, all runs |" in text
    assert "| CPU time" not in text
    (ours,) = [row.ours for row in rows if row.variant == first.variant]
    assert cells(text, first.variant)[-1] == plain(wording.duration(ours.time_of_all.wall))


def halved(kept, variant, steps):
    """Returns the kept results with the other trials of a variant dropped by halving."""
    runs = tuple(
        dataclasses.replace(run, dropped_at=steps)
        if run.variant == variant and not run.selected
        else run
        for run in kept.runs
    )
    return dataclasses.replace(kept, runs=runs)


def test_what_halving_ended_was_not_chosen_among(kept):
    more = [dataclasses.replace(run, trial=MIDDLE, selected=False) for run in kept.runs[:1]]
    kept = halved(dataclasses.replace(kept, runs=(*kept.runs, *more)), "gru", 1000)
    rows = variants(kept)
    text = plain(readme.render([Paper(experiment({}), (Table("jsb", kept, None, rows),))]))
    assert "| 1 of 3 trained to the end, halved at update 1,000 |" in text
    assert cells(text, "lstm")[5] == "2"
    assert "Chosen at an end of the range of trials" not in text  # after 1,000 updates, that is


def with_values(kept, variant, values):
    """Returns the kept results with other test losses of a variant's chosen runs."""
    left = iter(values)
    runs = tuple(
        dataclasses.replace(run, metrics=run.metrics | {"test/loss": next(left)})
        if run.variant == variant and run.selected
        else run
        for run in kept.runs
    )
    return dataclasses.replace(kept, runs=runs)


def test_a_value_outside_of_the_interval_is_not_reproduced_however_near(kept):
    near = with_values(kept, "gru", [8.40, 8.41, 8.42])
    for published, told in (
        (8.43, "reproduced (tolerance 0.169)"),
        (8.5, "better"),
        (8.3, "worse"),
    ):
        rows = variants(near, {"gru": published})
        text = readme.render([Paper(experiment({}), (Table("jsb", near, None, rows),))])
        assert cells(text, "gru")[4] == told


def test_two_seeds_have_a_range_and_no_verdict(kept):
    two = [run for run in kept.runs if run.variant != "gru" or run.replicate["seed"] != 2]
    wide = with_values(dataclasses.replace(kept, runs=tuple(two)), "gru", [8.0, 9.6])
    rows = variants(wide, {"gru": 8.8})
    text = readme.render([Paper(experiment({}), (Table("jsb", wide, None, rows),))])
    assert cells(text, "gru")[2:5] == ["8.800 (8.000 to 9.600)", "2", "too few replicates"]


def test_values_from_memory_are_marked(kept):
    memory = experiment({"jsb": {"gru": 8.54}}, peers={"TCN": 8.1}, from_memory=True)
    rows = compare_variants(memory.published, "jsb", kept)
    text = readme.render([Paper(memory, (Table("jsb", kept, None, rows),))])
    assert cells(text, "gru")[1] == "8.54 (from memory)"
    assert "Others for comparison (from memory): TCN 8.1." in text


def test_folds_are_what_an_interval_is_over(kept):
    runs = [run for run in kept.runs if run.variant == "gru" and run.selected]
    folds = [
        dataclasses.replace(
            run,
            replicate={"seed": seed, "data.test": f"fold={fold}"},
            metrics={"test/loss": float(10 * fold + run.replicate["seed"])},
        )
        for fold in range(3)
        for seed, run in enumerate(runs)
    ]
    (gru,) = variants(dataclasses.replace(kept, runs=tuple(folds), curves=()))
    reference = scipy.stats.ttest_1samp([1.0, 11.0, 21.0], 0).confidence_interval(0.95)
    assert (gru.ours.test_sets, gru.ours.seeds) == (3, 9)
    assert gru.ours.metric.high == pytest.approx(reference.high)
    assert gru.ours.metric.low == 0.0  # a loss is not below it
    text = readme.render([Paper(experiment({}), (Table("jsb", kept, None, (gru,)),))])
    assert cells(text, "gru")[2] == "3 x 3"


def test_what_was_chosen_at_an_end_and_where_validation_was_best_is_told(kept):
    another = [dataclasses.replace(run, trial=MIDDLE, selected=False) for run in kept.runs[:1]]
    kept = dataclasses.replace(kept, runs=(*kept.runs, *another))
    table = Table("jsb", kept, None, variants(kept))
    text = plain(readme.render([Paper(experiment({}), (table,))]))
    assert (
        "Chosen at an end of the range of trials: optimizer.learning_rate=0.001, the smallest"
        in text
    )
    steps = [run.best_step for run in kept.runs if run.variant == "gru" and run.selected]
    assert f"best at step {min(steps):,} to {max(steps):,} (gru)" in text


def test_what_was_not_run_is_empty(text):
    assert cells(text, "tanh RNN") == ["tanh RNN", "9.1", "", "", "not run", *[""] * 5]
    _, nottingham = text.split("### nottingham")
    assert cells(nottingham, "gru") == ["gru", "3.23", "not run"]


def test_a_part_of_which_nothing_is_known_has_no_table(tmp_path):
    said = readme.render([read_paper(experiment({}, parts=("",)), tmp_path)])
    assert "It has no published values and was not run." in said
    assert "[paper](#paper)" not in said  # in the summary
    assert "| variant |" not in said


def test_the_summary_counts_cells(text):
    rows = [line for line in text.splitlines() if line.startswith("| [paper](#paper)")]
    assert [row.split(" | ")[1:] for row in rows] == [
        ["jsb", "1", "0", "1", "0", "0", "0", "1 |"],
        ["nottingham", "0", "0", "0", "0", "0", "0", "1 |"],
    ]
    assert "\n## paper\n" in text


def test_a_section_tells_how_it_came_about(text):
    said = plain(text)
    for words in (
        "[paper.py](paper.py): A paper about music.",
        "A paper, Table 1. Values are nats.",
        "On cpu with jax 0.10.2, commit 0123456789ab.",
        "Chosen runs that took all steps: ",
        "- batch size 8",
        "- gru and lstm: gru is better by ",
        "python -m gru_audio.sweep --config experiments/paper.py:nottingham "
        "--workdir runs/paper-nottingham",
        "python -m experiments.tables --keep runs/paper-jsb",
    ):
        assert words in said, words


def test_unfinished_sweeps_and_single_seeds_are_told(tmp_path):
    made = dataclasses.replace(MADE, variants={"gru": 5.0, "lstm": 5.0}, seeds=1)
    compared = made_up(tmp_path / "run", "paper", made, broken=["lstm-0.001-0"])
    write_kept(compared, tmp_path)
    values = {"": {"gru": 1e-5, "lstm": 1e-5}}
    paper = read_paper(experiment(values, parts=("",)), tmp_path)
    said = plain(readme.render([paper]))
    assert "3 of 4 runs have finished." in said
    assert cells(said, "gru")[1] == "1e-5" and "[" not in cells(said, "gru")[2]
    assert cells(said, "gru")[3:5] == ["1", "too few replicates"]
    assert cells(said, "lstm")[7] == "1 of 2 trained to the end"
    assert "experiments/paper.py --workdir runs/paper\n" in said


def test_kinds_are_told(comparison, kept, tmp_path):
    write_kept(comparison, tmp_path)
    floor = 20 * mean(kept, "gru")
    values = {"jsb": {"gru": floor / 2, "lstm": floor / 1000}}
    paper = read_paper(experiment(values, {"jsb": floor}), tmp_path)
    said = plain(readme.render([paper]))
    assert cells(said, "gru")[4] == "better: solved, published partly"
    solved = "reproduced in kind: solved, published solved"
    assert cells(said, "lstm")[4] in (solved, "worse: partly, published solved")
    assert "The floor is " in said


def test_where_variants_fail_is_told_over_the_parts_with_a_floor(comparison, kept, tmp_path):
    write_kept(comparison, tmp_path)
    longer = dataclasses.replace(comparison.results, experiment="paper-longer")
    write_kept(dataclasses.replace(comparison, results=longer), tmp_path)
    one, other = 20 * mean(kept, "gru"), mean(kept, "gru") / 2
    paper = experiment(
        {}, {"jsb": one, "longer": other, "absent": 1.0}, ("jsb", "longer", "absent")
    )
    said = readme.render([read_paper(paper, tmp_path)])
    (section,) = [
        part for part in said.split("\n### ") if part.startswith("Where each variant fails")
    ]
    assert "| variant | jsb | longer |" in section
    _, far, near = cells(section, "gru")
    assert re.fullmatch(r"solved \(0\.0\d+, 0\.0\d+, 0\.0\d+\)", far)
    assert near.startswith("at the floor (")


def test_shares_are_in_percent(tmp_path):
    write_kept(made_up(tmp_path / "run", "paper", Made(seeds=2)), tmp_path)
    paper = read_paper(experiment({"": {"gru": 0.872}}, parts=("",)), tmp_path)
    assert cells(readme.render([paper]), "gru")[1] == "87.2 %"


def test_the_same_results_give_the_same_text(text, comparison, kept, tmp_path):
    values = {
        "jsb": {"lstm": 100.0, "gru": mean(kept, "gru"), "tanh RNN": 9.1},
        "nottingham": {"gru": 3.23},
    }
    assert readme.render([read_paper(experiment(values, tolerances=WIDE), tmp_path)]) == text
