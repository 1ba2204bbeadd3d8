"""Files that are no checkpoints, broken or hostile: told apart in words, and nothing inside a file is ever run."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_parts import UNET, lightning_state, save, small_cd

from pyserver.models.lightning import ImportOptions, import_checkpoint
from pyserver.models.torch_archive import LegacyCheckpoint, NotACheckpoint, TorchArchive, TruncatedCheckpoint


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEMLINE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("STEMLINE_MODELS", raising=False)
    return tmp_path


def damage_every_tensor(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            start = info.header_offset
            extra = int.from_bytes(raw[start + 28 : start + 30], "little")
            if "/data/" in info.filename:
                raw[start + 30 + len(info.filename) + extra] ^= 1
    path.write_bytes(raw)


def test_failed_import_leaves_nothing(home: Path) -> None:
    path = small_cd(home, lambda state: None)
    damage_every_tensor(path)
    with pytest.raises(TruncatedCheckpoint, match="damaged"):
        import_checkpoint(path, ImportOptions())
    assert list((home / "home" / "models").iterdir()) == []


class Hostile:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.witness}",)


class HostileByBuild:
    """Tries to put its own function where ours is, then to have it called."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.witness)!r}, 'w')",), {"__setstate__": print}


@pytest.mark.parametrize("hostile", [Hostile, HostileByBuild])
def test_hostile_file_runs_nothing(home: Path, hostile: Callable[[Path], Any]) -> None:
    witness = home / "witness"
    state, _ = lightning_state("dicose_unet", "det")
    path = save(home / "model.ckpt", state, {"model": UNET, "evil": [hostile(witness)]})
    model = import_checkpoint(path, ImportOptions())
    assert model.card.name == "dicose-unet-separator"
    assert not witness.exists()
    torch.load(path, weights_only=False)  # the file does what it is meant to: the proof above is one
    assert witness.exists()


def test_hostile_state_dict_runs_nothing(home: Path) -> None:
    witness = home / "witness"
    path = home / "model.ckpt"
    torch.save({"state_dict": Hostile(witness)}, path)
    with pytest.raises(NotACheckpoint, match="no state_dict"):
        import_checkpoint(path, ImportOptions())
    assert not witness.exists()


def test_tensor_that_reaches_beyond_its_storage_is_refused(home: Path) -> None:
    path = save(home / "model.ckpt", {"model.unet.weight": torch.zeros(4)})
    hostile = home / "hostile.ckpt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(hostile, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename.endswith("data.pkl"):
                assert data.count(b"K\x04\x85") == 1
                data = data.replace(b"K\x04\x85", b"K\x63\x85")  # shape (4,) becomes (99,)
            new.writestr(info.filename, data)
    with pytest.raises(NotACheckpoint, match="beyond its storage"):
        TorchArchive(hostile)


def test_truncated_file_is_told_apart(home: Path) -> None:
    path = small_cd(home, lambda state: None)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(TruncatedCheckpoint, match="download it again"):
        import_checkpoint(path, ImportOptions())


def test_old_pickle_format_is_refused_unread(home: Path) -> None:
    witness = home / "witness"
    path = home / "model.ckpt"
    path.write_bytes(pickle.dumps({"state_dict": Hostile(witness)}))
    with pytest.raises(LegacyCheckpoint, match=r"before 1\.6"):
        import_checkpoint(path, ImportOptions())
    torch.save({"a": torch.zeros(1)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(LegacyCheckpoint):
        import_checkpoint(path, ImportOptions())
    assert not witness.exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK", b"RIFF....WAVE"])
def test_other_files_are_no_checkpoints(home: Path, content: bytes) -> None:
    (home / "a.ckpt").write_bytes(content)
    with pytest.raises((NotACheckpoint, TruncatedCheckpoint)):
        import_checkpoint(home / "a.ckpt", ImportOptions())


def test_missing_file_and_plain_zip(home: Path) -> None:
    with pytest.raises(NotACheckpoint, match="cannot be read"):
        import_checkpoint(home / "no.ckpt", ImportOptions())
    with zipfile.ZipFile(home / "a.ckpt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(NotACheckpoint, match=r"torch\.save"):
        import_checkpoint(home / "a.ckpt", ImportOptions())


def test_every_kind_of_tensor_is_read_exactly(home: Path) -> None:
    tensors = {
        "transposed": torch.randn(4, 5).t(),
        "half": torch.randn(3).half(),
        "slice of bfloat16": torch.randn(3, 2).bfloat16()[1:],
        "scalar": torch.tensor(4),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(2, 3)),
        "bool": torch.tensor([True, False]),
    }
    with TorchArchive(save(home / "a.ckpt", tensors)) as archive:
        for key, tensor in tensors.items():
            stored = archive.root["state_dict"][key]
            assert stored.shape == tuple(tensor.shape)
            raw = tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
            assert archive.read(stored) == raw


def with_pickle(home: Path, data: bytes) -> Path:
    """A checkpoint with this in place of its pickle."""
    path, hostile = save(home / "model.ckpt", {"model.unet.weight": torch.zeros(4)}), home / "hostile.ckpt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(hostile, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, data if info.filename.endswith("data.pkl") else old.read(info))
    return hostile


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02]r\xff\xff\xff\xff.",  # a memo of four thousand million entries
        b"\x80\x02c__main__\nNo\n)\x81}b.",
        b"\x80\x02cbuiltins\ngetattr\n(cos\nsystem\nX\x01\x00\x00\x00at R.",
        b"\x80\x02.",
        b"",
    ],
)
def test_malformed_pickle_is_refused_in_no_time(home: Path, data: bytes) -> None:
    with pytest.raises(NotACheckpoint):
        import_checkpoint(with_pickle(home, data), ImportOptions())


def test_hyper_parameters_may_refer_to_each_other_without_end(home: Path) -> None:
    nested: list[Any] = [UNET]
    for _ in range(60):
        nested = [nested, nested]
    nested.append(nested)
    path = save(home / "model.ckpt", lightning_state("dicose_unet", "det")[0], {"nested": nested})
    assert import_checkpoint(path, ImportOptions()).card.config["separator"]["attention_heads"] == 2
