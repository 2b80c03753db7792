"""Linen layers that the models share."""
