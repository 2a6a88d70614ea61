"""The config of a run: the settings of the components that it uses.

An experiment's `get_config()` starts from `default_config()` and changes some values. A section
such as `model` contains `name` and the keys of the component of that name. A new name replaces
these keys. A key that both components have keeps its value if that is not the default.
"""

import copy
import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from gru_audio.audio.augment import Augmentation
from gru_audio.audio.frontends import FrontendSettings
from gru_audio.data.settings import DataSettings
from gru_audio.nn.models import ModelSettings
from gru_audio.settings import (
    Setting,
    UserError,
    chosen,
    nearest,
    selectors,
    setting,
    settings_of,
)
from gru_audio.tasks import TaskSettings
from gru_audio.training.init import InitSettings
from gru_audio.training.optimizer import OptimizerSettings
from gru_audio.training.settings import (
    CheckpointSettings,
    LogSettings,
    ParallelSettings,
    TrainSettings,
)


@dataclass(frozen=True)
class _RunSettings:
    seed: int = setting(
        0,
        low=0,
        high=2**32 - 1,
        per_run=True,
        doc="The seed of a run: initialisation, order of examples, noise.",
    )


_SECTIONS: Mapping[str, type] = {
    "data": DataSettings,
    "frontend": FrontendSettings,
    "augment": Augmentation,
    "model": ModelSettings,
    "task": TaskSettings,
    "init": InitSettings,
    "optimizer": OptimizerSettings,
    "train": TrainSettings,
    "checkpoint": CheckpointSettings,
    "log": LogSettings,
    "parallel": ParallelSettings,
}
_RENAMED = {  # keys in the configs of earlier versions
    "model.tcn_kernel": "model.kernel",
    "data.feed": "data.loader",
    "train.accumulate": "train.grad_accumulation",
    "train.truncate_frames": "train.tbptt_frames",
    "parallel.side_by_side": "parallel.vmap_members",
    "parallel.repack_gain": "parallel.shrink_gain",
}


class UnknownChoice(UserError):
    """A value is not one of the choices of its key."""


class Section(ConfigDict):
    """Values of the settings of a component and of the components that these values choose.

    Args:
      path: prefix of the keys: "model.".
      component: a dataclass.
      values: values by key; all other keys have their defaults.
    """

    def __init__(self, path: str, component: type, values: Mapping[str, Any] | None = None):
        super().__init__()
        self._hold("path", path)
        self._hold("component", component)
        self._hold("selectors", selectors(component))
        self._swap(values or {})
        self.lock()

    def _hold(self, name: str, value: Any) -> None:
        """Sets an attribute that is not a key."""
        object.__setattr__(self, f"_{name}", value)

    def _swap(self, values: Mapping[str, Any]) -> None:
        """Takes over `values` and the keys that exist with them. Other keys have their defaults."""
        self._hold("settings", settings_of(self._component, chosen(values)))
        self._hold("fields", {key: spec.default for key, spec in self._settings.items()})
        for key in self._fields.keys() & values.keys():
            self._fields[key] = values[key]

    def __reduce__(self) -> Any:
        return type(self), (self._path, self._component, dict(self._fields))

    def copy_and_resolve_references(self, visit_map: Any = None) -> "Section":
        return copy.deepcopy(self)

    def __getitem__(self, key: str) -> Any:
        if key not in self._fields:
            raise KeyError(self.unknown(key))
        return self._fields[key]

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_") or key not in self._fields:
            raise AttributeError(key if key.startswith("_") else self.unknown(key))
        return self._fields[key]

    def __setattr__(self, key: str, value: Any) -> None:
        try:
            self[key] = value
        except KeyError as error:
            raise AttributeError(error.args[0]) from error

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def set(self, key: str, value: Any, *, typed: bool = False) -> None:
        """Sets a key. See `Config.put` for `typed` and the errors."""
        if key not in self._settings:
            raise KeyError(self.unknown(key))
        name, spec = f"{self._path}{key}", self._settings[key]
        try:
            value = spec.read(value) if typed else spec.cast(value)
        except TypeError as error:
            raise TypeError(f"config.{name}: {error} The default is {spec.default}.") from error
        if spec.choices is not None and value not in spec.choices:
            raise UnknownChoice(
                f'config.{name}="{value}" is unknown.{nearest(value, spec.choices)}'
            )
        self._fields[key] = value
        if key in self._selectors:
            differing = {k: v for k, v in self._fields.items() if v != self._settings[k].default}
            self._swap(differing)

    def unknown(self, key: str) -> str:
        """Returns why a key does not exist, and the nearest one that does."""
        name = f"{self._path}{key}"
        fixed: dict[str, Any] = {}
        for selector in filter(self._selectors.__contains__, self._settings):

            def brings(value: Any, selector: str = selector) -> bool:
                values = {**fixed, selector: value}
                possible = settings_of(
                    self._component, lambda k, spec: [values[k]] if k in values else spec.options
                )
                return key in possible

            now = self._fields[selector]
            if not brings(now):
                owners = [str(value) for value in self._settings[selector].options if brings(value)]
                if owners:
                    return (
                        f"config.{name} belongs to {self._path}{selector}={' or '.join(owners)}: "
                        f"here it is {now}."
                    )
            fixed[selector] = now
        return f'Unknown config key "{name}".{nearest(name, [self._path + k for k in self])}'


class Config(Section):
    """The config of a run: `seed` and one section for each kind of component."""

    def __init__(
        self,
        path: str = "",
        component: type = _RunSettings,
        values: Mapping[str, Any] | None = None,
    ):
        super().__init__(path, component, values)
        for name, section_component in _SECTIONS.items():
            value = (values or {}).get(name)
            self._fields[name] = Section(f"{name}.", section_component) if value is None else value

    def sections(self) -> Iterator[Section]:
        """Yields the config itself, for keys without a section, and its sections."""
        yield self
        yield from (self[name] for name in _SECTIONS)

    def put(self, name: str, value: Any, *, typed: bool = False) -> None:
        """Sets a key by its dotted name.

        Args:
          name: such as "model.hidden".
          value: a value of the key's type or, if `typed`, text from a command line.

        Raises:
          UserError: the key does not exist, or the value has another type.
        """
        section_name, _, key = name.rpartition(".")
        section = (
            self if not section_name else self[section_name] if section_name in _SECTIONS else None
        )
        if section is None or name in _SECTIONS:
            raise UserError(f'Unknown config key "{name}".{nearest(name, flatten(self))}')
        try:
            section.set(key, value, typed=typed)
        except (KeyError, TypeError) as error:
            raise UserError(error.args[0]) from error


def default_config() -> Config:
    """Returns the settings of the default components, all at their defaults."""
    return Config()


def settings_in(config: Config) -> dict[str, Setting]:
    """Returns the settings of a config by dotted name, in order."""
    return {
        section._path + key: spec
        for section in config.sections()
        for key, spec in section._settings.items()
    }


def flatten(config: ConfigDict) -> dict[str, Any]:
    """Returns values by dotted name, in alphabetical order; tuples become lists, as in JSON."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat |= {f"{key}.{name}": inner for name, inner in flatten(value).items()}
        else:
            flat[key] = list(value) if isinstance(value, tuple) else value
    return dict(sorted(flat.items()))


def differences(config: Config) -> dict[str, Any]:
    """Returns the values that affect results and are not the defaults, by dotted name.

    Defaults are left out so that a new setting does not change the identity of existing runs.
    """
    settings = settings_in(config)
    return {
        name: value
        for name, value in flatten(config).items()
        if value != _plain(settings[name].default) and not settings[name].machine
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def override(config: Config, changes: Mapping[str, Any], *, typed: bool = False) -> Config:
    """Returns a copy of a config with changed values. The order of the changes does not matter.

    Args:
      config: not modified.
      changes: values by dotted name.
      typed: whether the values are text from a command line.

    Raises:
      UserError: a key does not exist, or a value has another type.
    """
    config = copy.deepcopy(config)
    for name, value in _ordered(config, changes):
        config.put(name, value, typed=typed)
    return config


def _ordered(config: Config, changes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields changes of selectors first. The caller applies each before it takes the next."""
    remaining = dict(changes)
    for section in config.sections():
        done: set[str] = set()
        while keys := [k for k in section._settings if k in section._selectors - done]:
            done.add(keys[0])
            if (name := section._path + keys[0]) in remaining:
                yield name, remaining.pop(name)
    yield from remaining.items()


def renamed(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the changes with dotted names of earlier versions replaced by the current ones."""
    return {_RENAMED.get(name, name): value for name, value in changes.items()}


def read_config(flat: Mapping[str, Any]) -> Config:
    """Returns the config that a run stored.

    Earlier versions stored the keys of all components. Keys of components that are not chosen are
    ignored. Keys that are missing have their defaults.

    Args:
      flat: result of `flatten`.

    Raises:
      UserError: no component has a key, or a value has another type.
    """
    config = default_config()
    known = {
        f"{name}.{key}" for name, component in _SECTIONS.items() for key in settings_of(component)
    }
    try:
        for name, value in _ordered(config, renamed(flat)):
            if name in settings_in(config) or name not in known:
                config.put(name, value)
    except UnknownChoice as error:
        hint = "If an experiment file defines it, pass --experiment FILE."
        raise UserError(f"{error} {hint}") from error
    return config


def describe(config: Config) -> str:
    """Returns a text with a paragraph per key: value, default, unit, bounds and meaning."""
    lines = []
    for name, spec in settings_in(config).items():
        section_name, _, key = name.rpartition(".")
        value = config[section_name][key] if section_name else config[key]
        default = "" if value == spec.default else f" (default {json.dumps(spec.default)})"
        about = "; ".join(filter(None, (spec.unit, spec.bounds)))
        lines.append(f"{name} = {json.dumps(value)}{default}{about and f'  [{about}]'}")
        lines += textwrap.wrap(spec.doc, 96, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def check(config: Config) -> None:
    """Raises `UserError` for values that are invalid for any data set."""
    for section in config.sections():
        for key, spec in section._settings.items():
            if refusal := spec.refusal(section[key]):
                shown = "" if spec.kind is tuple else f"={section[key]}"
                raise UserError(f"config.{section._path}{key}{shown} {refusal}.")
            if spec.parse is not None:
                spec.parse(section[key])
    Augmentation(**config.augment)
    if not config.parallel.data and config.parallel.coordinator:
        raise UserError(
            "config.parallel.data=0 measures in one process only: set the number of devices that "
            "share a batch."
        )
    parts = (config.parallel.data or 1) * config.train.grad_accumulation
    if config.train.batch_size % parts:
        raise UserError(
            f"config.train.batch_size={config.train.batch_size} must be a multiple of "
            f"config.parallel.data x config.train.grad_accumulation = {parts}."
        )
    if config.augment.background and not config.data.background:
        raise UserError(
            "config.augment.background needs examples to mix in: config.data.background, such as "
            '"label=noise".'
        )
    if config.data.sampling == "balanced" == config.task.get("class_weight"):
        raise UserError(
            "config.data.sampling=balanced and config.task.class_weight=balanced would correct the "
            "same imbalance twice: leave one of them at its default."
        )
    if not config.data.validation and config.train.patience:
        raise UserError("config.train.patience needs a validation split (config.data.validation).")
