//! tierlab: a network data-plane emulator for NSX-T under a vSphere Supervisor Cluster.
//!
//! Every command builds the lab that the `-f` paths define in this process, on the virtual clock,
//! does its work and ends; `up` runs it on the wall clock with real interfaces.

#[allow(rustdoc::broken_intra_doc_links, reason = "its doc comments are help for a terminal")]
mod args;
mod benchmark;
mod change;
mod commands;
mod exit;
mod live;
mod observed;
mod open;
mod output;
mod packet_test;
mod tables;

use clap::Parser;
use output::printable;
use std::process::ExitCode;

fn main() -> ExitCode {
    // clap ends the program itself: 0 for --help and --version, 2 for wrong arguments.
    let cli = args::Cli::parse_from(args::expand(std::env::args_os()));
    match commands::run(cli.command) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => {
            // What the user or a file gave may be quoted in it.
            for line in error.message.lines() {
                eprintln!("{}", printable(line));
            }
            ExitCode::from(error.exit as u8)
        }
    }
}
