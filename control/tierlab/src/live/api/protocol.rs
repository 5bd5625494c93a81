//! What client and lab say to each other: one [`Call`], one [`Answer`], each as JSON (RFC 8259) behind its length in
//! octets, 32 bits in network order.
//!
//! Files are read by the client, which knows where they are and may read them; their texts go over the socket. Tables
//! are printed by the lab, which knows its rows. A lab of another version refuses in words.

use crate::args::{Kind, Proto};
use crate::exit::{Error, Exit};
use crate::output::Format;
use definitions::Input;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// Raised with every change of these types.
pub const VERSION: u32 = 1;
/// The longest call, octets: a definition of ten thousand pods takes about four million.
pub const MAX_CALL: usize = 16 << 20;
/// The longest answer, octets.
pub const MAX_ANSWER: usize = 64 << 20;

/// A call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// [`VERSION`] of the client.
    pub version: u32,
    /// What is asked for.
    pub request: Request,
}

/// A text of definitions with the name that messages give it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// The path as the user gave it, or `<stdin>`.
    pub name: String,
    /// Its content.
    pub text: String,
}

impl Text {
    /// The texts of inputs that were read; others are left out.
    pub fn of(inputs: Vec<Input>) -> Vec<Text> {
        let text = |input| match input {
            Input::Text { name, text } => Some(Text { name, text }),
            Input::Path(_) | Input::Stdin => None,
        };
        inputs.into_iter().filter_map(text).collect()
    }

    /// As inputs of definitions.
    pub fn inputs(texts: Vec<Text>) -> Vec<Input> {
        texts.into_iter().map(|Text { name, text }| Input::Text { name, text }).collect()
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// Who are you?
    Info {},
    /// Have these objects as they are written here.
    Apply {
        /// Their definitions.
        texts: Vec<Text>,
    },
    /// Have the objects that are written here no more.
    Delete {
        /// Their definitions.
        texts: Vec<Text>,
    },
    /// Have this object no more.
    DeleteObject {
        /// Its kind, as in a manifest.
        kind: String,
        /// Its namespace.
        namespace: Option<String>,
        /// Its name.
        name: String,
    },
    /// Print a table.
    Get {
        /// Which.
        kind: Kind,
        /// Only objects of this namespace.
        namespace: Option<String>,
        /// In which format.
        format: Format,
    },
    /// What would become of a packet?
    Trace {
        /// Who sends it.
        from: String,
        /// Who gets it, with `:PORT`.
        to: String,
        /// Its protocol, if not by the port.
        protocol: Option<Proto>,
        /// As JSON instead of text.
        json: bool,
        /// Whether the text may be set in bold.
        bold: bool,
    },
    /// End.
    Down {},
}

/// A lab, in its own words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// Its name.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime: u64,
    /// Pods.
    pub pods: usize,
    /// Ports that something real is plugged into.
    pub attached: usize,
    /// Changes since its start.
    pub changes: u64,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// To [`Request::Info`].
    Info(Info),
    /// It was done.
    Done {
        /// For standard output.
        text: String,
        /// For standard error, a line each.
        notices: Vec<String>,
    },
    /// It was not done.
    Failed {
        /// Exit code, 1 to 4.
        exit: u8,
        /// Why.
        message: String,
    },
}

impl Answer {
    /// It was done, and this is to be printed.
    pub fn text(text: String) -> Answer {
        Answer::Done { text, notices: Vec::new() }
    }
}

impl From<Error> for Answer {
    fn from(error: Error) -> Answer {
        Answer::Failed { exit: error.exit as u8, message: error.message }
    }
}

/// The error that a lab's exit code and message stand for.
pub fn failure(exit: u8, message: String) -> Error {
    let known = [Exit::Failed, Exit::BadInput, Exit::Environment];
    let exit = known.into_iter().find(|known| *known as u8 == exit).unwrap_or(Exit::Internal);
    Error { exit, message }
}

/// A message with its length before it.
///
/// # Errors
/// It is longer than `most` octets.
pub fn frame(message: &impl Serialize, most: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)
        .map_err(|e| Error::internal(format!("cannot write a message: {e}")))?;
    let length = bytes.len() - 4;
    let too_long = || Error::input(format!("{length} octets at once are too many, at most {most}"));
    let length = u32::try_from(length).ok().filter(|_| length <= most).ok_or_else(too_long)?;
    bytes.splice(..4, length.to_be_bytes());
    Ok(bytes)
}

/// Sends a message.
///
/// # Errors
/// It is longer than `most` octets, or the other side does not take it.
pub fn send(stream: &mut impl Write, message: &impl Serialize, most: usize) -> Result<(), Error> {
    let bytes = frame(message, most)?;
    let failed = |e: io::Error| Error::environment(format!("the lab does not listen: {e}"));
    stream.write_all(&bytes).and_then(|()| stream.flush()).map_err(failed)
}

/// Receives a message of at most `most` octets.
///
/// # Errors
/// It does not come, or is none.
pub fn receive<T: DeserializeOwned>(stream: &mut impl Read, most: usize) -> Result<T, Error> {
    let failed = |e: io::Error| Error::environment(format!("the lab does not answer: {e}"));
    let mut length = [0; 4];
    stream.read_exact(&mut length).map_err(failed)?;
    let length = u32::from_be_bytes(length);
    if usize::try_from(length).map_or(true, |length| length > most) {
        return Err(Error::environment(format!("the lab's answer of {length} octets is too long")));
    }
    let mut bytes = Vec::new();
    let read = stream.take(length.into()).read_to_end(&mut bytes).map_err(failed)?;
    if read < length as usize {
        return Err(failed(io::ErrorKind::UnexpectedEof.into()));
    }
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::environment(format!("the lab's answer is none: {e}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_sent_is_received() {
        let call = Call {
            version: VERSION,
            request: Request::Apply {
                texts: vec![Text { name: "<stdin>".into(), text: "kind: \"ü\"\n".into() }],
            },
        };
        let mut wire = Vec::new();
        send(&mut wire, &call, MAX_CALL).unwrap();
        // 4 octets of length, then that many.
        assert_eq!(wire.len() - 4, u32::from_be_bytes(wire[..4].try_into().unwrap()) as usize);
        assert_eq!(receive::<Call>(&mut wire.as_slice(), MAX_CALL).unwrap(), call);
    }

    #[test]
    fn what_is_too_long_or_cut_or_else_is_refused() {
        let answer = Answer::text("x".repeat(100));
        let message = send(&mut Vec::new(), &answer, 50).unwrap_err().message;
        assert!(message.contains("too many, at most 50"), "{message}");
        let mut wire = Vec::new();
        send(&mut wire, &answer, 1_000).unwrap();
        let received = |mut bytes: &[u8], most| receive::<Answer>(&mut bytes, most).unwrap_err();
        assert!(received(&wire, 50).message.contains("too long"));
        assert!(received(&wire[..20], 1_000).message.contains("does not answer"));
        assert!(received(&wire[..3], 1_000).message.contains("does not answer"));
        assert!(received(b"\0\0\0\x04null", 1_000).message.contains("is none"));
        // A length that is not there costs nothing.
        assert!(received(&[0x03, 0xff, 0xff, 0xff, b'x'], MAX_ANSWER).message.contains("does not"));
    }

    #[test]
    fn exit_codes_come_through() {
        for (exit, expected) in [
            (1, Exit::Failed),
            (2, Exit::BadInput),
            (3, Exit::Environment),
            (4, Exit::Internal),
            (0, Exit::Internal),
            (77, Exit::Internal),
        ] {
            assert_eq!(failure(exit, String::new()).exit, expected, "{exit}");
        }
    }
}
