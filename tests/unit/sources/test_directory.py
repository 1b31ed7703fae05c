"""What a directory of manifests means, one state after another."""

import os
from pathlib import Path

import pytest

from inferway.resources import ModelServer
from inferway.resources.problems import Severity
from inferway.sources import DirectorySource, Snapshot, load
from inferway.sources.directory import FILE_BYTES_MAX

SERVER = """\
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata: {{name: {name}}}
spec: {{addresses: [{{host: {host}}}]}}
"""


def server(name: str, host: str = "10.0.0.1") -> str:
    return SERVER.format(name=name, host=host)


def hosts(snapshot: Snapshot) -> dict[str, str]:
    return {
        resource.name: resource.spec.addresses[0].host
        for resource in snapshot.resources.model_servers
    }


def messages(snapshot: Snapshot, root: Path) -> list[str]:
    return [str(problem).removeprefix(f"{root}{os.sep}") for problem in snapshot.problems]


class Directory:
    """A source over a temporary directory, read again on demand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = DirectorySource([path])

    def write(self, name: str, text: str) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def read(self) -> Snapshot:
        self.source.refresh({file.name for file in self.path.rglob("*")})
        return self.source.snapshot(changed_at=0.0)


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


def test_one_shot(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(server("b"))
    (tmp_path / "a.json").write_text('{"kind": "Nothing"}')
    snapshot = load([tmp_path], changed_at=7.0)
    assert hosts(snapshot) == {"b": "10.0.0.1"}
    assert snapshot.changed_at == 7.0
    assert snapshot.has_errors
    assert messages(snapshot, tmp_path)[0].startswith("a.json:1:10: error: kind: kind Nothing")


def test_a_broken_file_keeps_its_objects_and_others_take_effect(directory: Directory) -> None:
    directory.write("a.yaml", server("a"))
    directory.write("b.yaml", server("b"))
    directory.read()
    directory.write("a.yaml", server("a", "10.0.0.2") + "extra: 1\n")
    directory.write("b.yaml", server("b", "10.0.0.2"))
    snapshot = directory.read()
    assert hosts(snapshot) == {"a": "10.0.0.1", "b": "10.0.0.2"}
    assert messages(snapshot, directory.path)[0].startswith("a.yaml:5:1: error: extra: unknown")
    directory.write("a.yaml", server("a", "10.0.0.3"))
    assert hosts(directory.read()) == {"a": "10.0.0.3", "b": "10.0.0.2"}
    assert directory.read().problems == ()


def test_one_bad_object_holds_back_its_whole_file(directory: Directory) -> None:
    directory.write("a.yaml", server("a"))
    directory.read()
    directory.write("a.yaml", server("a", "10.0.0.2") + "---\nkind: Nothing\n")
    assert hosts(directory.read()) == {"a": "10.0.0.1"}


def test_a_file_that_was_never_good_contributes_nothing(directory: Directory) -> None:
    directory.write("a.yaml", server("a") + "---\nkind: Nothing\n")
    assert hosts(directory.read()) == {}


def test_warnings_do_not_hold_back_a_file(directory: Directory) -> None:
    route = (
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\n"
        "spec: {rules: {backendRefs: [{kind: InferencePool, name: p}]}}\n"
    )
    directory.write("r.yaml", route)
    snapshot = directory.read()
    assert len(snapshot.resources.http_routes) == 1
    assert {problem.severity for problem in snapshot.problems} == {Severity.WARNING}
    assert not snapshot.has_errors


def test_a_deleted_file_takes_its_objects_and_problems_along(directory: Directory) -> None:
    directory.write("a.yaml", server("a"))
    directory.write("b.yaml", server("b"))
    directory.read()
    directory.write("a.yaml", "broken: [")
    directory.read()
    (directory.path / "a.yaml").unlink()
    snapshot = directory.read()
    assert (hosts(snapshot), snapshot.problems) == ({"b": "10.0.0.1"}, ())


def test_an_emptied_file_keeps_its_objects(directory: Directory) -> None:
    """`generate > file` truncates first and writes seconds later."""
    directory.write("a.yaml", server("a"))
    directory.read()
    directory.write("a.yaml", " \n")
    snapshot = directory.read()
    assert hosts(snapshot) == {"a": "10.0.0.1"}
    assert messages(snapshot, directory.path) == [
        (
            "a.yaml:1:1: warning: the file is empty; its objects stay "
            "(hint: delete the file to remove them)"
        )
    ]
    directory.write("a.yaml", "# nothing here any more\n")
    assert hosts(directory.read()) == {}


def test_a_missing_root_keeps_what_it_had(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "manifests")
    directory.write("a.yaml", server("a"))
    directory.read()
    directory.path.rename(tmp_path / "away")
    snapshot = directory.read()
    assert hosts(snapshot) == {"a": "10.0.0.1"}
    assert str(snapshot.problems[0]) == (
        f"{directory.path}:1:1: error: cannot be read: No such file or directory"
    )
    (tmp_path / "away").rename(directory.path)
    assert directory.read().problems == ()


def test_across_files_the_first_by_name_wins(directory: Directory) -> None:
    directory.write("sub/a.yaml", server("x", "10.0.0.2"))
    directory.write("b.yaml", server("x", "10.0.0.1"))
    snapshot = directory.read()
    assert hosts(snapshot) == {"x": "10.0.0.1"}
    assert messages(snapshot, directory.path) == [
        (
            "sub/a.yaml:1:1: error: metadata.name: ModelServer default/x is already defined at "
            f"{directory.path}/b.yaml:1 (hint: rename or remove one of the two)"
        )
    ]
    (directory.path / "b.yaml").unlink()
    snapshot = directory.read()
    assert (hosts(snapshot), snapshot.problems) == ({"x": "10.0.0.2"}, ())


def test_generation_counts_changes_of_the_spec(directory: Directory) -> None:
    def generation() -> int:
        [found] = directory.read().resources.model_servers
        return found.metadata.generation

    directory.write("a.yaml", server("a"))
    assert generation() == 1
    directory.write("a.yaml", "# a comment\n" + server("a"))
    assert generation() == 1
    directory.write("a.yaml", server("a").replace("{name: a}", "{name: a, labels: {b: c}}"))
    assert generation() == 1
    directory.write("a.yaml", server("a", "10.0.0.2"))
    assert generation() == 2
    directory.write("a.yaml", server("a") + "broken: 1")
    assert generation() == 2
    directory.write("a.yaml", server("a").replace("{name: a}", "{name: a, generation: 40}"))
    assert generation() == 3
    (directory.path / "a.yaml").rename(directory.path / "b.yaml")
    assert generation() == 3


def test_origins_are_paths_as_the_user_gave_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a.yaml").write_text("\n" + server("a"))
    monkeypatch.chdir(tmp_path)
    resources = load([Path("m")]).resources
    [found] = resources.model_servers
    assert str(resources.origin(found)) == "m/a.yaml:2"


def test_only_changed_files_are_decoded_again(directory: Directory) -> None:
    directory.write("a.yaml", server("a"))
    directory.write("b.yaml", server("b"))
    before = directory.read().resources
    directory.write("a.yaml", server("a"))  # written, not changed
    directory.write("b.yaml", server("b", "10.0.0.2"))
    after = directory.read().resources
    same = [
        before.find(ModelServer, namespace="default", name=name)
        is after.find(ModelServer, namespace="default", name=name)
        for name in ("a", "b")
    ]
    assert same == [True, False]


def test_refresh_tells_whether_anything_changed(directory: Directory) -> None:
    source = directory.source
    assert not source.refresh()
    directory.write("a.yaml", server("a"))
    assert source.refresh()
    assert not source.refresh()
    (directory.path / "a.yaml").touch()
    assert not source.refresh({"a.yaml"})
    directory.write("notes.txt", "x")
    assert not source.refresh()
    (directory.path / "a.yaml").rename(directory.path / "b.yaml")
    assert source.refresh()


def test_a_touched_file_is_read_even_if_it_looks_unchanged(directory: Directory) -> None:
    directory.write("a.yaml", server("a", "10.0.0.1"))
    file = directory.path / "a.yaml"
    status = file.stat()
    directory.read()
    directory.write("a.yaml", server("a", "10.0.0.2"))  # same size
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not directory.source.refresh()
    assert directory.source.refresh({"a.yaml"})
    assert hosts(directory.source.snapshot(changed_at=0.0)) == {"a": "10.0.0.2"}


def test_a_huge_file_is_not_read(directory: Directory) -> None:
    directory.write("a.yaml", server("a"))
    directory.read()
    with (directory.path / "a.yaml").open("r+b") as file:
        file.truncate(FILE_BYTES_MAX + 1)
    snapshot = directory.read()
    assert hosts(snapshot) == {"a": "10.0.0.1"}
    assert messages(snapshot, directory.path) == [
        "a.yaml:1:1: error: file is too large: 16777217 bytes, 16777216 allowed"
    ]


def test_the_order_of_objects_is_that_of_paths_then_names(tmp_path: Path) -> None:
    for name in ("z/one.yaml", "a/two.yaml", "a/b/three.yaml"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(server(file.stem))
    snapshot = load([tmp_path / "z", tmp_path / "a"])
    assert list(hosts(snapshot)) == ["one", "three", "two"]
