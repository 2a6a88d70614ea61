"""The collectives in the compiled program of a training step."""

import json
import re

import jax
import numpy as np
import pytest

from tests.tones import fresh, make_loader, tiny

CRNN = {"model.name": "crnn", "model.conv": ("4 3x3 stride 1x2",), "frontend.hop_ms": 40.0}
TWO_BY_TWO = {"parallel.data": 2, "parallel.member": 2}
STATISTICS = 4  # of batch norm: count and sum, squares, and the same number in the backward pass

_COLLECTIVE = re.compile(
    r"= (?P<shapes>.*?) (?P<name>all-\w+|reduce-scatter|collective-\w+|ragged-\w+|send|recv)"
    r"(-start)?\(.*"
)
_LISTED = re.compile(r"replica_groups=(\{[\d,{}]*\})")
_OF_MESH = re.compile(r"replica_groups=mesh\['member'=(\d+),'data'=(\d+)\] \{'data'\}")  # jax 0.12


def groups_of(line):
    """Returns the groups of devices of a collective."""
    if match := _OF_MESH.search(line):
        member, data = map(int, match.groups())
        return np.arange(member * data).reshape(member, data).tolist()
    return json.loads(_LISTED.search(line)[1].translate(str.maketrans("{}", "[]")))


def collectives(source, changes):
    """Returns (name, arrays, groups of devices) of each collective with two members."""
    configs = [tiny(changes | {"seed": seed}) for seed in range(2)]
    loader = make_loader(source, configs)
    state = fresh(loader, configs)
    parameters = len(jax.tree.leaves(state.weights.params))
    loader.train(state, np.ones(2, bool), 0, 1)
    found = []
    for line in loader.placement._calls["train"].call.as_text().splitlines():
        if match := _COLLECTIVE.search(line):
            found.append((match["name"], match["shapes"].count("["), groups_of(line)))
    return found, parameters


@pytest.mark.parametrize(
    ("changes", "groups"),
    [
        ({"parallel.data": 4}, [[0, 1, 2, 3]]),
        (TWO_BY_TWO, [[0, 1], [2, 3]]),  # never across members
        (TWO_BY_TWO | {"train.grad_accumulation": 2}, [[0, 1], [2, 3]]),
        (
            {"parallel.data": 4, "train.grad_accumulation": 2, "train.tbptt_frames": 8},
            [[0, 1, 2, 3]],
        ),
    ],
    ids=str,
)
def test_one_reduction_an_update(source, changes, groups):
    """One reduction covers all gradients and the loss, for any number of parts."""
    found, parameters = collectives(source, changes)
    assert found == [("all-reduce", parameters + 1, groups)]


@pytest.mark.parametrize("grad_accumulation", [1, 2])
def test_batch_norm_adds_its_statistics(source, grad_accumulation):
    changes = CRNN | TWO_BY_TWO | {"train.grad_accumulation": grad_accumulation}
    found, parameters = collectives(source, changes)
    assert len(found) == STATISTICS + 1
    assert all(name == "all-reduce" and groups == [[0, 1], [2, 3]] for name, _, groups in found)
    # The count of frames has no gradient.
    assert sum(arrays for _, arrays, _ in found) == parameters + 1 + STATISTICS + 1
