"""Pure losses: sums over examples, so that any split of a batch gives the same number."""
