"""The store of bounce jobs: what it accepts, how it is uploaded, and what lies on disk whatever happens."""

import errno
import os
import time
from dataclasses import replace

import numpy as np
import pytest
from bounce_parts import CARD, DATA, SONG, spec, stored

from pyserver.errors import DiskFull
from pyserver.separation import job_files
from pyserver.separation.errors import (
    InputEmpty,
    InputNotFinite,
    JobConflict,
    JobCorrupted,
    JobInvalid,
    JobNotFound,
    JobWrongState,
    StateInUse,
    StemUnknown,
    UploadOutOfOrder,
)
from pyserver.separation.jobs import JobState, JobStore

pytestmark = pytest.mark.timeout(120)


# What a job accepts


def test_the_same_request_is_the_same_job_also_in_another_server(tmp_path):
    store = JobStore(tmp_path)
    job = store.create("r", spec(stems=("drums", "bass")), CARD)
    assert store.create("r", spec(stems=("bass", "drums")), CARD) == job
    store.close()
    assert JobStore(tmp_path).create("r", spec(stems=("drums", "bass")), CARD) == job
    assert job.spec.stems == ("bass", "drums")


def test_a_request_id_with_other_settings_is_refused(tmp_path):
    store = JobStore(tmp_path)
    store.create("r", spec(), CARD)
    with pytest.raises(JobConflict, match='"r" belongs to a job with other settings'):
        store.create("r", spec(noise_seed=1), CARD)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"num_samples": 0}, InputEmpty, "no samples"),
        ({"channels": 0}, JobInvalid, "0 channels"),
        ({"channels": 1000}, JobInvalid, "1000 channels"),
        ({"sample_rate_hz": 0}, JobInvalid, "0 Hz"),
        ({"refiner_steps": 1}, JobInvalid, "1 refiner steps: model m can do 0 to 0"),
        ({"stems": ("vocals",)}, StemUnknown, 'no stem "vocals", only bass, drums, other'),
        ({"num_samples": 10**13}, DiskFull, "bytes in"),
    ],
)
def test_what_cannot_be_separated_is_refused_at_once(tmp_path, changes, error, message):
    store = JobStore(tmp_path)
    with pytest.raises(error, match=message):
        store.create("r", spec(**changes), CARD)
    assert store.list_jobs() == []


def test_a_stem_whose_name_is_a_path_never_becomes_a_file(tmp_path):
    with pytest.raises(JobInvalid, match="cannot be a file"):
        JobStore(tmp_path).create("r", spec(), replace(CARD, stems=("../../evil",)))


def test_space_that_other_jobs_will_need_is_not_promised_twice(tmp_path, monkeypatch):
    store = JobStore(tmp_path)
    need = 5 * len(DATA) + (1 << 20)
    monkeypatch.setattr("pyserver.separation.jobs.free_bytes", lambda _: 2 * need - 1)
    store.create("first", spec(), CARD)
    with pytest.raises(DiskFull, match="other jobs will need") as refused:
        store.create("second", spec(), CARD)
    assert int(refused.value.metadata["need_bytes"]) == 2 * need


# Upload


def test_an_upload_goes_on_where_it_stopped_also_in_another_server(tmp_path):
    store = JobStore(tmp_path)
    job = store.create("r", spec(), CARD)
    store.append_input(job.job_id, 0, DATA[:1000])
    store.close()
    store = JobStore(tmp_path)
    assert store.get(job.job_id).committed_bytes == 1000
    assert store.append_input(job.job_id, 1000, DATA[1000:]).state is JobState.QUEUED
    assert (tmp_path / job.job_id / "input.f32").read_bytes() == DATA


def test_a_chunk_at_the_wrong_place_is_told_the_right_one(tmp_path):
    store = JobStore(tmp_path)
    job = store.create("r", spec(), CARD)
    store.append_input(job.job_id, 0, DATA[:1000])
    for offset in (0, 996, 1004):
        with pytest.raises(UploadOutOfOrder) as refused:
            store.append_input(job.job_id, offset, DATA[offset : offset + 1000])
        assert refused.value.metadata["committed_bytes"] == "1000"


def test_a_write_that_was_cut_off_in_the_middle_of_a_sample_does_not_count(tmp_path):
    store = JobStore(tmp_path)
    job = store.create("r", spec(), CARD)
    (tmp_path / job.job_id / "input.f32").write_bytes(DATA[:1003])
    assert store.get(job.job_id).committed_bytes == 1000
    store.append_input(job.job_id, 1000, DATA[1000:])
    assert (tmp_path / job.job_id / "input.f32").read_bytes() == DATA


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_is_refused_with_its_place_and_nothing_of_its_chunk_is_kept(tmp_path, bad):
    store = JobStore(tmp_path)
    job = store.create("r", spec(), CARD)
    song = SONG.copy()
    song[700, 1] = bad
    store.append_input(job.job_id, 0, song.tobytes()[:4000])
    with pytest.raises(InputNotFinite) as refused:
        store.append_input(job.job_id, 4000, song.tobytes()[4000:])
    assert refused.value.metadata == {"frame": "700", "channel": "1"}
    assert store.get(job.job_id).committed_bytes == 4000


def test_more_input_than_announced_or_half_a_sample_is_refused(tmp_path):
    store = JobStore(tmp_path)
    job = store.create("r", spec(), CARD)
    for data in (DATA + b"\0\0\0\0", DATA[:1002]):
        with pytest.raises(JobInvalid, match="not whole samples of an input"):
            store.append_input(job.job_id, 0, data)
    store.append_input(job.job_id, 0, DATA)
    with pytest.raises(JobWrongState, match="takes no input: it is QUEUED"):
        store.append_input(job.job_id, len(DATA), b"")


def test_an_upload_onto_a_full_disk_keeps_what_was_whole(tmp_path, monkeypatch):
    store = JobStore(tmp_path)
    job = store.create("r", spec(), CARD)
    store.append_input(job.job_id, 0, DATA[:1000])
    write = os.write

    def half(descriptor, data):
        if len(data) < 3000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(job_files.os, "write", half)
    with pytest.raises(DiskFull) as full:
        store.append_input(job.job_id, 1000, DATA[1000:11000])
    assert full.value.metadata["path"].endswith("input.f32")
    assert (tmp_path / job.job_id / "input.f32").stat().st_size == 1000
    monkeypatch.undo()
    assert store.append_input(job.job_id, 1000, DATA[1000:]).state is JobState.QUEUED


# On disk


def test_two_servers_cannot_have_the_same_store(tmp_path):
    first = JobStore(tmp_path)
    with pytest.raises(StateInUse, match="another server"):
        JobStore(tmp_path)
    first.close()
    JobStore(tmp_path).close()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": "NONSENSE"}', "\x00" * 100])
def test_a_corrupted_job_is_reported_and_replaced_when_it_is_asked_for_again(tmp_path, content):
    store, job = stored(tmp_path)
    store.close()
    (tmp_path / job.job_id / "job.json").write_text(content)
    store = JobStore(tmp_path)
    with pytest.raises(JobCorrupted, match="delete the job"):
        store.get(job.job_id)
    (listed,) = store.list_jobs()
    assert (listed.state, listed.problem.reason) == (JobState.FAILED, "JOB_CORRUPTED")
    assert store.create("r", spec(), CARD).committed_bytes == 0


def test_jobs_are_listed_in_pages(tmp_path):
    store = JobStore(tmp_path)
    ids = sorted(store.create(f"r{n}", spec(), CARD).job_id for n in range(7))
    first = store.list_jobs(limit=3)
    rest = store.list_jobs(after=first[-1].job_id, limit=100)
    assert [job.job_id for job in (*first, *rest)] == ids


@pytest.mark.parametrize("job_id", ["", "..", "../x", "0" * 31, "0" * 32])
def test_an_id_that_is_none_finds_nothing(tmp_path, job_id):
    store = JobStore(tmp_path / "store")
    for call in (store.get, store.delete):
        with pytest.raises(JobNotFound):
            call(job_id)


def test_idle_jobs_expire_and_unfinished_ones_do_not(tmp_path):
    store = JobStore(tmp_path, retention_s=100)
    waiting = store.create("waiting", spec(), CARD)
    _, running = store, store.create("running", spec(), CARD)
    store.append_input(running.job_id, 0, DATA)
    assert store.expire(time.time()) == []
    assert store.expire(time.time() + 101) == [waiting.job_id]
    assert [job.job_id for job in store.list_jobs()] == [running.job_id]
