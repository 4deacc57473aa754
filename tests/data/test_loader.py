"""Batches: pieces of scans, padded alike, with their prior and their place; and the thread that makes them ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny
from data.cohorts import aside, cohort
from limner.check import InputError
from limner.data.batch import IGNORE
from limner.data.cohort import Case
from limner.data.loader import Loaded, Loader, prefetched
from limner.data.scan import Preparation
from limner.data.store import Store
from limner.priors.averaging import build_atlas
from limner.space import Grid


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, ...]:
    return cohort(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    table = tiny.table(folder)
    atlas = build_atlas({"map": tiny.labels}, table, spacing=2, blur=1)
    return Store(folder / "cache", Preparation(), table, atlas, aside)


def tensors(loaded: Loaded) -> list[Tensor]:
    batch, prior = loaded
    return [batch.image, batch.labels, batch.present, batch.mask, batch.world, *([prior.probability] if prior else [])]


def test_whole_scans_are_padded_to_one_shape(store: Store, cases: tuple[Case, ...]) -> None:
    batch, prior = Loader(store, cases, batch=3, stride=8).batch(0)
    kept = {case.name: store.prepared(case) for case in cases}
    largest = np.max([one.shape for one in kept.values()], axis=0)
    assert len({one.shape for one in kept.values()}) == 2
    assert batch.mask.shape == (3, *(-(-largest // 8) * 8))
    assert prior is not None
    assert prior.probability.stride(1) == 1
    assert prior.probability.dtype == torch.float16
    for number, name in enumerate(batch.case):
        one = kept[name]
        inside = tuple(slice(size) for size in one.shape)
        np.testing.assert_array_equal(batch.image[number][:, *inside], one.image)
        np.testing.assert_array_equal(batch.labels[number][inside], one.labels)
        np.testing.assert_array_equal(batch.world[number], one.world)
        np.testing.assert_array_equal(prior.probability[number].movedim(0, -1)[inside], one.parts)
        outside = torch.ones(batch.mask.shape[1:], dtype=torch.bool)
        outside[inside] = False
        assert int(batch.mask[number].sum()) == one.mask.sum()
        assert (batch.labels[number][outside] == IGNORE).all()
        assert not batch.image[number][:, outside].any()
        assert not batch.mask[number][outside].any()
        assert (prior.probability[number, 0][outside] == 1).all()
        assert not prior.probability[number, 1:][:, outside].any()
    assert (batch.image.dtype, batch.labels.dtype, batch.mask.dtype) == (torch.float32, torch.int64, torch.bool)


def test_a_crop_is_a_piece_that_knows_its_place(store: Store, cases: tuple[Case, ...]) -> None:
    loader = Loader(store, cases, batch=2, crop=(8, 9, 30), stride=4, seed=3)
    for step in range(4):
        batch, prior = loader.batch(step)
        assert batch.mask.shape == (2, 8, 12, 32)
        assert prior is not None
        for number, name in enumerate(batch.case):
            one = store.prepared(next(case for case in cases if case.name == name))
            world = batch.world[number].numpy()
            start = np.rint(Grid(one.shape, one.world).indices(world[:3, 3])).astype(int)
            inside = tuple(slice(0, min(size, most)) for size, most in zip(one.shape, (8, 9, 30), strict=True))
            there = tuple(slice(at, at + part.stop) for at, part in zip(start, inside, strict=True))
            np.testing.assert_array_equal(batch.image[number][:, *inside], one.image[:, *there])
            np.testing.assert_array_equal(prior.probability[number].movedim(0, -1)[inside], one.parts[there])
            assert batch.mask[number].any()


def test_a_crop_of_other_axes_is_refused(store: Store, cases: tuple[Case, ...]) -> None:
    with pytest.raises(InputError, match=r"crop \(8, 8\) has 2 axes but 'head-\d' has 3"):
        Loader(store, cases, crop=(8, 8)).batch(0)


def test_a_step_is_the_same_whenever_it_is_asked_for(store: Store, cases: tuple[Case, ...]) -> None:
    first, second = (Loader(store, cases, batch=2, crop=(8, 8, 8), seed=1) for _ in range(2))
    steps = [5, 0, 3]
    found = {step: first.batch(step) for step in range(6)}
    for step in steps:
        for one, other in zip(tensors(second.batch(step)), tensors(found[step]), strict=True):
            assert torch.equal(one, other)
    other = Loader(store, cases, batch=2, crop=(8, 8, 8), seed=2)
    assert any(not torch.equal(other.batch(step)[0].image, found[step][0].image) for step in steps)


def test_two_processes_see_what_one_would(store: Store, cases: tuple[Case, ...]) -> None:
    settings = {"crop": (8, 8, 8), "seed": 4}
    one = Loader(store, cases, batch=4, **settings)
    shares = [Loader(store, cases, batch=2, process=(rank, 2), **settings) for rank in (0, 1)]
    for step in range(3):
        together = zip(*(tensors(share.batch(step)) for share in shares), strict=True)
        for whole, parts in zip(tensors(one.batch(step)), together, strict=True):
            assert torch.equal(whole, torch.cat(parts))


def test_without_a_prior_there_is_none(store: Store, cases: tuple[Case, ...], tmp_path: Path) -> None:
    bare = Store(tmp_path, Preparation(), store.table)
    present = [replace(case, present=(1, IGNORE)) for case in cases]
    batch, prior = Loader(bare, present).whole(present[0])
    assert prior is None
    assert batch.case == ("head-0",)
    assert batch.present.tolist() == [[1, IGNORE]]
    assert batch.present.dtype == torch.int64
    assert Loader(bare, cases).batch(0)[0].present.shape == (1, 0)


def test_steps_come_in_their_order_and_ahead(store: Store, cases: tuple[Case, ...]) -> None:
    asked: list[int] = []

    class Told(Loader):
        def batch(self, step: int) -> Loaded:
            asked.append(step)
            return super().batch(step)

    loader = Told(store, cases)
    ready = prefetched(loader, range(7, 12), depth=2)
    found = [next(ready)]
    deadline = time.monotonic() + 20
    while len(asked) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert asked == [7, 8, 9]
    found += list(ready)
    for step, loaded in zip(range(7, 12), found, strict=True):
        for one, other in zip(tensors(loaded), tensors(Loader(store, cases).batch(step)), strict=True):
            assert torch.equal(one, other)


def test_an_error_comes_when_its_turn_comes(store: Store, cases: tuple[Case, ...], tmp_path: Path) -> None:
    lost = replace(cases[0], images=(tmp_path / "lost.nii",))

    class Losing(Loader):
        def batch(self, step: int) -> Loaded:
            return self.whole(lost if step == 2 else cases[step])

    ready = prefetched(Losing(store, cases), iter(range(9)))
    assert [next(ready)[0].case[0] for _ in range(2)] == ["head-0", "head-1"]
    with pytest.raises(InputError, match=r"lost\.nii' does not exist"):
        next(ready)
    assert not workers()


def test_the_thread_ends_with_a_reader_that_leaves(store: Store, cases: tuple[Case, ...]) -> None:
    def endless() -> Iterator[int]:
        yield from range(1_000_000)

    ready = prefetched(Loader(store, cases), endless())
    next(ready)
    assert workers()
    ready.close()
    assert not workers()


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("limner-loader")]
