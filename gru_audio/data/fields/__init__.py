"""Label fields: the annotations of the clips of a data set, each of a declared type.

A field is a class, a set of tags, a text, a list of events or a number. Each type defines the value
of one clip, the arrays that hold the values of all clips, and the JSON that describes the field in
a data set or a model. `gru_audio.data.datasets.records` defines how TFDS stores the values.

The value of a clip is None if it is unknown. In memory the values of N clips are a tree of arrays
whose leaves have one row per clip:

  class   int32 (N,), the class index; -1: unknown
  tags    float32 (N, C), 1 for each tag that the clip has; NaN: unknown
  text    {"text": str (N,), "known": bool (N,)}
  events  {"times": float32 (N, E, 2), "classes": int32 (N, E), "counts": int32 (N,)}: onset and
          offset in seconds from the beginning of the clip, padded by zeros and class -1 to the
          largest count E; a count of -1: unknown
  number  float32 (N,); NaN: unknown
"""

import dataclasses
from typing import Any

from gru_audio.data.fields.classes import (
    TOLERANCE,
    ClassesField,
    ClassField,
    Event,
    EventsField,
    TagsField,
)
from gru_audio.data.fields.field import Field, Leaf, Value, Values, clean, natural, shorten, take
from gru_audio.data.fields.plain import NumberField, TextField

__all__ = [
    "KINDS",
    "TOLERANCE",
    "ClassField",
    "ClassesField",
    "Event",
    "EventsField",
    "Field",
    "Leaf",
    "NumberField",
    "TagsField",
    "TextField",
    "Value",
    "Values",
    "classes",
    "clean",
    "describe",
    "described",
    "natural",
    "shorten",
    "take",
]

KINDS: dict[str, type[Field]] = {
    kind.kind: kind for kind in (ClassField, TagsField, TextField, EventsField, NumberField)
}


def classes(*names: str) -> dict[str, type[Field]]:
    """Returns class fields with these names."""
    return dict.fromkeys(names, ClassField)


def describe(field: Field) -> dict[str, Any]:
    """Returns the JSON description of a field."""
    return {"kind": field.kind, **dataclasses.asdict(field)}


def described(description: Any) -> Field:
    """Builds the field from the description that `describe` returned.

    Raises:
      ValueError: the description is invalid.
    """
    if not isinstance(description, dict) or str(description.get("kind")) not in KINDS:
        raise ValueError(f"the kind of a field is one of {', '.join(KINDS)}")
    kind = KINDS[description["kind"]]
    attributes = {name: value for name, value in description.items() if name != "kind"}
    known = dataclasses.fields(kind)
    required = {each.name for each in known if each.default is dataclasses.MISSING}
    if not required <= attributes.keys() <= {each.name for each in known}:
        raise ValueError(f"the description of a field of {kind.plural} has other attributes")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in attributes.items()})
