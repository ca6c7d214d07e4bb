//! Whole processes over real sockets.

mod command_line;
mod durability;
mod process;
mod reasons;
mod shutdown;
