"""Architectures, one file each: a module, VARIANTS, build(variant, **overrides), adapt_params."""
