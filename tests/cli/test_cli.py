"""The command line as a user and as a program meet it."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import bandit_router
from bandit_router.cli import app
from bandit_router.policies import DEFAULT_POLICY, POLICIES, LinUCB
from bandit_router.records.outcomes import COSTS
from bandit_router.simulators.scenario import DEFAULT_PRESET, presets

COMMAND = [sys.executable, "-P", "-m", "bandit_router"]
RUNS = [["simulate"], ["sweep", "--price", "cost_usd=0:1:1"], ["capacity", "--slots", "1"]]
QUICK = ["--seeds", "2", "--horizon", "30", "--jobs", "1"]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def process(*arguments, **options):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, **options)


# -- the JSON that other tools rely on ---------------------------------------------------------------------------------

NUMBER, MAYBE = "number", "number or null"
INTERVAL = {"mean": NUMBER, "ci95": [NUMBER, NUMBER]}


def schema(arms):
    """The document of `simulate --json`, key by key."""
    return {
        "scenario": str,
        "environment": dict,
        "horizon": int,
        "seeds": int,
        "arms": [str] * len(arms),
        "policies": [
            {
                "policy": str,
                "default": bool,
                "utility_mean": INTERVAL,
                "regret": {"best_fixed": INTERVAL, "oracle": INTERVAL},
                "quality_mean": NUMBER,
                **{f"{channel}_mean": MAYBE for channel in COSTS},
                "arm_share": dict.fromkeys(arms, NUMBER),
                "events_per_second": NUMBER,
            }
        ],
        "references": {
            "best_fixed": {"arm": str, "utility_mean": NUMBER},
            "oracle": {"utility_mean": NUMBER},
            "random": {"utility_mean": NUMBER},
        },
    }


def check(value, expected, path="$"):
    if isinstance(expected, dict):
        assert set(value) == set(expected), path
        for key in expected:
            check(value[key], expected[key], f"{path}.{key}")
    elif isinstance(expected, list):
        assert len(value) == len(expected), path
        for i, (item, kind) in enumerate(zip(value, expected, strict=True)):
            check(item, kind, f"{path}[{i}]")
    elif expected in (NUMBER, MAYBE):
        if not (expected is MAYBE and value is None):
            assert type(value) in (int, float), path
            assert math.isfinite(value), path
    else:
        assert type(value) is expected, path


def test_simulate_json_prints_one_document_of_exactly_the_promised_shape(write_table):
    done = process("simulate", "--table", write_table(), "--policy", "LinUCB", *QUICK, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    check(document, schema(["small", "large"]))
    assert (document["scenario"], document["horizon"], document["seeds"]) == ("tiny", 30, 2)


def test_one_seed_has_null_for_its_interval(write_table):
    result = run("simulate", "--table", write_table(), "--seeds", 1, "--horizon", 3, "--jobs", 1, "--json")
    assert json.loads(result.stdout)["policies"][0]["utility_mean"]["ci95"] is None


def test_the_default_scenario_is_the_shipped_one():
    document = json.loads(run("simulate", *QUICK, "--json").stdout)
    assert document["scenario"] == DEFAULT_PRESET
    assert {row["policy"]: row["default"] for row in document["policies"]}[DEFAULT_POLICY] is True
    assert document["environment"]["prices"] == {"cost_usd": 0.2}


# -- options -----------------------------------------------------------------------------------------------------------


def test_policies_prices_seeds_and_horizon_are_overridden(write_table):
    options = ["--policy", "UCB1", "--policy", "Fixed", "--price", "cost_usd=0.4", *QUICK, "--json"]
    document = json.loads(run("simulate", "--table", write_table(), *options).stdout)
    assert [row["policy"] for row in document["policies"]] == ["UCB1", "Fixed"]
    assert document["environment"]["prices"] == {"cost_usd": 0.4}
    # dearest mean 4 dollars: 0.1 a dollar; small earns (1.25 - 0.3) / 3, large (1.75 - 1.2) / 3, over ten passes
    assert document["references"]["best_fixed"] == {"arm": "small", "utility_mean": pytest.approx(0.95 / 3)}


def test_another_table_does_not_inherit_the_prices_of_the_preset(write_table):
    document = json.loads(run("simulate", "--table", write_table(), *QUICK, "--json").stdout)
    assert document["environment"]["prices"] == {}


def test_a_scenario_file_runs(tmp_path, write_table):
    write_table()
    path = tmp_path / "s.toml"
    path.write_text('name = "s"\nenvironment = { kind = "table", table = "tiny" }\npolicies = [{ name = "UCB1" }]\n')
    assert json.loads(run("simulate", path, *QUICK, "--json").stdout)["scenario"] == "s"


def test_out_writes_the_files_and_names_them_on_stderr(tmp_path, write_table):
    out = tmp_path / "out"
    result = run("simulate", "--table", write_table(), *QUICK, "--json", "--out", out)
    names = ["curves.parquet", "regret.png", "regret.svg", "results.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert all(f"{out / name}" in result.stderr for name in names)
    assert json.loads((out / "results.json").read_text()) == json.loads(result.stdout)


@pytest.mark.parametrize("command", RUNS, ids=lambda command: command[0])
def test_an_out_folder_that_cannot_be_made_is_refused_before_the_work(command, tmp_path, monkeypatch):
    monkeypatch.setattr("bandit_router.simulators.experiment.Arena.of", None)
    (tmp_path / "file").write_text("")
    result = run(*command, *QUICK, "--out", tmp_path / "file" / "out")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"cannot write {tmp_path}/file/out: Not a directory" in result.stderr


def test_a_folder_that_cannot_be_written_is_reported_after_the_results(tmp_path, write_table):
    (tmp_path / "out" / "results.json").mkdir(parents=True)
    result = run("simulate", "--table", write_table(), *QUICK, "--json", "--out", tmp_path / "out")
    assert (result.exit_code, json.loads(result.stdout)["scenario"]) == (1, "tiny")
    assert f"cannot write {tmp_path}/out: Is a directory" in result.stderr


def test_the_table_for_people_names_policies_and_references(write_table):
    result = run("simulate", "--table", write_table(), "--policy", "RoundRobin", *QUICK)
    for text in ("RoundRobin", "best fixed arm", "oracle per request", "uniform random", "large"):
        assert text in result.stdout


# -- what there is -----------------------------------------------------------------------------------------------------


def test_policies_lists_every_policy_and_its_settings():
    rows = json.loads(run("policies", "--json").stdout)
    assert [row["policy"] for row in rows] == list(POLICIES)
    assert [row["policy"] for row in rows if row["default"]] == [DEFAULT_POLICY]
    linucb = {row["policy"]: row for row in rows}["LinUCB"]
    assert [setting["name"] for setting in linucb["settings"]] == list(LinUCB.choices())
    assert linucb["settings"][-1] == {
        "name": "floor",
        "type": "a number",
        "default": 0.01,
        "unit": "share of the traffic",
        "check": "in [0, 1]",
    }
    assert (linucb["contextual"], linucb["reads_propensity"], linucb["merges"]) == (True, False, "sums")
    text = run("policies").stdout
    assert f"{DEFAULT_POLICY} (default): " in text
    assert "    floor = 0.01 [share of the traffic]: a number, in [0, 1]\n" in text
    assert "    estimator = MTR: one of MTR, DR, IPS\n" in text


def test_presets_lists_every_preset():
    rows = json.loads(run("presets", "--json").stdout)
    assert [row["preset"] for row in rows] == list(presets())
    assert f"{DEFAULT_PRESET} (default): " in run("presets").stdout


def test_describe_prints_check_figures_for_people_and_programs(write_table):
    folder = write_table()
    figures = json.loads(run("data", "describe", folder, "--json").stdout)
    assert (figures["queries"], figures["best_single_arm"]["arm"]) == (3, "large")
    text = run("data", "describe", folder).stdout
    assert "oracle_quality_mean: 0.75" in text
    assert "arm=small  quality_mean=0.416667  cost_usd_mean=1" in text


def test_the_version_is_the_packages():
    assert run("--version").stdout.startswith(f"bandit-router {bandit_router.__version__} (kernels: ")


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "No such command"),
        (["simulate", "no/such"], "presets are "),
        (["simulate", "--policy", "LinUBC"], "unknown policy 'LinUBC'"),
        (["simulate", "--policy", "UCB1", "--policy", "UCB1"], "distinct labels"),
        (["simulate", "--seeds", "0"], "--seeds"),
        (["simulate", "--horizon", "-1"], "--horizon"),
        (["simulate", "--jobs", "0"], "--jobs"),
        (["simulate", "--price", "cost_usd"], "CHANNEL=VALUE"),
        (["simulate", "--price", "cost_usd=cheap"], "CHANNEL=VALUE"),
        (["simulate", "--price", "cost_usd=1", "--price", "cost_usd=2"], "gives cost_usd twice"),
        (["simulate", "--price", "cost_usd=nan"], "must be finite"),
        (["simulate", "--price", "carbon=1"], "unknown channel 'carbon'"),
        (["simulate", "models/llm", "--table", "x"], "not both"),
        (["simulate", "--out", __file__], "is a file"),
        (["data", "describe"], "Missing argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_exits_with_2_and_says_what_is_wrong(arguments, message):
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("command", [["simulate", "--table"], ["data", "describe"]])
def test_invalid_data_exits_with_4_and_a_message_instead_of_a_traceback(command, write_table):
    folder = write_table()
    (folder / "outcomes.parquet").write_bytes(b"")
    for path, message in ((folder, "is not an outcome table"), (folder / "x", "no outcome table in")):
        done = process(*command, path, "--json")
        assert (done.returncode, done.stdout) == (4, "")
        assert done.stderr.startswith("bandit-router: ")
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_a_price_on_what_the_table_lacks_exits_with_4(write_table):
    result = run("simulate", "--table", write_table(), "--price", "energy_j=0.1", "--json")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "energy_j is priced but not metered" in result.stderr


# -- the end of a run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [["simulate"], ["sweep", "--price", "cost_usd=0:1:1"], ["capacity", "--slots", "1"]]
)
def test_an_interrupt_exits_with_130_and_one_line(command, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("bandit_router.simulators.experiment.Arena.of", interrupt)
    result = run(*command, *QUICK)
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "bandit-router: interrupted\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", [["policies"], ["presets", "--json"], ["simulate", *QUICK, "--policy", "UCB1"]])
def test_output_that_finds_no_space_exits_with_1_and_one_line(command):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*COMMAND, *command], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "bandit-router: [Errno 28] No space left on device\n")


# -- start -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], ["simulate"], ["policies"], ["presets"], ["data"], ["data", "describe"]])
def test_help_explains_every_command(command):
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_help_from_the_shell_succeeds():
    done = process("simulate", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--table" in done.stdout


HEAVY = ("numpy", "scipy", "sqlalchemy", "polars", "msgspec", "matplotlib", "asyncio", "wordllama", "river", "torch")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from bandit_router.cli import app\n"
        "try: app(['simulate', '--help'])\n"
        "except SystemExit as leave: assert leave.code == 0\n"
        f"print('heavy:', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_importing_the_package_imports_nothing_else():
    code = "import sys, bandit_router; print([n for n in sys.modules if n.startswith(('numpy', 'bandit_router.'))])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
