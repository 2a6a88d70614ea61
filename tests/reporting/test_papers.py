import dataclasses
import re

import numpy as np
import pytest
import scipy.stats

from gru_audio.config import UserError
from gru_audio.reporting import readme, wording
from gru_audio.reporting.comparison import compare
from gru_audio.reporting.keeping import keep
from gru_audio.reporting.papers import Experiment, Paper, Table, compare_arms, read_paper
from gru_audio.reporting.published import Published, Verdict
from gru_audio.reporting.results import read_results
from gru_audio.reporting.write import write_kept
from tests.reporting.workdirs import Made, fail, write_workdir

MADE = Made(
    arms={"gru": 5.2, "lstm": 3.0},
    draws={0.001: 0.0, 0.01: 3.0},
    seeds=3,
    metric="loss",
    class_names=(),
)

MIDDLE = {"optimizer.learning_rate": 0.003}  # between those


def made_up(folder, name, made=MADE, broken=()):
    """What would be kept of a made-up sweep of that name."""
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


def mean(kept, arm):
    return np.mean(
        [run.metrics["test/loss"] for run in kept.runs if run.arm == arm and run.selected]
    )


def experiment(values, floors=None, parts=("jsb", "nottingham")):
    published = Published("A paper, Table 1", "nats", values, floors or {}, ("batch size 8",))
    return Experiment("paper", "A paper about music.", parts, published)


def plain(text):
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")


def cells(text, arm):
    (row,) = [line for line in plain(text).splitlines() if line.startswith(f"| {arm} |")]
    return [cell.strip() for cell in row.split("|")[1:-1]]


def test_ours_are_the_runs_of_the_chosen_draw(kept):
    (row,) = [row for row in compare_arms({}, None, kept) if row.arm == "gru"]
    runs = [run for run in kept.runs if run.arm == "gru"]
    chosen = [run for run in runs if run.draw == {"optimizer.learning_rate": 0.001}]
    values = [run.metrics["test/loss"] for run in chosen]
    reference = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    ours = row.ours
    assert (ours.seeds, ours.draws, ours.planned) == (3, 2, 2)
    assert ours.metric.value == pytest.approx(np.mean(values))
    assert (ours.metric.low, ours.metric.high) == pytest.approx((reference.low, reference.high))
    assert ours.seconds == pytest.approx(sum(run.seconds for run in chosen))
    assert ours.seconds_of_all == pytest.approx(sum(run.seconds for run in runs))
    assert (ours.total_parameters, ours.recurrent_parameters) == (41_482, 40_512)
    assert row.published is row.verdict is None


def test_every_row_has_its_verdict(kept):
    published = {"tanh RNN": 9.1, "gru": mean(kept, "gru"), "lstm": 100.0}
    rows = compare_arms(published, None, kept)
    assert [(row.arm, row.verdict) for row in rows] == [
        ("tanh RNN", Verdict.NOT_RUN),
        ("gru", Verdict.REPRODUCED),
        ("lstm", Verdict.BETTER),
    ]
    assert rows[0].ours is None


def test_a_floor_compares_in_kind(kept):
    floor = 20 * mean(kept, "gru")
    (gru, *_) = compare_arms({"gru": floor / 1000}, floor, kept)
    assert gru.verdict is Verdict.REPRODUCED
    (gru, *_) = compare_arms({"gru": floor}, floor, kept)
    assert gru.verdict is Verdict.BETTER
    (gru, *_) = compare_arms({"gru": 1e-9}, 1e-6, kept)
    assert gru.verdict is Verdict.NOT_REPRODUCED


def test_where_higher_is_better_the_sign_turns(tmp_path):
    kept = keep(made_up(tmp_path, "paper", Made(metric="accuracy", seeds=2)))
    rows = {row.arm: row for row in compare_arms({"gru": 0.3, "lstm": 1.9}, None, kept)}
    assert rows["gru"].verdict is Verdict.BETTER
    assert rows["lstm"].verdict is Verdict.NOT_REPRODUCED


def test_runs_at_the_cap_are_counted(kept):
    runs = tuple(
        dataclasses.replace(run, steps=run.step_cap)
        if run.run in ("gru-0.001-0", "gru-0.01-1")  # of the second the draw was not chosen
        else dataclasses.replace(run, steps=run.step_cap - 200)
        for run in kept.runs
    )
    rows = compare_arms({}, None, dataclasses.replace(kept, runs=runs))
    assert {row.arm: row.ours.at_cap for row in rows} == {"gru": 1, "lstm": 0}


def test_a_part_that_there_is_not_is_refused():
    with pytest.raises(UserError, match=r'PUBLISHED names "jbs".*Did you mean "jsb"'):
        experiment({"jbs": {"gru": 8.5}})


@pytest.fixture
def text(comparison, kept, tmp_path):
    write_kept(comparison, tmp_path)
    values = {
        "jsb": {"lstm": 100.0, "gru": mean(kept, "gru"), "tanh RNN": 9.1},
        "nottingham": {"gru": 3.23},
    }
    return readme.render([read_paper(experiment(values), tmp_path)])


def test_a_row_shows_what_is_known(text, kept):
    ours = next(row for row in compare_arms({}, None, kept) if row.arm == "gru").ours
    jsb, _ = text.split("### nottingham")
    _, published, value, *others = cells(jsb, "gru")
    assert float(published) == pytest.approx(ours.metric.value, rel=1e-5)
    scale = wording.scale_of("loss")
    assert value == plain(f"{scale.value(ours.metric.value)} {scale.interval(ours.metric)}")
    times = [plain(wording.duration(s)) for s in (ours.seconds, ours.seconds_of_all)]
    assert others == ["3", "reproduced", "41,482", "40,512", "2", *times]


def with_values(kept, arm, values):
    """The same with other test losses of the chosen runs of an arm."""
    left = iter(values)
    runs = tuple(
        dataclasses.replace(run, metrics=run.metrics | {"test/loss": next(left)})
        if run.arm == arm and run.selected
        else run
        for run in kept.runs
    )
    return dataclasses.replace(kept, runs=runs)


def test_a_value_outside_of_the_interval_is_reproduced_to_two_percent_only(kept):
    near = with_values(kept, "gru", [8.40, 8.41, 8.42])
    for published, told in ((8.43, "reproduced"), (8.5, "reproduced: to 2 %, ours is below")):
        rows = compare_arms({"gru": published}, None, near)
        text = readme.render([Paper(experiment({}), (Table("jsb", near, None, rows),))])
        assert cells(text, "gru")[4] == told


def test_an_interval_of_two_seeds_reproduces_nothing(comparison, kept):
    two = [run for run in kept.runs if run.arm != "gru" or run.replicate["seed"] != 2]
    wide = with_values(dataclasses.replace(kept, runs=tuple(two)), "gru", [8.0, 9.6])
    (gru, *_) = compare_arms({"gru": 10.0}, None, wide)
    assert not gru.ours.metric.is_interval and gru.ours.interval is None
    assert gru.verdict is Verdict.BETTER


def test_folds_are_what_an_interval_is_over(kept):
    runs = [run for run in kept.runs if run.arm == "gru" and run.selected]
    folds = [
        dataclasses.replace(
            run,
            replicate={"seed": seed, "data.test": f"fold={fold}"},
            metrics={"test/loss": float(10 * fold + run.replicate["seed"])},
        )
        for fold in range(3)
        for seed, run in enumerate(runs)
    ]
    (gru,) = compare_arms({}, None, dataclasses.replace(kept, runs=tuple(folds), curves=()))
    reference = scipy.stats.ttest_1samp([1.0, 11.0, 21.0], 0).confidence_interval(0.95)
    assert (gru.ours.test_sets, gru.ours.seeds) == (3, 9)
    assert gru.ours.metric.high == pytest.approx(reference.high)
    assert gru.ours.metric.low == 0.0  # a loss is not below it
    text = readme.render([Paper(experiment({}), (Table("jsb", kept, None, (gru,)),))])
    assert cells(text, "gru")[2] == "3 x 3"


def test_what_was_chosen_at_an_end_and_where_validation_was_best_is_told(kept):
    another = [dataclasses.replace(run, draw=MIDDLE, selected=False) for run in kept.runs[:1]]
    kept = dataclasses.replace(kept, runs=(*kept.runs, *another))
    table = Table("jsb", kept, None, compare_arms({}, None, kept))
    text = plain(readme.render([Paper(experiment({}), (table,))]))
    assert "Chosen at an end of what was tried: optimizer.learning_rate=0.001, the smallest" in text
    steps = [run.best_step for run in kept.runs if run.arm == "gru" and run.selected]
    assert f"best at step {min(steps):,} to {max(steps):,} (gru)" in text


def test_what_was_not_run_is_empty(text):
    assert cells(text, "tanh RNN") == ["tanh RNN", "9.1", "", "", "not run", *[""] * 5]


def test_a_part_of_which_nothing_is_known_has_no_table(tmp_path):
    said = readme.render([read_paper(experiment({}, parts=("",)), tmp_path)])
    assert "Nobody's values are beside it, and it was not run." in said
    assert "[paper](#paper)" not in said  # in the summary
    assert "| arm |" not in said


def test_the_summary_counts_cells(text):
    rows = [line for line in text.splitlines() if line.startswith("| [paper](#paper)")]
    assert [row.split(" | ")[1:] for row in rows] == [
        ["jsb", "1", "1", "0", "1 |"],
        ["nottingham", "0", "0", "0", "1 |"],
    ]
    assert "\n## paper\n" in text


def test_a_section_tells_how_it_came_about(text):
    said = plain(text)
    for words in (
        "[paper.py](paper.py): A paper about music.",
        "A paper, Table 1. Values are nats.",
        "On cpu with jax 0.10.2, commit 0123456789ab.",
        "Chosen runs that reached the cap on steps: ",
        "- batch size 8",
        "- gru and lstm: gru is better by ",
        "python -m gru_audio.sweep --config experiments/paper.py:nottingham "
        "--workdir runs/paper-nottingham",
        "python -m gru_audio.report --workdir runs/paper-jsb --keep",
    ):
        assert words in said, words


def test_unfinished_sweeps_and_single_seeds_are_told(tmp_path):
    made = dataclasses.replace(MADE, arms={"gru": 5.0, "lstm": 5.0}, seeds=1)
    compared = made_up(tmp_path / "run", "paper", made, broken=["lstm-0.001-0"])
    write_kept(compared, tmp_path)
    values = {"": {"gru": 1e-5, "lstm": 1e-5}}
    paper = read_paper(experiment(values, parts=("",)), tmp_path)
    said = plain(readme.render([paper]))
    assert "3 of 4 runs have finished." in said
    assert cells(said, "gru")[1] == "1e-5" and "[" not in cells(said, "gru")[2]
    assert cells(said, "gru")[3:5] == ["1", "not reproduced (1 seed)"]
    assert cells(said, "lstm")[7] == "1 of 2"
    assert "experiments/paper.py --workdir runs/paper\n" in said


def test_kinds_are_told(comparison, kept, tmp_path):
    write_kept(comparison, tmp_path)
    floor = 20 * mean(kept, "gru")
    values = {"jsb": {"gru": floor / 2, "lstm": floor / 1000}}
    paper = read_paper(experiment(values, {"jsb": floor}), tmp_path)
    said = plain(readme.render([paper]))
    assert cells(said, "gru")[4] == "better: solved, published partly"
    assert cells(said, "lstm")[4].startswith(("reproduced: solved", "not reproduced: partly"))
    assert "The floor is " in said


def test_where_arms_fail_is_told_over_the_parts_with_a_floor(comparison, kept, tmp_path):
    write_kept(comparison, tmp_path)
    longer = dataclasses.replace(comparison.results, experiment="paper-longer")
    write_kept(dataclasses.replace(comparison, results=longer), tmp_path)
    one, other = 20 * mean(kept, "gru"), mean(kept, "gru")
    paper = experiment(
        {}, {"jsb": one, "longer": other, "absent": 1.0}, ("jsb", "longer", "absent")
    )
    said = readme.render([read_paper(paper, tmp_path)])
    (section,) = [part for part in said.split("\n### ") if part.startswith("Where each arm fails")]
    assert "| arm | jsb | longer |" in section
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
    assert readme.render([read_paper(experiment(values), tmp_path)]) == text
