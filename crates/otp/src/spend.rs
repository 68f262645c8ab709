//! Taking budgets at admission.

use safeconduct_admission_client::{Admission, Charge, Limit, LimitScope, Shape, Take, TakeAnswer, Window, closed};
use safeconduct_otp_domain::budget::{self, Budget, Namer, Nearness, Parties};
use safeconduct_otp_domain::policy::Budgets;
use safeconduct_service::wire::to_timestamp;
use safeconduct_types::{Deadline, OperationId, Random, Reason, Refusal};

/// Whoever takes.
#[derive(Clone, Copy)]
pub(crate) struct Spender<'a> {
    pub(crate) admission: &'a dyn Admission,
    pub(crate) namer: &'a Namer,
    pub(crate) random: &'a dyn Random,
    pub(crate) parties: Parties<'a>,
    pub(crate) deadline: Deadline,
}

impl Spender<'_> {
    /// Takes what a message costs: first what the asker has, then what it shares.
    pub(crate) async fn message(&self, budgets: &Budgets, nearness: Nearness) -> Result<(), Refusal> {
        self.take(&budget::asker(budgets, self.parties.network.is_some())).await?;
        self.take(&budget::target(budgets, self.parties.address, nearness)).await
    }

    /// Takes a guess at a guessable code. Whether there was one; the same `operation` takes it once.
    pub(crate) async fn guess(&self, budgets: &Budgets, operation: OperationId) -> Result<bool, Refusal> {
        match self.ask(&[budget::guess(budgets)], operation).await? {
            TakeAnswer::Taken(_) => Ok(true),
            TakeAnswer::Denied(_) => Ok(false),
            TakeAnswer::Marked(mark) => Err(closed(&mark)),
        }
    }

    async fn take(&self, budgets: &[Budget]) -> Result<(), Refusal> {
        let denied = match self.ask(budgets, OperationId::generate(self.random)).await? {
            TakeAnswer::Taken(_) => return Ok(()),
            TakeAnswer::Marked(mark) => return Err(closed(&mark)),
            TakeAnswer::Denied(denied) => denied,
        };
        let name = denied.limit.name;
        let detail = format!("the budget `{name}` is used up; say so, or hand over, and do not ask in another way");
        let refusal = Refusal::new(Reason::CapReached, detail).with_metadata("limit", name.clone());
        // What is left of what others take from, and when, would tell of them.
        let is_own = budgets.iter().any(|one| one.is_own && one.name == name);
        Err(match (is_own, denied.limit.resets, denied.retry_after) {
            (true, resets, Some(after)) => {
                let refusal = refusal.with_retry_after(after);
                match resets {
                    Some(at) => refusal.with_metadata("resets", to_timestamp(at).to_string()),
                    None => refusal,
                }
            }
            (true, _, None) | (false, _, _) => refusal,
        })
    }

    async fn ask(&self, budgets: &[Budget], operation: OperationId) -> Result<TakeAnswer, Refusal> {
        let charges = budgets.iter().map(|one| self.charge(one)).collect();
        let workspace = self.parties.workspace.clone();
        let take = Take { workspace, contact: None, operation, charges, marks: Vec::new() };
        self.admission.take(take, self.deadline).await
    }

    fn charge(&self, budget: &Budget) -> Charge {
        let shape = Shape::Count { window: Window::Rolling(budget.within), max: budget.max.into() };
        let limit = Limit {
            name: budget.name.to_owned(),
            scope: LimitScope::Workspace,
            per_contact: false,
            dimensions: Some(self.namer.counter(budget.of, &self.parties)),
            shape,
        };
        Charge { limit, amount: 1, unit: String::new() }
    }
}
