"""The loss of a method on a batch: the task, the teacher's outputs and its layers, weighed as the curriculum says."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from labutils.core.seeding import generator
from labutils.distillation.curriculum import OUTPUTS, TASK_ONLY, LossWeights, loss_weights
from labutils.distillation.data import Batch
from labutils.distillation.layer_maps import map_layers
from labutils.distillation.losses import output_loss, task_loss
from labutils.distillation.matchers import Method, Sizes
from labutils.distillation.options import TrainingOptions
from labutils.distillation.targets import TeacherTargets
from labutils.distillation.task_models import Reading


@dataclass(frozen=True)
class Objective:
    """What a student is trained on. `matcher` holds the mapping that is learned beside it, and may be empty.

    `sizes` and `targets` are None for methods that need no layers, or no teacher.
    """

    method: Method
    options: TrainingOptions
    matcher: nn.Module
    sizes: Sizes | None = None
    targets: TeacherTargets | None = None

    def weights(self, epoch: int) -> LossWeights:
        """The weights of the three parts in an epoch."""
        if not self.method.teaches:
            return TASK_ONLY
        if self.method.states is None:
            return OUTPUTS
        options = self.options
        return loss_weights(epoch, epochs=options.epochs, ild_start=options.ild_start, curriculum=options.curriculum)

    def layer_map(self, epoch: int, step: int) -> Float[Tensor, "student teacher"] | None:
        """The map of a step; random ones depend on the seed, the epoch and, if drawn by the step, the step alone."""
        if self.method.states is None:
            return None
        kind = self.options.layer_map or self.method.layer_map
        names = (epoch, step) if kind == "random-step" else (epoch,)
        draws = generator(self.options.seed, "layers", *names)
        return map_layers(kind, self.sizes.teacher_blocks, self.sizes.student_blocks, draws)

    def losses(
        self, reading: Reading, batch: Batch, weights: LossWeights, layer_map: Float[Tensor, "student teacher"] | None
    ) -> dict[str, Float[Tensor, ""]]:
        """The parts with a weight above zero, by their names in `LossWeights`, and their weighted sum, `total`."""
        parts = {"task": task_loss(reading.outputs, batch.targets)}
        if weights.outputs:
            parts["outputs"] = output_loss(self.targets.outputs[batch.items], reading.outputs, self.options.temperature)
        if weights.layers:
            mask = batch.mask if self.options.padding == "masked" else batch.mask.new_ones(batch.mask.shape)
            student = getattr(reading, self.method.states)
            parts["layers"] = self.matcher(self.targets.states(batch), student, mask, layer_map.to(student))
        total = sum(weights._asdict()[name] * loss for name, loss in parts.items())
        return {**parts, "total": total}
