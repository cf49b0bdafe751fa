"""Leftovers of clusters in the cache do not grow without limit."""

from pathlib import Path

import pytest

from tests.cluster.building.buildah import forget_layers
from tests.cluster.building.cache import cache_folder


@pytest.mark.parametrize(("most", "stays"), [(2**20, True), (3 * 2**15, False)])
def test_layers_are_removed_when_those_of_all_base_images_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, stays: bool
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    *layers, program = (cache_folder() / folder / "file" for folder in ("buildah-1", "buildah-2", "containerd-1"))
    for file in (*layers, program):
        file.parent.mkdir(parents=True)
        file.write_bytes(bytes(2**16))
    forget_layers(most)
    assert [layer.exists() for layer in layers] == [stays, stays]
    assert program.exists()
