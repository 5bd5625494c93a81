//! A document as a tree in which every value knows its place, and a serde deserializer that reads from it.
//!
//! All faults, from parsing to the checks between objects, take their line from this tree. Two things are judged
//! here for every type read from it, ours and Kubernetes' own:
//! - a field that a type does not know is a fault that names its nearest known field. Kubernetes' types would skip it
//!   in silence (they ask for an ignored value, which is how it is found);
//! - a scalar of the wrong type is a fault, as it is to the Kubernetes API: `port: "80"` is no number and
//!   `app: yes` is no string. Only a `Quantity` may be a number.

use std::cell::RefCell;
use std::fmt;

pub(crate) use crate::suggestion::{suggestion, typing_error};
use serde::de::{self, DeserializeSeed, Deserializer, Unexpected, Visitor};

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// A text that stands in quotes and would be a word for true or false without.
    pub quoted: bool,
    pub value: Value,
}

/// A value. Integers beyond 64 bits become floats, which no integer field takes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Float(f64),
    Text(Box<str>),
    Seq(Vec<Node>),
    Map(Vec<Entry>),
}

/// What a word for true or false means that is none in YAML 1.2.
pub(crate) fn boolean_word(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "y" | "yes" | "on" => Some(true),
        "n" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// A key with its value. Keys of one mapping are different.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub key: Box<str>,
    pub value: Node,
    /// Of the key.
    pub line: u32,
    /// Of the key.
    pub column: u32,
}

impl Node {
    /// The value under `key`, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|e| &*e.key == key).map(|e| &e.value),
            _ => None,
        }
    }

    /// The value under `key`, or else this node: the place to report a fault of that field at.
    pub fn at(&self, key: &str) -> &Node {
        self.get(key).unwrap_or(self)
    }

    /// The element at `index`, or else this node.
    pub fn item(&self, index: usize) -> &Node {
        match &self.value {
            Value::Seq(items) => items.get(index).unwrap_or(self),
            _ => self,
        }
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// As [`get`](Self::get), to change it.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        match &mut self.value {
            Value::Map(entries) => {
                entries.iter_mut().find(|e| &*e.key == key).map(|e| &mut e.value)
            }
            _ => None,
        }
    }

    /// Takes an entry out of a mapping.
    pub fn remove(&mut self, key: &str) -> Option<Entry> {
        let Value::Map(entries) = &mut self.value else { return None };
        let index = entries.iter().position(|entry| &*entry.key == key)?;
        Some(entries.remove(index))
    }

    /// Moves a tree that was read by itself to where its text is: `lines` further down, and on its first line
    /// `columns` to the right.
    pub fn shift(&mut self, lines: u32, columns: u32) {
        let shift = |line: &mut u32, column: &mut u32| {
            if *line == 1 {
                *column = column.saturating_add(columns);
            }
            *line = line.saturating_add(lines);
        };
        shift(&mut self.line, &mut self.column);
        match &mut self.value {
            Value::Seq(items) => items.iter_mut().for_each(|item| item.shift(lines, columns)),
            Value::Map(entries) => {
                for entry in entries {
                    shift(&mut entry.line, &mut entry.column);
                    entry.value.shift(lines, columns);
                }
            }
            _ => {}
        }
    }

    /// How many values there are, this one included.
    pub fn count(&self) -> usize {
        1 + match &self.value {
            Value::Seq(items) => items.iter().map(Node::count).sum(),
            Value::Map(entries) => entries.iter().map(|e| 1 + e.value.count()).sum(),
            _ => 0,
        }
    }

    /// Reads a `T`, collecting every unknown field.
    ///
    /// # Errors
    /// Every fault found, at least one.
    pub fn read<'de, T: de::Deserialize<'de>>(&'de self) -> Result<T, Vec<Fault>> {
        let unknown = RefCell::new(Vec::new());
        let result =
            T::deserialize(NodeDeserializer { node: self, unknown: &unknown, lenient: false });
        let mut faults = unknown.into_inner();
        match result {
            Ok(value) if faults.is_empty() => Ok(value),
            Ok(_) => Err(faults),
            Err(fault) => {
                faults.push(fault.or_at(self.line, self.column));
                Err(faults)
            }
        }
    }
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// 0 until the place is known.
    pub line: u32,
    pub column: u32,
    pub message: String,
    pub help: Option<String>,
    /// The message is about a value only, and whoever knows its field may put that in front.
    pub of_value: bool,
}

impl Fault {
    /// A fault at `node`.
    pub fn at(node: &Node, message: impl Into<String>) -> Fault {
        Fault {
            line: node.line,
            column: node.column,
            message: message.into(),
            help: None,
            of_value: false,
        }
    }

    /// A fault whose place is not known yet.
    fn unplaced(message: impl Into<String>) -> Fault {
        Fault { line: 0, column: 0, message: message.into(), help: None, of_value: false }
    }

    /// The same with what to do about it.
    pub fn help(mut self, help: impl Into<String>) -> Fault {
        self.help = Some(help.into());
        self
    }

    /// Rust's own message for an IP address does not say which.
    fn of_address(mut self, node: &Node) -> Fault {
        if let Value::Text(text) = &node.value
            && let Some(kind) = self.message.strip_prefix("invalid ")
            && let Some(kind) = kind.strip_suffix(" address syntax")
        {
            self.message = format!("'{}' is not an {kind} address", excerpt(text));
        }
        self
    }

    /// Puts the field in front of what is said of its value.
    fn in_field(mut self, field: &str) -> Fault {
        if std::mem::take(&mut self.of_value) {
            self.message = format!("{}: {}", excerpt(field), self.message);
        }
        self
    }

    fn or_at(mut self, line: u32, column: u32) -> Fault {
        if self.line == 0 {
            self.line = line;
            self.column = column;
        }
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// The most unknown fields of one object that are told.
const MAX_UNKNOWN: usize = 100;

/// The most names that are compared for a suggestion.
pub(crate) const MAX_COMPARED: usize = 500;

/// At most this much of a user's scalar is repeated in a message.
const EXCERPT: usize = 80;

/// The beginning of `text`, fit for a message: no control characters.
pub(crate) fn excerpt(text: &str) -> String {
    let mut short: String =
        text.chars().take(EXCERPT).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(EXCERPT).is_some() {
        short.push('…');
    }
    short
}

impl de::Error for Fault {
    /// What the parsers of our texts say, and those of Rust's own.
    fn custom<T: fmt::Display>(message: T) -> Fault {
        Fault { of_value: true, ..Fault::unplaced(message.to_string()) }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Fault {
        let found_text = match found {
            Unexpected::Str(text) => format!("the string '{}'", excerpt(text)),
            Unexpected::Bool(value) => format!("the boolean {value}"),
            Unexpected::Unsigned(number) => format!("the number {number}"),
            Unexpected::Signed(number) => format!("the number {number}"),
            Unexpected::Float(number) => format!("the number {number}"),
            Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
            Unexpected::Map => "a mapping".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            other => other.to_string(),
        };
        let expected = expected.to_string();
        let help = match found {
            Unexpected::Bool(_) | Unexpected::Unsigned(_) | Unexpected::Signed(_)
                if expected.contains("string") =>
            {
                Some("put it in quotes".to_owned())
            }
            Unexpected::Str(text) if text.parse::<i64>().is_ok() => {
                Some("take the quotes away".to_owned())
            }
            _ => None,
        };
        Fault {
            help,
            ..Fault::unplaced(format!("{found_text} stands where {} is needed", spelled(&expected)))
        }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Fault {
        let expected = expected.to_string();
        match found {
            Unexpected::Unsigned(number) => Fault::unplaced(format!(
                "{number} is out of range: {} is needed",
                spelled(&expected)
            )),
            Unexpected::Signed(number) => Fault::unplaced(format!(
                "{number} is out of range: {} is needed",
                spelled(&expected)
            )),
            Unexpected::Str(text) => Fault::unplaced(format!(
                "'{}' stands where {} is needed",
                excerpt(text),
                spelled(&expected)
            )),
            other => {
                Fault::unplaced(format!("{other} stands where {} is needed", spelled(&expected)))
            }
        }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Fault {
        Fault {
            help: suggestion(field, expected.iter().copied()),
            ..Fault::unplaced(format!("unknown field '{}'", excerpt(field)))
        }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Fault {
        Fault {
            help: suggestion(variant, expected.iter().copied()),
            ..Fault::unplaced(format!("unknown value '{}'", excerpt(variant)))
        }
    }

    fn missing_field(field: &'static str) -> Fault {
        Fault::unplaced(format!("field '{field}' is missing"))
    }
}

/// Rust's names of integer types, said for people.
fn spelled(expected: &str) -> &str {
    match expected {
        "u8" => "a number from 0 to 255",
        "u16" => "a number from 0 to 65535",
        "u32" => "a number from 0 to 4294967295",
        "i32" => "a number from -2147483648 to 2147483647",
        "i64" | "u64" => "a number",
        "string" | "String" => "a string",
        "a boolean" | "bool" => "true or false",
        "a sequence" => "a list",
        "a map" => "a mapping",
        other if other.starts_with("struct ") => "a mapping",
        other => other,
    }
}

#[derive(Clone, Copy)]
struct NodeDeserializer<'de, 'f> {
    node: &'de Node,
    unknown: &'f RefCell<Vec<Fault>>,
    /// Numbers may stand where a string is needed.
    lenient: bool,
}

impl<'de> NodeDeserializer<'de, '_> {
    /// Gives the value to `visitor`. In a struct a null is the same as no entry, as in the Kubernetes API.
    fn visit<V: Visitor<'de>>(
        self,
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let node = self.node;
        match &node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Unsigned(value) => visitor.visit_u64(*value),
            Value::Negative(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Seq(items) => {
                visitor.visit_seq(SeqAccess { items: items.iter(), unknown: self.unknown })
            }
            Value::Map(entries) => visitor.visit_map(MapAccess {
                entries: entries.iter(),
                fields,
                current: None,
                unknown: self.unknown,
            }),
        }
        .map_err(|fault| fault.of_address(node).or_at(node.line, node.column))
    }
}

impl<'de> Deserializer<'de> for NodeDeserializer<'de, '_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit(None, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let place = |fault: Fault| fault.or_at(self.node.line, self.node.column);
        match self.node.value {
            // Nothing written is a mapping without entries: `expectNothing:`.
            Value::Null => visitor
                .visit_map(MapAccess {
                    entries: [].iter(),
                    fields: Some(fields),
                    current: None,
                    unknown: self.unknown,
                })
                .map_err(place),
            // A derived visitor would also take a list for a struct.
            Value::Seq(_) => Err(Fault::at(self.node, "a list stands where a mapping is needed")),
            _ => self.visit(Some(fields), visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(NodeDeserializer { lenient: name == "Quantity", ..self })
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.lenient {
            match self.node.value {
                Value::Unsigned(number) => return visitor.visit_string(number.to_string()),
                Value::Float(number) => return visitor.visit_string(number.to_string()),
                _ => {}
            }
        }
        self.visit(None, visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let node = self.node;
        match &node.value {
            Value::Text(text) => visitor.visit_enum(de::value::StrDeserializer::<Fault>::new(text)),
            Value::Map(entries) => match entries.as_slice() {
                [entry] => visitor.visit_enum(EnumAccess { entry, unknown: self.unknown }),
                [] => Err(Fault::at(node, "an empty mapping stands where one key is needed")
                    .help(format!("it is one of {}", variants.join(", ")))),
                [_, second, ..] => Err(Fault {
                    line: second.line,
                    column: second.column,
                    message: format!(
                        "'{}' is a second key where only one is allowed",
                        excerpt(&second.key)
                    ),
                    help: Some(format!("begin a new {} for it", name.to_lowercase())),
                    of_value: false,
                }),
            },
            _ => Err(Fault::at(node, format!("one of {} is needed here", variants.join(", ")))),
        }
        .map_err(|fault| fault.or_at(node.line, node.column))
    }

    /// Asked for the value of a field that a type does not know. [`MapAccess`] answers for those in structs.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    /// YAML 1.1's words for true and false count where a boolean is wanted; in quotes they are text.
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let word = self.node.text().filter(|_| !self.node.quoted).and_then(boolean_word);
        let Some(value) = word else { return self.deserialize_any(visitor) };
        let node = self.node;
        visitor.visit_bool(value).map_err(|fault: Fault| fault.or_at(node.line, node.column))
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier
    }
}

struct SeqAccess<'de, 'f> {
    items: std::slice::Iter<'de, Node>,
    unknown: &'f RefCell<Vec<Fault>>,
}

impl<'de> de::SeqAccess<'de> for SeqAccess<'de, '_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        self.items
            .next()
            .map(|node| {
                seed.deserialize(NodeDeserializer { node, unknown: self.unknown, lenient: false })
                    .map_err(|fault| fault.or_at(node.line, node.column))
            })
            .transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct MapAccess<'de, 'f> {
    entries: std::slice::Iter<'de, Entry>,
    /// The fields of the struct that is read; `None`: a map, whose keys are free.
    fields: Option<&'static [&'static str]>,
    current: Option<&'de Entry>,
    unknown: &'f RefCell<Vec<Fault>>,
}

impl<'de> de::MapAccess<'de> for MapAccess<'de, '_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        loop {
            let Some(entry) = self.entries.next() else {
                return Ok(None);
            };
            if let Some(fields) = self.fields {
                let known = fields.contains(&&*entry.key);
                if !known && self.unknown.borrow().len() < MAX_UNKNOWN {
                    self.unknown.borrow_mut().push(
                        <Fault as de::Error>::unknown_field(&entry.key, fields)
                            .or_at(entry.line, entry.column),
                    );
                }
                if !known || entry.value.value == Value::Null {
                    continue;
                }
            }
            self.current = Some(entry);
            return seed
                .deserialize(de::value::StrDeserializer::new(&entry.key))
                .map(Some)
                .map_err(|fault: Fault| fault.or_at(entry.line, entry.column));
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let entry = self
            .current
            .take()
            .ok_or_else(|| <Fault as de::Error>::custom("a value was asked for before its key"))?;
        seed.deserialize(NodeDeserializer {
            node: &entry.value,
            unknown: self.unknown,
            lenient: false,
        })
        .map_err(|fault| fault.in_field(&entry.key).or_at(entry.value.line, entry.value.column))
    }
}

struct EnumAccess<'de, 'f> {
    entry: &'de Entry,
    unknown: &'f RefCell<Vec<Fault>>,
}

impl<'de, 'f> de::EnumAccess<'de> for EnumAccess<'de, 'f> {
    type Error = Fault;
    type Variant = NodeDeserializer<'de, 'f>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Fault> {
        let entry = self.entry;
        let variant = seed
            .deserialize(de::value::StrDeserializer::new(&entry.key))
            .map_err(|fault: Fault| fault.or_at(entry.line, entry.column))?;
        Ok((
            variant,
            NodeDeserializer { node: &entry.value, unknown: self.unknown, lenient: false },
        ))
    }
}

impl<'de> de::VariantAccess<'de> for NodeDeserializer<'de, '_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.node.value {
            Value::Null => Ok(()),
            _ => Err(Fault::at(self.node, "nothing is expected here")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        let node = self.node;
        seed.deserialize(self).map_err(|fault| fault.or_at(node.line, node.column))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.visit(None, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.visit(Some(fields), visitor)
    }
}
