//! What each command does.

mod apply;
mod bench;
mod curl;
mod demo;
pub mod get;
mod labs;
mod matrix;
mod ping;
mod replay;
mod test;
pub mod trace;
mod up;
mod validate;

use crate::args::Command;
use crate::exit::{Error, Exit};

/// Runs a command.
pub fn run(command: Command) -> Result<Exit, Error> {
    match command {
        Command::Demo(args) => demo::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Up(args) => up::run(&args),
        Command::Labs(args) => labs::labs(&args),
        Command::Apply(args) => apply::apply(&args),
        Command::Delete(args) => apply::delete(&args),
        Command::Down(args) => labs::down(&args),
        Command::Get(args) => get::run(&args),
        Command::Ping(args) => ping::run(&args),
        Command::Curl(args) => curl::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Matrix(args) => matrix::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Bench(args) => bench::run(&args),
    }
}
