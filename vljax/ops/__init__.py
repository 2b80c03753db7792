"""Pure functions on arrays: the fast core, one folder or file per kernel."""
