from resnet_gp.report.lab import Lab


def test_sizes():
    assert Lab().size("full", "quick") == "full"
    assert Lab(quick=True).size("full", "quick") == "quick"


def test_seeds_depend_on_the_name_and_the_seed_alone():
    state = Lab(seed=3).seed_sequence("chaos", 1).generate_state(4).tolist()
    assert Lab(seed=3, quick=True).seed_sequence("chaos", 1).generate_state(4).tolist() == state
    for other in (Lab(seed=3).seed_sequence("chaos", 2), Lab(seed=4).seed_sequence("chaos", 1)):
        assert other.generate_state(4).tolist() != state
