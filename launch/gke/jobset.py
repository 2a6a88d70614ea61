r"""Prints jobset.yaml for a sweep: its slices, shards, image and arguments filled in.

  python launch/gke/jobset.py --image IMAGE --topology v5e:4x4 --shards 2 \
      --prepare spoken_digit -- \
      --config=experiments/spoken_digit.py --workdir=gs://BUCKET/digits | kubectl apply --filename -

`python -m gru_audio.sweep --plan --topology v5e:4x4 ...` prints this command for a sweep.
"""

import argparse
import json
import math
import sys
from pathlib import Path

TEMPLATE = Path(__file__).with_name("jobset.yaml")
ACCELERATORS = {
    "v4": "tpu-v4-podslice",
    "v5e": "tpu-v5-lite-podslice",
    "v5p": "tpu-v5p-slice",
    "v6e": "tpu-v6e-slice",
}
CHIPS_OF_HOST = 4  # of slices with several hosts; a smaller slice is a part of a host


def filled(
    image: str, name: str, topology: str, shards: int, prepare: list[str], sweep: list[str]
) -> str:
    """Returns the manifest. `sweep`: arguments of gru_audio.sweep."""
    chip, _, layout = topology.partition(":")
    chips = math.prod(map(int, layout.split("x")))
    own = min(chips, CHIPS_OF_HOST)
    hosts = chips // own
    changes = {
        "name: gru-audio\n  annotations": f"name: {name}\n  annotations",
        "replicas: 2": f"replicas: {shards}",
        'value: "2"': f'value: "{shards}"',
        "parallelism: 4": f"parallelism: {hosts}",
        "completions: 4": f"completions: {hosts}",
        "gke-tpu-accelerator: tpu-v5-lite-podslice": f"gke-tpu-accelerator: {ACCELERATORS[chip]}",
        "gke-tpu-topology: 4x4": f"gke-tpu-topology: {layout}",
        "google.com/tpu: 4": f"google.com/tpu: {own}",
        "image: IMAGE": f"image: {json.dumps(image)}",
        "args: [gru_audio.prepare, spoken_digit]": (
            f"args: {json.dumps(['gru_audio.prepare', *prepare])}"
        ),
        "--config=experiments/spoken_digit.py": json.dumps(sweep[0]),
        "                    - --workdir=gs://BUCKET/spoken_digit\n": "".join(
            f"                    - {json.dumps(argument)}\n" for argument in sweep[1:]
        ),
    }
    text = "".join(
        line for line in TEMPLATE.read_text().splitlines(keepends=True) if line[:1] != "#"
    )
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def main() -> None:
    """Prints the manifest."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--image", required=True, help="of launch/Dockerfile, in a registry")
    parser.add_argument("--name", default="gru-audio", help="of the JobSet")
    parser.add_argument("--topology", required=True, help="of a slice: v5e:4x4")
    parser.add_argument("--shards", type=int, default=1, help="number of slices")
    parser.add_argument("--prepare", default="spoken_digit", help="arguments of gru_audio.prepare")
    parser.add_argument("sweep", nargs="+", help="arguments of gru_audio.sweep, after --")
    a = parser.parse_args()
    if a.topology.partition(":")[0] not in ACCELERATORS:
        parser.error(f"--topology must begin with {', '.join(ACCELERATORS)}: v5e:4x4")
    sys.stdout.write(filled(a.image, a.name, a.topology, a.shards, a.prepare.split(), a.sweep))


if __name__ == "__main__":
    main()
