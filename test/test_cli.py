from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from replay_bags import START, BrightnessPipeline, Recorded, camera, image, picture, read_bag, write_bag

from diffusion_perception_ros import __version__, cli
from diffusion_perception_ros.cli import options
from diffusion_perception_ros.device import resolve_device
from diffusion_perception_ros.errors import InputError


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> BrightnessPipeline:
    pipe = BrightnessPipeline()
    monkeypatch.setattr("diffusion_perception_ros.cli.replay.load_pipeline", lambda args: pipe)
    return pipe


def test_help_imports_nothing_heavy() -> None:
    """Which is what makes it fast; seconds depend on the machine."""
    script = (
        "import sys\n"
        "from diffusion_perception_ros.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print(sorted({'torch', 'diffusers', 'numpy', 'cv2', 'rosbags'} & set(sys.modules)))\n"
    )
    for arguments in (["--help"], *([command, "--help"] for command in cli.COMMANDS)):
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]", arguments
        assert "\nexamples:\n" in done.stdout, arguments
        assert "\nexit status:\n  0 " in done.stdout, arguments


def test_module_and_function_are_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    command = [sys.executable, "-m", "diffusion_perception_ros", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == capsys.readouterr().out == f"diffusion-perception {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["replay"], ["replay", "a", "b", "--storage", "zip"]])
def test_unusable_arguments_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_unusable_input_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["replay", str(tmp_path / "nowhere"), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"diffusion-perception: error: the bag {tmp_path / 'nowhere'} does not exist.\n"


def test_an_unusable_input_does_not_wait_for_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*arguments: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("diffusion_perception_ros.cli.replay.load_pipeline", load)
    source = write_bag(tmp_path / "in", [*camera(1), Recorded("/rear/image", image(START, picture(1)), START)])
    assert cli.main(["replay", str(source), str(tmp_path / "out")]) == 2
    assert "several image topics" in capsys.readouterr().err


def test_replay_prints_a_summary(tmp_path: Path, pipe: BrightnessPipeline, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_bag(tmp_path / "in", camera(3))
    assert cli.main(["replay", str(source), str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "3 of 3 on /camera/image_raw" in printed.err
    assert str(tmp_path / "out") in printed.err
    assert "random" not in printed.err


def test_replay_options_arrive(tmp_path: Path, pipe: BrightnessPipeline, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_bag(tmp_path / "in", camera(3))
    arguments = ["--tasks", "depth, flow", "--steps", "4", "--sampler", "dpm_solver", "--ensemble", "3", "--seed", "9"]
    arguments += ["--flip-members", "--resize", "letterbox", "--namespace", "/eye", "--storage", "sqlite3", "--json"]
    arguments += ["--batch", "2"]
    assert cli.main(["replay", str(source), str(tmp_path / "out"), *arguments]) == 0
    call = pipe.calls[0]
    call.pop("next_image")
    assert call == {
        "visible_masks": None,
        "tasks": ("depth", "flow"),
        "num_inference_steps": 4,
        "sampler": "dpm_solver",
        "ensemble_size": 3,
        "flip_members": True,
        "resize": "letterbox",
        "seed": 9,
    }
    summary = json.loads(capsys.readouterr().out)
    assert summary["messages"] == {topic: len(reads) for topic, reads in read_bag(tmp_path / "out").items()}
    assert summary["messages"]["/eye/depth/uncertainty"] == 3
    assert (summary["frames_processed"], summary["exit_status"]) == (3, 0)


def test_skipped_frames_exit_with_3(
    tmp_path: Path, pipe: BrightnessPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    messages = [*camera(2), Recorded("/camera/image_raw", image(START + 10**9, picture(0), "plaid8"), START + 10**9)]
    source = write_bag(tmp_path / "in", messages)
    pipe.metadata = type(pipe.metadata)(**{**vars(pipe.metadata), "is_random": True})
    assert cli.main(["replay", str(source), str(tmp_path / "out")]) == 3
    error = capsys.readouterr().err
    assert "unknown_encoding 1" in error
    assert "weights are random" in error


def test_interrupted(
    tmp_path: Path, pipe: BrightnessPipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*arguments: Any, **others: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(BrightnessPipeline, "__call__", interrupt)
    source = write_bag(tmp_path / "in", camera(3))
    assert cli.main(["replay", str(source), str(tmp_path / "out")]) == 130
    error = capsys.readouterr().err
    assert "interrupted" in error
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("module", "number"),
    [
        ("diffusion_perception_ros.cli", signal.SIGINT),
        ("diffusion_perception_ros.cli.train", signal.SIGINT),
        ("diffusion_perception_ros.cli.train", signal.SIGTERM),
        ("torch", signal.SIGINT),
    ],
)
def test_interrupted_while_importing(module: str, number: signal.Signals, tmp_path: Path) -> None:
    """Dataclasses and named tuples are made by `exec`, in which an interrupt is worse than elsewhere."""
    script = (
        "import importlib.abc, runpy, signal, sys\n"
        # Not inherited from whatever runs the tests: a job in the background of a shell ignores it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Interrupt(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}:\n"
        f"            exec('signal.raise_signal({number.value})', {{'signal': signal}})\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "runpy.run_module('diffusion_perception_ros', run_name='__main__')\n"
    )
    command = [sys.executable, "-c", script, "train", str(tmp_path / "run.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "diffusion-perception: interrupted\n")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this platform has no SIGHUP")
@pytest.mark.parametrize("ignored", [False, True])
def test_a_closed_terminal_leaves_nothing_behind(tmp_path: Path, ignored: bool) -> None:
    write_bag(tmp_path / "in", camera(3))
    script = (
        "import signal, sys, time\n"
        f"signal.signal(signal.SIGHUP, signal.{'SIG_IGN' if ignored else 'SIG_DFL'})\n"
        "sys.path.insert(0, sys.argv.pop(1))\n"
        "from replay_bags import BrightnessPipeline\n"
        "from diffusion_perception_ros import cli\n"
        "from diffusion_perception_ros.cli import replay\n"
        "class Slow(BrightnessPipeline):\n"
        "    def __call__(self, *arguments, **options):\n"
        "        signal.raise_signal(signal.SIGHUP)\n"
        "        return super().__call__(*arguments, **options)\n"
        "replay.load_pipeline = lambda *arguments: Slow()\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    arguments = ["replay", str(tmp_path / "in"), str(tmp_path / "out")]
    command = [sys.executable, "-c", script, str(Path(__file__).parent), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if ignored else 130), done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == (["in", "out"] if ignored else ["in"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--steps", "0"], ["--steps"]),
        (["--sampler", "one_step", "--steps", "3"], ["--steps"]),
        (["--flip-members"], ["--flip-members", "--ensemble"]),
        (["--sampler", "one_step", "--ensemble", "2"], ["--flip-members", "--ensemble"]),
        (["--image-topic", ""], ["--image-topic is empty"]),
    ],
)
def test_errors_speak_of_options(
    tmp_path: Path, pipe: BrightnessPipeline, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    source = write_bag(tmp_path / "in", camera(2))
    assert cli.main(["replay", str(source), str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    for word in words:
        assert word in error
    for argument in ("num_inference_steps", "ensemble_size", "flip_members"):
        assert argument not in error


@pytest.mark.parametrize("arguments", [["", "out"], ["in", ""]])
def test_empty_paths_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["replay", *arguments])
    assert "it is empty" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mps", "meta", "cpu:3", "cuda:-1", "CUDA", "", "xla", "cuda:999999999999"])
def test_other_devices_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"device .* is (unknown; use auto, cpu, cuda or cuda:N|not available)"):
        resolve_device(name)


def test_devices() -> None:
    assert resolve_device("cpu") == resolve_device(torch.device("cpu")) == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda")


def test_the_progress_bar_knows_the_total_from_the_start(
    tmp_path: Path, pipe: BrightnessPipeline, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    source = write_bag(tmp_path / "in", camera(3))
    assert cli.main(["replay", str(source), str(tmp_path / "out")]) == 0
    error = capsys.readouterr().err
    assert "0/3 [" in error
    assert "?frame/s]" not in error.split("\r")[-1]


def test_a_reader_that_went_away_is_no_traceback() -> None:
    script = (
        "import sys, time\n"
        "from diffusion_perception_ros import cli\n"
        "from diffusion_perception_ros.cli import replay\n"
        "replay.run = lambda args: print('x' * 10**6) or 0\n"
        "sys.exit(cli.main(['replay', 'a', 'b']))\n"
    )
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", script], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_task_names() -> None:
    assert options.task_names("depth, flow,") == ("depth", "flow")


def test_an_empty_output_is_not_the_current_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["predict", "picture.png", "--out", ""])
    assert caught.value.code == 2
    assert "it is empty" in capsys.readouterr().err


def test_a_training_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    config = Path(__file__).resolve().parent.parent / "config" / "training" / "tiny.yaml"
    assert cli.main(["train", str(config), "--out", str(tmp_path / "file" / "run")]) == 2
    assert "cannot be made: Not a directory; choose another." in capsys.readouterr().err
