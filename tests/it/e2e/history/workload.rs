//! Random clients of several replicas, who write down all that they do.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use super::model::{PERMISSIONS, grants};
use super::record::{Check, Ending, History, Op, Question, Want, Write};
use super::speak;
use crate::e2e::process::Clients;
use crate::reference::model::{Grant, Resource};

/// How often a client tries a write again whose fate it does not know, and how long it waits.
const RETRIES: usize = 60;
const PAUSE: Duration = Duration::from_millis(250);

const MEMBERS: usize = 6;
const TEAMS: [&str; 3] = ["red", "green", "blue"];
const GRANTS: [&[&str]; 7] = [
    &["ticket.work at team"],
    &["ticket.work at all"],
    &["ticket.work at team", "ticket.delete"],
    &["ticket.work at all", "ticket.delete"],
    &["report.view"],
    &["report.view", "report.export"],
    &["ticket.work at team", "report.view"],
];
/// About so many custom roles per tenant.
const ROLES: usize = 4;

/// Numbers that look random and come again with the same seed (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn of<'a, T>(&mut self, values: &'a [T]) -> &'a T {
        &values[self.below(values.len())]
    }
}

/// What all clients of a run share.
pub(crate) struct Run {
    began: Instant,
    began_wall: i128,
    tenants: Vec<String>,
    /// The ids of each tenant's custom roles, as far as anybody was told.
    roles: Vec<Mutex<Vec<String>>>,
    left: AtomicUsize,
    over: AtomicBool,
    requests: AtomicUsize,
    history: Mutex<History>,
}

impl Run {
    pub(crate) fn new(tenants: usize, writes: usize, history: History) -> Arc<Run> {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Arc::new(Run {
            began: Instant::now(),
            began_wall: i128::try_from(wall.as_micros()).unwrap(),
            tenants: (0..tenants).map(|number| format!("tenant-{number}")).collect(),
            roles: (0..tenants).map(|_| Mutex::default()).collect(),
            left: AtomicUsize::new(writes),
            over: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            history: Mutex::new(history),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap()
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Enough was written.
    pub(crate) fn finish(&self) {
        self.left.store(0, Ordering::Release);
    }

    /// Makes the tenants, lets `writers` clients write until all is written, with one reader per
    /// replica beside them, and reads the audit trail in the end.
    pub(crate) async fn all(
        self: &Arc<Self>,
        replicas: &[Clients],
        writers: u64,
        seed: u64,
    ) -> History {
        for tenant in 0..self.tenants.len() {
            let mut clients = replicas.to_vec();
            self.write(&mut clients, 0, tenant, Op::CreateTenant).await;
            let mut dice = Dice(seed ^ tenant as u64);
            for number in 0..MEMBERS {
                let member = format!("member-{number}");
                let (roles, teams) = (some_roles(&mut dice, &[]), some_teams(&mut dice));
                let op = Op::CreateMember { member, roles, teams };
                self.write(&mut clients, number % replicas.len(), tenant, op).await;
            }
        }
        let mut readers = tokio::task::JoinSet::new();
        for replica in 0..replicas.len() {
            let (run, clients) = (Arc::clone(self), replicas.to_vec());
            let dice = Dice(seed ^ (1_000 + replica as u64));
            readers.spawn(async move { run.read_on(clients, replica, dice).await });
        }
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..writers {
            let (run, clients) = (Arc::clone(self), replicas.to_vec());
            let dice = Dice(seed.wrapping_add(writer.wrapping_mul(0x1234_5678_9abc)));
            tasks.spawn(async move { run.write_on(clients, dice).await });
        }
        tasks.join_all().await;
        self.over.store(true, Ordering::Release);
        readers.join_all().await;
        // In the end everybody knows everything.
        let mut dice = Dice(!seed);
        for (replica, clients) in replicas.iter().enumerate() {
            for tenant in 0..self.tenants.len() {
                let questions = (0..40).map(|_| self.question(&mut dice, None)).collect();
                self.ask(clients, replica, tenant, Want::Full, questions).await;
            }
        }
        let mut history = self.history.lock().unwrap().clone();
        for tenant in &self.tenants {
            let trail = speak::trail(&replicas[0], tenant).await;
            history.trail.insert(tenant.clone(), trail);
        }
        history
    }

    async fn write_on(&self, mut clients: Vec<Clients>, mut dice: Dice) {
        let taken = |left: usize| left.checked_sub(1);
        while self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, taken).is_ok() {
            let tenant = dice.below(self.tenants.len());
            let writer = dice.below(clients.len());
            let op = self.op(&mut dice, tenant);
            let about = about(&op);
            let deletes = op == Op::DeleteTenant;
            let token = self.write(&mut clients, writer, tenant, op).await;
            if let Some(token) = token {
                // On another replica, with the token, and then without.
                let other = (writer + 1 + dice.below(clients.len() - 1)) % clients.len();
                let count = 1 + dice.below(4);
                let questions: Vec<_> =
                    (0..count).map(|_| self.question(&mut dice, about.as_deref())).collect();
                let asked = questions.clone();
                self.ask(&clients[other], other, tenant, Want::Token(token), asked).await;
                self.ask(&clients[other], other, tenant, Want::Latency, questions).await;
            }
            if deletes {
                self.write(&mut clients, writer, tenant, Op::UndeleteTenant).await;
            }
        }
    }

    async fn read_on(&self, clients: Vec<Clients>, replica: usize, mut dice: Dice) {
        while !self.is_over() {
            let tenant = dice.below(self.tenants.len());
            let want = if dice.one_in(20) { Want::Full } else { Want::Latency };
            let count = 1 + dice.below(3);
            let questions = (0..count).map(|_| self.question(&mut dice, None)).collect();
            self.ask(&clients[replica], replica, tenant, want, questions).await;
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
    }

    /// Writes, and tries again where it is not known whether it was made. The token, if it was.
    async fn write(
        &self,
        clients: &mut [Clients],
        replica: usize,
        tenant: usize,
        op: Op,
    ) -> Option<String> {
        let number = self.requests.fetch_add(1, Ordering::AcqRel);
        let request_id = format!("request-{number}");
        let start = self.now();
        let (mut doubtful, mut via) = (None, replica);
        let mut attempts = 0;
        let ending = loop {
            let id = &self.tenants[tenant];
            match speak::write(&mut clients[via], id, &request_id, number, &op).await {
                Ok((token, made)) => {
                    let mut roles = self.roles[tenant].lock().unwrap();
                    roles.extend(made);
                    break Ending::Done { token };
                }
                Err(status) if is_refusal(status.code()) => {
                    // An answer that cannot be given again is no proof that nothing was made.
                    break match doubtful {
                        Some(code) => Ending::Unknown(code),
                        None => Ending::Refused(status.message().to_owned()),
                    };
                }
                Err(status) => {
                    let code = format!("{:?}", status.code());
                    attempts += 1;
                    // Without faults, every failure is one.
                    if !self.history.lock().unwrap().faults || attempts > RETRIES {
                        break Ending::Unknown(format!("{code}: {}", status.message()));
                    }
                    doubtful = Some(code);
                    tokio::time::sleep(PAUSE).await;
                    via = (via + 1) % clients.len();
                }
            }
        };
        let end = self.now();
        let token = match &ending {
            Ending::Done { token } => Some(token.clone()),
            _ => None,
        };
        if let (Op::DeleteRole { role, .. }, Ending::Done { .. } | Ending::Refused(_)) =
            (&op, &ending)
        {
            self.roles[tenant].lock().unwrap().retain(|known| known != role);
        }
        let tenant = self.tenants[tenant].clone();
        let write = Write { tenant, replica: via, start, end, request_id, op, ending };
        self.history.lock().unwrap().writes.push(write);
        token
    }

    async fn ask(
        &self,
        clients: &Clients,
        replica: usize,
        tenant: usize,
        want: Want,
        questions: Vec<Question>,
    ) {
        let tenant = self.tenants[tenant].clone();
        let start = self.now();
        let answer = speak::ask(clients, &tenant, &want, &questions).await;
        let end = self.now();
        let since = |at: i128| u64::try_from(at - self.began_wall).unwrap_or_default();
        let answer = answer
            .map(|(answer, stale_since)| super::record::Answer {
                stale_since: stale_since.map(since),
                ..answer
            })
            .map_err(|status| format!("{:?}", status.code()));
        let check = Check { tenant, replica, start, end, want, questions, answer };
        self.history.lock().unwrap().checks.push(check);
    }

    fn op(&self, dice: &mut Dice, tenant: usize) -> Op {
        let roles = self.roles[tenant].lock().unwrap().clone();
        let member = format!("member-{}", dice.below(MEMBERS));
        match dice.below(100) {
            0..25 => Op::AssignRoles { member, roles: some_roles(dice, &roles) },
            25..45 if !roles.is_empty() => {
                Op::UpdateRole { role: dice.of(&roles).clone(), grants: some_grants(dice) }
            }
            45..57 => Op::SetTeams { member, teams: some_teams(dice) },
            57..64 => Op::Archive(member),
            64..72 => Op::Restore(member),
            72..77 => Op::DeleteMember(member),
            77..86 if roles.len() > 1 => {
                let role = dice.of(&roles).clone();
                let others = roles.iter().filter(|other| **other != role);
                let to: Vec<&str> = others.map(String::as_str).chain(["clerk", "lead"]).collect();
                Op::DeleteRole { role, to: (*dice.of(&to)).to_owned() }
            }
            86 if dice.one_in(4) => Op::MoveCatalog,
            87 => Op::DeleteTenant,
            _ if roles.len() < ROLES => Op::CreateRole { grants: some_grants(dice) },
            _ => {
                let roles = some_roles(dice, &roles);
                Op::CreateMember { member, roles, teams: some_teams(dice) }
            }
        }
    }

    fn question(&self, dice: &mut Dice, about: Option<&str>) -> Question {
        let member = match about {
            Some(member) if !dice.one_in(3) => member.to_owned(),
            _ => format!("member-{}", dice.below(MEMBERS)),
        };
        let permission = (*dice.of(&PERMISSIONS)).to_owned();
        let resource = (!dice.one_in(4)).then(|| Resource {
            assignees: Some(if dice.one_in(3) { vec![member.clone()] } else { vec![] }),
            teams: (!dice.one_in(5)).then(|| vec![(*dice.of(&TEAMS)).to_owned()]),
            ..Resource::default()
        });
        Question { member, permission, resource }
    }
}

/// The member that a write is about.
fn about(op: &Op) -> Option<String> {
    match op {
        Op::CreateMember { member, .. }
        | Op::SetTeams { member, .. }
        | Op::AssignRoles { member, .. }
        | Op::DeleteMember(member)
        | Op::Archive(member)
        | Op::Restore(member) => Some(member.clone()),
        _ => None,
    }
}

fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::ResourceExhausted
    )
}

fn some_grants(dice: &mut Dice) -> Vec<Grant> {
    let list: &&[&str] = dice.of(&GRANTS);
    grants(list)
}

fn some_roles(dice: &mut Dice, custom: &[String]) -> Vec<String> {
    let all: Vec<&str> =
        custom.iter().chain(custom).map(String::as_str).chain(["clerk", "lead"]).collect();
    let mut roles: Vec<String> = (0..dice.below(3)).map(|_| (*dice.of(&all)).to_owned()).collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}

fn some_teams(dice: &mut Dice) -> Vec<String> {
    TEAMS.iter().filter(|_| dice.one_in(2)).map(|team| (*team).to_owned()).collect()
}
