import pytest

from augcond.pipeline import evaluate, generate, train
from augcond.report import ReportSettings, write_report
from augcond.report.facts import read_facts
from augcond.store import RunFolder
from tests.report.runs import make_run
from tests.training.toys import toy_run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """One small run of four recipes, with failed rows, a broken photo and a class that is called like a script."""
    config, _ = make_run(tmp_path_factory.mktemp("report"))
    return RunFolder(config.run)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The config of a small run that was generated, trained with three seeds and evaluated."""
    arms = [{"name": "real-only"}, {"name": "text", "recipe": "text"}, {"name": "mixup", "recipe": "mixup"}]
    arms[2]["overrides"] = {"counts": "effective"}
    config = toy_run(tmp_path_factory.mktemp("trained"), training={"steps": 2, "seeds": 3, "arms": arms})
    generate(config)
    train(config)
    evaluate(config)
    return config


@pytest.fixture(scope="session")
def trained_page(trained):
    """The path of that run's page, with everything inside and beside it."""
    return write_report(RunFolder(trained.run), ReportSettings(samples=20, single=True))


@pytest.fixture(scope="session")
def facts(run_folder):
    return read_facts(run_folder)


@pytest.fixture(scope="session")
def page(run_folder):
    """The path of that run's page."""
    return write_report(run_folder, ReportSettings(samples=40))
