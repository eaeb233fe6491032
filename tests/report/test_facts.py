import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from augcond.config import parse_config
from augcond.errors import RunError
from augcond.report.facts import disk_use, failures_by_reason, planned_by_recipe, portable_config, read_facts
from augcond.store import RunFolder
from tests.report.runs import COUNTS, INJECTED, INJECTED_FOLDER
from tests.tampering import rewrite_sources


def test_counts_per_class_add_up(facts):
    assert {entry.class_id: entry.real for entry in facts.classes} == COUNTS
    for entry in facts.classes:
        assert entry.planned == 4 * (12 - entry.real) == entry.made + entry.failed
    assert sum(entry.made for entry in facts.classes) == facts.status.ok == facts.made.sum()
    assert facts.real == sum(COUNTS.values()) == sum(group.real for group in facts.shot_groups)


def test_names_that_look_like_markup_are_kept_as_they_are(facts):
    assert [entry.class_name for entry in facts.classes if entry.class_id == INJECTED_FOLDER] == [INJECTED]


def test_failed_rows_are_listed_with_their_reason(facts):
    assert len(facts.failures) == facts.status.failed > 0
    [(reason, count, by_recipe)] = failures_by_reason(facts)
    assert reason == "made to fail" and count == facts.status.failed
    # Whether the fake generator fails depends on the seed, which all recipes of an image share.
    assert by_recipe == dict.fromkeys(facts.recipes, count // 4)


def test_bad_files_are_listed_with_their_reason(facts):
    [file] = facts.rejected
    assert file.key.endswith("broken.jpg") and file.reason


def test_every_recipe_is_planned_alike(facts):
    assert planned_by_recipe(facts) == dict.fromkeys(facts.config.conditioning.recipe, facts.status.planned // 4)


def test_sources_of_another_class_are_counted(facts, tmp_path):
    assert facts.foreign_sources == 0
    shutil.copytree(facts.folder.path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    table = pq.read_table(folder.sources_path)
    wrong = pa.array([(label + 1) % 5 for label in table["label"].to_pylist()], pa.int32())
    rewrite_sources(folder, table.set_column(table.schema.get_field_index("label"), "label", wrong))

    rows = facts.plan.plan.table["source_keys"].to_pylist()
    assert read_facts(folder).foreign_sources == sum(map(len, rows))


def test_a_shard_that_is_missing_is_left_to_do(facts, tmp_path):
    shutil.copytree(facts.folder.path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    folder.marker_path(0).unlink()
    partial = read_facts(folder)

    assert partial.status.left == partial.plan.plan.bounds()[0][1] > 0
    assert not partial.made[: partial.status.left].any()
    assert sum(entry.made for entry in partial.classes) == partial.status.ok


def test_the_config_on_the_page_names_no_home_and_still_works(facts):
    text = portable_config(facts)
    folder = facts.folder.path.resolve()

    assert str(folder.parent) not in text
    again = parse_config(yaml.safe_load(text), base=folder)
    assert again.data.path.resolve() == facts.config.data.path.resolve()
    assert again.run.resolve() == folder


def test_models_and_weights_on_the_page_name_no_home_either(facts):
    home = facts.folder.path.resolve().parent
    local = {
        "generator.model": home / "models" / "sd",
        "generator.own.adapter.model": home / "models" / "adapter",
        "training.weights": facts.folder.path.resolve() / "resnet.safetensors",
    }
    overrides = (
        "training.mode=finetune",
        "generator.name=ip-adapter",
        *(f"{key}={path}" for key, path in local.items()),
    )
    config = parse_config(facts.config.model_dump(), overrides)
    text = portable_config(replace(facts, config=config))

    assert str(home) not in text
    values = yaml.safe_load(text)
    assert values["generator"]["own"]["adapter"]["model"] == "../models/adapter"
    assert values["training"]["weights"] == "./resnet.safetensors"
    again = parse_config(values, base=facts.folder.path.resolve())
    assert (again.generator, again.training) == (config.generator, config.training)


def test_what_the_hub_has_stays_as_it_is_on_the_page(facts):
    hub = (
        *("generator.name=ip-adapter", "generator.model=a/b", "generator.own.adapter.model=c/d"),
        *("training.weights=hub", "training.mode=finetune"),
    )
    values = yaml.safe_load(portable_config(replace(facts, config=parse_config(facts.config.model_dump(), hub))))
    assert (values["generator"]["model"], values["generator"]["own"]["adapter"]["model"]) == ("a/b", "c/d")
    assert values["training"]["weights"] == "hub"


def test_versions_and_disk_are_known(facts):
    assert all(len(versions) == 1 for versions in facts.versions().values())
    assert disk_use(facts.folder.path) > facts.status.bytes


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="is no run"):
        read_facts(RunFolder(tmp_path))
