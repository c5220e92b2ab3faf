"""What depth gains from the frame before: flicker, accuracy, time, and how soon it is right again after a scene cut.

Sequences of held-out scenes, one after the other as one stream, so that each begins with a cut. Ways, at equal steps:

- cold: each frame has noise of its own;
- same noise: for every frame, what the package does unless asked for more;
- warm start: each frame starts from the last prediction, moved along the predicted flow and renoised;
- moving average: of the predictions along the predicted flow.

All see each frame in turn, so that a busy machine slows each alike. On a CPU the time is that of the processor.

    python benchmark/temporal.py --threads 1 --json temporal.json
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffusion_perception_ros.evaluation.datasets import Scenes
from diffusion_perception_ros.evaluation.metrics import affine_invariant_depth_metrics, depth_flicker
from diffusion_perception_ros.evaluation.samples import Sample
from diffusion_perception_ros.pipeline import PerceptionPipeline
from diffusion_perception_ros.scenes import EVALUATION_SEED
from diffusion_perception_ros.stream import PerceptionStream

WAYS = ("cold", "same noise", "warm start", "moving average")
_AFTER_CUT = 3


@dataclass
class Record:
    """What one way gave, by sequence and frame."""

    stream: PerceptionStream
    depths: list[list[NDArray[np.float32]]] = field(default_factory=list)
    continued: list[list[bool]] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)


def predict(record: Record, way: str, sample: Sample, following: Sample | None, index: int, args: Any) -> None:
    """Show one frame of the stream, with the next one for flow."""
    temporal = way.replace(" ", "_") if way in ("warm start", "moving average") else "off"
    # Results are on the host when a call returns.
    clock = time.process_time if args.device == "cpu" else time.perf_counter
    began = clock()
    output = record.stream(
        sample.image,
        following.image if following else None,
        frame=index,
        next_frame=index + 1 if following else None,
        tasks=("depth", "flow") if following else ("depth",),
        seed=index + 1 if way == "cold" else 0,
        num_inference_steps=args.steps,
        temporal=temporal,
    )
    record.milliseconds.append(1e3 * (clock() - began))
    assert output.depth_relative is not None
    record.depths[-1].append(output.depth_relative)
    record.continued[-1].append(output.warm_started)


def flicker(depths: Sequence[NDArray[np.float32]], sequence: Sequence[Sample], *, is_relative: bool) -> float:
    """Of one sequence, in metres or as a share of the depth."""
    truth = [sample.depth for sample in sequence if sample.depth is not None]
    motion = [sample.flow for sample in sequence[:-1] if sample.flow is not None]
    return depth_flicker(
        torch.from_numpy(np.stack(depths)),
        torch.from_numpy(np.stack([depth.depth for depth in truth])),
        torch.from_numpy(np.stack([depth.valid for depth in truth])),
        torch.from_numpy(np.stack([flow.flow for flow in motion])).movedim(-1, 1),
        torch.from_numpy(np.stack([flow.valid for flow in motion])),
        is_relative=is_relative,
    )


def errors(depths: Sequence[Sequence[NDArray[np.float32]]], sequences: Sequence[Sequence[Sample]]) -> NDArray[Any]:
    """(sequences, frames) AbsRel, each frame after a scale and shift of its own."""
    return np.array(
        [
            [
                affine_invariant_depth_metrics(
                    *map(torch.from_numpy, (depth, sample.depth.depth, sample.depth.valid))  # type: ignore[union-attr]
                )["abs_rel"]
                for depth, sample in zip(own, sequence, strict=True)
            ]
            for own, sequence in zip(depths, sequences, strict=True)
        ]
    )


def figures(records: dict[str, Record], sequences: Sequence[Sequence[Sample]]) -> dict[str, dict[str, Any]]:
    """The table, by way."""
    table: dict[str, dict[str, Any]] = {}
    cold_errors = errors(records["cold"].depths, sequences)
    for way, record in records.items():
        own = errors(record.depths, sequences)
        pairs = list(zip(record.depths, sequences, strict=True))
        row: dict[str, Any] = {
            "flicker_m": float(np.mean([flicker(d, s, is_relative=False) for d, s in pairs])),
            "flicker_relative": float(np.mean([flicker(d, s, is_relative=True) for d, s in pairs])),
            "abs_rel": float(own.mean()),
            "ms_per_frame": statistics.median(record.milliseconds),
            # The first sequence begins with nothing before it.
            "abs_rel_after_cut_over_cold": (
                own[1:, :_AFTER_CUT].mean(0) / cold_errors[1:, :_AFTER_CUT].mean(0)
            ).tolist(),
        }
        cold = table.get("cold", row)
        row |= {f"{name}_over_cold": row[name] / cold[name] for name in ("flicker_m", "flicker_relative", "abs_rel")}
        # On the same frames.
        pairs_of_times = zip(record.milliseconds, records["same noise"].milliseconds, strict=True)
        row["ms_over_same_noise"] = statistics.median(a - b for a, b in pairs_of_times)
        if any(map(any, record.continued)):
            row["cuts_found"] = sum(not own[0] for own in record.continued[1:])
            row["cuts"] = len(sequences) - 1
            row["begun_anew_without_cut"] = sum(not later for own in record.continued for later in own[1:])
            row["frames_without_cut"] = sum(len(own) - 1 for own in record.continued)
        table[way] = row
    truth = [[sample.depth.depth for sample in sequence if sample.depth] for sequence in sequences]
    pairs = list(zip(truth, sequences, strict=True))
    table["truth"] = {
        "flicker_m": float(np.mean([flicker(d, s, is_relative=False) for d, s in pairs])),
        "flicker_relative": float(np.mean([flicker(d, s, is_relative=True) for d, s in pairs])),
    }
    return table


def to_text(table: dict[str, dict[str, Any]]) -> str:
    """As Markdown."""
    lines = [
        "| | flicker, m | of cold % | flicker % of depth | of cold % | AbsRel | of cold % "
        "| AbsRel of cold %, 1st to 3rd frame after a cut | cuts found | begun anew without a cut "
        "| ms a frame | more than same noise |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for way, row in table.items():
        cells = [way, f"{row['flicker_m']:.4f}", "", f"{100 * row['flicker_relative']:.2f}"] + [""] * 8
        if way != "truth":
            cells[2] = f"{100 * row['flicker_m_over_cold']:.1f}"
            cells[4] = f"{100 * row['flicker_relative_over_cold']:.1f}"
            cells[5:7] = f"{row['abs_rel']:.4f}", f"{100 * row['abs_rel_over_cold']:.1f}"
            cells[7] = ", ".join(f"{100 * ratio:.1f}" for ratio in row["abs_rel_after_cut_over_cold"])
            if "cuts" in row:
                cells[8] = f"{row['cuts_found']} of {row['cuts']}"
                cells[9] = f"{row['begun_anew_without_cut']} of {row['frames_without_cut']}"
            cells[10:] = f"{row['ms_per_frame']:.1f}", f"{row['ms_over_same_noise']:+.1f}"
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="folder (default: the embedded one)")
    parser.add_argument("--device", default="cpu", help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, help="(default: the checkpoint's)")
    parser.add_argument("--seed", type=int, default=EVALUATION_SEED, help="of the first scene (default: %(default)s)")
    parser.add_argument("--sequences", type=int, default=32, help="of 8 frames (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.checkpoint:
        pipe = PerceptionPipeline.from_pretrained(args.checkpoint, args.device)
    else:
        pipe = PerceptionPipeline.embedded(args.device)
    size = pipe.metadata.resolution
    dataset = Scenes(args.sequences, args.seed, size, size, args.sequences)
    sequences = [list(sequence) for sequence in dataset.sequences()]
    records = {way: Record(PerceptionStream(pipe)) for way in WAYS}
    frames = [sample for sequence in sequences for sample in sequence]
    for way in WAYS:  # warm up, then forget it
        record = Record(PerceptionStream(pipe), [[]], [[]])
        for index in range(2):
            predict(record, way, frames[index], frames[index + 1], index, args)
    index = 0
    for sequence in sequences:
        for record in records.values():
            record.depths.append([])
            record.continued.append([])
        for sample in sequence:
            following = frames[index + 1] if index + 1 < len(frames) else None
            for way, record in records.items():
                predict(record, way, sample, following, index, args)
            index += 1
    table = figures(records, sequences)
    print(to_text(table))
    if args.json:
        about = {
            "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
            "checkpoint": pipe.metadata.name,
            "steps": args.steps or pipe.metadata.num_inference_steps,
            "sampler": pipe.metadata.sampler,
            "device": str(pipe.device),
            "machine": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "first_scene": args.seed,
            "sequences": args.sequences,
            "frames_per_sequence": len(sequences[0]),
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({**about, "ways": table}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
