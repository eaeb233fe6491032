import pytest

from augcond.report import ReportSettings, write_report
from augcond.report.facts import read_facts
from augcond.store import RunFolder
from tests.report.runs import make_run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """One small run of four recipes, with failed rows, a broken photo and a class that is called like a script."""
    config, _ = make_run(tmp_path_factory.mktemp("report"))
    return RunFolder(config.run)


@pytest.fixture(scope="session")
def facts(run_folder):
    return read_facts(run_folder)


@pytest.fixture(scope="session")
def page(run_folder):
    """The path of that run's page."""
    return write_report(run_folder, ReportSettings(samples=40))
