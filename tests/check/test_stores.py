from __future__ import annotations

from pathlib import Path

import pytest

from check.messages import SCAN, refusal
from limner import check
from limner.check import InputError

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("address", "scheme"),
    [
        (f"s3://key:{SECRET}@bucket/volume.zarr", "s3"),
        (f"https://store.example/volume.zarr?X-Amz-Signature={SECRET}", "https"),
        (f"GS://bucket/{SECRET}", "gs"),
        (f"scans/s3:/key:{SECRET}@bucket/volume.zarr", "s3"),
        (f"data.scans=s3://key:{SECRET}@bucket", "s3"),
    ],
)
def test_of_an_address_only_its_kind_is_told(address: str, scheme: str) -> None:
    for given in (address, Path(address)):
        said = refusal(lambda given=given: check.local(given))
        assert said == (
            f"an address that begins with {scheme}:// was given; expected a path on this machine, since limner asks no "
            "store and has no credentials: copy the data here first, or mount the store as a folder"
        )
        assert SECRET not in said


@pytest.mark.parametrize("name", ["s3/bucket/volume.zarr", "tcp://127.0.0.1:8786", "class3:/x", "https", "a:b/c"])
def test_paths_and_schedulers_are_no_stores(name: str) -> None:
    check.local(name)
    check.local(Path(name))


def test_what_is_only_written() -> None:
    assert refusal(lambda: check.only_written(Path("a.webknossos"), (".nii", ".zarr"))) == (
        "'a.webknossos' is of a format that is written but not read; expected one of .nii, .zarr: give the volume that "
        "it was made from"
    )


@pytest.mark.parametrize(("names", "listed"), [([], "none"), (["a", "b"], "'a.zarr/a', 'a.zarr/b'")])
def test_one_of_several(names: list[str], listed: str) -> None:
    check.one_of(Path("a.zarr"), ["a"], what="labels")
    assert refusal(lambda: check.one_of(Path("a.zarr"), names, what="labels")) == (
        f"'a.zarr' holds {len(names)} labels; expected one: choose among {listed}"
    )


def test_places_in_one_another(tmp_path: Path) -> None:
    store = tmp_path / "cube.zarr"
    check.outside(tmp_path / "out.nii", tmp_path, store=False)
    check.outside(tmp_path / "out.zarr", store, store=True)
    for target, source in ((store / "out.zarr", store), (store, store / "labels")):
        assert refusal(lambda target=target, source=source: check.outside(target, source, store=True)) == (
            f"output '{target}' and input '{source}' lie in one another; expected another place: rename it"
        )


def test_what_is_said_without_tensorstore() -> None:
    assert refusal(lambda: check.without_tensorstore(Path("a.n5"))) == (
        "'a.n5' is read by tensorstore, which is not installed; expected it: run `pip install 'limner[n5]'`"
    )


def test_what_is_said_of_places() -> None:
    assert str(check.no_unit(Path("a.ome.zarr"))) == (
        "'a.ome.zarr' does not say in which unit its scale is; micrometres were assumed"
    )
    assert str(check.directions_lost(".precomputed")) == (
        ".precomputed keeps the voxels and their sizes, but not where they lie: axes that lead aslant have no place "
        "in it"
    )
    assert str(check.moved_to_voxels(".precomputed", 0.251)) == (
        ".precomputed counts positions in whole voxels; the volume was moved to the nearest, 0.25 of one away"
    )
    assert str(check.moved_to_zero(".webknossos", (1, 0, 20))) == (
        ".webknossos has no positions below 0; the volume was moved by [1, 0, 20] voxels along x, y, z"
    )


def test_labels_and_versions_have_their_formats() -> None:
    check.labels_beside(SCAN, fits=True, known=())
    with pytest.raises(InputError) as raised:
        check.labels_beside(Path("a.zarr"), fits=False, known=(".ome.zarr", ".webknossos"))
    assert str(raised.value) == (
        "--labels goes with an image that is written as .ome.zarr or .webknossos, but 'a.zarr' is to be made; expected "
        "one of them: convert the labels to a file of their own"
    )
    assert refusal(lambda: check.only_ome(Path("a.zarr"))) == (
        "--ome goes with .ome.zarr, but 'a.zarr' is to be made; expected that suffix: leave it out"
    )
