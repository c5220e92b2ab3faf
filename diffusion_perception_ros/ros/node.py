"""PerceptionNode: the lifecycle of the live node."""

from __future__ import annotations

import threading
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_srvs.srv import Trigger

from diffusion_perception_ros.errors import InputError
from diffusion_perception_ros.frames.mailbox import Mailbox
from diffusion_perception_ros.ros import diagnostics
from diffusion_perception_ros.ros.camera import Camera
from diffusion_perception_ros.ros.declare import ParameterStore
from diffusion_perception_ros.ros.inputs import Inputs, sources
from diffusion_perception_ros.ros.model import Model
from diffusion_perception_ros.ros.outputs import Outputs
from diffusion_perception_ros.ros.parameters import BY_NAME
from diffusion_perception_ros.ros.qos import declare_overrides, input_qos
from diffusion_perception_ros.ros.settings import NodeSettings, settings_from
from diffusion_perception_ros.ros.throttle import Throttle
from diffusion_perception_ros.ros.worker import Choices, Worker


class PerceptionNode(LifecycleNode):  # type: ignore[misc]  # rclpy is not there where types are checked
    """Camera frames in, depth, flow and amodal masks out.

    Configure loads the checkpoint and makes the topics, activate subscribes and starts to infer, deactivate stops,
    cleanup frees the device. What cannot work fails configure with one sentence in the log, after which it can be
    tried again.

    Args:
        options: Those of rclpy's LifecycleNode.

    Attributes:
        is_loading: Configure is under way, which may take long.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("perception", **options)
        self.is_loading = False
        # Transitions, parameters and reports come from one thread or from several, as the executor has it.
        self._lock = threading.RLock()
        self._failure = ""
        self._throttle = Throttle()
        self._model: Model | None = None
        # By camera; a single one has no name.
        self._outputs: dict[str, Outputs] = {}
        self._cameras: list[Camera] = []
        self._worker: Worker | None = None
        self._choices: Choices | None = None
        self._store = ParameterStore(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 1)
        # On a steady clock: simulated time may stand still, which is just when someone looks at the diagnostics.
        period = self._store.values["diagnostics.period"]
        self._timer = self.create_timer(period, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._reset_service = self.create_service(Trigger, "~/reset", self._on_reset)
        threshold = JumpThreshold(min_forward=None, min_backward=Duration(seconds=-0.1), on_clock_change=True)
        self._jump_handle = self.get_clock().create_jump_callback(threshold, post_callback=self._on_time_jump)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check, load, warm up."""
        with self._lock:
            return self._configure(state)

    def _configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.is_loading = True
        try:
            settings = settings_from(self._store.usable())
            self._model = Model.load(settings)
            if settings.device == "auto" and self._model.pipe.device.type == "cpu":
                self.get_logger().warning("device is auto and there is no CUDA GPU: running on the CPU.")
            for camera in settings.cameras:
                outputs = self._outputs[camera] = Outputs(self, _prefix(camera), self._model.tasks(settings))
                for source in sources(self, _prefix(camera), settings, outputs.tasks):
                    declare_overrides(self, source.topic, "subscription", input_qos())
            self._choices = self._choices_for(settings)
            self._model.warm_up(settings)
            if self._model.pipe.metadata.is_random:
                self.get_logger().warning("the checkpoint is random: its predictions mean nothing.")
        except Exception as error:  # rclpy would swallow it without a word
            self._release()
            self._failure = _sentence(error)
            self.get_logger().error(f"configure failed: {self._failure}")
            return TransitionCallbackReturn.FAILURE
        finally:
            self.is_loading = False
        self._failure = ""
        self._timer.timer_period_ns = int(settings.diagnostics_period * 1e9)
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start to infer."""
        with self._lock:
            return self._activate(state)

    def _activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            super().on_activate(state)
            self._start()
        except Exception as error:
            self._stop()
            super().on_deactivate(state)
            self._failure = _sentence(error)
            self.get_logger().error(f"activate failed: {self._failure}")
            return TransitionCallbackReturn.FAILURE
        self._failure = ""
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop; a prediction in progress is given up."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the device's memory and take the topics back."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, from whichever state."""
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured."""
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """End the worker before the topics go."""
        self._release()
        self._jump_handle.unregister()
        super().destroy_node()

    def _start(self) -> None:
        assert self._model is not None
        assert self._choices is not None
        settings, changed = self._choices.settings, threading.Condition()
        for name, outputs in self._outputs.items():
            mailbox = Mailbox(changed)
            inputs = Inputs(
                self,
                _prefix(name),
                settings,
                mailbox,
                outputs.tasks,
                self._callback_failed,
                self._warn,
                self._report_restart,
            )
            self._cameras.append(Camera(name, self._model, inputs, mailbox, outputs, self._now, self._warn))
        self._worker = Worker(self._model, self._cameras, self._current_choices, self._warn)
        self._worker.start()

    def _stop(self) -> None:
        with self._lock:
            for camera in self._cameras:
                camera.inputs.destroy()
            if self._worker is not None:
                self._worker.stop()
            self._cameras, self._worker = [], None

    def _release(self) -> None:
        with self._lock:
            self._stop()
            for outputs in self._outputs.values():
                outputs.destroy()
            if self._model is not None:
                self._model.release()
            self._outputs = {}
            self._model = self._choices = None

    def _current_choices(self) -> Choices:
        assert self._choices is not None
        return self._choices

    def _choices_for(self, settings: NodeSettings) -> Choices:
        """Hold settings against the checkpoint and the topics there are."""
        assert self._model is not None
        request = self._model.check(settings)
        extra = [
            task
            for task in self._model.tasks(settings)
            if any(task not in outputs.tasks for outputs in self._outputs.values())
        ]
        if extra:
            raise InputError(
                f"tasks names {extra[0]!r}, which has no topics yet; clean up and configure the node again."
            )
        return Choices(settings, request)

    def _now(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _on_set_parameters(self, parameters: list[Any]) -> SetParametersResult:
        """All of them or none."""
        with self._lock:
            return self._set_parameters_of_ours(parameters)

    def _set_parameters_of_ours(self, parameters: list[Any]) -> SetParametersResult:
        ours = {parameter.name: parameter.value for parameter in parameters if parameter.name in BY_NAME}
        try:
            changed = {name: value for name, value in ours.items() if value != self._store.values[name]}
            for name in changed:
                if BY_NAME[name].while_inactive and self._worker is not None:
                    raise InputError(f"{name} can be set only while the node is not active; deactivate it first.")
            values = {
                **self._store.values,
                **{name: BY_NAME[name].read(value) for name, value in ours.items()},
            }
            for parameter in parameters:
                # The time source refuses it after this, when it would be too late to apply none.
                if parameter.name == "use_sim_time" and not isinstance(parameter.value, bool):
                    raise InputError(f"use_sim_time is {parameter.value!r}; it must be of type bool.")
            if self._model is not None and ours:
                settings = settings_from(values)
                self._choices = self._choices_for(settings)
                self._timer.timer_period_ns = int(settings.diagnostics_period * 1e9)
        except InputError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._store.accept(values, ours)
        return SetParametersResult(successful=True)

    def _on_reset(self, _: Any, response: Any) -> Any:
        cameras = self._cameras
        response.success = bool(cameras)
        response.message = "forgot the past" if cameras else "the node is not active"
        for camera in cameras:
            camera.inputs.intake.restart()
        return response

    def _on_time_jump(self, _: Any) -> None:
        now = self.get_clock().now().nanoseconds
        for camera in self._cameras:
            camera.inputs.intake.time_jumped(now)

    def _report_restart(self) -> None:
        # Of a clock that two publish it would be each message.
        if any(camera.inputs.intake.received for camera in self._cameras) and self._throttle.is_due("restart"):
            self.get_logger().info("time began anew: frames, masks, references and scale from before are forgotten.")

    def _callback_failed(self, error: Exception) -> None:
        self._warn("callback", f"a message could not be taken: {_sentence(error)}")

    def _warn(self, kind: str, sentence: str) -> None:
        if self._throttle.is_due(kind):
            self.get_logger().warning(sentence)

    def _report(self) -> None:
        if not self._lock.acquire(blocking=False):  # a transition is under way, which may take long
            return
        try:
            self._publish_diagnostics()
        finally:
            self._lock.release()

    def _publish_diagnostics(self) -> None:
        name = self.get_fully_qualified_name().lstrip("/")
        statuses = [self._model_status(name)]
        if self._worker is not None and self._choices is not None:
            settings, missing = self._choices.settings, []
            for camera in self._cameras:
                silent = camera.inputs.missing(settings.missing_input_timeout, _needed(camera, settings))
                missing += silent
                about = f"{name}/{camera.name}".rstrip("/")
                statuses += [
                    diagnostics.input_status(about, camera.inputs, silent),
                    diagnostics.output_status(about, camera, settings),
                    diagnostics.metric_status(about, camera),
                ]
            if missing:
                self._warn("missing", " ".join(missing))
        self._diagnostics.publish(diagnostics.array(self.get_clock().now().to_msg(), statuses))

    def _model_status(self, name: str) -> DiagnosticStatus:
        model = self._model
        values: dict[str, Any] = {}
        if model is not None:
            values = {
                "checkpoint": model.pipe.metadata.name,
                "device": model.pipe.device,
                "dtype": str(model.pipe.dtype).removeprefix("torch."),
                "device memory (MB)": model.device_memory / 2**20,
            }
        level, message = DiagnosticStatus.OK, "active" if self._worker is not None else "inactive"
        if self._failure:
            level, message = DiagnosticStatus.ERROR, self._failure
        elif model is None:
            message = "unconfigured"
        elif model.degraded_reason:
            level, message = DiagnosticStatus.WARN, model.degraded_reason
        return diagnostics.status(f"{name}: model", level, message, values, str(values.get("device", "")))


def _prefix(camera: str) -> str:
    return f"{camera}/" if camera else ""


def _needed(camera: Camera, settings: NodeSettings) -> set[str]:
    """The inputs without which something that is wanted cannot be computed."""
    needed = {"image", "image_next"}
    if settings.scale_source == "reference":
        needed.add("depth_reference")
    if "amodal" in camera.outputs.wanted_tasks(metric=False):
        needed.add("visible_masks")
    return needed


def _sentence(error: Exception) -> str:
    """An error for the log: the sentence of ours, or the kind and first line of another's."""
    if isinstance(error, InputError):
        return str(error)
    line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {line}"
