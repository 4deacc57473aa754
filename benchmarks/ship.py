"""Put a shape model into the package: its weights in 16 bits, without its prior, which ships already.

limner train recipes/anatomy.toml -o RUN --set data.maps=MAPS --set data.scans= --set stages.scans=
python benchmarks/ship.py RUN/model
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from limner.methods.storage import DESCRIPTION, SHIPPED_MODELS, load_model, save_model
from limner.priors.storage import SHIPPED, load_prior, prior_hash


def main() -> None:
    """Store the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--output", type=Path, default=SHIPPED_MODELS["anatomy"])
    arguments = parser.parse_args()
    model, shipped = load_model(arguments.model), load_prior(SHIPPED)
    if model.prior is None or not np.array_equal(model.prior.maps.weights, shipped.maps.weights):
        parser.error("its prior is not the one that ships")
    model.method.half()
    save_model(replace(model, prior=None), arguments.output)
    # Without a copy of its prior, a model goes with the one that ships, if that has this hash.
    path = arguments.output / DESCRIPTION
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prior": prior_hash(SHIPPED)}, indent=1) + "\n")
    print(f"{arguments.output}: {sum(file.stat().st_size for file in arguments.output.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
