"""Datasets laid out as BIDS says: which scans there are, and where what is derived from them goes. No file is opened.

BIDS 1.10, https://bids-specification.readthedocs.io: raw data, and derivatives of imaging data.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limner import check
from limner.space import LabelTable

DESCRIPTION, IGNORE = "dataset_description.json", ".bidsignore"
VERSION = "1.10.0"
#: Anatomical images, the first that a dataset has being taken.
IMAGES = ("T1w", "UNIT1", "T2w", "FLAIR", "PDw", "T2starw", "inplaneT1", "inplaneT2")
ENDINGS = (".nii.gz", ".nii")
ENTITY = re.compile(r"[a-zA-Z]+-[a-zA-Z0-9+]+")
#: What the names of results end in, after the entities of their scan.
RESULTS = {"labels": "desc-limner_dseg", "uncertainty": "desc-limner_uncertainty", "mask": "desc-brain_mask"}
TABLE = "desc-limner_dseg.tsv"


def is_dataset(folder: Path) -> bool:
    """Tell whether a folder is the root of a dataset."""
    return (folder / DESCRIPTION).is_file()


def scans(root: Path) -> list[Path]:
    """Return the anatomical images of a dataset, all of the contrast that comes first in `IMAGES`.

    Warns about people who have none of that contrast.

    Raises:
        InputError: if the description is no JSON, or there are no such images.
    """
    _described(root)
    folders = sorted({*root.glob("sub-*/anat"), *root.glob("sub-*/ses-*/anat")})
    images = [path for folder in folders for path in sorted(folder.iterdir()) if _is_image(path)]
    by_suffix = {suffix: [path for path in images if _suffix(path) == suffix] for suffix in IMAGES}
    chosen = next((paths for paths in by_suffix.values() if paths), None)
    if chosen is None:
        raise check.no_anatomy(root, IMAGES, people=len(list(root.glob("sub-*/"))))
    without = sorted({_subject(path, root) for path in images} - {_subject(path, root) for path in chosen})
    if without:
        warnings.warn(check.without_contrast(root, _suffix(chosen[0]), people=without), stacklevel=3)
    return chosen


def _described(root: Path) -> Mapping[str, Any]:
    """Return the description of a dataset.

    Raises:
        InputError: if it is no JSON object.
    """
    path = root / DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise check.description(path, error) from error
    if not isinstance(content, dict):
        raise check.description(path, "it is no object")
    return content


def _is_image(path: Path) -> bool:
    """Tell whether a file is an image of magnitudes."""
    return path.name.endswith(ENDINGS) and path.name.startswith("sub-") and "_part-phase" not in path.name


def _suffix(path: Path) -> str:
    """Return the last part of a file's name, such as T1w."""
    return path.name.partition(".")[0].rpartition("_")[2]


def _subject(path: Path, root: Path) -> str:
    """Return whose a file is."""
    return path.relative_to(root).parts[0]


def derived(scan: Path, kind: str, *, sample: bool = False) -> Path:
    """Return where a result belongs, from the root of the derivatives: in the scan's folder, with its entities.

    Args:
        scan: in the dataset.
        kind: one of `RESULTS`, or the name of a structure, whose probability it is; of samples, a number or what is
            told of them.
        sample: whether it is of samples.

    Raises:
        InputError: if the scan's name is none that BIDS knows.
    """
    parts = scan.name.partition(".")[0].split("_")[:-1]
    if not parts or not all(ENTITY.fullmatch(part) for part in parts):
        raise check.not_bids(scan)
    named = RESULTS.get(kind) or f"label-{re.sub('[^a-zA-Z0-9]', '', kind.title())}_desc-limner_probseg"
    if sample:
        named = f"desc-limnerSample{kind.title()}_{'dseg' if kind.isdigit() else 'uncertainty'}"
    folders = [part for part in parts if part.startswith(("sub-", "ses-"))]
    entities = [part for part in parts if not part.startswith("desc-")]
    return Path(*folders, "anat", "_".join([*entities, named]) + ENDINGS[0])


def description(version: str, source: Path) -> str:
    """Return the description of derivatives, in JSON.

    Args:
        version: of limner.
        source: root of the dataset that they are derived from.

    Raises:
        InputError: if that one's description is no JSON.
    """
    name = _described(source).get("Name") or source.absolute().name
    content = {
        "Name": f"limner's segmentations of {name}",
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "limner", "Version": version}],
        "SourceDatasets": [{"URL": source.absolute().as_uri()}],
    }
    return json.dumps(content, indent=1) + "\n"


def lookup(table: LabelTable) -> str:
    """Return the names and colours of labels, as tab-separated values."""
    rows = [(label.id, label.name, "#{:02x}{:02x}{:02x}".format(*label.colour)) for label in table.labels]
    return "".join("\t".join(map(str, row)) + "\n" for row in [("index", "name", "color"), *rows])
