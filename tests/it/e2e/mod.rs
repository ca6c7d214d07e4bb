//! Whole processes over real sockets.

mod command_line;
mod durability;
mod every_rpc;
mod process;
mod reasons;
mod shutdown;
