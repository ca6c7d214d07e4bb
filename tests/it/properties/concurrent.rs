//! Questions that are asked while a write is being made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use rolegate::domain::ids::TenantId;
use rolegate::service::decide::Question;
use rolegate::service::token::{Consistency, Tokens};
use rolegate::store::{DecisionSource, Freshness};
use tokio::task::JoinHandle;

use super::convert;
use super::tenant::{ASKER, Service};
use crate::reference::decide::Answer;

/// Asks the same batch again and again until it is told to stop.
pub(super) struct Reader {
    task: JoinHandle<Vec<Batch>>,
    stop: Arc<AtomicBool>,
}

/// The answers to one batch.
struct Batch {
    /// The revision that its token names.
    revision: u64,
    answers: Vec<Answer>,
}

impl Reader {
    pub(super) fn start<S: DecisionSource>(
        service: &Service<S>,
        tenant: &TenantId,
        questions: &[Question],
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let decisions = Arc::clone(&service.decisions);
        let (tokens, tenant) = (service.tokens.clone(), tenant.clone());
        let (questions, stopped) = (questions.to_vec(), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let consistency = Consistency::default();
            let mut seen = Vec::new();
            loop {
                let last = stopped.load(Ordering::Acquire);
                let items = questions.iter().cloned().map(Ok).collect();
                let answer = decisions.check_batch(ASKER, &tenant, items, &consistency).await;
                let answer = answer.unwrap();
                let catalog = answer.catalog.unwrap();
                let answers = answer.value.iter().map(|item| item.as_ref().unwrap());
                seen.push(Batch {
                    revision: revision(&tokens, &tenant, answer.token.unwrap()),
                    answers: answers.map(|answer| convert::answer(&catalog, answer)).collect(),
                });
                if last {
                    return seen;
                }
                tokio::task::yield_now().await;
            }
        });
        Reader { task, stop }
    }

    /// Every batch must have been decided at the one state that its token names, and none may go
    /// back; the last one, begun after the write was acknowledged, must be decided after it.
    pub(super) async fn finish(
        self,
        before: &[Answer],
        after: &[Answer],
        written_at: u64,
    ) -> Result<(), TestCaseError> {
        self.stop.store(true, Ordering::Release);
        let seen = self.task.await.unwrap();
        let mut newest = 0;
        for Batch { revision, answers } in &seen {
            let expected = if *revision < written_at { before } else { after };
            prop_assert_eq!(answers, expected, "at {}, written at {}", revision, written_at);
            prop_assert!(*revision >= newest, "from {newest} back to {revision}");
            newest = *revision;
        }
        prop_assert!(newest >= written_at, "still at {newest} after the write at {written_at}");
        Ok(())
    }
}

/// The revision that a token names.
pub(super) fn revision(tokens: &Tokens, tenant: &TenantId, token: String) -> u64 {
    match tokens.freshness(tenant, &Consistency::AtLeastAsFresh(vec![token])).unwrap() {
        Freshness::AtLeast(revision) => revision,
        other => panic!("a token names a revision, not {other:?}"),
    }
}
