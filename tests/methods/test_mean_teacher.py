"""Whom a student follows, and on what; that it learns at all is tested with its rivals."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from contracts.weak import scene
from limner.data.batch import IGNORE, Batch
from limner.data.defects import Defects
from limner.data.electron import Microscopy
from limner.methods.affinity import Affinity, AffinityOptions
from limner.methods.mean_teacher import MeanTeacher, MeanTeacherOptions, confident
from limner.methods.method import Task

SHAPE = (8, 12, 12)


def unlabelled() -> Batch:
    """A piece of a volume of which nothing is known."""
    image = torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(1))
    return Batch(
        image=image,
        labels=torch.full((1, *SHAPE), IGNORE),
        present=torch.zeros(1, 0, dtype=torch.int64),
        mask=torch.ones(1, *SHAPE, dtype=torch.bool),
        world=torch.eye(4)[None],
        case=("piece",),
    )


def pair(**options: object) -> MeanTeacher:
    """A student of affinities, and a teacher that says 0.9 or 0.2 everywhere, by halves of the channels."""
    own = AffinityOptions(network={"features": [4, 6]}, offsets=((-1, 0, 0), (0, -1, 0)))  # type: ignore[arg-type]
    asked = MeanTeacherOptions.model_validate(
        {"student": "affinity", "options": own.model_dump(exclude_none=True), "consistency": 1.0, **options}
    )
    both = MeanTeacher(Task(1, 2), asked)
    for one, shares in ((both.teacher, (0.9, 0.2)), (both.student, (0.5, 0.5))):
        assert isinstance(one, Affinity)
        with torch.no_grad():
            one.network.head.weight.zero_()
            one.network.head.get_parameter("bias").copy_(torch.tensor(shares).logit())
    return both


def apart(both: MeanTeacher) -> float:
    """What student and teacher differ by, as the loss has it."""
    (_, terms), *_ = both.losses(unlabelled(), None)
    return round(terms["consistency"].item(), 4)


def test_all_that_a_teacher_says_counts_unless_it_must_be_sure() -> None:
    assert apart(pair()) == round((0.4**2 + 0.3**2) / 2, 4)
    assert apart(pair(confidence=0.7)) == 0.16
    assert apart(pair(confidence=0.9)) == 0


def test_balanced_halves_count_alike_however_large() -> None:
    both = pair(balanced=True)
    assert apart(both) == round((0.4**2 + 0.3**2) / 2, 4)
    with torch.no_grad():
        assert isinstance(both.teacher, Affinity)
        both.teacher.network.head.get_parameter("bias").fill_(2.0)  # nothing is below one half
    assert apart(both) == round((torch.tensor(2.0).sigmoid().item() - 0.5) ** 2 / 2, 4)


def test_sureness_is_the_way_from_one_half() -> None:
    assert confident(torch.tensor([0.0, 0.2, 0.5, 0.9]), 0.7).tolist() == [True, False, False, True]


def test_a_student_sees_what_was_spoiled_and_its_teacher_what_was_not() -> None:
    spoil = Microscopy(flips=True, elastic=2.0, noise=0.5, defects=Defects(missing=0.5, misaligned=1.0))
    method = Affinity(Task(1, 2), AffinityOptions(microscopy=spoil))
    image = 10 * torch.arange(8.0).reshape(1, 1, 8, 1, 1).expand(1, 1, *SHAPE)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weak, strong = method.views(image)
    assert torch.equal(weak, image)
    whole: Tensor = (strong - image).abs().amax((1, 3, 4))[0] < 4  # noise alone, and no section anywhere else
    assert whole.any()
    assert not whole.all()


def test_who_predicts_is_who_agrees() -> None:
    """Of translation the generator, and not the discriminators, whose turn is first."""
    small = {"codec": {"features": (4, 8, 16)}, "discriminators": {"features": (6, 8), "scales": 2}}
    asked = MeanTeacherOptions.model_validate({"student": "translation", "options": small})
    batch = scene()
    batch = replace(batch, labels=torch.full_like(batch.labels, IGNORE))
    turns = dict(MeanTeacher(Task(1, 2, 2), asked).losses(batch, None))
    assert [player for player, terms in turns.items() if "consistency" in terms] == ["generator"]
    assert turns["generator"]["consistency"] > 0
