//! `apply` and `delete` of a packet test: changes to the running lab.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// `apply`: manifests from files, written in place, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Apply {
    /// A file, or a directory of them; a relative path begins where the test's own file is.
    pub file: Option<String>,
    /// Several such.
    pub files: Vec<String>,
    /// Manifests, as in a file.
    pub manifests: Vec<Manifest>,
}

/// `delete`: one object by `kind`, `name` and, where it lies in one, `namespace`; or all that stand in files. A
/// namespace goes with all that lies in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Delete {
    /// The object's kind, as in a manifest.
    pub kind: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its namespace; `default` unless stated.
    pub namespace: Option<String>,
    /// A file, or a directory of them; a relative path begins where the test's own file is.
    pub file: Option<String>,
    /// Several such.
    pub files: Vec<String>,
}

/// A manifest in a test. What it says is read from its place in the document, with lines for messages; here
/// only its form is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manifest;

impl<'de> Deserialize<'de> for Manifest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Manifest, D::Error> {
        struct Anything;
        impl<'de> Visitor<'de> for Anything {
            type Value = Manifest;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a manifest")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Manifest, A::Error> {
                while map.next_entry::<String, Manifest>()?.is_some() {}
                Ok(Manifest)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Manifest, A::Error> {
                while seq.next_element::<Manifest>()?.is_some() {}
                Ok(Manifest)
            }
            fn visit_str<E: Error>(self, _: &str) -> Result<Manifest, E> {
                Ok(Manifest)
            }
            fn visit_bool<E: Error>(self, _: bool) -> Result<Manifest, E> {
                Ok(Manifest)
            }
            fn visit_u64<E: Error>(self, _: u64) -> Result<Manifest, E> {
                Ok(Manifest)
            }
            fn visit_i64<E: Error>(self, _: i64) -> Result<Manifest, E> {
                Ok(Manifest)
            }
            fn visit_f64<E: Error>(self, _: f64) -> Result<Manifest, E> {
                Ok(Manifest)
            }
            fn visit_unit<E: Error>(self) -> Result<Manifest, E> {
                Ok(Manifest)
            }
        }
        deserializer.deserialize_any(Anything)
    }
}

impl JsonSchema for Manifest {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Manifest".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"description": "A manifest, as in a file", "type": "object"})
    }
}
