"""Augmentations of image batches on the device: pure, jitted, random per example."""

from vljax.ops.augment.api import OPERATIONS, build

__all__ = ["OPERATIONS", "build"]
