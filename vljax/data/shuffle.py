"""A permutation of 0 .. n-1 that needs no memory: one for each (seed, epoch), any element at any time."""

import functools
import math

MASK = 2**64 - 1
ROUNDS = 8


def permute(i: int, n: int, seed: int, epoch: int) -> int:
  """Where `i` goes in the permutation of n that belongs to (seed, epoch).

  A Feistel network over Z_a x Z_b with a * b >= n (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002):
  each round adds a hash of one half to the other; a result outside 0 .. n-1 goes through once more.
  """
  a, b = _sides(n)
  keys = _keys(seed, epoch)
  while True:
    left, right = divmod(i, b)
    for k in range(0, ROUNDS, 2):
      left = (left + mix(keys[k] + right)) % a
      right = (right + mix(keys[k + 1] + left)) % b
    i = left * b + right
    if i < n:
      return i


def mix(x: int) -> int:
  """SplitMix64's finalizer: 64 bits that look random, from an integer."""
  x = (x + 0x9E3779B97F4A7C15) & MASK
  x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
  x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
  return x ^ (x >> 31)


def hashed(*numbers: int) -> int:
  """64 bits from several integers; their order matters."""
  return functools.reduce(lambda state, number: mix(state ^ mix(number)), numbers, 0)


@functools.lru_cache(64)
def _sides(n: int) -> tuple[int, int]:
  a = math.isqrt(n - 1) + 1
  return a, -(-n // a)


@functools.lru_cache(64)
def _keys(seed: int, epoch: int) -> tuple[int, ...]:
  return tuple(hashed(seed, epoch, k) for k in range(ROUNDS))
