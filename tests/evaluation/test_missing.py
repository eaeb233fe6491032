"""How many images an accuracy is of, and which are missing, stands beside it."""

from augcond.evaluation.results import read_results
from augcond.evaluation.verdicts import missing_text
from augcond.pipeline import evaluate, train
from augcond.store import RunFolder
from tests.training.toys import toy_run


def test_a_test_photo_that_does_not_decode_is_named(tmp_path):
    config = toy_run(tmp_path, training={"steps": 1, "seeds": 1, "arms": [{"name": "real-only"}]})
    broken = tmp_path / "test" / "b" / "3.png"
    broken.write_bytes(broken.read_bytes()[:40])
    train(config)
    results = evaluate(config)
    assert results.test_images == 23
    assert [entry.partition(":")[0] for entry in results.missing] == ["b/3.png"]
    assert read_results(RunFolder(config.run).results_path("test")) == results
    assert missing_text(results).startswith("1 test image could not be used and counts nowhere: b/3.png: ")
