from kuberpa_panel.services.sequences import Run, Sequence

STEPS = ({"definition": "a"}, {"definition": "b"}, {"definition": "c"})
RUN = Run(namespace="office", name="a-1", uid="u")


def test_a_step_is_due_while_fewer_have_run_than_are_wanted() -> None:
    assert not Sequence(name="x", steps=STEPS).is_due
    assert Sequence(name="x", steps=STEPS, until=2).is_due
    assert Sequence(name="x", steps=STEPS, runs=(RUN,), until=2).is_due
    assert not Sequence(name="x", steps=STEPS, runs=(RUN, RUN), until=2).is_due


def test_no_step_is_due_beyond_the_last() -> None:
    assert not Sequence(name="x", steps=STEPS[:1], runs=(RUN,), until=9).is_due
