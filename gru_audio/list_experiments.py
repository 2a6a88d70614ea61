"""Lists the experiments of the package, with their parts.

  gru-audio experiments
  python -m gru_audio.list_experiments

--config NAME, or NAME:PART, selects one of them: gru-audio sweep --config quickstart. `gru-audio
new` copies one as a start for your own.
"""

from collections.abc import Sequence

from gru_audio import command, experiment_files


def main(_: Sequence[str]) -> None:
    for name in experiment_files.names():
        title, parts = experiment_files.describe(name)
        print(f"{name}\n    {title}")
        if parts:
            print(f"    Parts: {', '.join(f'{name}:{part}' for part in parts)}")


if __name__ == "__main__":
    command.run(main)
