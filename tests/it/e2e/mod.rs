//! Whole processes over real sockets.

mod actors;
mod audit;
mod callers;
mod check_stream;
mod command_line;
mod decision_log;
mod delays;
mod desk;
mod differing;
mod durability;
mod every_rpc;
mod faults;
mod figures;
mod fleet;
mod history;
mod http;
mod limits;
mod outage;
pub(crate) mod process;
mod rates;
mod reasons;
mod replicas;
mod restore;
mod secrets;
mod shutdown;
mod suspension;
mod watch;
