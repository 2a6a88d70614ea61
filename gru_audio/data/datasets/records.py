"""Converts between label fields and the TFDS features that store their values."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from gru_audio.data.fields import (
    ClassesField,
    ClassField,
    Event,
    EventsField,
    Field,
    NumberField,
    TagsField,
    TextField,
    Value,
)

Feature = Any  # a TFDS feature connector; its types lack the attributes used here


class Stored(NamedTuple):
    """How TFDS stores the values of a field type.

    Attributes:
      feature: makes the TFDS feature; `name_classes` later sets its class names.
      fits: returns whether a TFDS feature can be read as this field type.
      encode: converts a value to that of a record. Records store unknown texts, tags and events
        like empty ones.
      decode: converts the value that TFDS read, given its feature.
      class_label: returns the ClassLabel within the feature.
    """

    feature: Callable[[], Feature]
    fits: Callable[[Feature], bool]
    encode: Callable[[Any, Value], Any]
    decode: Callable[[Any, Feature], Value]
    class_label: Callable[[Feature], Feature] | None = None


def name_classes(feature: Feature, field: Field) -> None:
    """Sets the class names of a field in its TFDS feature."""
    label = STORED[type(field)].class_label
    if label and isinstance(field, ClassesField):
        label(feature).names = list(field.names)


def kind_of(feature: Feature) -> type[Field] | None:
    """Returns the field type for the values of a TFDS feature, if any."""
    return next((kind for kind, stored in STORED.items() if stored.fits(feature)), None)


def _is_class(feature: Feature) -> bool:
    return type(feature) is tfds.features.ClassLabel


def _is_number(feature: Feature) -> bool:
    plain = type(feature) in (tfds.features.Scalar, tfds.features.Tensor)
    return plain and feature.shape == () and np.dtype(feature.np_dtype).kind in "iuf"


def _inner(feature: Feature) -> Feature:
    """Returns the feature within a Sequence; None for other features."""
    return feature.feature if type(feature) is tfds.features.Sequence else None


def _has_events(feature: Feature) -> bool:
    inner = _inner(feature)
    return (
        isinstance(inner, tfds.features.FeaturesDict)
        and {"onset", "offset", "label"} <= set(inner)
        and _is_class(inner["label"])
        and all(_is_number(inner[time]) for time in ("onset", "offset"))
    )


def _encode_events(field: EventsField, value: tuple[Event, ...] | None) -> dict[str, list[Any]]:
    rows = [(onset, offset, field.numbers[label]) for onset, offset, label in value or ()]
    onset, offset, label = map(list, zip(*rows, strict=True)) if rows else ([], [], [])
    return {"onset": onset, "offset": offset, "label": label}


def _decode_events(stored: Any, feature: Feature) -> tuple[Event, ...]:
    names = feature.feature["label"].names
    rows = zip(stored["onset"], stored["offset"], stored["label"], strict=True)
    return tuple(Event(float(on), float(off), names[label]) for on, off, label in rows)


STORED: dict[type[Field], Stored] = {
    ClassField: Stored(
        tfds.features.ClassLabel,
        _is_class,
        lambda field, value: field.numbers.get(value, -1),
        lambda stored, feature: feature.names[stored] if stored >= 0 else None,
        lambda feature: feature,
    ),
    TagsField: Stored(
        lambda: tfds.features.Sequence(tfds.features.ClassLabel()),
        lambda feature: _is_class(_inner(feature)),
        lambda field, value: sorted(field.numbers[tag] for tag in value or ()),
        lambda stored, feature: frozenset(feature.feature.names[tag] for tag in stored),
        lambda feature: feature.feature,
    ),
    TextField: Stored(
        tfds.features.Text,
        lambda feature: type(feature) is tfds.features.Text,
        lambda field, value: value or "",
        lambda stored, feature: stored.decode("utf-8", "replace"),
    ),
    EventsField: Stored(
        lambda: tfds.features.Sequence(
            {"onset": np.float32, "offset": np.float32, "label": tfds.features.ClassLabel()}
        ),
        _has_events,
        _encode_events,
        _decode_events,
        lambda feature: feature.feature["label"],
    ),
    NumberField: Stored(
        lambda: tfds.features.Scalar(np.float32),
        _is_number,
        lambda field, value: math.nan if value is None else value,
        lambda stored, feature: float(stored),
    ),
}
