import json
import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinyattn import cli
from tinyattn.gallery import FAULTS, SAMPLES
from tinyattn.rules.registry import RULES

ROOT = Path(__file__).parent.parent


@pytest.fixture
def plant(monkeypatch):
    """Puts a softmax into the table whose gradient is off by a factor."""
    right = RULES["softmax"]

    def plant(factor):
        def softmax(scores, *, axis=-1):
            output, backward = right(scores, axis=axis)
            return output, lambda d_output: (backward(d_output)[0] * factor,)

        monkeypatch.setitem(RULES, "softmax", softmax)

    return plant


def rows(table):
    return {line.split()[0]: line.split()[1:] for line in table.splitlines()}


def test_every_rule_has_a_row_with_its_errors(run):
    status, out, err = run("gradcheck")
    assert (status, err) == (0, "")
    table = rows(out)
    assert set(SAMPLES) <= set(table)
    assert out.splitlines()[-1] == f"{len(SAMPLES)} rules: all gradients agree"
    samples, numeric, complex_step, tape = table["softmax"]
    assert int(samples) >= 1
    assert 0 < float(numeric) < 1e-6
    assert 0 < float(complex_step) < 1e-12
    assert 0 < float(tape) < 1e-12
    assert table["exp"][-1] == "-"  # a primitive, composed of nothing smaller


def test_columns_line_up(run):
    _, out, _ = run("gradcheck", "softmax", "attention_weights", "exp")
    assert len({len(line) for line in out.splitlines()[:-1]}) == 1


def test_chosen_rules_in_the_order_asked_for(run):
    _, out, _ = run("gradcheck", "tanh", "exp")
    assert [line.split()[0] for line in out.splitlines()] == ["rule", "tanh", "exp", "2"]
    assert run("gradcheck", "exp")[1].endswith("1 rule: all gradients agree\n")


def test_a_wrong_rule_fails_and_is_shown(run, plant):
    plant(1.001)
    status, out, err = run("gradcheck", "exp", "softmax")
    assert (status, err) == (1, "")
    _, exp, softmax = (line.split() for line in out.splitlines()[:3])
    assert softmax[-2:] == ["FAILED:", "factor"]
    assert float(softmax[2]) == pytest.approx(0.001, rel=0.1)
    assert not any("FAILED" in cell for cell in exp)
    assert "2 rules: 1 FAILED" in out
    assert "WRONG" in out  # the report, with the numbers of both sides


def test_json(run):
    status, out, _ = run("gradcheck", "softmax", "exp", "--json", "--seed", "3")
    told = json.loads(out)
    assert (status, told["seed"], told["ok"]) == (0, 3, True)
    softmax, exp = told["rules"]
    errors = ["error_numeric", "error_complex", "error_tape", "error_second"]
    assert list(softmax) == ["rule", "samples", *errors, "ok", "failed"]
    assert (softmax["error_second"], softmax["failed"]) == (None, [])
    assert (softmax["rule"], softmax["ok"]) == ("softmax", True)
    assert 0 < softmax["error_numeric"] < 1e-6
    assert exp["error_tape"] is None


def test_json_of_a_failure_is_json_too(run, plant):
    plant(np.nan)
    status, out, _ = run("gradcheck", "softmax", "--json")
    told = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (status, told["ok"], told["rules"][0]["ok"]) == (1, False, False)
    assert told["rules"][0]["error_numeric"] is None
    assert told["rules"][0]["failed"][0]["wrong"]["guess"]["kind"] == "nan"


def test_second_derivatives_have_a_column(run):
    status, out, _ = run("gradcheck", "--second-order", "tanh", "softmax")
    assert status == 0
    assert out.splitlines()[0].endswith("tape  second order")
    assert 0 < float(rows(out)["softmax"][-1]) < 1e-6
    (rule,) = json.loads(run("gradcheck", "--second-order", "tanh", "--json")[1])["rules"]
    assert 0 < rule["error_second"] < 1e-6


def test_a_sweep(run, tmp_path):
    status, out, err = run("gradcheck", "--sweep", "softmax")
    assert (status, err) == (0, "")
    assert out.startswith("softmax, last axis: relative error (down), by step (across)\n")
    assert run("gradcheck", "softmax", "--sweep", "-o", str(tmp_path / "sweep.csv")) == (0, out, "")
    assert (tmp_path / "sweep.csv").read_text().startswith("step,central differences,extrapolated,complex step\n0.5,")
    told = json.loads(run("gradcheck", "--sweep", "softmax", "--json")[1])
    assert list(told) == ["subject", "steps", "errors", "best"]


def test_faults_are_listed(run):
    status, out, err = run("faults")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == len(FAULTS)
    assert lines[0].split()[:3] == ["1", "softmax_without_row_sum", "The"]
    told = json.loads(run("faults", "--json")[1])
    assert [fault["name"] for fault in told] == list(FAULTS)
    assert told[0] == {
        "name": "softmax_without_row_sum",
        "rule": "softmax",
        "mistake": "The row sum of (softmax.3) is dropped.",
    }


def test_a_fault_is_handed_out_by_name_or_number(run):
    exercise, solution = FAULTS["softmax_without_row_sum"].exercise(), FAULTS["softmax_without_row_sum"].solution()
    for fault in ("softmax_without_row_sum", "1"):
        assert run("faults", fault) == run("faults", fault, "--exercise") == (0, exercise + "\n", "")
        assert run("faults", fault, "--solution") == (0, solution + "\n", "")
    assert json.loads(run("faults", "1", "--json")[1]) == {"rule": "softmax", "exercise": exercise}
    assert json.loads(run("faults", "1", "--json", "--solution")[1]) == {"rule": "softmax", "solution": solution}


def test_a_seed_gives_the_same_table_and_another_seed_another(run):
    first = run("gradcheck", "softmax", "--seed", "1")
    assert run("gradcheck", "softmax", "--seed", "1") == first
    assert run("gradcheck", "softmax", "--seed", "2") != first
    row = first[1].splitlines()[1].split()
    assert rows(run("gradcheck", "exp", "softmax", "--seed", "1")[1])["softmax"] == row[1:]  # whatever stands beside it


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("gradcheck", "sofmax"), "tinyattn gradcheck: there is no rule 'sofmax'; did you mean 'softmax'?\n"),
        (("gradcheck", "zzz"), "tinyattn gradcheck: there is no rule 'zzz'; `tinyattn gradcheck` lists them all\n"),
        (("gradcheck", "exp", ""), "tinyattn gradcheck: there is no rule ''; `tinyattn gradcheck` lists them all\n"),
        (("gradcheck", "--sweep"), "tinyattn gradcheck: --sweep needs one RULE; got 0\n"),
        (("gradcheck", "--sweep", "exp", "sin"), "tinyattn gradcheck: --sweep needs one RULE; got 2\n"),
        (("gradcheck", "exp", "-o", "x.png"), "tinyattn gradcheck: -o saves a sweep; add --sweep\n"),
        (
            ("gradcheck", "--sweep", "exp", "--second-order"),
            "tinyattn gradcheck: --sweep is for first derivatives; leave out --second-order\n",
        ),
        (
            ("gradcheck", "linalg.norm"),
            "tinyattn gradcheck: there is no rule 'linalg.norm'; did you mean 'norm'?\n",
        ),
        (
            ("gradcheck", "--sweep", "exp", "-o", "x.txt"),
            "tinyattn gradcheck: sweep: the file's name must end with one of .csv, .json, .png, .svg, .pdf;"
            " got 'x.txt'\n",
        ),
        (
            ("gradcheck", "--sweep", "exp", "-o", "/nowhere/x.csv"),
            "tinyattn gradcheck: can't write '/nowhere/x.csv': No such file or directory\n",
        ),
        (
            ("gradcheck", "--sweep", "sign"),
            "tinyattn gradcheck: sweep: sign, a matrix has gradient 0, or NaN, so that no relative error can be told\n",
        ),
        (
            ("faults", "softmax_zer"),
            "tinyattn faults: there is no fault 'softmax_zer'; did you mean 'softmax_zero'?\n",
        ),
        (("faults", "?"), "tinyattn faults: there is no fault '?'; `tinyattn faults` lists them all\n"),
        (("faults", "0"), f"tinyattn faults: numbers go from 1 to {len(FAULTS)}; got 0\n"),
        (
            ("faults", "--exercise"),
            "tinyattn faults: which one? Give its name or its number; `tinyattn faults` lists them\n",
        ),
    ],
)
def test_what_is_unknown_or_cannot_be_done_is_answered_with_one_line(run, arguments, told):
    assert run(*arguments) == (2, "", told)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("gradcheck", "--seed", "-1"), "a seed is a whole number, 0 or more; got '-1'"),
        (("gradcheck", "--seed", "two"), "got 'two'"),
        (("gradchek",), "invalid choice: 'gradchek'"),
        (("--nonsense",), "--nonsense"),
        (("faults", "1", "--exercise", "--solution"), "argument --solution: not allowed with argument --exercise"),
        (("gradcheck", "--seed", "9" * 5000), "a seed has 60 digits at most; got 5000 (see --help)\n"),
    ],
)
def test_other_mistakes_are_answered_with_one_line_too(run, arguments, told):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1


def test_help_names_the_commands_and_is_what_a_bare_call_prints(run):
    status, out, err = run("--help")
    assert (status, err) == (0, "")
    assert "gradcheck" in out
    assert run() == (0, out, "")
    assert "--seed" in run("gradcheck", "--help")[1]


def test_version_is_the_one_in_setup_cfg(run):
    declared = next(line for line in (ROOT / "setup.cfg").read_text().splitlines() if line.startswith("version"))
    assert run("--version") == (0, f"tinyattn {declared.split()[-1]}\n", "")


def test_a_checkout_that_is_not_installed_has_a_version_line_too(run, monkeypatch):
    from importlib import metadata

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert run("--version") == (0, "tinyattn (not installed)\n", "")


def test_python_dash_m_is_the_same_command(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tinyattn", "gradcheck", "exp"])
    with pytest.raises(SystemExit) as leaving:
        runpy.run_module("tinyattn", run_name="__main__")
    assert leaving.value.code == 0
    assert "1 rule: all gradients agree" in capsys.readouterr().out


def test_ctrl_c_ends_quietly(run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "check_rule", interrupted)
    assert run("gradcheck") == (130, "", "")


@pytest.mark.parametrize("typed", ["\x1b[31mred\x07\r\n\u202e", "\udc80", "long" * 1000, "x " * 3000])
@pytest.mark.parametrize(
    "arguments", [("gradcheck",), (), ("--",), ("gradcheck", "--seed"), ("gradcheck", "exp", "--"), ("faults",)]
)
def test_what_was_typed_does_the_terminal_no_harm(run, arguments, typed):
    for word in (typed, f"-{typed}", f"--{typed}"):
        status, out, err = run(*arguments, word)
        assert (status, out) == (2, "")
        assert err.endswith("\n")
        assert err[:-1].isprintable()
        assert len(err) < 500
        assert max(map(len, err.split())) <= 60


def command(arguments, **streams):
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    given = {"env": buffered, "stderr": subprocess.PIPE} | streams
    return subprocess.run([sys.executable, "-m", "tinyattn", *arguments], cwd=ROOT, text=True, **given)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", [["gradcheck", "exp"], ["--help"], ["--version"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_told_in_one_line(arguments, unbuffered):
    with open("/dev/full", "w") as full:
        done = command(arguments, stdout=full, env=os.environ | {"PYTHONUNBUFFERED": unbuffered})
        told = "tinyattn: can't write the output: No space left on device\n"
        assert (done.returncode, done.stderr) == (2, told)
        done = command(arguments, stdout=full, stderr=full)
        assert done.returncode == 2


@pytest.mark.skipif(os.name != "posix", reason="closes descriptors in a shell")
def test_a_closed_standard_output_is_told_in_one_line():
    call = f"{shlex.quote(sys.executable)} -m tinyattn gradcheck exp"
    done = subprocess.run(["sh", "-c", f"{call} >&-"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    told = "tinyattn: can't write the output: standard output is closed\n"
    assert (done.returncode, done.stderr) == (2, told)
    done = subprocess.run(["sh", "-c", f"{call} nonsense 2>&-"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("arguments", [["gradcheck"], ["faults"], ["gradcheck", "--sweep", "exp"], ["--help"]])
def test_a_closed_pipe_ends_quietly(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as closed:
        done = command(arguments, stdout=closed)
    assert (done.returncode, done.stderr) == (141, "")
