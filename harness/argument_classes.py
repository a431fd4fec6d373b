"""Which of the trainers' arguments must be equal in every stage, and which are free, with the reason.

Every argument that a config may set stands in exactly one of the two; a test holds that, so that a new one of TRL must be thought of.
"""

from __future__ import annotations

# They change an update, or what a step costs. A trainer that lacks one works as the others do by default.
EQUAL = frozenset((
    "accelerator_config", "activation_checkpointing_kwargs", "activation_offloading", "adam_beta1", "adam_beta2",
    "adam_epsilon", "average_tokens_across_devices", "dataloader_in_order", "dataloader_multiprocessing_context",
    "dataloader_num_workers", "dataloader_persistent_workers", "dataloader_pin_memory", "dataloader_prefetch_factor",
    "ddp_backend", "ddp_broadcast_buffers", "ddp_bucket_cap_mb", "ddp_find_unused_parameters", "ddp_static_graph",
    "ddp_timeout", "debug", "deepspeed", "fsdp", "fsdp_config", "full_determinism", "gradient_checkpointing_kwargs",
    "include_num_input_tokens_seen", "liger_kernel_config", "loss_type", "lr_scheduler_kwargs", "lr_scheduler_type",
    "max_grad_norm", "max_steps", "neftune_noise_alpha", "num_train_epochs", "optim", "optim_args",
    "optim_target_modules", "pad_to_multiple_of", "parallelism_config", "router_aux_loss_coef", "skip_memory_metrics",
    "tf32", "torch_compile", "torch_compile_backend", "torch_compile_mode", "torch_empty_cache_steps", "use_cache",
    "use_liger_kernel", "warmup_steps", "weight_decay",
))  # fmt: skip

_SCALE = "the scale, and each loss has its own"
_OWN_LOSS = "of DPO's own loss"
_OWN_REFERENCE = "of DPO's own reference model"
_WRITTEN = "where and how much is written"
FREE = {
    "learning_rate": _SCALE,
    "beta": _SCALE,
    "discopop_tau": _OWN_LOSS,
    "f_alpha_divergence_coef": _OWN_LOSS,
    "f_divergence_type": _OWN_LOSS,
    "label_smoothing": _OWN_LOSS,
    "ld_alpha": _OWN_LOSS,
    "loss_weights": _OWN_LOSS,
    "use_weighting": _OWN_LOSS,
    "ref_model_mixup_alpha": _OWN_REFERENCE,
    "ref_model_sync_steps": _OWN_REFERENCE,
    "sync_ref_model": _OWN_REFERENCE,
    "log_level": _WRITTEN,
    "log_level_replica": _WRITTEN,
    "log_on_each_node": _WRITTEN,
    "project": _WRITTEN,
    "report_to": _WRITTEN,
    "run_name": _WRITTEN,
    "trackio_bucket_id": _WRITTEN,
    "trackio_space_id": _WRITTEN,
    "trackio_static_space_id": _WRITTEN,
}

# SFT's `loss_type` makes its likelihood another than ORPO's; DPO's argument of this name chooses among losses of its own.
ANOTHER_OF_DPO = "loss_type"

# What the harness sets (`trainer_fields.INSTEAD`) is compared as well, but for what differs from trial to trial, or has a check of its own.
SET_BY_STAGE = frozenset((
    "bf16", "data_seed", "gradient_accumulation_steps", "output_dir", "per_device_train_batch_size", "seed",
))  # fmt: skip
