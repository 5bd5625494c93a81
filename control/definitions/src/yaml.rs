//! Text to [`Node`]s: YAML 1.2 with the YAML 1.1 octals that `kubectl` reads too, and JSON.
//!
//! `y`, `no`, `on` and the like are text, and booleans only where a boolean is wanted: a namespace may be
//! called `y`.
//!
//! Hostile input is bounded here: size, nesting, aliases, nodes and documents. Duplicate keys are faults.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{DuplicateKeyPolicy, Error, MergeKeyPolicy, Options, Spanned};

use crate::node::{Entry, Fault, Node, Value, boolean_word, excerpt};

/// The most octets of one file.
pub(crate) const MAX_FILE: usize = 16 * 1024 * 1024;
/// The most documents of one file.
pub(crate) const MAX_DOCUMENTS: usize = 100_000;
/// The most values of one load: with their places they take some 150 octets each.
pub(crate) const MAX_NODES: usize = 500_000;
/// The deepest nesting; an unmodified manifest stays under 20.
const MAX_DEPTH: usize = 64;
/// The most values that aliases may repeat.
const MAX_REPEATED: usize = 50_000;

fn options(nodes: usize, duplicate_keys: DuplicateKeyPolicy) -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_documents: MAX_DOCUMENTS,
            max_nodes: nodes,
            max_events: 3 * MAX_NODES,
            max_aliases: 10_000,
            max_anchors: 10_000,
            max_recorded_anchor_events: MAX_NODES,
            max_total_scalar_bytes: MAX_FILE,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_REPEATED,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: duplicate_keys,
        merge_keys: MergeKeyPolicy::Merge,
        legacy_octal_numbers: true,
        strict_booleans: true,
        emit_comments: false,
        with_snippet: false,
    }
}

/// Why a text could not be read.
#[derive(Debug)]
pub(crate) struct Unreadable {
    /// What is wrong, and where.
    pub fault: Fault,
    /// The document it is in, where that can be told.
    pub within: Option<Node>,
}

impl From<Fault> for Unreadable {
    fn from(fault: Fault) -> Unreadable {
        Unreadable { fault, within: None }
    }
}

/// All documents of a file; empty ones are left out. `nodes` is how many values there may still be; it falls.
///
/// # Errors
/// What is wrong with the text, and where.
pub(crate) fn parse(bytes: &[u8], nodes: &mut usize) -> Result<Vec<Node>, Unreadable> {
    let here = |before: &[u8], message: &str, help: &str| Fault {
        line: 1 + u32::try_from(before.iter().filter(|b| **b == b'\n').count())
            .unwrap_or(u32::MAX - 1),
        column: 1,
        message: message.to_owned(),
        help: Some(help.to_owned()),
        of_value: false,
    };
    if bytes.len() > MAX_FILE {
        return Err(
            here(&[], "the file is larger than 16 MiB", "split it into several files").into()
        );
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        here(before, "the text is not UTF-8", "save the file as UTF-8")
    })?;
    if let Some(at) = bytes.iter().position(|b| *b == 0) {
        return Err(here(
            bytes.get(..at).unwrap_or_default(),
            "the text contains a NUL octet",
            "only text can be read, not binary files",
        )
        .into());
    }
    let error = match stream(text, nodes) {
        Ok(documents) => return Ok(documents),
        Err(error) => error,
    };
    if let Some(pieces) = concatenated(text) {
        let mut documents = Vec::new();
        for (line, column, piece) in pieces {
            let mut read = stream(piece, nodes).map_err(|error| {
                let mut unreadable = unreadable(&error, piece, nodes);
                let fault = &mut unreadable.fault;
                fault.column += if fault.line == 1 { column } else { 0 };
                fault.line += line;
                unreadable
            })?;
            read.iter_mut().for_each(|document| document.shift(line, column));
            documents.append(&mut read);
        }
        return Ok(documents);
    }
    Err(unreadable(&error, text, nodes))
}

/// The documents of a stream; `nodes` falls by what they take.
fn stream(text: &str, nodes: &mut usize) -> Result<Vec<Node>, Error> {
    let mut documents: Vec<Node> = serde_saphyr::from_str_multiple_with_options::<Node, Vec<Node>>(
        text,
        options(*nodes, DuplicateKeyPolicy::Error),
    )?;
    let used: usize = documents.iter().map(Node::count).sum();
    *nodes = nodes.saturating_sub(used);
    let mut lines = Vec::new();
    documents.iter_mut().for_each(|document| mark_quoted(document, text, &mut lines));
    Ok(documents)
}

/// Marks the words for true and false that stand in quotes: the reader does not tell. `lines` are those of the
/// text, once somebody needs them. What an alias stands for counts as unquoted.
fn mark_quoted<'t>(node: &mut Node, text: &'t str, lines: &mut Vec<&'t str>) {
    match &mut node.value {
        Value::Text(word) if boolean_word(word).is_some() => {
            if lines.is_empty() {
                // No column is the byte order mark's.
                lines.extend(text.trim_start_matches('\u{feff}').split('\n'));
            }
            let line = node.line.checked_sub(1).and_then(|at| lines.get(at as usize));
            let before = node.column.saturating_sub(1) as usize;
            let first = line.and_then(|line| line.chars().nth(before));
            node.quoted = matches!(first, Some('"' | '\''));
        }
        Value::Seq(items) => items.iter_mut().for_each(|item| mark_quoted(item, text, lines)),
        Value::Map(entries) => {
            entries.iter_mut().for_each(|entry| mark_quoted(&mut entry.value, text, lines));
        }
        _ => {}
    }
}

/// What is told of a text that could not be read.
fn unreadable(error: &Error, text: &str, nodes: &mut usize) -> Unreadable {
    let fault = fault(error);
    let within = match error {
        Error::DuplicateMappingKey { .. } => document_at(text, *nodes, fault.line),
        _ => None,
    };
    // How far it came is unknown; a value takes two octets at least.
    *nodes = nodes.saturating_sub(text.len() / 2);
    Unreadable { fault, within }
}

/// The parser's message without its own place, which we print in front; limits are told in our words.
fn fault(error: &Error) -> Fault {
    let place = error.location();
    let rendered = error.render();
    let limit = match error {
        Error::Budget { breach, .. } => Some(match breach {
            BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. } => {
                format!("more than {MAX_NODES} values in all inputs")
            }
            BudgetBreach::Depth { .. } => format!("nested more than {MAX_DEPTH} deep"),
            BudgetBreach::Documents { .. } => format!("more than {MAX_DOCUMENTS} documents"),
            other => format!("a limit against hostile input is exceeded ({other:?})"),
        }),
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            Some(format!("key '{}' stands twice in one mapping", excerpt(key)))
        }
        Error::DuplicateMappingKey { .. } => Some("a key stands twice in one mapping".to_owned()),
        _ if rendered.contains("alias replay limit") => {
            Some(format!("aliases repeat more than {MAX_REPEATED} values"))
        }
        _ if rendered.contains("recursion limit") => {
            Some(format!("nested more than {MAX_DEPTH} deep"))
        }
        _ => None,
    };
    let message = limit.unwrap_or_else(|| {
        let mut text = rendered;
        if let Some(place) = place {
            for own in [
                format!(" at line {}, column {}", place.line(), place.column()),
                format!("line {} column {}: ", place.line(), place.column()),
            ] {
                text = text.replace(&own, "");
            }
        }
        let first = text.lines().next().unwrap_or_default();
        format!("not readable as YAML: {}", excerpt(first))
    });
    Fault {
        line: place.map_or(1, |p| narrow(p.line())).max(1),
        column: place.map_or(1, |p| narrow(p.column())).max(1),
        message,
        help: matches!(error, Error::DuplicateMappingKey { .. })
            .then(|| "remove one of the two".to_owned()),
        of_value: false,
    }
}

/// The document around `line`, for the name of the object that a second key stands in.
fn document_at(text: &str, nodes: usize, line: u32) -> Option<Node> {
    let options = options(nodes, DuplicateKeyPolicy::FirstWins);
    let documents = serde_saphyr::from_str_multiple_with_options::<Node, Vec<Node>>(text, options);
    documents.ok()?.into_iter().rfind(|document| document.line <= line)
}

/// The objects of a text in which they follow each other without anything in between, as `jq` and concatenated
/// files have them: each with its line and column, from 0. `None` if the text is anything else, or one object.
fn concatenated(text: &str) -> Option<Vec<(u32, u32, &str)>> {
    let (mut pieces, mut start, mut depth) = (Vec::new(), (0, 0, 0), 0usize);
    let (mut line, mut column) = (0u32, 0u32);
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if depth > 0 => quoted = !quoted,
            _ if quoted => {}
            '{' => {
                if depth == 0 {
                    start = (line, column, at);
                }
                depth += 1;
            }
            '}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    pieces.push((start.0, start.1, text.get(start.2..=at)?));
                }
            }
            '\u{feff}' if at == 0 => {}
            _ if depth == 0 && !c.is_whitespace() => return None,
            _ => {}
        }
        (line, column) = if c == '\n' { (line + 1, 0) } else { (line, column + 1) };
    }
    (depth == 0 && (2..=MAX_DOCUMENTS).contains(&pieces.len())).then_some(pieces)
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Node {
            line: narrow(spanned.referenced.line()),
            column: narrow(spanned.referenced.column()),
            quoted: false,
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(u64::try_from(value).map_or(Value::Negative(value), Value::Unsigned))
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "no field takes such a number; it is only printed"
    )]
    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Float(value as f64))
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "no field takes such a number; it is only printed"
    )]
    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Float(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.into()))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::Text(String::from_utf8_lossy(bytes).into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Seq(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            entries.push(Entry {
                line: narrow(key.referenced.line()),
                column: narrow(key.referenced.column()),
                key: key.value.into(),
                value: map.next_value()?,
            });
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn one(text: &str) -> Node {
        parse(text.as_bytes(), &mut 1000).unwrap().remove(0)
    }

    fn error(text: &str) -> Fault {
        parse(text.as_bytes(), &mut 1000).unwrap_err().fault
    }

    #[test]
    fn places_of_values_and_keys_in_several_documents() {
        let docs =
            parse(b"# first\na: 1\nb:\n  - x\n  - {c: z}\n---\n---\n\nd:\n  e: true\n", &mut 1000)
                .unwrap();
        assert_eq!(docs.len(), 2);
        assert_eq!((docs[0].line, docs[0].column), (2, 1));
        let z = docs[0].at("b").item(1).at("c");
        assert_eq!((z.line, z.column, z.text()), (5, 9, Some("z")));
        assert_eq!((docs[1].line, docs[1].at("d").at("e").line), (9, 10));
        let Value::Map(entries) = &docs[1].value else { unreachable!() };
        assert_eq!((entries[0].line, entries[0].column), (9, 1));
    }

    #[test]
    fn scalars_are_typed_as_kubectl_types_them() {
        for (text, value) in [
            ("80", Value::Unsigned(80)),
            ("\"80\"", Value::Text("80".into())),
            ("-1", Value::Negative(-1)),
            ("0644", Value::Unsigned(0o644)),
            ("true", Value::Bool(true)),
            ("y", Value::Text("y".into())),
            ("no", Value::Text("no".into())),
            ("\"yes\"", Value::Text("yes".into())),
            ("~", Value::Null),
            ("1.5", Value::Float(1.5)),
            ("10.0.0.1", Value::Text("10.0.0.1".into())),
            ("04:50:56:00:d0:00", Value::Text("04:50:56:00:d0:00".into())),
            ("10:20:30:40:50:59", Value::Text("10:20:30:40:50:59".into())),
        ] {
            assert_eq!(one(&format!("x: {text}")).at("x").value, value, "{text}");
        }
    }

    #[test]
    fn a_word_for_true_knows_whether_it_stands_in_quotes() {
        let node = one("a: yes\nb: \"yes\"\nc: ['no', no, \"é\", \"off\"]\ne: \"true\"\n");
        assert!(!node.at("a").quoted && node.at("b").quoted);
        let list = [0, 1, 2, 3].map(|i| node.at("c").item(i).quoted);
        assert_eq!(list, [true, false, false, true]);
        assert_eq!(node.at("e").value, Value::Text("true".into()));
        // Objects that follow each other, and a byte order mark.
        let docs = parse(b"{\"a\": \"no\"} {\"b\": \"yes\"}", &mut 1000).unwrap();
        assert!(docs[0].at("a").quoted && docs[1].at("b").quoted);
        assert!(one("\u{feff}{a: 'on'}").at("a").quoted);
    }

    #[test]
    fn json_is_read_too() {
        let node = one("{\n\t\"a\": [1, \"two\", null],\n\t\"b\": {\"c\": \"\\u00e9\"}\n}");
        assert_eq!(node.at("a").item(0).value, Value::Unsigned(1));
        assert_eq!(node.at("b").at("c").text(), Some("é"));
        assert_eq!(node.at("b").line, 3);
    }

    #[test]
    fn anchors_and_merge_keys_work() {
        let node = one("base: &b {x: 1}\nuse:\n  <<: *b\n  y: 2\n");
        assert_eq!(node.at("use").at("x").value, Value::Unsigned(1));
        assert_eq!(node.at("use").at("y").value, Value::Unsigned(2));
    }

    #[test]
    fn concatenated_json_keeps_its_places() {
        let docs = parse(b"{\"a\": \"}{\\\"\"} {\"b\":\n 1}\n\n{\"c\": {}}", &mut 1000).unwrap();
        let places: Vec<_> = docs.iter().map(|d| (d.line, d.column)).collect();
        assert_eq!(places, [(1, 1), (1, 15), (4, 1)]);
        assert_eq!(docs[0].at("a").text(), Some("}{\""));
        assert_eq!((docs[1].at("b").line, docs[1].at("b").column), (2, 2));
        assert_eq!(error("{\"a\": 1}\n{\"b\": 1,\n\"b\": 2}\n").line, 3);
        assert!(error("{\"a\": 1}\nb: 2\n").message.contains("not readable"));
    }

    #[test]
    fn a_second_key_is_told_with_its_document() {
        let text = b"a: 1\n---\nkind: Pod\nkind: Service\n---\nb: 1\n";
        let unreadable = parse(text, &mut 1000).unwrap_err();
        assert_eq!(unreadable.fault.line, 4);
        assert_eq!(unreadable.fault.message, "key 'kind' stands twice in one mapping");
        assert_eq!(unreadable.within.unwrap().at("kind").text(), Some("Pod"));
    }

    #[test]
    fn byte_order_mark_and_carriage_returns_are_taken() {
        let node = one("\u{feff}a: 1\r\nb: x\r\n");
        assert_eq!(node.at("b").text(), Some("x"));
        assert_eq!(node.at("b").line, 2);
    }

    #[test]
    fn broken_text_is_refused_at_its_line() {
        assert_eq!(error("a: 1\na: 2\n").line, 2);
        assert_eq!(error("a: 1\nb: [1, 2\n").message.lines().count(), 1);
        assert_eq!(parse(b"a: 1\nb: \xff\n", &mut 1000).unwrap_err().fault.line, 2);
        assert_eq!(parse(b"a: 1\nb: 2\nc: \0\n", &mut 1000).unwrap_err().fault.line, 3);
        assert!(error("a: *nowhere\n").message.contains("not readable"));
    }
}
