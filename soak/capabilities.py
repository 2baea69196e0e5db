"""What users rely on in Label Studio, and the tests that show it."""

from __future__ import annotations

CONNECT = "tests/setup/test_connect.py"
CLIENT = "tests/studio/test_client.py"
LOOP = "tests/test_end_to_end.py"
BROWSER = "tests/browser/test_session.py"
BUCKETS = "tests/test_buckets.py"
LABELS = "tests/commands/test_import_labels.py"
ROUND_TRIP = "tests/export/test_round_trip.py::test_from_dicom_to_certified_labels"
BY_KEYBOARD = f"{BROWSER}::test_a_session_of_twenty_frames_by_keyboard_alone"

CAPABILITIES: dict[str, tuple[str, ...]] = {
    "connect and doctor": (
        f"{CONNECT}::test_a_fresh_project_is_connected",
        f"{CONNECT}::test_a_second_time_changes_nothing",
        "tests/setup/test_doctor.py::test_a_complete_installation_passes_and_stays_unchanged",
    ),
    "personal access token": (
        f"{CLIENT}::test_knows_the_server_and_the_user[personal]",
        f"{CLIENT}::test_a_wrong_token_is_an_error_with_advice[personal]",
    ),
    "legacy token": (
        f"{CLIENT}::test_knows_the_server_and_the_user[legacy]",
        f"{CLIENT}::test_a_wrong_token_is_an_error_with_advice[legacy]",
    ),
    "import, frames as local files": (
        f"{CLIENT}::test_local_files",
        "tests/studio/test_images.py::test_reads_what_a_real_label_studio_serves",
        f"{LOOP}::test_frames_that_come_later_join_the_queue",
    ),
    "frames in a bucket": (
        f"{BUCKETS}::test_what_was_imported_is_read_through_label_studio",
        f"{BUCKETS}::test_connect_makes_the_storage_that_is_missing",
        f"{BUCKETS}::test_an_annotators_browser_shows_the_picture",
    ),
    "scoring and push": (
        f"{LOOP}::test_before_the_first_answer_frames_that_differ_come_first_and_nothing_is_ticked",
        f"{LOOP}::test_predictions_of_old_orders_are_removed",
        f"{CLIENT}::test_many_predictions_go_in_pieces",
    ),
    "queue order, and no frame for two people": (
        f"{CLIENT}::test_serves_in_the_order_of_the_pushed_scores",
        f"{BROWSER}::test_two_people_at_once_never_get_the_same_frame",
    ),
    "ticks in the browser, keys, undo": (BY_KEYBOARD,),
    "webhooks, one annotation": (
        f"{LOOP}::test_a_batch_trains_a_version_that_the_webhook_started",
        f"{LOOP}::test_changed_and_deleted_annotations_change_the_training_set",
    ),
    "webhooks, many at once": (f"{CLIENT}::test_predictions_accepted_in_bulk_are_flagged_until_somebody_updates_them",),
    "retraining, Start Training": (
        f"{LOOP}::test_the_new_version_ticks_the_symptoms_and_orders_the_queue",
        f"{LOOP}::test_changed_and_deleted_annotations_change_the_training_set",
        f"{LOOP}::test_polling_finds_what_webhooks_missed",
    ),
    "predictions on request": (f"{LOOP}::test_label_studio_gets_a_prediction_when_it_asks_for_one",),
    "evidence beside the frame": (
        "tests/setup/test_evidence.py::test_with_the_panel_label_studio_wants_the_address_and_the_import_gives_it",
        "tests/browser/test_evidence.py::test_an_annotator_opens_the_panel_and_sees_why",
    ),
    "tabs of the Data Manager": (
        "tests/setup/test_tabs.py::test_a_lead_gets_tabs_once_and_keeps_his_own",
        "tests/browser/test_tabs.py::test_the_address_of_a_tab_lists_exactly_its_tasks",
    ),
    "import-labels": (
        f"{LABELS}::test_each_row_becomes_an_annotation_that_says_where_it_comes_from",
        "tests/browser/test_imported.py::test_who_updates_an_imported_label_answers_it",
    ),
    "finish, certificate and export": (ROUND_TRIP,),
}
"""Node IDs of pytest by capability; a test may show several."""

STORIES = (LOOP, BROWSER)
"""Files whose tests build on each other: they run whole and in their order."""

INTERFACES: dict[str, tuple[str, ...]] = {
    "label-studio-ml 1.0.9": ("tests/test_model.py::TestUnder1",),
    "label-studio-ml 2.x": (
        "tests/test_model.py::test_under_2",
        "tests/test_model.py::test_the_server_of_2_serves_the_same",
    ),
    "without label-studio-ml": ("tests/test_model.py::test_without_label_studio_ml_the_backend_serves_the_same",),
}
"""The same for the interface of our model; these need no Label Studio."""
