"""What is planted, by which check it is caught, and in which words. `docs/fairness.md` has the same tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipelines.training.recording import SAMPLED_STEPS
from tests.harness.audit.arms import SFT_DATA, Arms
from tests.harness.audit.planted import (
    a_last_partial_batch_dropped,
    a_point_more_for_one_arm,
    a_recording_cut_short,
    a_recording_deleted,
    a_schedule_for_twice_the_steps,
    a_second_eos,
    a_test_pair_reaches_the_model,
    a_test_prompt_in_sft_data,
    a_test_prompt_in_train,
    a_test_prompt_in_train_but_for_its_case,
    accumulation_ignored,
    an_empty_completion,
    an_empty_completion_in_dpo,
    an_empty_recording,
    an_extra_bos,
    another_base_revision,
    another_length_limit_in_evaluation,
    another_length_limit_of_a_judge,
    another_library_version,
    another_loss_in_sft,
    another_machine,
    another_precision,
    another_share_than_the_settings_say,
    another_shuffle_seed,
    another_shuffle_seed_within_an_epoch,
    another_template,
    as_many_warm_up_steps_in_stages_of_other_lengths,
    clipping_off,
    dpo_from_the_base,
    fewer_items_in_evaluation,
    hashes_of_the_prepared_pairs_deleted,
    lora_on_fewer_modules,
    masks_over_the_prompt,
    more_epochs,
    pairs_of_one_stage_only,
    rows_dropped_in_one_arm,
    seconds_by_a_wrong_calibration,
    stopped_early,
    the_base_as_reference,
    the_base_as_reference_of_an_adapter,
    the_rejected_replies_of_one_batch_dropped,
    the_same_pairs_in_every_step,
    tokens_matched_by_pairs,
    twice_the_tuning_points,
)
from tests.harness.audit.warned import (
    a_machine_shared_with_others,
    a_point_never_run,
    a_point_out_of_memory,
    a_stage_from_before_there_was_a_recorder,
    bfloat16_weights_updated_in_bfloat16,
    clipping_off_as_declared,
    dpo_as_it_ships,
    every_16th_step_recorded,
    few_weights_changed,
    more_epochs_as_declared,
    orpo_as_it_ships,
    twice_the_tuning_points_as_declared,
)


@dataclass(frozen=True)
class Planted:
    """Something unequal, the check that is meant for it, and those that look at the same thing and say so as well."""

    plant: Callable[[Arms], None]
    check: str
    also: tuple[str, ...] = ()
    evidence: str = ""

    @property
    def words(self) -> str:
        """Such as `an extra bos`."""
        return self.plant.__name__.replace("_", " ")


PLANTED = (
    Planted(an_extra_bos, "same_ids", evidence="orpo seed 0: orpo .* tokens, .* were prepared"),
    Planted(a_second_eos, "one_end_of_turn", ("same_ids",), "has 2 after its prompt"),
    Planted(rows_dropped_in_one_arm, "same_pairs", evidence="7 rows in its trainer, 10 prepared"),
    Planted(an_empty_completion, "no_empty_completion", evidence="sft .* 2 of 20 sequences have nothing"),
    Planted(
        an_empty_completion_in_dpo,
        "no_empty_completion",
        ("same_ids", "one_end_of_turn"),
        "dpo .* 2 of 40 sequences have nothing that the loss covers .first: step 2, chosen of pair train-0003",
    ),
    Planted(masks_over_the_prompt, "same_masks", evidence="positions 1-.*, not"),
    Planted(another_shuffle_seed, "same_order", evidence="orpo .* another than in|another than in orpo"),
    Planted(another_shuffle_seed_within_an_epoch, "same_order", evidence="pair number 1 is another than in"),
    Planted(
        the_same_pairs_in_every_step,
        "same_pairs",
        ("same_order",),
        "10 of 10 prepared pairs came more or less often",
    ),
    Planted(
        a_recording_cut_short,
        "recorded",
        evidence="20 sequences of 10 pairs in 3 steps, the model got 40 of 20 in 6",
    ),
    Planted(an_empty_recording, "recorded", evidence="orpo-0+.: its batches.jsonl is empty or not there"),
    Planted(a_recording_deleted, "recorded", evidence="dpo-0+.: its batches.jsonl is empty or not there"),
    Planted(
        hashes_of_the_prepared_pairs_deleted,
        "recorded",
        evidence="pairs.jsonl, which it would be held against, is empty or not there",
    ),
    Planted(
        the_rejected_replies_of_one_batch_dropped,
        "same_pairs",
        ("recorded",),
        r"dpo \(dpo-0+\): 2 of 20 pairs came with one of their replies alone \(first: step 1, pair train-",
    ),
    Planted(another_template, "same_ids", evidence="is no prepared pair's"),
    Planted(another_base_revision, "same_base_weights", evidence="starts from"),
    Planted(
        a_last_partial_batch_dropped,
        "no_dropped_batch",
        ("same_pairs", "same_order", "budget_matched", "same_settings"),
        "16 pairs reached the model, its 10 rows make 20",
    ),
    Planted(accumulation_ignored, "same_effective_batch", evidence="step 1 has 2 pairs, not 4"),
    Planted(lora_on_fewer_modules, "same_precision_and_adapter", evidence="q_proj"),
    Planted(another_precision, "same_precision_and_adapter", evidence="bfloat16 in orpo"),
    Planted(clipping_off, "same_settings", evidence=r"max_grad_norm is 0\.0 in orpo"),
    Planted(another_loss_in_sft, "same_settings", evidence=r"loss_type is nll in orpo .* dft in sft-dpo"),
    Planted(
        as_many_warm_up_steps_in_stages_of_other_lengths,
        "same_settings",
        evidence="the warm-up is 2 of 6 steps in orpo .*, 2 of 3 steps in sft-dpo",
    ),
    Planted(a_schedule_for_twice_the_steps, "schedule_ended", evidence="is still 58% of the highest"),
    Planted(
        stopped_early, "schedule_ended", ("no_dropped_batch", "budget_matched"), "stopped at step 2 of 6"
    ),
    Planted(the_base_as_reference, "reference_is_sft_policy", evidence="its reference is not the policy of"),
    Planted(
        the_base_as_reference_of_an_adapter,
        "reference_is_sft_policy",
        evidence="its reference is not the policy of",
    ),
    Planted(dpo_from_the_base, "reference_is_sft_policy", evidence="its policy is not the policy of"),
    Planted(more_epochs, "budget_matched", ("same_settings",), "3 epochs in orpo"),
    Planted(
        pairs_of_one_stage_only, "budget_matched", evidence="40 pairs in sft-dpo seed 0, 20 in orpo seed 0"
    ),
    Planted(
        tokens_matched_by_pairs, "budget_matched", evidence="tokens in sft-dpo seed 0, .* in orpo seed 0"
    ),
    Planted(
        seconds_by_a_wrong_calibration,
        "budget_matched",
        evidence="103 s of training in sft-dpo, 100 in orpo: 3.0% apart",
    ),
    Planted(a_test_prompt_in_train, "no_test_prompt_in_training", evidence="as it is"),
    Planted(
        a_test_prompt_in_train_but_for_its_case,
        "no_test_prompt_in_training",
        evidence="but for case, spacing",
    ),
    Planted(
        a_test_prompt_in_sft_data,
        "no_test_prompt_in_training",
        evidence=f"{SFT_DATA}: 1 test prompts are in the training split as it is",
    ),
    Planted(
        a_test_pair_reaches_the_model,
        "no_test_prompt_in_training",
        ("same_ids",),
        "4 of 40 sequences are of the test split .* is pair test-0000 of the test split",
    ),
    Planted(another_share_than_the_settings_say, "same_pairs", evidence="10 rows in its trainer, 5 prepared"),
    Planted(twice_the_tuning_points, "equal_tuning_effort", evidence="2 for the recipe of orpo, 1 for"),
    Planted(
        a_point_more_for_one_arm,
        "equal_tuning_effort",
        evidence="3 for the recipe of orpo, 2 for the recipe of sft-dpo",
    ),
    Planted(another_length_limit_in_evaluation, "equal_evaluation_inputs", evidence="max_length differ"),
    Planted(
        another_length_limit_of_a_judge,
        "equal_evaluation_inputs",
        evidence=r"judge-.*\(judge reward\): judge.max_length differ",
    ),
    Planted(fewer_items_in_evaluation, "equal_evaluation_inputs", evidence="1 items are in one of them only"),
    Planted(another_library_version, "same_library_versions", evidence=r"trl is .*0\.29\.0"),
    Planted(another_machine, "same_kind_of_hardware", evidence="Other CPU"),
)

WARNED = (
    Planted(
        orpo_as_it_ships,
        "updates_independent_of_accumulation",
        ("same_masks",),
        "^orpo seed 0: orpo .*: losses are averaged over micro-batches of 2 pairs",
    ),
    Planted(
        dpo_as_it_ships,
        "updates_independent_of_accumulation",
        evidence="^sft-dpo seed 0: dpo .*: losses are averaged over micro-batches of 2 pairs",
    ),
    Planted(
        clipping_off_as_declared,
        "declared_differences",
        evidence=r"max_grad_norm is 0\.0 in orpo \(orpo\), 1\.0 in sft-dpo \(sft\): the published ORPO run does not clip",
    ),
    Planted(
        more_epochs_as_declared,
        "budget_matched",
        ("declared_differences",),
        "num_train_epochs differs as declared: as published",
    ),
    Planted(
        twice_the_tuning_points_as_declared,
        "equal_tuning_effort",
        ("declared_differences",),
        "2 for the recipe of orpo, 1 for .*; declared: lambda was tried at two values",
    ),
    Planted(
        a_point_out_of_memory,
        "equal_tuning_effort",
        evidence="1 of 2 planned for the recipe of orpo, 2 for the recipe of sft-dpo "
        r"\(orpo@1 seed 1001: orpo-2+ out of memory\): the arms were not chosen from equally many",
    ),
    Planted(
        a_point_never_run,
        "equal_tuning_effort",
        evidence=r"1 of 2 planned for the recipe of orpo, .* \(orpo@1 seed 1001: orpo-2+ was not run\)",
    ),
    Planted(
        every_16th_step_recorded,
        "recorded",
        evidence=f"only every {SAMPLED_STEPS}th step was recorded in orpo .* rest on those",
    ),
    Planted(a_stage_from_before_there_was_a_recorder, "recorded", evidence="was not recorded in orpo seed 0"),
    Planted(
        few_weights_changed,
        "weights_changed",
        evidence=r"sft-dpo seed 0: dpo \(.*\): 1\.0% of its trained weights changed, .*% in orpo",
    ),
    Planted(
        bfloat16_weights_updated_in_bfloat16,
        "weights_changed",
        evidence="1 stages update bfloat16 weights in bfloat16",
    ),
    Planted(
        a_machine_shared_with_others,
        "machine_to_itself",
        evidence=r"sft-dpo seed \d+: dpo \(dpo-0+\): others took 31 % of the processors' time, so its costs are unreliable",
    ),
)
