from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from limner.check import InputError
from limner.networks.rows import spread
from limner.priors.neighbours import (
    NeighbourTable,
    _neighbour_sums,
    neighbour_counts,
    neighbour_energy,
    neighbour_energy_within,
    neighbour_messages,
)

CLASSES = 4
SHAPES = st.lists(st.integers(1, 6), min_size=2, max_size=3).map(tuple)
SIZES = st.sampled_from([3, 5, 7])
SEEDS = st.integers(0, 2**32 - 1)


def adjacency(shape: tuple[int, ...], size: int) -> NDArray[np.float64]:
    """The slow twin's neighbourhood: 1 where two different voxels, of all pairs, lie in one another's window."""
    voxels = np.array(list(np.ndindex(shape)))
    distance = abs(voxels[:, None] - voxels[None]).max(axis=-1)
    return ((distance > 0) & (distance <= size // 2)).astype(np.float64)


def slow_counts(labels: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    one_hot = np.eye(CLASSES)[labels.ravel()]
    return np.asarray(one_hot.T @ adjacency(labels.shape, size) @ one_hot)


def slow_messages(q: Tensor, table: NeighbourTable) -> NDArray[np.float64]:
    """The derivative of the published loss, from a table that is not symmetric."""
    neighbours = np.einsum("bkj,ji->bki", q.double().flatten(2).numpy(), adjacency(tuple(q.shape[2:]), table.size))
    given_centre = table.log_probabilities
    return -np.einsum("ab,nbj->naj", given_centre + given_centre.T, neighbours).reshape(q.shape)


def slow_energy(q: Tensor, table: NeighbourTable) -> NDArray[np.float64]:
    """The published loss, from a table that is not symmetric."""
    flat = q.double().flatten(2).numpy()
    pairs = np.einsum("naj,ji,nbi->nab", flat, adjacency(tuple(q.shape[2:]), table.size), flat)
    return -np.einsum("nab,ab->n", pairs, table.log_probabilities)


def drawn_labels(seed: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(CLASSES, size=shape)


def drawn_table(seed: int, size: int) -> NeighbourTable:
    return NeighbourTable(np.random.default_rng(seed).integers(1000, size=(CLASSES, CLASSES)), size)


def drawn_q(seed: int, shape: tuple[int, ...], *, batch: int = 2) -> Tensor:
    """Probabilities in float64, some of them as good as certain."""
    logits = np.random.default_rng(seed).normal(scale=4, size=(batch, CLASSES, *shape))
    return torch.softmax(torch.from_numpy(logits), dim=1)


@given(SEEDS, SHAPES, SIZES)
def test_counts_are_those_of_all_pairs_of_voxels(seed: int, shape: tuple[int, ...], size: int) -> None:
    labels = drawn_labels(seed, shape)
    counts = neighbour_counts(labels, CLASSES, size=size)
    assert np.issubdtype(counts.dtype, np.integer)
    np.testing.assert_array_equal(counts, slow_counts(labels, size))
    np.testing.assert_array_equal(counts, counts.T)


def test_counts_of_the_largest_window() -> None:
    for shape in ((12, 25, 7), (40, 30), (1, 1, 1)):
        labels = drawn_labels(0, shape)
        np.testing.assert_array_equal(neighbour_counts(labels, CLASSES, size=21), slow_counts(labels, 21))


def test_counts_of_a_slice_are_those_of_a_volume_of_one() -> None:
    labels = drawn_labels(1, (6, 5))
    np.testing.assert_array_equal(neighbour_counts(labels, CLASSES), neighbour_counts(labels[None], CLASSES))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("classes", [CLASSES, 255, 256, 300])
def test_counts_do_not_depend_on_how_labels_are_stored(dtype: type[np.integer], classes: int) -> None:
    labels = drawn_labels(2, (3, 4, 5)).astype(dtype)
    counts = neighbour_counts(np.asfortranarray(labels)[:, ::-1], classes)
    assert counts.shape == (classes, classes)
    np.testing.assert_array_equal(counts[:CLASSES, :CLASSES], slow_counts(labels, 3))
    assert counts.sum() == counts[:CLASSES, :CLASSES].sum()


def test_rows_of_the_table_are_log_probabilities() -> None:
    labels = drawn_labels(3, (6, 6, 6))
    table = NeighbourTable(neighbour_counts(labels, CLASSES, size=5), 5)
    np.testing.assert_allclose(np.exp(table.log_probabilities).sum(axis=1), 1)
    np.testing.assert_array_equal(table.potential, table.potential.T)
    assert table.classes == CLASSES


def test_the_pseudo_count_is_whole_windows() -> None:
    counts = np.array([[10.0, 0.0], [0.0, 0.0]])
    rows = np.exp(NeighbourTable(counts, 3, pseudo_windows=2).log_probabilities)
    np.testing.assert_allclose(rows, [[62 / 114, 52 / 114], [0.5, 0.5]])


def test_absent_classes_and_unseen_pairs_stay_finite() -> None:
    table = NeighbourTable(neighbour_counts(np.zeros((5, 5, 5), int), CLASSES), 3)
    assert np.isfinite(table.potential).all()
    assert torch.isfinite(neighbour_energy(drawn_q(0, (3, 3, 3)), table)).all()


def test_the_table_keeps_its_own_counts() -> None:
    counts = np.ones((2, 2))
    table = NeighbourTable(counts, 3)
    counts[0, 0] = 7
    assert table.counts[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        table.counts[0, 0] = 7


@given(SEEDS, SHAPES, SIZES)
def test_energy_and_messages_are_those_of_all_pairs_of_voxels(seed: int, shape: tuple[int, ...], size: int) -> None:
    q, table = drawn_q(seed, shape), drawn_table(seed, size)
    np.testing.assert_allclose(neighbour_energy(q, table), slow_energy(q, table), rtol=1e-12)
    np.testing.assert_allclose(neighbour_messages(q, table), slow_messages(q, table), rtol=1e-12)


@pytest.mark.parametrize("size", range(3, 22, 2))
@pytest.mark.parametrize("shape", [(9, 13, 11), (24, 23)])
def test_every_window_is_exact_in_single_precision(shape: tuple[int, ...], size: int) -> None:
    q, table = drawn_q(size, shape).float(), drawn_table(size, size)
    messages = neighbour_messages(q, table)
    assert messages.dtype == torch.float32
    np.testing.assert_allclose(messages, slow_messages(q, table), rtol=2e-6)
    np.testing.assert_allclose(neighbour_energy(q, table), slow_energy(q, table), rtol=2e-6)


def test_energy_of_many_equal_voxels_keeps_its_digits() -> None:
    q, table = torch.full((1, CLASSES, 60, 64, 68), 1 / CLASSES), drawn_table(14, 3)
    torch.testing.assert_close(
        neighbour_energy(q, table).double(), neighbour_energy(q.double(), table), rtol=1e-6, atol=0
    )


def test_small_probabilities_beside_large_ones_keep_their_digits() -> None:
    q = torch.ones(1, 1, 60, 3, 2)
    q[:, :, 30:] = 1e-6
    expected = adjacency((60, 3, 2), 21) @ q.double().flatten().numpy()
    np.testing.assert_allclose(_neighbour_sums(q, 21).flatten(), expected, rtol=2e-6)


@given(SEEDS, SHAPES, SIZES)
def test_messages_are_self_adjoint_and_half_their_product_is_the_energy(
    seed: int, shape: tuple[int, ...], size: int
) -> None:
    first, second, table = drawn_q(seed, shape), drawn_q(seed + 1, shape), drawn_table(seed, size)
    one_way = (first * neighbour_messages(second, table)).sum()
    other_way = (second * neighbour_messages(first, table)).sum()
    torch.testing.assert_close(one_way, other_way)
    halves = (first * neighbour_messages(first, table)).flatten(1).sum(dim=1) / 2
    torch.testing.assert_close(halves, neighbour_energy(first, table))


@pytest.mark.parametrize("shape", [(4, 3, 5), (5, 4), (1, 3, 2)])
@pytest.mark.parametrize("size", [3, 5])
def test_gradient_agrees_with_finite_differences(shape: tuple[int, ...], size: int) -> None:
    q, table = drawn_q(5, shape).requires_grad_(), drawn_table(5, size)
    assert torch.autograd.gradcheck(lambda q: neighbour_energy(q, table), q)


def test_gradient_is_the_messages_times_what_comes_from_above() -> None:
    q, table = drawn_q(6, (3, 4, 5)).requires_grad_(), drawn_table(6, 3)
    weights = torch.tensor([0.1, 3.0], dtype=torch.float64)
    (neighbour_energy(q, table) * weights).sum().backward()
    torch.testing.assert_close(q.grad, neighbour_messages(q, table) * weights.view(2, 1, 1, 1, 1))


def test_a_second_backward_gives_the_same_gradient() -> None:
    q, table = drawn_q(13, (3, 4, 5)).requires_grad_(), drawn_table(13, 3)
    energy = neighbour_energy(q, table).sum() * 0.3
    (first,) = torch.autograd.grad(energy, q, retain_graph=True)
    (second,) = torch.autograd.grad(energy, q)
    torch.testing.assert_close(second, first)
    torch.testing.assert_close(first, neighbour_messages(q, table) * 0.3)


def test_second_derivatives_and_those_of_messages_agree_with_finite_differences() -> None:
    q, table = drawn_q(7, (3, 4)).requires_grad_(), drawn_table(7, 3)
    assert torch.autograd.gradgradcheck(lambda q: neighbour_energy(q, table), q)
    assert torch.autograd.gradcheck(lambda q: neighbour_messages(q, table), q)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    table = drawn_table(8, 5)
    half = drawn_q(8, (4, 5, 6)).to(dtype).requires_grad_()
    single = half.detach().float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        energy = neighbour_energy(half, table)
        messages = neighbour_messages(half, table)
    torch.testing.assert_close(energy, neighbour_energy(single, table))
    torch.testing.assert_close(messages, neighbour_messages(single, table))
    energy.sum().backward()
    assert half.grad is not None
    torch.testing.assert_close(half.grad, messages.to(dtype))


def test_any_memory_layout_gives_the_same() -> None:
    q, table = drawn_q(9, (4, 5, 6)), drawn_table(9, 3)
    last = q.to(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(neighbour_energy(last, table), neighbour_energy(q, table))
    torch.testing.assert_close(neighbour_messages(last, table), neighbour_messages(q, table))


def test_a_volume_of_one_slice_is_the_slice() -> None:
    q, table = drawn_q(10, (6, 5)), drawn_table(10, 5)
    torch.testing.assert_close(neighbour_energy(q.unsqueeze(2), table), neighbour_energy(q, table))
    torch.testing.assert_close(neighbour_messages(q.unsqueeze(2), table), neighbour_messages(q, table).unsqueeze(2))


def test_chunks_of_voxels_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    q, table = drawn_q(11, (4, 5, 6)), drawn_table(11, 3)
    whole = neighbour_messages(q, table)
    monkeypatch.setattr("limner.priors.neighbours._CHUNK", 7)
    torch.testing.assert_close(neighbour_messages(q, table), whole)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees_with_cpu() -> None:
    q, table = drawn_q(12, (24, 23, 22)).float(), drawn_table(12, 21)
    on_gpu = q.cuda().requires_grad_()
    energy = neighbour_energy(on_gpu, table)
    energy.sum().backward()
    torch.testing.assert_close(energy.cpu(), neighbour_energy(q, table), rtol=1e-5, atol=0)
    torch.testing.assert_close(on_gpu.grad.cpu(), neighbour_messages(q, table), rtol=1e-5, atol=0)


@pytest.mark.parametrize("size", [1, 2, 4, 23])
def test_windows_are_odd_and_bounded(size: int) -> None:
    message = rf"neighbour window has size {size}; expected an odd number of voxels from 3 to 21"
    with pytest.raises(InputError, match=message):
        NeighbourTable(np.ones((2, 2)), size)
    with pytest.raises(InputError, match=message):
        neighbour_counts(np.zeros((2, 2), int), 1, size=size)


def test_labels_are_class_indices() -> None:
    with pytest.raises(InputError, match=r"labels range from 0 to 4; expected class indices from 0 to 3.*label table"):
        neighbour_counts(np.array([[0, 4]]), 4)
    with pytest.raises(InputError, match=r"labels range from -1 to 2; expected class indices from 0 to 3"):
        neighbour_counts(np.array([[-1, 2]]), 4)
    with pytest.raises(InputError, match=r"labels have type float64; expected integers, the indices of 4 classes"):
        neighbour_counts(np.array([[0.0, 2.0]]), 4)
    with pytest.raises(InputError, match=r"'labels' has 1 dimensions, shape \(3,\)"):
        neighbour_counts(np.array([0, 1, 2]), 4)


def test_counts_are_a_square_table_of_numbers_from_zero() -> None:
    with pytest.raises(InputError, match=r"neighbour counts have shape \(2, 3\); expected one row and one column per"):
        NeighbourTable(np.ones((2, 3)), 3)
    with pytest.raises(InputError, match=r"neighbour counts range from -1 to 1; expected finite ones from 0"):
        NeighbourTable(np.array([[1, -1], [0, 1]]), 3)
    with pytest.raises(InputError, match=r"neighbour counts range from nan to nan"):
        NeighbourTable(np.full((2, 2), np.nan), 3)
    with pytest.raises(InputError, match=r"pseudo_windows is 0; expected a finite number above 0"):
        NeighbourTable(np.ones((2, 2)), 3, pseudo_windows=0)


@pytest.mark.parametrize("function", [neighbour_energy, neighbour_messages])
def test_q_and_table_have_the_same_classes(function: Callable[[Tensor, NeighbourTable], Tensor]) -> None:
    message = r"'q' has 4 classes on its second axis but the neighbour table has 2; use the prior's own classes"
    with pytest.raises(InputError, match=message):
        function(drawn_q(0, (3, 3)), NeighbourTable(np.ones((2, 2)), 3))


@pytest.mark.parametrize("shape", [(37, 6, 5), (40, 7)])
def test_rows_of_a_mask_have_the_energy_of_the_maps_they_make(shape: tuple[int, ...]) -> None:
    """More planes than are worked on at a time, and a mask that leaves some of them empty."""
    drawn = torch.Generator().manual_seed(0)
    mask = torch.rand(2, *shape, generator=drawn) > 0.4
    mask[0, :20] = False
    table = NeighbourTable(np.random.default_rng(0).random((4, 4)) * 100, 3)
    rows = torch.rand(int(mask.sum()), 4, generator=drawn).softmax(1).requires_grad_()
    weights = torch.tensor([1.0, -2.0])
    within = neighbour_energy_within(rows, mask, table=table)
    whole = neighbour_energy(spread(rows, mask), table)
    torch.testing.assert_close(within, whole)
    gradients = [torch.autograd.grad(weights @ energy, rows)[0] for energy in (within, whole)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-3)
