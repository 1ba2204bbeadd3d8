"""`models` and `doctor` on the command line: what they say, and with which exit code."""

import json
import os
import shutil
from pathlib import Path

import pytest
from checkpoint_parts import BS_ROFORMER, UNET, lightning_state, save
from cli_tools import Home, copy_models
from hub_server import COMMIT, serving

from pyserver.cli.exits import Exit


@pytest.fixture
def home(tiny_model_dir: Path, tmp_path: Path) -> Home:
    return Home(tmp_path / "home", copy_models(tiny_model_dir, tmp_path / "models"))


def test_list_shows_what_is_there_and_what_could_be(home: Home) -> None:
    result = home.run("models", "list")
    assert result.returncode == Exit.OK
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert "(default)" in lines["stemline-small"]
    assert "installed" in lines["tiny-two"]
    assert "not downloaded" in lines["dicose-unet"]


def test_info_describes_and_verifies(home: Home) -> None:
    result = home.run("models", "info", "tiny-two")
    assert result.returncode == Exit.OK
    assert "44100 Hz, 2 channels" in result.stdout
    assert json.loads(home.run("models", "info", "tiny-two", "--json").stdout)["name"] == "tiny-two"
    weights = home.models / "tiny-two" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    result = home.run("models", "info", "tiny-two")
    assert result.returncode == Exit.WRONG_CHECKSUM
    assert str(weights) in result.stderr


def test_unknown_name_suggests_the_nearest(home: Home) -> None:
    result = home.run("models", "info", "tinytwo")
    assert result.returncode == Exit.UNKNOWN_MODEL
    assert 'did you mean "tiny-two"?' in result.stderr
    result = home.run("models", "pull", "dicose-unit")
    assert result.returncode == Exit.UNKNOWN_MODEL
    assert 'did you mean "dicose-unet"?' in result.stderr


def test_import_installs_a_model_that_separates(home: Home, tmp_path: Path) -> None:
    path = save(tmp_path / "model.ckpt", lightning_state("dicose_bs_roformer", "cd")[0])
    result = home.run("models", "import", path, "--name", "mine")
    assert result.returncode == Exit.CONFIGURATION_NEEDED
    assert "--config" in result.stderr
    (tmp_path / "config.json").write_text(json.dumps(BS_ROFORMER))
    result = home.run("models", "import", path, "--name", "mine", "--config", tmp_path / "config.json")
    assert result.returncode == Exit.OK, result.stderr
    assert result.stdout.strip() == str(home.path / "models" / "mine")
    assert home.run("models", "info", "mine").returncode == Exit.OK
    assert home.run("models", "import", path, "--name", "mine").returncode == Exit.CONFIGURATION_NEEDED


def test_import_says_what_a_file_is_not(home: Home, tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_text("hello")
    result = home.run("models", "import", tmp_path / "a.ckpt")
    assert result.returncode == Exit.BAD_CHECKPOINT
    assert "is not a checkpoint" in result.stderr
    result = home.run("models", "import", tmp_path / "a.ckpt", "--config", tmp_path / "no.json")
    assert "no.json cannot be read" in result.stderr


def test_pull_resumes_verifies_and_imports(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "model.ckpt", lightning_state("dicose_unet", "cd")[0], {"model": UNET})
    with serving(path.read_bytes()) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.break_after = [100_000, 100_000]
        result = home.run("models", "pull", "dicose-unet")
        assert result.returncode == Exit.OK, result.stderr
        asked = [part for _, where, part in hub.requests if where.startswith("/content/")]
        assert asked == [None, "bytes=100000-", "bytes=200000-"]
        card = json.loads(home.run("models", "info", "dicose-unet", "--json").stdout)
        assert COMMIT in card["notes"]
        assert hub.sha256 in card["notes"]
        assert not list((home.path / "models" / ".downloads").glob("*.ckpt"))
        hub.requests.clear()
        assert home.run("models", "pull", "dicose-unet").returncode == Exit.OK
        assert not hub.requests


def test_pull_without_a_network_says_so(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    result = home.run("models", "pull", "dicose-unet")
    assert result.returncode == Exit.HUB_UNREACHABLE
    assert "cannot reach" in result.stderr


def findings(home: Home) -> tuple[int, dict[str, dict[str, str]]]:
    result = home.run("doctor", "--json")
    return result.returncode, {finding["what"]: finding for finding in json.loads(result.stdout)}


def test_doctor_says_that_all_is_well(home: Home) -> None:
    code, found = findings(home)
    assert code == Exit.OK
    assert not [one for one in found.values() if one["state"] == "broken"]
    assert "torch-" in found["device"]["text"]
    assert "separated a window" in found["separation"]["text"]
    assert "none is running" in found["server"]["text"]


def test_doctor_names_a_damaged_default_model(home: Home) -> None:
    weights = home.models / "stemline-small" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    code, found = findings(home)
    assert code == Exit.UNEXPECTED
    assert str(weights) in found["separation"]["text"]
    result = home.run("doctor")
    assert result.returncode == Exit.UNEXPECTED
    assert "BROKEN" in result.stdout


def test_doctor_finds_a_running_server_and_an_impostor(home: Home) -> None:
    with home.server():
        assert "stemline-small" in findings(home)[1]["server"]["text"]
        record = json.loads((home.path / "run" / "server.json").read_text())
        other = Home(home.path.parent / "other", home.models)
        shutil.copytree(home.path / "run", other.path / "run", ignore=shutil.ignore_patterns("*.sock", "token"))
        other.path.chmod(0o700)
        (other.path / "run" / "token").write_text("another token\n")
        (other.path / "run" / "token").chmod(0o600)
        record["token_file"] = str(other.path / "run" / "token")
        (other.path / "run" / "server.json").write_text(json.dumps(record))
        code, found = findings(other)
    assert code == Exit.UNEXPECTED
    assert "does not hold your token" in found["server"]["text"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_doctor_names_a_directory_that_cannot_be_written(home: Home) -> None:
    (home.path / "state").mkdir(parents=True)
    (home.path / "state").chmod(0o500)
    assert findings(home)[0] == Exit.UNEXPECTED
