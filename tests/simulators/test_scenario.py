import pytest

from bandit_router.errors import InvalidInput
from bandit_router.policies import DEFAULT_POLICY, POLICIES
from bandit_router.simulators.configs import PolicyConfig
from bandit_router.simulators.scenario import DEFAULT_PRESET, load_scenario, presets, with_overrides

MINIMAL = """
name = "mine"
[environment]
kind = "table"
table = "tiny"
[[policies]]
name = "LinUCB"
"""


@pytest.fixture
def write_scenario(tmp_path):
    def write(text=MINIMAL):
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


@pytest.mark.parametrize("name", presets())
def test_every_preset_loads_and_builds(name):
    scenario, folder = load_scenario(name)
    assert scenario.name == name
    assert scenario.description
    environment = scenario.environment.build(scenario.name, folder)
    for policy in scenario.policies:
        assert policy.build(environment).n_arms == len(environment.arms)


def test_the_default_preset_is_shipped_and_compares_the_default_policy():
    scenario, _ = load_scenario(DEFAULT_PRESET)
    assert DEFAULT_POLICY in {policy.name for policy in scenario.policies}


def test_a_file_is_read_and_its_paths_start_where_it_lies(write_scenario, write_table):
    write_table()
    scenario, folder = load_scenario(write_scenario())
    environment = scenario.environment.build(scenario.name, folder)
    assert (environment.name, [arm.id for arm in environment.arms]) == ("mine", ["small", "large"])
    assert (scenario.seeds, scenario.horizon_requests, scenario.prices) == (20, None, {})


def test_a_shipped_table_is_found_by_name_from_anywhere(write_scenario):
    scenario, folder = load_scenario(write_scenario(MINIMAL.replace('"tiny"', '"models_llm"')))
    assert scenario.environment.build(scenario.name, folder).horizon == 1785


def test_settings_reach_the_policy_with_the_type_that_it_has(write_scenario, write_table):
    write_table()
    text = (
        MINIMAL
        + '[policies.settings]\nalpha = 1\n[[policies]]\nname = "Fixed"\nlabel = "large"\nsettings = { arm = 1 }\n'
    )
    scenario, folder = load_scenario(write_scenario(text))
    environment = scenario.environment.build(scenario.name, folder)
    linucb, fixed = (policy.build(environment) for policy in scenario.policies)
    assert (linucb.alpha, type(linucb.alpha), fixed.arm, type(fixed.arm)) == (1.0, float, 1, int)
    assert [policy.title for policy in scenario.policies] == ["LinUCB", "large"]


def test_reference_scales_are_the_environments_unless_given(write_scenario, write_table):
    write_table()
    scenario, folder = load_scenario(write_scenario(MINIMAL + "[prices]\ncost_usd = 0.2\n"))
    environment = scenario.environment.build(scenario.name, folder)
    assert scenario.utility(environment.scales).scales == {"cost_usd": 4.0}  # the dearest arm's mean
    scenario, _ = load_scenario(write_scenario(MINIMAL + "[scales]\ncost_usd = 8.0\n"))
    assert scenario.utility(environment.scales).scales == {"cost_usd": 8.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "mine.toml"),
        (MINIMAL.replace('kind = "table"', 'kind = "tabel"'), "tabel"),
        (MINIMAL.replace('table = "tiny"', "table = 3"), r"line 5: .*\(at environment.table\)"),
        (MINIMAL.replace('"LinUCB"', '"LinUBC"'), "unknown policy 'LinUBC'"),
        (MINIMAL + "settings = { beta = 1.0 }", "LinUCB has no setting 'beta'; it has ridge"),
        (MINIMAL + '[[policies]]\nname = "LinUCB"', "distinct labels"),
        (MINIMAL.replace('[[policies]]\nname = "LinUCB"', "") + "policies = []", "mine.toml"),
        ("seeds = 0" + MINIMAL, r"line 1: .*\(at seeds\)"),
        ("horizon_requests = 0" + MINIMAL, r"line 1: .*\(at horizon_requests\)"),
        ("sedes = 3" + MINIMAL, "sedes"),
        (MINIMAL + "[prices]\ncarbon = 1.0", "unknown channel 'carbon'"),
        (MINIMAL + "[scales]\ncost_usd = 0.0", "above 0"),
    ],
)
def test_a_broken_scenario_is_refused_and_the_field_is_named(write_scenario, text, message):
    with pytest.raises(InvalidInput, match=message):
        load_scenario(write_scenario(text))


def test_a_scenario_that_is_not_text_or_not_there_is_refused(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match=r"binary.toml"):
        load_scenario(str(tmp_path / "binary.toml"))
    for path in (tmp_path, tmp_path / "nothing.toml", tmp_path / "binary.toml" / "x"):
        with pytest.raises(InvalidInput, match=r"presets are .*models/llm"):
            load_scenario(str(path))


def test_overrides_replace_what_is_given_and_are_checked_too():
    scenario, _ = load_scenario(DEFAULT_PRESET)
    changed = with_overrides(scenario, seeds=3, horizon_requests=None, prices={"cost_usd": 0.0})
    assert (changed.seeds, changed.prices, changed.name) == (3, {"cost_usd": 0.0}, scenario.name)
    with pytest.raises(InvalidInput, match="distinct labels"):
        with_overrides(scenario, policies=(PolicyConfig(name="LinTS"),) * 2)
    with pytest.raises(InvalidInput, match="unknown channel"):
        with_overrides(scenario, prices={"carbon": 1.0})


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_can_be_put_into_a_scenario_with_its_own_defaults(name, write_table):
    from bandit_router.simulators.table import TableEnvironment, load_table

    environment = TableEnvironment(load_table(write_table()))
    plain = PolicyConfig(name=name).build(environment)
    settings = {key: getattr(plain, key) for key in type(plain).choices()}
    assert PolicyConfig(name=name, settings=settings).build(environment).state().keys() == plain.state().keys()
