"""Settings of components, and the errors that a user can correct.

A component is a dataclass; linen modules are dataclasses, too. It has three kinds of fields. A
field made by `setting` is a key of the config. A field made by `part` is another component, and the
keys of that component are keys of the config as well. All other fields are arguments of `make`.
"""

import dataclasses
import difflib
import numbers
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


class UserError(ValueError):
    """An error that the user can correct. Commands print its message without a traceback."""


_LISTED = 20  # a longer list of choices is not shown


def nearest(name: str, choices: Iterable[str]) -> str:
    """Returns a hint: the choice closest to `name`, and all choices if they are few."""
    choices = sorted(choices)
    parts = [part.strip() for part in name.split(";")]
    if len(parts) > 1 and set(parts) <= set(choices):
        return f" Separate them by commas: {','.join(parts)}"
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f' Did you mean "{close[0]}"?' if close else ""
    return hint + (f" Valid: {', '.join(choices)}." if len(choices) <= _LISTED else "")


def choose(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Returns ``table[name]``.

    Args:
      kind: what the table contains, for the message: "cell", "pooling", ...
      name: a key of the table.
      table: all choices.

    Raises:
      UserError: the name is not in the table. The message suggests the nearest one.
    """
    if name not in table:
        raise UserError(f'Unknown {kind} "{name}".{nearest(name, table)}')
    return table[name]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """The description of a config key: type, default, bounds and meaning.

    Attributes:
      default: value in the default config. None: the user may leave the key unset.
      doc: meaning, for users who write configs.
      unit: unit of a number.
      kind: type, if the default is None: str, int or float.
      low, high: smallest and largest value. Every number needs a lower and an upper bound, which
        may be far beyond useful values: it limits the time and memory that a config can demand.
      above, below: exclusive bounds, instead of `low` and `high`.
      choices: allowed names. If this is a table of components, the keys of the chosen component
        are keys of the config, too.
      key: name in the config; None: the name of the field.
      parse: converts the value in the config to the value of the field.
      when: an earlier key and a test of its value. The config has this key only if the test passes.
      traced: the number may differ between the members of a group. It is an argument of the
        training step, and the field keeps its default.
      off: for a traced number: if it has this value in all members, its code is not compiled.
      per_run: the key distinguishes runs of one experiment, such as a seed, a held-out speaker or a
        fold. Members of a group may differ in it. If its values have the form "FIELD=VALUE", they
        may differ in VALUE only.
      machine: the key decides where and how fast a run computes, or how often it saves. It does not
        change results, and a resumed run may have another value.
    """

    default: Any
    doc: str
    unit: str = ""
    kind: type | None = None
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    choices: Collection[str] | None = None
    key: str | None = None
    parse: Callable[[Any], Any] | None = None
    when: tuple[str, Callable[[Any], bool]] | None = None
    traced: bool = False
    off: float | None = None
    per_run: bool = False
    machine: bool = False

    def __post_init__(self) -> None:
        if self.default is not None:
            object.__setattr__(self, "kind", type(self.default))
        bounded = (self.low is None) != (self.above is None) and (self.high is None) != (
            self.below is None
        )
        if self.kind in (int, float) and not bounded:
            raise TypeError(f"A number needs a lower and an upper bound: {self.doc}")

    @property
    def options(self) -> Sequence[Any]:
        """The values that other settings may depend on; () if no setting can."""
        if self.choices is not None:
            return tuple(self.choices)
        if self.kind is int and self.low is not None and self.high is not None:
            return range(int(self.low), min(int(self.high), int(self.low) + _LISTED) + 1)
        return ()

    @property
    def bounds(self) -> str:
        """The allowed values in words; "" if all are allowed."""
        if self.choices is not None:
            return "one of " + ", ".join(self.choices)
        return f"{self._lower} and {self._upper}" if self.kind in (int, float) else ""

    @property
    def _lower(self) -> str:
        return f"at least {self.low}" if self.above is None else f"above {self.above}"

    @property
    def _upper(self) -> str:
        return f"at most {self.high}" if self.below is None else f"below {self.below}"

    def cast(self, value: Any) -> Any:
        """Returns the value in the type of the setting.

        Raises:
          TypeError: the value has another type.
        """
        if value is None and self.default is None:
            return None
        if self.kind is tuple and isinstance(value, list | tuple):
            return tuple(value)
        assert self.kind is not None
        is_bool = isinstance(value, bool | np.bool_)
        if isinstance(value, _INSTANCES[self.kind]) and is_bool == (self.kind is bool):
            return self.kind(value)
        raise TypeError(f"{_shown(value)} is not of type {self.kind.__name__}.")

    def read(self, text: str) -> Any:
        """Parses text from a command line: "1e-3", "true", "None", "64 relu, 32 relu".

        Raises:
          TypeError: the text does not describe a value of this type.
        """
        text = text.strip()
        if self.default is None and text == "None":
            return None
        if self.kind is bool and text.lower() in _BOOLS:
            return _BOOLS[text.lower()]
        if self.kind is tuple:
            parts = text.strip("()[] ").replace(";", ",").split(",")
            return tuple(filter(None, (each.strip(" \"'") for each in parts)))
        if self.kind in (int, float):
            try:
                return self.kind(text)
            except ValueError:
                pass
        return self.cast(text)

    def refusal(self, value: Any) -> str | None:
        """Returns why a value of the right type is not allowed; None if it is allowed."""
        if self.kind is tuple and self.high is not None and len(value) > self.high:
            return f"has {len(value)} parts: at most {self.high:g}"
        if self.kind not in (int, float) or value is None:
            return None
        least = self.low if self.above is None else self.above
        most = self.high if self.below is None else self.below
        assert least is not None and most is not None, self
        if value != value:
            return f"must be a number, {self._lower} and {self._upper}"
        if value < least or (self.above is not None and value == least):
            return f"must be {self._lower}" if most > 1 else f"must be {self.bounds}"
        # A value below the bound may reach it when it is rounded to float32.
        if value > most or (self.below is not None and np.float32(value) >= most):
            return f"must be {self._upper}" if most > 1 else f"must be {self.bounds}"
        return None


_INSTANCES: Mapping[type, Any] = {
    int: numbers.Integral,
    float: numbers.Real,
    bool: bool | np.bool_,
    str: str,
    tuple: tuple,
}
_BOOLS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def _shown(value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 100 else f"{text[:50]} ... {text[-50:]}"


def setting(default: Any, **attributes: Any) -> Any:
    """Declares a field of a component as a key of the config. See `Setting` for the attributes."""
    spec = Setting(default=default, **attributes)
    value = default if spec.parse is None else spec.parse(default)
    return dataclasses.field(default=value, metadata={"setting": spec})


def part(component: type) -> Any:
    """Declares a field of a component as another component."""
    return dataclasses.field(metadata={"part": component})


def is_component(thing: Any) -> bool:
    """Returns whether an entry of a table is a component, not a function or a text."""
    return isinstance(thing, type) and dataclasses.is_dataclass(thing)


Possible = Callable[[str, Setting], Iterable[Any]]  # the values that a key may have


def anything(key: str, spec: Setting) -> Iterable[Any]:
    """Returns all values that other settings may depend on."""
    return spec.options


def chosen(values: Mapping[str, Any]) -> Possible:
    """Returns a `Possible` of one value per key: from `values`, or else the default."""
    return lambda key, spec: [values.get(key, spec.default)]


def settings_of(component: type, possible: Possible = anything) -> dict[str, Setting]:
    """Returns the settings of a component by key, in order, for all possible values."""
    found: dict[str, Setting] = {}
    for name, spec, component_type in _fields(component):
        if component_type is not None:
            found |= settings_of(component_type, possible)
        if spec is None:
            continue
        if spec.when is not None:
            key, test = spec.when
            if key not in found or not any(map(test, possible(key, found[key]))):
                continue
        key = spec.key or name
        found[key] = spec
        if isinstance(spec.choices, Mapping):
            for choice in possible(key, spec):
                if is_component(spec.choices.get(choice)):
                    found |= settings_of(spec.choices[choice], possible)
    return found


def selectors(component: type) -> set[str]:
    """Returns the keys whose values decide which other keys a component has."""
    settings = settings_of(component)
    tables = {
        key
        for key, spec in settings.items()
        if isinstance(spec.choices, Mapping) and any(map(is_component, spec.choices.values()))
    }
    return tables | {spec.when[0] for spec in settings.values() if spec.when}


def make(component: type[T], values: Mapping[str, Any], **arguments: Any) -> T:
    """Makes a component.

    Args:
      component: a dataclass.
      values: values of its settings and of those of its parts, by key. Other keys are ignored.
      arguments: values of its other fields and of those of its parts, by name. Other names are
        ignored.
    """
    fields: dict[str, Any] = {}
    for name, spec, component_type in _fields(component):
        if component_type is not None:
            fields[name] = make(component_type, values, **arguments)
        elif spec is None:
            fields |= {name: arguments[name]} if name in arguments else {}
        elif (key := spec.key or name) in values and not spec.traced:
            fields[name] = spec.parse(values[key]) if spec.parse else values[key]
    return component(**fields)


def _fields(component: type) -> Iterator[tuple[str, Setting | None, type | None]]:
    """Yields the name, the setting and the component of each field."""
    for field in dataclasses.fields(component):
        yield field.name, field.metadata.get("setting"), field.metadata.get("part")
