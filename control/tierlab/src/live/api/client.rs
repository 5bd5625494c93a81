//! The command line's side of the API.

use super::protocol::{
    Answer, Call, Info, MAX_ANSWER, MAX_CALL, Request, VERSION, failure, receive, send,
};
use super::registry::{Entry, directories, running};
use crate::exit::{Error, Exit};
use crate::output::{print, printable};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long a lab may take to do what it was asked for; a realization takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a lab may take to say who it is.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);

/// The running lab of this name, or the only one.
///
/// # Errors
/// There is none, or there are several.
pub fn find(name: Option<&str>) -> Result<Entry, Error> {
    let labs = running(&directories());
    let names = || labs.iter().map(|lab| lab.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, labs.as_slice()) {
        (Some(name), _) => labs.iter().find(|lab| lab.name == name).cloned().ok_or_else(|| {
            let there = if labs.is_empty() { "none is".to_owned() } else { names() };
            Error::input(format!("no lab '{name}' is running; running: {there}"))
        }),
        (None, [lab]) => Ok(lab.clone()),
        (None, []) => Err(Error::input(
            "no lab is running: start one with 'tierlab up', or name the files of one with --file where the \
             command takes them",
        )),
        (None, _) => Err(Error::input(format!(
            "several labs are running: {}; say which with --lab, or name files with --file where the command \
             takes them",
            names()
        ))),
    }
}

/// All running labs that answer.
pub fn labs() -> Vec<(Entry, Info)> {
    let answered = running(&directories()).into_iter().filter_map(|entry| {
        match exchange(&entry, Request::Info {}, SHORT_PATIENCE) {
            Ok((Answer::Info(info), _)) => Some((entry, info)),
            // It ends, or is too busy to be talked to.
            _ => None,
        }
    });
    answered.collect()
}

/// Has a lab do something and prints what it says.
///
/// # Errors
/// What the lab says, or that it says nothing.
pub fn call(lab: &Entry, request: Request) -> Result<Exit, Error> {
    let (answer, _) = exchange(lab, request, PATIENCE)?;
    show(answer)
}

/// Ends a lab and waits until it has been taken down.
///
/// # Errors
/// The lab does not end.
pub fn down(lab: &Entry) -> Result<Exit, Error> {
    let (answer, stream) = exchange(lab, Request::Down {}, PATIENCE)?;
    show(answer)?;
    // Nothing more comes but the end.
    match stream.take(1).read_to_end(&mut Vec::new()) {
        Ok(_) => print(&format!("lab '{}' is down\n", lab.name)).map(|()| Exit::Ok),
        Err(e) => Err(Error::environment(format!("lab '{}' does not end: {e}", lab.name))),
    }
}

fn show(answer: Answer) -> Result<Exit, Error> {
    match answer {
        Answer::Done { text, notices } => {
            for notice in notices {
                eprintln!("{}", printable(&notice));
            }
            print(&text)?;
            Ok(Exit::Ok)
        }
        Answer::Failed { exit, message } => Err(failure(exit, message)),
        Answer::Info(_) => Err(Error::internal("the lab answered what was not asked")),
    }
}

fn exchange(
    lab: &Entry,
    request: Request,
    patience: Duration,
) -> Result<(Answer, UnixStream), Error> {
    let failed = |e: std::io::Error| {
        Error::environment(format!(
            "cannot talk to lab '{}' at {}: {e}",
            lab.name,
            lab.socket.display()
        ))
    };
    let mut stream = UnixStream::connect(&lab.socket).map_err(failed)?;
    stream.set_read_timeout(Some(patience)).map_err(failed)?;
    stream.set_write_timeout(Some(patience)).map_err(failed)?;
    send(&mut stream, &Call { version: VERSION, request }, MAX_CALL)?;
    let answer = receive(&mut stream, MAX_ANSWER)?;
    Ok((answer, stream))
}
