"""What a training run is made of, as data: :class:`Recipe`, its keys and what each one means."""

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

_Value = TypeVar("_Value")


def key(default: _Value, meaning: str, also: tuple[str, ...] = ()) -> _Value:
    """A key of the recipe.

    Args:
        default: Its value where nothing is said.
        meaning: One sentence; what ``--help`` prints.
        also: Other spellings of its option.
    """
    metadata = {"meaning": meaning, "also": also}
    # A field to dataclass, a value of the key's type to everybody else.
    field: Any = dataclasses.field(default=default, metadata=metadata)
    return field  # type: ignore[no-any-return]


SECTIONS = {
    "model": "Model",
    "mode": "Run",
    "data_dir": "Images",
    "image_resize": "Augmentation",
    "loss": "Loss",
    "epoch_size": "Epochs and learning rate",
    "opt": "Optimizer",
    "amp_level": "Mixed precision",
    "val_while_train": "Validation and checkpoints",
}
"""First key of a section, in :class:`Recipe`'s order -> the section's title."""


@dataclass(frozen=True)
class Recipe:
    """What a training run is made of; each key says what it is in its ``meaning``.

    Keys that MindCV has bear its names and mean what they mean there. The defaults are what all
    of MindCV's PVT recipes agree on, and MindCV 0.3.0's own for what they leave out, so that its
    files are read as they are; ``amp_level`` alone is O0, which every device can do, and
    validation is on.
    """

    model: str = dataclasses.field(
        metadata={"meaning": "A variant, as pvt_tiny or pvt_v2_b0.", "also": ()}
    )
    profile: str | None = key(
        None, "The maths: official, mindcv or hf; by default the pretrained file's, else official."
    )
    in_channels: int = key(3, "Channels of the input: 3 is RGB, 1 is grey.")
    num_classes: int | None = key(None, "Number of classes; by default those of the folder.")
    drop_path_rate: float = key(0.1, "Stochastic depth of the last block.")
    pretrained: str = key("", "Model file of any format to start from; the head may be another.")
    ckpt_path: str = key(
        "", "State file, or folder of a run, to take up where it stopped.", ("--resume",)
    )
    freeze: tuple[str, ...] = key(
        (), "Patterns of tensors that stay, as 'patch_embed1.*,block1.*'."
    )

    mode: int = key(0, "0 compiles the whole step into a graph, 1 runs it op by op (pynative).")
    device_target: str | None = key(None, "Ascend, GPU or CPU; by default what is there.")
    distribute: bool = key(False, "Train on several workers, under msrun or mpirun.")
    seed: int = key(42, "Everything random is a function of it.")
    log_interval: int = key(100, "Steps between two lines of the log within an epoch.")

    data_dir: str = key("", "Folder of the splits: class folders of images, or tar files.")
    train_split: str = key("train", "Folder in data_dir to train on.")
    val_split: str = key("val", "Folder in data_dir to validate on.")
    num_parallel_workers: int = key(8, "Processes per device that read images; 0 is none.")
    shuffle: bool = key(True, "Whether each epoch has its own order of images.")
    num_samples: int | None = key(None, "Images to train on; by default all.")
    batch_size: int = key(128, "Images per device and forward pass.")
    max_unreadable: int = key(10, "Unreadable images per epoch that are replaced by others.")

    image_resize: int | None = key(None, "Side of the square input in pixels; by default 224.")
    scale: tuple[float, float] = key(
        (0.08, 1.0), "Smallest and largest share of the image's area in a training crop."
    )
    ratio: tuple[float, float] = key(
        (0.75, 1.333), "Smallest and largest width / height of a training crop."
    )
    interpolation: str = key("bicubic", "Of training images: bicubic or bilinear.")
    hflip: float = key(0.5, "Probability that an image is mirrored left to right.")
    vflip: float = key(0.0, "Probability that an image is mirrored top to bottom.")
    color_jitter: float | tuple[float, ...] | None = key(
        0.4,
        "Strength of changes to brightness, contrast and saturation, one number or three; without "
        "auto_augment only.",
    )
    auto_augment: str | None = key(
        "randaug-m9-mstd0.5-inc1", "RandAugment, as randaug-m9-mstd0.5-inc1, or null."
    )
    re_prob: float = key(0.25, "Probability that a box of an image is erased.")
    re_scale: tuple[float, float] = key((0.02, 0.33), "Smallest and largest share of that box.")
    re_ratio: tuple[float, float] = key((0.3, 3.3), "Its smallest and largest width / height.")
    re_value: float | str = key(
        0.0,
        "What it is filled with: a number in normalised units, random (each pixel; so is pixel) "
        "or rand (one colour).",
    )
    re_max_attempts: int = key(10, "How often a box is drawn before the image stays as it is.")
    aug_repeats: int = key(0, "How often an epoch has each of its images; 0 and 1 are once.")
    mixup: float = key(0.8, "Alpha of mixup's Beta distribution; 0 is off.")
    cutmix: float = key(1.0, "Alpha of CutMix's Beta distribution; 0 is off.")
    cutmix_prob: float = key(1.0, "Probability that a batch is mixed at all, by either.")
    mixup_switch_prob: float = key(0.5, "Share of mixed batches that are CutMix, with both on.")
    mean: tuple[float, ...] | None = key(
        None, "Subtracted per channel, in 0..255; by default ImageNet's."
    )
    std: tuple[float, ...] | None = key(
        None, "Divided by per channel, in 0..255; by default ImageNet's."
    )
    crop_pct: float | None = key(
        None, "Share that the evaluation crop keeps; by default the profile's own."
    )

    loss: str = key("CE", "Cross-entropy, CE; there is no other.")
    label_smoothing: float = key(0.1, "Share of the target that is spread over all classes.")

    epoch_size: int = key(450, "Number of epochs.")
    scheduler: str = key(
        "cosine_decay",
        "How the learning rate falls: cosine_decay, deit_cosine, step_decay, multi_step_decay, "
        "exponential_decay, polynomial_decay or constant.",
    )
    lr: float = key(5e-4, "Learning rate at the end of the warm-up, for the global batch.")
    min_lr: float = key(1e-6, "Learning rate that the cosine comes down to.")
    warmup_epochs: int = key(10, "Epochs in which the learning rate rises.")
    warmup_factor: float = key(0.0, "Where it rises from, as a share of lr.")
    decay_epochs: int | None = key(
        None, "Epochs of the cosine or between steps; by default all after the warm-up."
    )
    decay_rate: float = key(
        0.9, "Factor of the steps and of the exponential; the polynomial's power."
    )
    multi_step_decay_milestones: tuple[int, ...] = key(
        (30, 60, 90), "Epochs after the warm-up at which multi_step_decay steps."
    )
    lr_epoch_stair: bool = key(False, "Whether the rate stays the same within an epoch.")
    num_cycles: int = key(1, "Cosines one after the other.")
    cycle_decay: float = key(1.0, "Factor from one cosine's start to the next one's.")

    opt: str = key("adamw", "adamw, sgd, momentum or lamb.")
    weight_decay: float = key(0.05, "Of the tensors that decay.")
    weight_decay_filter: str = key(
        "disable",
        "What does not decay: disable is nothing, norm_and_bias, auto the norms, "
        "vectors_and_cls_token as in the official code.",
    )
    layer_decay: float | None = key(
        None, "Factor of the learning rate from a layer to the one before it."
    )
    momentum: float = key(0.9, "Of sgd and momentum.")
    use_nesterov: bool = key(False, "Nesterov's form of it.")
    eps: float = key(1e-8, "Added to the root of the second moment in adamw and lamb.")
    clip_grad: bool = key(False, "Whether the gradient is clipped to a global norm.")
    clip_value: float = key(15.0, "That norm.")
    gradient_accumulation_steps: int = key(1, "Batches per update of the weights.")
    ema: bool = key(False, "Whether a moving average of the weights is kept, and validated.")
    ema_decay: float = key(
        0.9999,
        "Share of the average that stays at each update, times 1 - exp(-updates / 2000) at first.",
    )

    amp_level: str = key(
        "O0",
        "What computes in float16: O0 nothing, O1 linear layers and convolutions, O2 all but the "
        "norms, O3 all.",
    )
    loss_scale_type: str = key(
        "fixed", "fixed, dynamic, or auto: at O2 dynamic from 2**24, else 1."
    )
    loss_scale: float = key(1.0, "The fixed loss scale, or the first of a dynamic one.")
    loss_scale_factor: float = key(2.0, "A dynamic loss scale is multiplied or divided by it.")
    scale_window: int = key(2000, "Finite updates after which a dynamic loss scale rises.")
    drop_overflow_update: bool = key(
        False, "Taken for MindCV's files: an update that is not finite is always left out."
    )

    val_while_train: bool = key(True, "Whether to validate while training.")
    val_interval: int = key(1, "Epochs between validations.")
    ckpt_save_dir: str = key("./ckpt", "Folder of the run.", ("--output",))
    ckpt_save_interval: int = key(1, "Epochs between checkpoints.")
    ckpt_save_policy: str = key("latest_k", "Which checkpoints stay: latest_k, top_k or all.")
    keep_checkpoint_max: int = key(10, "How many of them, unless all.")
