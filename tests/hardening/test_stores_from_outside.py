"""A store that somebody sends: nothing in it leads out of its folder, and no array is read beyond its end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from kleiber.errors import KleiberError
from kleiber.genome.assembly import Region
from kleiber.genome.panel import Panel
from kleiber.genome.reference import Reference
from kleiber.genome.store import ARRAYS

TEXT = ">../../x\nACGTACGTAA\n>/etc/passwd\nTTTTNNacgt\n>20\n" + "ACGTTGCA" * 20 + "\n>empty\n"
VCF = (
    "##fileformat=VCFv4.2\n##contig=<ID=20,length=160>\n"
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t../../s\t/s2\n"
    "20\t5\t.\tT\tG\t.\tPASS\t.\tGT\t0|1\t1|1\n20\t9\t.\tA\tAC\t.\tPASS\t.\tGT\t1|0\t0|0\n"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A small panel whose contigs and samples are named like paths."""
    folder = tmp_path_factory.mktemp("stores")
    (folder / "a.fa").write_text(TEXT)
    (folder / "a.vcf").write_text(VCF)
    reference = Reference.build(folder / "a.fa", folder / "inside" / "reference")
    Panel.build(reference, [folder / "a.vcf"], folder / "inside" / "panel")
    return folder


def test_names_like_paths_stay_in_the_folder(built):
    assert sorted(path.name for path in built.iterdir()) == ["a.fa", "a.vcf", "inside"]
    panel = Panel.open(built / "inside" / "panel")
    assert panel.samples == ("../../s", "/s2")
    assert panel.reference.bases("../../x").tobytes() == b"ACGTACGTAA"
    assert panel.reference.soft_masked("/etc/passwd").tolist() == [[6, 10]]
    assert panel.reference.soft_masked("20").shape == (0, 2)
    assert panel.reference.bases("empty").size == 0
    assert panel.sequence("/s2", 0, Region("20", 0, 8)).tobytes() == b"ACGTGGCA"


@pytest.fixture
def copy(built, tmp_path) -> Path:
    return Path(shutil.copytree(built / "inside" / "panel", tmp_path / "panel"))


def read_all(path: Path) -> None:
    """Read every contig of a store, as its user would."""
    panel = Panel.open(path)
    for contig in panel.contigs:
        panel.exists(contig.name, 0, 1)
        panel.sequence("/s2", 1, Region(contig.name, 0, 100))
    for name in ("../../x", "20"):
        panel.reference.bases(name)
    assert not panel.damage()


def rewrite(path: Path, change) -> None:
    manifest = json.loads(path.read_bytes())
    change(manifest["contigs"][-1])
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("value", ["0/../../../secret", "/etc", "..", "0\0", -1, 0.0, True, None])
@pytest.mark.parametrize("key", ["part", "number"])
def test_a_number_that_is_a_path_is_refused(copy, key, value):
    rewrite(copy / "manifest.json", lambda entry: entry.update({key: value}))
    with pytest.raises(KleiberError, match="is damaged"):
        Panel.open(copy)


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "0.bits\0", "0.other"])
def test_a_checksum_of_another_file_is_refused(copy, name):
    rewrite(copy / "manifest.json", lambda entry: entry["sha256"].update({name: "0" * 64}))
    with pytest.raises(KleiberError, match="is damaged"):
        Panel.open(copy)


def test_the_whole_store_is_read(copy):
    read_all(copy)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("change", ["gone", "empty", "a byte less", "half", "more"])
def test_an_array_of_another_size_is_refused(copy, name, change):
    file = copy / "part-0" / f"0.{name}"
    data = file.read_bytes()
    changed = {"empty": b"", "a byte less": data[:-1], "half": data[: len(data) // 16 * 8], "more": data + bytes(64)}
    if change == "gone":
        file.unlink()
    elif changed[change] == data:
        pytest.skip("the array is empty already")
    else:
        file.write_bytes(changed[change])
    with pytest.raises(KleiberError, match=f"0.{name}"):
        read_all(copy)


@pytest.mark.parametrize("change", ["gone", "empty", "half", "objects", "kind", "shape"])
@pytest.mark.parametrize("file", ["part-0/0.slots.npy", "part-0/0.state.npy", "reference/2.bases.npy"])
def test_a_numpy_file_that_is_not_what_it_was(copy, file, change):
    path = copy / file
    data, array = path.read_bytes(), np.load(path)
    path.unlink()  # it is a hard link
    if change == "objects":
        np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    elif change == "kind":
        np.save(path, array.astype(np.float32))
    elif change == "shape":
        np.save(path, array[:-1])
    elif change != "gone":
        path.write_bytes(b"" if change == "empty" else data[: len(data) - 1 - array.nbytes // 2])
    if file.startswith("part-0"):  # read when a panel is built from its parts, and never later
        assert path.name in str(Panel.open(copy).damage())
        return
    with pytest.raises(KleiberError, match=path.name):
        read_all(copy)


@pytest.mark.parametrize("absent", [[[[[0, 9]], [99]]], [[[[0, 9]], [-1]]], [[[[9, 0]], [0]]]])
def test_slots_that_cannot_be_are_refused(copy, absent):
    rewrite(copy / "manifest.json", lambda entry: entry.update(absent=absent))
    with pytest.raises(KleiberError, match="is damaged"):
        Panel.open(copy)
