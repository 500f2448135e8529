//! One suite for every store: what the trait promises, asked of each implementation in turn. Then what single ones
//! promise besides: how they crash, fill a disk, and meet damage.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod documents;
mod layers;
mod model;
mod sqlite_crash;
mod sqlite_damage;
mod suite;
mod versions;

use std::sync::Arc;

use hearth_store::{SqliteStore, Store};

/// A fresh store, and what must live as long as it.
struct Fresh<G> {
    store: Arc<dyn Store>,
    _guard: G,
}

/// All questions of the suite.
mod questions {
    pub(super) use super::documents::*;
    pub(super) use super::layers::*;
    pub(super) use super::suite::*;
    pub(super) use super::versions::*;
}

/// Runs every question of the suite on the stores that `$make` makes.
macro_rules! conformance {
    ($implementation:ident, $make:expr, [$($question:ident),* $(,)?]) => {
        mod $implementation {
            use super::*;

            $(#[tokio::test]
            async fn $question() {
                let fresh = $make;
                questions::$question(&fresh.store).await;
            })*

            #[test]
            fn a_store_does_what_a_map_in_memory_does() {
                model::compare(|| $make);
            }
        }
    };
}

fn sqlite() -> Fresh<tempfile::TempDir> {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(&folder.path().join("store.db")).unwrap());
    Fresh { store, _guard: folder }
}

conformance!(
    sqlite_store,
    sqlite(),
    [
        a_created_function_is_pending_and_read_back_as_it_was_answered,
        a_name_is_taken_until_it_is_deleted,
        names_are_apart_in_each_account,
        an_update_of_code_draws_a_revision_and_bookkeeping_does_not,
        an_update_of_what_changed_in_between_is_a_conflict,
        of_racing_updates_exactly_one_wins,
        of_racing_creates_exactly_one_wins,
        a_record_of_a_deleted_function_does_not_touch_its_successor,
        revisions_never_repeat_even_over_deletes,
        pages_of_a_list_are_in_order_and_complete,
        unfinished_functions_are_those_pending_or_being_updated,
        usage_sums_up_one_account,
        code_in_use_names_each_archive_once,
        what_serves_instead_is_kept_with_its_code,
        a_version_stays_what_the_function_was,
        what_has_not_changed_is_not_published_again,
        numbers_of_versions_never_repeat_even_over_deletes,
        a_version_of_what_changed_in_between_is_a_conflict,
        of_racing_publishers_all_get_the_same_version,
        a_version_of_an_unready_revision_is_pending_until_that_is_settled,
        pages_of_versions_are_in_order_and_complete,
        an_alias_is_changed_by_who_read_it_last,
        an_alias_means_versions_that_are_there,
        aliases_are_listed_by_name_and_version,
        what_is_provisioned_goes_with_what_it_is_for,
        a_deleted_function_takes_all_with_it,
        urls_are_kept_by_qualifier_and_go_with_what_they_are_for,
        sums_have_versions_and_what_is_provisioned_in_them,
        a_document_is_written_by_who_expects_what_is_there,
        documents_are_listed_by_kind_in_order_of_their_names,
        a_document_of_a_function_goes_with_it,
        versions_of_a_layer_count_up_and_never_repeat,
        layers_are_listed_by_their_newest_version_that_fits,
        a_deleted_layer_stays_in_use_while_a_function_has_it,
    ]
);
