"""What other programs call a recipe's keys, for who writes theirs.

Sources: the options of timm's, DeiT's and torchvision's training scripts, and the arguments of
Hugging Face's Trainer and of Lightning's.
"""

from collections.abc import Iterable

from pvt_spec.files.limits import MAX_NEAR
from pvt_spec.words import nearest

SYNONYMS: dict[str, str] = {
    "model": "arch architecture model_name net variant",
    "pretrained": "finetune init_checkpoint initial_checkpoint load_from weights",
    "num_classes": "classes n_classes nb_classes num_labels",
    "in_channels": "channels in_chans num_channels",
    "drop_path_rate": "drop_path stochastic_depth",
    "ckpt_path": "resume_from resume_from_checkpoint",
    "compile": "compile_model torch_compile torchcompile",
    "checkpoint_blocks": "activation_checkpointing grad_checkpointing gradient_checkpointing",
    "deterministic": "cudnn_deterministic use_deterministic_algorithms",
    "device_target": "accelerator device",
    "distribute": "distributed",
    "seed": "random_seed random_state",
    "log_interval": "log_every_n_steps logging_steps print_freq",
    "data_dir": "data data_path data_root dataset_dir root",
    "num_parallel_workers": "dataloader_num_workers num_workers workers",
    "num_samples": "max_samples max_train_samples",
    "batch_size": "batch bs per_device_train_batch_size train_batch_size",
    "image_resize": "image_size img_size imgsz input_size resolution",
    "auto_augment": "aa autoaugment rand_augment randaugment",
    "re_prob": "erasing random_erase reprob",
    "aug_repeats": "ra_reps repeated_aug",
    "mixup": "mixup_alpha",
    "cutmix": "cutmix_alpha",
    "cutmix_prob": "mixup_prob",
    "label_smoothing": "label_smoothing_factor smoothing",
    "epoch_size": "epoch epochs max_epochs n_epochs num_epochs num_train_epochs",
    "scheduler": "lr_scheduler lr_scheduler_type sched",
    "lr": "base_lr learning_rate",
    "min_lr": "eta_min lr_min",
    "warmup_epochs": "lr_warmup_epochs warmup",
    "opt": "optim optimizer",
    "weight_decay": "wd",
    "clip_value": "clip clip_norm gradient_clip_val max_grad_norm",
    "gradient_accumulation_steps": "accum_iter accumulate_grad_batches grad_accum_steps",
    "ema": "model_ema use_ema",
    "ema_decay": "model_ema_decay",
    "amp_level": "amp bf16 fp16 mixed_precision precision",
    "tf32": "allow_tf32",
    "fused_attention": "fused_attn sdpa",
    "channels_last": "memory_format",
    "val_interval": "check_val_every_n_epoch eval_freq eval_interval",
    "ckpt_save_dir": "default_root_dir out_dir output_dir save_dir work_dir",
    "ckpt_save_interval": "save_freq save_interval",
    "keep_checkpoint_max": "checkpoint_hist save_total_limit",
}
"""Key -> its other names, in between spaces."""


def nearest_key(name: str, keys: Iterable[str], cutoff: float = 0.0) -> str | None:
    """Returns the key that a name means which is none: spelt most like it, here or elsewhere.

    Args:
        name: The name, with dashes or underscores.
        keys: All keys.
        cutoff: How like it the key must be, from 0 to 1.
    """
    name = name.strip("-").replace("-", "_").lower()
    meant = {other: key for key, others in SYNONYMS.items() for other in others.split()}
    meant |= {key: key for key in keys}
    near = nearest(name[:MAX_NEAR], meant, cutoff)
    return meant[near] if near else None
