"""`data import`: small files as people and harnesses write them, and the table that comes out."""

import gzip
import json
import re
import shlex
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bandit_router.simulators.table import load_table
from support.cli import run


def imported(tmp_path, *arguments):
    """The table, and what was read."""
    result = run("data", "import", *arguments, "--out", tmp_path / "table", "--json")
    assert result.exit_code == 0, result.stderr
    return load_table(tmp_path / "table"), json.loads(result.stdout)


def refused(tmp_path, *arguments, code=4):
    result = run("data", "import", *arguments, "--out", tmp_path / "table")
    assert result.exit_code == code, (result.stdout, result.stderr)
    assert not (tmp_path / "table").exists()
    return result.stderr


def file(tmp_path, name, text, encoding="utf-8"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding)
    return path


LONG = "id,model,stars,time_ms,cents\n2,a,5,250,1\n10,a,4,500,2\n2,b,1,1000,3\n10,b,2,125,\n"
MAP = "query=id,arm=model,quality=(stars-1)/4,latency_s=time_ms/1000,cost_usd=cents/100"


def test_a_csv_with_other_names_and_units(tmp_path):
    table, about = imported(tmp_path, file(tmp_path, "r.csv", LONG), "--columns", MAP)
    assert (table.queries, table.arms, table.channels) == ((2, 10), ("a", "b"), ("quality", "cost_usd", "latency_s"))
    np.testing.assert_allclose(table.outcomes[:, :, 0], [[1.0, 0.0], [0.75, 0.25]])
    np.testing.assert_allclose(table.outcomes[:, :, 1], [[0.01, 0.03], [0.02, np.nan]])
    np.testing.assert_allclose(table.outcomes[:, :, 2], [[0.25, 1.0], [0.5, 0.125]])
    assert about["ranges"]["latency_s"] == [0.125, 1.0]
    assert (about["holes"], about["first_holes"]) == (0, [])
    assert json.loads((tmp_path / "table" / "about.json").read_text()) == about


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("query;arm;quality\nq1;a;0,5\nq1;b;1\n", "utf-8"),
        ("query\tarm\tquality\nq1\ta\t0.5\nq1\tb\ttrue\n", "utf-16"),
        ("\ufeffquery,arm,quality\r\nq1,a,50%\r\nq1,b,pass\r\n", "utf-8"),
        ('{"query": "q1", "arm": "a", "quality": 0.5}\n\n{"query": "q1", "arm": "b", "quality": true}\n', "utf-8"),
        ('[{"query": "q1", "arm": "a", "quality": 0.5},\n {"query": "q1", "arm": "b", "quality": "1"}]', "utf-8"),
    ],
)
def test_spreadsheets_locales_and_json_say_the_same(tmp_path, text, encoding):
    table, _ = imported(tmp_path, file(tmp_path, "r.txt", text, encoding))
    assert (table.queries, table.arms) == (("q1",), ("a", "b"))
    assert table.outcomes[0, :, 0].tolist() == [0.5, 1.0]


def test_a_compressed_file_in_a_windows_encoding_is_read(tmp_path):
    text = "query;arm;quality;task\nq1;a;0,5;Übung\n"
    (tmp_path / "r.csv.gz").write_bytes(gzip.compress(text.encode("cp1252")))
    table, _ = imported(tmp_path, tmp_path / "r.csv.gz")
    assert (table.tasks, table.outcomes.tolist()) == (("Übung",), [[[0.5]]])


def test_nested_json_has_its_inner_fields(tmp_path):
    path = file(tmp_path, "r.jsonl", '{"q": 1, "model": {"name": "a"}, "scores": {"f1": 0.25}}\n')
    table, _ = imported(tmp_path, path, "--columns", "query=q,arm=model.name,quality=scores.f1")
    assert (table.arms, table.outcomes.tolist()) == (("a",), [[[0.25]]])


def test_parquet_is_read_too(tmp_path):
    pl.DataFrame({"query": [1, 1], "arm": ["a", "b"], "quality": [0.5, 1.0]}).write_parquet(tmp_path / "r.parquet")
    assert imported(tmp_path, tmp_path / "r.parquet")[0].outcomes[0, :, 0].tolist() == [0.5, 1.0]


SHEET = {  # the smallest workbook there is
    "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Override PartName="/xl/workbook.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/></Types>',
    "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r1" Target="xl/workbook.xml" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"/></Relationships>',
    "xl/_rels/workbook.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r1" Target="worksheets/sheet1.xml" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet"/></Relationships>',
    "xl/workbook.xml": '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" '
    'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">'
    '<sheets><sheet name="s" sheetId="1" r:id="r1"/></sheets></workbook>',
}


def workbook(path, rows):
    def cell(value):
        if isinstance(value, str):
            return f'<c t="inlineStr"><is><t>{value}</t></is></c>'
        return f'<c t="b"><v>{int(value)}</v></c>' if isinstance(value, bool) else f"<c><v>{value}</v></c>"

    body = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in SHEET.items():
            archive.writestr(name, text)
        archive.writestr(
            "xl/worksheets/sheet1.xml",
            '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
            f"<sheetData>{body}</sheetData></worksheet>",
        )
    return path


def test_excel_is_read(tmp_path):
    rows = [("query", "arm", "quality"), (2, "a", 0.5), (10, "a", True), (2, "b", 1), (10, "b", 0.25)]
    table, _ = imported(tmp_path, workbook(tmp_path / "r.xlsx", rows))
    assert table.queries == (2, 10)
    assert table.outcomes[:, :, 0].tolist() == [[0.5, 1.0], [1.0, 0.25]]


def test_columns_that_nothing_reads_are_named(tmp_path):
    text = "query,arm,quality,latncy_s,small score,by\nq1,a,1,2,0,me\n"
    result = run("data", "import", file(tmp_path, "r.csv", text), "--out", tmp_path / "table")
    assert "r.csv: 3 columns not used: latncy_s (meant as latency_s?), small score, by\n" in result.stdout
    wide = ("--columns", "query=query,quality={arm} score")
    _, about = imported(tmp_path / "wide", file(tmp_path, "w.csv", text), *wide)
    assert about["files"][0]["unused"] == ["arm", "quality", "latncy_s (meant as latency_s?)", "by"]


def test_an_objects_inner_columns_are_named_and_not_the_object(tmp_path):
    record = {"query": "q", "arm": "a", "scores": {"f1": 1, "em": 0}}
    _, about = imported(tmp_path, file(tmp_path, "r.jsonl", json.dumps(record)), "--columns", "quality=scores.f1")
    assert about["files"][0]["unused"] == ["scores.em"]


def test_inspects_own_form_says_how_to_write_it_as_json(tmp_path):
    path = tmp_path / "2026_task.eval"
    path.write_bytes(b"PK\x03\x04")
    assert "inspect log convert" in refused(tmp_path, path)


def test_a_file_that_is_no_workbook_is_refused(tmp_path):
    assert "no Excel file" in refused(tmp_path, file(tmp_path, "r.xlsx", "query,arm\n"))


def test_one_column_a_model_with_costs_beside(tmp_path):  # as RouterBench has it
    text = (
        "sample_id,prompt,eval_name,gpt-4,llama,gpt-4|model_response,llama|model_response,"
        "gpt-4|total_cost,llama|total_cost,oracle_model_to_route_to\n"
        "mmlu.1,Hi,mmlu,1.0,0.25,yes,no,0.01,0.001,gpt-4\nmmlu.2,Ho,mmlu,0.0,1.0,no,yes,0.02,0.002,llama\n"
    )
    table, about = imported(tmp_path, file(tmp_path, "r.csv", text))
    assert about["files"][0]["format"] == "routerbench"
    assert (table.arms, table.tasks, table.prompts) == (("gpt-4", "llama"), ("mmlu", "mmlu"), ("Hi", "Ho"))
    assert table.outcomes.tolist() == [[[1.0, 0.01], [0.25, 0.001]], [[0.0, 0.02], [1.0, 0.002]]]


def test_prompts_beside_verdicts(tmp_path):  # as RouteLLM has it
    path = file(tmp_path, "r.csv", "prompt,gpt-4-1106,mixtral-8x7b\nHi,True,False\nHo,True,True\n")
    table, about = imported(tmp_path, path)
    assert about["files"][0]["format"] == "routellm"
    assert (table.queries, table.prompts, table.arms) == ((0, 1), ("Hi", "Ho"), ("gpt-4-1106", "mixtral-8x7b"))
    assert table.outcomes[:, :, 0].tolist() == [[1.0, 0.0], [1.0, 1.0]]


def test_a_row_a_prompt_and_model(tmp_path):  # as EmbedLLM has it
    text = (
        "prompt_id,model_id,category_id,label,model_name,prompt,category\n7,1,3,1,a/b,Hi,gsm8k\n7,2,3,0,c/d,Hi,gsm8k\n"
    )
    table, about = imported(tmp_path, file(tmp_path, "r.csv", text))
    assert (about["files"][0]["format"], table.arms, table.tasks) == ("embedllm", ("a/b", "c/d"), ("gsm8k",))


def test_a_wide_file_of_ones_own_with_chosen_models(tmp_path):
    path = file(tmp_path, "r.csv", "id,len,a score,b score,c score\n1,9,80,100,0\n2,9,60,50,0\n")
    columns = "query=id,quality={arm} score%"
    table, _ = imported(tmp_path, path, "--columns", columns, "--arms", "a,b")
    assert table.arms == ("a", "b")
    np.testing.assert_allclose(table.outcomes[:, :, 0], [[0.8, 1.0], [0.6, 0.5]])
    assert (
        "no column 'd'"
        in run("data", "import", path, "--columns", columns, "--arms", "d", "--out", tmp_path / "x").stderr
    )


def lm_eval(tmp_path, model, scores, **more):
    lines = [
        {"doc_id": i, "doc": {}, "target": "1", "arguments": {"gen_args_0": {"arg_0": f"Question {i}", "arg_1": {}}},
         "resps": [["1"]], "filtered_resps": ["1"], "filter": "none", "metrics": list(values), **values, **more}
        for i, values in enumerate(scores)
    ]  # fmt: skip
    return file(tmp_path, f"{model}/samples_arc_easy_2026-01-02T03-04-05.678.jsonl", "\n".join(map(json.dumps, lines)))


def test_samples_of_the_evaluation_harness(tmp_path):
    paths = [lm_eval(tmp_path, model, [{"acc": a}, {"acc": 0.0}]) for model, a in (("org__a", 1.0), ("org__b", 0.0))]
    table, about = imported(tmp_path, *paths)
    assert {f["format"] for f in about["files"]} == {"lm-eval"}
    assert (table.arms, table.queries) == (("org__a", "org__b"), ("arc_easy/0", "arc_easy/1"))
    assert (table.tasks, table.prompts) == (("arc_easy",) * 2, ("Question 0", "Question 1"))
    assert table.outcomes[:, :, 0].tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_of_several_scores_one_is_chosen(tmp_path):
    path = lm_eval(tmp_path, "m", [{"acc": 1.0, "acc_norm": 0.0}])
    assert "acc, acc_norm" in refused(tmp_path, path)
    assert imported(tmp_path, path, "--columns", "quality=acc_norm")[0].outcomes.tolist() == [[[0.0]]]


def test_filters_of_one_score_are_told_apart(tmp_path):
    strict = lm_eval(tmp_path, "m", [{"exact_match": 0.0}], filter="strict-match").read_text()
    path = lm_eval(tmp_path, "m", [{"exact_match": 1.0}], filter="flexible-extract")
    path.write_text(path.read_text() + "\n" + strict)
    assert "exact_match@strict-match" in refused(tmp_path, path)
    table, _ = imported(tmp_path, path, "--columns", "quality=exact_match@flexible-extract")
    assert table.outcomes.tolist() == [[[1.0]]]


def test_a_log_of_inspect(tmp_path):
    usage = {"openai/m": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 17, "input_tokens_cache_read": 2}}
    first = {"id": 1, "input": "Hi", "model_usage": usage}
    samples = [
        first | {"epoch": 1, "scores": {"match": {"value": "C"}}, "working_time": 1.0},
        first | {"epoch": 2, "scores": {"match": {"value": "I"}}, "working_time": 3.0},
        {"id": "x", "epoch": 1, "input": [{"role": "system", "content": "s"}, {"role": "user", "content": "Ho"}],
         "scores": {"match": {"value": "P"}}},
        {"id": "e", "epoch": 1, "input": "E", "scores": {"match": {"value": "C"}}, "error": {"message": "boom"}},
    ]  # fmt: skip
    log = {"version": 2, "status": "success", "eval": {"task": "arc", "model": "openai/m"}, "samples": samples}
    table, about = imported(tmp_path, file(tmp_path, "log.json", json.dumps(log)))
    assert (about["files"][0]["format"], table.arms, table.queries) == ("inspect", ("openai/m",), ("arc/1", "arc/x"))
    assert (table.channels, table.prompts) == (("quality", "latency_s", "tokens"), ("Hi", "Ho"))
    assert table.outcomes[0, 0].tolist() == [0.5, 2.0, 17.0]
    assert table.outcomes[1, 0, 0] == 0.5
    assert about["dropped_unanswered"] == 1


def promptfoo(test, provider, score, **more):
    return {
        "testIdx": test,
        "promptIdx": 0,
        "provider": {"id": provider, "label": ""},
        "prompt": {"raw": f"P{test}", "label": "p"},
        "vars": {},
        "success": score > 0.5,
        "score": score,
        "failureReason": 0 if score > 0.5 else 1,
        "latencyMs": 1500,
        "cost": 0,
        "namedScores": {"tone": 0.25},
        "response": {"tokenUsage": {"prompt": 3, "completion": 4, "total": 7}},
        **more,
    }


def test_results_of_promptfoo(tmp_path):
    results = [
        promptfoo(0, "openai:a", 1.0, response={"cost": 0.002}),
        promptfoo(1, "openai:a", 0.0, response={"cost": 0.004, "cached": True}),
        promptfoo(0, "openai:b", 0.5),
        promptfoo(1, "openai:b", 0.0, failureReason=2, error="timeout"),
    ]
    whole = file(tmp_path, "o.json", json.dumps({"evalId": "e", "results": {"version": 3, "results": results}}))
    table, about = imported(tmp_path, whole)
    assert (table.arms, table.queries, table.prompts) == (("openai:a", "openai:b"), (0, 1), ("P0", "P1"))
    assert about["first_holes"] == [{"query": 1, "arm": "openai:b"}]
    np.testing.assert_array_equal(table.outcomes[:, :, 0], [[1.0, 0.5], [0.0, np.nan]])
    np.testing.assert_array_equal(table.outcomes[:, :, 1], [[0.002, np.nan], [0.004, np.nan]])  # 0 is "no price known"
    np.testing.assert_array_equal(
        table.outcomes[:, :, 2], [[1.5, 1.5], [np.nan, np.nan]]
    )  # a cached answer has no time
    lines = file(tmp_path, "o.jsonl", "\n".join(map(json.dumps, results)))
    again = run("data", "import", lines, "--out", tmp_path / "again", "--columns", "quality=namedScores.tone")
    assert again.exit_code == 0
    assert load_table(tmp_path / "again").outcomes[0, :, 0].tolist() == [0.25, 0.25]


def test_several_prompts_of_a_provider_are_several_arms(tmp_path):
    results = [promptfoo(0, "m", 1.0), promptfoo(0, "m", 0.0, promptIdx=1, prompt={"raw": "Q", "label": "terse"})]
    table, _ = imported(tmp_path, file(tmp_path, "o.json", json.dumps({"results": {"results": results}})))
    assert table.arms == ("m / p", "m / terse")


def test_a_run_folder_of_helm(tmp_path):
    spec = {"name": "gsm:model=org_m,stop=none", "adapter_spec": {"model": "org/m"}}
    file(tmp_path, "run/run_spec.json", json.dumps(spec))
    file(tmp_path, "run/instances.json", json.dumps([{"id": "id1", "input": {"text": "Hi"}}]))

    def stat(name, mean):
        return {"name": {"name": name, "split": "test"}, "count": 1, "sum": mean, "mean": mean}

    facts = [stat("inference_runtime", 2.5), stat("num_prompt_tokens", 11), stat("num_completion_tokens", 4)]
    record = {"instance_id": "id1", "train_trial_index": 0, "stats": [stat("final_number_exact_match", 1.0), *facts]}
    noisy = record | {"perturbation": {"name": "typos"}, "stats": [stat("final_number_exact_match", 0.0)]}
    path = file(tmp_path, "run/per_instance_stats.json", json.dumps([record, noisy]))
    table, about = imported(tmp_path, path)
    assert (about["files"][0]["format"], table.arms, table.queries) == ("helm", ("org/m",), ("gsm:stop=none/id1",))
    assert (table.channels, table.outcomes.tolist()) == (("quality", "latency_s", "tokens"), [[[1.0, 2.5, 15.0]]])
    assert table.prompts == ("Hi",)
    (tmp_path / "run" / "run_spec.json").unlink()
    assert "run_spec.json" in run("data", "import", path, "--out", tmp_path / "x").stderr


HOLED = "query,arm,quality\n1,a,1\n1,b,0\n2,a,1\n3,b,\n"


def test_holes_are_named_and_used_as_they_are(tmp_path):
    path = file(tmp_path, "r.csv", HOLED)
    result = run("data", "import", path, "--out", tmp_path / "table")
    assert result.exit_code == 0
    assert "1 holes, where an arm cannot be played: query 2, arm 'b'" in result.stdout
    assert "1 queries without any quality were left out" in result.stdout
    simulated = run("simulate", "--table", tmp_path / "table", "--seeds", "1", "--jobs", "1", "--json")
    assert json.loads(simulated.stdout)["environment"]["holes"] == 1


def test_incomplete_queries_are_dropped_on_demand(tmp_path):
    table, about = imported(tmp_path, file(tmp_path, "r.csv", HOLED), "--drop-incomplete")
    assert (table.queries, table.holes, about["dropped_incomplete"]) == ((1,), 0, 1)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("query,arm,quality\n1,a,1\n1,a,0\n", (), "arm 'a' stands twice: {path}, row 2, and {path}, row 3"),
        ("query,arm,quality\n1,a,4\n", (), "row 2: quality must be in [0, 1], got 4; rescale it"),
        ("query,arm,quality,cost_usd\n1,a,1,-1\n", (), "cost_usd must be in [0, 1e+12], got -1"),
        ("query,arm,quality\n1,a,good\n", (), "row 2: quality: expected a finite number, got 'good'"),
        ("query,arm,quality\n,a,1\n", (), "row 2: no query"),
        ("query,arm,quality\n1,a,\n", (), "none of 1 rows has a quality"),
        ("query,arm,quality\n", (), "holds no row"),
        ("", (), "is empty"),
        ("query,arm,quality\n1,a\n", (), "row 2: 2 cells under 3 columns"),
        ("query,arm,arm\n1,a,1\n", (), "column 'arm' twice"),
        ("query,arm,quality,task\n1,a,1,x\n1,b,1,y\n", (), "query 1 has task 'y', and 'x' before"),
        ("query,arm,score\n1,a,1\n", (), "no column for the quality; found query, arm, score. Name them"),
        ("query,arm,score\n1,a,1\n", ("--columns", "quality=scroe"), "no column 'scroe'; did you mean 'score'?"),
        ("query,model,quality\n1,a,1\n", ("--columns", "arm=modle"), "arm: no column 'modle'; did you mean 'model'?"),
        ("query,arm,quality\n1,a,1\n", ("--format", "promptfoo"), "no file of promptfoo"),
        ("query,arm,quality\n1,a,1\n2,b,1\n", ("--drop-incomplete",), "no query has a quality of every arm"),
        ("query,arm,quality\n1,a,1\n", ("--arms", "a"), "--arms chooses among the columns of a wide file"),
        ('{"query": 1}\nnonsense\n', (), "row 2 is no JSON object"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_before_anything_is_written(tmp_path, text, options, message):
    path = file(tmp_path, "r.csv", text)
    assert message.format(path=path) in refused(tmp_path, path, *options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--columns", "arm=model,score"), "expected field=column"),
        (("--columns", "grade=model"), "a field among query, arm"),
        (("--columns", "arm=a,arm=b"), "gives arm twice"),
        (("--format", "magic"), "there are inspect, promptfoo"),
    ],
)
def test_wrong_usage_is_said(tmp_path, options, message):
    assert message in refused(tmp_path, file(tmp_path, "r.csv", LONG), *options, code=2)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    path = file(tmp_path, "r.csv", LONG)
    result = run("data", "import", path, "--columns", MAP, "--out", tmp_path)
    assert (result.exit_code, "not empty" in result.stderr) == (2, True)


def test_a_pickle_is_not_opened(tmp_path):
    assert "pickle can run code" in refused(tmp_path, file(tmp_path, "r.pkl", "x"))


def test_numbered_arms_stand_as_numbers(tmp_path):
    path = file(tmp_path, "r.csv", "query,arm,quality\n1,10,1\n1,2,0\n")
    assert imported(tmp_path, path)[0].arms == ("2", "10")


def test_prompts_are_encoded_from_the_command_line(tmp_path):
    topics = ("Sort a list of integers in Python", "Boil two eggs and some rice", "The capital of France is", "2 + 2 =")
    rows = "".join(
        f"{i},{arm},{i % 2 if arm == 'a' else 1 - i % 2},{topics[i % 4]} {i}\n" for i in range(12) for arm in "ab"
    )
    path = file(tmp_path, "r.csv", "query,arm,quality,prompt\n" + rows)
    imported(tmp_path, path)
    simulated = run(
        "simulate", "--table", tmp_path / "table", "--contexts", "task,text", "--seeds", "1", "--jobs", "1", "--json"
    )
    environment = json.loads(simulated.stdout)["environment"]
    assert environment["contexts"] == ["bias", "task", "text"]
    assert environment["text"] == {"components": 10, "fitted_on": 12}
    assert environment["dim"] == 1 + 1 + 10 + 1
    wrong = run("simulate", "--table", tmp_path / "table", "--contexts", "texts")
    assert (wrong.exit_code, "unknown part 'texts'" in wrong.stderr) == (2, True)


PAGE = Path(__file__).parents[2] / "docs" / "howto" / "import.md"


def test_the_commands_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text()
    (csv,) = re.findall(r"^```csv\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    file(tmp_path, "results.csv", csv)
    file(tmp_path, "wide.csv", "id,small score,large score,small usd,large usd\n1,80,90,0.001,0.02\n")
    commands = [shlex.split(line)[1:] for line in re.findall(r"^bandit-router (?:.*)$", text, re.MULTILINE)]
    assert len(commands) == 6
    for command in commands:
        result = run(*command, *(["--jobs", "1", "--seeds", "1"] if command[0] == "simulate" else []))
        assert result.exit_code == 0, (command, result.stderr)
    table = load_table("my-table")
    assert table.first_hole() == "my-table has 1 holes, the first at query 'q3', arm 'large'"
    assert table.outcomes[1, :, 0].tolist() == [0.5, 0.75]
