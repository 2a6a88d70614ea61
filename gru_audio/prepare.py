"""Prepares a data set for training: decodes, resamples and checks its clips.

  python -m gru_audio.prepare spoken_digit                   recorded digits, downloaded
  python -m gru_audio.prepare spoken_digit --archive FILE    the same from a file you have
  python -m gru_audio.prepare tts_digits                     digits that eSpeak NG speaks
  python -m gru_audio.prepare gtzan --archive FILE           from an archive that you must provide
  python -m gru_audio.prepare tfds:crema_d                   any data set of sound that TFDS has
  python -m gru_audio.prepare folder --name my_sounds --folder DIR
  python -m gru_audio.prepare manifest --name my_sounds --manifest LIST.csv
  python -m gru_audio.prepare manifest --name my_speech --manifest train_manifest.json
  python -m gru_audio.prepare hf --name my_sounds --path DIR
  python -m gru_audio.prepare features --name my_features --archive FILE.npz

A folder has a directory for each class, with or without train/, validation/ and test/ above them. A
manifest has the columns file and label. It may have split, speaker, group, fold, start and end
(seconds). Other columns become class fields if their values repeat, or if --fields names them. Both
may have an --archive (tar or zip) with the sounds. A manifest may also be one of NeMo (JSON lines),
or a data folder of Kaldi (wav.scp, segments, text, utt2spk) or a folder of these, one for each
split. hf reads what save_to_disk of Hugging Face wrote (extra [hf]).

A field has one class for each clip unless a flag says otherwise. With --tags label, "speech+music"
means two tags and "none" means no tag. --text words reads a column as transcripts; "<none>" is an
empty one, and an empty cell an unknown one. --case and --strip_punctuation change their letters and
punctuation. --numbers age reads a column as numbers. --events FILE adds the field "events" from a
table of file, onset, offset (seconds) and label; a row with only a file says that it has no events.
The columns of DCASE are known, too: filename, onset, offset, event_label. A label track of Audacity
or a selection table of Raven is NAME.txt for the sound NAME; --events FOLDER reads one for each
sound. --unannotated refuse or empty says what a file without annotations is; otherwise its events
are unknown. Events are cut at the end of their sound.

Without given splits, clips are split at random. The column group, or --split_by, keeps all clips of
one speaker or recording within one split. Parts of a file, and files with the same content, stay
together. If only the validation split is missing, it is taken from train. Notes report odd clips:
copies across splits, classes that look alike or have no training clips, files that have changed.

A small set is better tested by cross-validation: --folds 5 draws folds, in each similar numbers of
every label, which keep together what splits do. sweep.folds("fold", "12345") makes replicates.

Features are frames that are already computed: an .npz with features (N, T, F), or (frames, F) with
offsets or lengths; a .csv or .tsv with one row per frame; a Kaldi .ark; or an archive of .npy or
Sphinx .mfc files with a --manifest. The other arrays or columns become fields. --fields
label=targets:categories defines a field whose targets are numbers into categories.

WAV, FLAC, Ogg and MP3 files may have any rate and number of channels. The command may be
interrupted and started again at any moment: a data set is complete or absent.
"""

import contextlib
import inspect
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from etils import epath
from rich.progress import Progress

from gru_audio import command
from gru_audio.data import index
from gru_audio.data.datasets import BUILDERS, user_files
from gru_audio.data.datasets.catalogue import catalogue_name
from gru_audio.data.datasets.clips import REFUSE, SKIP, UNFINISHED, ClipBuilder
from gru_audio.data.datasets.columns import KEEP, LOWER, NO_EVENTS, REFUSED, UPPER
from gru_audio.data.source import default_data_dir
from gru_audio.files import lock, matching, open_own
from gru_audio.paths import local_path
from gru_audio.settings import UserError, nearest

_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "Folder of data sets. Default: $GRU_AUDIO_DATA, else the user's cache ($XDG_CACHE_HOME).",
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Prepare it even if it exists already.")

_OPTIONS = (  # handed to the builder, each where it is given
    flags.DEFINE_string("name", None, "The name of your data set."),
    flags.DEFINE_string("folder", None, "The folder with your sounds."),
    flags.DEFINE_string("archive", None, "A tar or zip file with the sounds, or a folder of it."),
    flags.DEFINE_string(
        "manifest", None, "The list of the sounds: CSV, a NeMo manifest or a Kaldi folder."
    ),
    flags.DEFINE_string("path", None, "hf: the folder that save_to_disk of Hugging Face wrote."),
    flags.DEFINE_string("clip", None, "The column with the names of the sequences of features."),
    flags.DEFINE_list(
        "fields",
        None,
        "Class fields: NAME or NAME=COLUMN, ...; in features NAME=COLUMN:NAMES.",
    ),
    flags.DEFINE_list(
        "tags", None, "Fields of tags, of which a clip may have several; as --fields."
    ),
    flags.DEFINE_list("text", None, "Fields of text, such as transcripts; as --fields."),
    flags.DEFINE_enum("case", None, [UPPER, LOWER, KEEP], "Letters of texts. Default: keep."),
    flags.DEFINE_bool("strip_punctuation", None, "Remove punctuation from texts, not apostrophes."),
    flags.DEFINE_list("numbers", None, "Fields of numbers; as --fields."),
    flags.DEFINE_string("separator", None, "Text between the tags of a clip. Default: +."),
    flags.DEFINE_string(
        "events",
        None,
        "Events: a table of file, onset, offset (s), label; a label track of Audacity or a "
        "selection table of Raven, NAME.txt; or a folder with one for each file.",
    ),
    flags.DEFINE_enum(
        "unannotated",
        None,
        [REFUSED, NO_EVENTS],
        "Files that --events lacks: refuse them, or take them for files without events. By default "
        "their events are unknown.",
    ),
    flags.DEFINE_string(
        "split", None, "features: the column with the splits; gtzan: filtered or random."
    ),
    flags.DEFINE_float("segment_seconds", None, "Cut tracks of gtzan into parts of this length."),
    flags.DEFINE_float("min_note_seconds", None, "The shortest notes of bach_violin."),
    flags.DEFINE_string("drop", None, "A column: features with a value in it are left out."),
    flags.DEFINE_list("ignore", None, "Columns of numbers that are not features."),
    flags.DEFINE_integer(
        "rate",
        None,
        "Frames of features per second; Hz of sound if TFDS does not say it.",
        lower_bound=1,
    ),
    flags.DEFINE_integer("width", None, "Features per frame of .mfc files.", lower_bound=1),
    flags.DEFINE_string(
        "split_by",
        None,
        "Clips with the same value stay in one split: a column of the manifest; for a folder, a "
        "regular expression that finds the value in the path of a file.",
    ),
    flags.DEFINE_list("fractions", None, "Sizes of random splits in percent: 80,10,10."),
    flags.DEFINE_integer(
        "folds", None, 'Draw folds for cross-validation: the field "fold".', lower_bound=2
    ),
    flags.DEFINE_integer("seed", None, "Seed of the random splits and folds.", lower_bound=0),
    flags.DEFINE_float("sample_rate", None, "Rate of the prepared sounds in Hz.", lower_bound=1),
    flags.DEFINE_enum("on_bad_file", None, [SKIP, REFUSE], "What to do with unusable sounds."),
    flags.DEFINE_bool("keep_silence", None, "Keep clips of digital silence."),
    flags.DEFINE_bool("verify", None, "Refuse all but the published data set."),
)

_PLACES = ("folder", "archive", "manifest", "path", "events")  # options that name files
_INTERVAL = 10  # seconds between progress lines without a terminal
_LISTED = 20  # skipped clips to name in a summary


def main(arguments: Sequence[str]) -> None:
    if len(arguments) > 2:
        raise UserError(
            f'Unknown argument "{arguments[2]}": after the data set come flags only, --NAME=VALUE.'
        )
    if len(arguments) < 2:
        raise UserError(f"Name the data set to prepare: one of {', '.join(BUILDERS)}; see --help.")
    options: dict[str, Any] = {flag.name: flag.value for flag in _OPTIONS if flag.value is not None}
    with _progress(options.get("name", arguments[1])) as progress:
        prepared = prepare(
            arguments[1], _DATA_DIR.value, overwrite=_OVERWRITE.value, progress=progress, **options
        )
    print(prepared)


def prepare(
    recipe: str,
    data_dir: epath.PathLike | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> str:
    """Prepares a data set, unless it is prepared already.

    A lock lets only one process at a time prepare the same data set.

    Args:
      recipe: a key of `BUILDERS`, or tfds:NAME.
      data_dir: the folder of prepared data sets; None: `default_data_dir()`.
      overwrite: prepare the data set again; the old one is kept until the new one is complete.
      progress: called with (clips read, all clips).
      **options: arguments of the builder.

    Returns:
      A summary as text.

    Raises:
      UserError: the recipe or an option is unknown, no clip is usable, or the existing data set was
        prepared with other options.
    """
    recipe, options = _parse_recipe(recipe, options)
    builder_class = _builder(recipe, options)
    name = options.get("name", recipe)
    if "://" in str(data_dir):
        raise UserError(f"{data_dir} is not a local folder: prepare on a disk, then copy it.")
    root = Path(data_dir or default_data_dir()).expanduser().resolve()
    if not index.versions(epath.Path(root), name):
        _check_places(options)
    home = root / name
    with _lock(home):
        for leftover in matching(epath.Path(home), f"{UNFINISHED}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=home, prefix=UNFINISHED) as staging:
            builder = builder_class(data_dir=staging, **options)
            final = home / str(builder.version)
            if not overwrite and _is_prepared(final, builder):
                return f"{summary(final)}\n{_changes(final, builder)}--overwrite prepares it again."
            builder.progress = progress or builder.progress
            try:
                builder.download_and_prepare(download_dir=root / "downloads")
            except (OSError, RuntimeError) as error:
                # ArrayRecord raises RuntimeError, for example if the disk is full.
                raise UserError(f"Cannot prepare {name}: {error}") from error
            if final.exists():
                final.rename(Path(staging) / "replaced")
            Path(builder.data_dir).rename(final)
    return summary(final)


def summary(folder: epath.PathLike) -> str:
    """Returns a text on the contents of a prepared data set, and on skipped clips."""
    folder = epath.Path(folder)
    about, columns = index.read_description(folder), index.read_columns(folder)
    lengths, is_sound = columns[index.LENGTH], "signal" not in about
    rate = about["sample_rate"] if is_sound else None
    lines = [
        f"{about['name']} {about['version']} in {folder}",
        f"  clips: {len(lengths)}, {_duration(lengths, rate)}",
        f"  verified: {about['verified']}",
    ]
    if is_sound:
        read = ", ".join(f"{count} at {rate}" for rate, count in about["file_rates"])
        lines.insert(2, f"  rate: {rate} Hz; files: {read} Hz")
    for name, field in index.read_fields(about).items():
        lines.append(f"  {name}: {field.summary(columns[name])}")
    for split in dict.fromkeys(columns[index.SPLIT].tolist()):
        part = lengths[columns[index.SPLIT] == split]
        lines.append(f"  {split}: {len(part)} clips, {_duration(part, rate)}")
    lines += [f"  note: {remark}" for remark in about.get("remarks", ())]
    skipped = about["skipped"]
    lines.append(f"  skipped: {len(skipped)}")
    lines += [f"    {name}: {reason}" for name, reason in skipped[:_LISTED]]
    if len(skipped) > _LISTED:
        lines.append(f"    and {len(skipped) - _LISTED} more, in {folder / index.DESCRIPTION}")
    return "\n".join(lines)


def _duration(lengths: np.ndarray, rate: int | None) -> str:
    """Formats the total length of clips: in hours, or in frames if there is no rate."""
    total = lengths.sum()
    return f"{total:,} frames" if rate is None else f"{total / rate / 3600:.3g} hours"


def _parse_recipe(recipe: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Splits tfds:NAME into a recipe and options; returns other recipes unchanged."""
    kind, _, dataset = recipe.partition(":")
    if kind != "tfds":
        return recipe, options
    if not dataset:
        raise UserError("Name the data set of the TFDS catalogue: tfds:NAME.")
    return kind, {"name": catalogue_name(dataset), **options, "dataset": dataset}


def _builder(recipe: str, options: dict[str, Any]) -> type[ClipBuilder]:
    if recipe not in BUILDERS:
        raise UserError(f'There is no data set "{recipe}".{nearest(recipe, BUILDERS)}')
    parameters = inspect.signature(BUILDERS[recipe].__init__).parameters
    for option in options:
        if option not in parameters:
            raise UserError(f"{recipe} does not take --{option}.")
    for option, parameter in parameters.items():
        required = parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
        if required and option != "data_dir" and option not in options:
            raise UserError(f"{recipe} needs --{option}.{_source(recipe, option)}")
    name = options.get("name", recipe)
    if "name" in options and name in BUILDERS:
        raise UserError(f'"{name}" is the name of another data set: choose another --name.')
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise UserError(f'"{name}" is not a valid name: use letters, digits and underscores.')
    return BUILDERS[recipe]


def _source(recipe: str, option: str) -> str:
    """Returns where the archive of a data set comes from, if that is the option."""
    homepage = BUILDERS[recipe].homepage
    return (
        f" It is not downloaded: get it from {homepage}" if option == "archive" and homepage else ""
    )


def _check_places(options: dict[str, Any]) -> None:
    for option in _PLACES:
        if option in options and not local_path(options[option]).exists():
            raise UserError(f"--{option}={options[option]} does not exist.")


def _is_prepared(folder: Path, builder: ClipBuilder) -> bool:
    """Returns whether the data set is prepared; refuses one with other settings."""
    if not (folder / index.DESCRIPTION).exists():
        return False
    try:
        index.check_records(epath.Path(folder))
        then = index.read_description(epath.Path(folder))["settings"]
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise UserError(
            f"{builder.name} is prepared already, but damaged: {error}. Pass --overwrite to "
            "prepare it again."
        ) from error
    for setting in then | builder.settings:
        before, now = then.get(setting), builder.settings.get(setting)
        if before != now:
            how = f"with {setting} {before} instead of {now}"
            if setting == "manifest" and before and now:
                how = "from a manifest that has changed since"
            raise UserError(
                f"{builder.name} is prepared already, {how}. Pass --overwrite to replace it."
            )
    return True


def _changes(folder: Path, builder: ClipBuilder) -> str:
    """Describes the changes of the user's files since the data set was prepared."""
    try:
        then = index.read_inputs(epath.Path(folder))
        changes = user_files.changes(then, user_files.listed(builder.inputs())) if then else ""
    except (OSError, ValueError) as error:
        changes = f"its files cannot be compared: {error}"
    if not changes:
        return "It was prepared already; "
    return f"It was prepared already, but since then {changes}. "


@contextlib.contextmanager
def _lock(home: Path) -> Iterator[None]:
    """Makes the folder of a data set, and locks it against other processes."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        file = open_own(home / ".lock", "a")
    except OSError as error:
        raise UserError(f"Cannot prepare {home.name}: {error}") from error
    with file:
        if not lock(file):
            print(f"Waiting for another process that is preparing {home.name}.", file=sys.stderr)
            lock(file, wait=True)
        yield


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """Shows progress on standard error: a bar on a terminal, otherwise a line every 10 s."""
    if sys.stderr.isatty():
        with Progress() as bar:
            task = bar.add_task(name, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    last = time.monotonic()

    def line(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last > _INTERVAL:
            last = time.monotonic()
            print(f"{name}: {done} of {total} clips", file=sys.stderr, flush=True)

    yield line


if __name__ == "__main__":
    command.run(main, names=True)
