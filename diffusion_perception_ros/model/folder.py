"""Checkpoint folders in diffusers' layout: transformer/, vae/, scheduler/, model_index.json and perception.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from accelerate import init_empty_weights
from diffusers import __version__ as diffusers_version
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from tqdm.auto import tqdm

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.model.codec import AutoencoderCodec, ImageCodec, PixelUnshuffleCodec, lay_out
from diffusion_perception_ros.model.metadata import CheckpointMetadata
from diffusion_perception_ros.model.official import OfficialCheckpoint
from diffusion_perception_ros.model.schedule import ddim_scheduler
from diffusion_perception_ros.model.transformer import DiTMoETransformer, cast, channels_last

# By name, so that they are imported only by checkpoints that have one.
_AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny")
_METADATA_FILE = "perception.json"
_SCHEDULER_CHOICES = {
    "prediction_type": ("epsilon", "sample", "v_prediction"),
    "timestep_spacing": ("leading", "trailing", "linspace"),
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
}
_SCHEDULER_NUMBERS = ("num_train_timesteps", "beta_start", "beta_end")
# Small, because a shard is what converting and saving hold in memory.
_SHARD_SIZE = "250MB"
_SHARD_PATTERN = SAFETENSORS_WEIGHTS_NAME.replace(".safetensors", "{suffix}.safetensors")


def load_transformer(folder: Path, dtype: torch.dtype, device: str | torch.device = "cpu") -> DiTMoETransformer:
    """The transformer of a converted checkpoint; its weights go to the device one by one, in the type wanted.

    Raises:
        InputError: The folder does not hold one that can be read.
    """
    _read_config(folder, "transformer", "config.json")
    transformer: DiTMoETransformer = load_weights(DiTMoETransformer, folder, "transformer", dtype, device)
    channels_last(transformer)
    transformer.eval().requires_grad_(False)
    return transformer


def load_codec(
    folder: Path, dtype: torch.dtype, substitute: Path | None = None, device: str | torch.device = "cpu"
) -> ImageCodec:
    """The image codec in ``folder``/vae, on the device, or another one that takes its place.

    Args:
        folder: A checkpoint's.
        dtype: Of the weights.
        substitute: The folder of a codec for the same latents, such as a released tiny autoencoder (config and weights
            in the folder itself), or one with ``vae/`` in it. Of the checkpoint's own only the config is then read.
        device: Where to load it to.

    Raises:
        InputError: There is none, it cannot be read, or it is of a kind that latents here do not fit.
    """
    config = _read_config(folder, "vae", "config.json")
    own = latent_size(config, folder / "vae")
    if substitute is None:
        return _load_codec(folder, "vae", config, dtype, device)
    part = "vae" if (substitute / "vae").is_dir() else ""
    other_config = _read_config(substitute, part, "config.json")
    other = latent_size(other_config, substitute / part)
    if other != own:
        raise InputError(
            f"{substitute / part}: the latents of its {other_config['_class_name']} have {other[0]} channels and are "
            f"{other[1]} times smaller than the image, but those of the checkpoint's {config['_class_name']} "
            f"{own[0]} and {own[1]} times; name a codec that was made for the same latents."
        )
    return _load_codec(substitute, part, other_config, dtype, device)


def _load_codec(
    folder: Path, component: str, config: Mapping[str, Any], dtype: torch.dtype, device: str | torch.device
) -> ImageCodec:
    if config["_class_name"] == PixelUnshuffleCodec.name:
        return PixelUnshuffleCodec(int(config["downscale"]))
    vae = load_weights(getattr(diffusers, config["_class_name"]), folder, component, dtype, device)
    vae.requires_grad_(False)
    lay_out(vae)
    return AutoencoderCodec(vae.eval())


def latent_size(config: Mapping[str, Any], path: Path) -> tuple[int, int]:
    """Channels of a codec's latents, and image pixels per latent pixel along a side, from its config.

    Args:
        config: Of the codec.
        path: What to call it.

    Raises:
        InputError: The codec is of a kind that is not supported, or the config is not in order.
    """
    kind = config.get("_class_name")
    try:
        if kind == PixelUnshuffleCodec.name:
            downscale = int(config["downscale"])
            return 3 * downscale**2, downscale
        if kind in _AUTOENCODERS:
            blocks = config["encoder_block_out_channels" if kind == "AutoencoderTiny" else "block_out_channels"]
            return int(config["latent_channels"]), int(2 ** (len(blocks) - 1))
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: its config.json does not say what latents its {kind} has.") from None
    raise InputError(f"{path}: {kind} is not supported; use {' or '.join(_AUTOENCODERS)}.")


def load_scheduler_config(folder: Path) -> dict[str, Any]:
    """The noise schedule in ``folder``/scheduler, complete with diffusers' defaults for what it leaves out.

    Raises:
        InputError: There is none, or diffusers cannot make a schedule from it.
    """
    path = folder / "scheduler" / "scheduler_config.json"
    config = _read_config(folder, "scheduler", "scheduler_config.json")
    for key, allowed in _SCHEDULER_CHOICES.items():
        if config.get(key, allowed[0]) not in allowed:
            raise InputError(f"{path}: {key} is {config[key]!r}; use one of {', '.join(allowed)}.")
    for key in _SCHEDULER_NUMBERS:
        if not isinstance(config.get(key, 1), (int, float)) or config.get(key, 1) <= 0:
            raise InputError(f"{path}: {key} is {config[key]!r}; expected a number above 0.")
    try:
        complete = ddim_scheduler(config).config
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{path}: {first_line(error)}") from None
    # Without diffusers' own marks: one of them names the defaults, and makes schedulers ignore changes to those.
    return {key: value for key, value in complete.items() if not key.startswith("_")}


def load_metadata(folder: Path) -> CheckpointMetadata:
    """What the checkpoint declares about itself.

    Raises:
        InputError: The file is missing or not in order.
    """
    _check_folder(folder)
    path = folder / _METADATA_FILE
    if not path.is_file():
        raise InputError(
            f"{folder}: no {_METADATA_FILE} in it, so it is not a converted checkpoint; "
            "make one with `diffusion-perception convert`."
        )
    return CheckpointMetadata.from_dict(_read_json(path), str(path))


def save_transformer(folder: Path, transformer: DiTMoETransformer) -> None:
    """Write ``folder``/transformer."""
    transformer.save_pretrained(folder / "transformer", max_shard_size=_SHARD_SIZE)


def convert_transformer(folder: Path, official: OfficialCheckpoint, dtype: torch.dtype) -> None:
    """Write ``folder``/transformer from a released file, one shard in memory at a time."""
    target = folder / "transformer"
    with init_empty_weights(include_buffers=True):
        transformer = DiTMoETransformer(**official.config)
    cast(transformer, dtype)
    transformer.save_config(target)
    plan = split_torch_state_dict_into_shards(
        transformer.state_dict(), filename_pattern=_SHARD_PATTERN, max_shard_size=_SHARD_SIZE
    )
    for name, tensors in tqdm(plan.filename_to_tensors.items(), desc="converting", unit="file", disable=None):
        weights = official.load(tensors, dtype, torch.device("cpu"))
        save_file(weights, target / name, metadata={"format": "pt"})
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        _write_json(target / f"{SAFETENSORS_WEIGHTS_NAME}.index.json", index)


def save_other_parts(
    folder: Path, codec: ImageCodec, scheduler_config: Mapping[str, Any], metadata: CheckpointMetadata
) -> None:
    """Write everything but the transformer."""
    folder.mkdir(parents=True, exist_ok=True)
    codec.save(folder / "vae")
    ddim_scheduler(scheduler_config).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "PerceptionPipeline",
        "_diffusers_version": diffusers_version,
        "transformer": ["diffusion_perception_ros.model.transformer", "DiTMoETransformer"],
        "vae": ["diffusers" if codec.name in _AUTOENCODERS else "diffusion_perception_ros.model.codec", codec.name],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    _write_json(folder / "model_index.json", index)
    save_metadata(folder, metadata)


def save_metadata(folder: Path, metadata: CheckpointMetadata) -> None:
    """Write what the checkpoint declares about itself."""
    _write_json(folder / _METADATA_FILE, metadata.to_dict())


def share(folder: Path) -> None:
    """Make what was saved fit for others.

    safetensors writes weights for their owner alone: they become as readable as the other files. diffusers adds to a
    config the folder on this machine that the weights once came from: it is removed.
    """
    configs = list(folder.rglob("config.json"))
    for config in configs:
        content = json.loads(config.read_text(encoding="utf-8"))
        if content.pop("_name_or_path", None) is not None:
            _write_json(config, content)
    for weights in folder.rglob("*.safetensors"):
        weights.chmod(configs[0].stat().st_mode)


def load_weights(
    kind: Any, folder: Path, component: str, dtype: torch.dtype, device: str | torch.device = "cpu"
) -> Any:
    """A component that diffusers can load, on the device; every weight has to be there, and no other.

    Raises:
        InputError: It cannot be read.
    """
    path = folder / component
    try:
        model, report = kind.from_pretrained(
            path,
            torch_dtype=dtype,
            device_map={"": device},
            local_files_only=True,
            output_loading_info=True,
            low_cpu_mem_usage=True,
        )
    except Exception as error:  # diffusers, safetensors and huggingface_hub raise a dozen kinds here
        raise InputError(
            f"{path}: the weights cannot be read ({first_line(error)}); copy or convert the checkpoint again."
        ) from None
    for problem, keys in (
        ("is missing", report["missing_keys"]),
        ("does not belong there", report["unexpected_keys"]),
    ):
        if keys:
            raise InputError(f"{path}: the weight {min(keys)!r} {problem}.")
    return model


def first_line(error: Exception) -> str:
    """What an error of another library says, short enough for one sentence."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder.")


def _read_config(folder: Path, component: str, name: str) -> dict[str, Any]:
    _check_folder(folder)
    path = folder / component / name
    if not path.is_file():
        raise InputError(f"{folder}: no {Path(component) / name} in it.")
    return _read_json(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}).") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object.")
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
