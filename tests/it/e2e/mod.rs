//! Whole processes over real sockets.

mod callers;
mod command_line;
mod durability;
mod every_rpc;
mod http;
mod outage;
mod process;
mod reasons;
mod replicas;
mod shutdown;
