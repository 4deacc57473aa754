"""The helper that finds the README's blocks finds all of them, and what is to be typed."""

from __future__ import annotations

from house.readme import Block, blocks

TEXT = """# Title

```console
$ make demo
volumes in out/volumes.csv
$ limner segment scan.nii.gz \\
    -o out   # one file
```

Words with ```fences``` inside a line.

````bash
# a remark
make test
````

```python
import limner
```
"""


def test_every_block_is_found_with_its_line() -> None:
    assert [(block.language, block.line) for block in blocks(TEXT)] == [("console", 4), ("bash", 13), ("python", 18)]


def test_a_console_block_separates_commands_from_answers() -> None:
    assert blocks(TEXT)[0].commands == ["make demo", "limner segment scan.nii.gz -o out # one file"]


def test_a_shell_block_is_all_commands_but_remarks() -> None:
    assert blocks(TEXT)[1].commands == ["make test"]
    assert Block("python", "import limner\n", 1).text == "import limner\n"
