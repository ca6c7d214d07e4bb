//! Questions that are asked while a write is being made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::test_runner::TestCaseError;
use rolegate::domain::ids::TenantId;
use rolegate::service::decide::{Decisions, Question};
use rolegate::service::token::Consistency;
use rolegate::store::DecisionSource;
use tokio::task::JoinHandle;

use super::convert;
use crate::reference::decide::Answer;

/// Asks the same batch again and again until it is told to stop.
pub(super) struct Reader {
    task: JoinHandle<Vec<Vec<Answer>>>,
    stop: Arc<AtomicBool>,
}

impl Reader {
    pub(super) fn start<S: DecisionSource>(
        decisions: &Arc<Decisions<S>>,
        tenant: &TenantId,
        questions: &[Question],
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (decisions, tenant) = (Arc::clone(decisions), tenant.clone());
        let (questions, stopped) = (questions.to_vec(), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let consistency = Consistency::default();
            let mut seen = Vec::new();
            loop {
                let last = stopped.load(Ordering::Acquire);
                let items = questions.iter().cloned().map(Ok).collect();
                let answer = decisions.check_batch(&tenant, items, &consistency).await;
                let answer = answer.unwrap();
                let catalog = answer.catalog.unwrap();
                let answers = answer.value.iter().map(|item| item.as_ref().unwrap());
                seen.push(answers.map(|answer| convert::answer(&catalog, answer)).collect());
                if last {
                    return seen;
                }
                tokio::task::yield_now().await;
            }
        });
        Reader { task, stop }
    }

    /// Every batch must have been decided at one state, before the write or after it, and none
    /// may go back; the last one, begun after the write was acknowledged, is decided after it.
    pub(super) async fn finish(
        self,
        before: &[Answer],
        after: &[Answer],
    ) -> Result<(), TestCaseError> {
        self.stop.store(true, Ordering::Release);
        let seen = self.task.await.unwrap();
        let mut is_after = false;
        for (number, answers) in seen.iter().enumerate() {
            let last = number + 1 == seen.len();
            if answers == after {
                is_after = true;
            } else if answers != before {
                return Err(TestCaseError::fail(format!(
                    "a batch that mixes states: {answers:#?}\nbefore: {before:#?}\nafter: {after:#?}"
                )));
            } else if is_after || last {
                return Err(TestCaseError::fail(format!(
                    "batch {number} of {} went back to: {before:#?}\nfrom: {after:#?}",
                    seen.len()
                )));
            }
        }
        Ok(())
    }
}
