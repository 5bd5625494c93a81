//! JSON Schemas of our own kinds, as published in `docs/schema/`.
//!
//! They are generated from the types that read the definitions, so an editor that knows them accepts what we accept
//! in form. What holds between fields is checked by loading.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::own::{
    API_VERSION, AttachmentSpec, ExternalHostSpec, ExternalNetworkSpec, KINDS, PacketTestSpec,
    SupervisorClusterSpec, Tier0GatewaySpec,
};

/// The JSON Schema (draft 2020-12) of each of our own kinds, by kind.
#[must_use]
pub fn schemas() -> Vec<(&'static str, Value)> {
    KINDS
        .iter()
        .map(|(kind, description)| {
            let spec = match *kind {
                "SupervisorCluster" => spec::<SupervisorClusterSpec>(),
                "Tier0Gateway" => spec::<Tier0GatewaySpec>(),
                "ExternalNetwork" => spec::<ExternalNetworkSpec>(),
                "ExternalHost" => spec::<ExternalHostSpec>(),
                "Attachment" => spec::<AttachmentSpec>(),
                _ => spec::<PacketTestSpec>(),
            };
            (*kind, object(kind, description, spec))
        })
        .collect()
}

fn spec<S: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<S>().to_value()
}

/// An object of `kind` around the schema of its spec, whose definitions move to the root.
fn object(kind: &str, description: &str, mut spec: Value) -> Value {
    let mut definitions = Value::Null;
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("$schema");
        spec.remove("title");
        definitions = spec.remove("$defs").unwrap_or_default();
    }
    let mut required = vec!["kind", "metadata"];
    if spec.get("required").is_some() {
        required.push("spec");
    }
    let text_map = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind,
        "description": description,
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": kind},
            "metadata": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "description": "DNS name (RFC 1123)", "maxLength": 253},
                    "labels": text_map,
                    "annotations": text_map
                }
            },
            "spec": spec
        }
    });
    if let (Some(schema), false) = (schema.as_object_mut(), definitions.is_null()) {
        schema.insert("$defs".to_owned(), definitions);
    }
    schema
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use std::path::Path;

    /// `UPDATE_SCHEMA=1 cargo test -p definitions` writes them anew.
    #[test]
    fn published_schemas_are_current() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema");
        let update = std::env::var_os("UPDATE_SCHEMA").is_some();
        for (kind, schema) in schemas() {
            let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
            let path = directory.join(format!("{kind}.json"));
            if update {
                std::fs::create_dir_all(&directory).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            assert_eq!(
                std::fs::read_to_string(&path).unwrap_or_default(),
                text,
                "{} is stale; run UPDATE_SCHEMA=1 cargo test -p definitions",
                path.display()
            );
        }
        let published = std::fs::read_dir(&directory).unwrap().count();
        assert_eq!(published, KINDS.len(), "a file in docs/schema is of no kind");
    }

    #[test]
    fn every_field_is_described_and_unknown_ones_are_refused() {
        fn visit(path: &str, schema: &Value) {
            if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
                for (name, property) in properties {
                    visit(&format!("{path}.{name}"), property);
                    assert!(
                        path.ends_with("metadata")
                            || property.get("description").is_some()
                            || property.get("const").is_some()
                            || property.get("$ref").is_some()
                            || name == "metadata",
                        "{path}.{name} has no description"
                    );
                }
                assert!(
                    path.ends_with("metadata") || schema["additionalProperties"] == false,
                    "{path} takes unknown fields"
                );
            }
        }
        for (kind, schema) in schemas() {
            visit(kind, &schema);
            for (name, definition) in
                schema.get("$defs").and_then(Value::as_object).into_iter().flatten()
            {
                visit(name, definition);
            }
        }
    }
}
