"""Prepares, opens, splits, orders and loads data sets."""
