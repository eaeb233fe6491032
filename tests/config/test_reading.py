"""YAML is read as it is meant, or refused with the line: no key is replaced, no number changes its value."""

from __future__ import annotations

import pytest
import yaml

from augcond.config import load_config, parse_config
from augcond.config.reading import read_yaml
from augcond.errors import ConfigError

AS_MEANT = {
    "no: 1": {"no": 1},
    "{yes: 1, on: 2, Off: 3, null: 4, ~: 5}": {"yes": 1, "on": 2, "Off": 3, "null": 4, "~": 5},
    "{1: a, 010: b, 1:30: c, 1e3: d, 0x10: e, 1_0: f}": {
        **{"1": "a", "010": "b", "1:30": "c", "1e3": "d", "0x10": "e", "1_0": "f"}
    },
    "{2024-01-01: a, .5: b, .nan: c, true: d}": {"2024-01-01": "a", ".5": "b", ".nan": "c", "true": "d"},
    "{'1': a, \"no\": b}": {"1": "a", "no": "b"},
    "run: 2024-01-01": {"run": "2024-01-01"},
    "[2024-01-01 10:00:00, 12e3, 1e-4, 0, 00, -0, 0.10, 08, 0x1F]": [
        *("2024-01-01 10:00:00", "12e3", "1e-4", 0, 0, 0, 0.1, "08", 31)
    ],
    "[yes, off, null, 'yes', 1_000, 1.5, .inf]": [True, False, None, "yes", 1000, 1.5, float("inf")],
    "{base: &b {x: 1, y: 2}, more: {<<: *b, y: 3}}": {"base": {"x": 1, "y": 2}, "more": {"x": 1, "y": 3}},
    "run: 00:1a": {"run": "00:1a"},
    "path: C:/photos": {"path": "C:/photos"},
}

REFUSED = {
    "run: a\nrun: b": "'run' stands twice, first in line 1, column 1.*line 2",
    "a: {x: 1, y: 2, x: 3}": "'x' stands twice",
    "a:\n  x: 1\nb: 2\na:\n  x: 2": "'a' stands twice, first in line 1",
    "{1: a, '1': b}": "'1' stands twice",
    "{<<: {x: 1}, x: 2, x: 3}": "'x' stands twice",
    "- {a: 1}\n- {b: 1, b: 1}": "'b' stands twice, first in line 2",
    "n: 010": "reads 010 as 8: write 8 .* or quote it",
    "n: -017": "reads -017 as -15",
    "n: 0_7": "reads 0_7 as 7",
    "n: 1:30": "reads 1:30 as 90",
    "[1:0:0]": "reads 1:0:0 as 3600",
    "n: 1:30.5": "reads 1:30.5 as 90.5",
    "a: [": "expected",
}


@pytest.mark.parametrize("text", AS_MEANT)
def test_as_meant(text):
    assert read_yaml(text) == AS_MEANT[text]


@pytest.mark.parametrize("text", REFUSED)
def test_refused_with_the_line(text, tmp_path):
    with pytest.raises(yaml.YAMLError):
        read_yaml(text)
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"(?s)c\.yaml cannot be read as YAML: .*{REFUSED[text]}"):
        load_config(path)


CONFIG = {"data": {"path": "x"}, "run": "y"}


@pytest.mark.parametrize("value", ["010", "1:30", "{a: 1, a: 2}"])
def test_values_of_set_are_read_alike(value):
    with pytest.raises(ConfigError, match=r"--set 'plan\.per_class=.*: the value is not YAML"):
        parse_config(CONFIG, (f"plan.per_class={value}",))


@pytest.mark.parametrize(("key", "value"), [("prompt", False), ("generator.name", 7), ("data.source", True)])
def test_what_is_no_text_should_be_quoted(key, value):
    with pytest.raises(ConfigError, match=rf"(?m)^  {key}: .*if a text is meant, quote it"):
        parse_config(CONFIG, (f"{key}={value}",))


@pytest.mark.parametrize(
    "address", ["s3://bucket/run", "gs://b", "https://host/x.zip", "file:///photos", "abfs://c@a/x", "hdfs://n:80/x"]
)
@pytest.mark.parametrize("key", ["run", "data.path", "data.test", "data.class_names"])
def test_addresses_are_no_folders(key, address):
    with pytest.raises(ConfigError, match=rf"{key}: .* is an address.*mount it .* or download it first"):
        parse_config(CONFIG, (f"{key}={address}",))


def test_a_folder_may_hold_a_colon(tmp_path):
    assert parse_config(CONFIG, (f"run={tmp_path}/a:b",)).run.name == "a:b"
