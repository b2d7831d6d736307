"""What a training run is made of, as one table: :class:`Recipe`, a row for each key."""

from dataclasses import dataclass
from math import inf, isfinite
from typing import Literal

from pvt_train.recipe.rows import REQUIRED, Check, key, read_rows


def at_least(least: float) -> Check:
    """Returns the check of a finite number that is not below ``least``."""
    return Check(lambda value: least <= value < inf, f"at least {least:g}")


positive = Check(lambda value: 0 < value < inf, "more than 0")
above_one = Check(lambda value: 1 < value < inf, "more than 1")
share = Check(lambda value: 0 <= value <= 1, "0 to 1")
below_one = Check(lambda value: 0 <= value < 1, "0 <= share < 1")
factor = Check(lambda value: 0 < value <= 1, "more than 0, up to 1")
area = Check(lambda pair: 0 < pair[0] <= pair[1] <= 1, "0 < smallest <= largest <= 1")
shape = Check(
    lambda pair: 1e-9 <= pair[0] <= pair[1] <= 1e9, "0 < smallest <= largest, of 1e-9 to 1e9"
)
all_finite = Check(lambda values: all(map(isfinite, values)), "finite numbers")
all_positive = Check(lambda values: all(0 < one < inf for one in values), "more than 0 each")
not_many = Check(lambda patterns: len(patterns) <= 1000, "at most 1,000 patterns")
not_negative = Check(lambda values: all(one >= 0 for one in values), "at least 0 each")


# Why a run cannot go on with another value of a key.
WEIGHTS = "it decides which weights there are, or what they compute"
READ = "it is what the weights were trained to read"
MOMENTS = "the saved moments are those of the tensors that were trained"
STATE = "the saved moments or averages are of the old one"
PLACE = "it decides which images a step has and what is drawn for it"


@dataclass(frozen=True)
class Recipe:
    """What a training run is made of; each key says what it is in its ``meaning``.

    Keys that MindCV has bear its names and mean what they mean there. The defaults are what all
    of MindCV's PVT recipes agree on, and MindCV 0.3.0's own for what they leave out, so that its
    files are read as they are; ``amp_level`` alone is O0, which every device can do, and
    validation is on.
    """

    model: str = key(
        REQUIRED,
        "A variant, as pvt_tiny or pvt_v2_b0; by default the pretrained file's.",
        on_resume=WEIGHTS,
        section="Model",
    )
    profile: Literal["official", "mindcv", "hf"] | None = key(
        None,
        "The maths: official, mindcv or hf; by default the pretrained file's, else official.",
        on_resume=WEIGHTS,
    )
    in_channels: int = key(
        3, "Channels of the input: 3 is RGB, 1 is grey.", check=at_least(1), on_resume=WEIGHTS
    )
    num_classes: int | None = key(
        None,
        "Number of classes; by default those of the folder.",
        check=at_least(1),
        on_resume=WEIGHTS,
    )
    drop_path_rate: float = key(0.1, "Stochastic depth of the last block.")
    pretrained: str = key(
        "",
        "Model file of any format, or hub:NAME, to start from; the head may be another.",
        words={False: "", None: "", "False": "", "True": True},
        takes="a model file or hub:NAME, of those that convert hub lists (give --pretrained "
        "hub:NAME), or False",
    )
    pretrained_weights: Literal["raw", "ema"] = key(
        "raw", "Which weights of it: raw, as trained, or ema, averaged."
    )
    ckpt_path: str = key(
        "",
        "State file, or folder of a run, to take up where it stopped.",
        also=("--resume",),
        words={None: ""},
    )
    freeze: tuple[str, ...] = key(
        (),
        "Patterns of tensors that stay, as 'patch_embed1.*,block1.*'.",
        check=not_many,
        on_resume=MOMENTS,
    )

    mode: int = key(
        0,
        "In MindSpore, 0 compiles the whole step into a graph, 1 runs it op by op (pynative).",
        check=Check((0, 1).__contains__, "0 (graph) or 1 (pynative)"),
        words={"graph": 0, "pynative": 1},
        section="Run",
    )
    compile: bool = key(
        False,
        "In PyTorch, whether torch.compile compiles the step (PyTorch alone).",
        alone={True: "PyTorch"},
    )
    checkpoint_blocks: bool = key(
        False,
        "Whether backward computes blocks again instead of keeping them in memory (PyTorch alone).",
        alone={True: "PyTorch"},
    )
    deterministic: bool = key(
        False,
        "Whether a GPU, too, gives the same bits twice, or says why not (PyTorch alone).",
        alone={True: "PyTorch"},
    )
    device_target: Literal["Ascend", "GPU", "CPU"] | None = key(
        None,
        "Ascend (MindSpore alone), GPU or CPU; by default what is there.",
        alone={"Ascend": "MindSpore"},
    )
    distribute: bool = key(False, "Train on several workers, under msrun, mpirun or torchrun.")
    seed: int = key(
        42, "Everything random is a function of it.", check=at_least(0), on_resume=PLACE
    )
    log_interval: int = key(
        100, "Steps between two lines of the log within an epoch.", check=at_least(1)
    )

    data_dir: str = key(
        "", "Folder of the splits: class folders of images, or tar files.", section="Images"
    )
    train_split: str = key("train", "Folder in data_dir to train on.")
    val_split: str = key("val", "Folder in data_dir to validate on.")
    num_parallel_workers: int = key(
        8, "Processes per device that read images; 0 is none.", check=at_least(0)
    )
    shuffle: bool = key(True, "Whether each epoch has its own order of images.", on_resume=PLACE)
    num_samples: int | None = key(
        None, "Images to train on; by default all.", check=at_least(1), on_resume=PLACE
    )
    batch_size: int = key(128, "Images per device and forward pass.", check=at_least(1))
    max_unreadable: int = key(
        10, "Unreadable images per epoch that are replaced by others.", check=at_least(0)
    )

    image_resize: int | None = key(
        None,
        "Side of the square input in pixels; by default 224.",
        on_resume=WEIGHTS,
        section="Augmentation",
    )
    scale: tuple[float, float] = key(
        (0.08, 1.0),
        "Smallest and largest share of the image's area in a training crop.",
        check=area,
    )
    ratio: tuple[float, float] = key(
        (0.75, 1.333), "Smallest and largest width / height of a training crop.", check=shape
    )
    interpolation: Literal["bicubic", "bilinear"] = key(
        "bicubic", "Of training images: bicubic or bilinear."
    )
    hflip: float = key(0.5, "Probability that an image is mirrored left to right.", check=share)
    vflip: float = key(0.0, "Probability that an image is mirrored top to bottom.", check=share)
    color_jitter: float | tuple[float, ...] | None = key(
        0.4,
        "Strength of changes to brightness, contrast and saturation, one number or three; without "
        "auto_augment only.",
    )
    auto_augment: str | None = key(
        "randaug-m9-mstd0.5-inc1", "RandAugment, as randaug-m9-mstd0.5-inc1, or null."
    )
    re_prob: float = key(0.25, "Probability that a box of an image is erased.", check=share)
    re_scale: tuple[float, float] = key(
        (0.02, 0.33), "Smallest and largest share of that box.", check=area
    )
    re_ratio: tuple[float, float] = key(
        (0.3, 3.3), "Its smallest and largest width / height.", check=shape
    )
    re_value: float | str = key(
        0.0,
        "What it is filled with: a number in normalised units, random (each pixel; so is pixel) "
        "or rand (one colour).",
    )
    re_max_attempts: int = key(
        10,
        "How often a box is drawn before the image stays as it is.",
        check=Check(range(1, 1001).__contains__, "1 to 1,000"),
    )
    aug_repeats: int = key(
        0,
        "How often an epoch has each of its images; 0 and 1 are once.",
        check=at_least(0),
        on_resume=PLACE,
    )
    mixup: float = key(0.8, "Alpha of mixup's Beta distribution; 0 is off.", check=at_least(0))
    cutmix: float = key(1.0, "Alpha of CutMix's Beta distribution; 0 is off.", check=at_least(0))
    cutmix_prob: float = key(
        1.0, "Probability that a batch is mixed at all, by either.", check=share
    )
    mixup_switch_prob: float = key(
        0.5, "Share of mixed batches that are CutMix, with both on.", check=share
    )
    mean: tuple[float, ...] | None = key(
        None,
        "Subtracted per channel, in 0..255; by default ImageNet's.",
        check=all_finite,
        on_resume=READ,
    )
    std: tuple[float, ...] | None = key(
        None,
        "Divided by per channel, in 0..255; by default ImageNet's.",
        check=all_positive,
        on_resume=READ,
    )
    crop_pct: float | None = key(
        None, "Share that the evaluation crop keeps; by default the profile's own.", check=factor
    )

    loss: Literal["CE"] = key(
        "CE", "Cross-entropy, CE; there is no other.", words={"ce": "CE"}, section="Loss"
    )
    label_smoothing: float = key(
        0.1, "Share of the target that is spread over all classes.", check=below_one
    )

    epoch_size: int = key(
        450, "Number of epochs.", check=at_least(1), section="Epochs and learning rate"
    )
    # MindCV's create_scheduler takes warmup_cosine_decay too; its first PVT files have it.
    scheduler: Literal[
        "cosine_decay",
        "step_decay",
        "multi_step_decay",
        "exponential_decay",
        "polynomial_decay",
        "constant",
        "deit_cosine",
    ] = key(
        "cosine_decay",
        "How the learning rate falls: cosine_decay, deit_cosine, step_decay, multi_step_decay, "
        "exponential_decay, polynomial_decay or constant.",
        words={"warmup_cosine_decay": "cosine_decay"},
    )
    lr: float = key(
        5e-4, "Learning rate at the end of the warm-up, for the global batch.", check=positive
    )
    min_lr: float = key(1e-6, "Learning rate that the cosine comes down to.", check=at_least(0))
    warmup_epochs: int | None = key(
        None,
        "Epochs in which the learning rate rises; by default 10, or a tenth of a shorter run.",
        check=at_least(0),
    )
    warmup_factor: float = key(0.0, "Where it rises from, as a share of lr.", check=share)
    decay_epochs: int | None = key(
        None,
        "Epochs of the cosine or between steps; by default all after the warm-up.",
        check=at_least(1),
    )
    decay_rate: float = key(
        0.9, "Factor of the steps and of the exponential; the polynomial's power.", check=positive
    )
    multi_step_decay_milestones: tuple[int, ...] = key(
        (30, 60, 90),
        "Epochs after the warm-up at which multi_step_decay steps.",
        check=not_negative,
    )
    lr_epoch_stair: bool = key(False, "Whether the rate stays the same within an epoch.")
    num_cycles: int = key(1, "Cosines one after the other.", check=at_least(1))
    cycle_decay: float = key(1.0, "Factor from one cosine's start to the next one's.", check=factor)

    # Loshchilov and Hutter (ICLR 2019); MindSpore's nn.SGD and nn.Momentum; You et al. (ICLR 2020).
    opt: Literal["adamw", "sgd", "momentum", "lamb"] = key(
        "adamw", "adamw, sgd, momentum or lamb.", on_resume=STATE, section="Optimizer"
    )
    weight_decay: float = key(0.05, "Of the tensors that decay.", check=at_least(0))
    weight_decay_filter: Literal["disable", "norm_and_bias", "auto", "vectors_and_cls_token"] = key(
        "disable",
        "What does not decay: disable is nothing, norm_and_bias, auto the norms, "
        "vectors_and_cls_token as in the official code.",
    )
    layer_decay: float | None = key(
        None, "Factor of the learning rate from a layer to the one before it.", check=factor
    )
    momentum: float = key(0.9, "Of sgd and momentum.", check=below_one)
    use_nesterov: bool = key(False, "Nesterov's form of it.")
    # timm's, DeiT's and PVT's opt_eps, and what MindCV's AdamW has: MindCV's own key eps (1e-10)
    # goes to its RMSProp alone. MindSpore's Lamb has 1e-6.
    eps: float = key(
        1e-8, "Added to the root of the second moment in adamw and lamb.", check=positive
    )
    clip_grad: bool = key(False, "Whether the gradient is clipped to a global norm.")
    clip_value: float = key(15.0, "That norm.", check=positive)
    gradient_accumulation_steps: int = key(
        1, "Batches per update of the weights.", check=at_least(1)
    )
    ema: bool = key(
        False, "Whether a moving average of the weights is kept, and validated.", on_resume=STATE
    )
    ema_decay: float = key(
        0.9999,
        "Share of the average that stays at each update, times 1 - exp(-updates / 2000) at first.",
        check=below_one,
    )

    amp_level: Literal["O0", "O1", "O2", "O3", "bf16"] = key(
        "O0",
        "What computes in float16: O0 nothing, O1 linear layers and convolutions, O2 all but the "
        "norms, O3 all; bf16 is torch's autocast to bfloat16 (PyTorch alone).",
        alone={"bf16": "PyTorch"},
        section="Mixed precision",
    )
    tf32: bool = key(
        False,
        "Whether GPUs multiply float32 with 11 bits (TF32; PyTorch alone).",
        alone={True: "PyTorch"},
    )
    fused_attention: bool = key(
        False,
        "Whether scaled_dot_product_attention takes the place of two products and a softmax "
        "(PyTorch alone).",
        alone={True: "PyTorch"},
    )
    channels_last: bool = key(
        False,
        "Whether the weights of convolutions lie in memory as activations do (PyTorch alone).",
        alone={True: "PyTorch"},
    )
    loss_scale_type: Literal["fixed", "dynamic", "auto"] = key(
        "fixed", "fixed, dynamic, or auto: at O2 dynamic from 2**24, else 1."
    )
    loss_scale: float = key(
        1.0, "The fixed loss scale, or the first of a dynamic one.", check=at_least(1)
    )
    loss_scale_factor: float = key(
        2.0, "A dynamic loss scale is multiplied or divided by it.", check=above_one
    )
    scale_window: int = key(
        2000, "Finite updates after which a dynamic loss scale rises.", check=at_least(1)
    )
    drop_overflow_update: bool = key(
        False, "Taken for MindCV's files: an update that is not finite is always left out."
    )

    val_while_train: bool = key(
        True, "Whether to validate while training.", section="Validation and checkpoints"
    )
    val_interval: int = key(1, "Epochs between validations.", check=at_least(1))
    ckpt_save_dir: str = key(
        "./ckpt", "Folder of the run.", check=Check(bool, "a folder"), also=("--output",)
    )
    ckpt_save_interval: int = key(1, "Epochs between checkpoints.", check=at_least(1))
    ckpt_save_policy: Literal["latest_k", "top_k", "all"] = key(
        "latest_k", "Which checkpoints stay: latest_k, top_k or all.", words={None: "all"}
    )
    keep_checkpoint_max: int = key(10, "How many of them, unless all.", check=at_least(1))


ROWS = read_rows(Recipe)
"""Key -> its row, in order."""
