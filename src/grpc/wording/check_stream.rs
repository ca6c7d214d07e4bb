//! What ends a CheckStream.

use super::Said;
use crate::grpc::pb::ErrorReason;
use crate::service::watch::RightsLost;

pub(in crate::grpc) fn stream_draining() -> Said {
    Said::new(
        ErrorReason::ServerDraining,
        "This server goes away. It has answered all questions that it read: ask those without an \
         answer on another replica, or once it is back.",
    )
}

pub(in crate::grpc) fn stream_rights_lost(lost: RightsLost) -> Said {
    match lost {
        RightsLost::Proof => Said::new(
            ErrorReason::CallerUnauthenticated,
            "What this stream proved its caller with does not hold any more: it expired, or was taken \
             away. With one that holds, ask those questions again that have no answer.",
        ),
        RightsLost::Capability(capability) => {
            let name = capability.name();
            let message = format!(
                "The caller of this stream has lost the capability {name}. The callers file of the \
                 server gives it."
            );
            Said::new(ErrorReason::CapabilityMissing, message).with("capability", name)
        }
    }
}
