//! What ends a Watch.

use std::time::Duration;

use super::Said;
use crate::domain::refusal::CursorLoss;
use crate::grpc::pb::ErrorReason;
use crate::service::watch::RightsLost;

/// The metadata of where to resume.
const CURSOR: &str = "cursor";

pub(in crate::grpc) fn too_slow(patience: Duration, cursor: &str) -> Said {
    let seconds = patience.as_secs_f32();
    let message = format!(
        "There were changes to send and the client did not read for {seconds} s. Nothing is lost: \
         resume with the cursor of this error, and read faster."
    );
    Said::new(ErrorReason::WatchTooSlow, message).with("seconds", seconds).with(CURSOR, cursor)
}

pub(in crate::grpc) fn draining(cursor: &str) -> Said {
    Said::new(
        ErrorReason::ServerDraining,
        "This server goes away. Nothing is lost: resume with the cursor of this error, on another \
         replica or once it is back.",
    )
    .with(CURSOR, cursor)
}

pub(in crate::grpc) fn database_gone(cursor: &str) -> Said {
    Said::new(
        ErrorReason::DatabaseUnavailable,
        "The database does not answer, so no changes can be read. Nothing is lost: resume with the \
         cursor of this error.",
    )
    .with(CURSOR, cursor)
}

pub(in crate::grpc) fn rights_lost(lost: RightsLost, cursor: &str) -> Said {
    let said = match lost {
        RightsLost::Proof => Said::new(
            ErrorReason::CallerUnauthenticated,
            "What this Watch proved its caller with does not hold any more: it expired, or was taken \
             away. With one that holds, resume with the cursor of this error.",
        ),
        RightsLost::Capability(capability) => {
            let name = capability.name();
            let message = format!(
                "The caller of this Watch has lost the capability {name}. Once the callers file of \
                 the server gives it back, resume with the cursor of this error."
            );
            Said::new(ErrorReason::CapabilityMissing, message).with("capability", name)
        }
    };
    said.with(CURSOR, cursor)
}

pub(super) fn cursor_expired(loss: CursorLoss) -> Said {
    let why = match loss {
        CursorLoss::Trimmed => "changes behind it have been deleted, being old",
        CursorLoss::Restored => "a backup of the database was restored since",
        CursorLoss::FailedOver => {
            "the database failed over to another server since, which may have lost changes"
        }
        CursorLoss::Ahead => {
            "the database has not come that far. It seems to have been restored from a backup \
             without being told; ask the operator to run `rolegate migrate --after-restore`"
        }
    };
    let message = format!(
        "The Watch cannot go on from this cursor: {why}. Resync: begin without a cursor, keep the \
         first one that you get, list anew what you need, then apply the changes."
    );
    Said::new(ErrorReason::CursorExpired, message).with("cause", loss.name())
}
