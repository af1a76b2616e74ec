"""Every kind of failure of a run: how it ends, and which test proves it.

A failure never ends with exit status 0, unless every step shows the share that is missing.
"""

from __future__ import annotations

from typing import NamedTuple

from raylign import errors
from raylign.recipes.stages.context import StopRequested

MISSING = "its rewards are missing, which every step shows; above rewards.NAME.max_missing it ends as most rewards do"
SHOWN = "goes on; the share is in every step's metrics and on the screen"


class Kind(NamedTuple):
    """One kind of failure. `ends`: the error that ends the run, or what is shown of one that goes on."""

    failure: str
    ends: type[BaseException] | str
    proof: str  # file::test


KINDS = (
    Kind(
        "a setting that cannot work",
        errors.ConfigError,
        "config/test_refused_before_work.py::test_a_wrong_setting_is_one_line",
    ),
    Kind(
        "a number that cannot be meant",
        errors.ConfigError,
        "config/test_numbers.py::test_a_number_that_cannot_be_meant",
    ),
    Kind(
        "a cluster that is too small",
        errors.PlanError,
        "cli/test_cluster.py::test_too_many_gpus_are_refused_before_ray_starts",
    ),
    Kind("no cluster to join", errors.PlanError, "cli/test_cluster.py::test_no_cluster_to_join"),
    Kind("a data file that cannot be read", errors.DataError, "data/test_files.py::test_what_cannot_be_read_is_named"),
    Kind("a data file that breaks off", errors.DataError, "data/test_readers.py::test_truncated_parquet"),
    Kind(
        "an empty evaluation set",
        errors.DataError,
        "rollout/test_failing_samples.py::test_an_evaluation_of_nothing_is_no_result",
    ),
    Kind(
        "a model folder that does not fit together",
        errors.ConfigError,
        "test_model_folder.py::test_a_folder_that_does_not_fit_together",
    ),
    Kind(
        "most prompts longer than the context",
        errors.RewardError,
        "rollout/test_failing_samples.py::test_failed_samples_have_a_limit_of_their_own",
    ),
    Kind(
        "some prompts longer than the context",
        SHOWN,
        "test_loop.py::test_sample_refused_by_the_engine_has_no_reward_and_no_loss",
    ),
    Kind("most rewards fail", errors.RewardError, "test_loop.py::test_too_many_missing_rewards_end_the_run_by_name"),
    Kind("some rewards fail", SHOWN, "test_loop.py::test_missing_reward_leaves_the_statistics_and_is_never_zero"),
    Kind(
        "no step had anything to learn from",
        errors.RewardError,
        "chaos/test_failures.py::test_a_stage_that_learned_nothing_fails_or_says_so",
    ),
    Kind(
        "a reward's constructor raises", errors.RewardError, "reward/test_reward_pools.py::test_start_and_close_errors"
    ),
    Kind(
        "a reward does not know right from wrong",
        errors.RewardError,
        "reward/test_reward_pools.py::test_validation_lists_every_problem",
    ),
    Kind(
        "a reward worker hangs or dies",
        SHOWN,
        "reward/test_reward_pools.py::test_isolated_hang_and_death_leave_the_actor_alone",
    ),
    Kind(
        "a judge is out of reach",
        MISSING,
        "judge/test_client.py::test_an_unreachable_judge_reaches_everybody_who_waits",
    ),
    Kind(
        "a judge answers garbage", MISSING, "judge/test_client.py::test_answers_never_in_form_are_an_error_of_the_judge"
    ),
    Kind(
        "a judge's worker dies again",
        errors.EngineDeadError,
        "judge/test_served.py::test_a_killed_worker_comes_back_and_a_second_death_is_the_end",
    ),
    Kind(
        "a judge's model can no longer be loaded",
        MISSING,
        "judge/test_waiting.py::test_a_judge_whose_files_are_at_fault_is_not_waited_for",
    ),
    Kind(
        "an engine cannot be made of this model",
        errors.EngineDeadError,
        "rollout/test_pool.py::test_a_model_that_does_not_exist_is_named",
    ),
    Kind(
        "an engine dies again and again",
        errors.EngineDeadError,
        "rollout/test_pool.py::test_weights_that_do_not_match_their_probe_end_the_run_with_the_cause",
    ),
    Kind("an engine is silent", errors.EngineDeadError, "test_loop.py::test_silence_is_an_error"),
    Kind("an engine loses a sample", errors.EngineDeadError, "test_loop.py::test_lost_sample_is_an_error"),
    Kind(
        "a learner rank dies too often",
        errors.LearnerError,
        "learner/test_learner_failures.py::test_a_rank_that_dies_ends_the_group_with_its_name",
    ),
    Kind(
        "a learner cannot load its model",
        errors.LoadError,
        "test_remote.py::test_only_a_load_that_fails_by_content_is_final",
    ),
    Kind(
        "a loss that is not finite",
        errors.LearnerError,
        "learner/test_learner_failures.py::test_what_is_not_finite_is_refused_and_not_applied",
    ),
    Kind(
        "a gradient that is not finite",
        errors.LearnerError,
        "learner/test_learner_failures.py::test_an_infinite_gradient_is_refused_and_not_applied",
    ),
    Kind(
        "a loss that is not finite is recorded",
        errors.RunError,
        "chaos/test_failures.py::test_a_lost_model_ends_the_run",
    ),
    Kind(
        "an environment is lost for good",
        SHOWN,
        "rollout/test_multi_turn.py::test_an_environment_that_cannot_live_refuses_its_sample",
    ),
    Kind(
        "a frozen model has no context for most rows",
        errors.RewardError,
        "recipes/test_g_opd_context.py::test_too_many_missing_contexts_end_the_run",
    ),
    Kind(
        "a frozen model's rank dies",
        "is replaced",
        "learner/test_learner_group.py::test_frozen_model_equals_transformers_also_after_a_death",
    ),
    Kind("the disk is full", OSError, "chaos/test_chaos.py::test_a_full_disk"),
    Kind(
        "the disk is full while saving",
        errors.RunError,
        "test_checkpoint.py::test_full_disk_names_the_fix_and_keeps_the_older_one",
    ),
    Kind("a folder without permission", OSError, "chaos/test_failures.py::test_what_a_machine_refuses_is_one_line"),
    Kind("a run folder in use", errors.RunError, "test_run_folder.py::test_second_process_is_refused"),
    Kind("Ray ends a call for memory", errors.RunError, "chaos/test_failures.py::test_memory_is_told_as_memory"),
    Kind("Ray ends a worker for memory", errors.EngineDeadError, "chaos/test_chaos.py::test_a_machine_without_memory"),
    Kind(
        "no usable checkpoint",
        errors.CheckpointError,
        "learner/test_learner_checkpoint.py::test_a_checkpoint_of_another_shape_is_refused",
    ),
    Kind(
        "a damaged checkpoint", "the one before is taken", "test_checkpoint.py::test_damaged_checkpoint_is_passed_over"
    ),
    Kind(
        "every group of every step is flat",
        "shown in every step, and said on the screen at the stage's end",
        "loop/test_teaching.py::test_steps_whose_scores_never_differ_teach_nothing",
    ),
    Kind(
        "every group of ten steps is flat",
        "shown as groups/equal, and an alarm",
        "telemetry/test_alarms.py::test_each_alarm_is_raised_once_and_alone",
    ),
    Kind(
        "answers are empty",
        "shown as length/empty, and an alarm",
        "telemetry/test_alarms.py::test_each_alarm_is_raised_once_and_alone",
    ),
    Kind(
        "a tracker fails",
        "an event and a line; the run folder is whole",
        "chaos/test_failures.py::test_a_tracker_that_fails_is_told_on_the_screen",
    ),
    Kind(
        "an alarm that stops",
        StopRequested,
        "e2e/test_alarm_stop.py::test_an_alarm_stops_the_run_once_and_it_continues",
    ),
    Kind(
        "a signal before the first step",
        StopRequested,
        "chaos/test_failures.py::test_a_signal_before_the_first_step_stops_at_once",
    ),
    Kind("a signal in a step", StopRequested, "chaos/test_failures.py::test_a_signal_in_a_step_lets_it_end"),
    Kind("a second signal", KeyboardInterrupt, "chaos/test_failures.py::test_a_second_signal_ends_at_once"),
    Kind("a defect of a part", Exception, "chaos/test_failures.py::test_a_defect_is_recorded_and_not_swallowed"),
)
