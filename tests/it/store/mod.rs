//! One suite over every kind of database, and what is particular to one of them.

mod audit;
mod backend;
mod candidates;
mod catalogs;
mod chain;
mod command_line;
mod commits;
mod decisions;
mod erasing;
mod following;
mod members;
mod opening;
mod outages;
mod plans;
mod pooler;
mod renewing;
mod requests;
mod roles;
mod server;
mod tenants;
mod watching;

pub(crate) use server::run;

/// Runs every case on one kind of database, named as the function in [`backend`] that opens it.
macro_rules! suite {
    ($backend:ident) => {
        mod $backend {
            databases! { $backend:
                following {
                    every_change_is_told_once, pages_come_one_after_the_other,
                    nothing_is_lost_among_many_writers, whoever_missed_what_was_trimmed_is_told,
                    trimming_goes_in_pieces, a_restored_backup_is_a_new_epoch,
                    a_commit_wakes_whoever_listens,
                }
                chain {
                    every_edit_is_found, an_end_that_was_cut_off_is_found_with_an_exported_head,
                    an_end_that_was_cut_off_is_found_after_the_next_write,
                    a_restore_is_an_event_of_every_trail,
                    an_erasure_cannot_be_undone_and_leaves_no_salt,
                    an_erasure_vouches_for_nothing_that_was_edited,
                    what_is_deleted_for_its_age_leaves_a_checkpoint,
                    what_was_edited_is_not_deleted_for_its_age,
                    a_deletion_is_proven_by_its_event_and_nothing_else,
                    a_refusal_names_members_only,
                    a_purged_tenant_keeps_its_place_and_no_value,
                    writers_at_the_same_time_make_one_chain, a_new_key_takes_over,
                    events_under_older_keys_are_deleted_by_whoever_has_them,
                }
                watching {
                    changes_come_in_order_and_resume_without_loss_or_repetition,
                    only_the_tenants_asked_for_and_visible_are_told,
                    a_cursor_that_leads_nowhere_is_refused, a_new_epoch_ends_every_stream,
                    whoever_does_not_read_is_disconnected_and_resumes,
                    whoever_falls_behind_the_feed_reads_on_from_the_database,
                    what_is_trimmed_in_front_of_a_stream_ends_it, the_first_message_comes_at_once,
                    streams_are_bounded_and_end_when_the_server_drains,
                    a_change_of_too_many_members_names_none,
                }
            }
            cases! { $backend:
                tenants {
                    what_is_written_is_read_back, ids_are_case_sensitive, are_listed_in_order,
                    deleted_ones_become_purgeable, purging_leaves_nothing_but_the_id,
                    made_by_two_at_once_only_once,
                }
                roles {
                    are_read_back_changed_and_deleted, are_listed_in_order,
                    a_name_is_taken_once, a_name_is_taken_once_under_a_race,
                    ids_and_names_belong_to_one_tenant,
                }
                members {
                    are_read_back_changed_and_deleted, are_listed_in_byte_order,
                    are_filtered, more_than_fit_in_one_statement, are_counted_by_role, a_role_is_reassigned, a_role_reassigned_to_itself_stays,
                    a_role_is_stripped,
                }
                candidates {
                    come_from_roles_teams_and_names, are_everybody_where_there_are_too_many_sources,
                    roles_that_name_a_permission_are_found, sets_of_roles_are_counted,
                }
                commits {
                    revisions_are_dense_under_many_writers, dropping_leaves_nothing,
                    a_reader_sees_one_state, the_listener_is_told_once,
                    whoever_goes_away_does_not_keep_it_from_being_told, changes_match_commits,
                    old_changes_are_trimmed, a_change_of_no_tenant_is_refused,
                    a_change_of_which_a_statement_failed_is_not_committed,
                }
                requests {
                    are_remembered_until_they_expire, are_remembered_by_all_of_their_key,
                    are_remembered_only_if_committed, can_be_remembered_again,
                    are_remembered_where_nothing_changed,
                }
                audit {
                    is_read_back_newest_first, is_filtered, is_read_in_pages, takes_many_subjects,
                    a_refusal_changes_nothing_else, is_trimmed_by_age,
                }
                catalogs {
                    a_version_is_recorded_once, are_listed_by_id_and_version,
                    an_unknown_version_is_an_error, are_parsed_once_and_kept_at_hand,
                }
                decisions {
                    a_view_has_the_members_that_exist, a_view_compiles_what_members_hold,
                    only_tenants_in_use_are_viewed, pieces_come_with_the_revision_they_were_seen_at,
                }
                erasing {
                    a_member_goes_from_the_trail, what_is_called_like_a_member_stays,
                    answers_that_name_a_member_are_blanked,
                }
            }
        }
    };
}

/// Cases that want more than one store on the database.
macro_rules! databases {
    ($backend:ident: $($module:ident { $($case:ident),* $(,)? })*) => {
        $(mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let Some(database) = super::super::backend::$backend().await else { return };
                super::super::$module::$case(&database).await;
                database.store.close().await;
            })*
        })*
    };
}

macro_rules! cases {
    ($backend:ident: $($module:ident { $($case:ident),* $(,)? })*) => {
        $(mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let Some(database) = super::super::backend::$backend().await else { return };
                super::super::$module::$case(&database.store).await;
                database.store.close().await;
            })*
        })*
    };
}

suite!(sqlite);
suite!(postgres);
