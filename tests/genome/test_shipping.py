"""A store is one folder that can be sent: it needs nothing else, and one wrong byte anywhere in it is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cli.test_genome import run
from kleiber.errors import DataError, KleiberError
from kleiber.genome.panel import Panel
from kleiber.genome.reference import Reference
from kleiber.genome.store import ARRAYS
from kleiber.storage import digest
from oracles import haplotype as oracle


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> tuple[Path, str]:
    """A store of two files that was copied elsewhere, its inputs deleted; and what info said of it at home."""
    home, away = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("away") / "store"
    drawn = oracle.random_panel(7, n_contigs=2, n_samples=8, length=400)
    fasta, vcfs = oracle.write_panel(drawn, home)[0], []
    text = (home / "panel.vcf").read_text().splitlines(True)
    for contig in drawn["contigs"]:
        vcfs.append(home / f"{contig}.vcf")
        vcfs[-1].write_text("".join(line for line in text if line.startswith(("#", f"{contig}\t"))))
    run("panel", "build", "--reference", fasta, "--panel", *vcfs, "--out", home / "store")
    told = json.loads(run("panel", "info", home / "store", "--json"))
    shutil.copytree(home / "store", away)
    shutil.rmtree(home)
    return away, told["fingerprint"]


def test_it_works_where_it_arrives(shipped):
    store, fingerprint = shipped
    assert Panel.open(store).fingerprint == fingerprint
    assert "is whole" in run("panel", "verify", store)
    assert run("corpus", "sample", "--panel", store, "--strategy", "variant", "--window", "10", "--n", "2")


def kinds(store: Path) -> list[Path]:
    """Every file of the first part, of the reference, and of the store itself."""
    return [path for path in sorted(store.rglob("*")) if path.is_file() and "part-1" not in path.parts]


def test_one_wrong_byte_anywhere_is_named(shipped, tmp_path):
    store = Path(shutil.copytree(shipped[0], tmp_path / "store"))
    names = {path.relative_to(store).as_posix() for path in kinds(store)}
    assert {"manifest.json", "part-0/manifest.json", "reference/manifest.json", "reference/0.masked.npy"} < names
    assert {f"part-0/0.{name}" for name in (*ARRAYS, "slots.npy")} < names
    draw = np.random.default_rng(1)
    for path in kinds(store):
        whole = path.read_bytes()
        for at in draw.integers(0, len(whole), 3 if path.suffix == ".json" else 1) if whole else ():
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            said = damage_of(store)
            assert str(path) in said, (path.name, at, said)
        path.write_bytes(whole + b"\0")
        assert str(path) in damage_of(store)
        path.unlink()
        assert path.name in damage_of(store) or "holds no complete" in damage_of(store)
        path.write_bytes(whole)
    assert damage_of(store) == ""


def damage_of(store: Path) -> str:
    """Return what verify finds wrong with a store."""
    try:
        return "\n".join(Panel.open(store).damage())
    except KleiberError as error:
        return str(error)


@pytest.mark.parametrize("name", ["part-0/0.lists", "reference/0.masked.npy", "reference/0.bases.npy", "manifest.json"])
def test_verify_says_so_and_exits_2(name, shipped, tmp_path):
    store = Path(shutil.copytree(shipped[0], tmp_path / "store"))
    data = bytearray((store / name).read_bytes())
    data[len(data) // 2] ^= 1
    (store / name).write_bytes(data)
    said = run("panel", "verify", store, code=2)
    assert str(store / name) in said
    assert "Build it again, or fetch it again" in said


@pytest.mark.parametrize(
    ("of", "forged"),
    [
        ("contig", {"part": "../../elsewhere"}),
        ("contig", {"number": "../../../elsewhere"}),
        ("contig", {"sha256": {"../../elsewhere": "0"}}),
        ("store", {"sha256": {"../../elsewhere": "0"}}),
        ("store", {"sha256": {"/etc/hostname": "0"}}),
        ("store", {"sha256": {"a\0b": "0"}}),
    ],
)
def test_no_path_leads_outside(of, forged, shipped, tmp_path):
    """A manifest made by somebody else, with the right checksum, that names files elsewhere."""
    store = Path(shutil.copytree(shipped[0], tmp_path / "store"))
    manifest = json.loads((store / "manifest.json").read_text())
    del manifest["checksum"]
    (manifest if of == "store" else manifest["contigs"][0]).update(forged)
    (store / "manifest.json").write_text(json.dumps({**manifest, "checksum": digest(manifest)}))
    with pytest.raises(DataError, match=r"manifest.json: (names .* outside of the store|gives a contig a place)"):
        Panel.open(store)


def test_a_reference_of_an_older_build_has_files_that_nothing_checks(shipped, tmp_path):
    store = Path(shutil.copytree(shipped[0], tmp_path / "store"))
    manifest = json.loads((store / "reference" / "manifest.json").read_text())
    del manifest["sha256"]
    (store / "reference" / "manifest.json").write_text(json.dumps(manifest))
    own = json.loads((store / "manifest.json").read_text())
    del own["sha256"], own["checksum"]
    (store / "manifest.json").write_text(json.dumps(own))
    problems = Panel.open(store).damage()
    assert len(problems) == 4
    assert all("has no checksum; it is of an older build" in problem for problem in problems)
    assert Reference.open(store / "reference").fingerprint == own["reference"]
