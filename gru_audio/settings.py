"""Settings: the fields of a component that a config may set; and errors that a user can mend.

A component is a dataclass (a linen module is one too). A field made by `setting` is a key of the
config. A field made by `part` is a component itself; its settings are keys of the same section. The
code that makes the component passes all other fields.
"""

import dataclasses
import difflib
import numbers
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


class UserError(ValueError):
    """An error that the user can mend: commands print the message alone, without a traceback."""


_LISTED = 20  # choices; more are not all shown


def nearest(name: str, choices: Iterable[str]) -> str:
    """A hint that names the choice closest to `name`, and the choices unless they are many."""
    choices = sorted(choices)
    parts = [part.strip() for part in name.split(";")]
    if len(parts) > 1 and set(parts) <= set(choices):
        return f" Separate them by commas: {','.join(parts)}"
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f' Did you mean "{close[0]}"?' if close else ""
    return hint + (f" Valid: {', '.join(choices)}." if len(choices) <= _LISTED else "")


def choose(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Returns ``table[name]``, or raises a `UserError` with the nearest name that is there.

    Args:
      kind: what the table holds, for the message: "cell", "pooling", ...
      name: the key asked for.
      table: what may be asked for.
    """
    if name not in table:
        raise UserError(f'Unknown {kind} "{name}".{nearest(name, table)}')
    return table[name]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What a config may put into a field of a component.

    Attributes:
      default: its value in the default config. None: the user may leave it open.
      doc: what it means, for those who write configs.
      unit: of a number.
      kind: its type, where the default is None: str, int or float.
      low, high: the least and greatest value of a number, which must have both. They may be far
        beyond use: they keep what a config from others could ask for in time and memory bounded.
      above, below: in place of `low` and `high`, bounds that are not allowed themselves.
      choices: the names that are allowed. Where it is a table of components, the keys of the
        chosen one are keys of the config as well.
      key: its name in the config, if it is not that of the field.
      parse: from the value in the config to that of the field.
      when: another key that stands before this one, and a test of its value. The config has this
        key where the test passes.
      traced: a number that may differ between the members of a group. The step takes it as an
        argument, so the field itself keeps its default.
      zero_is_off: of a traced number: where it is zero in all members, its code is not compiled.
      per_run: it tells apart runs of one experiment: a seed, a held-out speaker, a fold. Members
        of a group may differ in it, but for the field that is named in "FIELD=VALUE".
      machine: it says where and how fast a run goes or how often it saves. It does not decide
        numbers, and a resumed run may change it.
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
    zero_is_off: bool = False
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
        """The values on which keys of other settings may depend; () if none do."""
        if self.choices is not None:
            return tuple(self.choices)
        if self.kind is int and self.low is not None and self.high is not None:
            return range(int(self.low), min(int(self.high), int(self.low) + _LISTED) + 1)
        return ()

    @property
    def bounds(self) -> str:
        """The values that are allowed, in words; "" if all are."""
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
        """The value in the type of the setting.

        Raises:
          TypeError: it has another type.
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
        """The value that is typed so on a command line: "1e-3", "true", "None", "64 relu, 32 relu".

        Raises:
          TypeError: it is the text of another type.
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
        """Why it may not be this value of its type; None if it may."""
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
        # Also below its bound once it is rounded to float32.
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
    """A field of a component that is a key of the config; for the attributes see `Setting`."""
    described = Setting(default=default, **attributes)
    value = default if described.parse is None else described.parse(default)
    return dataclasses.field(default=value, metadata={"setting": described})


def part(component: type) -> Any:
    """A field of a component that is a component itself."""
    return dataclasses.field(metadata={"part": component})


def is_component(thing: Any) -> bool:
    """Whether a table's entry is a component, not a function or a description."""
    return isinstance(thing, type) and dataclasses.is_dataclass(thing)


Possible = Callable[[str, Setting], Iterable[Any]]  # the values that a setting may have


def anything(key: str, its: Setting) -> Iterable[Any]:
    """All values on which other settings may depend."""
    return its.options


def chosen(values: Mapping[str, Any]) -> Possible:
    """The values given, and otherwise the defaults."""
    return lambda key, its: [values.get(key, its.default)]


def settings_of(component: type, possible: Possible = anything) -> dict[str, Setting]:
    """The settings by key, in order, that a component brings with any of the values possible."""
    found: dict[str, Setting] = {}
    for name, its, of_part in _fields(component):
        if of_part is not None:
            found |= settings_of(of_part, possible)
        if its is None:
            continue
        if its.when is not None:
            key, test = its.when
            if key not in found or not any(map(test, possible(key, found[key]))):
                continue
        key = its.key or name
        found[key] = its
        if isinstance(its.choices, Mapping):
            for choice in possible(key, its):
                if is_component(its.choices.get(choice)):
                    found |= settings_of(its.choices[choice], possible)
    return found


def selectors(component: type) -> set[str]:
    """The keys on whose values other keys of the component depend."""
    everything = settings_of(component)
    tables = {
        key
        for key, its in everything.items()
        if isinstance(its.choices, Mapping) and any(map(is_component, its.choices.values()))
    }
    return tables | {its.when[0] for its in everything.values() if its.when}


def make(component: type[T], values: Mapping[str, Any], **given: Any) -> T:
    """Makes a component.

    Args:
      component: a dataclass.
      values: by key, of its settings and those of its parts; others are ignored.
      given: by name, of its other fields and those of its parts; others are ignored.
    """
    taken: dict[str, Any] = {}
    for name, described, of_part in _fields(component):
        if of_part is not None:
            taken[name] = make(of_part, values, **given)
        elif described is None:
            taken |= {name: given[name]} if name in given else {}
        elif (key := described.key or name) in values and not described.traced:
            taken[name] = described.parse(values[key]) if described.parse else values[key]
    return component(**taken)


def _fields(component: type) -> Iterator[tuple[str, Setting | None, type | None]]:
    """Name, setting and component of every field."""
    for field in dataclasses.fields(component):
        yield field.name, field.metadata.get("setting"), field.metadata.get("part")
