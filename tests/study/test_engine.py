"""A failing job is reported and stops no other; a killed worker costs a retry."""

from kleiber.study.engine import Job, run_jobs
from study import jobs


def run(*batch, workers=2):
    shares, ended = [], []
    outcomes = run_jobs(list(batch), workers, 1, shares.append, ended.append)
    assert sorted(o.name for o in ended) == sorted(o.name for o in outcomes)
    assert all(0 <= share <= 1.0001 for share in shares)
    return outcomes


def test_jobs_run_and_failures_are_told_apart(tmp_path):
    outcomes = run(
        Job("good", jobs.write, (tmp_path / "good", "done"), 1.0),
        Job("bad", jobs.fail, (), 2.0),
        Job("bug", jobs.crash, (), 3.0),
    )
    assert [o.name for o in outcomes] == ["good", "bad", "bug"]
    assert outcomes[0].error == ""
    assert outcomes[1].error == "DataError: the file is bad"
    assert "ZeroDivisionError" in outcomes[2].error
    assert "Traceback" in outcomes[2].error
    assert (tmp_path / "good").read_text() == "done"


def test_a_killed_worker_is_tried_again(tmp_path):
    outcomes = run(
        Job("unlucky", jobs.die_once, (tmp_path / "unlucky",), 2.0),
        Job("other", jobs.write, (tmp_path / "other", "done"), 1.0),
    )
    assert [o.error for o in outcomes] == ["", ""]
    assert (tmp_path / "unlucky").read_text() == "lived"


def test_a_worker_that_always_dies_is_reported():
    (outcome,) = run(Job("doomed", jobs.die, (), 1.0), workers=1)
    assert "killed 3 times" in outcome.error
