//! `tierlab apply` and `tierlab delete`: changes of a running lab.

use crate::args;
use crate::exit::{Error, Exit};
use crate::live::api::client;
use crate::live::api::protocol::{Request, Text};
use crate::open::{inputs, lines};
use std::path::PathBuf;

pub fn apply(args: &args::Apply) -> Result<Exit, Error> {
    let lab = client::find(args.lab.running.as_deref())?;
    client::call(&lab, Request::Apply { texts: texts(&args.file)? })
}

pub fn delete(args: &args::Delete) -> Result<Exit, Error> {
    let lab = client::find(args.lab.running.as_deref())?;
    let request = match (&args.kind, &args.name) {
        (Some(kind), Some(name)) => Request::DeleteObject {
            // A word that means no kind is refused by the lab, which has a suggestion.
            kind: definitions::kind_named(kind).unwrap_or(kind).to_owned(),
            namespace: args.namespace.clone(),
            name: name.clone(),
        },
        _ if args.namespace.is_some() => {
            return Err(Error::input(
                "-n says where KIND NAME is; what files name has its own namespace",
            ));
        }
        _ => Request::Delete { texts: texts(&args.file)? },
    };
    client::call(&lab, request)
}

/// What the files hold.
fn texts(files: &[PathBuf]) -> Result<Vec<Text>, Error> {
    let read = definitions::read(&inputs(files));
    Ok(Text::of(read.map_err(|faults| Error::input(lines(&faults)))?))
}
