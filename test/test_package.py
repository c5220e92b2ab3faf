from __future__ import annotations

import ast
import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest
from catkin_pkg.changelog import get_changelog_from_path
from catkin_pkg.package import parse_package
from catkin_pkg.package_version import get_forthcoming_label, rename_section
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import diffusion_perception_ros

NAME = "diffusion_perception_ros"
ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy, since setuptools leaves its build/ behind and reuses what is in there."""
    source = tmp_path_factory.mktemp("source") / "copy"
    unshipped = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "test")
    shutil.copytree(ROOT, source, ignore=unshipped)
    # A stand-in for a trained checkpoint: folders of data, below a folder that is no Python package.
    checkpoint = source / NAME / "weights" / "for_test" / "transformer"
    checkpoint.mkdir(parents=True)
    (checkpoint / "config.json").write_text("{}")
    (checkpoint / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    (checkpoint.parent / "README.md").write_text("For a test.")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", ".", "--quiet", "--no-deps", "--no-build-isolation"],
        cwd=source,
        check=True,
    )
    (path,) = source.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def wheel_metadata(wheel: zipfile.ZipFile) -> Message:
    (path,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(path).decode())


def scripts(section: str, key: str) -> dict[str, str]:
    """Commands and what they call, as setup.cfg lists them."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config[section][key].strip().splitlines()
    return {name.strip(): target.strip() for name, target in (line.split("=") for line in lines)}


def console_scripts() -> dict[str, str]:
    return scripts("options.entry_points", "console_scripts")


def ros2_executables() -> dict[str, str]:
    return scripts("ros2_run", "executables")


def pins(python: str) -> dict[str, str]:
    """Name and version of every package that constraints.txt pins for a Python version."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    applicable = [r for r in requirements if r.marker is None or r.marker.evaluate({"python_version": python})]
    names = [canonicalize_name(requirement.name) for requirement in applicable]
    assert len(names) == len(set(names)), "a package is pinned twice for the same Python"
    return dict(zip(names, (str(requirement.specifier) for requirement in applicable), strict=True))


def test_package_xml_is_a_valid_interface_package() -> None:
    warnings: list[str] = []
    package = parse_package(str(ROOT), warnings=warnings)
    package.validate(warnings=warnings)
    assert not warnings
    assert package.name == NAME
    assert package.package_format == 3
    assert package.get_build_type() == "ament_cmake"
    assert [group.name for group in package.member_of_groups] == ["rosidl_interface_packages"]
    assert (ROOT / package.licenses[0].file).is_file()


def test_cmake_finds_only_what_package_xml_depends_on() -> None:
    package = parse_package(str(ROOT))
    cmake = (ROOT / "CMakeLists.txt").read_text()
    always, testing = cmake.split("if(BUILD_TESTING)")
    found, for_tests = (set(re.findall(r"find_package\((\w+)", part)) for part in (always, testing))
    assert found == {d.name for d in [*package.buildtool_depends, *package.build_depends]}
    assert for_tests < {d.name for d in package.test_depends}


def test_every_ros_package_that_is_imported_is_a_dependency() -> None:
    package = parse_package(str(ROOT))
    declared = {d.name for d in [*package.exec_depends, *package.build_export_depends]}
    imported = set()
    for path in [*(ROOT / NAME / "ros").glob("*.py"), *(ROOT / "launch").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").split(".")[0])
    from_pip = {"cv2", "numpy", "torch"}
    assert imported - {NAME, *from_pip, *sys.stdlib_module_names} <= declared


def test_one_version(wheel_metadata: Message) -> None:
    version = diffusion_perception_ros.__version__
    assert parse_package(str(ROOT)).version == version
    assert wheel_metadata["Version"] == version


def test_changelog_can_be_released(tmp_path: Path) -> None:
    """`catkin_prepare_release` gives the Forthcoming section the number of the new version."""
    text = (ROOT / "CHANGELOG.rst").read_text()
    label = get_forthcoming_label(text)
    version = diffusion_perception_ros.__version__
    released = tmp_path / "CHANGELOG.rst"
    released.write_text(rename_section(text, label, f"{version} (2026-01-01)") if label else text)
    changelog = get_changelog_from_path(str(released), NAME)
    *_, (newest, _, changes) = changelog.foreach_version()
    assert newest == version
    assert changes


def test_cmake_installs_what_the_launch_files_look_for() -> None:
    (folders,) = re.findall(r"install\(DIRECTORY ([a-z ]+) DESTINATION share", (ROOT / "CMakeLists.txt").read_text())
    assert set(folders.split()) >= {"config", "launch", "rviz"}
    launch_files = "".join(path.read_text() for path in (ROOT / "launch").iterdir())
    for folder, name in re.findall(r'\[share, "(\w+)", "([\w.]+)"\]', launch_files):
        assert folder in folders.split()
        assert (ROOT / folder / name).is_file()
    executables = set(re.findall(r'executable="(\w+_node)"', (ROOT / "launch" / "perception.launch.py").read_text()))
    assert executables <= set(ros2_executables())


def test_ros2_run_has_the_nodes_and_the_replayer() -> None:
    assert list(ros2_executables()) == ["perception_node", "mask_adapter_node", "replay"]


def test_every_message_is_generated_and_its_packages_are_declared() -> None:
    cmake = (ROOT / "CMakeLists.txt").read_text()
    definitions = sorted((ROOT / "msg").iterdir())
    assert re.findall(r"msg/\w+\.msg", cmake) == [f"msg/{path.name}" for path in definitions]
    used = {name for path in definitions for name in re.findall(r"^(\w+)/\w+", path.read_text(), re.MULTILINE)}
    (dependencies,) = re.findall(r"DEPENDENCIES ([\w ]+)", cmake)
    assert used - {NAME} <= set(dependencies.split())


def test_no_folder_hides_the_generated_message_classes() -> None:
    assert not {"msg", "srv", "action"} & {path.name for path in (ROOT / NAME).iterdir()}


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
@pytest.mark.parametrize(
    ("key", "entries"), [("console_scripts", console_scripts()), ("executables", ros2_executables())]
)
def test_cmake_writes_one_executable_for_each_command(tmp_path: Path, key: str, entries: dict[str, str]) -> None:
    script = tmp_path / "write.cmake"
    script.write_text(
        f'include("{ROOT}/cmake/console_scripts.cmake")\n'
        f'write_console_scripts("{ROOT}/setup.cfg" {key} "{tmp_path}/bin" paths)\n'
        'message("${paths}")\n'
    )
    done = subprocess.run(["cmake", "-P", script], capture_output=True, text=True, check=True)
    paths = [tmp_path / "bin" / name for name in entries]
    assert done.stderr.strip().split(";") == [str(path) for path in paths]
    for path, target in zip(paths, entries.values(), strict=True):
        module, function = target.split(":")
        assert f"from {module} import {function}" in path.read_text()
        help_text = subprocess.run(
            [path, "--help"],
            env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "usage" in help_text


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
@pytest.mark.parametrize(
    ("setup_cfg", "complaint"),
    [
        ("[options]\n", "lists no console_scripts"),
        ("[options.entry_points]\nconsole_scripts =\n    a = b\n", "is not of the form"),
    ],
)
def test_cmake_stops_at_a_bad_console_script(tmp_path: Path, setup_cfg: str, complaint: str) -> None:
    (tmp_path / "setup.cfg").write_text(setup_cfg)
    script = tmp_path / "write.cmake"
    script.write_text(
        f'include("{ROOT}/cmake/console_scripts.cmake")\n'
        f'write_console_scripts("{tmp_path}/setup.cfg" console_scripts "{tmp_path}/bin" paths)\n'
    )
    done = subprocess.run(["cmake", "-P", script], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert complaint in " ".join(done.stderr.split())


def test_wheel_holds_all_modules_message_definitions_and_weights(wheel: zipfile.ZipFile) -> None:
    shipped = {name.removeprefix(f"{NAME}/") for name in wheel.namelist() if name.startswith(f"{NAME}/")}
    modules = {path.relative_to(ROOT / NAME).as_posix() for path in (ROOT / NAME).rglob("*.py")}
    assert {name for name in shipped if name.endswith(".py")} == modules
    definitions = {f"message_definitions/{path.name}" for path in (ROOT / "msg").iterdir()}
    assert {name for name in shipped if name.endswith(".msg")} == definitions
    assert {
        "py.typed",
        "weights/for_test/README.md",
        "weights/for_test/transformer/config.json",
        "weights/for_test/transformer/diffusion_pytorch_model.safetensors",
    } <= shipped


def test_wheel_installs_only_the_package(wheel: zipfile.ZipFile) -> None:
    version = diffusion_perception_ros.__version__
    assert {name.split("/")[0] for name in wheel.namelist()} == {NAME, f"{NAME}-{version}.dist-info"}


def test_wheel_has_the_console_scripts(wheel: zipfile.ZipFile) -> None:
    (path,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    config = configparser.ConfigParser()
    config.read_string(wheel.read(path).decode())
    assert dict(config["console_scripts"]) == console_scripts()


def test_every_imported_distribution_is_required(wheel_metadata: Message) -> None:
    lines = wheel_metadata.get_all("Requires-Dist", [])
    required = {canonicalize_name(Requirement(line).name) for line in lines if 'extra == "test"' not in line}
    distributions = metadata.packages_distributions()
    imported = set()
    for path in (ROOT / NAME).rglob("*.py"):
        if path.is_relative_to(ROOT / NAME / "ros"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
    # compression came into the standard library with Python 3.14.
    packages = {name.split(".")[0] for name in imported} - {NAME, "compression", *sys.stdlib_module_names}
    # Several distributions can share a namespace, as the backports do.
    missing = {
        name
        for name in packages
        if not required & {canonicalize_name(distribution) for distribution in distributions.get(name, [name])}
    }
    assert not missing


@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_pin_every_requirement(wheel_metadata: Message, python: str) -> None:
    pinned = pins(python)
    for requirement in map(Requirement, wheel_metadata.get_all("Requires-Dist", [])):
        environment = {"python_version": python, "extra": "test"}
        if requirement.marker is None or requirement.marker.evaluate(environment):
            version = pinned[canonicalize_name(requirement.name)].removeprefix("==")
            assert requirement.specifier.contains(version), f"{requirement} excludes the pinned {version}"


def test_constraints_pin_what_requirements_require(wheel_metadata: Message) -> None:
    pinned = pins(f"{sys.version_info.major}.{sys.version_info.minor}")
    waiting = [(Requirement(line), {"test"}) for line in wheel_metadata.get_all("Requires-Dist", [])]
    seen = set()
    while waiting:
        requirement, extras = waiting.pop()
        applies = requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in extras | {""}
        )
        if applies and (name := canonicalize_name(requirement.name)) not in seen:
            seen.add(name)
            assert name in pinned
            required = [Requirement(line) for line in metadata.requires(name) or []]
            # torch pins the libraries of its GPU build exactly.
            kept = [each for each in required if name != "torch" or not str(each.specifier).startswith("==")]
            waiting += [(each, requirement.extras) for each in kept]


def test_no_tracked_file_names_a_path_of_some_machine() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    machine_path = re.compile(rb"(?<![\w./])/(?:work|root|tmp|home|Users|opt/(?!ros\b))\b")
    paths = [ROOT / name.decode() for name in listing.stdout.split(b"\0") if name]
    text = {path: path.read_bytes() for path in paths if path.is_file() and path.suffix != ".safetensors"}
    assert not [path for path, content in text.items() if machine_path.search(content)]
