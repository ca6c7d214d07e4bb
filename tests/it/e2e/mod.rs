//! Whole processes over real sockets.

mod command_line;
mod durability;
mod exposition;
mod http;
mod process;
mod reasons;
mod shutdown;
