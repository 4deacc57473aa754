"""Digits among clutter: images with a digit and images without, made of a collection of handwritten digits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from limner.space import Array

#: Edge of a piece of clutter, pixels; sd of the background; brightness above which a pixel belongs to a digit.
PIECE, NOISE, INK = 10, 0.01, 0.5
#: The digit whose labels are used first: a share of a hundredth has no other.
FIRST = 9


@dataclass(frozen=True)
class Scenery:
    """How images are made.

    Args:
        size: edge of an image, pixels.
        pieces: of clutter in each.
        kinds: digits of each target; an image shows one digit, or with several targets one of each that is present.
    """

    size: int = 48
    pieces: int = 8
    kinds: tuple[tuple[int, ...], ...] = (tuple(range(10)),)


@dataclass(frozen=True, eq=False)
class Digits:
    """Handwritten digits of one fold.

    Args:
        images: (N, 28, 28) float32, 0 to 1.
        values: (N,) 0 to 9.
        numbers: (N,) their places in the collection.
    """

    images: Array
    values: Array
    numbers: Array

    def of(self, kind: Sequence[int]) -> Array:
        """Return the indices of the digits of a kind."""
        return np.flatnonzero(np.isin(self.values, kind))


@dataclass(frozen=True, eq=False)
class Picture:
    """One image.

    Args:
        image: (size, size) float32, about 0 to 1.
        labels: (size, size) uint8, the target of each pixel, from 1 on.
        present: for each target, whether it is there.
        digits: places in the collection of the digits that it shows.
        values: of these digits.
    """

    image: Array
    labels: Array
    present: tuple[int, ...]
    digits: tuple[int, ...] = ()
    values: tuple[int, ...] = ()


def folds(images: Array, values: Array, *, validation: int, test: int, seed: int = 0) -> tuple[Digits, Digits, Digits]:
    """Return the digits to train, validate and test with, in an order drawn by a seed.

    Args:
        images: (N, 28, 28) uint8.
        values: (N,).
        validation: digits in that fold.
        test: digits in that fold.
        seed: of the order.
    """
    order = np.random.default_rng(seed).permutation(len(images))
    bounds = [len(images) - test - validation, len(images) - test]
    train, valid, tested = (
        Digits(images[part].astype(np.float32) / 255, values[part], part) for part in np.split(order, bounds)
    )
    return train, valid, tested


def pictures(digits: Digits, scenery: Scenery, *, count: int, rng: np.random.Generator) -> Iterator[Picture]:
    """Yield pairs: an image with, then one without any target, clutter of the same fold in both.

    Args:
        digits: of which each is shown once, as long as there are others.
        scenery: how images are made.
        count: of pairs.
        rng: draws.

    Source: cluttered MNIST as in the public code of Vorontsov et al. 2022: clutter lies over the digit and may darken
    it; the mask is all of the digit; the digits of an image are drawn without replacement, as the paper says.
    """
    orders = [rng.permutation(digits.of(kind)) for kind in scenery.kinds]
    taken = [0] * len(orders)
    for _ in range(count):
        present = _drawn_targets(len(orders), rng=rng)
        chosen = []
        for target, there in enumerate(present):
            if there:
                chosen.append((target, int(orders[target][taken[target] % len(orders[target])])))
                taken[target] += 1
        yield _picture(digits, scenery, chosen=chosen, rng=rng)
        yield _picture(digits, scenery, chosen=[], rng=rng)


def _drawn_targets(targets: int, *, rng: np.random.Generator) -> tuple[int, ...]:
    """Return which targets an image shows: at least one of them."""
    while targets > 1:
        drawn = tuple(rng.integers(0, 2, targets).tolist())
        if any(drawn):
            return drawn
    return (1,)


def _picture(
    digits: Digits, scenery: Scenery, *, chosen: Sequence[tuple[int, int]], rng: np.random.Generator
) -> Picture:
    """Return an image with the digits (target, index) that were chosen."""
    image = rng.normal(0, NOISE, (scenery.size, scenery.size)).astype(np.float32)
    labels = np.zeros(image.shape, np.uint8)
    for target, index in chosen:
        digit = digits.images[index]
        place = _place(scenery.size, digit.shape[0], rng=rng)
        image[place][digit > 0] = digit[digit > 0]
        labels[place][digit > INK] = target + 1
    for _ in range(scenery.pieces):
        _clutter(image, digits.images[rng.integers(len(digits.images))], rng=rng)
    there = {target for target, _ in chosen}
    return Picture(
        image,
        labels,
        present=tuple(int(target in there) for target in range(len(scenery.kinds))),
        digits=tuple(int(digits.numbers[index]) for _, index in chosen),
        values=tuple(int(digits.values[index]) for _, index in chosen),
    )


def _clutter(image: Array, digit: Array, *, rng: np.random.Generator) -> None:
    """Put a piece of a digit into an image: over what is there, or with it where both together would be too bright."""
    row, column = rng.integers(0, digit.shape[0] - PIECE, 2)
    piece = digit[row : row + PIECE, column : column + PIECE]
    under = image[_place(image.shape[0], PIECE, rng=rng)]
    bright = piece + under > 1
    under[...] = np.where(bright, np.maximum(piece, under), np.where(piece > 0, piece, under))


def _place(size: int, edge: int, *, rng: np.random.Generator) -> tuple[slice, slice]:
    """Return where in an image of a size a square is put."""
    first, second = rng.integers(0, size - edge, 2)
    return slice(first, first + edge), slice(second, second + edge)
