//! Whole processes over real sockets.

mod audit;
mod command_line;
mod durability;
mod every_rpc;
mod http;
mod outage;
mod process;
mod reasons;
mod replicas;
mod shutdown;
mod watch;
